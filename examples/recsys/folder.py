"""The run folder: every file is written beside its place and moved there, so none is ever half-written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recsys.errors import UsageError
from recsys.evaluation import PROTOCOL
from recsys.settings import Settings
from recsys.training import Fit


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file next to ``path``, then move it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """Rows of one table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def new_folder(path: Path) -> Path:
    """Refuse a folder that already has something in it; make nothing yet."""
    if path.is_file():
        raise UsageError(f"expected --out to be a folder, got the file {path}")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"expected --out to be a new or empty folder, got {path} with files in it; continue that run with "
            f"--resume {path}, or choose another folder"
        )
    return path


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` of the run that ``--resume`` names."""
    if not path.is_dir():
        raise UsageError(f"expected --resume to be the folder of a run, got {path}, which does not exist")
    file = path / "config.json"
    if not file.exists():
        raise UsageError(f"expected --resume to be the folder of a run, got {path}, which has no config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        for values in config["systems"]:
            Settings.from_json(values)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: expected the settings of a run, got something else ({error})") from None
    return config


def save_fit(folder: Path, fit: Fit, settings: Settings, facts: dict[str, Any]) -> None:
    """What one system leaves behind; ``result.json`` last, as the sign that all is there."""
    import numpy as np
    from safetensors.torch import save_file

    write_rows(folder / "metrics.csv", fit.history)
    write_atomic(folder / "weights.safetensors", lambda part: save_file(fit.weights, part))
    ranks = {"validation": fit.validation_ranks.numpy(), "test": fit.test_ranks.numpy()}
    write_atomic(folder / "ranks.npz", lambda part: np.savez_compressed(part, **ranks))
    result = {
        "system": settings.system,
        "data": facts["data"],
        "seed": settings.seed,
        "settings": settings.to_json(),
        "protocol": PROTOCOL,
        "validation": fit.validation,
        "test": fit.test,
        "epochs": fit.epochs,
        "best_epoch": fit.best_epoch,
        "seconds": round(fit.seconds, 1),
        "epoch_seconds": round(fit.epoch_seconds, 2),
        "parameters": sum(weight.numel() for weight in fit.weights.values()),
        "machine": facts["machine"],
        "commit": facts["commit"],
    }
    write_json(folder / "result.json", result | facts["extra"])


def load_result(folder: Path) -> dict[str, Any]:
    """``result.json`` of a finished system with its test ranks (users,) under ``ranks``."""
    import numpy as np

    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    with np.load(folder / "ranks.npz") as ranks:
        result["ranks"] = torch.from_numpy(ranks["test"])
    return result


def commit() -> str:
    """Commit of this checkout, with ``-dirty`` if files differ from it; "unknown" outside one."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("-dirty" if changed else "")


def _git(where: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=where, capture_output=True, text=True, check=True
    ).stdout.strip()
