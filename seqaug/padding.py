"""Rows of different lengths, as one padded tensor, and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from seqaug._checks import Side, check_count, check_items, check_pad_id, check_side


def lengths(items: Tensor, *, pad_id: int = 0) -> Tensor:
    """Number of real items of each row.

    Args:
        items: (B, L) int64 or int32 ids.
        pad_id: the id of padding.

    Returns:
        (B,) int64.

    Example:
        >>> import torch, seqaug as sa
        >>> sa.lengths(torch.tensor([[0, 0, 4], [7, 8, 9]]))
        tensor([1, 3])
    """
    check_items(items)
    check_pad_id(pad_id, items.dtype)
    return (items != pad_id).sum(1)


def pad_sequences(
    rows: Iterable[Sequence[int] | Tensor], length: int | None = None, *, side: Side = "left", pad_id: int = 0
) -> Tensor:
    """Make one tensor out of rows of different lengths; of rows that are too long the newest items are kept.

    Args:
        rows: ids of each row, oldest first.
        length: number of slots; ``None`` is the longest row.
        side: where the padding goes.
        pad_id: the id of padding.

    Returns:
        (B, length) int64.

    Raises:
        TypeError: a row holds something that is not a whole number.
        ValueError: ``length`` is below 1, or a row holds ``pad_id``.

    Example:
        >>> import seqaug as sa
        >>> sa.pad_sequences([[1, 2], [3, 4, 5, 6]], length=3)
        tensor([[0, 1, 2],
                [4, 5, 6]])
    """
    check_side(side)
    check_pad_id(pad_id)
    if length is not None:
        check_count("length", length, 1)
    tensors = [_row(row, number) for number, row in enumerate(rows)]
    if tensors and bool((torch.cat(tensors) == pad_id).any()):
        number = next(i for i, row in enumerate(tensors) if bool((row == pad_id).any()))
        raise ValueError(
            f"row {number} holds the pad id, got pad_id={pad_id}: renumber its items or pass another pad_id"
        )
    longest = max((len(row) for row in tensors), default=0)
    slots = max(longest, 1) if length is None else length
    out = torch.full((len(tensors), slots), pad_id, dtype=torch.int64)
    for number, row in enumerate(tensors):
        kept = row[max(0, len(row) - slots) :]
        begin = slots - len(kept) if side == "left" else 0
        out[number, begin : begin + len(kept)] = kept
    return out


def _row(row: Sequence[int] | Tensor, number: int) -> Tensor:
    try:
        tensor = (
            row
            if isinstance(row, Tensor)
            else torch.tensor(list(row), dtype=None if len(row) else torch.int64)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"a row must be a list of whole numbers, got row {number}: {row!r:.60}") from error
    if (
        tensor.ndim != 1
        or tensor.dtype.is_floating_point
        or tensor.dtype.is_complex
        or tensor.dtype == torch.bool
    ):
        raise TypeError(
            f"a row must be a list of whole numbers, got row {number} of {tensor.dtype}, shape={tuple(tensor.shape)}"
        )
    return tensor.to("cpu", torch.int64)


def check_batch(
    items: Tensor, num_items: int, *, side: Side = "left", pad_id: int = 0, mask_id: int | None = None
) -> None:
    """Refuse a batch with ids outside the catalog or padding between items. Looks at the values, so it waits for the device.

    Operators and losses do not look at values; call this once, where batches are made.

    Args:
        items: (B, L) int64 or int32 ids.
        num_items: V; real ids are 1..V, or 0..V without ``pad_id`` where that is one of 1..V.
        side: where the padding has to be.
        pad_id: the id of padding.
        mask_id: one more id that may stand in the batch.

    Raises:
        TypeError: ``items`` is not a tensor of ids.
        ValueError: the first thing that is wrong, with its row and slot.

    Example:
        >>> import torch, seqaug as sa
        >>> sa.check_batch(torch.tensor([[0, 5, 0, 6]]), num_items=10)
        Traceback (most recent call last):
        ValueError: items must be padded on the left only, got the pad id 0 after an item in row 0, slot 2
    """
    check_items(items)
    check_side(side)
    check_pad_id(pad_id, items.dtype)
    check_count("num_items", num_items, 1)
    first = 0 if 1 <= pad_id <= num_items else 1
    real = items != pad_id
    known = (items >= first) & (items <= num_items)
    if mask_id is not None:
        known |= items == mask_id
    unknown = (real & ~known).nonzero()
    if len(unknown):
        row, slot = unknown[0].tolist()
        raise ValueError(
            f"ids must be {first}..{num_items} (num_items={num_items}, pad_id={pad_id}), "
            f"got items[{row}, {slot}]={int(items[row, slot])}"
        )
    seen = real if side == "left" else real.flip(1)
    interior = (seen.cumsum(1) > 0) & ~seen
    if side == "right":
        interior = interior.flip(1)
    gaps = interior.nonzero()
    if len(gaps):
        row, slot = gaps[0].tolist()
        where = "after" if side == "left" else "before"
        raise ValueError(
            f"items must be padded on the {side} only, got the pad id {pad_id} {where} an item in row {row}, slot {slot}"
        )
