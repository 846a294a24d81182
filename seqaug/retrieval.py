"""The best items for a hidden state and the ranks of targets, over a whole catalog in blocks, sharded or not."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from seqaug._checks import can_look, catalog_bounds, check_count, check_ids
from seqaug.functional import check_table, full_precision
from seqaug.sharding import ShardedTable, Table, all_gather, all_sum, check_alike, spread
from seqaug.sparse_table import SparseTable, read_rows

SCORES_AT_ONCE = 2**24  # 64 MiB of float32


@torch.no_grad()
def top_items(
    hidden: Tensor, table: Table, k: int, *, catalog: slice, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k items with the largest hidden . item, best first.

    Args:
        hidden: (B, D) float; with a sharded table the same on all ranks.
        table: (R, D) float, a `ShardedTable`, or a DTensor sharded by rows.
        k: at most the size of the catalog.
        catalog: the rows of the table that are items: slice(1, num_items + 1).
        seen: (B, M) ids that are left out, padding is ignored.

    Returns:
        scores: (B, k) float32, -inf where fewer than k items are left.
        ids: (B, k) int64 rows of the table, -1 where fewer are left.

    Raises:
        TypeError: ``seen`` holds no ids.
        ValueError: k above the size of the catalog, a catalog that leaves the table, or shapes that do not fit.

    Example:
        >>> import torch
        >>> table = torch.tensor([[0.0], [1.0], [3.0], [2.0], [9.0]])
        >>> top_items(torch.ones(1, 1), table, 2, catalog=slice(1, 4), seen=torch.tensor([[2]]))[1]
        tensor([[3, 1]])
    """
    check_count("k", k, 1)
    start, stop = checked(hidden, table, catalog, seen)
    table = spread(table)
    if isinstance(table, ShardedTable):
        check_alike("hidden", hidden, table.group)
    if k > stop - start:
        raise ValueError(f"k must be at most the {stop - start} items of the catalog, got k={k}")
    best, ids = nearest_rows(hidden.float(), table, start, stop, k, seen)
    return best, ids.masked_fill(best == -torch.inf, -1)


@torch.no_grad()
def target_ranks(
    hidden: Tensor, table: Table, target: Tensor, *, catalog: slice, seen: Tensor | None = None
) -> Tensor:
    """How many items score at least as high as the target, itself apart: 0 = first.

    Ties count against the target, as do scores that are NaN; counted without sorting. The target's score is made
    apart from the others', so that scores equal but for rounding count either way.

    Args:
        hidden: (B, D) float; with a sharded table the same on all ranks.
        table: (R, D) float, a `ShardedTable`, or a DTensor sharded by rows.
        target: (B,) ids within the catalog.
        catalog: the rows of the table that are items: slice(1, num_items + 1).
        seen: (B, M) ids that are left out, padding is ignored; a target among them is ranked all the same.

    Returns:
        (B,) int64; the size of the catalog where the target's score is NaN.

    Raises:
        TypeError: ``target`` or ``seen`` hold no ids.
        ValueError: a catalog that leaves the table, shapes that do not fit, or, on a CPU, targets outside the catalog.

    Example:
        >>> import torch
        >>> table = torch.tensor([[0.0], [1.0], [3.0], [2.0], [9.0]])
        >>> target_ranks(torch.ones(1, 1), table, torch.tensor([3]), catalog=slice(1, 4))
        tensor([1])
    """
    start, stop = checked(hidden, table, catalog, seen)
    check_ids_of_rows("target", target, hidden, 1)
    table = spread(table)
    if isinstance(table, ShardedTable):
        check_alike("target", target, table.group)
    if can_look(target) and len(target):
        low, high = target.aminmax()
        if low < start or high >= stop:
            raise ValueError(
                f"target must be rows {start}..{stop - 1} of the catalog, got target from {int(low)} to {int(high)}: "
                "rank the rows that have one, without padding"
            )
    if isinstance(table, ShardedTable):
        vectors, here = table.own(target)
        score = (hidden.float() * vectors.float()).sum(1)
        score = all_sum(score.masked_fill(~here, 0.0), table.group)
    else:
        score = (hidden.float() * read_rows(table, target, "target").float()).sum(1)
    own = rearrange(target, "b -> b 1")
    left_out = own if seen is None else torch.cat([seen, own], 1)
    ahead = torch.zeros_like(target, dtype=torch.int64)
    for _, scores in blocks(hidden.float(), table, start, stop, left_out):
        ahead += (~(scores < rearrange(score, "b -> b 1"))).sum(1)
    if isinstance(table, ShardedTable):
        ahead = all_sum(ahead, table.group)
    return ahead.masked_fill(score.isnan(), stop - start)


