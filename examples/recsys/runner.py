"""Trains the systems of a job one after the other and reports on them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqaug as sa
from recsys import folder as files
from recsys import machine, ranks, report, results
from recsys.console import Console, MetricsFile, say
from recsys.datasets import Dataset
from recsys.encoders import Encoder
from recsys.errors import UsageError
from recsys.evaluation import PROTOCOL
from recsys.folder import Facts
from recsys.job import Job
from recsys.next_item import NextItem
from recsys.recommender import build_encoder
from recsys.settings import CONTRASTIVE, Settings, control_of, family
from recsys.training import Fit, History, fit


def run_systems(job: Job, hybrid: type[NextItem], others: Mapping[str, type[NextItem]]) -> None:
    """Train what is not trained yet; print and save the comparison."""
    out, data, systems = job.out, job.dataset, job.systems
    if systems[0].threads:
        torch.set_num_threads(systems[0].threads)
    facts = ranks.from_lead(lambda: Facts(data.name, machine.describe(), files.commit()))
    say(data.statistics(), job.quiet)
    say(f"protocol: leave-one-out, {PROTOCOL}", job.quiet)
    say(f"machine: {facts.machine_line()}", job.quiet)
    say(f"run folder: {out}", job.quiet)
    kinds = {settings.system: others.get(family(settings.system), hybrid) for settings in systems}
    for settings in systems:
        kinds[settings.system].check(data, settings)
    ranks.from_lead(lambda: begin(job, facts))
    for settings in systems:
        train_one(job, settings, kinds[settings.system], facts)
    ranks.from_lead(lambda: finish(job))


def begin(job: Job, facts: Facts) -> None:
    """What is written before training."""
    out, data = job.out, job.dataset
    files.write_json(out / "config.json", job.to_json() | {"protocol": PROTOCOL, "commit": facts.commit})
    files.write_text(out / "users.txt", "\n".join(data.users) + "\n")
    files.write_text(out / "items.txt", "\n".join(data.items) + "\n")


def train_one(job: Job, settings: Settings, system: type[NextItem], facts: Facts) -> None:
    """One system, from where it stopped, unless its result is already there."""
    folder = job.folder(settings)
    name = folder.name
    if ranks.from_lead(lambda: is_done(folder, settings)):
        say(f"\n{name}: already there", job.quiet)
        return
    control = job.control or job.folder(dataclasses.replace(settings, system=control_of(settings)))
    encoder = build_encoder(job.dataset, settings)
    start_from: dict[str, Tensor] | None = None
    extra: dict[str, Any] = {}
    if settings.stages == 2:  # the first stage is the control
        start_from = weights_for(encoder, control)
        before = results.read_result(control)
        extra = {
            "first_stage": {name: before[name] for name in ("system", "epochs", "best_epoch", "seconds")}
        }
    parameters = sum(weight.numel() for weight in encoder.parameters())
    say(f"\n{name}: {describe(settings)}; {parameters:,} parameters", job.quiet)
    history = History()
    start = system.prepare(job.dataset, settings, folder, control, job.quiet)
    extra |= start.facts
    objective = system(start.data, settings)
    if settings.hybrid:
        say(views_line(objective, job.dataset, settings), job.quiet)
    fitted = fit(
        start.data, settings, objective, folder / "checkpoints",
        history=history,
        start_from=start_from if start.weights is None else start.weights,
        callbacks=[Console(history, name, job.quiet), MetricsFile(history, folder)],
        loggers=loggers(folder),
    )  # fmt: skip
    learned = [module for module in objective.modules() if isinstance(module, sa.AdaptivePolicy)]
    for policy in learned:
        extra["operator_weights"] = report.operator_weights(policy)
        say(report.operator_table(extra["operator_weights"]), job.quiet)
    ranks.from_lead(lambda: save(folder, fitted, settings, facts, extra))


def is_done(folder: Path, settings: Settings) -> bool:
    """Whether the folder holds the result of these settings."""
    file = folder / "result.json"
    if not file.exists():
        return False
    try:
        return Settings.from_json(results.read_result(folder)["settings"]) == settings
    except TypeError as error:  # settings that are none of ours
        raise results.damaged(file, error) from None


def weights_for(encoder: Encoder, control: Path) -> dict[str, Tensor]:
    """The weights of a finished system, to begin with."""
    file = control / "weights.safetensors"
    weights = results.read_tensors(file)
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    wanted = {name: tuple(weight.shape) for name, weight in encoder.state_dict().items()}
    for name in wanted | found:
        if wanted.get(name) != found.get(name):
            raise UsageError(
                f"expected {file} to hold the weights of the same encoder for the same items, with {name} of shape "
                f"{wanted.get(name)}, got {found.get(name)}; name a --control with the same settings and data"
            )
    return weights


def save(folder: Path, fitted: Fit, settings: Settings, facts: Facts, extra: dict[str, Any]) -> None:
    """All that a system leaves behind."""
    if "operator_weights" in extra:
        report.draw_operator_weights(folder / "operators.png", extra["operator_weights"])
    files.save_fit(folder, fitted, settings, facts, extra)


def views_line(objective: NextItem, data: Dataset, settings: Settings) -> str:
    """What one draw of views does to the training rows."""
    rows = [row for row in data.training_rows() if len(row) > 1]
    items, target = (
        sa.pad_sequences(part, length=settings.max_length)
        for part in ([r[:-1] for r in rows], [r[1:] for r in rows])
    )
    seen = [
        sa.inspect.summarize(
            part.operator, items, target, generator=torch.Generator().manual_seed(settings.seed)
        )
        for part in objective.modules()
        if isinstance(part, sa.MixupOp)
    ]
    return "\n".join(f"views of {one}" for one in seen)


def describe(settings: Settings) -> str:
    text = f"{settings.encoder}, {settings.loss} loss, dropout {settings.dropout:g}"
    text += f", cosines over {settings.cosine:g}" if settings.cosine else ""
    text += f", weights averaged by {settings.average:g}" if settings.average else ""
    if family(settings.system) in CONTRASTIVE:
        text += f", contrast {settings.contrast:g} at temperature {settings.temperature:g}"
    if settings.hybrid:
        positions, features = settings.mixes
        if settings.swap_rows[1]:
            text += f", rows swapped at rate {settings.swap_rows[0]:g}-{settings.swap_rows[1]:g}"
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


def draw(job: Job) -> None:
    histories: dict[str, list[dict[str, float]]] = {}
    for settings in job.systems:
        folder = job.folder(settings)
        histories[folder.name] = results.read_rows(folder / "metrics.csv")
    report.draw_curves(job.out / "curves.png", histories)


def finish(job: Job) -> None:
    """The curves, the table, and paired t-tests: every system against its control, and the last against all others."""
    draw(job)
    folders = [job.folder(settings) for settings in job.systems]
    if job.control:
        folders.insert(0, job.control)
    users = len(job.dataset.rows)
    tested = report.by_system(
        [results.read_result(folder) | {"ranks": results.read_ranks(folder, users)} for folder in folders]
    )
    text = report.table(tested)
    controls = {settings.system: control_of(settings) for settings in job.systems if settings.augmented}
    tests = [
        report.compare(one, other)
        for number, one in enumerate(tested)
        for other in tested[:number]
        if one is tested[-1] or other.system == controls.get(one.system)
    ]
    text += "".join("\n" + report.comparison_line(test) for test in tests)
    files.write_text(job.out / "report.txt", text + "\n")
    files.write_json(job.out / "comparison.json", tests)
    print(f"\n{text}", flush=True)
