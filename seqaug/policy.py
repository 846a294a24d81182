"""Policies: which operator a row gets. They are operators themselves, so they nest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seqaug._checks import check_count, check_number
from seqaug.edit import Edit, identity, where
from seqaug.noise import Noise
from seqaug.operator import Augmentation, Operator


@dataclass(frozen=True, eq=False)
class PolicyNoise:
    """The noise of a policy: its own, and that of each member.

    Args:
        choice: (B, ...) float32 in [0, 1); what the policy decides by.
        members: noise of each member. Plain operators share one, which is exact since a row uses one of them.
    """

    choice: Tensor
    members: tuple[Any, ...]


def draw_shared(members: Sequence[Augmentation], items: Tensor, generator: torch.Generator | None) -> tuple[Any, ...]:
    """Noise for members of which each row uses one: a single draw serves all plain operators."""
    shared: Noise | None = None
    drawn = []
    for member in members:
        if isinstance(member, Operator):
            shared = member.draw(items, generator) if shared is None else shared
            drawn.append(shared)
        else:
            drawn.append(member.draw(items, generator))
    return tuple(drawn)


def check_members(members: object, *, least: int = 1) -> list[Augmentation]:
    """A list of operators that agree on pad id and side."""
    if not isinstance(members, (list, tuple, nn.ModuleList)):
        raise TypeError(f"operators must be a list, got {type(members).__name__}: write [crop, mask]")
    listed = list(members)
    if len(listed) < least:
        raise ValueError(f"operators must be at least {least}, got {len(listed)}")
    for number, member in enumerate(listed):
        if not isinstance(member, Augmentation):
            raise TypeError(f"operators must be seqaug operators or policies, got operators[{number}]={member!r}")
        if member.pad_id != listed[0].pad_id or member.side != listed[0].side:
            raise ValueError(
                f"operators must agree on pad_id and side, got pad_id={listed[0].pad_id}, side={listed[0].side!r} in the "
                f"first and pad_id={member.pad_id}, side={member.side!r} in operators[{number}]"
            )
    return listed


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

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, number: int) -> Augmentation:
        return self.members[number]  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return "[" + ", ".join(map(repr, self.members)) + "]"


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
        >>> edit = policy.sample(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), generator=torch.Generator().manual_seed(0))
        >>> edit.choice
        tensor([0, 1])
        >>> edit(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]))
        tensor([[ 0,  0,  1,  2],
                [99,  6, 99,  8]])
    """

    thresholds: Tensor

    def __init__(self, operators: Sequence[Augmentation], weights: Sequence[float] | None = None) -> None:
        super().__init__(operators)
        self.weights = check_weights(weights, len(self))
        share = torch.tensor(self.weights or [1.0] * len(self), dtype=torch.float64).cumsum(0)
        self.register_buffer("thresholds", (share / share[-1])[:-1].float(), persistent=False)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = torch.rand(items.shape[0], device=items.device, generator=generator)
        return PolicyNoise(choice, draw_shared(list(self.members), items, generator))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        choice = (noise.choice[:, None] >= self.thresholds).sum(1)
        edits = [member.plan(items, own, timestamps) for member, own in zip(self.members, noise.members, strict=True)]
        return pick_rows(choice, edits)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.weights is None else f", weights={self.weights}")


def check_weights(weights: Sequence[float] | None, members: int) -> list[float] | None:
    """Weights as a list of floats, one per member."""
    if weights is None:
        return None
    listed = [float(weight) for weight in weights]
    if len(listed) != members:
        raise ValueError(f"weights must be one per operator ({members}), got {len(listed)}: weights={listed}")
    if not all(0.0 <= weight < float("inf") for weight in listed) or sum(listed) == 0.0:
        raise ValueError(f"weights must be 0 or more and not all 0, got weights={listed}")
    return listed


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
        tensor([[ 0,  0,  0,  2, 99,  4]])
    """

    def __init__(self, operators: Sequence[Augmentation]) -> None:
        super().__init__(operators)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        return tuple(member.draw(items, generator) for member in self.members)

    def plan(self, items: Tensor, noise: tuple[Any, ...], timestamps: Tensor | None = None) -> Edit:
        edits: list[Edit] = []
        whole: Edit | None = None
        for member, own in zip(self.members, noise, strict=True):
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
        >>> maybe.sample(torch.ones(4, 3, dtype=torch.int64), generator=torch.Generator().manual_seed(1)).choice
        tensor([-1,  0,  0, -1])
    """

    def __init__(self, operator: Augmentation, p: float) -> None:
        super().__init__([operator])
        check_number("p", p, 0.0, 1.0)
        self.p = float(p)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = torch.rand(items.shape[0], device=items.device, generator=generator)
        return PolicyNoise(choice, (self[0].draw(items, generator),))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        applied = noise.choice < self.p
        edit = where(applied, self[0].plan(items, noise.members[0], timestamps), identity(items, self.pad_id))
        return replace(edit, choice=applied.long() - 1)

    def extra_repr(self) -> str:
        return f"{self[0]!r}, p={self.p!r}"


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
        if count > len(self):
            raise ValueError(f"count must be at most the number of operators ({len(self)}), got count={count}")
        self.count = count

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = torch.rand(items.shape[0], len(self), device=items.device, generator=generator)
        return PolicyNoise(choice, tuple(member.draw(items, generator) for member in self.members))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> Edit:
        applied = noise.choice.argsort(1).argsort(1) < self.count  # (batch, operators)
        whole = identity(items, self.pad_id)
        rate = torch.zeros_like(whole.rate)
        for number, (member, own) in enumerate(zip(self.members, noise.members, strict=True)):
            now = whole(items)
            edit = member.plan(now, own, None if timestamps is None else whole.align(timestamps))
            whole = whole.then(where(applied[:, number], edit, identity(now, self.pad_id)))
            rate = rate + torch.where(applied[:, number], edit.rate, 0.0)
        return replace(whole, rate=rate / self.count)

    def extra_repr(self) -> str:
        return f"{self.count}, {super().extra_repr()}"


class LengthPolicy(Members):
    """One operator for short rows and another for long ones. ``choice`` is 0 for short rows and 1 for long ones.

    Args:
        threshold: rows of at most this many items are short.
        short: operator or policy for short rows; by CoSeRec Insert and Substitute, since short rows lose too much otherwise.
        long: operator or policy for the others.

    Raises:
        ValueError: ``threshold`` is negative, or the two disagree on pad id or side.

    Example:
        >>> import torch, seqaug as sa
        >>> policy = sa.LengthPolicy(threshold=2, short=sa.Mask(0.5, 0.5, mask_id=99), long=sa.Crop(0.5, 0.5))
        >>> policy.sample(torch.tensor([[0, 0, 1], [1, 2, 3]])).choice
        tensor([0, 1])

    Source: CoSeRec (Liu et al., 2021), section 3.3.
    """

    def __init__(self, threshold: int, short: Augmentation, long: Augmentation) -> None:
        super().__init__([short, long])
        check_count("threshold", threshold, 0)
        self.threshold = threshold

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> tuple[Any, ...]:
        return draw_shared(list(self.members), items, generator)

    def plan(self, items: Tensor, noise: tuple[Any, ...], timestamps: Tensor | None = None) -> Edit:
        choice = ((items != self.pad_id).sum(1) > self.threshold).long()
        edits = [member.plan(items, own, timestamps) for member, own in zip(self.members, noise, strict=True)]
        return pick_rows(choice, edits)

    def extra_repr(self) -> str:
        return f"{self.threshold}, short={self[0]!r}, long={self[1]!r}"
