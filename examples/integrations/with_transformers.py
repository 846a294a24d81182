"""seqaug under Hugging Face's Trainer: policy and loss in the model, which knows whether it trains.

python examples/integrations/with_transformers.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset as Rows
from transformers import PrinterCallback, Trainer, TrainingArguments

import seqaug as sa
from seqaug.integrations import next_item_view

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import BATCH, LENGTH, LR, Trained, compare, newest_state, sasrec  # noqa: E402
from recsys.datasets import Dataset, training_pairs  # noqa: E402

Batch = dict[str, Tensor]


class Examples(Rows[Batch]):
    """Rows under the names of the arguments of the model, as Trainer wants them."""

    def __init__(self, data: Dataset) -> None:
        self.items, self.labels = training_pairs(data, LENGTH)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Batch:
        return {"items": self.items[row], "labels": self.labels[row]}


def collate(rows: list[Batch]) -> Batch:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class Plain(nn.Module):
    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.model = sasrec(data)

    def forward(self, items: Tensor, labels: Tensor) -> Batch:
        table = self.model.item_embedding
        return {"loss": self.loss_of(self.model(table(items), items > 0), table.weight, labels)}

    def loss_of(self, hidden: Tensor, table: Tensor, labels: Tensor) -> Tensor:
        logits = hidden @ table[1:-1].T
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten() - 1, ignore_index=-1)


# seqaug: begin
class Augmented(Plain):
    """Every training batch grows by a view of each of its rows."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        mask = sa.Mask(0.2, 0.7, mask_id=data.num_items + 1)
        self.policy = sa.Policy([sa.Crop(0.2, 0.7), mask, sa.Reorder(0.2, 0.7)])
        self.ice = sa.ICELoss(catalog=slice(1, data.num_items + 1))

    def forward(self, items: Tensor, labels: Tensor) -> Batch:
        if self.training:  # not in the data collator: Trainer has one for training and evaluation
            view, view_labels = next_item_view(self.policy, items, labels)
            items, labels = torch.cat([items, view]), torch.cat([labels, view_labels])
        return super().forward(items, labels)

    def loss_of(self, hidden: Tensor, table: Tensor, labels: Tensor) -> Tensor:
        return self.ice(hidden, table, labels)


# seqaug: end


def train(data: Dataset, epochs: int, system: str) -> Trained:
    module = (Augmented if "seqaug" in system else Plain)(data)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=LR, use_cpu=True,
            lr_scheduler_type="constant", save_strategy="no", report_to=[], logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(module, arguments, data_collator=collate, train_dataset=Examples(data))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return newest_state(module.model)


if __name__ == "__main__":
    compare(__doc__, "transformers", {"F.cross_entropy": 10, "seqaug: ICELoss, next_item_view": 10}, train)
