"""seqaug in RePlay: a policy among the transforms of its ParquetModule, a loss in its loss protocol.

python examples/integrations/with_replay.py

RePlay counts items from 0 and pads with the cardinality. One id more than there are items serves as mask.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import lightning as L
import polars as pl
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.parquet import ParquetModule
from replay.nn.lightning import LightningModule
from replay.nn.sequential.sasrec import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms
from torch import Tensor, nn

import seqaug as sa
from seqaug.integrations.replay import AugmentTransform, NextItemLoss

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import BATCH, DIM, DROPOUT, HEADS, LAYERS, LENGTH, Trained, compare  # noqa: E402
from recsys.datasets import Dataset  # noqa: E402


# seqaug: begin
def plug_in(model: SasRec, transforms: list[nn.Module], num_items: int) -> None:
    """RePlay's own model and transforms with seqaug's loss and policy."""
    padding = num_items + 1
    policy = sa.Policy(
        [
            sa.Crop(0.2, 0.7, pad_id=padding),
            sa.Mask(0.2, 0.7, mask_id=num_items, pad_id=padding),
            sa.Reorder(0.2, 0.7, pad_id=padding),
        ]
    )
    transforms.insert(1, AugmentTransform(sa.Maybe(policy, p=0.5)))  # after NextTokenTransform
    model.loss = NextItemLoss(sa.ICELoss(catalog=slice(0, num_items), ignore_index=padding))
    model.loss.logits_callback = model.get_logits


# seqaug: end


def schema_of(num_items: int) -> TensorSchema:
    return TensorSchema(
        [
            TensorFeatureInfo(
                "item_id",
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                embedding_dim=DIM,
                cardinality=num_items + 1,
                padding_value=num_items + 1,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
            )
        ]
    )


def train(data: Dataset, epochs: int, system: str) -> Trained:
    num_items, schema = data.num_items, schema_of(data.num_items)
    model = SasRec.from_params(schema, DIM, HEADS, LAYERS, LENGTH, DROPOUT)
    transforms = make_default_sasrec_transforms(schema)
    if "seqaug" in system:
        plug_in(model, transforms["train"], num_items)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "train.parquet")
        pl.DataFrame({"item_id": [[item - 1 for item in row] for row in data.training_rows()]}).write_parquet(
            path
        )
        columns = {"item_id": {"shape": LENGTH + 1, "padding": num_items + 1}}
        batches = ParquetModule(BATCH, {"train": columns}, transforms, train_path=path)
        trainer = L.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(LightningModule(model), batches)
    model.eval()

    def encode(items: Tensor) -> Tensor:
        ids = torch.where(items > 0, items - 1, num_items + 1)
        return model.body({"item_id": ids}, items > 0)[:, -1]

    return Trained(encode, model.body.embedder.get_item_weights()[:num_items].detach())


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    compare(__doc__, "replay-rec", {"RePlay: CE": 10, "seqaug: ICELoss, AugmentTransform": 10}, train)
