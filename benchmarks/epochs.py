"""What the trainers of benchmarks/training.py share: sizes, a stopwatch, one way of measuring.

A trainer runs in the environment of its framework and prints one line of JSON per epoch. The time is that of training alone;
all are measured by the same code, from hidden states and item vectors.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common import matmul_rate
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from integrations.movielens import Trained, measure  # noqa: E402
from recsys.datasets import Dataset  # noqa: E402
from recsys.sources import load  # noqa: E402

DIM, LAYERS, HEADS, LENGTH, BATCH, LR, DROPOUT = 64, 2, 2, 50, 256, 1e-3, 0.2


@dataclass
class Stopwatch:
    """Around the training of each epoch: ``start()``, then ``stop(model, trained)``, which also measures."""

    data: Dataset
    number: int = 0
    began: float = 0.0
    rate: float = field(default_factory=matmul_rate)

    def start(self) -> None:
        self.number += 1
        self.began = time.perf_counter()

    def stop(self, model: nn.Module, trained: Callable[[], Trained]) -> None:
        seconds = time.perf_counter() - self.began
        rate = (self.rate + matmul_rate()) / 2  # before and after
        model.eval()
        figures = measure(trained(), self.data, "validation")
        model.train()
        self.rate = matmul_rate()
        print(
            json.dumps(
                {"epoch": self.number, "seconds": seconds, "matmul_gflops": rate / 1e9, "validation": figures}
            ),
            flush=True,
        )


def options() -> argparse.Namespace:
    """``data``, ``epochs`` and ``system`` of a trainer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=load)
    parser.add_argument("epochs", type=int)
    parser.add_argument("system")
    return parser.parse_args()
