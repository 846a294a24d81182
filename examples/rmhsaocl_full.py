"""RM-HSAOCL, the full system: hybrid sequence augmentation with a cross-entropy loss at every time step.

    python examples/rmhsaocl_full.py                                       # a generated shop, a few minutes
    python examples/rmhsaocl_full.py --data Beauty --out runs/beauty       # a published data set
    python examples/rmhsaocl_full.py --data Beauty --paper                 # with the paper's own settings

Every augmented system is trained beside its control: the same encoder, loss and schedule without augmentation.
``HybridAugmentation`` below is the paper's Algorithm 1; the loop around it is in ``recsys/``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

import seqaug as sa
from recsys.batches import Batch
from recsys.cli import run
from recsys.datasets import Dataset, trainable
from recsys.encoders import Encoder
from recsys.next_item import NextItem, similar_items
from recsys.progress import Progress
from recsys.settings import BINARY, Settings
from systems import SYSTEMS


class HybridAugmentation(NextItem):
    """L = L_rec + sum over views of weight * loss(H_in) + sum over mixes of loss(H_out).

    With no views and no mixes it is plain next-item training: the control.
    """

    def __init__(self, data: Dataset, settings: Settings) -> None:
        super().__init__(data, settings)
        self.views = settings.views
        policy = build_policy(data, settings)
        self.mixup = sa.MixupOp(
            policy,
            alpha=settings.alpha,
            weighting=settings.weighting,
            future=settings.future,
            pad_mix=settings.pad_mix,
        )
        over_positions, over_features = settings.mixes
        self.mixes = [sa.CrossMixup(settings.alpha, over="position")] * over_positions
        self.mixes += [sa.CrossMixup(settings.alpha, over="feature")] * over_features
        self.binary = settings.loss in BINARY
        self.progress: Progress | None = None
        if isinstance(policy, sa.AdaptivePolicy):
            self.progress = Progress(policy, len(trainable(data)), settings.views)
            self.row_loss = sa.CELoss(catalog=slice(1, data.num_items + 1), reduction="none")

    def forward(
        self, encoder: Encoder, batch: Batch, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        items, target = batch.items, batch.target
        table = encoder.item_embedding
        valid = items > 0
        own = table(items)  # line 3: (rows, slots, features)

        # line 4: single-sequence augmentation, every view mixed into the vectors of its row; one draw for the
        # rows of all processes, of which this one has its own
        drawn = (
            self.mixup.sample_views(batch.all_items, self.views, generator=generator) if self.views else []
        )
        mixed = [batch.own_part(mix) for mix in drawn]
        views = [mix(own, table(mix.edit(items))) for mix in mixed]

        # line 5: the encoder reads the row and its views in one batch
        steps = target.shape[1]  # all, or the newest slot of a prefix
        states = encoder(torch.cat([own, *views]), valid.repeat(1 + self.views, 1), newest=steps)
        hidden, *view_hidden = states.split(len(items))

        # line 6: the losses
        sampled = self.sampled(batch, generator)
        losses = {"rec": self.loss(hidden, table.weight, target, **sampled)}
        if self.progress is not None:
            with torch.no_grad():
                newest = self.row_loss(hidden[:, -1:], table.weight, target[:, -1:]).squeeze(1)
            self.progress.update(batch.all_rows, batch.everywhere(newest), [mix.edit for mix in drawn])
        if views:
            losses["ssa"] = torch.stack(
                [
                    self.loss(h, table.weight, target, weight=mix.weight, **sampled)
                    for h, mix in zip(view_hidden, mixed, strict=True)
                ]
            ).sum()
        if self.mixes:
            losses["csa"] = torch.stack(
                self.mix_losses(
                    hidden, table.weight, target, valid[:, -steps:], sampled, batch.own_draws(generator)
                )
            ).sum()
        return losses  # line 7: their sum is minimised

    def mix_losses(
        self,
        hidden: Tensor,
        table: Tensor,
        target: Tensor,
        valid: Tensor,
        sampled: dict[str, Any],
        generator: torch.Generator | None,
    ) -> list[Tensor]:
        """Cross-sequence augmentation: rows of hidden states and of targets mixed with one another, within a process."""
        losses = []
        if not self.binary:
            for mix in self.mixes:
                pair = mix.sample(hidden, valid=valid, generator=generator)
                if mix.over == "position":
                    losses.append(self.loss(pair(hidden), table, pair.targets(target), **sampled))
                else:  # a target mixed feature by feature is no row of the table, but a vector of its own
                    losses.append(self.loss(pair(hidden), table, pair(table[target]), valid=valid, **sampled))
            return losses

        # A loss that asks of each item by itself: vectors of targets and of negatives are mixed as states are. Next to such a
        # loss the padding, most of a batch of random rows, would be most of the work: it is left out.
        lengths, (drawn, _) = valid.sum(1), sampled["negatives"]
        states = sa.pack(hidden[valid], lengths=lengths, length=valid.shape[1])
        liked, disliked = table[target[valid]], table[drawn[valid]]
        weight = None
        if self.loss.reduction == "row":  # no rows are left: each target counts what it would in its own
            weight = (len(states.values) / (lengths.count_nonzero() * lengths)).repeat_interleave(lengths)
        for mix in self.mixes:
            packed = mix.sample(states, generator=generator)
            negatives = torch.stack([packed(one) for one in disliked.unbind(1)], 1)
            losses.append(
                self.loss(packed(states.values), table, packed(liked), negatives=negatives, weight=weight)
            )
        return losses


def build_policy(data: Dataset, settings: Settings) -> sa.Augmentation:
    """One of the operators per row and view: each as likely, each once before any comes again, or by what it has brought."""
    low, high = settings.rate
    build = {
        "crop": lambda: sa.Crop(low, high),
        "mask": lambda: sa.Mask(low, high, mask_id=data.num_items + 1),
        "reorder": lambda: sa.Reorder(low, high),
        "substitute": lambda: sa.Substitute(low, high, similar_items(data)),
    }
    operators = [build[name]() for name in settings.operators]
    if settings.policy == "adaptive":
        return sa.AdaptivePolicy(operators, momentum=0.99)
    return sa.EachOnce(operators) if settings.policy == "each-once" else sa.Policy(operators)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], HybridAugmentation, SYSTEMS))
