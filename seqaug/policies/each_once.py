"""EachOnce: over as many views as there are operators, each row gets every operator exactly once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqaug._random import uniform
from seqaug.edit import Edit
from seqaug.operator import Augmentation
from seqaug.policies.members import Members, PolicyNoise, draw_shared, plan_chosen


class EachOnce(Members):
    """One operator per row and view, in a random order of its own for each row that leaves none out.

    ``sample_views(items, K)`` of K operators gives every row each of them exactly once; fewer views give it different ones, and
    after K views a fresh order begins. A single view is that of :class:`~seqaug.Policy`: any operator, each as likely.

    Args:
        operators: operators or policies that agree on pad id and side.

    Raises:
        TypeError: a member is not an operator.
        ValueError: no members, or members that disagree.

    Example:
        >>> import torch, seqaug as sa
        >>> each = sa.EachOnce([sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99), sa.Reorder(1.0, 1.0)])
        >>> items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
        >>> edits = each.sample_views(items, 3, generator=torch.Generator().manual_seed(0))
        >>> torch.stack([edit.choice for edit in edits])  # (views, rows)
        tensor([[2, 0],
                [0, 1],
                [1, 2]])

    Source: the views of RM-HSAOCL (2025), section III.B, drawn without repetition.
    """

    def __init__(self, operators: Sequence[Augmentation]) -> None:
        super().__init__(operators)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        return self.draw_views(items, 1, generator)[0]

    def draw_views(
        self, items: Tensor, views: int, generator: torch.Generator | None = None
    ) -> list[PolicyNoise]:
        """The noise of several views: their choices together, everything else for each."""
        members = len(self.members)
        rounds = -(-views // members)
        orders = uniform((items.shape[0], rounds, members), items.device, generator).argsort(2).flatten(1)
        return [
            PolicyNoise(orders[:, view], draw_shared(self.operators, items, generator))
            for view in range(views)
        ]

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        return plan_chosen(self.plans, noise.choice, items, noise.members, timestamps)
