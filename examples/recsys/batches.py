"""Batches of rows of like length, so that padding is not work, or of any, trimmed to their longest row.

Several processes share each batch by its rows: every one works on the same batches as one process would, so that the
number of processes changes nothing but who computes what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

import seqaug as sa
from recsys import ranks
from recsys.datasets import Held


class Whole(NamedTuple):
    """The batch that several processes share, as one of them sees it."""

    rows: Tensor  # (whole rows,) which of the training rows these are
    items: Tensor  # (whole rows, slots)
    own: Tensor  # (rows,) which of them are here
    world: int
    of_rows: float  # what a mean over the rows here counts in the mean of the processes' means
    of_targets: float  # what a mean over the targets here counts


class Batch(NamedTuple):
    """Training rows, trimmed to the longest."""

    rows: Tensor  # (rows,) which of the training rows these are
    items: Tensor  # (rows, slots) left-padded ids
    target: Tensor  # (rows, slots) the item after each slot, 0 where there is none
    times: Tensor | None = None  # (rows, slots) when each item came, if the data set knows
    whole: Whole | None = None  # None: the batch is all here

    @property
    def all_rows(self) -> Tensor:
        """(whole rows,) numbers of the rows of all processes."""
        return self.rows if self.whole is None else self.whole.rows

    @property
    def all_items(self) -> Tensor:
        """(whole rows, slots): what to draw for, so that a row's draw does not depend on who has it."""
        return self.items if self.whole is None else self.whole.items

    def own_part(self, mix: sa.Mix) -> sa.Mix:
        """The rows that are here of a draw for the rows of all processes."""
        return mix if self.whole is None else mix.of_rows(self.whole.own)

    def everywhere(self, values: Tensor) -> Tensor:
        """(whole rows,) of a number for each row here (rows,)."""
        if self.whole is None:
            return values
        placed = values.new_zeros(len(self.whole.rows))
        if self.whole.of_rows > 0:
            placed[self.whole.own] = values
        return ranks.add_up(placed)

    def own_draws(self, generator: torch.Generator | None) -> torch.Generator | None:
        """The generator for draws that processes make apart: torch's own, seeded by rank, where there are several."""
        return generator if self.whole is None else None


@dataclass(frozen=True)
class TrainBatches:
    """One epoch of batches, the same for the same ``seed``.

    Rows are shuffled and cut into batches; ordered by ``"length"`` they are sorted in between and the batches shuffled. Of
    several processes each takes every ``world``-th row of every batch. One that comes away empty-handed takes a row
    without targets along, since all of them have to take part in every step.
    """

    items: Tensor  # (rows, length), left-padded
    target: Tensor  # (rows, length)
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    times: Tensor | None = None  # (rows, length)
    order: str = "length"
    swap: sa.Swap | None = None  # of neighbours in the rows, targets among them

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        lengths = (self.items > 0).sum(1)
        order = torch.randperm(len(self.items), generator=generator)
        items, target = self.items, self.target
        if self.swap is not None:
            items, target = swapped(items, target, self.swap, generator)
        if self.order == "length":
            order = order[torch.argsort(lengths[order], stable=True)]
        batches: Sequence[Tensor] = order.split(self.batch_size)
        if self.order == "length":
            batches = [batches[number] for number in torch.randperm(len(batches), generator=generator)]
        for rows in batches:
            longest = int(lengths[rows].max())
            times = None if self.times is None else self.times[rows, -longest:]
            batch = Batch(rows, items[rows, -longest:], target[rows, -longest:], times)
            yield share(batch, self.rank, self.world)


def swapped(
    items: Tensor, target: Tensor, swap: sa.Swap, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows with neighbours swapped, and what comes after each slot then: (rows, length), (rows, slots)."""
    rows = swap(torch.cat([items, target[:, -1:]], 1), generator=generator)
    return rows[:, :-1], rows[:, -target.shape[1] :].where(target > 0, 0)


def share(batch: Batch, rank: int, world: int) -> Batch:
    """What one of several processes has of a batch; all of it where there is one."""
    if world == 1:
        return batch
    own = torch.arange(len(batch.rows))[rank::world]
    idle = len(own) == 0
    if idle:
        own = torch.zeros(1, dtype=torch.int64)
    target = batch.target[own] * (not idle)
    scored, every = int((target > 0).sum()), int((batch.target > 0).sum())
    of_rows = 0.0 if idle else world * len(own) / len(batch.rows)
    whole = Whole(batch.rows, batch.items, own, world, of_rows, world * scored / max(every, 1))
    times = None if batch.times is None else batch.times[own]
    return Batch(batch.rows[own], batch.items[own], target, times, whole)


@dataclass(frozen=True)
class HeldBatches:
    """Held-out rows in order of length: (row numbers, items, target, seen) per batch.

    Of several processes each gets every ``world``-th row of every batch, none of the last if that has too few.
    """

    held: Held
    batch_size: int = 512
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return -(-len(self.held.target) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        held = self.held
        lengths = (held.items > 0).sum(1)
        widths = (held.seen > 0).sum(1)
        for every in torch.argsort(widths, stable=True).split(self.batch_size):
            longest, widest = int(lengths[every].max()), int(widths[every].max())
            rows = every[self.rank :: self.world]
            yield rows, held.items[rows, -longest:], held.target[rows], held.seen[rows, -widest:]
