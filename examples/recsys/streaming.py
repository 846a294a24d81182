"""Training batches out of parquet files that are never in memory as a whole.

A file, or a folder of them, with one row per user: a list column ``items`` of ids 1..V, oldest first. Parts of the
files are read one after the other in random order, shuffled, sorted by length and cut into batches, so that only a
part and the rows left over from the last one are held.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

import seqaug as sa
from recsys.batches import Batch, share
from recsys.errors import UsageError

if TYPE_CHECKING:
    import polars as pl


class Part(NamedTuple):
    """Rows of a file that are read together."""

    file: Path
    first: int  # row of the file
    rows: int
    before: int  # rows of the parts before this one


class Rows(NamedTuple):
    """Rows in memory, without padding."""

    number: Tensor  # (rows,) among all rows
    values: Tensor  # (items,) ids, row after row
    lengths: Tensor  # (rows,)

    def take(self, which: Tensor) -> Rows:
        """Some of the rows, in a given order."""
        lengths = self.lengths[which]
        begin = (self.lengths.cumsum(0) - self.lengths)[which]
        return Rows(
            self.number[which], self.values[begin.repeat_interleave(lengths) + places(lengths)], lengths
        )

    def without_newest(self, count: int) -> Rows:
        """The rows but for their newest items."""
        lengths = (self.lengths - count).clamp(min=0)
        kept = places(self.lengths) < lengths.repeat_interleave(self.lengths)
        return Rows(self.number, self.values[kept], lengths)

    def padded(self, length: int | None = None) -> Tensor:
        """(rows, slots) left-padded ids, the newest where there are too many."""
        longest = int(self.lengths.max()) if len(self.lengths) else 1
        slots = max(1, min(longest, length or longest))
        return sa.pack(self.values, lengths=self.lengths, length=slots).pad()


def places(lengths: Tensor) -> Tensor:
    """(items,) the place of every item in its row, from 0."""
    return torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)


def joined(one: Rows, other: Rows) -> Rows:
    return Rows(*(torch.cat(pair) for pair in zip(one, other, strict=True)))


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """What polars says of a file becomes one line that names it."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file}: expected a parquet file of rows of ids, got {reason}") from None


