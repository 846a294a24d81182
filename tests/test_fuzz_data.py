"""Files that are not what they seem: a data set that is whole, or one line that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.datasets import Dataset
from recsys.errors import UsageError
from recsys.sources import load

SEQUENCES = b"".join(
    b"%d %s\n" % (user, b" ".join(b"%d" % ((user + step) % 9 + 1) for step in range(5 + user % 3)))
    for user in range(1, 13)
)
TABLE = b"user,item,timestamp\n" + b"".join(
    b"u%d,i%d,%d\n" % (user, (user + step) % 7, 1000 + step) for user in range(8) for step in range(6)
)
PIECES = [
    b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"-1", b" 0 ", b"1e9", b"99999999999999999999999", b"\xc3", b"nan", b"inf",
    b"\xe2\x80\xa8", b"\xd9\xa3", b"1_0", b'"', b",,", b"\t", b"\n\n", b" ", b"2024-01-01", b"9" * 5000, b"../../x",
]  # fmt: skip


def outcome(path: Path) -> Dataset | str:
    try:
        return load(str(path), quiet=True)
    except UsageError as error:
        return str(error)


@st.composite
def broken(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with pieces put in, cut out, doubled, or cut off."""
    content = whole
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["put in", "cut out", "cut off", "double", "byte"]))
        if kind == "put in":
            content = content[:at] + draw(st.sampled_from(PIECES)) + content[at:]
        elif kind == "cut out":
            content = content[:at] + content[at + draw(st.integers(1, 40)) :]
        elif kind == "cut off":
            content = content[:at]
        elif kind == "double":
            content = content[:at] + content[max(0, at - draw(st.integers(1, 80))) :]
        else:
            content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
    return content


@pytest.mark.parametrize(("name", "whole"), [("data.txt", SEQUENCES), ("data.csv", TABLE)])
def test_broken_files(name: str, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / name

    @settings(max_examples=10 * settings().max_examples, suppress_health_check=list(HealthCheck))
    @given(content=broken(whole))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        found = outcome(path)
        if isinstance(found, str):
            assert "\n" not in found and path.stem in found and len(found) < 1000
            return
        assert found.rows and len(found.users) == len(found.rows) and len(found.items) == found.num_items
        assert all(1 <= item <= found.num_items for row in found.rows for item in row)
        assert len(set(found.users)) == len(found.users) and all(len(row) >= 3 for row in found.rows)
        assert path.read_bytes() == content

    path.write_bytes(whole)
    assert isinstance(outcome(path), Dataset)
    holds()


@pytest.mark.parametrize("ending", ["txt", "csv", "parquet", "inter"])
def test_binary_junk(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{ending}"
    for junk in (
        b"\x00" * 100,
        os.urandom(4096),
        b"PAR1" + os.urandom(64) + b"PAR1",
        b"\x1f\x8b" + os.urandom(64),
    ):
        path.write_bytes(junk)
        found = outcome(path)
        assert isinstance(found, str) and "\n" not in found and str(path) in found, found


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    loop = tmp_path / "loop.txt"
    loop.symlink_to(tmp_path / "loop.txt")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    for path in (loop, folder, tmp_path / ".." / "gone.txt", Path("/dev/null/data.txt")):
        found = outcome(path)
        assert isinstance(found, str) and "\n" not in found and str(path) in found, found


def test_one_line_of_many_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("1 " + " ".join(str(1 + step % 50) for step in range(3_000_000)) + "\n2 1 2 3 4 5\n")
    found = outcome(path)
    assert isinstance(found, Dataset) and len(found.rows[0]) == 3_000_000
    path.write_text("1 " + "7" * 10_000_000 + " 2 3 4\n")
    found = outcome(path)
    assert isinstance(found, str) and len(found) < 1000
