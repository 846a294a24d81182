"""TiCoSeRec: CoSeRec that looks at the time between items (Dang et al., AAAI 2023).

The five operators act where the gaps between items are even, or large, or small (section "Time interval-aware
operators"), and the rows whose gaps vary most are left as they are (15 % of them). Rates and thresholds are the defaults
of the authors' code. The data set needs times: an interactions table with a timestamp column.

    python examples/rmhsaocl_full.py --data beauty_interactions.csv --system ticoserec --out runs/ticoserec
"""

from __future__ import annotations

import seqaug as sa
from recsys.datasets import Dataset, training_pairs, training_times
from recsys.errors import UsageError
from recsys.settings import Settings
from systems.coserec import CoSeRec

SHORT = 12  # rows of at most so many items
KEPT, MASKED, SHUFFLED, SUBSTITUTED, INSERTED = 0.4, 0.7, 0.5, 0.2, 0.5
EVEN = 0.85  # share of the rows that is augmented


class TiCoSeRec(CoSeRec):
    """CoSeRec with time-aware operators."""

    @classmethod
    def check(cls, data: Dataset, settings: Settings) -> None:
        if data.times is None:
            raise UsageError(
                f"expected times of the items for {settings.system}, got {data.name} without; give a table of interactions "
                "(CSV, parquet) with a timestamp column"
            )

    def build_policy(self, data: Dataset, settings: Settings, similar: sa.ItemSimilarity) -> sa.Augmentation:
        times = training_times(data, settings.max_length, prefixes=settings.prefixes)
        assert times is not None  # see check
        items, _ = training_pairs(data, settings.max_length, prefixes=settings.prefixes)
        substitute = sa.TimeSubstitute(SUBSTITUTED, SUBSTITUTED, similar)
        insert = sa.TimeInsert(INSERTED, INSERTED, similar)
        mask = sa.TimeMask(MASKED, MASKED, mask_id=data.num_items + 1)
        every = [sa.TimeCrop(KEPT, KEPT), mask, sa.TimeReorder(SHUFFLED, SHUFFLED), substitute, insert]
        by_length = sa.LengthPolicy(SHORT, short=sa.Policy([substitute, insert]), long=sa.Policy(every))
        threshold = sa.gap_variance(items, times).quantile(EVEN).item()
        return sa.VariancePolicy(threshold, even=by_length, uneven=sa.Maybe(by_length, p=0.0))
