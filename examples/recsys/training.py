"""The loop: Lightning around an encoder and an objective, with early stopping, checkpoints and exact resuming.

Everything random in an epoch (order of the rows, draws, dropout) is seeded from the run's seed and the number of
the epoch, so a checkpoint at the end of an epoch holds all there is to know.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from recsys.batches import HeldBatches, TrainBatches
from recsys.datasets import Dataset, Held, held_out, training_pairs
from recsys.encoders import ENCODERS, Encoder
from recsys.errors import UsageError
from recsys.evaluation import CUTOFFS, metrics, ranks
from recsys.settings import Settings

MONITOR = f"NDCG@{CUTOFFS[-1]}"
PRECISION = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class Data(L.LightningDataModule):
    """Batches of one data set: training rows by length, held-out rows in full."""

    def __init__(self, data: Dataset, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.items, self.target = training_pairs(data, settings.max_length)
        self.validation = held_out(data, "validation", settings.max_length)
        self.test = held_out(data, "test", settings.max_length)

    def _share(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> TrainBatches:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return TrainBatches(
            self.items,
            self.target,
            self.settings.batch_size,
            epoch_seed(self.settings.seed, epoch),
            *self._share(),
        )

    def val_dataloader(self) -> HeldBatches:
        rank, world = self._share()
        return HeldBatches(self.validation, rank=rank, world=world)


class Recommender(L.LightningModule):
    """An encoder trained on an objective and ranked against the whole catalog.

    The objective is what a system is: called with (encoder, items, target, generator=) it returns the named losses of
    one batch, whose sum is minimised.
    """

    def __init__(self, encoder: Encoder, objective: nn.Module, settings: Settings, users: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.settings = settings
        self.users = users
        self.generator: torch.Generator | None = None
        self.parts: dict[str, Tensor] = {}  # sums over the epoch's steps
        self.steps = 0
        self.rank_of = torch.zeros(0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.settings.lr)

    def on_train_epoch_start(self) -> None:
        seed = epoch_seed(self.settings.seed, self.current_epoch) + 7919 * self.global_rank
        torch.manual_seed(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed + 1)
        self.parts, self.steps = {}, 0

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        items, target = batch
        losses = self.objective(self.encoder, items, target, generator=self.generator)
        self.steps += 1
        for name, value in losses.items():
            self.parts[name] = self.parts.get(name, 0) + value.detach()
        return torch.stack(list(losses.values())).sum()

    def mean_losses(self) -> dict[str, float]:
        return {name: float(value) / max(self.steps, 1) for name, value in self.parts.items()}

    def on_validation_epoch_start(self) -> None:
        self.rank_of = torch.zeros(self.users, dtype=torch.int32, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], _: int) -> None:
        rows, items, target, seen = batch
        self.rank_of[rows] = rank_batch(self.encoder, items, target, seen)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            everyone = cast(
                Tensor, self.all_gather(self.rank_of)
            )  # (devices, users): one has ranked, the others hold 0
            self.rank_of = everyone.sum(0)
        for name, value in metrics(self.rank_of.cpu()).items():
            self.log(name, value, rank_zero_only=False)


def epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) * 2_147_483_629 % (2**62)


@dataclass
class Fit:
    """What training and testing one system gave."""

    epochs: int  # trained
    best_epoch: int  # the one that was tested
    seconds: float  # of training and validation, over all sittings
    epoch_seconds: float  # of training alone, the median epoch
    validation: dict[str, float]
    test: dict[str, float]
    validation_ranks: Tensor  # (users,) int32
    test_ranks: Tensor
    weights: dict[str, Tensor]
    history: list[dict[str, float]]


class History(Callback):
    """One row per epoch: losses, validation figures, seconds. Kept in the checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._start = 0.0
        self._trained = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Recommender)
        losses = pl_module.mean_losses()
        if not math.isfinite(sum(losses.values())):
            raise UsageError(
                f"expected a finite loss, got {losses} in epoch {trainer.current_epoch + 1}; lower --lr"
            )
        figures = {name: float(trainer.callback_metrics[name]) for name in metrics(torch.zeros(1))}
        self.rows.append(
            {"epoch": trainer.current_epoch + 1, "loss": sum(losses.values())}
            | {f"loss_{name}": value for name, value in losses.items()}
            | figures
            | {"train_seconds": self._trained, "seconds": time.perf_counter() - self._start}
        )

    def finished(self, settings: Settings) -> bool:
        """Whether the last epoch was the last there is to train."""
        if not self.rows:
            return False
        best = max(
            range(len(self.rows)), key=lambda number: self.rows[number][MONITOR]
        )  # the first of equals
        return len(self.rows) >= settings.epochs or len(self.rows) - 1 - best >= settings.patience

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = [dict(row) for row in state["rows"]]


