"""Hours of augmentation and loss steps on random shapes: is memory flat, the compiler quiet, the speed steady?

    python benchmarks/soak.py --minutes 120

Every step draws a batch shape, augments and mixes it, encodes it by a table look-up, and takes a loss and its gradients;
one step in four goes through `torch.compile`. Once a minute one line, and the JSON anew: resident memory, steps per second
of the process's own time (so that what else the machine does is no part of it), graphs compiled so far. The slopes are of a
line through all minutes but the first tenth, with their standard errors.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import kilobytes, machine, write_results
from scipy.stats import linregress
from torch import Tensor
from torch._dynamo.utils import counters

import seqaug as sa

ITEMS, FEATURES = 5_000, 32
STATUS = Path("/proc/self/status")


def build() -> tuple[sa.MixupOp, list[torch.nn.Module], torch.nn.Embedding]:
    similar = torch.randint(1, ITEMS + 1, (ITEMS + 2, 5))
    policy = sa.Policy(
        [
            sa.Crop(0.2, 0.7), sa.Mask(0.2, 0.7, mask_id=ITEMS + 1), sa.Reorder(0.2, 0.7),
            sa.Substitute(0.2, 0.7, similar, top=3, exclude_row=True), sa.Insert(0.2, 0.7, similar), sa.Delete(0.2, 0.5),
        ]
    )  # fmt: skip
    catalog = slice(1, ITEMS + 1)
    losses = [sa.ICELoss(catalog=catalog), sa.SampledSoftmaxLoss(), sa.BCELoss(), sa.SCELoss(catalog=catalog)]
    return sa.MixupOp(policy, alpha=0.4), losses, torch.nn.Embedding(ITEMS + 2, FEATURES, padding_idx=0)


def batch(chance: random.Random) -> tuple[Tensor, Tensor]:
    """Ids and targets of a random number of rows and slots."""
    rows, slots = chance.randint(1, 64), chance.randint(1, 50)
    lengths = torch.randint(0, slots + 1, (rows, 1))
    real = torch.arange(slots) >= slots - lengths
    items, target = (torch.randint(1, ITEMS + 1, (rows, slots)) * real for _ in range(2))
    return items, target


def step(
    mixup: Callable[..., sa.Mixed], loss: torch.nn.Module, table: torch.nn.Embedding, chance: random.Random
) -> None:
    items, target = batch(chance)
    mixed = mixup(items, table)
    sampled = {"negatives": torch.randint(1, ITEMS + 1, (64,))} if loss.needs_negatives else {}
    table.zero_grad()
    value = loss(mixed.embeddings, table.weight, target, weight=mixed.weight, **sampled)
    value.backward()
    if not value.isfinite():
        raise RuntimeError(
            f"expected a finite loss, got {value.item()} of {loss} on shape {tuple(items.shape)}"
        )


def slopes(rows: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Of each measure: its slope per hour by least squares and the slope's standard error; nothing of under three rows."""
    settled = rows[len(rows) // 10 :]
    if len(settled) < 3:
        return {}
    hours = [row["seconds"] / 3600 for row in settled]
    lines = {
        name: linregress(hours, [row[name] for row in settled])
        for name in ("resident_mib", "steps_per_own_second", "graphs")
    }
    # Of numbers that are all the same the error is 0, where scipy has 0 / 0.
    return {
        name: (float(line.slope), 0.0 if math.isnan(line.stderr) else float(line.stderr))
        for name, line in lines.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines")
    parser.add_argument("--out", default="soak", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    torch.manual_seed(0)
    chance = random.Random(0)
    mixup, losses, table = build()
    compiled = torch.compile(mixup, dynamic=True)
    setting, host = {"minutes": args.minutes, "every": args.every}, machine()
    begin = last = time.perf_counter()
    own = time.process_time()
    steps = before = 0
    rows: list[dict[str, float]] = []
    while time.perf_counter() - begin < 60 * args.minutes:
        step(compiled if steps % 4 == 0 else mixup, chance.choice(losses), table, chance)
        steps += 1
        now = time.perf_counter()
        if now - last < args.every:
            continue
        row = {
            "seconds": now - begin,
            "steps": float(steps),
            "resident_mib": kilobytes(STATUS, "VmRSS") / 1024,
            "steps_per_own_second": (steps - before) / (time.process_time() - own),
            "graphs": float(counters["stats"]["unique_graphs"]),
        }
        rows.append(row)
        print(
            f"{row['seconds'] / 60:6.1f} min {row['resident_mib']:8.1f} MiB {row['steps_per_own_second']:7.1f} steps/s "
            f"{row['graphs']:4.0f} graphs",
            flush=True,
        )
        content = {"setting": setting, "machine": host, "slopes_per_hour": slopes(rows), "results": rows}
        write_results(args.out, content)
        last, own, before = now, time.process_time(), steps
    for name, (value, error) in slopes(rows).items():
        print(f"{name}: {value:+.2f} ± {error:.2f} per hour")


if __name__ == "__main__":
    main()
