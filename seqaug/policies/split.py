"""Split: what policies share that send each row to one of two operators by what the row is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from seqaug.edit import Edit
from seqaug.operator import Augmentation
from seqaug.policies.members import Members, draw_shared, plan_chosen, share_views


class Split(Members):
    """Two operators; a subclass says which rows get the second. ``choice`` is 0 or 1."""

    def __init__(self, first: Augmentation, second: Augmentation) -> None:
        super().__init__([first, second])

    @abstractmethod
    def second(self, items: Tensor, timestamps: Tensor | None) -> Tensor:
        """(B,) bool: the rows that get the second operator."""

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        return draw_shared(self.operators, items, generator)

    def draw_views(
        self, items: Tensor, views: int, generator: torch.Generator | None = None
    ) -> list[tuple[Any, ...]]:
        """Views of the members' own, so that :class:`~seqaug.EachOnce` on either side keeps its promise."""
        return share_views(self.operators, items, views, generator)

    def plan(self, items: Tensor, noise: tuple[Any, ...], timestamps: Tensor | None = None) -> Edit:
        second = self.second(items, timestamps).long()
        return plan_chosen(self.plans, second, items, noise, timestamps)
