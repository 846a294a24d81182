"""CoSeRec: contrast with informative operators (Liu et al., 2021).

Five operators, of which short rows get Insert and Substitute alone, since the others leave too little of them (section
3.3). The item put in is the most similar one: by item-based collaborative filtering at first, then by whichever of that
and the current vectors says so more clearly (section 3.2.1). Rates, threshold and the weight 0.1 are the defaults of the
authors' code; their 160 epochs before the vectors have a say are more than training takes here.

    python examples/rmhsaocl_full.py --data Beauty --system coserec --out runs/coserec
"""

from __future__ import annotations

import seqaug as sa
from recsys.datasets import Dataset
from recsys.encoders import Encoder
from recsys.next_item import similar_items
from recsys.settings import Settings
from systems.contrast import Contrast

SHORT = 4  # rows of at most so many items
KEPT, MASKED, SHUFFLED, SUBSTITUTED, INSERTED = 0.2, 0.7, 0.2, 0.1, 0.4
WARM_UP = 20  # epochs before the vectors have a say


class CoSeRec(Contrast):
    """Contrast whose similar items follow the encoder."""

    def __init__(self, data: Dataset, settings: Settings) -> None:
        counted = similar_items(data)
        super().__init__(data, settings, self.build_policy(data, settings, counted))
        self.counted = counted

    def build_policy(self, data: Dataset, settings: Settings, similar: sa.ItemSimilarity) -> sa.Augmentation:
        """The operators, by length."""
        substitute = sa.Substitute(SUBSTITUTED, SUBSTITUTED, similar)
        insert = sa.Insert(INSERTED, INSERTED, similar)
        mask = sa.Mask(MASKED, MASKED, mask_id=data.num_items + 1)
        every = [sa.Crop(KEPT, KEPT), mask, sa.Reorder(SHUFFLED, SHUFFLED), substitute, insert]
        return sa.LengthPolicy(SHORT, short=sa.Policy([substitute, insert]), long=sa.Policy(every))

    def start_epoch(self, encoder: Encoder, epoch: int) -> None:
        if epoch < WARM_UP:
            return
        learned = sa.ItemSimilarity.from_embeddings(
            encoder.item_embedding.weight, k=self.counted.neighbours.shape[1]
        )
        similar = learned.hybrid(self.counted)
        for operator in self.policy.modules():
            if isinstance(operator, (sa.Substitute, sa.Insert)):
                operator.neighbours.update(similar)
