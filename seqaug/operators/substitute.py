"""Substitute: some items become similar ones."""

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
from seqaug.slots import slot_numbers


class Substitute(Operator):
    """Put a similar item in place of max(1, floor(rate * n)) distinct items of the row, chosen uniformly.

    The similar item is the nearest neighbour, or one of the ``top`` nearest. An item without a neighbour
    becomes a uniformly random item.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none; or such
            ids as a :class:`~seqaug.ShardedTable`, with batches of the same shape on all ranks.
        top: how many of the nearest to choose from, in 1..K.
        temperature: draw among them by softmax(score / temperature), low values nearly always the nearest; ``None``: each as
            likely. Needs the scores of an :class:`~seqaug.ItemSimilarity`.
        exclude_row: never put in an item that the row already has, as many nearest neighbours are: in a session of like
            items the neighbour is often the very target of its slot (:func:`seqaug.inspect.summarize` counts how often).
        pad_id: the id of padding.
        side: where the padding is.

    Raises:
        TypeError, ValueError: ``neighbours`` is not such a table, ``top`` is not in 1..K,
            a ``temperature`` for a table without scores, or the table names ``pad_id``.

    Example:
        >>> import torch, seqaug as sa
        >>> table = torch.tensor([[0], [11], [12], [13], [14]] + [[0]] * 12)
        >>> substitute = sa.Substitute(0.5, 0.5, table)
        >>> substitute(torch.tensor([[0, 1, 2, 3, 4]]), generator=torch.Generator().manual_seed(0))
        tensor([[ 0,  1, 12,  3, 14]])

    Source: CoSeRec (Liu et al., 2021), section 3.2; BASRec (Dang et al., 2025).
    """

    lengthens = False

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
        source = torch.where(real, slot_numbers(items), -1)
        return Edit(source, self.neighbours.similar(items, real, chosen, noise), rate, self.pad_id)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.low), repr(self.high), self.neighbours.extra_repr(), *self._layout()])
