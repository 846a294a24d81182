"""Sums over pairs of items that come in any order: sorted lists of a part of the items each, and a buffer of what is not merged yet."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_PARTS = 32
_WAITING = 1 << 21  # pairs that wait to be merged


class PairSums:
    """The sum of all values of each pair of items i < j, in 16 bytes per distinct pair.

    Merging takes several times that, but of one part of the items at a time.

    Args:
        per_item: (V + 1,) int64; how often each item occurs, by which the items are divided into parts.
    """

    def __init__(self, per_item: Tensor) -> None:
        self.items = len(per_item)
        upto = per_item.cumsum(0)
        wanted = upto[-1] * torch.arange(1, _PARTS) // _PARTS
        self.bounds = torch.searchsorted(
            upto, wanted
        )  # (parts - 1,): where the left items of the next part begin
        self._merged = [(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64))] * _PARTS
        # One buffer, not a list of what came: small tensors that stay between large ones that go would leave memory in pieces.
        self._keys = torch.zeros(_WAITING, dtype=torch.int64)
        self._values = torch.zeros(_WAITING, dtype=torch.float64)
        self._waiting = 0

    def add(self, left: Tensor, right: Tensor, value: Tensor) -> None:
        """Add (P,) float64 values of pairs left < right, (P,) int64 each."""
        key = left * self.items + right
        while len(key):
            now = min(len(key), len(self._keys) - self._waiting)
            free = slice(self._waiting, self._waiting + now)
            self._keys[free], self._values[free] = key[:now], value[:now]
            self._waiting += now
            key, value = key[now:], value[now:]
            if self._waiting == len(self._keys):
                self._merge()

    def both_ways(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """left (P,), right (P,) and sum (P,) of every pair in both directions: a part of the left items each, by left and right."""
        self._merge()
        edges = [0, *self.bounds.tolist(), self.items]
        for part, (first, last) in enumerate(zip(edges, edges[1:], strict=False)):
            keys, sums = [self._merged[part][0]], [self._merged[part][1]]
            for key, total in self._merged[: part + 1]:  # i < j: the parts of i are not behind those of j
                right = key % self.items
                here = ((right >= first) & (right < last)).nonzero().squeeze(1)
                keys.append(right[here] * self.items + key[here] // self.items)
                sums.append(total[here])
            key, order = torch.sort(torch.cat(keys))
            yield key // self.items, key % self.items, torch.cat(sums)[order]

    def _merge(self) -> None:
        key, order = torch.sort(self._keys[: self._waiting], stable=True)
        value = self._values[order]
        self._waiting = 0
        ends = torch.searchsorted(key, self.bounds * self.items).tolist()
        for part, (begin, end) in enumerate(zip([0, *ends], [*ends, len(key)], strict=True)):
            if begin < end:
                had, sums = self._merged[part]
                keys, order = torch.sort(torch.cat([had, key[begin:end]]), stable=True)
                self._merged[part] = _summed(keys, torch.cat([sums, value[begin:end]])[order])


def _summed(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct keys of ascending ones, and the sum of each one's values."""
    key, inverse = torch.unique_consecutive(key, return_inverse=True)
    return key, torch.zeros(len(key), dtype=torch.float64).scatter_add_(0, inverse, value)
