"""Delete: some items leave the row."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug._checks import Side
from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.slots import at_least_one, first_slot, flags, place


def compaction(kept: Tensor, side: Side) -> Tensor:
    """The source of a row from which all but the kept slots are removed and the gaps closed.

    Args:
        kept: (B, L) bool.
        side: where the padding is.

    Returns:
        (B, L) int64, -1 for padding.
    """
    ones = flags(kept)
    begin = first_slot(ones.sum(1), kept.shape[1], side)
    number = torch.arange(kept.shape[1], device=kept.device).expand(kept.shape)
    return place(number, begin[:, None] + ones.cumsum(1) - 1, ones > 0)


class Delete(Operator):
    """Remove max(1, floor(rate * n)) distinct items of the row, chosen uniformly, and close the gaps; at least one item stays.

    With right padding the gaps are closed by newer items, which then stand in earlier slots (``edit.future``).

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> delete = sa.Delete(0.5, 0.5)
        >>> delete(torch.tensor([[0, 1, 2, 3, 4]]), generator=torch.Generator().manual_seed(0))
        tensor([[0, 0, 0, 1, 3]])
    """

    lengthens = False

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        real = items != self.pad_id
        count = real.sum(1)
        rate = self.rate(noise)
        removed = noise.first(at_least_one(rate, count).minimum((count - 1).clamp(min=0)), real)
        return Edit(compaction(real & ~removed, self.side), torch.full_like(items, -1), rate, self.pad_id)
