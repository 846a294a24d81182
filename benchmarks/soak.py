"""Hours of augmentation and loss steps on random shapes: is memory flat, the compiler quiet, the speed steady?

    python benchmarks/soak.py --minutes 120

Every step draws a batch shape, augments and mixes it, encodes it by a table look-up, and takes a loss and its gradients;
one step in four goes through `torch.compile`. Once a minute one line: resident memory, steps so far, graphs compiled so far.
The slopes at the end are of a line through all minutes but the first tenth, with their standard errors.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import kilobytes, machine, write_results
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


def slope(times: list[float], values: list[float]) -> tuple[float, float]:
    """Least squares: slope per hour and its standard error."""
    from scipy.stats import linregress

    line = linregress([t / 3600 for t in times], values)
    return float(line.slope), float(line.stderr)


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
    begin = last = time.perf_counter()
    steps = before = 0
    rows: list[dict[str, float]] = []
    while time.perf_counter() - begin < 60 * args.minutes:
        step(compiled if steps % 4 == 0 else mixup, chance.choice(losses), table, chance)
        steps += 1
        now = time.perf_counter()
        if now - last >= args.every:
            row = {
                "seconds": now - begin,
                "resident_mib": kilobytes(STATUS, "VmRSS") / 1024,
                "steps_per_second": (steps - before) / (now - last),
                "graphs": float(counters["stats"]["unique_graphs"]),
            }
            rows.append(row)
            print(
                f"{row['seconds'] / 60:6.1f} min {row['resident_mib']:8.1f} MiB {row['steps_per_second']:7.1f} steps/s "
                f"{row['graphs']:4.0f} graphs",
                flush=True,
            )
            last, before = now, steps
    settled = rows[len(rows) // 10 :]
    times = [row["seconds"] for row in settled]
    found = {
        name: slope(times, [row[name] for row in settled])
        for name in ("resident_mib", "steps_per_second", "graphs")
    }
    for name, (value, error) in found.items():
        print(f"{name}: {value:+.2f} ± {error:.2f} per hour")
    write_results(
        args.out,
        {
            "setting": {"minutes": args.minutes, "steps": steps},
            "machine": machine(),
            "slopes_per_hour": found,
            "results": rows,
        },
    )


if __name__ == "__main__":
    main()
