"""Augmentation of rows that are more than ids: times, categories, ratings, and items with a picture.

    python examples/multimodal.py

Two kinds of features go with a row. What belongs to the event (when, how it was rated) follows the draw: ``edit.align``.
What belongs to the item (its picture, here a frozen vector from elsewhere) is looked up for the new id. Vectors of items are
learned ones plus a projection of the frozen ones; views are mixed into their sum, and the loss is over the catalog of sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seqaug as sa
from recsys.datasets import Dataset, held_out, training_pairs, training_times
from recsys.encoders import SASRec
from recsys.evaluation import metrics, ranks
from recsys.next_item import similar_items
from recsys.shop import generate

FAMILIES, LENGTH, DIM, PICTURE = 100, 20, 32, 64


def pictures(data: Dataset) -> Tensor:
    """(V + 2, 64), frozen: variants of a product look alike. Rows of padding and mask are zero."""
    generator = torch.Generator().manual_seed(1)
    family = torch.arange(data.num_items) % FAMILIES
    looks = torch.randn(FAMILIES, PICTURE, generator=generator)[family]
    noise = torch.randn(data.num_items, PICTURE, generator=generator)
    return F.pad(looks + noise, (0, 0, 1, 1))


def ratings_of(items: Tensor) -> Tensor:
    """(rows, slots) 1 to 5, made up: 0 in padding."""
    stars = torch.randint(1, 6, items.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(items > 0, stars, 0)


class Shopper(nn.Module):
    """SASRec on item vectors with a picture in them and on ratings."""

    seen: Tensor | None

    def __init__(self, data: Dataset, seen: Tensor | None) -> None:
        super().__init__()
        self.encoder = SASRec(data.num_items, DIM, layers=1, heads=2, length=LENGTH, dropout=0.3)
        self.register_buffer("seen", seen)  # what a frozen model of pictures has made of each item
        self.project = nn.Linear(PICTURE, DIM, bias=False)
        self.rating = nn.Embedding(6, DIM, padding_idx=0)
        nn.init.normal_(self.project.weight, std=0.02 / PICTURE**0.5)
        nn.init.normal_(self.rating.weight, std=0.02)

    def catalog(self) -> Tensor:
        """(V + 2, D): what an item is, whether it stands in a row or is asked for."""
        learned = self.encoder.item_embedding.weight
        return learned if self.seen is None else learned + self.project(self.seen)

    def vectors(self, catalog: Tensor, items: Tensor, ratings: Tensor) -> Tensor:
        return F.embedding(items, catalog) + self.rating(ratings)


def train(model: Shopper, data: Dataset, mixup: sa.MixupOp | None, epochs: int) -> None:
    items, target = training_pairs(data, LENGTH)
    ratings = ratings_of(items)
    loss_of = sa.ICELoss(catalog=slice(1, data.num_items + 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(items)).split(128):
            x, y, stars, catalog = items[rows], target[rows], ratings[rows], model.catalog()
            own = model.vectors(catalog, x, stars)
            loss = loss_of(model.encoder(own, x > 0), catalog, y)
            if mixup is not None:
                mix = mixup.sample(x)  # one draw for all that the row is made of
                view = model.vectors(catalog, mix.edit(x), mix.edit.align(stars))
                hidden = model.encoder(mix(own, view), x > 0)
                loss = loss + loss_of(hidden, catalog, y, weight=mix.weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def measure(model: Shopper, data: Dataset) -> dict[str, float]:
    held, catalog = held_out(data, "test", LENGTH), model.eval().catalog()
    vectors = model.vectors(catalog, held.items, ratings_of(held.items))
    hidden = model.encoder(vectors, held.items > 0, newest=1)[:, -1]
    return metrics(ranks(hidden, catalog, held.target, held.seen))


def show_one_edit(data: Dataset) -> None:
    """What happens to everything that belongs to a row."""
    items, _ = training_pairs(data, 7)
    times = training_times(data, 7)
    assert times is not None  # the shop knows when
    row = int((items > 0).sum(1).argmax())
    items, days = items[[row]], (times[[row]] - times[row, 0]).round().long()
    category = torch.where(items > 0, (items - 1) % FAMILIES, -1)
    edit = sa.Compose([sa.Delete(0.3, 0.3), sa.Substitute(0.3, 0.3, similar_items(data))]).sample(
        items, generator=torch.Generator().manual_seed(0)
    )
    view, looks = edit(items), pictures(data)
    for name, before, after in (
        ("item", items, view),
        ("day", days, edit.align(days, fill=-1)),
        ("category", category, edit.align(category, fill=-1)),
        ("rating", ratings_of(items), edit.align(ratings_of(items))),
        ("picture", looks[items][..., 0], looks[view][..., 0]),
    ):
        shown = (" ".join(f"{value:6.1f}" if part.is_floating_point() else f"{value:6}" for value in part[0].tolist()) for part in (before, after))  # fmt: skip
        print(f"{name:9}" + "   ->".join(shown))


def main() -> None:
    data = generate(users=1500, items=1500, families=FAMILIES)
    show_one_edit(data)
    policy = sa.Policy([sa.Crop(0.2, 0.7), sa.Delete(0.2, 0.5), sa.Substitute(0.2, 0.7, similar_items(data))])
    mixup = sa.MixupOp(policy, alpha=0.4, weighting="none")
    systems = {
        "ids": (None, None), "ids, views mixed in": (None, mixup),
        "ids and pictures": (pictures(data), None), "ids and pictures, views mixed in": (pictures(data), mixup),
    }  # fmt: skip
    print(f"\n{'':34}{'HR@10':>8}{'NDCG@10':>9}   three seeds, 12 epochs, test targets of 1,500 customers")
    for name, (seen, mixed) in systems.items():
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            model = Shopper(data, seen)
            train(model, data, mixed, epochs=12)
            found.append(measure(model, data))
        means = [torch.tensor([one[key] for one in found]).mean().item() for key in ("HR@10", "NDCG@10")]
        print(f"{name:34}{means[0]:8.4f}{means[1]:9.4f}", flush=True)


if __name__ == "__main__":
    main()
