"""The run folder: every file is written beside its place and moved there, so none is ever half-written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.evaluation import PROTOCOL
from recsys.settings import Settings

if TYPE_CHECKING:  # Lightning takes seconds to import
    from recsys.training import Fit


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file next to ``path``, then move it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
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
    for row in rows:
        writer.writerow({name: f"{value:.7g}" for name, value in row.items()})
    write_text(path, text.getvalue())


@dataclass(frozen=True)
class Facts:
    """What every result of a job shares."""

    data: str
    machine: dict[str, Any]
    commit: str

    def machine_line(self) -> str:
        return (
            f"{self.machine['cpu']}, {self.machine['threads']} threads, torch {self.machine['torch']}, torch.mm of "
            f"3000 x 3000 float32 at {self.machine['mm_gflops']} GF/s"
        )


def save_fit(folder: Path, fit: Fit, settings: Settings, facts: Facts, extra: dict[str, Any]) -> None:
    """What one system leaves behind; ``result.json`` last, as the sign that all is there."""
    import numpy as np
    from safetensors.torch import save_file

    write_rows(folder / "metrics.csv", fit.history)
    write_atomic(folder / "weights.safetensors", lambda part: save_file(fit.weights, part))
    validation, test = fit.validation_ranks.numpy(), fit.test_ranks.numpy()
    write_atomic(
        folder / "ranks.npz", lambda part: np.savez_compressed(part, validation=validation, test=test)
    )
    result = {
        "system": settings.system,
        "data": facts.data,
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
        "machine": facts.machine,
        "commit": facts.commit,
    }
    write_json(folder / "result.json", result | extra)


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
