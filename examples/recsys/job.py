"""From options to a job: which systems to run with which settings, on what data, into which folder."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.datasets import Dataset
from recsys.errors import UsageError
from recsys.results import read_json, read_result
from recsys.settings import (
    AUGMENTATION,
    CARRIED_OUT,
    CONTRAST,
    CONTRASTIVE,
    NEGATIVES,
    Settings,
    check,
    control_of,
    family,
    plain_of,
    resolve,
)
from recsys.sources import data_name, load

DEFAULT_SYSTEMS = "sasrec,sasrec-ice,rmhsaocl"
FREE_ON_RESUME = {"epochs", "patience", *CARRIED_OUT}  # may differ from the run that is continued
CONFIG: dict[str, Any] = {
    "systems": list, "source": str, "fingerprint": str, "control": (str, type(None)), "given": dict,
}  # fmt: skip
# What an augmented system may have otherwise than its control; negatives count for some losses only.
ITS_OWN = {*AUGMENTATION, *CONTRAST, *FREE_ON_RESUME, "system", "negatives"}
NOT_SETTINGS = {"data", "system", "paper", "control", "seeds"}


@dataclass(frozen=True)
class Job:
    """Everything that is known before training starts; nothing has been written yet."""

    out: Path
    systems: list[Settings]  # a control comes before what it controls
    source: str  # --data as given
    dataset: Dataset
    control: Path | None  # a finished control to compare with
    quiet: bool
    given: dict[str, Any]  # the options that were given, for --resume to compare with

    @property
    def devices(self) -> int:
        """How many processes share the batches."""
        return self.systems[0].devices

    def folder(self, settings: Settings) -> Path:
        """Where one system of one seed is kept."""
        several = len({other.seed for other in self.systems}) > 1
        return self.out / (f"{settings.system}-seed{settings.seed}" if several else settings.system)

    def to_json(self) -> dict[str, Any]:
        return {
            "systems": [settings.to_json() for settings in self.systems],
            "source": self.source,
            "fingerprint": self.dataset.fingerprint(),
            "control": str(self.control) if self.control else None,
            "given": self.given,
        }


def plan(options: dict[str, Any], started: int = 1) -> Job:
    """The job that the options mean, all of it checked; ``started`` processes, if a launcher has started several."""
    given = dict(options)
    if started > 1 and given.setdefault("devices", started) != started:
        raise UsageError(
            f"expected --devices {started}, one for each process that was started, got devices={given['devices']}; leave it out"
        )
    quiet = given.pop("quiet", False)
    out = given.pop("out", None)
    resume = given.pop("resume", None)
    if resume is None:
        return _new(given, out, quiet)
    folder = resume or out
    if not folder:
        raise UsageError("expected --resume FOLDER (or --out FOLDER --resume), got no folder")
    if out and Path(folder) != Path(out):
        raise UsageError(f"expected --out and --resume to name one folder, got out={out} and resume={resume}")
    return _continued(given, Path(folder), quiet)


def _new(given: dict[str, Any], out: str | None, quiet: bool) -> Job:
    source = given.get("data", "shop")
    control = given.get("control")
    options = {name: value for name, value in given.items() if name not in NOT_SETTINGS}
    systems: dict[str, Settings] = {}
    for name in given.get("system", DEFAULT_SYSTEMS).split(","):
        settings = resolve(name, options, given.get("paper", False), data_name(source))
        if settings.augmented and control is None:
            matched = control_of(settings)
            systems.setdefault(
                matched, resolve(matched, options, given.get("paper", False), data_name(source))
            )
        systems[settings.system] = settings
    _check_used(options, systems)
    _check_control(control, systems)
    first, seeds = given.get("seed", 0), given.get("seeds", 1)
    if seeds < 1:
        raise UsageError(f"expected --seeds of at least 1, got seeds={seeds}")
    if control is not None and seeds > 1:
        raise UsageError(f"expected --seeds 1 with --control, which is of one seed, got seeds={seeds}")
    runs = [
        dataclasses.replace(one, seed=seed)
        for seed in range(first, first + seeds)
        for one in systems.values()
    ]
    if out:
        _check_new(Path(out))
    dataset = load(source, quiet)
    _check_same_data(control, dataset)
    folder = Path(out or f"runs/{dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    return Job(
        folder,
        runs,
        source,
        dataset,
        Path(control) if control else None,
        quiet,
        _plain(given),
    )


def _check_used(options: dict[str, Any], systems: dict[str, Settings]) -> None:
    """An option that no system has a use for is a mistake, not a wish."""
    names = ", ".join(systems)
    if not any(settings.hybrid for settings in systems.values()):
        idle = [name for name in AUGMENTATION if name in options]
        if idle and (options.get("views") == 0 or options.get("mixes") == (0, 0)):
            raise UsageError(
                f"expected views or mixes of an augmented system, got none for {names}; that is sasrec-ice"
            )
        if idle:
            raise UsageError(
                f"expected an augmented system with --{idle[0].replace('_', '-')}, got {names}; use --system rmhsaocl"
            )
    if "loss" in options and not any(settings.augmented for settings in systems.values()):
        raise UsageError(
            f"expected --loss with an augmented system, got {names}, whose loss is in the name; use --system "
            f"{plain_of(options['loss'])}"
        )
    idle = [name for name in CONTRAST if name in options]
    if idle and not any(family(name) in CONTRASTIVE for name in systems):
        raise UsageError(f"expected a contrastive system with --{idle[0]}, got {names}; use --system cl4srec")
    sampling = any(settings.loss in NEGATIVES for settings in systems.values())
    idle = [name for name in ("negatives", "leak") if options.get(name)]
    if idle and not sampling:
        raise UsageError(
            f"expected --{idle[0]} with a loss that samples ({', '.join(NEGATIVES)}), got {names}"
        )


def _continued(given: dict[str, Any], folder: Path, quiet: bool) -> Job:
    config = read_config(folder)
    before = config["given"]
    for name, value in _plain(given).items():
        if name not in FREE_ON_RESUME and before.get(name) != value:
            was = f"{name}={before[name]}" if name in before else f"no {name}"
            raise UsageError(
                f"expected the options of the run in {folder} ({was}), got {name}={value}; leave it out, or start a new run"
            )
    changed = {name: value for name, value in given.items() if name in FREE_ON_RESUME}
    stopped = [Settings.from_json(values) for values in config["systems"]]
    _check_stages(changed, stopped, folder)
    systems = [check(dataclasses.replace(settings, **changed)) for settings in stopped]
    control = config["control"]
    _check_control(control, {settings.system: settings for settings in systems})
    job = Job(
        folder, systems, config["source"], load(config["source"], quiet), Path(control) if control else None, quiet,
        before | changed,
    )  # fmt: skip
    if job.dataset.fingerprint() != config["fingerprint"]:
        raise UsageError(
            f"expected the data the run in {folder} was started on, got another {job.source}; start a new run"
        )
    return job


def _check_stages(changed: dict[str, Any], stopped: list[Settings], folder: Path) -> None:
    """Training may be made longer, but not that of a stage whose outcome a later one has begun with."""
    for settings in stopped:
        for name in ("epochs", "patience"):
            was = getattr(settings, name)
            if settings.has_stages and changed.get(name, was) != was:
                raise UsageError(
                    f"expected the {name} of the run in {folder} ({name}={was}), since {settings.system} trains in stages that "
                    f"begin where others ended, got {name}={changed[name]}; leave it out, or start a new run"
                )


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of the run that is continued."""
    if not folder.is_dir():
        raise UsageError(f"expected --resume to name the folder of a run, got {folder}, which is no folder")
    file = folder / "config.json"
    if not file.exists():
        raise UsageError(
            f"expected --resume to name the folder of a run, got {folder}, which has no config.json"
        )
    try:
        config = read_json(file, CONFIG)
        if not config["systems"]:
            raise ValueError("systems=[]")
        for values in config["systems"]:
            check(Settings.from_json(values))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"expected {file} to hold the settings of a run, got something else ({error!r}); start a new run"
        ) from None
    return config


