"""The loop: Lightning with early stopping, checkpoints and exact resuming."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from recsys import ranks
from recsys.checkpoints import read_checkpoint, write_checkpoint
from recsys.datasets import Dataset
from recsys.errors import UsageError
from recsys.evaluation import CUTOFFS, metrics
from recsys.next_item import NextItem
from recsys.recommender import Data, Recommender, build_encoder, rank_users
from recsys.settings import Settings

MONITOR = f"NDCG@{CUTOFFS[-1]}"
PRECISION = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


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


class WholeFiles(TorchCheckpointIO):
    """Lightning's own way copies over the old checkpoint where the run folder is on another disk than ``/tmp``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        write_checkpoint(Path(path), checkpoint)


class Checkpoint(ModelCheckpoint):
    """Lightning's own forgets which epoch was best where the run folder has been moved, and takes the next for it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {name: here(state_dict[name]) for name in state_dict if name.endswith("_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath, "best_k_models": scores})


class Patience(EarlyStopping):
    """Lightning's own takes its patience from the checkpoint, whatever was given to continue with."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})


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
        losses = pl_module.epoch_losses()
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


class EndAtOnce(Callback):
    """Lightning answers SIGTERM with a broadcast, which fails when another process has gone; checkpoints are always whole."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if ranks.world() > 1:  # Lightning has set its own by now
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def fit(
    data: Dataset,
    settings: Settings,
    objective: NextItem,
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
    best = Checkpoint(
        folder,
        "best",
        monitor=MONITOR,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = Checkpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    stopping = Patience(MONITOR, mode="max", patience=settings.patience, check_on_train_epoch_end=True)
    trainer = L.Trainer(
        accelerator=settings.device,
        **ranks.trainer_options(),
        precision=PRECISION[settings.precision],  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        callbacks=[EndAtOnce(), stopping, history, *(callbacks or []), best, last],
        plugins=[WholeFiles()],
        logger=loggers or False,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )
    resume = ranks.from_lead(lambda: _resume_from(folder))
    if resume is not None:
        history.load_state_dict(_read(resume)["callbacks"]["History"])
    if not history.finished(settings):
        trainer.fit(module, batches, ckpt_path=resume, weights_only=True)
    kept = _read(folder / "best.ckpt")
    module.load_state_dict(kept["state_dict"])
    rank_of = {
        "validation": rank_users(module.tested, batches.validation, trainer.strategy.root_device),
        "test": rank_users(module.tested, batches.test, trainer.strategy.root_device),
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
        weights={
            name: value.detach().cpu().contiguous() for name, value in module.tested.state_dict().items()
        },
        history=history.rows,
    )


def _resume_from(folder: Path) -> Path | None:
    """An epoch says all there is to know about the next, so the best one is as good to go on from as the last."""
    best, last = folder / "best.ckpt", folder / "last.ckpt"
    if not best.exists():  # it is what is tested in the end: all epochs again
        last.unlink(missing_ok=True)
        return None
    return last if last.exists() else best


def _read(checkpoint: Path) -> dict[str, Any]:
    return read_checkpoint(checkpoint, "state_dict", "callbacks", "epoch")


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


hush()
