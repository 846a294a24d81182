"""Catalog sums over a table whose rows are spread over ranks: own rows by the kernels, the rest by scalars."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug.kernels import ops
from seqaug.kernels.chunked import accumulator
from seqaug.sharding import ShardedTable, logsumexp_over_ranks


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
        own = (queries.sum(1) * 0.0 + table.local[:0].sum()).to(accumulator(queries.dtype)) - torch.inf
    return logsumexp_over_ranks(own, table.group)
