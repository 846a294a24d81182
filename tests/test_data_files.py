"""Reading data: the two file formats, the generated shop, and what is said about bad input."""

import gzip
import time
from collections import Counter

import polars as pl
import pytest

from recsys.datasets import Dataset, read_sequences
from recsys.errors import UsageError
from recsys.interactions import read_interactions
from recsys.shop import generate
from recsys.sources import data_name, load


def text(tmp_path, content, name="data.txt"):
    path = tmp_path / name
    path.write_text(content)
    return path


def test_sequences(tmp_path):
    data = read_sequences(text(tmp_path, "anna 1 2 3 4\n\nbob 3 2 7 1 5\n"), "two")
    assert (data.rows, data.num_items, data.users) == ([[1, 2, 3, 4], [3, 2, 7, 1, 5]], 7, ["anna", "bob"])
    assert "2 users, 7 items, 9 interactions" in data.statistics()


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("a 1 2 3 4\nb 1 x 3\n", 2, "'x'"),
        ("a 1 2 3 4\nb 1 2\n", 2, "at least 3"),
        ("a 1 2 3 4\n\nb 1 0 2 3\n", 3, "got 0"),
        ("a 1 2 3 4\na 1 2 3 4\n", 2, "user='a' again"),
        ("a 1 2 3 4\nb 1 2 3 99999\n", 2, "99999"),
        ("a 1 2 3.5 4\n", 1, "'3.5'"),
    ],
)
def test_malformed_sequences_name_file_and_line(tmp_path, content, line, said):
    path = text(tmp_path, content)
    with pytest.raises(UsageError) as error:
        read_sequences(path, "bad")
    assert str(error.value).startswith(f"{path}:{line}: ") and said in str(error.value)


def test_empty_files(tmp_path):
    with pytest.raises(UsageError, match="empty data set"):
        read_sequences(text(tmp_path, "\n\n"), "empty")
    with pytest.raises(UsageError, match="empty file"):
        read_interactions(text(tmp_path, "", "a.csv"), "empty")
    with pytest.raises(UsageError, match="empty data set after that filter"):
        read_interactions(text(tmp_path, "user,item,timestamp\n1,1,1\n", "a.csv"), "empty")
    with pytest.raises(UsageError, match="at least 4 items to train on"):
        read_sequences(text(tmp_path, "a 1 2 3\n"), "short")


def test_ids_beyond_the_table():
    with pytest.raises(UsageError, match=r"expected item ids 1\.\.3 in d, got 4"):
        Dataset("d", [[1, 2, 3, 4]], 3, ["a"], ["x", "y", "z"])


HEADERS = [
    ("user,item,timestamp", ","), ("userId,movieId,Timestamp", ","), ("user_id:token\titem_id:token\ttimestamp:float", "\t"),
    ("reviewerID;asin;unixReviewTime", ";"),
]  # fmt: skip


