"""Maybe: an operator for some of the rows."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from seqaug._checks import check_number
from seqaug._random import uniform
from seqaug.edit import Edit
from seqaug.operator import Augmentation
from seqaug.policies.members import Members, PolicyNoise, plan_some


class Maybe(Members):
    """An operator for some of the rows; the others stay as they are, at rate 1 and with ``choice`` -1.

    Args:
        operator: an operator or policy.
        p: probability that a row is augmented, in [0, 1].

    Raises:
        ValueError: ``p`` is outside [0, 1].

    Example:
        >>> import torch, seqaug as sa
        >>> maybe = sa.Maybe(sa.Crop(0.5, 0.5), p=0.5)
        >>> maybe.sample(
        ...     torch.ones(4, 3, dtype=torch.int64), generator=torch.Generator().manual_seed(1)
        ... ).choice
        tensor([-1,  0,  0, -1])
    """

    def __init__(self, operator: Augmentation, p: float) -> None:
        super().__init__([operator])
        check_number("p", p, 0.0, 1.0)
        self.p = float(p)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = uniform((items.shape[0],), items.device, generator)
        return PolicyNoise(choice, (self.operators[0].draw(items, generator),))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        applied = noise.choice < self.p
        edit = plan_some(self.operators[0], applied, items, noise.members[0], timestamps)
        return replace(edit, choice=applied.long() - 1)

    def extra_repr(self) -> str:
        return f"{self.operators[0]!r}, p={self.p!r}"
