"""Epochs of RePlay's SASRec with its full softmax (CE), as its own ParquetModule and Lightning train it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import lightning as L
import polars as pl
import torch
from epochs import BATCH, DIM, DROPOUT, HEADS, LAYERS, LENGTH, Stopwatch, Trained, options
from lightning.pytorch.callbacks import LambdaCallback
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.parquet import ParquetModule
from replay.nn.lightning import LightningModule
from replay.nn.sequential.sasrec import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms

if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    given = options()
    items = given.data.num_items
    feature = TensorFeatureInfo(
        "item_id", is_seq=True, feature_type=FeatureType.CATEGORICAL, embedding_dim=DIM, cardinality=items,
        padding_value=items, feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
    )  # fmt: skip
    schema = TensorSchema([feature])
    torch.manual_seed(0)
    model = SasRec.from_params(schema, DIM, HEADS, LAYERS, LENGTH, DROPOUT)
    watch = Stopwatch(given.data)

    def encode(rows: torch.Tensor) -> torch.Tensor:
        return model.body({"item_id": torch.where(rows > 0, rows - 1, items)}, rows > 0)[:, -1]

    callback = LambdaCallback(
        on_train_epoch_start=lambda *_: watch.start(),
        on_train_epoch_end=lambda *_: watch.stop(
            model, lambda: Trained(encode, model.body.embedder.get_item_weights().detach())
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "train.parquet")
        rows = [[item - 1 for item in row] for row in given.data.training_rows() if len(row) > 1]
        pl.DataFrame({"item_id": rows}).write_parquet(path)
        columns = {"item_id": {"shape": LENGTH + 1, "padding": items}}
        batches = ParquetModule(
            BATCH, {"train": columns}, make_default_sasrec_transforms(schema), train_path=path
        )
        L.Trainer(
            max_epochs=given.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[callback],
        ).fit(LightningModule(model), batches)  # fmt: skip
