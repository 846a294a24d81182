"""What the examples beside this file share: MovieLens-100k, its split, one way of measuring, one table at the end.

The data come from an installed recbole (``pip install --no-deps recbole==1.2.1``), read where they are; without one they are
downloaded. Every framework gets the same rows and is measured by the same code, from its hidden states and item vectors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.datasets import Dataset, held_out
from recsys.encoders import SASRec
from recsys.errors import UsageError
from recsys.evaluation import metrics, ranks
from recsys.sources import load

LENGTH, DIM, LAYERS, HEADS, DROPOUT, BATCH, LR = 50, 64, 2, 2, 0.2, 128, 1e-3
PROTOCOL = """\
protocol: the last item of every user is the test target, training sees all but the last two, and of every user the
newest 50; full ranking over all items, seen items left out, ties against the target; a fixed number of epochs, nothing
is chosen on the test items; one seed"""


class Trained(NamedTuple):
    """A trained recommender, whatever made it."""

    encode: Callable[
        [Tensor], Tensor
    ]  # ids 1..V (users, 50), 0-padded on the left -> newest states (users, D)
    table: Tensor  # (V, D), the vector of item 1, 2, ..., V


Train = Callable[[Dataset, int, str], Trained]  # data, epochs, name of the system


def movielens() -> Dataset:
    """Rows of MovieLens-100k, items 1..V; ends with one line on how to get them if they are nowhere."""
    try:
        return load("ml-100k")
    except UsageError as error:
        sys.exit(f"error: {error}, or: pip install --no-deps recbole==1.2.1")


def sasrec(data: Dataset) -> SASRec:
    """The encoder of the examples whose framework brings none."""
    return SASRec(data.num_items, DIM, LAYERS, HEADS, LENGTH, DROPOUT)


def newest_state(model: SASRec) -> Trained:
    """How that encoder is measured."""
    table = model.eval().item_embedding
    return Trained(lambda items: model(table(items), items > 0)[:, -1], table.weight[1:-1])


@torch.no_grad()
def measure(trained: Trained, data: Dataset, part: str = "test") -> dict[str, float]:
    """HR and NDCG of the held-out targets."""
    held = held_out(data, part, LENGTH)
    states = torch.cat([trained.encode(items) for items in held.items.split(512)])
    rank = torch.cat(
        [
            ranks(hidden, F.pad(trained.table, (0, 0, 1, 1)), target, seen)
            for hidden, target, seen in zip(
                states.split(512), held.target.split(512), held.seen.split(512), strict=True
            )
        ]
    )
    return metrics(rank)


def compare(doc: str, package: str, epochs: dict[str, int], train: Train) -> None:
    """Train each system of ``epochs`` from the same seed and print them side by side."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=int, help=f"of each system instead of {', '.join(map(str, epochs.values()))}"
    )
    given = parser.parse_args().epochs
    data = movielens()
    print(f"{package} {version(package)}, torch {torch.__version__}, seqaug {version('seqaug')}")
    print(data.statistics())
    print(f"{'':36}{'epochs':>8}{'seconds':>9}{'HR@10':>9}{'NDCG@10':>9}", flush=True)
    for name, usual in epochs.items():
        torch.manual_seed(0)
        start = time.perf_counter()
        trained = train(data, given or usual, name)
        seconds = time.perf_counter() - start
        found = measure(trained, data)
        print(
            f"{name:36}{given or usual:8}{seconds:9.1f}{found['HR@10']:9.4f}{found['NDCG@10']:9.4f}",
            flush=True,
        )
    print(PROTOCOL)
