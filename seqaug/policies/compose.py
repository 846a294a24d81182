"""Compose: all operators, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seqaug.edit import Edit, identity
from seqaug.operator import Augmentation
from seqaug.policies.members import Members


class Compose(Members):
    """All operators one after the other, each sampled on what the one before made of the batch. The rate is their mean.

    Args:
        operators: operators or policies that agree on pad id and side.

    Raises:
        TypeError: a member is not an operator.
        ValueError: no members, or members that disagree.

    Example:
        >>> import torch, seqaug as sa
        >>> both = sa.Compose([sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99)])
        >>> both(torch.tensor([[1, 2, 3, 4, 5, 6]]), generator=torch.Generator().manual_seed(0))
        tensor([[ 0,  0,  0, 99,  5,  6]])
    """

    def __init__(self, operators: Sequence[Augmentation]) -> None:
        super().__init__(operators)

    def longest(self, count: int, slots: int) -> int:
        for member in self.operators:
            count = member.longest(count, slots)
        return count

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        return tuple(member.draw(items, generator) for member in self.operators)

    def plan(self, items: Tensor, noise: tuple[Any, ...], timestamps: Tensor | None = None) -> Edit:
        edits: list[Edit] = []
        whole: Edit | None = None
        for member, own in zip(self.operators, noise, strict=True):
            edit = member.plan(
                items if whole is None else whole(items),
                own,
                timestamps if whole is None or timestamps is None else whole.align(timestamps),
            )
            whole = edit if whole is None else whole.then(edit)
            edits.append(edit)
        if whole is None:
            return identity(items, self.pad_id)
        return replace(whole, rate=torch.stack([edit.rate for edit in edits]).mean(0), choice=None)
