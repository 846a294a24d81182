"""seqaug in a plain PyTorch loop: a view of every row, mixed into its item vectors, and a loss over the whole catalog.

python examples/integrations/with_pytorch.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import seqaug as sa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import BATCH, LENGTH, LR, Trained, compare, newest_state, sasrec  # noqa: E402
from recsys.datasets import Dataset, training_pairs  # noqa: E402
from recsys.encoders import SASRec  # noqa: E402

Step = Callable[[SASRec, Tensor, Tensor], Tensor]


def plain(num_items: int) -> Step:
    def step(model: SASRec, items: Tensor, target: Tensor) -> Tensor:
        table = model.item_embedding
        logits = model(table(items), items > 0) @ table.weight[1 : num_items + 1].T
        return F.cross_entropy(logits.flatten(0, 1), target.flatten() - 1, ignore_index=-1)

    return step


# seqaug: begin
def augmented(num_items: int) -> Step:
    mask = sa.Mask(0.2, 0.7, mask_id=num_items + 1)
    mixup = sa.MixupOp(
        sa.Policy([sa.Crop(0.2, 0.7), mask, sa.Reorder(0.2, 0.7)]), alpha=0.4, weighting="none"
    )
    ice = sa.ICELoss(catalog=slice(1, num_items + 1))

    def step(model: SASRec, items: Tensor, target: Tensor) -> Tensor:
        table = model.item_embedding
        mixed = mixup(items, table)
        hidden, view = model(table(items), items > 0), model(mixed.embeddings, items > 0)
        return ice(hidden, table.weight, target) + ice(view, table.weight, target, weight=mixed.weight)

    return step


# seqaug: end


def train(data: Dataset, epochs: int, system: str) -> Trained:
    items, target = training_pairs(data, LENGTH)
    model = sasrec(data).train()
    step = (augmented if "seqaug" in system else plain)(data.num_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(epochs):
        for rows in torch.randperm(len(items)).split(BATCH):
            loss = step(model, items[rows], target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return newest_state(model)


if __name__ == "__main__":
    compare(__doc__, "torch", {"F.cross_entropy": 10, "seqaug: ICELoss, MixupOp": 10}, train)
