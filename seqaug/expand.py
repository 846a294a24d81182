"""Expansion: one long row becomes several training rows, as prefixes or as sliding windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from torch import Tensor

from seqaug._checks import Side, check_count, check_fill, check_items, check_pad_id, check_side, check_tensor
from seqaug.slots import first_slot


@dataclass(frozen=True, eq=False)
class Expansion:
    """Which row and which slots each of the new rows reads; N new rows of W slots out of a batch (B, L).

    Args:
        row: (N,) int64; the row of the batch.
        source: (N, W) int64 in [-1, L); the slot read by each slot, -1 for padding.
        asked: (N, W) bool; where the target counts. Every target of the batch counts in one new row only: where most of the items
            before it are in view.
        pad_id: what padded slots hold.
        batch: (B, L) of the batch; ``None`` lets anything be aligned that has these rows and slots.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.tensor([[1, 2, 3, 4, 5]])
        >>> parts = sa.windows(items, 3, stride=2)
        >>> parts.row, parts.asked
        (tensor([0, 0]), tensor([[False,  True,  True],
                [ True,  True,  True]]))
        >>> parts.align(10.0 * items)  # whatever is aligned with the batch
        tensor([[30., 40., 50.],
                [10., 20., 30.]])
    """

    row: Tensor
    source: Tensor
    asked: Tensor
    pad_id: int = 0
    batch: tuple[int, int] | None = None

    @property
    def filled(self) -> Tensor:
        """(N,) bool: the rows with at least one item. Short rows have fewer parts: the others are empty, and losses ignore them."""
        return (self.source >= 0).any(1)

    def __call__(self, items: Tensor) -> Tensor:
        """(N, W) ids: the new rows of a batch (B, L)."""
        check_items(items)
        return self.align(items, fill=self.pad_id)

    def targets(self, target: Tensor, fill: int | None = None) -> Tensor:
        """(N, W) ids: targets (B, L) where they count, elsewhere ``fill``, which is the pad id unless given."""
        fill = self.pad_id if fill is None else fill
        check_items(target)
        return torch.where(self.asked, self.align(target, fill=fill), fill)

    def align(self, x: Tensor, fill: float | int | bool = 0) -> Tensor:
        """Make something aligned with the batch follow.

        Args:
            x: (B, L, ...) of any dtype.
            fill: what padded slots hold.

        Returns:
            (N, W, ...) of the same dtype.

        Raises:
            TypeError: ``x`` is not a tensor.
            ValueError: ``x`` is not aligned with the batch.
        """
        shape = tuple(check_tensor("x", x, "(batch, slots, ...)").shape)
        if len(shape) < 2 or (self.batch is not None and shape[:2] != self.batch):
            of = "" if self.batch is None else f" = {self.batch} + ..."
            raise ValueError(
                f"x must be aligned with the batch, (batch, slots, ...){of}, got x.shape={shape}"
            )
        check_fill(fill, x.dtype)
        read = x[self.row[:, None], self.source.clamp(min=0)]
        real = (self.source >= 0).reshape(*self.source.shape, *(1,) * (x.ndim - 2))
        return torch.where(real, read, torch.full((), fill, dtype=x.dtype, device=x.device))

    def compact(self) -> Expansion:
        """The same without empty rows. Waits for the device: for the host side, as in a collate function."""
        filled = self.filled
        return replace(self, row=self.row[filled], source=self.source[filled], asked=self.asked[filled])


def prefixes(items: Tensor, *, most: int | None = None, pad_id: int = 0, side: Side = "left") -> Expansion:
    """Every row's beginnings: the first item, the first two, ..., all of them. Each asks for one target, that of its newest item.

    Args:
        items: (B, L) int64 or int32 ids.
        most: only the so many longest of each row; ``None``: all.
        pad_id: the id of padding.
        side: where the padding is.

    Returns:
        An :class:`Expansion` with N = B * most rows of L slots: those of a row together, shortest first.

    Raises:
        TypeError: ``items`` is not a tensor of ids.
        ValueError: ``items`` has not two axes, or ``most`` is below 1.

    Example:
        >>> import torch, seqaug as sa
        >>> items, target = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 2, 3, 4]])
        >>> parts = sa.prefixes(items, most=2)
        >>> parts(items), parts.targets(target)
        (tensor([[0, 0, 1, 2],
                [0, 1, 2, 3]]), tensor([[0, 0, 0, 3],
                [0, 0, 0, 4]]))

    Source: Tan, Xu and Liu, Improved Recurrent Neural Networks for Session-based Recommendations, 2016, section 3.1.
    """
    check_items(items)
    check_pad_id(pad_id, items.dtype)
    check_side(side)
    if most is not None:
        check_count("most", most, 1)
    slots = items.shape[1]
    parts = slots if most is None else min(most, slots)
    count = (items != pad_id).sum(1)
    end = count[:, None] - torch.arange(parts - 1, -1, -1, device=items.device)  # (batch, parts)
    return _parts(items, torch.zeros_like(end), end, end - 1, slots, pad_id, side)


def windows(items: Tensor, size: int, *, stride: int = 1, pad_id: int = 0, side: Side = "left") -> Expansion:
    """Windows of ``size`` items, the newest one first and each ``stride`` items older than the one before, until the oldest item is in.

    Args:
        items: (B, L) int64 or int32 ids.
        size: items of a window, at least 1. A shorter row is one window.
        stride: in 1..size.
        pad_id: the id of padding.
        side: where the padding is.

    Returns:
        An :class:`Expansion` with N = B * (1 + ceil((L - W) / stride)) rows of W = min(size, L) slots: those of a row together, newest
        first. A target counts in the oldest window that has its item, where the most items stand before it.

    Raises:
        TypeError: ``items`` is not a tensor of ids.
        ValueError: ``items`` has not two axes, or ``size`` or ``stride`` are out of range.

    Example:
        >>> import torch, seqaug as sa
        >>> items, target = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[2, 3, 4, 5, 6]])
        >>> parts = sa.windows(items, 3, stride=2)
        >>> parts(items), parts.targets(target)
        (tensor([[3, 4, 5],
                [1, 2, 3]]), tensor([[0, 5, 6],
                [2, 3, 4]]))

    Source: Tang and Wang, Caser, 2018, section 3.4.
    """
    check_items(items)
    check_pad_id(pad_id, items.dtype)
    check_side(side)
    check_count("size", size, 1)
    check_count("stride", stride, 1)
    if stride > size:
        raise ValueError(
            f"stride must be at most the size, or items would be left out, got stride={stride} and size={size}"
        )
    slots = items.shape[1]
    width = min(size, slots)
    parts = 1 + -(-(slots - width) // stride)
    count = (items != pad_id).sum(1)[:, None]
    older = stride * torch.arange(parts, device=items.device)  # by how many items each window is older
    end = count - older  # (batch, parts)
    # A window is there where the one before it did not reach the oldest item.
    end = torch.where((older == 0) | (end + stride > width), end, 0)
    begin = (end - width).clamp(min=0)
    asked = torch.where(begin > 0, end - stride, begin)
    return _parts(items, begin, end, asked, width, pad_id, side)


def _parts(
    items: Tensor, begin: Tensor, end: Tensor, asked: Tensor, width: int, pad_id: int, side: Side
) -> Expansion:
    """An expansion out of the first and the last (exclusive) item of each part, and the first whose target counts: (B, parts)."""
    rows, parts = begin.shape
    count = repeat((items != pad_id).sum(1), "b -> (b p)", p=parts)
    begin, end, asked = (rearrange(x, "b p -> (b p)") for x in (begin, end, asked))
    length = (end - begin).clamp(min=0)
    into = torch.arange(width, device=items.device) - first_slot(length, width, side)[:, None]
    real = (into >= 0) & (into < length[:, None])
    number = begin[:, None] + into  # which item of the row, from 0
    source = torch.where(real, first_slot(count, items.shape[1], side)[:, None] + number, -1)
    row = repeat(torch.arange(rows, device=items.device), "b -> (b p)", p=parts)
    return Expansion(row, source, real & (number >= asked[:, None]), pad_id, (items.shape[0], items.shape[1]))
