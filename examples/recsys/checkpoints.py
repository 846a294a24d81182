"""Checkpoints: moved to their place in one step, read only if every byte of the weights is as it was written."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from recsys.errors import UsageError
from recsys.folder import write_atomic
from recsys.results import DAMAGE


def write_checkpoint(file: Path, checkpoint: dict[str, Any]) -> None:
    """Numbers, text and tensors, for ``read_checkpoint``."""
    # In memory first: of a full disk torch makes an error of its own, Python the OSError that it is.
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write_atomic(file, lambda part: part.write_bytes(content.getbuffer()))


def read_checkpoint(file: Path, *names: str) -> dict[str, Any]:
    """The checkpoint in ``file``, with entries of these names; else an error that says what to do.

    torch writes checksums into its files and does not look at them when it reads.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"bad checksum of {damaged}")
        found = torch.load(file, map_location="cpu", weights_only=True)
        missing = [name for name in names if not isinstance(found, dict) or name not in found]
        if missing:
            raise ValueError(f"no {missing[0]} in it")
    except PermissionError:
        raise  # it may well be whole
    except DAMAGE as error:
        # Of an object that is no tensor torch says how to load it all the same.
        unsafe = isinstance(error, UnpicklingError)
        reason = "other objects than tensors in it" if unsafe else str(error) or type(error).__name__
        raise UsageError(
            f"expected {file} to be a whole checkpoint, got a damaged one ({reason.splitlines()[0]}); remove it and "
            "--resume again: the run goes on from the other checkpoint of its folder, or starts anew"
        ) from None
    return found
