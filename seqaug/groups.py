"""Groups: rows of different lengths as a few padded batches, each no wider than its rows need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from seqaug._checks import Side
from seqaug.noise import noise_of_rows

# What one more group costs an operator, in slots: calls of kernels instead of work in them.
COST_OF_A_GROUP = 12_000


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that share one padded batch.

    Args:
        rows: (R,) int64; their numbers.
        width: slots of their batch.
    """

    rows: Tensor
    width: int


def spread(per_row: Tensor, lengths: Tensor, total: int) -> Tensor:
    """Repeat a number of each row for every value of the row, without asking the device how many there are.

    Args:
        per_row: (B,).
        lengths: (B,) int64.
        total: T, the sum of ``lengths``.

    Returns:
        (T,).
    """
    return per_row.repeat_interleave(lengths, output_size=total)


def candidate_widths(longest: int) -> list[int]:
    """Widths in steps of at most a half: 1, 2, 3, 4, 6, 8, 12, ..., and last ``longest``."""
    powers = [2**bits for bits in range(longest.bit_length())]
    return sorted({w for power in powers for w in (power, power + power // 2) if w < longest} | {longest})


def cheapest_widths(widths: Sequence[int], upto: Sequence[int], cost_of_a_group: int) -> list[int]:
    """The widths for which calls and padded slots together cost least.

    Args:
        widths: ascending candidates.
        upto: number of rows that fit each of them.
        cost_of_a_group: in slots.

    Returns:
        Some of the candidates, at least the last one where there are rows.
    """
    cost, chosen = [0], [list[int]()]
    below = [0, *upto]  # rows that fit the candidate before
    for number, width in enumerate(widths):
        totals = []
        for since in range(number + 1):
            rows = below[number + 1] - below[since]
            totals.append(cost[since] + (rows * width + cost_of_a_group if rows else 0))
        best = min(range(number + 1), key=totals.__getitem__)
        cost.append(totals[best])
        chosen.append(chosen[best] + [width] * (below[number + 1] > below[best]))
    return chosen[-1]


def group_rows(lengths: Tensor, cost_of_a_group: int = COST_OF_A_GROUP) -> tuple[Group, ...]:
    """Sort rows into groups of like length, each row into one.

    Args:
        lengths: (B,) int64 on the CPU, since the shapes of the groups depend on it.
        cost_of_a_group: in slots; the dearer a slot, the more groups.

    Returns:
        At least one :class:`Group`, ascending in width.
    """
    longest = max(1, int(lengths.max())) if len(lengths) else 1
    widths = candidate_widths(longest)
    upto = lengths.bincount(minlength=longest + 1).cumsum(0)[widths].tolist()
    bounds = cheapest_widths(widths, upto, cost_of_a_group) or [longest]
    if len(bounds) == 1:
        return (Group(torch.arange(len(lengths)), bounds[0]),)
    number = torch.bucketize(lengths, torch.tensor(bounds))
    return tuple(Group((number == which).nonzero().squeeze(1), width) for which, width in enumerate(bounds))


class Cells:
    """Where each value of packed rows stands among the slots of all groups, laid out one group after the other.

    Args:
        groups: of all rows.
        widths: slots of each group, at least its rows' lengths; more where an operator makes rows longer.
        side: where the padding is.
    """

    def __init__(self, groups: Sequence[Group], widths: Sequence[int], side: Side) -> None:
        self.shapes = [(len(group.rows), width) for group, width in zip(groups, widths, strict=True)]
        self.side: Side = side
        begins = [0, *accumulate(rows * width for rows, width in self.shapes)]
        self.total = begins.pop()
        cells = [
            begin + width * torch.arange(rows, device=group.rows.device)
            for begin, (rows, width), group in zip(begins, self.shapes, groups, strict=True)
        ]
        self.rows = torch.cat([group.rows for group in groups])
        """(B,) int64; the rows as they are laid out, group after group."""
        self._place = torch.empty_like(self.rows).scatter(
            0, self.rows, torch.arange(len(self.rows), device=self.rows.device)
        )
        self._base = self.by_row(cells)
        self._width = self.by_row(
            [torch.full_like(cell, width) for cell, (_, width) in zip(cells, self.shapes, strict=True)]
        )

    def by_row(self, per_group: Sequence[Tensor]) -> Tensor:
        """What each group has for its rows, (R,) each, in the order of the rows: (B,)."""
        if len(per_group) == 1:
            return per_group[0]  # one group has its rows in order
        return torch.cat(list(per_group)).index_select(0, self._place)

    def first_slot(self, lengths: Tensor) -> Tensor:
        """(B,) slot of the oldest of ``lengths`` items in the row's group."""
        return self._width - lengths if self.side == "left" else torch.zeros_like(lengths)

    def first_cell(self, lengths: Tensor) -> Tensor:
        """(B,) cell of the oldest of ``lengths`` items."""
        return self._base + self.first_slot(lengths)

    def of_values(self, offsets: Tensor, total: int) -> Tensor:
        """(T,) int64; the cell of each value of rows that begin at ``offsets``."""
        lengths = offsets.diff()
        first = self.first_cell(lengths) - offsets[:-1]
        return torch.arange(total, device=offsets.device) + spread(first, lengths, total)

    def noise(self, whole: Any, slots: int) -> list[Any]:
        """Each group's part of the noise of the padded batch of ``slots``; see :func:`seqaug.noise.noise_of_rows`."""
        if len(self.shapes) > 1:
            whole = noise_of_rows(whole, self.rows, slice(None))
        ends = accumulate(rows for rows, _ in self.shapes)
        return [
            noise_of_rows(
                whole,
                slice(end - rows, end),
                slice(slots - width, None) if self.side == "left" else slice(width),
            )
            for end, (rows, width) in zip(ends, self.shapes, strict=True)
        ]

    def fill(self, values: Tensor, cells: Tensor, padding: int) -> list[Tensor]:
        """The padded batch (R, width) of each group.

        Args:
            values: (T,).
            cells: of these values.
            padding: what the other slots hold.
        """
        flat = values.new_full((self.total,), padding).scatter(0, cells, values)
        sizes = [rows * width for rows, width in self.shapes]
        return [part.view(shape) for part, shape in zip(torch.split(flat, sizes), self.shapes, strict=True)]
