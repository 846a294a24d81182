"""What the contrastive systems share: two views of a row shall look alike to the encoder, and unlike those of other rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

import seqaug as sa
from recsys.batches import Batch
from recsys.datasets import Dataset
from recsys.encoders import Cosine, Encoder
from recsys.next_item import NextItem
from recsys.settings import Settings


class Contrast(NextItem):
    """L = L_rec + weight * InfoNCE(view, other view), each view the encoder's last state on an augmented row.

    The other rows of the batch are the negatives; of several processes each contrasts the rows it has.

    Args:
        data: the data set.
        settings: ``contrast`` is the weight, ``temperature`` that of InfoNCE.
        policy: which operator a view of a row gets.
    """

    means_over_rows = frozenset({"contrast"})

    def __init__(self, data: Dataset, settings: Settings, policy: sa.Augmentation) -> None:
        super().__init__(data, settings)
        self.policy: sa.Augmentation = policy
        self.weight = settings.contrast
        self.length = settings.max_length
        self.info_nce = sa.InfoNCELoss(temperature=settings.temperature)

    def forward(
        self, encoder: Encoder, batch: Batch, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        losses = super().forward(encoder, batch, generator)
        # Batches are trimmed to their longest row, which leaves an operator that makes rows longer no room.
        room = (self.length - batch.items.shape[1], 0)
        items = F.pad(batch.items, room)
        times = None if batch.times is None else F.pad(batch.times, room)
        views = self.policy.sample_views(items, 2, timestamps=times, generator=batch.own_draws(generator))
        ids = torch.cat([edit(items) for edit in views])  # (2 rows, slots)
        one, two = last_states(encoder, ids).chunk(2)
        return losses | {"contrast": self.weight * self.info_nce(one, None, two)}


def last_states(encoder: Encoder, items: Tensor) -> Tensor:
    """(rows, features): what the encoder makes of each left-padded row, to be contrasted."""
    return contrasted(encoder, encoder(encoder.item_embedding(items), items > 0, newest=1)[:, -1])


def contrasted(encoder: Encoder, hidden: Tensor) -> Tensor:
    """Hidden states (rows, features) as long as layer norm makes them, whatever the scores are: InfoNCE has its own temperature."""
    if not isinstance(encoder, Cosine):
        return hidden
    return hidden * (encoder.temperature * math.sqrt(hidden.shape[1]))