def _check_new(path: Path) -> None:
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise UsageError(f"expected --out to be a folder in a folder, got {path}, where {above} is a file")
    if not os.access(above, os.W_OK):
        raise UsageError(f"expected --out where files may be written, got {path}; choose another folder")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"expected --out to be a new or empty folder, got {path} with files in it; continue that run with "
            f"--resume {path}, or choose another folder"
        )


def _check_control(control: str | None, systems: dict[str, Settings]) -> None:
    """A control must be finished; only with it may an augmented system go without training one."""
    if control is None:
        return
    weights = ["weights.safetensors"] if any(settings.needs_control for settings in systems.values()) else []
    for name in ("result.json", "ranks.npz", *weights):
        if not (Path(control) / name).exists():
            raise UsageError(
                f"expected --control to be the folder of a finished system, got {control}, which has no {name}"
            )
    result = read_result(Path(control))
    found = result["system"]
    augmented = [settings for settings in systems.values() if settings.augmented]
    wanted = {control_of(settings) for settings in augmented}
    if wanted and wanted != {found}:
        raise UsageError(
            f"expected --control to be the folder of {', '.join(sorted(wanted))}, got one of {found}"
        )
    its = Settings.from_json(result["settings"]).to_json()
    for settings in augmented:
        for name, value in settings.to_json().items():
            if name not in ITS_OWN and its[name] != value:
                option = "--data" if name == "data" else f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"expected --control to be of the settings of {settings.system} but for the augmentation, got "
                    f"{name}={its[name]} in {control} instead of {value}; give {option}, or train another control"
                )


def _check_same_data(control: str | None, dataset: Dataset) -> None:
    """A control of other items or users would be compared, or begun from, all the same: its run knows what it was trained on."""
    config = None if control is None else Path(control).parent / "config.json"
    if config is None or not config.exists():
        return
    its = read_config(config.parent)
    if its["fingerprint"] != dataset.fingerprint():
        raise UsageError(
            f"expected --control to be of the data {dataset.name}, got one of other users or items ({its['source']}) in "
            f"{control}; give its --data, or train another control"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON would have it: tuples as lists."""
    return json.loads(json.dumps(values))
