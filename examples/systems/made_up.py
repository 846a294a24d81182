"""Items that a system makes up and puts before a row: none twice in a row, kept in a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import seqaug as sa
from recsys.folder import write_atomic
from recsys.results import read_tensors

ROWS_AT_ONCE = 512


def best_new(scores: Tensor, taken: Tensor) -> Tensor:
    """The best item of each row that is not taken yet.

    Args:
        scores: (rows, items) of the items 1..V.
        taken: (rows, any) ids, 0 = none.

    Returns:
        (rows,) ids.
    """
    open_ = torch.nn.functional.pad(scores, (1, 0), value=-math.inf)  # column i is item i, column 0 nobody
    return open_.scatter(1, taken, -math.inf).argmax(1)


@torch.no_grad()
def make_up(
    rows: list[list[int]],
    generate: Callable[[Tensor], Tensor],
    file: Path,
    *,
    shorter_than: int | None = None,
) -> list[list[int]]:
    """Items to put before each row, oldest first; read from ``file`` if they have been made before.

    Args:
        rows: what is known of each user, oldest first.
        generate: (rows, slots) right-padded ids -> (rows, made) ids, oldest first.
        file: where they are kept.
        shorter_than: longer rows get none.

    Returns:
        A list of ids for each row.
    """
    if file.exists():
        return [[item for item in row if item] for row in read_tensors(file)["made"].tolist()]
    chosen = [number for number, row in enumerate(rows) if shorter_than is None or len(row) < shorter_than]
    chosen.sort(key=lambda number: len(rows[number]))  # so that rows of like length are generated together
    made: list[list[int]] = [[] for _ in rows]
    for begin in range(0, len(chosen), ROWS_AT_ONCE):
        numbers = chosen[begin : begin + ROWS_AT_ONCE]
        found = generate(sa.pad_sequences([rows[number] for number in numbers], side="right"))
        for number, items in zip(numbers, found.tolist(), strict=True):
            made[number] = items
    table = sa.pad_sequences(made)
    write_atomic(file, lambda part: save_file({"made": table}, part))
    return made
