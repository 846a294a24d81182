"""What inspect says of draws that are known by hand, in words, in numbers and as a picture."""

from __future__ import annotations

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure

import seqaug as sa
from seqaug.edit import identity

matplotlib.use("Agg")
ITEMS = torch.tensor([[0, 0, 3, 7, 5], [1, 2, 3, 4, 5]])
EDIT = sa.Edit(
    source=torch.tensor([[-1, -1, 2, 4, 3], [-1, 1, 2, 3, 4]]),
    replaced=torch.tensor([[-1, -1, 9, -1, -1], [-1, -1, -1, -1, -1]]),
    rate=torch.tensor([0.5, 0.25]),
)


class Fixed(sa.Augmentation):
    """An operator that always draws the same."""

    def draw(self, items: torch.Tensor, generator: torch.Generator | None = None) -> None:
        return None

    def plan(self, items: torch.Tensor, noise: None, timestamps: torch.Tensor | None = None) -> sa.Edit:
        return EDIT


def test_summary_counts_what_happened() -> None:
    target = torch.tensor([[0, 0, 7, 5, 6], [2, 3, 4, 5, 6]])
    seen = sa.inspect.summarize(Fixed(), ITEMS, target)
    assert seen.rows == 2 and seen.unchanged == 0.0
    assert seen.length == pytest.approx(7 / 8)
    assert seen.new == pytest.approx(1 / 7)
    assert seen.moved == pytest.approx(2 / 7)
    assert seen.future == pytest.approx(1 / 8)
    assert seen.leaked == pytest.approx(1 / 8), "slot 3 of the first row shows 5, its target"
    assert seen.rate == pytest.approx(0.375)
    assert "2 rows: 0.0% unchanged, length x 0.88" in str(seen)


def test_picture_shows_rows_new_ids_and_the_future() -> None:
    axes = Figure().add_subplot()
    sa.inspect.draw(axes, EDIT, 0, ITEMS)
    texts = [text.get_text().strip() for text in axes.texts]
    assert texts == ["", "", "3", "7", "5", "", "", "9", "5", "7"]
    orange = [
        text.get_text()
        for text in axes.texts
        if text.get_bbox_patch().get_facecolor()[:2] == (0xF2 / 255, 0x8E / 255)
    ]
    assert orange == ["9"]
    lines = [(list(line.get_xdata()), line.get_color()) for line in axes.lines]
    assert [x for x, color in lines if color == "#888888"] == [[2, 2], [4, 3], [3, 4]]
    assert [x for x, color in lines if color == "#d62728"] == [[2.65, 3.35]]
    with pytest.raises(IndexError, match="row=2"):
        sa.inspect.draw(axes, EDIT, 2, ITEMS)


def test_picture_of_packed_rows_is_that_of_the_padded_ones() -> None:
    rows = sa.pack(ITEMS)
    edit = sa.Reorder(1.0, 1.0).sample(rows, generator=torch.Generator().manual_seed(3))
    packed, padded = Figure().add_subplot(), Figure().add_subplot()
    sa.inspect.draw(packed, edit, 1, rows)
    sa.inspect.draw(padded, edit.pad(), 1, ITEMS)
    assert [t.get_text() for t in packed.texts] == [t.get_text() for t in padded.texts]
    assert [t.get_text() for t in packed.texts][5:] != ["1", "2", "3", "4", "5"], "the draw moved something"


def test_rows_and_targets_are_checked() -> None:
    with pytest.raises(TypeError, match="row=True"):
        sa.inspect.describe(EDIT, True)
    with pytest.raises(TypeError, match="items must be a tensor of ids .* got list"):
        sa.inspect.describe(EDIT, 0, ITEMS.tolist())
    with pytest.raises(TypeError, match="target must be a tensor .* got list"):
        sa.inspect.summarize(Fixed(), ITEMS, ITEMS.tolist())


def test_summary_is_of_operators() -> None:
    with pytest.raises(TypeError, match="got MixupOp: pass mix.operator"):
        sa.inspect.summarize(sa.MixupOp(sa.Crop(0.5, 0.5)), ITEMS)  # type: ignore[arg-type]


def test_picture_draws_the_first_slot_too() -> None:
    axes = Figure().add_subplot()
    items = torch.tensor([[4, 6]])
    sa.inspect.draw(axes, identity(items), 0, items)
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 0], [1, 1]]
    assert dict(
        zip(axes.get_yticks(), (label.get_text() for label in axes.get_yticklabels()), strict=True)
    ) == {
        0: "after",
        1: "before",
    }
