"""What policies share: members that agree, the noise they share, and the choice between their edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqaug.edit import Edit, where
from seqaug.noise import Noise, noise_of_rows
from seqaug.operator import Augmentation, Operator


@dataclass(frozen=True, eq=False)
class PolicyNoise:
    """The noise of a policy: its own, and that of each member.

    Args:
        choice: (B, ...) what the policy decides by: float32 in [0, 1), or the choices themselves (EachOnce).
        members: noise of each member. Plain operators share one, which is exact since a row uses one of them.
    """

    choice: Tensor
    members: tuple[Any, ...]

    def of_rows(self, rows: Tensor | slice, slots: slice) -> PolicyNoise:
        """The noise of some rows; see :func:`seqaug.noise.noise_of_rows`."""
        return PolicyNoise(self.choice[rows], noise_of_rows(self.members, rows, slots))


def draw_shared(
    members: Sequence[Augmentation], items: Tensor, generator: torch.Generator | None
) -> tuple[Any, ...]:
    """Noise for members of which each row uses one: a single draw serves all plain operators."""
    return share_views(members, items, 1, generator)[0]


def share_views(
    members: Sequence[Augmentation], items: Tensor, views: int, generator: torch.Generator | None
) -> list[tuple[Any, ...]]:
    """The noise of :func:`draw_shared` for each of several views."""
    shared: list[Noise] | None = None
    drawn = []
    for member in members:
        if isinstance(member, Operator):
            shared = member.draw_views(items, views, generator) if shared is None else shared
            drawn.append(shared)
        else:
            drawn.append(member.draw_views(items, views, generator))
    return list(zip(*drawn, strict=True))


def check_members(members: object, *, least: int) -> list[Augmentation]:
    """A list of operators that agree on pad id and side."""
    if not isinstance(members, (list, tuple, nn.ModuleList)):
        raise TypeError(f"operators must be a list, got {type(members).__name__}: write [crop, mask]")
    listed = list(members)
    if len(listed) < least:
        raise ValueError(f"operators must be at least {least}, got {len(listed)}")
    for number, member in enumerate(listed):
        if not isinstance(member, Augmentation):
            raise TypeError(
                f"operators must be seqaug operators or policies, got operators[{number}]={member!r}"
            )
        if member.pad_id != listed[0].pad_id or member.side != listed[0].side:
            raise ValueError(
                f"operators must agree on pad_id and side, got pad_id={listed[0].pad_id}, side={listed[0].side!r} in the "
                f"first and pad_id={member.pad_id}, side={member.side!r} in operators[{number}]"
            )
    return listed


def plan_members(
    members: Sequence[Augmentation], items: Tensor, noise: Sequence[Any], timestamps: Tensor | None
) -> list[Edit]:
    """The edit of each member on the same batch. What members make of noise that they share is made once."""
    shared = [own for own in noise if isinstance(own, Noise)]
    for own in shared:
        own.shared = {}
    edits = [member.plan(items, own, timestamps) for member, own in zip(members, noise, strict=True)]
    for own in shared:
        own.shared = None
    return edits


def pick_rows(choice: Tensor, edits: Sequence[Edit]) -> Edit:
    """Row by row the chosen one of several edits.

    Args:
        choice: (B,) int64 in [0, len(edits)).
        edits: of the same batch.

    Returns:
        An :class:`~seqaug.Edit` with that ``choice``.
    """
    picked = edits[0]
    for number, edit in enumerate(edits[1:], start=1):
        picked = where(choice == number, edit, picked)
    return replace(picked, choice=choice)


class Members(Augmentation):
    """What all policies share: a list of members, whose pad id and side they take."""

    def __init__(self, members: Sequence[Augmentation], *, least: int = 1) -> None:
        listed = check_members(members, least=least)
        super().__init__(pad_id=listed[0].pad_id, side=listed[0].side)
        self.members = nn.ModuleList(listed)

    @property
    def operators(self) -> list[Augmentation]:
        """The members in their order."""
        return cast(list[Augmentation], list(self.members))

    def longest(self, count: int, slots: int) -> int:
        """As long as the member makes it that lengthens rows most."""
        return max(member.longest(count, slots) for member in self.operators)

    def extra_repr(self) -> str:
        return "[" + ", ".join(map(repr, self.operators)) + "]"
