"""Batches of rows of like length, trimmed to their longest row, so that padding is not work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recsys.datasets import Held


class Batch(NamedTuple):
    """Training rows of like length, trimmed to the longest."""

    rows: Tensor  # (rows,) which of the training rows these are
    items: Tensor  # (rows, slots) left-padded ids
    target: Tensor  # (rows, slots) the item after each slot, 0 where there is none
    times: Tensor | None = None  # (rows, slots) when each item came, if the data set knows


@dataclass(frozen=True)
class TrainBatches:
    """One epoch of batches, the same for the same ``seed``.

    Rows are shuffled, sorted by length and cut into batches, and the batches are shuffled. With several devices
    each takes every ``world``-th batch.
    """

    items: Tensor  # (rows, length), left-padded
    target: Tensor  # (rows, length)
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    times: Tensor | None = None  # (rows, length)

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch_size) // self.world

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        lengths = (self.items > 0).sum(1)
        order = torch.randperm(len(self.items), generator=generator)
        order = order[torch.argsort(lengths[order], stable=True)]
        batches = order.split(self.batch_size)
        mine = torch.randperm(len(batches), generator=generator)[self.rank :: self.world][: len(self)]
        for number in mine.tolist():
            rows = batches[number]
            longest = int(lengths[rows].max())
            times = None if self.times is None else self.times[rows, -longest:]
            yield Batch(rows, self.items[rows, -longest:], self.target[rows, -longest:], times)


@dataclass(frozen=True)
class HeldBatches:
    """Held-out rows in order of length: (row numbers, items, target, seen) per batch."""

    held: Held
    batch_size: int = 512
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return len(range(self.rank, -(-len(self.held.target) // self.batch_size), self.world))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        held = self.held
        lengths = (held.items > 0).sum(1)
        widths = (held.seen > 0).sum(1)
        for rows in torch.argsort(widths, stable=True).split(self.batch_size)[self.rank :: self.world]:
            longest, widest = int(lengths[rows].max()), int(widths[rows].max())
            yield rows, held.items[rows, -longest:], held.target[rows], held.seen[rows, -widest:]
