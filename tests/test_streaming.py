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
    with pytest.raises(
        UsageError, match=r"rows.parquet: row 1: expected a list of ids .* got \[1, None, 2, 3\]"
    ):
        list(stream())


ODD = [
    (pl.List(pl.Int64), [[1, 2, 3, 4], None], "row 2: expected a list of ids 1..9 .* got None"),
    (pl.List(pl.Int64), [[1, 2, 3, 4], [], [1, 0, 3, 4]], r"row 3: .* got \[1, 0, 3, 4\]"),
    (pl.List(pl.Int8), [[1, 2, -3, 4]], r"row 1: .* got \[1, 2, -3, 4\]"),
    (pl.List(pl.UInt16), [[1, 2, 3, 4], [1, 2, 10, 4]], r"row 2: .* got \[1, 2, 10, 4\]"),
    (pl.List(pl.UInt64), [[1, 2, 3, 2**63]], "rows of ids, got conversion"),
    (pl.Array(pl.Int32, 4), [[1, 2, 3, 4], [1, 2, None, 4]], r"row 2: .* got \[1, 2, None, 4\]"),
    (pl.List(pl.Float64), [[1.0, 2.0, 3.0, 4.0]], "column `items` of lists of whole numbers"),
    (pl.List(pl.Int64), [[1, 2], [3], [], [1, 2, 3]], "expected a row of at least 4 items to train on, got none"),
]  # fmt: skip


@pytest.mark.parametrize("rows_at_once", [1, 100])
@pytest.mark.parametrize(("dtype", "rows", "said"), ODD)
def test_odd_rows_are_one_line(dtype, rows, said, rows_at_once, tmp_path):
    file = tmp_path / "rows.parquet"
    pl.DataFrame({"items": rows}, schema={"items": dtype}).write_parquet(file)
    with pytest.raises(UsageError, match=said) as error:
        list(RowStream(file, 8, 8, num_items=9, rows_at_once=rows_at_once))
    assert str(file) in str(error.value)


def test_lists_of_one_length(tmp_path):
    file = tmp_path / "rows.parquet"
    rows = [[1, 2, 3, 4], [4, 3, 2, 1]]
    pl.DataFrame({"items": rows}, schema={"items": pl.Array(pl.Int32, 4)}).write_parquet(file)
    (batch,) = RowStream(file, 8, 8)
    assert sorted(batch.items.tolist()) == [[1], [4]] and sorted(batch.target.tolist()) == [[2], [3]]


def test_damaged_pages_are_one_line(tmp_path):
    file = tmp_path / "rows.parquet"
    pl.DataFrame({"items": [list(range(1, 50))] * 3000}).write_parquet(file)
    content = bytearray(file.read_bytes())
    content[60:64] = b"junk"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="rows.parquet: expected a parquet file of rows of ids"):
        list(RowStream(file, 8, 8))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0}, {"length": 0}, {"rows_at_once": 0}, {"held": -1}, {"world": 0}, {"rank": 3, "world": 2},
        {"rank": -1},
    ],
)  # fmt: skip
def test_streams_that_cannot_be(options, tmp_path):
    name, value = next(iter(options.items()))
    with pytest.raises(UsageError, match=f"expected .*got {name}={value}"):
        RowStream(**{"source": tmp_path, "batch_size": 8, "length": 8} | options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--steps 0", "expected --steps of at least 1, got steps=0"),
        ("--items 0", "expected --items of at least 1, got items=0"),
        ("--dim 7", "expected --dim divisible by 2, the heads of the encoder, got dim=7"),
        ("--make 5", "expected --data to be a new folder with --make"),
        ("--make 0", "expected --make of at least 1, got make=0"),
        ("--lr nan", "expected --lr above 0 and finite, got lr=nan"),
        ("--batch-size 0", "expected --batch-size of at least 1, got batch_size=0"),
        ("--length 0", "expected --length of at least 1, got length=0"),
        ("--negatives 0", "expected --negatives of at least 1, got negatives=0"),
        ("", "expected a row of at least 4 items to train on"),
        ("--data nowhere", "nowhere: expected a parquet file"),
    ],
)
def test_the_example_refuses_in_one_line(words, said, tmp_path, capsys, monkeypatch):
    pl.DataFrame({"items": [[1, 2], [3], [1, 2, 3]]}).write_parquet(tmp_path / "rows.parquet")
    command = f"large_catalog.py --items 3 --data {tmp_path} {words}".split()
    monkeypatch.setattr(sys, "argv", command)
    assert large_catalog.main() == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and stderr.startswith("error: ") and stderr.count("\n") == 1 and said in stderr


def test_the_example_tests_rows_that_have_a_target(tmp_path, capsys, monkeypatch):
    rows = [[], [3], *([[1, 2, 3, 4, 5]] * 4)]
    pl.DataFrame({"items": rows}).write_parquet(tmp_path / "rows.parquet")
    command = f"large_catalog.py --items 5 --data {tmp_path} --steps 1 --dim 4 --negatives 2"
    monkeypatch.setattr(sys, "argv", command.split())
    assert large_catalog.main() == 0
    assert "HR@10 1.0000" in capsys.readouterr().out


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
