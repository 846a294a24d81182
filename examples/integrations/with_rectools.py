"""seqaug in RecTools: a Lightning module of one's own whose loss is seqaug's, on the rows and on a view of each.

python examples/integrations/with_rectools.py

RecTools' SASRec has padding 0, items from 1 on and no mask, so Mask is left out.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset as Interactions
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from torch import Tensor

import seqaug as sa
from seqaug.integrations import next_item_view

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import BATCH, DIM, DROPOUT, HEADS, LAYERS, LENGTH, LR, Trained, compare  # noqa: E402
from recsys.datasets import Dataset  # noqa: E402


# seqaug: begin
class SeqaugModule(TransformerLightningModule):
    """RecTools' steps with seqaug's loss, and its policy in training."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.policy = sa.Policy([sa.Crop(0.2, 0.7), sa.Delete(0.2, 0.5), sa.Reorder(0.2, 0.7)])
        items = len(self.item_external_ids)  # padding and all
        self.ice = sa.ICELoss(catalog=slice(len(self.item_extra_tokens), items))

    def _calc_custom_loss(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        table = self.torch_model.item_model.get_all_embeddings()
        view, view_target = next_item_view(self.policy, batch["x"], batch["y"])
        rows = {"x": torch.cat([batch["x"], view])}
        target = torch.cat([batch["y"], view_target])
        return self.ice(self.torch_model.encode_sessions(rows, table), table, target)

    def _calc_custom_loss_outputs(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Validation: one target per row, after its newest item."""
        newest = self.torch_model.encode_sessions(batch, self.item_embs)[:, -1:]
        loss = self.ice(newest, self.item_embs, batch["y"])
        return {"loss": loss, "logits": newest[:, 0] @ self.item_embs.T}


# seqaug: end


def interactions(data: Dataset) -> Interactions:
    rows = [
        (user, item, 1.0, pd.Timestamp(place, unit="s"))
        for user, row in enumerate(data.training_rows())
        for place, item in enumerate(row)
    ]
    return Interactions.construct(
        pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime])
    )


def train(data: Dataset, epochs: int, system: str) -> Trained:
    own: dict[str, Any] = {"loss": "ice", "lightning_module_type": SeqaugModule} if "seqaug" in system else {}
    recommender = SASRecModel(
        n_blocks=LAYERS, n_heads=HEADS, n_factors=DIM, dropout_rate=DROPOUT, session_max_len=LENGTH, lr=LR,
        batch_size=BATCH, epochs=epochs, **own,
    )  # fmt: skip
    recommender.fit(interactions(data))
    return as_trained(recommender, data)


def as_trained(recommender: SASRecModel, data: Dataset) -> Trained:
    """RecTools numbers items as it meets them, and not those that training has never seen."""
    model = recommender.torch_model.eval()
    number = {item: place for place, item in enumerate(recommender.data_preparator.item_id_map.external_ids)}
    own_id = torch.tensor([0] + [number.get(item, 0) for item in range(1, data.num_items + 1)])
    with torch.no_grad():
        table = model.item_model.get_all_embeddings()

    def encode(items: Tensor) -> Tensor:
        return model.encode_sessions({"x": own_id[items]}, table)[:, -1]

    return Trained(encode, table[own_id[1:]])


if __name__ == "__main__":
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    compare(__doc__, "rectools", {"RecTools: softmax": 10, "seqaug: ICELoss, next_item_view": 10}, train)
