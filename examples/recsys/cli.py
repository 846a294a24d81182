"""The command line: options to settings, and one system after the other."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from recsys.console import fail, say
from recsys.datasets import Dataset
from recsys.errors import UsageError, choose
from recsys.folder import new_folder, read_config
from recsys.settings import SYSTEMS, Settings, check, control_of, resolve
from recsys.sources import data_name, load

DEFAULT_SYSTEMS = ("sasrec", "sasrec-ice", "rmhsaocl")
FREE_ON_RESUME = {"epochs", "patience", "threads", "device"}  # may differ from the run that is continued


class Parser(argparse.ArgumentParser):
    """Errors as ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the options")


def parser() -> Parser:
    p = Parser(
        prog="rmhsaocl_full.py",
        description="Train and test RM-HSAOCL beside its baseline and its control.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    defaults = Settings()
    p.add_argument(
        "--data", metavar="NAME|FILE", help="shop (default), Beauty, Sports, Yelp, Home, ml-100k, or a file"
    )
    p.add_argument(
        "--system", help=f"{', '.join(SYSTEMS)}; several with commas; an augmented one brings its control"
    )
    p.add_argument("--paper", action="store_true", help="the paper's settings instead of the recipe")
    p.add_argument(
        "--control", metavar="FOLDER", help="a finished control to compare with instead of training one"
    )
    p.add_argument("--out", metavar="FOLDER", help="run folder (default: runs/DATA-TIME)")
    p.add_argument(
        "--resume", metavar="FOLDER", nargs="?", const="", help="continue a stopped run, by default --out"
    )
    p.add_argument("--quiet", action="store_true", help="print the final table only")
    step = p.add_argument_group("what a step scores")
    step.add_argument("--loss", help="ice, ce, bce or focal, of the augmented system and its control")
    step.add_argument("--negatives", type=int, help="sampled negatives per target (bce, focal)")
    step.add_argument("--reduction", help="divide by the expected number of targets (expected), token or row")
    step.add_argument("--operators", type=_words, help="with commas: crop,mask,reorder,substitute")
    step.add_argument("--rate", type=_range, metavar="A-B", help="rate ~ Uniform(A, B), 0 <= A <= B <= 1")
    step.add_argument("--alpha", type=float, help="mixing weight ~ Beta(alpha, alpha)")
    step.add_argument("--views", type=int, help="augmented views per row")
    step.add_argument("--mixes", type=_pair, metavar="P+F", help="P mixes over positions and F over features")
    step.add_argument(
        "--weighting", help="of the views: none, batch_sum (the paper's numbers), row, mean_one"
    )
    step.add_argument("--future", help="slots of a view that show a later item: keep the row's own, or mix")
    step.add_argument(
        "--pad-mix", help="slots that are padding in the view only: keep the row's own, or embedding"
    )
    step.add_argument("--stages", type=int, help="1, or 2: start from the trained control")
    enc = p.add_argument_group("encoder")
    enc.add_argument("--encoder", help="sasrec or gru4rec")
    for name in ("dim", "layers", "heads", "max_length"):
        enc.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default {getattr(defaults, name)}")
    enc.add_argument("--dropout", type=float, help=f"default {defaults.dropout}")
    loop = p.add_argument_group("loop")
    loop.add_argument("--epochs", type=int, help=f"at most (default {defaults.epochs})")
    loop.add_argument(
        "--patience", type=int, help="epochs without a better validation NDCG@20 before stopping"
    )
    loop.add_argument("--batch-size", type=int, help=f"rows per step (default {defaults.batch_size})")
    loop.add_argument("--lr", type=float, help=f"of Adam (default {defaults.lr:g})")
    loop.add_argument("--seed", type=int, help=f"default {defaults.seed}")
    loop.add_argument("--device", help="auto, cpu, gpu, cuda, mps, ...")
    loop.add_argument("--devices", type=int, help="how many of them (default 1)")
    loop.add_argument("--precision", help="32, 64, bf16 or 16")
    loop.add_argument("--threads", type=int, help="of the CPU (default: all)")
    return p


def run(argv: Sequence[str], build_objective: Callable[[Dataset, Settings], nn.Module]) -> int:
    """Parse, check everything, then train; 0, or 2 after a one-line error."""
    try:
        given = vars(parser().parse_args(argv))
        job = plan(given)
    except UsageError as error:
        return fail(error)
    from recsys.runner import (
        run_systems,
    )  # Lightning takes seconds to import: not before the input is known good

    try:
        run_systems(job, build_objective)
    except UsageError as error:
        return fail(error)
    except KeyboardInterrupt:
        say(f"\nstopped; continue with --resume {job['out']}")
        return 130
    return 0


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """What to do: ``out``, ``systems`` (settings, the control before what it controls), ``dataset``, ``quiet`` ..."""
    given = dict(given)
    quiet = given.pop("quiet", False)
    out = given.pop("out", None)
    resume = given.pop("resume", None)
    if resume is not None:
        folder = resume or out
        if not folder:
            raise UsageError("expected --resume FOLDER (or --out FOLDER --resume), got no folder")
        if resume and out and Path(resume) != Path(out):
            raise UsageError(
                f"expected --out and --resume to name one folder, got out={out} and resume={resume}"
            )
        config = read_config(Path(folder))
        systems = [
            _continued(Settings.from_json(values), given, config["given"]) for values in config["systems"]
        ]
        source, control, resumed = config["source"], config["control"], True
        dataset = load(source)
        if dataset.fingerprint() != config["fingerprint"]:
            raise UsageError(
                f"expected the data {folder} was started on, got a different {source}; start a new run"
            )
        config_given = config["given"]
    else:
        source = given.pop("data", "shop")
        control = given.pop("control", None)
        paper = given.pop("paper", False)
        names = given.pop("system", ",".join(DEFAULT_SYSTEMS)).split(",")
        systems = _with_controls(names, given, paper, data_name(source), control)
        dataset = load(source)
        folder = out or f"runs/{dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        new_folder(Path(folder))
        resumed = False
        config_given = {
            key: list(value) if isinstance(value, tuple) else value for key, value in given.items()
        }
    if control is not None and not (Path(control) / "result.json").exists():
        raise UsageError(
            f"expected --control to be the folder of a finished system, got {control}: no result.json in it"
        )
    return {
        "out": Path(folder), "systems": systems, "source": source, "dataset": dataset, "control": control,
        "quiet": quiet, "resumed": resumed, "given": config_given, "command": " ".join(sys.argv),
    }  # fmt: skip


def _with_controls(
    names: list[str], given: dict[str, Any], paper: bool, data: str, control: str | None
) -> list[Settings]:
    systems: dict[str, Settings] = {}
    for name in names:
        settings = resolve(name, given, paper, data)
        if settings.augmented and control is None and control_of(settings) not in systems:
            matched = resolve(control_of(settings), given, paper, data)
            systems[matched.system] = matched
        systems[name] = settings
    if control is None and any(s.augmented for s in systems.values()):
        plain = [name for name in ("operators", "rate", "alpha", "views", "mixes") if name in given]
        del plain
    return list(systems.values())


def _continued(settings: Settings, given: dict[str, Any], before: dict[str, Any]) -> Settings:
    """Settings of a stopped run; options given again must say the same, but for a few that may change."""
    import dataclasses

    changed: dict[str, Any] = {}
    for name, value in given.items():
        if name in FREE_ON_RESUME:
            changed[name] = value
        elif name in ("data", "system", "paper", "control"):
            continue
        elif before.get(name) != (list(value) if isinstance(value, tuple) else value):
            raise UsageError(
                f"expected the options of the run that is continued, got {name}={value} for {name}="
                f"{before.get(name, getattr(settings, name))}; leave it out, or start a new run"
            )
    return check(dataclasses.replace(settings, **changed))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _range(text: str) -> tuple[float, float]:
    parts = text.replace(",", "-").split("-") if not text.startswith("-") else [text]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise UsageError(f"expected --rate A-B such as 0.2-0.7, got {text!r}") from None
    if len(numbers) == 1:
        return numbers[0], numbers[0]
    if len(numbers) != 2:
        raise UsageError(f"expected --rate A-B such as 0.2-0.7, got {text!r}")
    return numbers[0], numbers[1]


def _pair(text: str) -> tuple[int, int]:
    try:
        numbers = [int(part) for part in text.split("+")]
    except ValueError:
        raise UsageError(f"expected --mixes P+F such as 3+3, or P, got {text!r}") from None
    if len(numbers) > 2:
        raise UsageError(f"expected --mixes P+F such as 3+3, or P, got {text!r}")
    return numbers[0], numbers[1] if len(numbers) == 2 else 0


__all__ = ["choose", "parser", "plan", "run"]
