"""How long runs will take, from those that are already there."""

from __future__ import annotations

import statistics
from typing import Any

from recsys.settings import Settings
from tables.runs import Run

DEFAULT_EPOCHS = 60
DEFAULT_COST = (
    1.5e-8  # seconds per target, item and pass on one core, before there is anything to learn it from
)


def passes(settings: Settings) -> int:
    return 1 + settings.views + sum(settings.mixes)


def work(settings: Settings, data: dict[str, Any]) -> float:
    """What an epoch's time is taken to be proportional to, within one loss."""
    targets = data["actions"] - 3 * data["users"]
    return float(targets * data["items"] * passes(settings))


def estimate(runs: list[Run], every: list[Run], published: dict[str, Any]) -> dict[str, float]:
    """Hours of each run on one core: epochs of the same row on other data times seconds per epoch of the same loss."""
    known = [(run, result) for run in every if (result := run.result()) is not None]
    hours = {}
    for run in runs:
        own = run.settings
        data = published["table1"][run.published_as]
        same_loss = [
            result["epoch_seconds"] / work(other.settings, published["table1"][other.published_as])
            for other, result in known
            if other.settings.loss == own.loss
        ]
        costs = same_loss or [
            result["epoch_seconds"] / work(other.settings, published["table1"][other.published_as])
            for other, result in known
        ]
        epochs = [result["epochs"] for other, result in known if other.name == run.name]
        epochs = epochs or [
            result["epochs"] for other, result in known if other.settings.dropout == own.dropout
        ]
        cost = statistics.median(costs) if costs else DEFAULT_COST
        number = statistics.median(epochs) if epochs else DEFAULT_EPOCHS
        hours[run.key] = number * cost * work(own, data) / 3600
    return hours