def checked(hidden: Tensor, table: Table, catalog: slice, seen: Tensor | None) -> tuple[int, int]:
    """The bounds of the catalog, after a look at the arguments that both functions have."""
    check_table(hidden, table)
    if hidden.ndim != 2:
        raise ValueError(
            f"hidden must be one state per row (rows, features), got hidden.shape={tuple(hidden.shape)}: "
            "take that of the newest slot"
        )
    if seen is not None:
        check_ids_of_rows("seen", seen, hidden, 2)
    return catalog_bounds(len(table), catalog)


def check_ids_of_rows(name: str, ids: Tensor, hidden: Tensor, axes: int) -> None:
    check_ids(name, ids)
    if ids.ndim != axes or len(ids) != len(hidden):
        expected = (len(hidden), "ids")[:axes]
        raise ValueError(
            f"{name} must be ({', '.join(map(str, expected))}{',' if axes == 1 else ''}) for hidden.shape={tuple(hidden.shape)}, "
            f"got {name}.shape={tuple(ids.shape)}"
        )


@torch.no_grad()
def nearest_rows(
    hidden: Tensor, table: Table, start: int, stop: int, k: int, left_out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k rows of start..stop - 1 with the largest products, best first: products in the dtype of ``hidden`` and ids, (B, k) each."""
    best = hidden.new_empty(len(hidden), 0)
    ids = torch.empty_like(best, dtype=torch.int64)
    for first, scores in blocks(hidden, table, start, stop, left_out):
        found = scores.topk(min(k, scores.shape[1]), dim=1)
        best, ids = better(torch.cat([best, found.values], 1), torch.cat([ids, found.indices + first], 1), k)
    if isinstance(table, ShardedTable):
        short = k - best.shape[1]  # on a rank that has fewer
        best = all_gather(F.pad(best, (0, short), value=-torch.inf).t(), table.group).t()
        ids = all_gather(F.pad(ids, (0, short), value=-1).t(), table.group).t()
        best, ids = better(best, ids, k)
    return best, ids


def blocks(
    hidden: Tensor, table: Table, start: int, stop: int, left_out: Tensor | None
) -> Iterator[tuple[int, Tensor]]:
    """The id of the first item of each block and its scores (B, items), -inf where left out; own rows only."""
    offset = 0
    if isinstance(table, ShardedTable):
        (start, stop), offset, local = table.part(start, stop), table.first, table.local
    else:
        local = table.weight if isinstance(table, SparseTable) else table
    width = max(1, SCORES_AT_ONCE // max(len(hidden), 1))
    for low in range(start, stop, width):
        high = min(low + width, stop)
        with full_precision(hidden.device.type):
            scores = hidden @ local[low:high].to(hidden.dtype).t()
        if left_out is not None:
            column = left_out.long() - (low + offset)
            outside = (column < 0) | (column >= high - low)
            scores = F.pad(scores, (0, 1))  # a column for what is not in this block
            scores.scatter_(1, column.masked_fill(outside, high - low), -torch.inf)
            scores = scores[:, :-1]
        yield low + offset, scores


def better(scores: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    return best.values, ids.gather(1, best.indices)
