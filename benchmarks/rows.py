"""The same operators one row at a time, on Python lists: what the field's implementations do. The baseline of operators.py."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

Row = list[int]


def crop(row: Row, rate: float, mask_id: int, similar: dict[int, int]) -> Row:
    kept = max(1, math.floor(rate * len(row)))
    start = random.randint(0, len(row) - kept)
    return row[start : start + kept]


def mask(row: Row, rate: float, mask_id: int, similar: dict[int, int]) -> Row:
    row = list(row)
    for place in random.sample(range(len(row)), max(1, math.floor(rate * len(row)))):
        row[place] = mask_id
    return row


def reorder(row: Row, rate: float, mask_id: int, similar: dict[int, int]) -> Row:
    width = math.floor(rate * len(row))
    start = random.randint(0, len(row) - width)
    window = row[start : start + width]
    random.shuffle(window)
    return row[:start] + window + row[start + width :]


def substitute(row: Row, rate: float, mask_id: int, similar: dict[int, int]) -> Row:
    row = list(row)
    for place in random.sample(range(len(row)), max(1, math.floor(rate * len(row)))):
        row[place] = similar[row[place]]
    return row


def insert(row: Row, rate: float, mask_id: int, similar: dict[int, int]) -> Row:
    before = set(random.sample(range(len(row)), max(1, math.floor(rate * len(row)))))
    grown = []
    for place, item in enumerate(row):
        if place in before:
            grown.append(similar[item])
        grown.append(item)
    return grown


def delete(row: Row, rate: float, mask_id: int, similar: dict[int, int]) -> Row:
    removed = min(max(1, math.floor(rate * len(row))), len(row) - 1)
    gone = set(random.sample(range(len(row)), removed))
    return [item for place, item in enumerate(row) if place not in gone]


ROW_OPERATORS = {
    "Crop": crop,
    "Mask": mask,
    "Reorder": reorder,
    "Substitute": substitute,
    "Insert": insert,
    "Delete": delete,
}


def augment_rows(
    names: list[str],
    rows: list[Row],
    slots: int,
    low: float,
    high: float,
    mask_id: int,
    similar: dict[int, int],
) -> Tensor:
    """Draw an operator and a rate for each row, apply it, pad on the left, make one tensor."""
    operators = [ROW_OPERATORS[name] for name in names]
    batch = []
    for row in rows:
        changed = random.choice(operators)(row, random.uniform(low, high), mask_id, similar)[-slots:]
        batch.append([0] * (slots - len(changed)) + changed)
    return torch.tensor(batch)