def interactions():
    """Six users with five to seven of seven items, one user and one item that the 5-core drops, times in steps of two."""
    rows = [
        (f"u{user}", f"i{(user + step) % 7}", 100 - step // 2)
        for user in range(6)
        for step in range(5 + user % 3)
    ]
    rows += [("rare", f"i{item}", 50) for item in range(4)]
    rows += [("u0", "odd", 200)]
    return rows


def plain_core(rows):
    while True:
        users, items = Counter(r[0] for r in rows), Counter(r[1] for r in rows)
        kept = [r for r in rows if users[r[0]] >= 5 and items[r[1]] >= 5]
        if kept == rows:
            return rows
        rows = kept


@pytest.mark.parametrize(("header", "separator"), HEADERS)
def test_interactions_from_text(tmp_path, header, separator):
    rows = interactions()
    path = text(tmp_path, "\n".join([header, *(separator.join(map(str, r)) for r in rows)]) + "\n", "t.csv")
    data = read_interactions(path, "t")
    kept = plain_core(rows)
    assert 0 < len(kept) < len(rows)
    expected: dict[str, list[tuple[str, int]]] = {}
    for user, item, when in kept:
        expected.setdefault(user, []).append((item, when))
    assert data.users == list(expected)
    assert len(set(data.items)) == data.num_items == len({r[1] for r in kept})
    for user, row in zip(data.users, data.rows, strict=True):
        # Python's sort is stable: equal times keep the order of the file.
        assert [data.items[item - 1] for item in row] == [
            item for item, _ in sorted(expected[user], key=lambda r: r[1])
        ]


def test_parquet_and_dates_agree_with_csv(tmp_path):
    rows = interactions()
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    dates = frame.with_columns(pl.from_epoch("timestamp", time_unit="d"))
    dates.write_csv(tmp_path / "dates.csv")
    dates.write_parquet(tmp_path / "dates.parquet")
    one, *others = (
        load(str(tmp_path / name)) for name in ("a.csv", "a.parquet", "dates.csv", "dates.parquet")
    )
    assert all(other.rows == one.rows and other.items == one.items for other in others)


def test_nanoseconds_do_not_collapse(tmp_path):
    start = 1_700_000_000_000_000_000
    rows = [f"u{user},i{item},{start + 5 - item}" for user in range(5) for item in range(5)]
    data = read_interactions(text(tmp_path, "\n".join(["user,item,timestamp", *rows]), "t.csv"), "t")
    assert [data.items[item - 1] for item in data.rows[0]] == ["i4", "i3", "i2", "i1", "i0"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("user,item,timestamp\n1,2,3\n1,2,then\n", ":3: expected a user, an item and a time"),
        ("user,item,timestamp\n1,2,3\n\n1,,4\n", ":4: expected a user, an item and a time"),
        ("user,item,timestamp\n1,2,3\n1,2\n", ":3: expected a user, an item and a time"),
        ("user,item,timestamp\n1,2,3\n1,2,3,4\n", ":3: expected 3 fields, got 4"),
        ("user,thing,timestamp\n1,2,3\n", ": expected a item column"),
        ("user,item\n1,2\n", ": expected a timestamp column"),
    ],
)
def test_malformed_tables_name_file_and_line(tmp_path, content, said):
    path = text(tmp_path, content, "bad.csv")
    with pytest.raises(UsageError) as error:
        read_interactions(path, "bad")
    assert str(error.value).startswith(f"{path}{said}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin1.csv", "user,item,timestamp\nAndré,1,2\nAndrè,1,3\n".encode("latin-1")),
        ("utf16.csv", "\nuser,item,timestamp\n".encode("utf-16")),
        ("packed.csv", b"\n" + gzip.compress(b"user,item,timestamp\n" + b"1,2,3\n" * 100, mtime=0)),
        ("latin1.txt", "Anna 1 2 3 4\nAndré 1 2 3 4\nAndrè 1 2 3 4\n".encode("latin-1")),
    ],
)
def test_what_is_no_utf8_names_file_and_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    line = 1 if name == "utf16.csv" else 2
    with pytest.raises(UsageError, match=f"{name}:{line}: expected UTF-8 text, got the byte 0x"):
        load(str(path))


def test_a_packed_table_is_refused(tmp_path):
    path = tmp_path / "packed.csv"
    path.write_bytes(gzip.compress(b"user,item,timestamp\n" + b"1,2,3\n" * 100))
    with pytest.raises(UsageError, match="expected UTF-8 text, got the byte 0x8b; .* unpack it first"):
        load(str(path))


def test_names_in_any_script(tmp_path):
    rows = [f"{user},i{(place + step) % 6},{step}" for place, user in enumerate(["André", "Andrè", "Ганна", "愛", "ü", "é"]) for step in range(6)]  # fmt: skip
    path = tmp_path / "names.csv"
    path.write_text("\ufeff" + "\n".join(["user,item,timestamp", *rows]) + "\n", encoding="utf-8")
    assert load(str(path)).users == ["André", "Andrè", "Ганна", "愛", "ü", "é"]


@pytest.mark.parametrize("ending", ["\f", "\x85", "\u2028", "\v", "\x1c"])
def test_only_newlines_end_a_line(tmp_path, ending):
    path = tmp_path / "data.txt"
    path.write_bytes(f"a 1 2{ending}3 4\r\nb 1 2 3\rc 1 x 3\n".encode())
    with pytest.raises(UsageError, match="data.txt:3: .* got 'x'"):
        load(str(path))


@pytest.mark.parametrize("time", ["inf", "-inf", "Infinity", "1e999"])
def test_times_without_end_are_refused(tmp_path, time):
    path = text(tmp_path, f"user,item,timestamp\n1,2,3.5\n1,2,{time}\n", "bad.csv")
    with pytest.raises(UsageError, match="bad.csv:3: expected a user, an item and a time"):
        load(str(path))
    frame = pl.DataFrame({"user": [1, 1], "item": [2, 2], "timestamp": [3.5, float(time)]})
    for dtype in (pl.Float64, pl.Float32):
        frame.with_columns(pl.col("timestamp").cast(dtype)).write_parquet(tmp_path / "bad.parquet")
        with pytest.raises(UsageError, match="bad.parquet: row 2: expected a user, an item and a time"):
            load(str(tmp_path / "bad.parquet"))


