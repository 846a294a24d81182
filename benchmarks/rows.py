"""The same operators one row at a time, on Python lists: what the field's implementations do. The baselines of operators.py.

There are two. *As published* does around the operator what the code of CoSeRec and TiCoSeRec does (src/data_augmentation.py,
src/models.py and src/datasets.py of each): it copies each row deeply, finds the nearest items by sorting all that an item is
similar to by their scores each time it is asked, and makes one tensor of each row, to be stacked. *Lean* is what is left when none of
this is done: no copy but the operator's own, neighbours in a list, one tensor of all rows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

Row = list[int]
Times = list[float]


def changed(rate: float, row: Row) -> int:
    return max(1, math.floor(rate * len(row)))


def gaps(times: Times) -> Times:
    return [later - earlier for earlier, later in zip(times, times[1:], strict=False)]


def variance(values: Times) -> float:
    mean = sum(values) / max(1, len(values))
    return sum((value - mean) ** 2 for value in values) / max(1, len(values))


def most_even(times: Times, width: int) -> int:
    """Where the window begins whose gaps have the least variance."""
    between = gaps(times)
    return min(
        range(len(times) - width + 1),
        key=lambda begin: variance(between[begin : begin + max(0, width - 1)]),
    )


def by_gap(times: Times, count: int, *, largest: bool) -> list[int]:
    """The items with the largest or smallest gaps before them; the first, which has none, comes last."""
    order = sorted(range(1, len(times)), key=lambda n: times[n] - times[n - 1], reverse=largest)
    return (order + [0])[:count]


def keep_window(row: Row, start: int, kept: int) -> Row:
    return row[start : start + kept]


def shuffle_window(row: Row, start: int, width: int) -> Row:
    window = row[start : start + width]
    random.shuffle(window)
    return row[:start] + window + row[start + width :]


def put(row: Row, places: list[int], new: Callable[[int], int]) -> Row:
    row = list(row)
    for place in places:
        row[place] = new(row[place])
    return row


def put_before(row: Row, places: list[int], new: Callable[[int], int]) -> Row:
    before, grown = set(places), []
    for place, item in enumerate(row):
        if place in before:
            grown.append(new(item))
        grown.append(item)
    return grown


def sorted_each_time(similar: list[list[int]]) -> Callable[[int], list[int]]:
    """The nearest items of an item, nearest first, sorted by their scores whenever they are asked for."""
    scores = [{near: 1.0 - place / len(row) for place, near in enumerate(row)} for row in similar]

    def look_up(item: int) -> list[int]:
        return [near for near, _ in sorted(scores[item].items(), key=lambda pair: pair[1], reverse=True)]

    return look_up


class Rows:
    """The operators by name, each (row, its times, rate) -> row.

    Args:
        mask_id: of Mask.
        look_up: the nearest items of an item, nearest first.
        slots: length that RepeatPad fills.
    """

    def __init__(self, mask_id: int, look_up: Callable[[int], list[int]], slots: int) -> None:
        def nearest(item: int) -> int:
            return look_up(item)[0]

        def any_near(item: int) -> int:
            return random.choice(look_up(item))

        def masked(item: int) -> int:
            return mask_id

        def some(row: Row, rate: float) -> list[int]:
            return random.sample(range(len(row)), changed(rate, row))

        def crop(row: Row, times: Times, rate: float) -> Row:
            kept = changed(rate, row)
            return keep_window(row, random.randint(0, len(row) - kept), kept)

        def reorder(row: Row, times: Times, rate: float) -> Row:
            width = math.floor(rate * len(row))
            return shuffle_window(row, random.randint(0, len(row) - width), width)

        def delete(row: Row, times: Times, rate: float) -> Row:
            gone = set(random.sample(range(len(row)), min(changed(rate, row), len(row) - 1)))
            return [item for place, item in enumerate(row) if place not in gone]

        def swap(row: Row, times: Times, rate: float) -> Row:
            row = list(row)
            for first in [*range(0, len(row) - 1, 2), *range(1, len(row) - 1, 2)]:
                if random.random() < rate:
                    row[first], row[first + 1] = row[first + 1], row[first]
            return row

        def strangers(row: Row, times: Times, rate: float) -> Row:
            taken = set(row)

            def new(item: int) -> int:
                return next((near for near in look_up(item) if near not in taken), 0) or random.randint(
                    1, mask_id - 1
                )

            return put(row, some(row, rate), new)

        def repeat(row: Row, times: Times, rate: float) -> Row:
            room = slots // len(row)
            return row * min(1 + random.randint(1, room), room)

        def time_crop(row: Row, times: Times, rate: float) -> Row:
            kept = changed(rate, row)
            return keep_window(row, most_even(times, kept), kept)

        def time_reorder(row: Row, times: Times, rate: float) -> Row:
            width = math.floor(rate * len(row))
            return shuffle_window(row, most_even(times, width), width)

        self.operators: dict[str, Callable[[Row, Times, float], Row]] = {
            "Crop": crop,
            "Mask": lambda row, times, rate: put(row, some(row, rate), masked),
            "Reorder": reorder,
            "Substitute": lambda row, times, rate: put(row, some(row, rate), nearest),
            "Substitute top 10": lambda row, times, rate: put(row, some(row, rate), any_near),
            "Substitute exclude_row": strangers,
            "Insert": lambda row, times, rate: put_before(row, some(row, rate), nearest),
            "Delete": delete,
            "Swap": swap,
            "TimeCrop": time_crop,
            "TimeMask": lambda row, times, rate: put(
                row, by_gap(times, changed(rate, row), largest=True), masked
            ),
            "TimeReorder": time_reorder,
            "TimeSubstitute": lambda row, times, rate: put(
                row, by_gap(times, changed(rate, row), largest=False), nearest
            ),
            "TimeInsert": lambda row, times, rate: put_before(
                row, by_gap(times, changed(rate, row), largest=True), nearest
            ),
            "RepeatPad": repeat,
        }

    def augment(
        self, names: list[str], rows: Iterable[Row], times: list[Times], slots: int, low: float, high: float
    ) -> Iterator[Row]:
        """Draw an operator and a rate for each row, apply it, pad on the left."""
        operators = [self.operators[name] for name in names]
        for row, when in zip(rows, times, strict=True):
            new = random.choice(operators)(row, when, random.uniform(low, high))[-slots:]
            yield [0] * (slots - len(new)) + new


def stacked(rows: Iterable[Row]) -> Tensor:
    """A tensor of each row, and these stacked, as a data loader does."""
    return torch.stack([torch.tensor(row, dtype=torch.long) for row in rows])
