"""``--data``: a known name, a text file of sequences, or a table of interactions."""

from __future__ import annotations

from pathlib import Path

from recsys import shop
from recsys.datasets import Dataset, read_sequences
from recsys.download import PUBLISHED, cache_folder, fetch, installed_ml_100k
from recsys.errors import UsageError, choose
from recsys.interactions import read_interactions

KNOWN = ("shop", *PUBLISHED)
TABLES = (".csv", ".tsv", ".inter", ".parquet", ".pq")
TEXTS = (".txt", ".dat", ".seq")
_ML_COLUMNS = ["user", "item", "rating", "timestamp"]


def data_name(source: str) -> str:
    """Name of a data set, whether by name or as one of the published files."""
    stem = Path(source).stem
    return next((name for name, published in PUBLISHED.items() if stem == Path(published.file).stem), stem)


def load(source: str, quiet: bool = False) -> Dataset:
    """The data set that ``--data`` means."""
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() in TABLES:
            return read_interactions(path, data_name(source))
        if path.suffix.lower() in TEXTS:
            return read_sequences(path, data_name(source))
        raise UsageError(
            f"expected --data to end in {', '.join(TEXTS)} (user item item ...) or {', '.join(TABLES)} (user, item, "
            f"timestamp), got {source}"
        )
    if path.suffix.lower() in (*TABLES, *TEXTS) or "/" in source:
        state = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"expected --data to be an existing file, got {source}, which {state}")
    choose("--data", source, KNOWN, also=" or a file")
    if source == "shop":
        return shop.generate()
    if source == "ml-100k":
        installed = None if (cache_folder() / PUBLISHED[source].file).exists() else installed_ml_100k()
        if installed is not None:
            return read_interactions(installed, source)
        return read_interactions(fetch(source, quiet), source, columns=_ML_COLUMNS)
    return read_sequences(fetch(source, quiet), source)
