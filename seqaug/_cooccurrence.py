"""Items that the same users have, counted over batches of rows that never are in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

Batches = Callable[[], Iterable[Tensor]]
_LEAST_MERGED = 1 << 20  # pairs that wait before they are merged into the sums


def without_repeats(rows: Tensor, num_items: int) -> Tensor:
    """(rows, slots) ids of each row ascending, each once; 0 in front takes the place of repeats."""
    if rows.ndim != 2 or rows.is_floating_point():
        raise ValueError(
            f"batches must be padded ids (rows, slots), got {rows.dtype} of shape {tuple(rows.shape)}"
        )
    ordered = rows.long().sort(dim=1).values
    if ordered.numel() and (int(ordered.min()) < 0 or int(ordered.max()) > num_items):
        came = int(ordered.min()) if int(ordered.min()) < 0 else int(ordered.max())
        raise ValueError(f"ids must be 1..{num_items} (num_items={num_items}) or the pad id 0, got {came}")
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(again, 0).sort(dim=1).values


def count_items(batches: Batches, num_items: int) -> tuple[Tensor, Tensor]:
    """How many users have each item, and at most how many pairs it makes: (V + 2,) int64 each."""
    users = torch.zeros(num_items + 2, dtype=torch.int64)
    pairs = torch.zeros(num_items + 2, dtype=torch.int64)
    for batch in batches():
        rows = without_repeats(batch, num_items)
        real = rows > 0
        size = real.sum(1, keepdim=True).expand_as(rows)[real]
        users += torch.bincount(rows[real], minlength=num_items + 2)
        pairs.scatter_add_(0, rows[real], size)
    return users, pairs.clamp(max=num_items)


def item_blocks(pairs: Tensor, at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges of items first..last - 1 that make at most `at_once` pairs each, or of one item."""
    upto = pairs.cumsum(0)
    first, items = 1, len(pairs) - 2
    while first <= items:
        last = int(torch.searchsorted(upto, upto[first - 1] + at_once, right=True))
        last = min(max(last, first + 1), items + 1)
        yield first, last
        first = last


class PairSums:
    """Sums of numbers by key, in the order in which they come: merged now and then, so that memory is what is distinct."""

    def __init__(self) -> None:
        self.keys = torch.zeros(0, dtype=torch.int64)
        self.sums = torch.zeros(0, dtype=torch.float64)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._size = 0

    def add(self, keys: Tensor, values: Tensor) -> None:
        self._waiting.append((keys, values))
        self._size += len(keys)
        if self._size >= max(_LEAST_MERGED, len(self.keys)):
            self.merge()

    def merge(self) -> None:
        new = torch.cat([keys for keys, _ in self._waiting]) if self._waiting else self.keys[:0]
        keys, inverse = torch.unique(torch.cat([self.keys, new]), return_inverse=True)
        before, after = inverse[: len(self.keys)], inverse[len(self.keys) :]
        sums = torch.zeros(len(keys), dtype=torch.float64)
        sums[before] = self.sums
        if self._waiting:  # one after the other onto what is there: the sums of a single pass, to the bit
            sums.scatter_add_(0, after, torch.cat([values for _, values in self._waiting]))
        self.keys, self.sums = keys, sums
        self._waiting, self._size = [], 0


def block_pairs(
    batches: Batches, num_items: int, first: int, last: int, weigh: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Items i of a block, the items j that share users with them, and the sum of those users' weights; ordered by i, j."""
    found = PairSums()
    for batch in batches():
        rows = without_repeats(batch, num_items)
        mine = (rows >= first) & (rows < last)
        some = mine.any(1)
        rows, mine = rows[some], mine[some]
        size = (rows > 0).sum(1)
        row, slot = mine.nonzero(as_tuple=True)
        left, right = rows[row, slot].unsqueeze(1).expand(-1, rows.shape[1]), rows[row]
        apart = (right > 0) & (right != left)
        value = weigh(size)[row].unsqueeze(1).expand_as(right)
        found.add((left * (num_items + 2) + right)[apart], value[apart])
    found.merge()
    return found.keys // (num_items + 2), found.keys % (num_items + 2), found.sums
