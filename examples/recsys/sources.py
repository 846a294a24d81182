"""``--data``: a known name, a text file of sequences, or a table of interactions."""

from __future__ import annotations

from pathlib import Path

from recsys.datasets import Dataset, read_sequences
from recsys.errors import UsageError


def data_name(source: str) -> str:
    """The name of a data set: as given if known, else the stem of its file."""
    stem = Path(source).stem
    return {"Sports_and_Outdoors": "Sports"}.get(stem, stem)


def load(source: str) -> Dataset:
    path = Path(source)
    if path.is_file():
        return read_sequences(path, data_name(source))
    raise UsageError(f"{source}")
