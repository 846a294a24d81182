"""What policies share: members that agree, the noise they share, and the choice between their edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from seqaug._checks import can_look
from seqaug.edit import Edit, identity, where
from seqaug.noise import Noise, noise_of_rows
from seqaug.operator import Augmentation, Operator
from seqaug.operators.neighbours import Neighbours

Plan: TypeAlias = Callable[[Tensor, Any, Tensor | None], Edit]


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


def is_of_rows(noise: Any) -> bool:
    """Whether noise is the library's own, a part of which is the noise of some rows."""
    if isinstance(noise, tuple):
        return all(map(is_of_rows, noise))
    return isinstance(noise, Noise) or (isinstance(noise, PolicyNoise) and is_of_rows(noise.members))


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


def plan_chosen(
    plans: Sequence[Plan],
    choice: Tensor,
    items: Tensor,
    noise: Sequence[Any],
    timestamps: Tensor | None,
) -> Edit:
    """Row by row the edit of the chosen one of several plans.

    Args:
        plans: what makes an edit of items, noise and timestamps, each row from that row alone.
        choice: (B,) int64 in [0, len(plans)).
        items: (B, L) ids.
        noise: of each plan.
        timestamps: (B, L) or ``None``.

    Returns:
        An :class:`~seqaug.Edit` with that ``choice``.
    """
    # A CPU can be asked which rows chose what, and plans those alone. Not where a plan asks other ranks for its rows' neighbours,
    # who count on a batch of the same shape, nor where noise is not known to be of single rows.
    alone = can_look(items) and all(map(is_of_rows, noise)) and not any(map(asks_other_ranks, plans))
    edit = _of_own_rows if alone else _of_all_rows
    return replace(edit(plans, choice, items, noise, timestamps), choice=choice)


def plan_some(
    member: Augmentation, applied: Tensor, items: Tensor, noise: Any, timestamps: Tensor | None
) -> Edit:
    """The edit of a member in some rows (B,) bool, and none in the others."""

    def untouched(items: Tensor, noise: Any, timestamps: Tensor | None) -> Edit:
        return identity(items, member.pad_id)

    return plan_chosen([untouched, member.plan], applied.long(), items, [noise, noise], timestamps)


def _of_own_rows(
    plans: Sequence[Plan], choice: Tensor, items: Tensor, noise: Sequence[Any], timestamps: Tensor | None
) -> Edit:
    order = choice.argsort(stable=True)
    parts = torch.split(order, choice.bincount(minlength=len(plans)).tolist())
    edits = [
        plan(
            items.index_select(0, rows),
            noise_of_rows(own, rows, slice(None)),
            None if timestamps is None else timestamps.index_select(0, rows),
        )
        for plan, own, rows in zip(plans, noise, parts, strict=True)
    ]
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
    source, replaced, rate = (
        torch.cat([getattr(edit, name) for edit in edits]).index_select(0, place)
        for name in ("source", "replaced", "rate")
    )
    return Edit(source, replaced, rate, edits[0].pad_id)


def _of_all_rows(
    plans: Sequence[Plan], choice: Tensor, items: Tensor, noise: Sequence[Any], timestamps: Tensor | None
) -> Edit:
    # What plans make of noise that they share is made once.
    shared = [own for own in noise if isinstance(own, Noise)]
    for own in shared:
        own.shared = {}
    edits = [plan(items, own, timestamps) for plan, own in zip(plans, noise, strict=True)]
    for own in shared:
        own.shared = None
    picked = edits[0]
    for number, edit in enumerate(edits[1:], start=1):
        picked = where(choice == number, edit, picked)
    return picked


def asks_other_ranks(plan: Plan) -> bool:
    """Whether a plan looks neighbours up in tables that are spread over ranks."""
    owner = getattr(plan, "__self__", None)
    return isinstance(owner, nn.Module) and any(
        isinstance(part, Neighbours) and part.shards is not None for part in owner.modules()
    )


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

    @property
    def plans(self) -> list[Plan]:
        """What the members plan."""
        return [member.plan for member in self.operators]

    def longest(self, count: int, slots: int) -> int:
        """As long as the member makes it that lengthens rows most."""
        return max(member.longest(count, slots) for member in self.operators)

    def extra_repr(self) -> str:
        return "[" + ", ".join(map(repr, self.operators)) + "]"
