"""Swap: neighbours change places."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.slots import first_slot, slot_numbers


class Swap(Operator):
    """Exchange neighbours, each pair with probability rate: the pairs that begin at the 1st, 3rd, ... item, then those at the 2nd, 4th, ...

    No item moves by more than two places, so the order is kept but for what is close together; where it is known no better
    than that (items of one day, of one basket), the swapped row is as true as the row. Applied to whole training rows, before inputs
    and targets are told apart, it is noise on what comes next; applied to the inputs alone, a target can move into them: where an
    item moved to an earlier slot, ``edit.future`` says so.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> swap = sa.Swap(0.4, 0.4)
        >>> swap(torch.tensor([[0, 1, 2, 3, 4, 5]]), generator=torch.Generator().manual_seed(3))
        tensor([[0, 2, 4, 1, 3, 5]])

    Source: this library. Lample et al., 2018, section 2.3, shuffle sentences slightly for the same reason: no word moves by more than k.
    """

    lengthens = False

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        real = items != self.pad_id
        count = real.sum(1)
        rate = self.rate(noise)
        slot = slot_numbers(items).expand(items.shape)
        place = slot - first_slot(count, items.shape[1], self.side)[:, None]
        drawn = noise.bits < (rate * (1 << 31)).long()[:, None]  # bits are uniform in [0, 2**31)
        pair = drawn & (place >= 0) & (place < count[:, None] - 1)
        source = exchanged(slot, pair & (place % 2 == 0))
        source = exchanged(source, pair & (place % 2 == 1))
        return Edit(torch.where(real, source, -1), torch.full_like(items, -1), rate, self.pad_id)


def exchanged(values: Tensor, pair: Tensor) -> Tensor:
    """The values (B, L) with those of a slot and of the next exchanged where ``pair`` (B, L) says so; pairs do not overlap."""
    kept = torch.where(pair, values.roll(-1, 1), values)
    return torch.where(pair.roll(1, 1), values.roll(1, 1), kept)
