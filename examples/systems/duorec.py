"""DuoRec: contrast with the same row under another dropout, and with a row that leads to the same item
(Qiu et al., WSDM 2022).

A prefix of each row is encoded three times: in the main pass, in a second pass with another dropout (unsupervised,
section 4.2.1), and through another prefix of the data set with the same next item (supervised, section 4.2.2). InfoNCE
between the first and each of the others is added to the main loss, each with weight 0.1 (Eq. 15).

The paper trains on every prefix of a row with the cross-entropy over the catalog. For a causal encoder that is ICE on
the row, which is the loss here; the contrast takes one prefix of each row per step.

    python examples/rmhsaocl_full.py --data Beauty --system duorec --out runs/duorec
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

import seqaug as sa
from recsys.batches import Batch
from recsys.datasets import Dataset, training_pairs
from recsys.encoders import Encoder
from recsys.next_item import NextItem
from recsys.settings import Settings
from systems.contrast import contrasted, last_states


class DuoRec(NextItem):
    """L = L_rec + weight * InfoNCE(h, h') + weight * InfoNCE(h, h of a prefix with the same target)."""

    means_over_rows = frozenset({"dropout", "target"})

    def __init__(self, data: Dataset, settings: Settings) -> None:
        super().__init__(data, settings)
        self.same_target = SameTarget(*training_pairs(data, settings.max_length, prefixes=settings.prefixes))
        self.weight = settings.contrast
        self.info_nce = sa.InfoNCELoss(temperature=settings.temperature)

    def forward(
        self, encoder: Encoder, batch: Batch, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        vectors, valid = encoder.item_embedding(batch.items), batch.items > 0
        steps = batch.target.shape[1]  # all, or the newest slot of a prefix
        hidden = encoder(vectors, valid, newest=steps)
        again = encoder(vectors, valid, newest=steps)  # another dropout
        losses = {"rec": self.score(encoder, hidden, batch, generator)}

        luck = torch.rand(len(batch.items), 2, device=valid.device, generator=batch.own_draws(generator))
        back = (
            luck[:, 0] * (batch.target > 0).sum(1)
        ).long()  # how far the prefix ends before the newest slot
        rows = torch.arange(len(back), device=back.device)
        one, two = (contrasted(encoder, states[rows, steps - 1 - back]) for states in (hidden, again))
        partner = last_states(encoder, self.same_target.sample(batch.rows, back, luck[:, 1]))
        return losses | {
            "dropout": self.weight * self.info_nce(one, None, two),
            "target": self.weight * self.info_nce(one, None, partner),
        }


class SameTarget(nn.Module):
    """Prefixes of rows by their next item.

    Args:
        items: (rows, slots) left-padded training inputs.
        target: (rows, slots), or of the newest slots only, the item after each slot, 0 where none is asked for.
    """

    items: Tensor
    target: Tensor
    order: Tensor
    place: Tensor
    first: Tensor
    count: Tensor

    def __init__(self, items: Tensor, target: Tensor) -> None:
        super().__init__()
        wanted = target.flatten()
        count = torch.bincount(wanted)
        order = torch.argsort(wanted, stable=True)  # every (row, slot), those of one target side by side
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        for name, value in (
            ("items", items), ("order", order), ("place", place), ("first", count.cumsum(0) - count), ("count", count),
            ("target", target),
        ):  # fmt: skip
            self.register_buffer(name, value, persistent=False)

    def partner(self, rows: Tensor, back: Tensor, luck: Tensor) -> tuple[Tensor, Tensor]:
        """Another prefix with the same target, each as likely; the prefix itself if it is the only one.

        Args:
            rows: (B,) numbers of training rows.
            back: (B,) how many slots before the newest the prefix ends.
            luck: (B,) uniform in [0, 1).

        Returns:
            (B,) rows and (B,) slots.
        """
        steps = self.target.shape[1]
        own = rows * steps + steps - 1 - back
        item = self.target.flatten()[own]
        count, first = self.count[item], self.first[item]
        step = 1 + (luck * (count - 1)).long()  # from the own place to another, around
        found = self.order[first + (self.place[own] - first + step) % count]
        return found // steps, self.items.shape[1] - steps + found % steps

    def sample(self, rows: Tensor, back: Tensor, luck: Tensor) -> Tensor:
        """The ids (B, longest) of such prefixes, left-padded; arguments as of :meth:`partner`."""
        row, slot = self.partner(rows, back, luck)
        slots = self.items.shape[1]
        read = torch.arange(slots, device=slot.device) - rearrange(slots - 1 - slot, "b -> b 1")
        moved = self.items[row].gather(1, read.clamp(min=0))
        prefix = torch.where(read >= 0, moved, 0)
        return prefix[:, slots - int((prefix > 0).sum(1).max()) :]
