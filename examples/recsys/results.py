"""Reading what a system has left in its folder: whole, or one line that says what to do."""

from __future__ import annotations

import csv
import json
import struct
import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from recsys.errors import UsageError
from recsys.evaluation import CUTOFFS

# What readers of JSON, CSV, zip archives and tensors raise where a file is damaged.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, UnpicklingError, AttributeError, EOFError, LookupError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
RESULT: dict[str, type | tuple[type, ...]] = {
    "system": str, "data": str, "settings": dict, "test": dict, "epochs": int, "best_epoch": int, "seconds": (int, float),
}  # fmt: skip
FIGURES = [f"{name}@{k}" for k in CUTOFFS for name in ("HR", "NDCG")]


def damaged(file: Path, error: Exception) -> UsageError:
    """What to do about a damaged file of a system: it is made again when nothing says that all is there."""
    together = " and ".join(dict.fromkeys([str(file), str(file.with_name("result.json"))]))
    return UsageError(
        f"expected {file} to be whole, got a damaged file ({error!r}); remove {together}, and --resume the run, which "
        "makes anew what is missing"
    )


def read_json(file: Path, kinds: dict[str, Any]) -> dict[str, Any]:
    """The object in a JSON file, with entries of these kinds; else one of ``DAMAGE``."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise TypeError(f"a {type(found).__name__}, no object")
    for name, kind in kinds.items():
        if not isinstance(found[name], kind):
            raise TypeError(f"{name}={found[name]!r}")
    return found


def read_tested(file: Path, kinds: dict[str, Any]) -> dict[str, Any]:
    """What ``read_json`` finds, with every figure on test; else one of ``DAMAGE``."""
    result = read_json(file, kinds)
    for name in FIGURES:
        if not isinstance(result["test"][name], int | float):
            raise TypeError(f"{name}={result['test'][name]!r}")
    return result


def read_result(folder: Path) -> dict[str, Any]:
    """``result.json`` of a finished system."""
    file = folder / "result.json"
    try:
        return read_tested(file, RESULT)
    except DAMAGE as error:
        raise damaged(file, error) from None


def read_ranks(folder: Path, users: int) -> Tensor:
    """The test ranks (users,) of a finished system."""
    import numpy as np

    file = folder / "ranks.npz"
    try:
        with np.load(file) as ranks:
            test = ranks["test"]
        if test.shape != (users,) or test.dtype.kind not in "iu":
            raise ValueError(f"{test.dtype} of shape {test.shape} for {users} users")
    except DAMAGE as error:
        raise damaged(file, error) from None
    return torch.from_numpy(test)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """What a safetensors file holds."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, *DAMAGE) as error:
        raise damaged(file, error) from None


def read_rows(file: Path) -> list[dict[str, float]]:
    """What ``write_rows`` has written."""
    try:
        with open(file, encoding="utf-8", newline="") as table:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(table)]
    except DAMAGE as error:
        raise damaged(file, error) from None
