"""How long runs will take, from those that are already there."""

from __future__ import annotations

import statistics
from typing import Any, TypeAlias

from recsys.settings import Settings
from tables.runs import Run

Known: TypeAlias = list[tuple[Run, dict[str, Any]]]  # runs with their results

DEFAULT_EPOCHS = 60
DEFAULT_COST = (
    1.5e-8  # seconds per target, item and pass on one core, before there is anything to learn it from
)


def passes(settings: Settings) -> int:
    return 1 + settings.views + sum(settings.mixes)


def work(settings: Settings, data: dict[str, Any]) -> float:
    """What an epoch's time is taken to be proportional to, within one loss and one number of features."""
    targets = data["actions"] - 3 * data["users"]
    return float(targets * data["items"] * passes(settings))


def estimate(runs: list[Run], every: list[Run], published: dict[str, Any]) -> dict[str, float]:
    """Hours of each run on one core: epochs of runs like it times seconds per epoch of runs like it."""
    known = [(run, result) for run in every if (result := run.result()) is not None]
    hours = {}
    for run in runs:
        costs = [
            result["epoch_seconds"] / work(other.settings, published["table1"][other.published_as])
            for other, result in most_alike(run, known, "loss", "dim")
        ]
        same_row = [(other, result) for other, result in known if other.name == run.name]
        stopped_alike = same_row or most_alike(run, known, "patience", "dim", "dropout")
        epochs = [result["epochs"] for _, result in stopped_alike]
        cost = statistics.median(costs) if costs else DEFAULT_COST
        number = statistics.median(epochs) if epochs else DEFAULT_EPOCHS
        hours[run.key] = number * cost * work(run.settings, published["table1"][run.published_as]) / 3600
    return hours


def most_alike(run: Run, known: Known, *settings: str) -> Known:
    """Runs with the same settings as this one; where there are none, with all but the last of them, and so on."""
    for count in range(len(settings), 0, -1):
        found = [
            (other, result)
            for other, result in known
            if all(getattr(other.settings, name) == getattr(run.settings, name) for name in settings[:count])
        ]
        if found:
            return found
    return known
