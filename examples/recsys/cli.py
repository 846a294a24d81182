"""The command line: options, errors in one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from recsys import ranks
from recsys.errors import UsageError
from recsys.job import Job, plan
from recsys.next_item import NextItem
from recsys.settings import LOSSES, SYSTEMS, Settings


class Parser(argparse.ArgumentParser):
    """Errors as ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the options")


def parser() -> Parser:
    p = Parser(
        prog="rmhsaocl_full.py",
        description="Train and test RM-HSAOCL or another system beside its baseline and its control.",
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
    step.add_argument("--loss", help=f"of the augmented system and its control: {', '.join(LOSSES)}")
    step.add_argument(
        "--negatives", type=int, help="sampled negatives per target (default: as usual for the loss)"
    )
    step.add_argument(
        "--leak",
        action=argparse.BooleanOptionalAction,
        help="never sample an item that is held out of the user, as much published code does (default --no-leak)",
    )
    step.add_argument("--reduction", help="divide by the expected number of targets (expected), token or row")
    step.add_argument("--operators", type=_words, help="with commas: crop,mask,reorder,substitute")
    step.add_argument(
        "--policy",
        help="how operators are drawn: uniform, each-once (over the views of a row), or adaptive (learned while training)",
    )
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
    step.add_argument(
        "--swap-rows",
        type=_range,
        metavar="A-B",
        help="neighbours of the training rows that are swapped in every epoch, targets among them; 0: rows as they are",
    )
    step.add_argument("--stages", type=int, help="1, or 2: start from the trained control")
    step.add_argument(
        "--contrast", type=float, help=f"weight of the contrast between views (default {defaults.contrast:g})"
    )
    step.add_argument(
        "--temperature", type=float, help=f"of that contrast (default {defaults.temperature:g})"
    )
    enc = p.add_argument_group("encoder")
    enc.add_argument("--encoder", help="sasrec or gru4rec")
    enc.add_argument(
        "--dim", type=int, help=f"features (default {defaults.dim}; with --paper and binary losses 64)"
    )
    for name in ("layers", "heads", "max_length"):
        enc.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"default {getattr(defaults, name)}")
    enc.add_argument("--dropout", type=float, help=f"default {defaults.dropout}")
    enc.add_argument(
        "--cosine",
        type=float,
        help=f"score by the cosine over this temperature, 0: by the product (default {defaults.cosine:g}; "
        "with --paper and binary losses 0)",
    )
    loop = p.add_argument_group("loop")
    loop.add_argument("--epochs", type=int, help=f"at most (default {defaults.epochs})")
    loop.add_argument(
        "--patience", type=int, help="epochs without a better validation NDCG@20 before stopping"
    )
    loop.add_argument(
        "--prefixes",
        action=argparse.BooleanOptionalAction,
        help="train on every prefix of a row for its last target, instead of on whole rows for all their targets",
    )
    loop.add_argument(
        "--average",
        type=float,
        help=f"decay of the running average of weights that is tested, 0: none (default {defaults.average:g}; likewise)",
    )
    loop.add_argument("--batch-size", type=int, help=f"rows per step (default {defaults.batch_size})")
    loop.add_argument(
        "--batches",
        help="rows that come together: of like length (length, the default, is less work) or any (random)",
    )
    loop.add_argument("--lr", type=float, help=f"of Adam (default {defaults.lr:g})")
    loop.add_argument("--seed", type=int, help=f"default {defaults.seed}")
    loop.add_argument("--seeds", type=int, help="how many, from --seed on: means and deviations (default 1)")
    loop.add_argument("--device", help="auto, cpu, gpu, cuda, mps, ...")
    loop.add_argument(
        "--devices", type=int, help="how many of them share each batch (default 1, or what torchrun starts)"
    )
    loop.add_argument("--strategy", help="how they do: ddp, gradients averaged over the devices")
    loop.add_argument("--precision", help="32, 64, bf16 or 16")
    loop.add_argument(
        "--matmul",
        help="of float32 products in training: highest, high or medium, which is bfloat16 where the processor has it",
    )
    loop.add_argument("--threads", type=int, help="of the CPU (default: all)")
    return p


def run(argv: Sequence[str], hybrid: type[NextItem], others: Mapping[str, type[NextItem]]) -> int:
    """Parse, check everything, then train; 0, or 2 after a one-line error.

    ``hybrid`` is RM-HSAOCL with all that its settings make of it, ``others`` the systems with classes of their own.
    """
    try:
        ranks.check_launcher()
    except UsageError as error:  # where nobody has told the processes apart, each of them speaks
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        ranks.patience()
    except UsageError as error:
        return ranks.fail(error)
    with ranks.joined():
        try:
            options = vars(parser().parse_args(argv))
            job = ranks.from_lead(lambda: plan(options, ranks.started()))
        except UsageError as error:
            return ranks.fail(error)
        except OSError as error:
            return ranks.fail(UsageError(f"expected files and folders that can be read, got {error}"))
        except KeyboardInterrupt:
            print("\nstopped before anything was written", file=sys.stderr)
            return 130
        if job.devices > ranks.world():
            script = sys.modules[hybrid.__module__].__file__ or sys.argv[0]
            named = [] if "out" in options or "resume" in options else ["--out", str(job.out)]
            return ranks.launch(script, [*argv, *named], job.devices, job.out)
        return carry_out(job, hybrid, others)


def carry_out(job: Job, hybrid: type[NextItem], others: Mapping[str, type[NextItem]]) -> int:
    """Train what is planned; the exit code."""
    from recsys.runner import (
        run_systems,  # Lightning takes seconds to import: not before the input is known good
    )

    try:
        run_systems(job, hybrid, others)
    except UsageError as error:
        return ranks.fail(error)
    except OSError as error:  # a full disk, a folder that went away: what was written before is whole
        return ranks.fail(UsageError(f"cannot go on: {error}; mend it and continue with --resume {job.out}"))
    except (MemoryError, RuntimeError) as error:
        if ranks.is_lost(error):
            return ranks.fail_alone(job.out, error)
        if ranks.world() > 1 or not is_out_of_memory(error):
            raise
        first = str(error).splitlines()[0][:120]
        return ranks.fail(
            UsageError(
                f"out of memory ({first}): free some and continue with --resume {job.out}, or begin anew with a smaller --batch-size"
            )
        )
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
        if ranks.speaks():
            print(f"\nstopped; continue with --resume {job.out}", file=sys.stderr)
        return 130
    return 0


def is_out_of_memory(error: Exception) -> bool:
    """Also the error without a class of its own that torch raises on a CPU."""
    import torch  # takes seconds to import: not before the input is known good

    kinds = MemoryError, torch.OutOfMemoryError
    return isinstance(error, kinds) or "allocate memory" in str(error)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _range(text: str) -> tuple[float, float]:
    number = r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)"
    found = re.fullmatch(f"{number}(?:-{number})?", text.strip())
    try:
        if found is None:
            raise ValueError
        low, high = float(found[1]), float(found[2] or found[1])
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected A-B such as 0.2-0.7 with 0 <= A <= B <= 1, got {text!r}"
        ) from None
    return low, high


def _pair(text: str) -> tuple[int, int]:
    try:
        positions, features = (int(part) for part in (text.split("+") if "+" in text else (text, 0)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected P+F such as 3+3, or P, got {text!r}") from None
    return positions, features
