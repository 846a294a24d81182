"""Epochs of RecTools' SASRec with its full softmax, as its own model trains it."""

from __future__ import annotations

import logging
import warnings

import torch
from epochs import BATCH, DIM, DROPOUT, HEADS, LAYERS, LENGTH, LR, Stopwatch, options
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback
from rectools.models import SASRecModel

from integrations.with_rectools import as_trained, interactions

if __name__ == "__main__":
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    given = options()
    torch.manual_seed(0)
    watch = Stopwatch(given.data)

    def trainer() -> Trainer:
        callback = LambdaCallback(
            on_train_epoch_start=lambda *_: watch.start(),
            on_train_epoch_end=lambda *_: watch.stop(
                recommender.torch_model, lambda: as_trained(recommender, given.data)
            ),
        )
        return Trainer(
            max_epochs=given.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
        )  # fmt: skip

    recommender = SASRecModel(
        n_blocks=LAYERS, n_heads=HEADS, n_factors=DIM, dropout_rate=DROPOUT, session_max_len=LENGTH, lr=LR,
        batch_size=BATCH, loss="softmax", get_trainer_func=trainer,
    )  # fmt: skip
    recommender.fit(interactions(given.data))
