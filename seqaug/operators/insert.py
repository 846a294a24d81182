"""Insert: a similar item is put before some items."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug._checks import Side
from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.operators.neighbours import Neighbours
from seqaug.sharding import ShardedTable
from seqaug.similarity import ItemSimilarity
from seqaug.slots import flags


def insertion(real: Tensor, chosen: Tensor, side: Side) -> tuple[Tensor, Tensor]:
    """Open a slot before each chosen one; of a row that grows past the batch the newest slots are kept.

    Args:
        real: (B, L) bool.
        chosen: (B, L) bool, within ``real``.
        side: where the padding is.

    Returns:
        source (B, L) int64, where an inserted slot reads the item it was put before, and inserted (B, L) bool.
    """
    slots = real.shape[1]
    number = 1 + torch.arange(slots, device=real.device)
    ones = flags(chosen)
    before = ones.cumsum(1)  # (batch, slots): insertions up to each item, its own among them
    # Padded on the left, the row grows to the left; on the right, the slots that would fall out are pushed out on the left.
    pushed = before[:, -1:].clone()
    if side == "right":
        pushed = (pushed - (slots - real.sum(1, keepdim=True))).clamp_(min=0)
    # Where each item goes: slot 0 is for what is padded or pushed out, and the last one stays free.
    into = before.add_(number).sub_(pushed).clamp_(min=0).mul_(real)
    # Items write their number, chosen ones its complement: the free slot before such a one reads it as well.
    written = torch.zeros(real.shape[0], slots + 2, dtype=torch.int32, device=real.device)
    written.scatter_(1, into, ones.neg().bitwise_xor_(number.int()))
    complement = written >> 31  # all ones for a complement
    read = written.bitwise_xor_(complement)
    source = (read[:, 2:] & complement[:, 2:]).bitwise_or_(read[:, 1:-1]).sub_(1)
    return source.long(), complement[:, 2:] < 0


class Insert(Operator):
    """Put a similar item before each of max(1, floor(rate * n)) distinct items of the row; the newest L slots are kept.

    With left padding an insertion pushes older items back, so that slots before it show newer items (``edit.future``).

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none.
        top: how many of the nearest to choose from, in 1..K.
        temperature: draw among them by softmax(score / temperature), low values nearly always the nearest; ``None``: each as
            likely. Needs the scores of an :class:`~seqaug.ItemSimilarity`.
        exclude_row: never put in an item that the row already has, unless it has the whole catalog.
        pad_id: the id of padding.
        side: where the padding is.

    Raises:
        TypeError, ValueError: ``neighbours`` is not such a table, ``top`` is not in 1..K,
            a ``temperature`` for a table without scores, or the table names ``pad_id``.

    Example:
        >>> import torch, seqaug as sa
        >>> table = torch.tensor([[0], [11], [12], [13], [14]] + [[0]] * 12)
        >>> insert = sa.Insert(0.5, 0.5, table)
        >>> insert(torch.tensor([[0, 1, 2, 3, 4]]), generator=torch.Generator().manual_seed(0))
        tensor([[12,  2,  3, 14,  4]])

    Source: CoSeRec (Liu et al., 2021), section 3.2.
    """

    def __init__(
        self,
        low: float,
        high: float,
        neighbours: ItemSimilarity | Tensor | ShardedTable,
        *,
        top: int = 1,
        temperature: float | None = None,
        exclude_row: bool = False,
        pad_id: int = 0,
        side: Side = "left",
    ) -> None:
        super().__init__(low, high, pad_id=pad_id, side=side)
        self.neighbours = Neighbours(
            neighbours, top=top, temperature=temperature, exclude_row=exclude_row, pad_id=pad_id
        )

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        chosen, real, rate = self.chosen(items, noise)
        source, inserted = insertion(real, chosen, self.side)
        similar = self.neighbours.similar(items, real, chosen, noise, into=(source, inserted))
        return Edit(source, similar, rate, self.pad_id)

    def longest(self, count: int, slots: int) -> int:
        return min(2 * count, slots)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.low), repr(self.high), self.neighbours.extra_repr(), *self._layout()])
