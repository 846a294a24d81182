"""An encoder with an objective as Lightning knows them, and its batches.

Everything random in an epoch (order of the rows, draws, dropout) is seeded from the run's seed and the number of
the epoch, so a checkpoint at the end of an epoch holds all there is to know.
"""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import parametrize

import seqaug as sa
from recsys import ranks
from recsys.average import Average
from recsys.batches import Batch, HeldBatches, TrainBatches
from recsys.datasets import Dataset, Held, held_out, training_pairs, training_times
from recsys.encoders import ENCODERS, Cosine, Encoder
from recsys.evaluation import metrics
from recsys.evaluation import ranks as rank_targets
from recsys.next_item import NextItem
from recsys.settings import Settings


class Data(L.LightningDataModule):
    """Batches of one data set: training rows by length, held-out rows in full."""

    def __init__(self, data: Dataset, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.items, self.target = training_pairs(data, settings.max_length, prefixes=settings.prefixes)
        self.times = training_times(data, settings.max_length, prefixes=settings.prefixes)
        self.validation = held_out(data, "validation", settings.max_length)
        self.test = held_out(data, "test", settings.max_length)

    def train_dataloader(self) -> TrainBatches:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return TrainBatches(
            self.items,
            self.target,
            self.settings.batch_size,
            epoch_seed(self.settings.seed, epoch),
            ranks.rank(),
            ranks.world(),
            times=self.times,
            order=self.settings.batches,
            swap=sa.Swap(*self.settings.swap_rows) if self.settings.swap_rows[1] else None,
        )

    def val_dataloader(self) -> HeldBatches:
        return HeldBatches(self.validation, rank=ranks.rank(), world=ranks.world())


class Recommender(L.LightningModule):
    """An encoder trained on an objective and ranked against the whole catalog.

    The objective is what a system is.
    """

    def __init__(self, encoder: Encoder, objective: NextItem, settings: Settings, users: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.settings = settings
        self.users = users
        self.generator: torch.Generator | None = None
        self.average = Average(encoder, settings.average) if settings.average else None
        self.parts: dict[str, Tensor] = {}  # sums over the epoch's steps
        self.steps = 0
        self.rank_of = torch.zeros(0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.optim.Adam(trained, lr=self.settings.lr)

    def on_train_epoch_start(self) -> None:
        torch.set_float32_matmul_precision(self.settings.matmul)
        seed = epoch_seed(self.settings.seed, self.current_epoch)
        torch.manual_seed(seed + 7919 * ranks.rank())
        # The same on all ranks: draws are for the whole batch, of which each has some rows.
        self.generator = torch.Generator(self.device).manual_seed(seed + 1)
        self.parts, self.steps = {}, 0
        self.objective.start_epoch(self.encoder, self.current_epoch)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        # A table of cosines is normalised once for all who read it; so whoever reads it first must want its gradient.
        with parametrize.cached():
            losses = self.objective(self.encoder, batch, generator=self.generator)
        if batch.whole is not None:
            losses = {name: value * self.objective.share(name, batch) for name, value in losses.items()}
        self.steps += 1
        for name, value in losses.items():
            self.parts[name] = self.parts.get(name, 0) + value.detach()
        return torch.stack(list(losses.values())).sum()

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        if self.average is not None:
            self.average.update(self.encoder)

    @property
    def tested(self) -> Encoder:
        """The encoder that is validated and tested: the trained one, or the average of what it has been."""
        return self.encoder if self.average is None else self.average.encoder

    def mean_losses(self) -> dict[str, float]:
        """Of this process so far."""
        return {name: float(value) / max(self.steps, 1) for name, value in self.parts.items()}

    def epoch_losses(self) -> dict[str, float]:
        """Of all processes."""
        own = self.mean_losses()
        means = ranks.add_up(torch.tensor(list(own.values()), dtype=torch.float64)) / ranks.world()
        return dict(zip(own, means.tolist(), strict=True))

    def on_validation_epoch_start(self) -> None:
        # Ranks are those of the weights, however they were trained.
        torch.set_float32_matmul_precision("highest")
        self.rank_of = torch.zeros(self.users, dtype=torch.int32, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], _: int) -> None:
        rows, items, target, seen = batch
        if len(rows):
            self.rank_of[rows] = rank_batch(self.tested, items, target, seen)

    def on_validation_epoch_end(self) -> None:
        self.rank_of = ranks.add_up(self.rank_of)  # one process has ranked a user, the others hold 0
        for name, value in metrics(self.rank_of.cpu()).items():
            self.log(name, value, rank_zero_only=False)


def epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) * 2_147_483_629 % (2**62)


def rank_batch(encoder: Encoder, items: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Ranks (rows,) of the targets after the histories ``items`` (rows, slots)."""
    with parametrize.cached():
        hidden = encoder(encoder.item_embedding(items), items > 0, newest=1)[:, -1]
        return rank_targets(hidden, encoder.item_embedding.weight, target, seen)


@torch.no_grad()
def rank_users(encoder: Encoder, held: Held, device: torch.device | str = "cpu") -> Tensor:
    """Rank (users,) of every held-out target; several processes share the users."""
    encoder.to(device).eval()
    found = torch.zeros(len(held.target), dtype=torch.int32)
    for rows, *batch in HeldBatches(held, rank=ranks.rank(), world=ranks.world()):
        if len(rows):
            found[rows] = rank_batch(encoder, *(part.to(device) for part in batch)).cpu()
    return ranks.add_up(found)


def build_encoder(data: Dataset, settings: Settings) -> Encoder:
    encoder = ENCODERS[settings.encoder](
        data.num_items, settings.dim, settings.layers, settings.heads, settings.max_length, settings.dropout
    )
    return Cosine(encoder, settings.cosine) if settings.cosine else encoder
