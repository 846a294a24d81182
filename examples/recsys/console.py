"""What a person sees while a system trains: one progress bar, one line per epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from recsys import ranks
from recsys.folder import write_rows
from recsys.recommender import Recommender
from recsys.training import MONITOR, History


class Console(Callback):
    """A bar over the steps of an epoch (on a terminal) and a line of validation figures after it."""

    def __init__(self, history: History, name: str, quiet: bool = False) -> None:
        self.history = history
        self.name = name
        self.quiet = quiet
        self.bar: tqdm[Any] | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = tqdm(
                total=int(trainer.num_training_batches), desc=f"{self.name} epoch {trainer.current_epoch + 1}",
                unit="batch", leave=False, disable=True if self.quiet else None,
            )  # fmt: skip

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.bar is not None and not self.bar.disable:
            assert isinstance(pl_module, Recommender)
            if pl_module.steps % 10 == 0:
                self.bar.set_postfix(loss=f"{sum(pl_module.mean_losses().values()):.4f}", refresh=False)
            self.bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.bar is None:
            return
        self.bar.close()
        row = self.history.rows[-1]
        if not self.quiet:
            best = max(self.history.rows, key=lambda other: other[MONITOR])
            parts = "".join(
                f" {key[5:]} {value:.4f}" for key, value in row.items() if key.startswith("loss_")
            )
            print(
                f"{self.name} epoch {row['epoch']:3d} | loss {row['loss']:.4f} ({parts.strip()}) | validation "
                f"HR@10 {row['HR@10']:.4f} NDCG@10 {row['NDCG@10']:.4f} {MONITOR} {row[MONITOR]:.4f}"
                f"{' *' if best is row else '  '} | train {row['train_seconds']:.1f} s, in all {row['seconds']:.1f} s",
                flush=True,
            )


class MetricsFile(Callback):
    """``metrics.csv`` after every epoch, and the losses to the loggers."""

    def __init__(self, history: History, folder: Path) -> None:
        self.history = history
        self.folder = folder

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = self.history.rows[-1]
        write_rows(self.folder / "metrics.csv", self.history.rows)
        for logger in trainer.loggers:
            logger.log_metrics(
                {key: value for key, value in row.items() if "loss" in key}, step=trainer.global_step
            )


def say(text: str = "", quiet: bool = False) -> None:
    """Once, however many processes there are."""
    if not quiet and ranks.lead():
        print(text, flush=True)