@dataclass
class RowStream(IterableDataset[Batch]):
    """Batches of one epoch, the same for the same ``seed``; for a DataLoader with ``batch_size=None`` or by itself.

    Every row with a target is met once. Workers of a DataLoader (``multiprocessing_context="spawn"``) share the parts; processes share each batch, so that
    the batches are those of one process.

    Args:
        source: a parquet file or a folder of them.
        batch_size: rows of a batch, over all processes.
        length: slots at most.
        seed: of the order.
        held: newest items of a row that training does not see.
        rows_at_once: rows of a part.
        rank, world: which of how many processes this is.
        num_items: V, if ids above it are to be refused.
    """

    source: Path
    batch_size: int
    length: int
    seed: int = 0
    held: int = 2
    rows_at_once: int = 1 << 16
    rank: int = 0
    world: int = 1
    num_items: int | None = None

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "length": 1, "rows_at_once": 1, "held": 0, "world": 1}
        for name, count in least.items():
            if getattr(self, name) < count:
                raise UsageError(f"expected {name} of at least {count}, got {name}={getattr(self, name)}")
        if not 0 <= self.rank < self.world:
            raise UsageError(f"expected 0 <= rank < world, got rank={self.rank}, world={self.world}")

    def parts(self) -> list[Part]:
        """What is read together, in the order of the files."""
        import polars as pl

        files = sorted(self.source.glob("*.parquet")) if self.source.is_dir() else [self.source]
        found: list[Part] = []
        before = 0
        for file in files:
            with reading(file):
                rows = pl.scan_parquet(file).select(pl.len()).collect().item()
            for first in range(0, rows, self.rows_at_once):
                some = min(self.rows_at_once, rows - first)
                found.append(Part(file, first, some, before + first))
            before += rows
        if not found:
            raise UsageError(
                f"expected {self.source} to be a parquet file or a folder of them, got none with rows"
            )
        return found

    def read(self, part: Part) -> Rows:
        """The rows of a part; of the file no more than its row groups are read."""
        import polars as pl

        frame = pl.scan_parquet(part.file).slice(part.first, part.rows)
        with reading(part.file):
            column = frame.collect_schema().get("items")
        if not isinstance(column, pl.List | pl.Array) or not column.inner.is_integer():
            raise UsageError(
                f"{part.file}: expected a column `items` of lists of whole numbers, got {column}"
            )
        with reading(part.file):
            items = frame.select(pl.col("items").cast(pl.List(pl.Int64))).collect()["items"]
        self.check(part, items)
        lengths = torch.from_numpy(items.list.len().cast(pl.Int64).to_numpy().copy())
        values = items.list.explode().drop_nulls().to_numpy()  # an empty list leaves a null behind
        number = torch.arange(part.before, part.before + part.rows)
        return Rows(number, torch.from_numpy(values.copy()), lengths)

    def check(self, part: Part, items: pl.Series) -> None:
        """Raise an error that names the first row with anything but ids in it."""
        lists = items.list
        odd = items.is_null() | (lists.drop_nulls().list.len() < lists.len()) | (lists.min() < 1)
        if self.num_items is not None:
            odd |= lists.max() > self.num_items
        found = odd.fill_null(False).arg_true()  # an empty list has no least id
        if len(found):
            row = int(found[0])
            ids = "1, 2, ..." if self.num_items is None else f"1..{self.num_items}"
            got = None if items[row] is None else items[row].to_list()
            raise UsageError(
                f"{part.file}: row {part.first + row + 1}: expected a list of ids {ids} (0 is padding), got {got}"
            )

    def histories(self, rows_at_once: int = 8192) -> Iterator[Tensor]:
        """What training sees as padded batches (rows, slots), in the order of the files: for counting."""
        for part in self.parts():
            rows = self.read(part).without_newest(self.held)
            for some in torch.arange(part.rows).split(rows_at_once):
                yield rows.take(some).padded()

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None and type(multiprocessing.current_process()).__name__ == "ForkProcess":
            raise UsageError(
                "expected workers that are spawned, got forked ones, in which polars waits for ever: "
                'use DataLoader(..., multiprocessing_context="spawn")'
            )
        generator = torch.Generator().manual_seed(self.seed)
        parts = self.parts()
        order = torch.randperm(len(parts), generator=generator).tolist()
        if worker is not None:
            order = order[worker.id :: worker.num_workers]
        met = 0
        left = Rows(*(torch.zeros(0, dtype=torch.int64) for _ in range(3)))
        for place, number in enumerate(order):
            rows = self.read(parts[number]).without_newest(self.held)
            rows = joined(left, rows.take((rows.lengths > 1).nonzero().squeeze(1)))
            chosen = torch.randperm(len(rows.number), generator=generator)
            last = place == len(order) - 1
            whole = len(chosen) if last else len(chosen) // self.batch_size * self.batch_size
            left = rows.take(chosen[whole:])
            now = chosen[:whole]
            now = now[torch.argsort(rows.lengths[now], stable=True)]
            batches = now.split(self.batch_size) if whole else ()
            for which in torch.randperm(len(batches), generator=generator).tolist():
                batch = self.batch(rows.take(batches[which]))
                yield share(batch, self.rank, self.world)
            met += len(now)
        if not met and worker is None:  # a worker may have parts without any
            raise UsageError(
                f"expected a row of at least {self.held + 2} items to train on, got none in {self.source}"
            )

    def batch(self, rows: Rows) -> Batch:
        """Inputs and the item after each."""
        both = rows.padded(self.length + 1)
        return Batch(rows.number, both[:, :-1], both[:, 1:].where(both[:, :-1] > 0, 0))
