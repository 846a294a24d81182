"""Targets that are two items at once."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SoftTarget(NamedTuple):
    """A target that is `first` with share lam and `second` with share 1 - lam.

    Every loss reads it as lam * loss(first) + (1 - lam) * loss(second). A half whose id is the loss's
    `ignore_index` adds nothing; a position counts as real when a half with a share above 0 is real.

    Args:
        first: (B, L) or (T,) ids.
        second: ids of the same shape.
        lam: shares in [0, 1], of a shape that broadcasts to the ids' shape, (B, 1) for one share per row.

    Example:
        >>> import torch
        >>> ids = torch.tensor([[3, 1]])
        >>> SoftTarget(ids, ids.flip(1), torch.tensor([[0.8]])).second
        tensor([[1, 3]])
    """

    first: Tensor
    second: Tensor
    lam: Tensor
