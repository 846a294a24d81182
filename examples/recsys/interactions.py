"""A table of interactions (user, item, timestamp) -> sequences.

Rows are sorted by user and time; **interactions of one user at the same time stay in the order of the file**. Then
users and items with fewer than five interactions are dropped until none is left (5-core), and both are numbered from
1 in the order in which the file first names them.
"""

from __future__ import annotations

import csv
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.datasets import Dataset
from recsys.errors import UsageError
from recsys.text import check_utf8

if TYPE_CHECKING:
    import polars as pl

CORE = 5
PARQUET = (".parquet", ".pq")
NAMES = {
    "user": ("user", "user_id", "userid", "uid", "user_idx", "u", "customer_id", "visitorid", "reviewerid", "session_id"),
    "item": (
        "item", "item_id", "itemid", "iid", "item_idx", "i", "product_id", "movie_id", "movieid", "asin", "parent_asin",
        "business_id", "track_id", "article_id", "sku",
    ),
    "timestamp": (
        "timestamp", "time", "ts", "t", "unixreviewtime", "date", "datetime", "created_at", "event_time", "t_dat",
    ),
}  # fmt: skip


def read_interactions(path: Path, name: str, columns: list[str] | None = None) -> Dataset:
    """Read a CSV (any of , ; tab |) or parquet file; ``columns`` names those of a file without a header."""
    import polars as pl

    if path.suffix.lower() in PARQUET:
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UsageError(f"{path}: expected a parquet file, got {_first_line(error)}") from None
    else:
        frame = _read_text(path, columns)
    found = {role: _column(path, role, frame.columns) for role in NAMES}
    frame = frame.select([pl.col(column).alias(role) for role, column in found.items()])
    for role in ("user", "item"):
        if not (frame[role].dtype.is_integer() or frame[role].dtype in (pl.String, pl.Categorical, pl.Enum)):
            raise UsageError(
                f"{path}: expected whole numbers or text in column {found[role]!r}, got dtype {frame[role].dtype}; cast it"
            )
    kind = frame["timestamp"].dtype
    if not (kind.is_numeric() or kind in (pl.String, pl.Date, pl.Datetime)):
        raise UsageError(
            f"{path}: expected numbers, dates or text in column {found['timestamp']!r}, got dtype {kind}; cast it"
        )
    times = _times(frame["timestamp"])
    bad = (frame["user"].is_null() | frame["item"].is_null() | times.is_null()).arg_true()
    if len(bad):
        raise UsageError(_bad_row(path, frame, int(bad[0]), columns is None))
    return _sequences(path, name, frame.with_columns(times.alias("timestamp")))


def _read_text(path: Path, columns: list[str] | None) -> pl.DataFrame:
    import polars as pl

    check_utf8(path)
    head = _first_full_line(path)
    if not head:
        raise UsageError(f"{path}: expected a header and rows, got an empty file")
    separator = _separator(head)
    try:
        frame = pl.read_csv(
            path, separator=separator, has_header=columns is None, new_columns=columns, infer_schema=False,
        )  # fmt: skip
        return frame.filter(~pl.all_horizontal(pl.all().is_null()))  # empty lines
    except (pl.exceptions.PolarsError, OSError) as error:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            wide = len(next(reader))
            for record in reader:
                if len(record) > wide:
                    raise UsageError(
                        f"{path}:{reader.line_num}: expected {wide} fields, got {len(record)}: {record}"
                    ) from None
        raise UsageError(f"{path}: expected a CSV table, got {_first_line(error)}") from None


def _first_full_line(path: Path) -> str:
    with open(path, encoding="utf-8-sig") as file:
        return next((line for line in file if line.strip()), "")


def _separator(head: str) -> str:
    return max(",\t;|", key=head.count)


def _column(path: Path, role: str, columns: list[str]) -> str:
    """The column of a role; type suffixes as in ``user_id:token`` do not matter."""
    plain = {column.split(":")[0].strip().lower(): column for column in columns}
    for name in NAMES[role]:
        if name in plain:
            return plain[name]
    raise UsageError(
        f"{path}: expected a {role} column named one of {', '.join(NAMES[role])}, got the columns {', '.join(columns)}"
    )


def _times(column: pl.Series) -> pl.Series:
    """Seconds or any other number that grows with time; null where it is none or not finite."""
    import polars as pl

    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).cast(pl.Int64)
    if column.dtype.is_integer():
        return column
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() and column.dtype == pl.String:
        texts = pl.Series([_moment(text) for text in column], dtype=pl.Float64)
        numbers = numbers if texts.null_count() > numbers.null_count() else texts
    elif column.dtype == pl.String:
        whole = column.cast(pl.Int64, strict=False)  # nanoseconds do not fit a float
        if not whole.null_count():
            return whole
    return numbers.set(~numbers.is_finite(), None)


def _moment(text: str | None) -> float | None:
    """Seconds of an ISO date; one that names no zone is UTC, so that the order does not depend on where it is read."""
    text = (text or "").strip()
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _bad_row(path: Path, frame: pl.DataFrame, row: int, header: bool) -> str:
    values = ", ".join(f"{role}={frame[role][row]!r}" for role in NAMES)
    where = f"{path}: row {row + 1}"
    if path.suffix.lower() not in PARQUET:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=_separator(_first_full_line(path)))
            for number, _ in enumerate(record for record in reader if record):
                if number == row + header:
                    where = f"{path}:{reader.line_num}"
                    break
    return f"{where}: expected a user, an item and a time (a number or an ISO date), got {values}"


def _sequences(path: Path, name: str, frame: pl.DataFrame) -> Dataset:
    import polars as pl

    frame = frame.with_columns(pl.col("user", "item").cast(pl.String)).with_row_index("place")
    while True:
        kept = frame.filter(
            (pl.len().over("user") >= CORE) & (pl.len().over("item") >= CORE),
        )
        if len(kept) == len(frame):
            break
        frame = kept
    if not len(frame):
        raise UsageError(
            f"{path}: expected users and items with at least {CORE} interactions each, got an empty data set after that filter"
        )
    users = frame["user"].unique(maintain_order=True).to_list()
    items = frame["item"].unique(maintain_order=True).to_list()
    number = {item: place for place, item in enumerate(items, start=1)}
    rows: dict[str, list[int]] = {user: [] for user in users}
    times: dict[str, list[float]] = {user: [] for user in users}
    ordered = frame.sort("timestamp", "place")
    for user, item, time in zip(ordered["user"], ordered["item"], ordered["timestamp"], strict=True):
        rows[user].append(number[item])
        times[user].append(time)
    return Dataset(name, list(rows.values()), len(items), users, items, list(times.values()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
