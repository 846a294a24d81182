"""The rows of a table with the largest products on some directions, over blocks of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug.sharding import ShardedTable, all_gather

PRODUCTS_AT_ONCE = 2**26  # 256 MiB of float32


def nearest_rows(
    directions: Tensor, table: Tensor, start: int, stop: int, width: int
) -> tuple[Tensor, Tensor]:
    """Largest first: products (N, W) and ids (N, W) of W = width rows of start..stop - 1, or all if these are fewer.

    Args:
        directions: (N, D).
    """
    best = directions.new_empty(len(directions), 0)
    ids = torch.empty_like(best, dtype=torch.int64)
    step = max(1, PRODUCTS_AT_ONCE // max(len(directions), 1))
    for low in range(start, stop, step):
        rows = table[low : min(low + step, stop)].detach().to(directions.dtype)
        found = (directions @ rows.t()).topk(min(width, len(rows)), dim=1)
        best, ids = torch.cat([best, found.values], 1), torch.cat([ids, found.indices + low], 1)
        if low > start:
            best, kept = best.topk(min(width, best.shape[1]), dim=1)
            ids = ids.gather(1, kept)
    return best, ids


def nearest_rows_over_ranks(
    directions: Tensor, table: ShardedTable, start: int, stop: int, width: int
) -> Tensor:
    """The `width` rows of start..stop - 1 with the largest products, split by owner: ids (N, width), -1 = not here.

    Args:
        directions: (N, D), the same on all ranks.
    """
    low, high = table.part(start, stop)
    values, ids = nearest_rows(directions, table.local, low, high, width)
    short = width - values.shape[1]
    values = torch.nn.functional.pad(values, (0, short), value=-torch.inf)
    ids = torch.nn.functional.pad(ids + table.first, (0, short), value=-1)
    everyone = all_gather(values.t().contiguous(), table.group).t()  # (N, ranks * width)
    best = everyone.topk(width, dim=1).indices
    kept = torch.zeros_like(everyone, dtype=torch.bool).scatter_(1, best, True)
    rank = torch.distributed.get_rank(table.group)
    return ids.masked_fill(~kept[:, rank * width : (rank + 1) * width], -1)
