"""Trains the systems of a job one after the other and reports on them."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys import folder as files
from recsys import machine, report
from recsys.console import Console, MetricsFile, say
from recsys.datasets import Dataset
from recsys.evaluation import PROTOCOL
from recsys.settings import Settings, control_of
from recsys.training import History, build_encoder, fit


def run_systems(
    job: dict[str, Any], build_objective: Callable[[Dataset, Settings], nn.Module]
) -> list[dict[str, Any]]:
    """Train what is not trained yet; print and save the comparison."""
    out: Path = job["out"]
    data: Dataset = job["dataset"]
    quiet: bool = job["quiet"]
    systems: list[Settings] = job["systems"]
    if systems[0].threads:
        torch.set_num_threads(systems[0].threads)
    facts = {"data": data.name, "commit": files.commit(), "machine": machine.describe()}
    say(data.statistics(), quiet)
    say(f"protocol: leave-one-out, {PROTOCOL}", quiet)
    say(
        f"machine: {facts['machine']['cpu']}, {facts['machine']['threads']} threads, torch.mm of 3000 x 3000 at "
        f"{facts['machine']['mm_gflops']} GF/s; run folder: {out}", quiet,
    )  # fmt: skip
    config = {
        "systems": [settings.to_json() for settings in systems], "source": job["source"], "control": job["control"],
        "given": job["given"], "fingerprint": data.fingerprint(), "command": job["command"], "protocol": PROTOCOL,
        "commit": facts["commit"],
    }  # fmt: skip
    files.write_json(out / "config.json", config)
    files.write_text(out / "users.txt", "\n".join(data.users) + "\n")
    files.write_text(out / "items.txt", "\n".join(data.items) + "\n")

    results = [files.load_result(Path(job["control"]))] if job["control"] else []
    for settings in systems:
        train_one(data, settings, build_objective, out, facts, quiet, job["control"])
        results.append(files.load_result(out / settings.system))
    draw(out, systems)
    finish(out, results)
    return results


def train_one(
    data: Dataset,
    settings: Settings,
    build_objective: Callable[[Dataset, Settings], nn.Module],
    out: Path,
    facts: dict[str, Any],
    quiet: bool,
    control: str | None,
) -> None:
    """One system, from where it stopped, unless its result is already there."""
    folder = out / settings.system
    done = folder / "result.json"
    if done.exists() and json.loads(done.read_text())["settings"] == _plain(settings):
        say(f"\n{settings.system}: already there", quiet)
        return
    start_from: dict[str, Tensor] | None = None
    stage1: dict[str, Any] = {}
    if settings.stages == 2:
        first = Path(control) if control else out / control_of(settings)
        start_from = load_file(first / "weights.safetensors")
        before = files.load_result(first)
        stage1 = {"stage1": {name: before[name] for name in ("system", "epochs", "best_epoch", "seconds")}}
    parameters = sum(weight.numel() for weight in build_encoder(data, settings).parameters())
    say(f"\n{settings.system}: {describe(settings)}; {parameters:,} parameters", quiet)
    history = History()
    fitted = fit(
        data, settings, build_objective(data, settings), folder / "checkpoints",
        history=history,
        start_from=start_from,
        callbacks=[Console(history, settings.system, quiet), MetricsFile(history, folder)],
        loggers=loggers(folder),
    )  # fmt: skip
    files.save_fit(folder, fitted, settings, facts | {"extra": stage1})


def describe(settings: Settings) -> str:
    text = f"{settings.encoder}, {settings.loss} loss, dropout {settings.dropout:g}"
    if settings.augmented:
        positions, features = settings.mixes
        text += (
            f", {settings.views} views of {'/'.join(settings.operators)} at rate {settings.rate[0]:g}-"
            f"{settings.rate[1]:g}, alpha {settings.alpha:g}, {positions}+{features} mixes"
        )
    return text + (", from the trained control" if settings.stages == 2 else "")


def loggers(folder: Path) -> list[Any]:
    """TensorBoard, if it is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return []
    from lightning.pytorch.loggers import TensorBoardLogger

    return [TensorBoardLogger(folder, name="tensorboard", version="")]


def draw(out: Path, systems: list[Settings]) -> None:
    histories: dict[str, list[dict[str, float]]] = {}
    for settings in systems:
        with open(out / settings.system / "metrics.csv", encoding="utf-8", newline="") as file:
            histories[settings.system] = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
    report.draw_curves(out / "curves.png", histories)


def finish(out: Path, results: list[dict[str, Any]]) -> None:
    """The table and the paired t-tests of the last system against each of the others."""
    text = report.table(results)
    tests = [report.compare(results[-1], other) for other in results[:-1]]
    text += "".join("\n" + report.comparison_line(test) for test in tests)
    files.write_text(out / "report.txt", text + "\n")
    files.write_json(out / "comparison.json", tests)
    print(f"\n{text}", flush=True)


def _plain(settings: Settings) -> Any:
    return json.loads(json.dumps(settings.to_json()))
