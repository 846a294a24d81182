"""SomeOf: a subset of the operators per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seqaug._checks import check_count
from seqaug._random import uniform
from seqaug.edit import Edit, identity
from seqaug.operator import Augmentation
from seqaug.policies.members import Members, PolicyNoise, plan_some


class SomeOf(Members):
    """A uniformly drawn subset of the operators per row, applied in the listed order. The rate is the mean of those applied.

    Args:
        count: how many distinct operators each row gets, in 1..number of operators.
        operators: operators or policies that agree on pad id and side.

    Raises:
        ValueError: ``count`` is not in 1..number of operators.

    Example:
        >>> import torch, seqaug as sa
        >>> some = sa.SomeOf(2, [sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99), sa.Reorder(1.0, 1.0)])
        >>> some(torch.tensor([[1, 2, 3, 4, 5, 6]]), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([1, 6])
    """

    def __init__(self, count: int, operators: Sequence[Augmentation]) -> None:
        super().__init__(operators)
        check_count("count", count, 1)
        if count > len(self.members):
            raise ValueError(
                f"count must be at most the number of operators ({len(self.members)}), got count={count}"
            )
        self.count = count

    def longest(self, count: int, slots: int) -> int:
        for member in self.operators:
            count = member.longest(count, slots)
        return count

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = uniform((items.shape[0], len(self.members)), items.device, generator)
        return PolicyNoise(choice, tuple(member.draw(items, generator) for member in self.operators))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        applied = noise.choice.argsort(1).argsort(1) < self.count  # (batch, operators)
        whole = identity(items, self.pad_id)
        rate = torch.zeros_like(whole.rate)
        for number, (member, own) in enumerate(zip(self.operators, noise.members, strict=True)):
            times = None if timestamps is None else whole.align(timestamps)
            edit = plan_some(member, applied[:, number], whole(items), own, times)
            whole = whole.then(edit)
            rate = rate + torch.where(applied[:, number], edit.rate, 0.0)
        return replace(whole, rate=rate / self.count)

    def extra_repr(self) -> str:
        return f"{self.count}, {super().extra_repr()}"
