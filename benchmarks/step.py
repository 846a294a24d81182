"""What augmentation and mixing cost within a training step of the main job.

    python benchmarks/step.py --data Beauty

The same steps on the same batches, in turn: as they are, and with stand-ins that draw nothing and mix nothing, so that encoder
and loss do exactly the same work (a view is the row itself, a partner the row itself). The difference of the two is what drawing,
editing and mixing cost, forward and backward.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import machine, medians, write_results
from torch import Tensor

import seqaug as sa

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class NoMixup(torch.nn.Module):
    """A mix that leaves everything as it is."""

    def sample_views(
        self, items: Tensor, views: int, *, generator: torch.Generator | None = None
    ) -> list[Any]:
        class Kept:
            weight = torch.ones(len(items))

            @staticmethod
            def edit(items: Tensor) -> Tensor:
                return items

            def __call__(self, own: Tensor, view: Tensor) -> Tensor:
                return view

        return [Kept()] * views


class NoCross(torch.nn.Module):
    """A pair in which every row is its own partner."""

    def __init__(self, over: str) -> None:
        super().__init__()
        self.over = over

    def sample(self, hidden: Tensor, **_: Any) -> Any:
        class Kept:
            def __call__(self, x: Tensor) -> Tensor:
                return x

            @staticmethod
            def targets(target: Tensor) -> sa.SoftTarget:
                return sa.SoftTarget(target, target, torch.full_like(target, 0.5, dtype=torch.float32))

        return Kept()


def measure(data: Any, settings: Any, batches: int, repeats: int) -> dict[str, Any]:
    """Seconds of the steps as they are and of those that draw and mix nothing."""
    from recsys.recommender import Data, build_encoder
    from rmhsaocl_full import HybridAugmentation

    encoder = build_encoder(data, settings)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    real, plain = HybridAugmentation(data, settings), HybridAugmentation(data, settings)
    plain.mixup = NoMixup()
    plain.mixes = [NoCross(mix.over) for mix in real.mixes]
    generator = torch.Generator().manual_seed(0)

    def step(objective: torch.nn.Module, batch: Any) -> None:
        optimizer.zero_grad()
        torch.stack(list(objective(encoder, batch, generator=generator).values())).sum().backward()
        optimizer.step()

    seconds = {"with": 0.0, "without": 0.0}
    for batch in list(Data(data, settings).train_dataloader())[:batches]:
        calls = {"with": partial(step, real, batch), "without": partial(step, plain, batch)}
        for name, median in medians(calls, repeats=repeats).items():
            seconds[name] += median
    share = 1 - seconds["without"] / seconds["with"]
    return {"views": settings.views, "mixes": settings.mixes, "seconds": seconds, "share": share}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="shop", help="as for the main job")
    parser.add_argument("--batches", type=int, default=12, help="of different lengths")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", default="step", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    from recsys.settings import resolve
    from recsys.sources import data_name, load

    torch.manual_seed(0)
    data = load(args.data, quiet=True)
    found = []
    for name, paper, batches in (
        ("recipe", False, "length"),
        ("paper", True, "length"),
        ("paper, batches of random rows", True, "random"),
    ):
        settings = resolve("rmhsaocl", {"batches": batches}, paper, data_name(args.data))
        row = {"settings": name} | measure(data, settings, args.batches, args.repeats)
        found.append(row)
        print(
            f"{name}: {settings.views} views, {settings.mixes[0]}+{settings.mixes[1]} mixes: "
            f"{row['seconds']['with'] / args.batches * 1e3:.0f} ms per step, {row['share']:.1%} of it drawing, editing and mixing",
            flush=True,
        )
    setting = {"data": data.name, "batches": args.batches, "repeats": args.repeats}
    write_results(args.out, {"setting": setting, "machine": machine(), "results": found})


if __name__ == "__main__":
    main()
