"""Samplers of negative items, on the batch's device, that never draw what a row already has."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from seqaug._checks import can_look, check_choice, check_count, check_ids, check_number, check_tensor
from seqaug._random import integers, uniform, uniform_excluding
from seqaug.soft_target import SoftTarget
from seqaug.sparse_table import read_rows

PER = ("position", "row", "batch")
# From here on a float32 draw, one of 2**24 numbers, would favour some items by more than 1 %.
FINE_CATALOG = 2**17


def ids_of(target: Tensor | SoftTarget) -> list[Tensor]:
    """The ids in a target: one tensor, both halves of a soft one, or none, of vectors."""
    if not isinstance(target, (Tensor, SoftTarget)):
        raise TypeError(f"target must be ids, a SoftTarget or vectors, got {type(target).__name__}")
    if isinstance(target, SoftTarget):
        found = [target.first, target.second]
    else:
        found = [] if target.is_floating_point() else [target]
    for ids in found:
        check_ids("target", ids)
        if ids.ndim not in (1, 2):
            raise ValueError(
                f"target must be ids (rows, steps), or (tokens,) when packed, got target.shape={tuple(ids.shape)}"
            )
    return found


def excluded_ids(target: Tensor | SoftTarget, history: Tensor | None) -> Tensor:
    """(B, M) what each row must not be offered: its own targets and its history."""
    own = ids_of(target)
    rows = target.first.shape[0] if isinstance(target, SoftTarget) else target.shape[0]
    own = [(ids if ids.ndim == 2 else rearrange(ids, "t -> t 1")).long() for ids in own]
    if history is not None:
        check_tensor("history", history, "of ids")
        if history.ndim != 2 or history.shape[0] != rows or history.is_floating_point():
            raise ValueError(
                f"history must be ids ({rows}, slots), got {history.dtype} of shape {tuple(history.shape)}: "
                "packed targets need the history of each token's row, (tokens, slots)"
            )
        own.append(history.long())
    if not own:
        return torch.zeros((rows, 0), dtype=torch.long, device=target[0].device)
    return torch.cat(own, dim=1)


def steps_of(target: Tensor | SoftTarget) -> tuple[int, ...]:
    """Axes of the targets after the row axis, without features: (L,), or () when packed."""
    if isinstance(target, SoftTarget):
        return tuple(target.first.shape[1:])
    return tuple(target.shape[1:-1] if target.is_floating_point() else target.shape[1:])


def plan_draws(
    target: Tensor | SoftTarget, history: Tensor | None, per: str
) -> tuple[Tensor, tuple[int, ...]]:
    """What each row of draws must leave out, and the axes of a row's draws."""
    excluded = excluded_ids(target, history)
    if per != "batch":
        return excluded, steps_of(target) if per == "position" else ()
    everyone = rearrange(excluded, "b m -> 1 (b m)")
    return (everyone[:, :0] if history is None else everyone), ()


def check_counts(counts: object) -> None:
    """Occurrences per id. Looks at the values, once."""
    if not isinstance(counts, Tensor):
        raise TypeError(
            f"counts must be a tensor (num_items + 1,), indexed by id, got {type(counts).__name__}"
        )
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            f"counts must be (num_items + 1,), indexed by id, got counts.shape={tuple(counts.shape)}"
        )
    mass = counts[1:].double()
    if not bool((mass >= 0).all() & mass.isfinite().all() & (mass > 0).any()):
        raise ValueError(
            "counts must be finite, 0 or more, and not all 0 beyond entry 0: give occurrences per id"
        )


