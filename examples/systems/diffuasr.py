"""DiffuASR: a diffusion model makes up the items before a row (Liu et al., CIKM 2023).

1. Take the vectors of the items from the trained control and train a diffusion model (``diffusion.py``) on the ten items
   before any place of a row, guided by the items after it (section 3.2; T = 1000, linear beta 1e-4..0.02).
2. Sample ten vectors for every row, guided by its training items (section 3.3), and round each to the nearest item by
   cosine that the row has not.
3. Train on the longer rows; no loss asks for made-up items.

The paper's network is a U-Net over the stacked vectors; here it is a small transformer over vectors and guide, and the
guidance is the one without a classifier.

    python examples/rmhsaocl_full.py --data Beauty --system diffuasr --out runs/diffuasr
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import seqaug as sa
from recsys import ranks
from recsys.checkpoints import read_checkpoint, write_checkpoint
from recsys.datasets import Dataset
from recsys.encoders import item_vectors
from recsys.errors import UsageError
from recsys.next_item import NextItem, Start
from recsys.results import read_tensors
from recsys.settings import Settings
from systems.diffusion import Diffusion
from systems.made_up import best_new, make_up

MADE = 10  # items before each row
GUIDE = 10  # items of the row that guide them: those next to them
EPOCHS = 100  # at most; as many as the system itself may train, if that is fewer
BATCH, LR = 256, 1e-3


class DiffuASR(NextItem):
    """Plain next-item training on rows that begin with made-up items, which are no targets."""

    @classmethod
    def check(cls, data: Dataset, settings: Settings) -> None:
        longest = max(map(len, data.training_rows()))
        if data.num_items < MADE + longest:
            raise UsageError(
                f"expected at least {MADE} items that no row has for {settings.system}, got {data.num_items} items and a row of "
                f"{longest}; take another system"
            )

    @classmethod
    def prepare(
        cls, data: Dataset, settings: Settings, folder: Path, control: Path, quiet: bool = False
    ) -> Start:
        made, facts = ranks.from_lead(lambda: cls.make(data, settings, folder, control, quiet))
        return Start(data.preceded_by(made), facts={"diffusion": facts})

    @staticmethod
    def make(
        data: Dataset, settings: Settings, folder: Path, control: Path, quiet: bool
    ) -> tuple[list[list[int]], dict[str, Any]]:
        """The items before each row, and how the diffusion model was trained."""
        vectors = unit_variance(item_vectors(read_tensors(control / "weights.safetensors")))
        rows = data.training_rows()
        model, facts = train_diffusion(vectors, rows, settings, folder / "diffusion.ckpt", quiet)
        generator = torch.Generator().manual_seed(settings.seed)

        def generate(known: Tensor) -> Tensor:
            guide = F.pad(known, (0, max(0, GUIDE - known.shape[1])))[:, :GUIDE]
            sampled = model.sample(vectors[guide], guide > 0, generator)
            return nearest_items(sampled, vectors, known)

        return make_up(rows, generate, folder / "made.safetensors"), facts


def unit_variance(table: Tensor) -> Tensor:
    """Item vectors scaled to variance 1 over the catalog, pad and mask zero: what noise of variance 1 is added to."""
    catalog = table[1:-1]
    catalog = (catalog - catalog.mean(0)) / catalog.std(0)
    return F.pad(catalog, (0, 0, 1, 1))


def train_diffusion(
    vectors: Tensor, rows: list[list[int]], settings: Settings, file: Path, quiet: bool = False
) -> tuple[Diffusion, dict[str, Any]]:
    """Train on every row cut at a random place per epoch; continues what ``file`` holds."""
    torch.manual_seed(settings.seed)
    model = Diffusion(MADE, GUIDE, vectors.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    epochs = min(EPOCHS, settings.epochs)
    done: dict[str, Any] = {"epoch": 0, "loss": 0.0, "seconds": 0.0}
    if file.exists():
        done = read_checkpoint(file, "epoch", "loss", "seconds", "model", "optimizer")
        model.load_state_dict(done["model"])
        optimizer.load_state_dict(done["optimizer"])
    long_enough = [row for row in rows if len(row) > 1]
    items = sa.pad_sequences(long_enough, side="right")
    lengths = sa.lengths(items)
    left = range(done["epoch"], epochs)
    for epoch in tqdm(left, desc="diffusion", unit="epoch", leave=False, disable=True if quiet else None):
        start = time.perf_counter()
        torch.manual_seed(settings.seed * 1_000_003 + epoch)  # order, cuts, noise and dropout of this epoch
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - epoch / epochs)
        model.train()
        losses = []
        for chosen in torch.randperm(len(items)).split(BATCH):
            cut = (
                1 + (torch.rand(len(chosen)) * (lengths[chosen] - 1)).long()
            )  # at least one item on either side
            before, guide = around(items[chosen], cut)
            loss = model.loss(vectors[before], before > 0, vectors[guide], guide > 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        done = {
            "epoch": epoch + 1,
            "loss": sum(losses) / len(losses),
            "seconds": done["seconds"] + time.perf_counter() - start,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        write_checkpoint(file, done)
    model.eval()
    return model, {
        "epochs": done["epoch"], "loss": round(done["loss"], 4), "seconds": round(done["seconds"], 1)
    }  # fmt: skip


def around(items: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
    """The items before and after a place of each row.

    Args:
        items: (rows, slots) right-padded ids.
        cut: (rows,) items before the place.

    Returns:
        (rows, MADE) ids that end at the place, left-padded, and (rows, GUIDE) that begin there, right-padded.
    """
    wide = F.pad(items, (MADE, GUIDE))
    before = wide.gather(1, cut[:, None] + torch.arange(MADE))
    after = wide.gather(1, cut[:, None] + torch.arange(MADE, MADE + GUIDE))
    return before, after


def nearest_items(sampled: Tensor, vectors: Tensor, known: Tensor) -> Tensor:
    """Round vectors to items by cosine, none of them twice or in the row already.

    Args:
        sampled: (rows, made, features).
        vectors: (V + 2, features).
        known: (rows, slots) ids of the row, 0 = none.

    Returns:
        (rows, made) ids.
    """
    catalog = F.normalize(vectors[1:-1], dim=1)
    taken = known
    for slot in range(sampled.shape[1] - 1, -1, -1):  # the one next to the row first
        item = best_new(F.normalize(sampled[:, slot], dim=1) @ catalog.T, taken)
        taken = torch.cat([item[:, None], taken], 1)
    return taken[:, : sampled.shape[1]]
