"""Slots of a padded row: where its items stand, and the small constructions that operators are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug._checks import Side, can_look
from seqaug._pairs import written


def slot_numbers(items: Tensor) -> Tensor:
    """(L,) int64: 0, 1, ..., L - 1 on the device of ``items``."""
    return torch.arange(items.shape[1], device=items.device)


def first_slot(count: Tensor, slots: int, side: Side) -> Tensor:
    """(B,) slot of the oldest of ``count`` items."""
    return slots - count if side == "left" else torch.zeros_like(count)


def fraction(rate: Tensor, count: Tensor) -> Tensor:
    """(B,) int64: floor(rate * count)."""
    return (rate * count).floor().long().clamp(max=count)


def at_least_one(rate: Tensor, count: Tensor) -> Tensor:
    """(B,) int64: max(1, floor(rate * count)), but 0 of an empty row."""
    return fraction(rate, count).clamp(min=1).minimum(count)


def offset(uniform: Tensor, room: Tensor) -> Tensor:
    """(B,) int64: uniform on {0, ..., room}. The rounding of float32 could reach room + 1."""
    return (uniform * (room + 1)).long().minimum(room)


def choose(chosen: Tensor, yes: Tensor | int, no: Tensor | int, dtype: torch.dtype) -> Tensor:
    """torch.where of whole numbers, for choices that follow no pattern.

    On a CPU ``torch.where`` branches at each slot, and a branch that cannot be foreseen costs more than all else an operator does.
    Bits need none. Compilers and other devices do not branch.

    Args:
        chosen: (B, L) bool.
        yes: (B, L) of ``dtype``, or a number.
        no: (B, L) of ``dtype``, or a number.
        dtype: of the result, int32 or int64.

    Returns:
        (B, L) of ``dtype``.
    """
    if not can_look(chosen):
        return torch.where(chosen, yes, no).to(dtype)
    bits = chosen.to(dtype).neg_()  # all ones where chosen
    return bits.bitwise_and_(yes ^ no).bitwise_xor_(no)


def new_or_read(replaced: Tensor, read: Tensor) -> Tensor:
    """The new id of each slot, or the one it reads where there is none.

    Args:
        replaced: (B, L) int32 or int64; -1 for none.
        read: (B, L) of the same dtype; may be written over.

    Returns:
        (B, L) of that dtype.
    """
    if not can_look(replaced):
        return torch.where(replaced >= 0, replaced, read)
    # Bits instead of a choice, see `choose`; and at this size a new tensor takes longer to get than to fill.
    none = replaced >> (torch.iinfo(replaced.dtype).bits - 1)  # all ones for -1
    kept = read.bitwise_and_(none)
    return none.bitwise_not_().bitwise_and_(replaced).bitwise_or_(kept)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """table[index], (..., K) of a table (N, K): on a CPU index_select takes a third of the time that indexing does."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])


def flags(chosen: Tensor) -> Tensor:
    """(B, L) int32: 1 where chosen, else 0; in compiled code written to memory, which takes far longer of bools.

    For what is needed on both sides of what compilers leave to a kernel of its own, as a running sum.
    """
    return written(chosen.int())


def place(source: Tensor, slot: Tensor, kept: Tensor) -> Tensor:
    """Write each kept source into its output slot.

    Args:
        source: (B, L) int64; what to write.
        slot: (B, L) int64; where to: distinct slots in [0, L) wherever ``kept``.
        kept: (B, L) bool.

    Returns:
        (B, L) int64, -1 where nothing was written.
    """
    slots = source.shape[1]
    spare = torch.full((source.shape[0], slots + 1), -1, dtype=source.dtype, device=source.device)
    return spare.scatter_(1, choose(kept, slot, slots, torch.int64), source)[:, :slots]