class UniformNegatives:
    """Negatives drawn uniformly from the items a row does not have.

    Rejection is exact and takes no loop: draws land on the items that are left. A row that has every item
    gets draws from the whole catalog, with log_q to match.

    Args:
        num_items: size of the catalog, ids 1..num_items.
        k: negatives per position, row or batch.
        per: "position" draws for each target, "row" for each row, "batch" once for all. A set shared by the
            batch avoids every row's ids when a history is given, and nothing otherwise. With many rows that
            takes the popular items out of the negatives: better leave the history out and let a loss that
            masks accidental hits sort it out.

    Example:
        >>> import torch
        >>> target, history = torch.tensor([[0, 2, 3]]), torch.tensor([[0, 1, 2]])
        >>> ids, log_q = UniformNegatives(5, k=4).sample(target, history=history)
        >>> ids.shape, sorted(set(ids.flatten().tolist()) - {4, 5})
        (torch.Size([1, 3, 4]), [])
        >>> log_q.exp().unique().tolist()
        [0.5]
    """

    def __init__(self, num_items: int, k: int = 1, *, per: str = "position") -> None:
        check_count("num_items", num_items, 1)
        check_count("k", k, 1)
        check_choice("per", per, PER)
        self.num_items = num_items
        self.k = k
        self.per = per

    def __repr__(self) -> str:
        return f"UniformNegatives({self.num_items}, k={self.k}, per={self.per!r})"

    def sample(
        self,
        target: Tensor | SoftTarget,
        *,
        history: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw negatives for a batch of targets.

        Args:
            target: (B, L) or (T,) ids, a `SoftTarget` of such ids, or (B, L, D) vectors; ids are never
                drawn for their own row.
            history: (B, M) ids a row must not be offered, padding is ignored; None rejects the targets only.
            generator: on the targets' device; None uses the default one.

        Returns:
            ids: (B, L, k), (T, k) for packed targets, (B, k) per row, (k,) per batch; int64.
            log_q: of the same shape, log of the probability that one draw gives this id.

        Raises:
            ValueError: a history that does not fit the targets.
        """
        excluded, steps = plan_draws(target, history, self.per)
        rows = excluded.shape[0]
        draws = self.k * (steps[0] if steps else 1)
        dtype = torch.float32 if self.num_items < FINE_CATALOG else torch.float64
        u = uniform((rows, draws), excluded.device, generator, dtype)
        ids, remaining = uniform_excluding(u, self.num_items, excluded)
        log_q = -torch.where(remaining > 0, remaining, self.num_items).float().log()
        log_q = rearrange(log_q, "b -> b 1").expand(rows, draws)
        shape = (self.k,) if self.per == "batch" else (rows, *steps, self.k)
        return ids.reshape(shape), log_q.reshape(shape)


class PopularityNegatives:
    """Negatives drawn in proportion to a power of the items' counts, from the items a row does not have.

    The counts become whole numbers that sum to about 2**48, so that leaving out a row's items is exact
    arithmetic: one sort, one prefix sum and two binary searches, O(log num_items) time and O(1) memory per
    draw. Items with a count of 0 are never drawn. A row that has every item with a count gets draws from
    all of them.

    Args:
        counts: (num_items + 1,) or longer, how often each id occurs, indexed by id: what
            `torch.bincount(items.flatten(), minlength=num_items + 1)` gives. Entry 0, padding, is not
            looked at.
        k: negatives per position, row or batch.
        per: as `UniformNegatives`.
        power: of the counts; 0.75 flattens them, 0 is uniform over the items that occur.

    Example:
        >>> import torch
        >>> counts = torch.tensor([9, 6, 3, 1, 0])
        >>> ids, log_q = PopularityNegatives(counts, k=100).sample(torch.tensor([[1]]))
        >>> sorted(set(ids.flatten().tolist())), [round(q, 2) for q in log_q.exp().unique().tolist()]
        ([2, 3], [0.25, 0.75])
    """

    def __init__(self, counts: Tensor, k: int = 1, *, per: str = "position", power: float = 1.0) -> None:
        check_count("k", k, 1)
        check_choice("per", per, PER)
        check_number("power", power, 0.0, float("inf"))
        check_counts(counts)
        mass = counts[1:].double().cpu()
        mass = torch.where(mass > 0, (mass / mass.max()) ** power, 0.0)
        parts = (mass / mass.sum() * 2**48).round().long().clamp_min(1) * (mass > 0)
        self.k = k
        self.per = per
        self.power = power
        self.num_items = len(parts)
        self.below = F.pad(parts.cumsum(0), (1, 0))  # (num_items + 1,) parts of the ids before each id

    def __repr__(self) -> str:
        return f"PopularityNegatives(<{self.num_items} counts>, k={self.k}, per={self.per!r}, power={self.power})"

    def sample(
        self,
        target: Tensor | SoftTarget,
        *,
        history: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw negatives for a batch of targets: as `UniformNegatives.sample`, with q the chance of each id."""
        excluded, steps = plan_draws(target, history, self.per)
        self.below = self.below.to(excluded.device)
        whole = self.below[-1]
        rows, draws = len(excluded), self.k * (steps[0] if steps else 1)

        outside = (excluded < 1) | (excluded > self.num_items)
        ordered = excluded.masked_fill(outside, self.num_items + 1).sort(dim=1).values
        first = (F.pad(ordered[:, :-1], (1, 0)) != ordered) & (ordered <= self.num_items)
        ordered = ordered.clamp_max(self.num_items)
        start, size = self.below[ordered - 1], self.below[ordered] - self.below[ordered - 1]
        gone = F.pad((size * first).cumsum(1), (1, 0))  # (rows, excluded + 1)
        left = whole - gone[:, -1:]
        start = torch.where(first, start, whole)  # repeats and ids of no item lie beyond every draw
        start = start.flip(1).cummin(1).values.flip(1)
        available = torch.where(left > 0, left, whole)

        drawn = integers(2**62, (rows, draws), excluded.device, generator) % available
        skipped = gone.gather(1, torch.searchsorted(start - gone[:, :-1], drawn, right=True))
        place = torch.where(left > 0, drawn + skipped, drawn)
        ids = torch.searchsorted(self.below[1:], place, right=True) + 1
        parts = (self.below[ids] - self.below[ids - 1]).double()
        log_q = (parts / available).log().float()
        shape = (self.k,) if self.per == "batch" else (rows, *steps, self.k)
        return ids.reshape(shape), log_q.reshape(shape)


class InBatchNegatives:
    """The other targets of the batch as negatives, with log q so that k * q is how often an item is among the k.

    Without counts that is each item's number of occurrences in the batch, which makes `SampledSoftmaxLoss`
    the softmax over the distinct items of the batch; with counts, what their shares make one expect.

    Args:
        counts: (num_items + 1,) or longer, how often each id occurs in training, indexed by id; None for
            the batch's.
        ignore_index: the id of padding among targets.

    Example:
        >>> import torch
        >>> ids, log_q = InBatchNegatives().sample(torch.tensor([[0, 3], [3, 5]]))
        >>> ids.tolist(), (3 * log_q.exp()).round().tolist()
        ([3, 3, 5], [2.0, 2.0, 1.0])

    Source: Eq. 3 of sampling-bias-corrected neural modeling for large corpus item recommendations (2019).
    """

    def __init__(self, counts: Tensor | None = None, *, ignore_index: int = 0) -> None:
        if counts is not None:
            check_counts(counts)
        self.counts = counts
        self.ignore_index = ignore_index

    def __repr__(self) -> str:
        known = "" if self.counts is None else f"<{len(self.counts) - 1} counts>, "
        return f"InBatchNegatives({known}ignore_index={self.ignore_index})"

    def sample(
        self,
        target: Tensor | SoftTarget,
        *,
        history: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The batch's targets as shared negatives; nothing is drawn, so the generator is left alone.

        Args:
            target: (B, L) or (T,) ids, or a `SoftTarget` of such ids (both halves).
            history: (B, M) ids a row must not be offered; None rejects nothing, the loss takes out hits.
            generator: not used.

        Returns:
            ids: (k,), or (B, k) with a history. On a CPU padding is left out, elsewhere and in a graph k is
                the number of target slots.
            log_q: of the same shape, +inf at padding and at what the row must not be offered: losses leave such
                an entry out.

        Raises:
            TypeError: vectors as targets, which are not items.
        """
        halves = ids_of(target)
        if not halves:
            raise TypeError("target must be ids for in-batch negatives, got vectors: they are no items")
        ids = torch.cat([half.flatten().long() for half in halves])
        if can_look(ids):
            some = ids[ids != self.ignore_index]
            ids = (
                some if len(some) else ids[:1]
            )  # a batch of padding has one negative, which counts for nothing
        real = ids != self.ignore_index
        ordered = ids.sort().values
        often = torch.searchsorted(ordered, ids, right=True) - torch.searchsorted(ordered, ids)
        if self.counts is not None:
            self.counts = self.counts.to(ids.device)
            counted = self.counts[1:]
            # An item of the batch occurs, whether it was counted or not: at least as seldom as any that was.
            count = read_rows(rearrange(self.counts.double(), "v -> v 1"), ids.masked_fill(~real, 0)).squeeze(
                1
            )
            seldom = torch.where(counted > 0, counted, torch.inf).min()
            expected = count.maximum(seldom) / counted.sum() * real.sum()
        else:
            expected = often.float()
        log_q = (expected / max(len(ids), 1)).log().float().masked_fill(~real, torch.inf)
        ids = ids.masked_fill(~real, 0)  # padding may be no row of the table
        if history is None:
            return ids, log_q
        known = excluded_ids(target, history).sort(dim=1).values
        offered = repeat(ids, "k -> b k", b=len(known)).contiguous()
        hit = torch.searchsorted(known, offered, right=True) > torch.searchsorted(known, offered)
        return offered, log_q.masked_fill(hit, torch.inf)
