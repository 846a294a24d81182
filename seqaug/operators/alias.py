"""Alias tables: one of K alternatives with given probabilities, in one look-up whatever K is."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug.slots import choose, look_up

_BITS = 31
_WHOLE = 1 << _BITS


def alias_table(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Level each row of weights: column j is drawn uniformly, and kept or exchanged for its alias.

    Of K columns with weights p that sum to 1, the lightest gives K p of its place to itself and the rest to the heaviest, which loses
    as much; K - 1 such steps leave every column exactly 1 / K of the draws.

    Args:
        weights: (N, K) float64, at least 0; rows of zeros are left as uniform.

    Returns:
        keep (N, K) int64 in [0, 2**31], the part of a column's draws that it keeps, and alias (N, K) int64, where the others go.

    Example:
        >>> import torch
        >>> keep, alias = alias_table(torch.tensor([[0.75, 0.25]], dtype=torch.float64))
        >>> (keep / 2**31).tolist(), alias.tolist()
        ([[1.0, 0.5]], [[0, 0]])

    Source: Walker, 1977; Vose, 1991.
    """
    rows, columns = weights.shape
    total = weights.sum(1, keepdim=True)
    left = torch.where(total > 0, weights / total, 1.0 / columns) * columns
    alias = torch.arange(columns, device=weights.device).repeat(rows, 1)
    keep = torch.ones_like(left)
    open_ = torch.ones_like(left, dtype=torch.bool)
    for _ in range(columns - 1):
        lightest = torch.where(open_, left, torch.inf).argmin(1, keepdim=True)
        heaviest = torch.where(open_, left, -torch.inf).argmax(1, keepdim=True)
        part = left.gather(1, lightest).clamp(0.0, 1.0)
        keep.scatter_(1, lightest, part)
        alias.scatter_(1, lightest, heaviest)
        left.scatter_add_(1, heaviest, part - 1.0)
        open_.scatter_(1, lightest, False)
    return (keep * _WHOLE).round().long(), alias


def pick_alias(row: Tensor, bits: Tensor, keep: Tensor, alias: Tensor) -> Tensor:
    """Draw a column of a row each.

    Args:
        row: int64 of any shape; rows of the table.
        bits: int64 in [0, 2**31) of that shape, uniform.
        keep: (N, K) int64, as :func:`alias_table` makes it.
        alias: (N, K) int64.

    Returns:
        int64 of that shape; positions in the flattened table, row * K + column.
    """
    columns = keep.shape[1]
    scaled = bits * columns
    first = row * columns
    column = first + (scaled >> _BITS)
    # What is below the column number is a second uniform number, less fine by the bits of K.
    kept = (scaled & (_WHOLE - 1)) < look_up(keep.flatten(), column)
    return choose(kept, column, first + look_up(alias.flatten(), column), torch.int64)
