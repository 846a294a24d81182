"""ASReP: pseudo-prior items from a transformer that reads rows backwards (Liu et al., SIGIR 2021).

1. Train on reversed rows: the encoder learns which item came before (section 2.2).
2. Let it make up 15 earlier items for each row shorter than 18, one after the other, each the best that the row has not
   (section 2.3), and put them before the row.
3. Train forward on the longer rows from the reversed weights (section 2.4); made-up items are targets like any other.

    python examples/rmhsaocl_full.py --data Beauty --system asrep --out runs/asrep
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from recsys import ranks
from recsys.datasets import Dataset
from recsys.encoders import Encoder
from recsys.errors import UsageError
from recsys.next_item import NextItem, Start
from recsys.settings import Settings
from systems.made_up import best_new, make_up

SHORT, MADE = 18, 15  # M and the number of generated items in the authors' command for Beauty


class ASReP(NextItem):
    """Plain next-item training on rows that begin with made-up items."""

    @classmethod
    def check(cls, data: Dataset, settings: Settings) -> None:
        longest = max(map(len, data.training_rows()))
        if longest < 3:
            raise UsageError(
                f"expected a row of at least 3 training items for {settings.system}, of which two are read backwards and one "
                f"is held out, got {longest} in the longest of {data.name}; take another system"
            )

    @classmethod
    def prepare(
        cls, data: Dataset, settings: Settings, folder: Path, control: Path, quiet: bool = False
    ) -> Start:
        from recsys.console import Console, MetricsFile
        from recsys.recommender import build_encoder
        from recsys.training import History, fit

        backwards = reversed_rows(data)
        history = History()
        fitted = fit(
            backwards, settings, NextItem(backwards, settings), folder / "reversed" / "checkpoints",
            history=history,
            callbacks=[
                Console(history, f"{folder.name} reversed", quiet), MetricsFile(history, folder / "reversed"),
            ],
        )  # fmt: skip
        encoder = build_encoder(data, settings)
        encoder.load_state_dict(fitted.weights)
        encoder.eval()
        made = ranks.from_lead(
            lambda: make_up(
                data.training_rows(),
                lambda rows: earlier_items(
                    encoder, rows, min(MADE, data.num_items - SHORT), settings.max_length
                ),
                folder / "made.safetensors",
                shorter_than=SHORT,
            )
        )
        facts = {
            "reversed": {
                "epochs": fitted.epochs,
                "best_epoch": fitted.best_epoch,
                "seconds": round(fitted.seconds, 1),
            }
        }
        return Start(data.preceded_by(made, score_made=True), fitted.weights, facts)


def reversed_rows(data: Dataset) -> Dataset:
    """The training rows, newest item first; the earliest item of each is held out to choose the epoch by."""
    rows = [
        (user, row[::-1]) for user, row in zip(data.users, data.training_rows(), strict=True) if len(row) > 1
    ]
    return dataclasses.replace(
        data, rows=[row for _, row in rows], users=[user for user, _ in rows], times=None, held=1
    )


def earlier_items(encoder: Encoder, rows: Tensor, count: int, max_length: int) -> Tensor:
    """Items that may have come before.

    Args:
        encoder: trained on reversed rows.
        rows: (rows, slots) right-padded ids, oldest first.
        count: how many.
        max_length: slots that the encoder can read.

    Returns:
        (rows, count) ids, oldest first.
    """
    table = encoder.item_embedding
    backwards = rows.flip(1)  # left-padded; the oldest item is last, where the next one is predicted
    for _ in range(count):
        read = backwards[:, -max_length:]
        state = encoder(table(read), read > 0, newest=1)[:, -1]
        item = best_new(state @ table.weight[1:-1].T, backwards)
        backwards = torch.cat([backwards, item[:, None]], 1)
    return backwards[:, rows.shape[1] :].flip(1)
