"""Crop: a contiguous window of the row."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug._checks import Side
from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.slots import at_least_one, first_slot, offset, slot_numbers


def window_source(items: Tensor, count: Tensor, start: Tensor, kept: Tensor, side: Side) -> Tensor:
    """The source of a window of each row, aligned to the padding side.

    Args:
        items: (B, L) ids; only shape and device are looked at.
        count: (B,) int64; real items of the row.
        start: (B,) int64 in [0, count - kept]; the oldest kept item.
        kept: (B,) int64; length of the window.
        side: where the padding is.

    Returns:
        (B, L) int64, -1 for padding.
    """
    slots = items.shape[1]
    into = (
        slot_numbers(items) - first_slot(kept, slots, side)[:, None]
    )  # (batch, slots): place within the window
    inside = (into >= 0) & (into < kept[:, None])
    return torch.where(inside, into + (first_slot(count, slots, side) + start)[:, None], -1)


class Crop(Operator):
    """Keep a random contiguous window of the row, aligned to the padding side.

    c = max(1, floor(rate * n)) of n items are kept, from a start that is uniform on {0, ..., n - c}. Rate is the fraction kept.
    With left padding the window ends in the last slot and shows no slot anything newer than it had; with right padding
    it does (``edit.future``).

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> crop = sa.Crop(0.5, 0.5)
        >>> crop(torch.tensor([[0, 1, 2, 3, 4]]), generator=torch.Generator().manual_seed(0))
        tensor([[0, 0, 0, 3, 4]])

    Source: CL4SRec (Xie et al., 2022), eq. 5; the rate interval is RM-HSAOCL (2025), eqs. 2-3.
    """

    lengthens = False

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        count = (items != self.pad_id).sum(1)
        rate = self.rate(noise)
        kept = at_least_one(rate, count)
        start = offset(noise.start, count - kept)
        source = window_source(items, count, start, kept, self.side)
        return Edit(source, torch.full_like(items, -1), rate, self.pad_id)
