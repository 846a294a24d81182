"""seqaug under Accelerate: a plain loop, and draws on whatever device the batch is prepared for.

python examples/integrations/with_accelerate.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import seqaug as sa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import BATCH, LENGTH, LR, Trained, compare, newest_state, sasrec  # noqa: E402
from recsys.datasets import Dataset, training_pairs  # noqa: E402


class Plain(nn.Module):
    """Model and loss in one module, so that Accelerate wraps the whole step."""

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.model = sasrec(data)

    def forward(self, items: Tensor, target: Tensor) -> Tensor:
        table = self.model.item_embedding
        logits = self.model(table(items), items > 0) @ table.weight[1:-1].T
        return F.cross_entropy(logits.flatten(0, 1), target.flatten() - 1, ignore_index=-1)


# seqaug: begin
class Augmented(Plain):
    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        mask = sa.Mask(0.2, 0.7, mask_id=data.num_items + 1)
        policy = sa.Policy([sa.Crop(0.2, 0.7), mask, sa.Reorder(0.2, 0.7)])
        self.mixup = sa.MixupOp(policy, alpha=0.4, weighting="none")
        self.loss = sa.ICELoss(catalog=slice(1, data.num_items + 1))

    def forward(self, items: Tensor, target: Tensor) -> Tensor:
        table = self.model.item_embedding
        mixed = self.mixup(items, table)
        hidden, view = self.model(table(items), items > 0), self.model(mixed.embeddings, items > 0)
        loss = self.loss(hidden, table.weight, target)
        return loss + self.loss(view, table.weight, target, weight=mixed.weight)


# seqaug: end


def train(data: Dataset, epochs: int, system: str) -> Trained:
    accelerator = Accelerator()
    module = (Augmented if "seqaug" in system else Plain)(data)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR)
    batches = DataLoader(TensorDataset(*training_pairs(data, LENGTH)), BATCH, shuffle=True)
    step, optimizer, batches = accelerator.prepare(module, optimizer, batches)
    for _ in range(epochs):
        for items, target in batches:
            loss = step(items, target)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
    return newest_state(module.model.cpu())


if __name__ == "__main__":
    compare(__doc__, "accelerate", {"F.cross_entropy": 10, "seqaug: ICELoss, MixupOp": 10}, train)
