"""What the operators do to the rows of a data set: the figures of docs/conventions.md.

python docs/facts.py Beauty        # or a file of sequences
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import seqaug as sa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from recsys.datasets import Dataset  # noqa: E402
from recsys.errors import UsageError  # noqa: E402
from recsys.sources import load  # noqa: E402

LENGTH = 50


def share(where: torch.Tensor, of: torch.Tensor) -> float:
    return (where & of).sum().item() / of.sum().item()


def facts(data: Dataset) -> list[tuple[str, float]]:
    """(what, share of rows or slots) for training inputs of at most 50 items and rates from 0.2 to 0.7."""
    rows = [row for row in data.training_rows() if len(row) > 1]
    generator = torch.Generator().manual_seed(0)
    similar = sa.ItemSimilarity.from_sequences(data.training_rows(), num_items=data.num_items, k=10)
    found = []
    if data.times is not None:
        tied = [one == other for times in data.times for one, other in zip(times, times[1:], strict=False)]
        found.append(("items with the time of the one before", sum(tied) / max(len(tied), 1)))
    for side in ("left", "right"):
        items = sa.pad_sequences([row[:-1] for row in rows], length=LENGTH, side=side)
        target = sa.pad_sequences([row[1:] for row in rows], length=LENGTH, side=side)
        real = items != 0
        if side == "left":
            found.append(
                ("rows of at most 5 items", share(sa.lengths(items) <= 5, torch.ones(len(items)).bool()))
            )
            nearest = similar.neighbours[items, 0]
            in_row = torch.stack([(nearest == items[:, slot, None]) for slot in range(LENGTH)]).any(0)
            found.append(("nearest neighbour: is in the row", share(in_row, real & (nearest > 0))))
            found.append(
                ("nearest neighbour: is the next target", share(nearest == target, real & (nearest > 0)))
            )
        for operator in (
            sa.Crop(0.2, 0.7, side=side),
            sa.Reorder(0.2, 0.7, side=side),
            sa.Insert(0.2, 0.7, similar, side=side),
            sa.Delete(0.2, 0.5, side=side),
            sa.Swap(0.15, 0.15, side=side),
        ):
            name, seen = (
                type(operator).__name__,
                sa.inspect.summarize(operator, items, target, generator=generator),
            )
            found.append((f"{name}, padded on the {side}: slots that show the future", seen.future))
            found.append((f"{name}, padded on the {side}: slots that show their own target", seen.leaked))
            if name == "Reorder" and side == "left":
                found.append(("Reorder: rows it leaves as they are", seen.unchanged))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What the operators do to the rows of a data set.")
    parser.add_argument("data", help="a known name or a file of sequences")
    try:
        data = load(parser.parse_args().data)
    except UsageError as error:
        sys.exit(f"error: {error}")
    for what, value in facts(data):
        print(f"{value:6.1%}  {what}")


if __name__ == "__main__":
    main()
