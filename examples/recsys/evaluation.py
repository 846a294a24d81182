"""Full ranking: every user's target against the whole catalog.

Protocol: items 1..V are ranked, items the user has already seen are left out, ties count against the target and a
score that is NaN is a miss. Figures of other protocols (sampled negatives, seen items kept) are not comparable.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

CUTOFFS = (5, 10, 20)
MISS = 2**31 - 1  # rank of a target that can never be hit: seen before, or with a NaN score
PROTOCOL = "full ranking over all items, seen items masked, ties against the target"


def ranks(hidden: Tensor, table: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Rank of each target, 0 = first, counted without sorting.

    Args:
        hidden: (users, features), the newest hidden state of each user.
        table: (V + 2, features); rows 1..V are the catalog.
        target: (users,) ids in 1..V.
        seen: (users, any) ids already in the user's history, 0 = none.

    Returns:
        (users,) int32: how many other items score at least as high, or ``MISS``.
    """
    catalog = table[1:-1]
    scores = hidden.float() @ catalog.float().T  # (users, items)
    own = rearrange(target - 1, "users -> users 1")
    score = scores.gather(1, own)
    # Column of the target stands in for the padding of ``seen``: it is put back right after.
    columns = torch.where(seen > 0, seen - 1, own)
    scores.scatter_(1, columns, -math.inf)
    scores.scatter_(1, own, -math.inf)
    ahead = (~(scores < score)).sum(1, dtype=torch.int32)  # a NaN of another item counts against the target
    repeated = (seen == rearrange(target, "users -> users 1")).any(1)
    lost = repeated | ~torch.isfinite(score[:, 0])
    return torch.where(lost, MISS, ahead)


def metrics(rank: Tensor) -> dict[str, float]:
    """HR and NDCG at 5, 10 and 20, averaged over users, from their ranks (users,)."""
    found: dict[str, float] = {}
    for k in CUTOFFS:
        found[f"HR@{k}"] = hits(rank, k).mean().item()
        found[f"NDCG@{k}"] = gains(rank, k).mean().item()
    return found


def hits(rank: Tensor, k: int) -> Tensor:
    """1 where the target is among the first k, per user, float64."""
    return (rank < k).double()


def gains(rank: Tensor, k: int) -> Tensor:
    """1 / log2(rank + 2) where the target is among the first k, else 0, per user, float64."""
    return torch.where(rank < k, 1 / torch.log2(rank.double() + 2), 0.0)


def paired_t_test(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Mean difference first − second over users and its two-sided p-value."""
    from scipy import stats

    difference = (first - second).numpy()
    if not difference.any():
        return 0.0, 1.0
    return float(difference.mean()), float(stats.ttest_1samp(difference, 0.0).pvalue)