def test_wrong_dtype_and_no_parquet(tmp_path):
    pl.DataFrame({"user": [1.5], "item": [1], "timestamp": [1]}).write_parquet(tmp_path / "f.parquet")
    with pytest.raises(UsageError, match="column 'user', got dtype Float64"):
        load(str(tmp_path / "f.parquet"))
    with pytest.raises(UsageError, match="expected a parquet file"):
        load(str(text(tmp_path, "user,item,timestamp\n", "g.parquet")))


def test_names():
    assert data_name("/a/b/Sports_and_Outdoors.txt") == data_name("Sports") == "Sports"
    with pytest.raises(
        UsageError,
        match="shop, Beauty, Sports, Yelp, Home, ml-100k or a file, got 'Beuty'; did you mean 'Beauty'",
    ):
        load("Beuty")
    with pytest.raises(UsageError, match="which does not exist"):
        load("nowhere.txt")


def test_the_shop_is_what_it_says():
    shop = generate()
    assert shop.fingerprint() == generate().fingerprint() != generate(seed=1).fingerprint()
    assert shop.fingerprint().startswith("be7e6ce23208964a")  # the same on every machine
    assert min(map(len, shop.rows)) == 5 and all(len(set(row)) == len(row) for row in shop.rows)
    counts = sorted(Counter(item for row in shop.rows for item in row).values(), reverse=True)
    assert sum(counts[:450]) > 2 * sum(counts[-2250:])  # the first tenth sells more than twice the last half
    after = Counter(pair for row in shop.rows for pair in zip(row, row[1:], strict=False))
    assert sum(count for count in after.values() if count > 1) > 4000  # transitions that come again


def test_dates_do_not_depend_on_where_they_are_read(tmp_path, monkeypatch):
    # 02:30 does not exist on this day in Berlin.
    hours = ["01:30", "01:50", "02:30", "03:10", "04:00", "05:00"]
    lines = [
        f"u{user},i{(user + step) % 6},2020-03-29T{hour}"
        for user in range(6)
        for step, hour in enumerate(hours)
    ]
    path = text(tmp_path, "user,item,timestamp\n" + "\n".join(lines) + "\n", "a.csv")
    here = read_interactions(path, "a")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        there = read_interactions(path, "a")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert here.rows == there.rows and here.rows[0] == [1, 2, 3, 4, 5, 6]
    zulu = text(tmp_path, path.read_text().replace("\n", "Z\n").replace("timestampZ", "timestamp"), "z.csv")
    assert read_interactions(zulu, "z").rows == here.rows


def test_empty_lines_and_marks_are_passed_over(tmp_path):
    lines = "\n".join(f"u{user},i{(user + step) % 6},{step}" for user in range(6) for step in range(6))
    plain = read_interactions(text(tmp_path, f"user,item,timestamp\n{lines}\n", "a.csv"), "a")
    broken = lines.replace("u3,i3,0\n", "u3,i3,0\n\n")
    loose = read_interactions(text(tmp_path, f"\n\nuser,item,timestamp\n\n{broken}\n\n\n", "b.csv"), "b")
    assert loose.rows == plain.rows
    bad = text(tmp_path, f"user,item,timestamp\n\n{lines}\nu1,i1,never\n", "c.csv")
    with pytest.raises(UsageError, match=r"c.csv:39: expected a user"):
        read_interactions(bad, "c")
    marked = tmp_path / "d.txt"
    marked.write_bytes(b"\xef\xbb\xbfa 1 2 3 4\nb 1 2 3 4\n")
    assert read_sequences(marked, "d").users == ["a", "b"]


def test_endings_in_capitals(tmp_path):
    frame = pl.DataFrame(
        {"user": [user for user in range(6) for _ in range(6)], "item": [(u + s) % 6 for u in range(6) for s in range(6)],
         "timestamp": [step for _ in range(6) for step in range(6)]}
    )  # fmt: skip
    frame.write_parquet(tmp_path / "A.PARQUET")
    assert len(load(str(tmp_path / "A.PARQUET")).rows) == 6
