"""Look at what a draw did to a row, and at what an operator does to a whole data set. Waits for the device: not for the hot path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqaug._checks import check_items, check_tensor
from seqaug.edit import Edit
from seqaug.operator import Augmentation
from seqaug.packed import Packed, pack
from seqaug.packed_edit import PackedEdit


def describe(edit: Edit | PackedEdit, row: int, items: Tensor | Packed | None = None) -> str:
    """What happened to one row, in words and with its ids where ``items`` are given.

    Args:
        edit: a draw, on a padded batch or on packed rows.
        row: in 0..B - 1.
        items: (B, L) ids the edit was sampled on, or the packed rows.

    Returns:
        A few lines of text.

    Raises:
        IndexError: there is no such row.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.tensor([[0, 1, 2, 3, 4, 5]])
        >>> edit = sa.Reorder(0.6, 0.6).sample(items, generator=torch.Generator().manual_seed(0))
        >>> print(sa.inspect.describe(edit, 0, items))
        before  . 1 2 3 4 5
        after   . 1 2 5 3 4
                . = = < > >
        rate 0.60; 5 real slots; 3 moved; 1 ahead of time
    """
    edit, ids = padded(edit, items)
    check_row(edit, row)
    source = edit.source[row].tolist()
    replaced = edit.replaced[row].tolist()
    future = edit.future[row].tolist()
    read = [slot for slot in source if slot >= 0]
    notes = [f"rate {float(edit.rate[row]):.2f}"]
    if edit.choice is not None:
        chosen = int(edit.choice[row])
        notes.append("left as it is" if chosen < 0 else f"operator {chosen}")
    notes.append(f"{len(read)} real slots")
    moved = sum(0 <= slot != place for place, slot in enumerate(source))
    new = sum(slot >= 0 and item >= 0 for slot, item in zip(source, replaced, strict=True))
    ahead = sum(slot >= 0 and early for slot, early in zip(source, future, strict=True))
    notes += [
        f"{number} {what}"
        for number, what in ((moved, "moved"), (new, "new ids"), (ahead, "ahead of time"))
        if number
    ]
    lines = []
    if ids is not None:
        before, after = ids[row].tolist(), edit(ids)[row].tolist()
        width = max(len(str(item)) for item in (*before, *after)) + 1
        lines.append("before " + "".join(_cell(item, edit.pad_id, width) for item in before))
        lines.append("after  " + "".join(_cell(item, edit.pad_id, width) for item in after))
        marks = [
            "." if slot < 0 else "*" if item >= 0 else "<" if early else ">" if slot < place else "="
            for place, (slot, item, early) in enumerate(zip(source, replaced, future, strict=True))
        ]
        lines.append("       " + "".join(mark.rjust(width) for mark in marks))
    lines.append("; ".join(notes))
    return "\n".join(lines)


def draw(axes: Any, edit: Edit | PackedEdit, row: int, items: Tensor | Packed) -> None:
    """Draw what happened to one row: the row above, what became of it below, a line from each slot that is read to where it is read.

    Padding is an empty box, a new id is orange, and a slot that shows something newer than the row had there is underlined in red.

    Args:
        axes: of matplotlib, as ``plt.subplots()[1]``; the library itself does not import it.
        edit: a draw, on a padded batch or on packed rows.
        row: in 0..B - 1.
        items: (B, L) ids the edit was sampled on, or the packed rows.

    Raises:
        IndexError: there is no such row.

    Example:
        >>> import matplotlib.pyplot as plt, torch, seqaug as sa  # doctest: +SKIP
        >>> items = torch.tensor([[0, 1, 2, 3, 4, 5]])
        >>> figure, axes = plt.subplots()  # doctest: +SKIP
        >>> sa.inspect.draw(axes, sa.Crop(0.5, 0.5).sample(items), 0, items)  # doctest: +SKIP
    """
    edit, ids = padded(edit, items)
    check_row(edit, row)
    before, after = ids[row].tolist(), edit(ids)[row].tolist()
    source, replaced = edit.source[row].tolist(), edit.replaced[row].tolist()
    future = (edit.future & edit.valid)[row].tolist()
    for slot, item in enumerate(before):
        _box(axes, slot, 1.0, item, edit.pad_id, "#9ecae1")
    for slot, item in enumerate(after):
        _box(axes, slot, 0.0, item, edit.pad_id, "#f28e2b" if replaced[slot] >= 0 else "#9ecae1")
        if source[slot] >= 0:
            axes.plot([source[slot], slot], [0.78, 0.22], color="#888888", linewidth=1)
        if future[slot]:
            axes.plot([slot - 0.35, slot + 0.35], [-0.3, -0.3], color="#d62728", linewidth=2.5)
    axes.set_yticks([0, 1], ["after", "before"])
    axes.set_xticks([])
    axes.set_xlim(-0.6, len(before) - 0.4)
    axes.set_ylim(-0.5, 1.4)


def _box(axes: Any, slot: int, height: float, item: int, pad_id: int, color: str) -> None:
    empty = item == pad_id
    style = {"boxstyle": "round", "facecolor": "none" if empty else color, "edgecolor": "#cccccc"}
    axes.text(slot, height, "  " if empty else str(item), ha="center", va="center", bbox=style)


def padded(edit: Edit | PackedEdit, items: Any) -> tuple[Edit, Any]:
    """The edit and its items as they are on the padded batch."""
    if not isinstance(edit, PackedEdit):
        if items is not None:
            check_items(items)
        return edit, items
    if items is not None:
        items = pack(items, length=edit.length).pad(side=edit.side, fill=edit.pad_id)
    return edit.pad(), items


def check_row(edit: Edit, row: int) -> None:
    rows = edit.source.shape[0]
    if isinstance(row, bool) or not isinstance(row, int):
        raise TypeError(f"row must be a whole number in 0..{rows - 1}, got row={row!r}")
    if not 0 <= row < rows:
        raise IndexError(f"row must be in 0..{rows - 1}, got row={row}")


def _cell(item: int, pad_id: int, width: int) -> str:
    return ("." if item == pad_id else str(item)).rjust(width)


@dataclass(frozen=True)
class Summary:
    """What an operator does to a data set, as shares in [0, 1] and means.

    Args:
        rows: rows with at least one item.
        unchanged: share of rows that stay as they are.
        length: mean number of real slots after, divided by that before.
        new: share of real output slots that hold a new id.
        moved: share of real output slots that read another slot.
        future: share of the row's own slots that show something newer than the row had there.
        leaked: share of slots with a target that show this very target.
        rate: mean drawn rate.
    """

    rows: int
    unchanged: float
    length: float
    new: float
    moved: float
    future: float
    leaked: float
    rate: float

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows: {self.unchanged:.1%} unchanged, length x {self.length:.2f}, new ids {self.new:.1%}, "
            f"moved {self.moved:.1%}, ahead of time {self.future:.1%}, show their target {self.leaked:.1%}, "
            f"mean rate {self.rate:.2f}"
        )


def summarize(
    operator: Augmentation,
    items: Tensor,
    target: Tensor | None = None,
    *,
    timestamps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Summary:
    """Draw once for every row and count what happened.

    Args:
        operator: an operator or policy.
        items: (B, L) int64 or int32 ids; a whole data set will do.
        target: (B, L) ids, what is predicted in each slot; ``None``: the next item of the row.
        timestamps: (B, L), needed by time-aware operators.
        generator: on the device of ``items``.

    Returns:
        A :class:`Summary`.

    Raises:
        TypeError: ``operator`` is a :class:`~seqaug.MixupOp`, or nothing that edits rows.
        ValueError: no row has an item, or ``target`` is not aligned with ``items``.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
        >>> sa.inspect.summarize(sa.Crop(1.0, 1.0), items).unchanged
        1.0
    """
    if not isinstance(operator, Augmentation):
        raise TypeError(
            f"operator must be an operator or a policy, got {type(operator).__name__}"
            + (": pass mix.operator" if hasattr(operator, "operator") else "")
        )
    check_items(items)
    pad = operator.pad_id
    real = items != pad
    filled = real.any(1)
    if not bool(filled.any()):
        raise ValueError(
            f"items must hold at least one item, got items.shape={tuple(items.shape)} of padding only"
        )
    if target is None:
        target = torch.full_like(items, pad)
        target[:, :-1] = items[:, 1:]
    elif check_tensor("target", target, "of ids (batch, slots)").shape != items.shape:
        raise ValueError(
            f"target must be aligned with the items, got target.shape={tuple(target.shape)} "
            f"for items.shape={tuple(items.shape)}"
        )
    edit = operator.sample(items, timestamps=timestamps, generator=generator)
    after = edit(items)
    slots = torch.arange(items.shape[1], device=items.device)
    asked = real & (target != pad)

    def share(part: Tensor, whole: Tensor) -> float:
        return float((part & whole).sum() / whole.sum().clamp(min=1))

    return Summary(
        rows=int(filled.sum()),
        unchanged=share((after == items).all(1), filled),
        length=float(edit.valid.sum() / real.sum()),
        new=share(edit.replaced >= 0, edit.valid),
        moved=share(edit.source != slots, edit.valid),
        future=share(edit.future, real),
        leaked=share(after == target, asked),
        rate=float(edit.rate[filled].mean()),
    )
