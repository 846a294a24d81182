"""CL4SRec: contrastive learning for sequential recommendation (Xie et al., ICDE 2022).

Every row gets two different ones of Crop, Mask and Reorder (section III-C), and InfoNCE (Eq. 4) beside the main loss
(Eq. 14: weight 0.1, temperature 1).

    python examples/rmhsaocl_full.py --data Beauty --system cl4srec --out runs/cl4srec
"""

from __future__ import annotations

import seqaug as sa
from recsys.datasets import Dataset
from recsys.settings import Settings
from systems.contrast import Contrast

KEPT, MASKED, SHUFFLED = 0.6, 0.3, 0.6  # eta, gamma and beta of the paper


class CL4SRec(Contrast):
    """Crop, Mask and Reorder at fixed rates, of which the two views of a row never have the same."""

    def __init__(self, data: Dataset, settings: Settings) -> None:
        operators = [
            sa.Crop(KEPT, KEPT),
            sa.Mask(MASKED, MASKED, mask_id=data.num_items + 1),
            sa.Reorder(SHUFFLED, SHUFFLED),
        ]
        super().__init__(data, settings, sa.EachOnce(operators))
