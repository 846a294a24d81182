"""Sums over pairs of items that come in any order: sorted lists, merged a part of the items at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_PARTS = 32
_WAITING = 1 << 16  # pairs of a part that wait at least, before they are merged


class PairSums:
    """The sum of all values of each pair of items i < j, 16 bytes per distinct pair and at most as much for those that wait.

    Merging takes several times that, but of one part of the items at a time.

    Args:
        per_item: (V + 1,) int64; how often each item occurs, by which the items are divided into parts.
    """

    def __init__(self, per_item: Tensor) -> None:
        self.items = len(per_item)
        upto = per_item.cumsum(0)
        wanted = upto[-1] * torch.arange(1, _PARTS) // _PARTS
        self.bounds = torch.searchsorted(upto, wanted)  # (parts - 1,): where the left items of the next part begin
        self._merged = [(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64))] * _PARTS
        self._waiting: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(_PARTS)]

    def add(self, left: Tensor, right: Tensor, value: Tensor) -> None:
        """Add (P,) float64 values of pairs left < right, (P,) int64 each."""
        key, order = torch.sort(left * self.items + right)
        key, total = _summed(key, value[order])
        ends = torch.searchsorted(key, self.bounds * self.items).tolist()
        for part, (begin, end) in enumerate(zip([0, *ends], [*ends, len(key)], strict=True)):
            if begin < end:
                # Copies: a view would keep the whole block.
                self._waiting[part].append((key[begin:end].clone(), total[begin:end].clone()))
                if sum(len(keys) for keys, _ in self._waiting[part]) > max(
                    _WAITING, len(self._merged[part][0])
                ):
                    self._merge(part)

    def both_ways(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """left (P,), right (P,) and sum (P,) of every pair in both directions: a part of the left items each, by left and right."""
        for part in range(_PARTS):
            self._merge(part)
        edges = [0, *self.bounds.tolist(), self.items]
        for part, (first, last) in enumerate(zip(edges, edges[1:], strict=False)):
            keys, sums = self._merged[part]
            turned, turned_sums = [keys], [sums]
            for other, found in self._merged[: part + 1]:
                right = other % self.items
                here = ((right >= first) & (right < last)).nonzero().squeeze(1)
                turned.append(right[here] * self.items + other[here] // self.items)
                turned_sums.append(found[here])
            key, order = torch.sort(torch.cat(turned))
            yield key // self.items, key % self.items, torch.cat(turned_sums)[order]

    def _merge(self, part: int) -> None:
        keys, values = zip(self._merged[part], *self._waiting[part], strict=True)
        key, order = torch.sort(torch.cat(keys), stable=True)
        self._merged[part] = _summed(key, torch.cat(values)[order])
        self._waiting[part] = []


def _summed(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys of ascending ones, and the sum of each one's values."""
    key, inverse = torch.unique_consecutive(key, return_inverse=True)
    return key, torch.zeros(len(key), dtype=torch.float64).scatter_add_(0, inverse, value)
