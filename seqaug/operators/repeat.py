"""RepeatPad: the empty slots of a short row are filled with further copies of it."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug._checks import Side
from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.slots import first_slot, offset, slot_numbers


class RepeatPad(Operator):
    """Fill the empty slots of a row with k ~ Uniform{1, ..., floor(L / n)} further copies of it, as many as fit whole.

    The row itself stays in its slots; copies lie between it and the end of the padding. Let the targets follow with
    ``edit.align(target)``: each copy is a training row of its own. The rate is 1: there is nothing to draw it for.

    Args:
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> items, target = torch.tensor([[0, 0, 0, 1, 2]]), torch.tensor([[0, 0, 0, 2, 3]])
        >>> edit = sa.RepeatPad().sample(items)
        >>> edit(items), edit.align(target)
        (tensor([[0, 1, 2, 1, 2]]), tensor([[0, 2, 3, 2, 3]]))

    Source: RepPad (Dang et al., 2024).
    """

    def __init__(self, *, pad_id: int = 0, side: Side = "left") -> None:
        super().__init__(1.0, 1.0, pad_id=pad_id, side=side)

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        slots = items.shape[1]
        count = (items != self.pad_id).sum(1)
        room = slots // count.clamp(min=1)  # whole copies that fit, the row among them
        copies = (2 + offset(noise.start, room - 1)).minimum(room)  # the row and k further ones
        filled = (copies * count)[:, None]
        into = slot_numbers(items) - first_slot(
            filled, slots, self.side
        )  # (batch, slots): place within the copies
        period = count.clamp(min=1)[:, None]
        source = first_slot(count, slots, self.side)[:, None] + into % period
        inside = (into >= 0) & (into < filled)
        return Edit(
            torch.where(inside, source, -1), torch.full_like(items, -1), self.rate(noise), self.pad_id
        )

    def extra_repr(self) -> str:
        return ", ".join(self._layout())
