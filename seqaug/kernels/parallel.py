"""Catalog sums over a table whose rows are spread over ranks: own rows by the kernels, the rest by scalars."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug.kernels import ops
from seqaug.sharding import ShardedTable, all_gather, logsumexp_over_ranks


def denominators(queries: Tensor, table: ShardedTable, start: int, stop: int, backend: str) -> Tensor:
    """The differentiable logsumexp (T,) of queries (T, D) over rows start..stop - 1 of the whole table.

    `queries` come from `copy_to_ranks`. Two numbers per token cross forward, and the gradient of the queries
    backward. The rows' gradients need the whole denominator, which the fused sweep does not wait for, so
    exponentials are made twice: four products where one process makes three.
    """
    low, high = table.part(start, stop)
    if low < high:
        own = ops.denominators(queries, table.local.to(queries.dtype), low, high, backend)
    else:  # nothing of the catalog is here; still part of the graph, where the other ranks wait for gradients
        own = queries.sum(1) * 0.0 + table.local[:0].sum() - torch.inf
    return logsumexp_over_ranks(own, table.group)


def nearest_rows(directions: Tensor, table: ShardedTable, start: int, stop: int, width: int) -> Tensor:
    """The `width` rows of start..stop - 1 with the largest products, split by owner: ids (N, width), -1 = not here.

    Args:
        directions: (N, D), the same on all ranks.
    """
    low, high = table.part(start, stop)
    products = directions @ table.local[low:high].detach().to(directions.dtype).t()
    found = products.topk(min(width, high - low), dim=1)
    short = width - found.values.shape[1]
    values = torch.nn.functional.pad(found.values, (0, short), value=-torch.inf)
    ids = torch.nn.functional.pad(found.indices + (table.first + low), (0, short), value=-1)
    everyone = all_gather(values.t().contiguous(), table.group).t()  # (N, ranks * width)
    best = everyone.topk(width, dim=1).indices
    kept = torch.zeros_like(everyone, dtype=torch.bool).scatter_(1, best, True)
    rank = torch.distributed.get_rank(table.group)
    return ids.masked_fill(~kept[:, rank * width : (rank + 1) * width], -1)
