"""Rows streamed from parquet: each met once, with its targets, whatever the parts, files, workers and processes."""

import random
import re
import sys

import polars as pl
import pytest
import torch
from torch.utils.data import DataLoader

import large_catalog
import seqaug as sa
from recsys import streaming
from recsys.errors import UsageError
from recsys.streaming import RowStream

DICE = random.Random(0)
ROWS = [[DICE.randint(1, 50) for _ in range(DICE.randint(0, 12))] for _ in range(1000)]
TRAINED = [number for number, row in enumerate(ROWS) if len(row) > 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows")
    for name, some in (("a", ROWS[:617]), ("b", ROWS[617:618]), ("c", ROWS[618:])):
        frame = pl.DataFrame(
            {"user": range(len(some)), "items": some}, schema_overrides={"items": pl.List(pl.Int32)}
        )
        frame.write_parquet(path / f"{name}.parquet", row_group_size=64)
    return path


def check(batches, length):
    """Every row with a target once, left-padded, aligned with its targets; the numbers of the rows."""
    numbers = []
    for batch in batches:
        for number, items, target in zip(batch.rows.tolist(), batch.items, batch.target, strict=True):
            if not target.any():  # of a process that came away empty-handed
                continue
            row = ROWS[number][:-2]
            assert items[items > 0].tolist() == row[:-1][-length:]
            assert target[target > 0].tolist() == row[1:][-length:]
            assert torch.equal(items > 0, target > 0) and (items[-1] > 0)
            numbers.append(number)
    return numbers


@pytest.mark.parametrize("rows_at_once", [1, 37, 100, 5000])
@pytest.mark.parametrize("length", [4, 30])
def test_every_row_once(folder, rows_at_once, length):
    stream = RowStream(folder, 32, length, rows_at_once=rows_at_once)
    batches = list(stream)
    assert sorted(check(batches, length)) == TRAINED
    sizes = [len(batch.rows) for batch in batches]
    assert sum(size < 32 for size in sizes) <= 1  # what is left over waits for the next part


def test_no_more_than_a_part_is_read(folder, monkeypatch):
    read = RowStream.read
    seen = []

    def watched(self, part):
        rows = read(self, part)
        seen.append(len(rows.number))
        return rows

    monkeypatch.setattr(RowStream, "read", watched)
    list(RowStream(folder, 32, 8, rows_at_once=100))
    assert max(seen) == 100 and sum(seen) == 1000


def test_the_seed_decides_the_order(folder):
    one, same, other = (
        [batch.rows.tolist() for batch in RowStream(folder, 32, 8, seed, rows_at_once=100)]
        for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one[0] != sorted(one[0])


def test_processes_share_the_batches_of_one(folder):
    alone = list(RowStream(folder, 32, 8, rows_at_once=100))
    shares = [list(RowStream(folder, 32, 8, rows_at_once=100, rank=rank, world=3)) for rank in range(3)]
    assert sorted(number for batches in shares for number in check(batches, 8)) == TRAINED
    for number, batch in enumerate(alone):
        assert all(torch.equal(batches[number].all_items, batch.items) for batches in shares)


def test_workers_share_the_parts(folder):
    options = {"batch_size": None, "num_workers": 2}
    stream = RowStream(folder, 32, 8, rows_at_once=100)
    spawned = DataLoader(stream, multiprocessing_context="spawn", **options)
    assert sorted(check(spawned, 8)) == TRAINED
    with pytest.raises(UsageError, match='multiprocessing_context="spawn"'):
        list(DataLoader(stream, multiprocessing_context="fork", **options))


def test_similarity_of_the_stream_is_that_in_memory(folder):
    stream = RowStream(folder, 32, 8, rows_at_once=100)
    found = sa.ItemSimilarity.from_batches(lambda: stream.histories(64), 50, k=5, pairs_at_once=300)
    wanted = sa.ItemSimilarity.from_sequences([row[:-2] for row in ROWS], 50, k=5)
    assert torch.equal(found.neighbours, wanted.neighbours) and torch.equal(found.scores, wanted.scores)


def test_what_is_no_such_file(tmp_path):
    def stream():
        return RowStream(tmp_path, 8, 8)

    with pytest.raises(UsageError, match="none with rows"):
        stream().parts()
    file = tmp_path / "rows.parquet"
    file.write_text("user,item\n")
    with pytest.raises(UsageError, match="expected a parquet file"):
        stream().parts()
    pl.DataFrame({"items": ["1 2 3"]}).write_parquet(file)
    with pytest.raises(UsageError, match="column `items` of lists"):
        list(stream())
    pl.DataFrame({"items": [[1, None, 2, 3]]}).write_parquet(file)
    with pytest.raises(UsageError, match="nothing in one of its places"):
        list(stream())


@pytest.mark.parametrize("loss", ["sampled", "sce"])
def test_the_example_learns(loss, tmp_path, capsys, monkeypatch):
    words = f"--make 400 --items 500 --data {tmp_path / 'rows'} --loss {loss} --negatives 32 --dim 16 --steps 201 --lr 0.01"
    monkeypatch.setattr(sys, "argv", ["large_catalog.py", *words.split()])
    assert large_catalog.main() == 0
    said = capsys.readouterr().out
    losses = [float(found) for found in re.findall(r"loss ([\d.]+)", said)]
    assert len(losses) == 3 and losses[-1] < losses[0] - 0.3
    assert float(re.findall(r"HR@10 ([\d.]+)", said)[0]) > 3 * 10 / 500


def test_rows_keep_their_order():
    rows = streaming.Rows(torch.arange(3), torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([3, 1, 2]))
    taken = rows.take(torch.tensor([2, 0]))
    assert taken.values.tolist() == [5, 6, 1, 2, 3] and taken.lengths.tolist() == [2, 3]
    assert rows.without_newest(1).values.tolist() == [1, 2, 5]
    assert rows.padded(2).tolist() == [[2, 3], [0, 4], [5, 6]]