def fit(
    data: Dataset,
    settings: Settings,
    objective: nn.Module,
    folder: Path,
    *,
    history: History,
    start_from: dict[str, Tensor] | None = None,
    callbacks: list[Callback] | None = None,
    loggers: list[Any] | None = None,
) -> Fit:
    """Train one system until validation stops improving, test its best epoch; continues what ``folder`` holds."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    encoder = build_encoder(data, settings)
    if start_from is not None:
        encoder.load_state_dict(start_from)
    module = Recommender(encoder, objective, settings, users=len(data.rows))
    batches = Data(data, settings)
    best = ModelCheckpoint(
        folder,
        "best",
        monitor=MONITOR,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    stopping = EarlyStopping(MONITOR, mode="max", patience=settings.patience, check_on_train_epoch_end=True)
    trainer = L.Trainer(
        accelerator=settings.device,
        devices=settings.devices,
        strategy="ddp_spawn" if settings.devices > 1 else "auto",
        precision=PRECISION[settings.precision],  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        callbacks=[stopping, history, *(callbacks or []), best, last],
        logger=loggers or False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )
    resume = folder / "last.ckpt"
    if resume.exists():
        history.load_state_dict(
            torch.load(resume, map_location="cpu", weights_only=True)["callbacks"]["History"]
        )
    if not history.finished(settings):
        trainer.fit(module, batches, ckpt_path=resume if resume.exists() else None, weights_only=True)
    if settings.devices > 1:  # the epochs were counted in other processes
        history.load_state_dict(_load(resume)["callbacks"]["History"])
    kept = _load(folder / "best.ckpt")
    module.load_state_dict(kept["state_dict"])
    rank_of = {
        "validation": rank_users(encoder, batches.validation, trainer.strategy.root_device),
        "test": rank_users(encoder, batches.test, trainer.strategy.root_device),
    }
    seconds = sorted(row["train_seconds"] for row in history.rows)
    return Fit(
        epochs=len(history.rows),
        best_epoch=int(kept["epoch"]) + 1,
        seconds=sum(row["seconds"] for row in history.rows),
        epoch_seconds=seconds[len(seconds) // 2],
        validation=metrics(rank_of["validation"]),
        test=metrics(rank_of["test"]),
        validation_ranks=rank_of["validation"],
        test_ranks=rank_of["test"],
        weights={name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()},
        history=history.rows,
    )


def rank_batch(encoder: Encoder, items: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Ranks (rows,) of the targets after the histories ``items`` (rows, slots)."""
    hidden = encoder(encoder.item_embedding(items), items > 0)[:, -1]
    return ranks(hidden, encoder.item_embedding.weight, target, seen)


@torch.no_grad()
def rank_users(encoder: Encoder, held: Held, device: torch.device | str = "cpu") -> Tensor:
    """Rank (users,) of every held-out target."""
    encoder.to(device).eval()
    found = torch.zeros(len(held.target), dtype=torch.int32)
    for rows, *batch in HeldBatches(held):
        found[rows] = rank_batch(encoder, *(part.to(device) for part in batch)).cpu()
    return found


def build_encoder(data: Dataset, settings: Settings) -> Encoder:
    return ENCODERS[settings.encoder](
        data.num_items, settings.dim, settings.layers, settings.heads, settings.max_length, settings.dropout
    )


def expected_targets(data: Dataset, settings: Settings) -> float:
    """Mean number of targets a batch scores: all real ones, or one per row for a loss on the last slot."""
    lengths: Iterator[int] = (min(len(row) - 1, settings.max_length) for row in data.training_rows())
    real = [length for length in lengths if length > 0]
    batches = -(-len(real) // settings.batch_size)
    return (len(real) if settings.loss == "ce" else sum(real)) / batches


def _load(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def hush() -> None:
    """Keep Lightning's banners and hints to itself; errors still come through."""
    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*treespec.*|.*LeafSpec.*")


hush()  # here, since the processes of further devices import this module, too
