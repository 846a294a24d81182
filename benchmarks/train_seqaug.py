"""Epochs of the project's own SASRec: with the full softmax, and RM-HSAOCL with four views and 3 + 3 mixes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from epochs import BATCH, DIM, DROPOUT, HEADS, LAYERS, LENGTH, LR, Stopwatch, options

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from integrations.movielens import newest_state  # noqa: E402
from recsys.batches import TrainBatches  # noqa: E402
from recsys.datasets import training_pairs  # noqa: E402
from recsys.recommender import build_encoder  # noqa: E402
from recsys.settings import Settings  # noqa: E402
from rmhsaocl_full import HybridAugmentation  # noqa: E402

AUGMENTATION = {"sasrec-ice": {"views": 0, "mixes": (0, 0)}, "rmhsaocl": {"views": 4, "mixes": (3, 3)}}

if __name__ == "__main__":
    given = options()
    settings = Settings(  # products as scores, as the others have them
        system=given.system, loss="ice", dim=DIM, layers=LAYERS, heads=HEADS, max_length=LENGTH, dropout=DROPOUT,
        batch_size=BATCH, lr=LR, cosine=0.0, **AUGMENTATION[given.system],
    )  # fmt: skip
    torch.manual_seed(0)
    model = build_encoder(given.data, settings).train()
    objective = HybridAugmentation(given.data, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    items, target = training_pairs(given.data, LENGTH)
    watch = Stopwatch(given.data)
    for epoch in range(given.epochs):
        watch.start()
        for batch in TrainBatches(items, target, BATCH, seed=epoch):
            loss = sum(objective(model, batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        watch.stop(model, lambda: newest_state(model))
