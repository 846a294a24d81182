"""What each operator may do to one row and how likely that is, in plain Python, straight from its definition.

An outcome is the new row, oldest item first: a tuple of (number of the item in the old row, what became of it), where
the second is KEPT or NEW. An item that another was put before appears twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import combinations, permutations, product

import torch
from catalogue import Batch

import seqaug as sa

KEPT, NEW = "kept", "new"
Outcome = tuple[tuple[int, str], ...]


def floor32(rate: float, n: int) -> int:
    """floor(rate * n) in float32, in which rates are drawn."""
    return math.floor(float(torch.tensor(rate, dtype=torch.float32) * n))


def at_least_one(rate: float, n: int) -> int:
    return max(1, floor32(rate, n))


def kept(numbers: Iterable[int]) -> Outcome:
    return tuple((number, KEPT) for number in numbers)


def replaced(n: int, chosen: Iterable[int]) -> Outcome:
    chosen = set(chosen)
    return tuple((number, NEW if number in chosen else KEPT) for number in range(n))


def inserted(n: int, chosen: Iterable[int], slots: int) -> Outcome:
    row: list[tuple[int, str]] = []
    for number in range(n):
        row += [(number, NEW)] * (number in chosen) + [(number, KEPT)]
    return tuple(row[-slots:])


def shuffled(n: int, begins: Sequence[int], width: int) -> Counter[Outcome]:
    found: Counter[Outcome] = Counter()
    for begin in begins:
        for window in permutations(range(begin, begin + width)):
            found[kept([*range(begin), *window, *range(begin + width, n)])] += 1
    return found


def swapped(n: int, rate: float) -> Counter[Outcome]:
    found: dict[Outcome, float] = {}
    for pairs in product([False, True], repeat=n - 1):
        row = list(range(n))
        for first in [*range(0, n - 1, 2), *range(1, n - 1, 2)]:
            if pairs[first]:
                row[first], row[first + 1] = row[first + 1], row[first]
        chance = rate ** sum(pairs) * (1 - rate) ** (n - 1 - sum(pairs))
        if chance > 0:
            found[kept(row)] = found.get(kept(row), 0) + chance
    return Counter(found)  # type: ignore[arg-type]


def even_windows(times: Sequence[int], width: int) -> list[int]:
    """Where the windows with the least variance of gaps begin."""
    variances = {}
    for begin in range(len(times) - width + 1):
        window = times[begin : begin + width]
        gaps = [Fraction(abs(b - a)) for a, b in zip(window, window[1:], strict=False)]
        mean = sum(gaps) / max(1, len(gaps))
        variances[begin] = sum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps))
    return [begin for begin, variance in variances.items() if variance == min(variances.values())]


def by_gap(times: Sequence[int], count: int, gaps: str) -> list[set[int]]:
    """The sets of `count` items with the largest or smallest gaps before them: several where gaps are equal."""
    sign = -1 if gaps == "largest" else 1
    keys: list[float] = [math.inf] + [sign * abs(b - a) for a, b in zip(times, times[1:], strict=False)]
    border = sorted(keys)[count - 1]
    sure = {number for number, key in enumerate(keys) if key < border}
    tied = [number for number, key in enumerate(keys) if key == border]
    return [sure | set(some) for some in combinations(tied, count - len(sure))]


def outcomes(operator: sa.Operator, rate: float, times: Sequence[int], slots: int) -> Counter[Outcome]:
    """Every outcome for a row with these times, with weights that are in the ratio of the probabilities."""
    n = len(times)
    if n == 0:
        return Counter([()])
    k = at_least_one(rate, n)
    match operator:
        case sa.TimeMask() | sa.TimeSubstitute():
            return Counter(replaced(n, some) for some in by_gap(times, k, operator.gaps))
        case sa.TimeInsert():
            return Counter(inserted(n, some, slots) for some in by_gap(times, k, operator.gaps))
        case sa.TimeCrop():
            return Counter(kept(range(begin, begin + k)) for begin in even_windows(times, k))
        case sa.TimeReorder():
            width = floor32(rate, n)
            return shuffled(n, even_windows(times, width), width)
        case sa.Crop():
            return Counter(kept(range(begin, begin + k)) for begin in range(n - k + 1))
        case sa.Mask() | sa.Substitute():
            return Counter(replaced(n, some) for some in combinations(range(n), k))
        case sa.Reorder():
            width = floor32(rate, n)
            return shuffled(n, range(n - width + 1), width)
        case sa.Swap():
            return swapped(n, float(torch.tensor(rate, dtype=torch.float32)))
        case sa.Insert():
            return Counter(inserted(n, some, slots) for some in combinations(range(n), k))
        case sa.Delete():
            return Counter(kept(some) for some in combinations(range(n), n - min(k, n - 1)))
        case sa.RepeatPad():
            room = slots // n
            return Counter(kept([*range(n)] * min(1 + further, room)) for further in range(1, room + 1))
    raise LookupError(f"no reference for {operator!r}: write one")


def candidates(operator: sa.Operator, batch: Batch, row: int, number: int) -> Counter[int]:
    """The ids that may come in place of or before an item, with weights that are in the ratio of the probabilities."""
    if isinstance(operator, sa.Mask):
        return Counter([operator.mask_id])
    assert isinstance(operator, sa.Substitute | sa.Insert)
    choice = operator.neighbours
    items = [int(batch.items[row, slot]) for slot in batch.slots(row)]
    taken = set(items) if choice.exclude_row else set()
    known = batch.layout.similarity()
    pairs = zip(known.neighbours[items[number]].tolist(), known.scores[items[number]].tolist(), strict=True)
    similar: Counter[int] = Counter()
    for item, score in [(item, score) for item, score in pairs if item not in (0, *taken)][: choice.top]:
        similar[item] += 1 if choice.temperature is None else math.exp(score / choice.temperature)  # type: ignore[assignment]
    strangers = Counter(i for i in batch.layout.ids if i not in taken)
    return similar or strangers or Counter(batch.layout.ids)


def observed(edit: sa.Edit, batch: Batch, row: int) -> tuple[Outcome, list[int]]:
    """The outcome of a row, and the new ids in it."""
    numbers = {slot: number for number, slot in enumerate(batch.slots(row))}
    pairs = [
        (numbers[source], new)
        for source, new in zip(edit.source[row].tolist(), edit.replaced[row].tolist(), strict=True)
        if source >= 0
    ]
    outcome = tuple((number, KEPT if new == -1 else NEW) for number, new in pairs)
    return outcome, [new for _, new in pairs if new != -1]
