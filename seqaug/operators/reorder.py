"""Reorder: a window of the row is shuffled."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.slots import first_slot, fraction, offset, slot_numbers


class Reorder(Operator):
    """Shuffle a random contiguous window of floor(rate * n) items; its start is uniform on {0, ..., n - floor(rate * n)}.

    A window of one item or none is left as it is: on short rows that is most draws. Where an item moved to an earlier slot,
    ``edit.future`` says so. :func:`seqaug.inspect.summarize` counts both on a data set.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> reorder = sa.Reorder(0.8, 0.8)
        >>> reorder(torch.tensor([[0, 1, 2, 3, 4]]), generator=torch.Generator().manual_seed(1))
        tensor([[0, 3, 1, 2, 4]])

    Source: CL4SRec (Xie et al., 2022), eq. 7.
    """

    lengthens = False

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        real = items != self.pad_id
        count = real.sum(1)
        rate = self.rate(noise)
        width = fraction(rate, count)
        begin = first_slot(count, items.shape[1], self.side) + offset(noise.start, count - width)
        into = slot_numbers(items) - begin[:, None]  # (batch, slots): place within the window
        moved = noise.shuffled((into >= 0) & (into < width[:, None]), begin)
        return Edit(torch.where(real, moved, -1), torch.full_like(items, -1), rate, self.pad_id)
