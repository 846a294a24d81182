"""A data set of sequences, its leave-one-out split, and the text format it is read from."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recsys.errors import UsageError
from recsys.text import check_utf8

MIN_ITEMS = 3  # one input, the validation target, the test target


@dataclass(frozen=True)
class Dataset:
    """One row of item ids per user, oldest first, ids 1..num_items.

    Leave-one-out: the last item of a row is the test target, the one before it the validation target; training
    sees the rest. ``users`` and ``items`` are the original names: ``users[r]`` of row r, ``items[i - 1]`` of id i.
    ``times`` are those of the items, in any unit, if the source has them. ``made`` counts the items at the beginning of
    each row that some system made up: they are read, but nobody has seen them, and unless ``score_made`` no loss asks
    for them or for what follows the last of them, so that the targets are those of the data set as it was.
    """

    name: str
    rows: list[list[int]]
    num_items: int
    users: list[str]
    items: list[str]
    times: list[list[float]] | None = None
    held: int = 2  # items at the end of a row that training does not see
    made: list[int] | None = None
    score_made: bool = False

    def __post_init__(self) -> None:
        if not self.rows:
            raise UsageError(f"expected at least one user, got the empty data set {self.name}")
        low, high = min(map(min, self.rows)), max(map(max, self.rows))
        if low < 1 or high > self.num_items:
            raise UsageError(
                f"expected item ids 1..{self.num_items} in {self.name}, got {low if low < 1 else high}"
            )
        if max(map(len, self.rows)) <= self.held + 1:
            raise UsageError(
                f"expected a user with at least {self.held + 2} items to train on, got at most {self.held + 1} in {self.name}"
            )

    def training_rows(self) -> list[list[int]]:
        """What training may look at: everything but the validation and test targets."""
        return [row[: -self.held] for row in self.rows]

    def preceded_by(self, made: list[list[int]], *, score_made: bool = False) -> Dataset:
        """The same users with items of their own put before their rows; times are lost."""
        return dataclasses.replace(
            self,
            rows=[before + row for before, row in zip(made, self.rows, strict=True)],
            times=None,
            made=list(map(len, made)),
            score_made=score_made,
        )

    def fingerprint(self) -> str:
        """SHA-256 of the rows, and of the times if there are any."""
        lines = [" ".join(map(str, row)) for row in self.rows]
        lines += [" ".join(map(str, row)) for row in self.times or []]
        text = "\n".join(lines)
        return hashlib.sha256(text.encode()).hexdigest()

    def statistics(self) -> str:
        """Users, items, interactions, density and row lengths, in one line."""
        actions = sum(map(len, self.rows))
        targets = sum(len(row) - 1 for row in self.training_rows())
        return (
            f"{self.name}: {len(self.rows):,} users, {self.num_items:,} items, {actions:,} interactions "
            f"(density {actions / len(self.rows) / self.num_items:.3%}, {actions / len(self.rows):.1f} per user), "
            f"{targets:,} training targets"
        )


@dataclass(frozen=True)
class Held:
    """Held-out targets: histories (users, length) left-padded, targets (users,), everything seen (users, any)."""

    items: Tensor
    target: Tensor
    seen: Tensor


def targets_of(data: Dataset) -> list[int]:
    """How many items of each training row are targets: all that follow another, but for what a system made up."""
    made = data.made if data.made is not None and not data.score_made else [0] * len(data.rows)
    return [max(0, len(row) - 1 - before) for row, before in zip(data.training_rows(), made, strict=True)]


def trainable(data: Dataset) -> list[list[int]]:
    """Training rows with a target at least, in order: what ``Batch.rows`` counts."""
    return [row for row, count in zip(data.training_rows(), targets_of(data), strict=True) if count]


def training_targets(data: Dataset) -> list[int]:
    """Number of targets of each row of :func:`trainable`."""
    return [count for count in targets_of(data) if count]


def training_pairs(data: Dataset, length: int, *, prefixes: bool = False) -> tuple[Tensor, Tensor]:
    """Inputs and next-item targets (rows, length) of every row with at least one target, left-padded.

    With ``prefixes`` every target has a row of its own, whose input is all that came before: targets are (rows, 1).
    """
    import seqaug as sa

    rows = trainable(data)
    if not rows:
        raise UsageError(
            f"expected a user with at least {data.held + 2} items to train on, got none in {data.name}"
        )
    scored = zip(rows, training_targets(data), strict=True)
    if prefixes:
        parts = [(row[:end], row[end]) for row, count in scored for end in range(len(row) - count, len(row))]
        items = sa.pad_sequences([before for before, _ in parts], length=length, side="left")
        target = torch.tensor([[after] for _, after in parts])
    else:
        items = sa.pad_sequences([row[:-1] for row in rows], length=length, side="left")
        target = sa.pad_sequences([row[-count:] for row, count in scored], length=length, side="left")
    sa.check_batch(items, num_items=data.num_items)
    sa.check_batch(target, num_items=data.num_items)
    return items, target


def later_items(data: Dataset, *, prefixes: bool = False) -> Tensor:
    """(rows, held out) the items of each row of :func:`training_pairs` that are held out."""
    held = torch.tensor([row[-data.held :] for row in data.rows])
    parts = torch.tensor(targets_of(data))  # as many rows as targets, or one that has them all
    return held.repeat_interleave(parts if prefixes else parts.clamp(max=1), dim=0)


def training_times(data: Dataset, length: int, *, prefixes: bool = False) -> Tensor | None:
    """When each input of :func:`training_pairs` came (rows, length) float64, 0 in padding; None if nobody knows."""
    if data.times is None:
        return None
    rows = [
        times[: -data.held][:-back]
        for times, count in zip(data.times, targets_of(data), strict=True)
        for back in (range(count, 0, -1) if prefixes else (1,) * bool(count))
    ]
    padded = torch.zeros(len(rows), length, dtype=torch.float64)
    for number, times in enumerate(rows):
        kept = times[-length:]
        padded[number, length - len(kept) :] = torch.tensor(kept, dtype=torch.float64)
    return padded


def held_out(data: Dataset, part: str, length: int) -> Held:
    """The ``"validation"`` or ``"test"`` targets with the histories before them."""
    import seqaug as sa

    back = {"validation": data.held, "test": 1}[part]
    histories = [row[:-back] for row in data.rows]
    seen = [row[before:] for row, before in zip(histories, data.made or [0] * len(histories), strict=True)]
    return Held(
        items=sa.pad_sequences(histories, length=length, side="left"),
        target=torch.tensor([row[-back] for row in data.rows]),
        seen=sa.pad_sequences(seen, side="left"),
    )


def read_sequences(path: Path, name: str) -> Dataset:
    """Read ``user item item ...`` per line, oldest first, item ids 1..V without large gaps."""
    rows: list[list[int]] = []
    users: list[str] = []
    first_line: dict[str, int] = {}
    widest = (0, 0)  # largest id, its line
    check_utf8(path)
    # str.splitlines would also end lines at form feeds and the like, where no editor does.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        user, *words = line.split()
        try:
            row = [int(word) for word in words]
        except ValueError:
            bad = next(word for word in words if not _is_integer(word))
            raise UsageError(
                f"{path}:{number}: expected `user item item ...` with integer items, got {bad!r}"
            ) from None
        if len(row) < MIN_ITEMS:
            raise UsageError(
                f"{path}:{number}: expected at least {MIN_ITEMS} items (input, validation, test), got {len(row)}; "
                "drop the line"
            )
        if min(row) < 1:
            raise UsageError(f"{path}:{number}: expected item ids from 1 (0 is padding), got {min(row)}")
        if user in first_line:
            raise UsageError(
                f"{path}:{number}: expected one line per user, got user={user!r} again (first on line "
                f"{first_line[user]}); join the two lines"
            )
        first_line[user] = number
        widest = max(widest, (max(row), number))
        rows.append(row)
        users.append(user)
    if not rows:
        raise UsageError(f"{path}: expected at least one line `user item item ...`, got an empty data set")
    distinct = len({item for row in rows for item in row})
    if widest[0] > 4 * distinct + 1000:
        raise UsageError(
            f"{path}:{widest[1]}: expected item ids 1..V without large gaps, got {widest[0]} with only {distinct} "
            "different items; number the items again, or give an interactions table (CSV, parquet)"
        )
    return Dataset(name, rows, widest[0], users, [str(item) for item in range(1, widest[0] + 1)])


def _is_integer(word: str) -> bool:
    try:
        int(word)
    except ValueError:
        return False
    return True
