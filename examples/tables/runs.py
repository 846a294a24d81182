"""The runs that the tables are made of: read from ``runs.txt``, each with its settings, its control and its result."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys.cli import parser
from recsys.errors import UsageError
from recsys.results import DAMAGE, RESULT, read_tested
from recsys.settings import CARRIED_OUT, NEGATIVES, Settings, control_of, resolve

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "docs" / "results"
# Data sets that are another form of one the paper has: the interactions of Beauty with their times, which text files have not.
SAME_AS = {"beauty_interactions": "Beauty"}
# What the pages say of a run, beyond what any result has.
COMMITTED: dict[str, type | tuple[type, ...]] = RESULT | {
    "seed": int, "protocol": str, "validation": dict, "epoch_seconds": (int, float), "machine": dict, "commit": str,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One line of ``runs.txt`` for one data set and one seed."""

    tables: tuple[str, ...]
    data: str
    seed: int
    name: str
    shown: str
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of the result, without ending."""
        return f"{self.data.lower()}-{self.name}-seed{self.seed}"

    @property
    def published_as(self) -> str:
        """The data set's name in the paper's tables."""
        return SAME_AS.get(self.data, self.data)

    @functools.cached_property
    def settings(self) -> Settings:
        given = vars(parser().parse_args(self.options))
        return _settings(given, given["system"], self.data, self.seed)

    @functools.cached_property
    def control_settings(self) -> Settings | None:
        """Those of the system it is compared with, and starts from if it has two stages."""
        if not self.settings.augmented:
            return None
        given = vars(parser().parse_args(self.options))
        return _settings(given, control_of(self.settings), self.data, self.seed)

    def result(self) -> dict[str, Any] | None:
        """The committed result, ``None`` if not run yet."""
        file = RESULTS / f"{self.key}.json"
        if not file.exists():
            return None
        try:
            found = read_tested(file, COMMITTED)
        except DAMAGE as error:
            raise UsageError(
                f"expected {file} to be the result of a run, got something else ({error!r}); move the file away to run it again"
            ) from None
        if not _same(Settings.from_json(found["settings"]), self.settings):
            raise UsageError(
                f"expected {file} to be of the settings of {self.name} in {HERE / 'runs.txt'}, got others; "
                "move the file away to run it again"
            )
        return found

    def ranks(self) -> Tensor | None:
        """(users,) test ranks of the committed result, ``None`` if they are not there."""
        import numpy as np

        file = RESULTS / f"{self.key}.npz"
        if not file.exists():
            return None
        with np.load(file) as ranks:
            return torch.from_numpy(ranks["test"])


def read_runs(file: Path = HERE / "runs.txt") -> list[Run]:
    """All runs in the order of the file; every control must be one of them."""
    runs: dict[str, Run] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 6:
            raise UsageError(
                f"{file}:{number}: expected tables | data | seeds | name | shown as | options, got {len(cells)} columns"
            )
        tables, data, seeds, name, shown, options = cells
        for one in data.split():
            for seed in seeds.split():
                run = Run(tuple(tables.split()), one, int(seed), name, shown, tuple(options.split()))
                if run.key in runs:
                    raise UsageError(f"{file}:{number}: expected each run once, got {run.key} again")
                runs[run.key] = run
    listed = list(runs.values())
    for run in listed:
        control(run, listed)
    return listed


def control(run: Run, runs: list[Run]) -> Run | None:
    """The run that ``run`` is compared with, ``None`` for a plain system."""
    wanted = run.control_settings
    if wanted is None:
        return None
    found = [other for other in runs if other.data == run.data and _same(other.settings, wanted)]
    if not found:
        raise UsageError(f"expected a line for the control of {run.key} ({wanted.system}), got none")
    return found[0]


def choose(runs: list[Run], only: str | None) -> list[Run]:
    """Those that ``--only TABLE``, ``TABLE/DATA`` or ``KEY`` means, with the controls they need before them."""
    if only is None:
        wanted = runs
    else:
        table, _, data = only.partition("/")
        wanted = [
            run
            for run in runs
            if run.key == only or (table in run.tables and data.lower() in ("", run.data.lower()))
        ]
    if not wanted:
        tables = sorted({table for run in runs for table in run.tables})
        raise UsageError(
            f"expected --only TABLE, TABLE/DATA or the name of a run, got only={only}; tables: {', '.join(tables)}"
        )
    needed: dict[str, Run] = {}
    for run in wanted:
        before = control(run, runs)
        if before is not None:
            needed[before.key] = before
        needed[run.key] = run
    return list(needed.values())


def _settings(given: dict[str, Any], system: str, data: str, seed: int) -> Settings:
    options = {name: value for name, value in given.items() if name not in ("system", "paper")}
    return resolve(system, options | {"seed": seed}, given.get("paper", False), data)


def _same(one: Settings, other: Settings) -> bool:
    first, second = one.to_json(), other.to_json()
    idle = {*CARRIED_OUT} if one.loss in NEGATIVES else {*CARRIED_OUT, "negatives"}
    return all(first[name] == second[name] for name in first if name not in idle)
