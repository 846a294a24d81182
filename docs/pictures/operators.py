"""Draw what each operator does to one sequence: python docs/pictures/operators.py writes operators.png beside this file.

Every row of the picture is a draw of the library, made with the seed beside its operator.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

import seqaug as sa

ITEMS = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6, 7, 8]])
V = 18  # the sequence is items 1..8; the most similar item of i is i + 10
NEIGHBOURS = torch.tensor([0, *(i + 10 if i <= 8 else 0 for i in range(1, V + 1)), 0])[:, None]
MASK = V + 1

# Rates are single numbers here, so that eight items show something; in training they are intervals.
ROWS = [
    (sa.Crop(0.5, 0.5), "keeps one window", 1),
    (sa.Mask(0.4, 0.4, mask_id=MASK), "puts the mask id in place of some items", 1),
    (sa.Reorder(0.5, 0.5), "shuffles one window", 1),
    (sa.Swap(0.4, 0.4), "exchanges some neighbours", 5),
    (sa.Substitute(0.4, 0.4, NEIGHBOURS), "puts similar items in place of some", 3),
    (sa.Insert(0.25, 0.25, NEIGHBOURS), "puts similar items before some", 6),
    (sa.Delete(0.4, 0.4), "removes some items and closes the gap", 2),
]
OLD = plt.get_cmap("viridis")


def tile(axes: Axes, slot: int, height: float, item: int, new: bool, future: bool) -> None:
    """One slot: padding is an outline, items keep their colour, new ids are orange, slots with a look ahead have a red bar."""
    pad, mask = item == 0, item == MASK
    if pad:
        face, ink, label = "none", "#999999", ""
    elif mask:
        face, ink, label = "#555555", "white", "mask"
    elif new:
        face, ink, label = "#f28e2b", "white", f"{item - 10}′"
    else:
        face, label = OLD(0.1 + 0.85 * (item - 1) / 7), str(item)
        ink = "white" if item < 6 else "black"
    box = FancyBboxPatch(
        (slot + 0.07, height - 0.36),
        0.86,
        0.72,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=face,
        edgecolor="#cccccc" if pad else "none",
    )
    axes.add_patch(box)
    axes.text(slot + 0.5, height, label, ha="center", va="center", color=ink, size=7 if mask else 10)
    if future:
        axes.plot(
            [slot + 0.15, slot + 0.85],
            [height - 0.44] * 2,
            color="#d62728",
            linewidth=2.5,
            solid_capstyle="butt",
        )


def main() -> None:
    figure, axes = plt.subplots(figsize=(8.4, 4.3))
    slots = ITEMS.shape[1]
    lines = [("the row", "oldest first, padded on the left", ITEMS, None)]
    for operator, words, seed in ROWS:
        edit = operator.sample(ITEMS, generator=torch.Generator().manual_seed(seed))
        lines.append((type(operator).__name__, words, edit(ITEMS), edit))
    for number, (name, words, items, edit) in enumerate(lines):
        height = -number - (0.25 if edit is not None else 0.0)
        axes.text(-0.3, height, name, ha="right", va="center", size=10, weight="bold", family="monospace")
        axes.text(slots + 0.3, height, words, ha="left", va="center", size=9, color="#333333")
        for slot in range(slots):
            new = edit is not None and bool(edit.replaced[0, slot] >= 0)
            future = edit is not None and bool((edit.future & edit.valid)[0, slot])
            tile(axes, slot, height, int(items[0, slot]), new, future)
    bottom = -len(lines) - 0.1
    axes.plot([0.15, 0.85], [bottom] * 2, color="#d62728", linewidth=2.5, solid_capstyle="butt")
    axes.text(
        1.1,
        bottom,
        "edit.future: the slot shows something newer than the row had there",
        va="center",
        size=9,
        color="#333333",
    )
    axes.set_xlim(-2.4, slots + 6.2)
    axes.set_ylim(bottom - 0.4, 0.6)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(Path(__file__).with_name("operators.png"), dpi=150, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
