"""seqaug in Lightning: augmentation where batches arrive on their device, the loss in training_step.

python examples/integrations/with_lightning.py
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import seqaug as sa
from seqaug.integrations import next_item_view

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import BATCH, LENGTH, LR, Trained, compare, newest_state, sasrec  # noqa: E402
from recsys.datasets import Dataset, training_pairs  # noqa: E402


class Plain(L.LightningModule):
    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.num_items = data.num_items
        self.model = sasrec(data)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LR)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        items, target = batch
        table = self.model.item_embedding
        logits = self.model(table(items), items > 0) @ table.weight[1:-1].T
        return F.cross_entropy(logits.flatten(0, 1), target.flatten() - 1, ignore_index=-1)


# seqaug: begin
class Augmented(Plain):
    """Every training batch grows by a view of each of its rows."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        mask = sa.Mask(0.2, 0.7, mask_id=data.num_items + 1)
        self.policy = sa.Policy([sa.Crop(0.2, 0.7), mask, sa.Reorder(0.2, 0.7)])
        self.loss = sa.ICELoss(catalog=slice(1, data.num_items + 1))

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        if not self.training:  # Lightning calls this in validation and test, too
            return batch
        items, target = batch
        view, view_target = next_item_view(self.policy, items, target)
        return torch.cat([items, view]), torch.cat([target, view_target])

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        items, target = batch
        table = self.model.item_embedding
        return self.loss(self.model(table(items), items > 0), table.weight, target)


# seqaug: end


def train(data: Dataset, epochs: int, system: str) -> Trained:
    batches = DataLoader(TensorDataset(*training_pairs(data, LENGTH)), BATCH, shuffle=True)
    module = (Augmented if "seqaug" in system else Plain)(data)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, batches)
    return newest_state(module.model)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*num_workers.*|.*log_every_n_steps.*|.*isinstance.*LeafSpec.*")
    compare(__doc__, "lightning", {"F.cross_entropy": 10, "seqaug: ICELoss, next_item_view": 10}, train)
