"""Next-item training: the base of every system, and by itself the control."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

import seqaug as sa
from recsys.batches import Batch
from recsys.datasets import Dataset, later_items, training_targets
from recsys.encoders import Encoder
from recsys.settings import NEGATIVES, Settings


@dataclass(frozen=True)
class Start:
    """What a system's own training begins with."""

    data: Dataset  # as it is, or with items put before its rows
    weights: dict[str, Tensor] | None = None  # of the encoder, instead of random ones
    facts: dict[str, Any] = field(default_factory=dict)  # for ``result.json``


Loss: TypeAlias = (
    sa.ICELoss | sa.CELoss | sa.SoftmaxFocalLoss | sa.SCELoss | sa.RECELoss | sa.GBCELoss | sa.BCELoss
    | sa.FocalLoss | sa.BPRLoss | sa.SampledSoftmaxLoss
)  # fmt: skip


class NextItem(nn.Module):
    """The loss of the settings at every item of a row; a system adds its own losses to it.

    Called with an encoder and a batch it returns the named losses of the batch, whose sum is minimised.
    """

    later: Tensor | None

    # Names of a system's own losses with one value per row.
    means_over_rows: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, data: Dataset, settings: Settings) -> None:
        super().__init__()
        self.loss = build_loss(data, settings)
        usual, per = NEGATIVES.get(settings.loss, (1, "position"))
        later = later_items(data, prefixes=settings.prefixes) if settings.leak else None
        self.register_buffer("later", later, persistent=False)  # on the device of the batches
        self.negatives = sa.UniformNegatives(data.num_items, k=settings.negatives or usual, per=per)

    @classmethod
    def check(cls, data: Dataset, settings: Settings) -> None:
        """Refuse a data set that the system cannot be trained on, before anything is trained or written.

        Raises:
            UsageError: says what the data set lacks.
        """

    @classmethod
    def prepare(
        cls, data: Dataset, settings: Settings, folder: Path, control: Path, quiet: bool = False
    ) -> Start:
        """What has to be done before the system itself is trained; what it takes time to make is kept in ``folder``.

        Args:
            data: the data set.
            settings: of the system.
            folder: of the system; files in it are there again when a stopped run continues.
            control: folder of the finished control.
            quiet: say nothing meanwhile.
        """
        return Start(data)

    def share(self, name: str, batch: Batch) -> float:
        """What a loss of this process counts, so that the mean over all processes is the loss of the whole batch.

        A loss is the mean over the targets or rows that are here, and processes have unequally many of them; one that
        is divided by the expected number is a part of the sum.
        """
        whole = batch.whole
        if whole is None:
            return 1.0
        if name in self.means_over_rows:
            return whole.of_rows
        if self.loss.denominator is not None:
            return whole.world
        # CELoss scores the last slot of a row and nothing else.
        per_row = self.loss.reduction == "row" or isinstance(self.loss, sa.CELoss)
        return whole.of_rows if per_row else whole.of_targets

    def start_epoch(self, encoder: Encoder, epoch: int) -> None:
        """Called before each epoch, counted from 0."""

    def forward(
        self, encoder: Encoder, batch: Batch, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        hidden = encoder(encoder.item_embedding(batch.items), batch.items > 0, newest=batch.target.shape[1])
        return {"rec": self.score(encoder, hidden, batch, generator)}

    def score(
        self, encoder: Encoder, hidden: Tensor, batch: Batch, generator: torch.Generator | None
    ) -> Tensor:
        """The loss of hidden states (rows, slots, features) on the batch's targets."""
        table = encoder.item_embedding.weight
        return self.loss(hidden, table, batch.target, **self.sampled(batch, generator))

    def sampled(self, batch: Batch, generator: torch.Generator | None) -> dict[str, Any]:
        """Negatives as an argument of the loss, if it takes them: items that the row has not (and the user never, with a leak)."""
        if not self.loss.needs_negatives:
            return {}
        history = batch.items
        if self.later is not None:
            history = torch.cat([history, self.later[batch.rows]], 1)
        drawn = self.negatives.sample(batch.target, history=history, generator=batch.own_draws(generator))
        return {"negatives": drawn}


def build_loss(data: Dataset, settings: Settings) -> Loss:
    """The loss by name. ``expected`` divides by the expected number of targets: a mean over each batch's own would let the
    targets of batches with few of them count more, and those of short rows where batches are of like length.
    """
    catalog = slice(1, data.num_items + 1)
    options: dict[str, Any] = {"reduction": "row" if settings.reduction == "row" else "token"}
    if settings.reduction == "expected":
        options["denominator"] = expected_targets(data, settings)
    over_catalog = {
        "ice": sa.ICELoss, "ce": sa.CELoss, "softmax-focal": sa.SoftmaxFocalLoss, "sce": sa.SCELoss, "rece": sa.RECELoss,
    }  # fmt: skip
    if settings.loss in over_catalog:
        return over_catalog[settings.loss](catalog=catalog, **options)
    if settings.loss == "gbce":
        return sa.GBCELoss(num_items=data.num_items, **options)
    sampled = {"bce": sa.BCELoss, "focal": sa.FocalLoss, "bpr": sa.BPRLoss, "sampled": sa.SampledSoftmaxLoss}
    return sampled[settings.loss](**options)


def expected_targets(data: Dataset, settings: Settings) -> float:
    """Mean number of targets a batch scores: all real ones, or one per row for a loss on the last slot."""
    if settings.prefixes:
        rows = targets = sum(training_targets(data))
    else:
        real = [min(count, settings.max_length) for count in training_targets(data)]
        rows, targets = len(real), len(real) if settings.loss == "ce" else sum(real)
    return targets / -(-rows // settings.batch_size)


def similar_items(data: Dataset) -> sa.ItemSimilarity:
    """Items that the same users have, counted on training items only."""
    return sa.ItemSimilarity.from_sequences(
        data.training_rows(), num_items=data.num_items, method="itemcf-iuf", k=min(10, data.num_items - 1)
    )
