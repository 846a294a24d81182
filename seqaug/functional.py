"""The losses' kernels as functions."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from seqaug._checks import catalog_bounds
from seqaug.kernels import ops, parallel
from seqaug.kernels.backends import check_backend
from seqaug.sharding import ShardedTable, Table, check_alike, copy_to_ranks, spread
from seqaug.sparse_table import SparseTable


def linear_logsumexp(
    hidden: Tensor, table: Table, *, catalog: slice | None = None, backend: str = "auto"
) -> Tensor:
    """log sum_c exp(hidden . table[c]), the denominator of a softmax over the whole catalog.

    Never holds tokens x catalog: memory beyond inputs and gradients does not grow with their product.
    Any upstream gradient is right, also negative ones.

    Args:
        hidden: (..., D) float.
        table: (R, D) float, same D; a `ShardedTable` or a DTensor sharded by rows as well.
        catalog: the rows of the table that are summed over; None for all of them.
        backend: "chunked" (any device, any dtype), "flash" (torch's attention kernels; the table's gradient is
            exact to 1e-7 times the largest logsumexp), "naive" (whole logits, the only one with second and
            forward-mode derivatives) or "auto", which logs its choice to the logger "seqaug".

    Returns:
        (...,) float32, float64 for float64 input.

    Raises:
        ValueError: shapes that do not fit, an empty catalog, an unknown backend.

    Example:
        >>> import torch
        >>> hidden, table = torch.zeros(2, 3, 5), torch.zeros(7, 5)
        >>> linear_logsumexp(hidden, table).exp().round().tolist()
        [[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]]

    Source: the denominator of Eq. 7 and 9 of the cross-entropy losses of sequential recommendation.
    """
    check_backend(backend)
    check_table(hidden, table)
    start, stop = catalog_bounds(len(table), slice(None) if catalog is None else catalog)
    states = hidden.reshape(-1, hidden.shape[-1])
    table = spread(table)
    if isinstance(table, ShardedTable):
        check_alike("hidden", states, table.group)
        states = copy_to_ranks(states, table.group)
    return denominators(states, table, start, stop, backend).reshape(hidden.shape[:-1])


def denominators(states: Tensor, table: Table, start: int, stop: int, backend: str) -> Tensor:
    """Logsumexp (T,) of states (T, D), which for a sharded table come from `copy_to_ranks`."""
    states, entries = alike(states, table)
    with full_precision(states.device.type):  # the dtype of autocast has been taken
        if isinstance(entries, ShardedTable):
            return parallel.denominators(states, entries, start, stop, backend)
        return ops.denominators(states, entries, start, stop, backend)


def alike(states: Tensor, table: Table) -> tuple[Tensor, Tensor | ShardedTable]:
    """`same_dtype` of states and a table, of a sharded one its rows that are here."""
    if isinstance(table, ShardedTable):
        states, local = same_dtype(states, table.local)
        return states, dataclasses.replace(table, local=local)
    return same_dtype(states, dense(table))


def dense(table: Tensor | SparseTable) -> Tensor:
    """The tensor itself: what has a gradient for every row has no use for a sparse one."""
    if isinstance(table, SparseTable):
        raise TypeError(
            "a sum over the whole catalog has a gradient for every row and takes no SparseTable, got table of type "
            "SparseTable: pass its weight, or use SampledSoftmaxLoss or SCELoss"
        )
    return table


def check_table(hidden: Tensor, table: Table) -> None:
    if not isinstance(hidden, Tensor):
        raise TypeError(f"hidden must be a tensor, got {type(hidden).__name__}")
    if not isinstance(table, (Tensor, ShardedTable, SparseTable)):
        raise TypeError(
            f"table must be a tensor, a ShardedTable or a SparseTable, got {type(table).__name__}: "
            "of an nn.Embedding pass embedding.weight"
        )
    for name, value in (("hidden", hidden), ("table", table)):
        if not value.is_floating_point():
            raise TypeError(f"{name} must hold floats, got {name}.dtype={value.dtype}")
    if table.ndim != 2 or hidden.ndim < 1 or hidden.shape[-1] != table.shape[1]:
        raise ValueError(
            "hidden (..., features) and table (rows, features) must agree in features, "
            f"got hidden.shape={tuple(hidden.shape)}, table.shape={tuple(table.shape)}"
        )


def same_dtype(hidden: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of autocast where it is on, as for a linear layer, else in their common one."""
    device = hidden.device.type
    if autocast_is_on(device) and hidden.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(hidden.dtype, table.dtype)
    return hidden.to(dtype), table.to(dtype)


def autocast_is_on(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def full_precision(device: str) -> AbstractContextManager[None]:
    """Where products are made in the dtype of their factors."""
    return torch.autocast(device, enabled=False) if autocast_is_on(device) else nullcontext()
