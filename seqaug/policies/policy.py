"""Policy: one operator per row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from seqaug._random import uniform
from seqaug.edit import Edit
from seqaug.operator import Augmentation
from seqaug.policies.members import Members, PolicyNoise, draw_shared, plan_chosen


def check_weights(weights: Sequence[float] | None, members: int) -> list[float] | None:
    """Weights as a list of floats, one per member."""
    if weights is None:
        return None
    numbers = isinstance(weights, Iterable) and not isinstance(weights, str)
    if not numbers or not all(isinstance(weight, (int, float)) for weight in weights):
        raise TypeError(f"weights must be numbers, one per operator, got weights={weights!r}")
    listed = [float(weight) for weight in weights]
    if len(listed) != members:
        raise ValueError(f"weights must be one per operator ({members}), got {len(listed)}: weights={listed}")
    if not all(0.0 <= weight < float("inf") for weight in listed) or sum(listed) == 0.0:
        raise ValueError(f"weights must be 0 or more and not all 0, got weights={listed}")
    return listed


class Policy(Members):
    """One operator per row, drawn by weight.

    Args:
        operators: operators or policies that agree on pad id and side.
        weights: how often each is drawn, relative to each other, 0 or more; ``None``: all as often.

    Raises:
        TypeError: a member is not an operator.
        ValueError: no members, members that disagree, or weights that are negative, all 0 or of another number.

    Example:
        >>> import torch, seqaug as sa
        >>> policy = sa.Policy([sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99)])
        >>> edit = policy.sample(
        ...     torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), generator=torch.Generator().manual_seed(0)
        ... )
        >>> edit.choice
        tensor([0, 1])
        >>> edit(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]))
        tensor([[ 0,  0,  1,  2],
                [99, 99,  7,  8]])
    """

    thresholds: Tensor

    def __init__(self, operators: Sequence[Augmentation], weights: Sequence[float] | None = None) -> None:
        super().__init__(operators)
        self.weights = check_weights(weights, len(self.members))
        share = torch.tensor(self.weights or [1.0] * len(self.members), dtype=torch.float64).cumsum(0)
        self.register_buffer("thresholds", (share / share[-1])[:-1].float(), persistent=False)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = uniform((items.shape[0],), items.device, generator)
        return PolicyNoise(choice, draw_shared(self.operators, items, generator))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        choice = (noise.choice[:, None] >= self.thresholds).sum(1)
        return plan_chosen(self.plans, choice, items, noise.members, timestamps)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.weights is None else f", weights={self.weights}")
