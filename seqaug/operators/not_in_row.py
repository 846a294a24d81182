"""Similar items that the row does not have yet: what ``exclude_row`` asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from seqaug._pairs import count_pairs, float_bits, worth_comparing, written
from seqaug._random import uniform_excluding
from seqaug.noise import half_mixed, low_bits, pick, unit
from seqaug.slots import look_up

_COMPARED = 1 << 18  # pairs of a neighbour and an item of its row up to which all are compared


def is_in_row(ids: Tensor, row: Tensor, largest: int) -> Tensor:
    """Which ids stand in the row, without waiting for the device: by all pairs in compiled code, else by a sort and a binary search.

    Args:
        ids: (B, L, K) int64 in 0..largest.
        row: (B, L) int64 in 0..largest.
        largest: the largest id there is.

    Returns:
        (B, L, K) bool.
    """
    wanted = rearrange(ids, "b l k -> b (l k)")
    if worth_comparing(row.shape[1], largest):
        same = count_pairs(written(float_bits(wanted)), float_bits(row), lambda one, other, _: one == other)
        return rearrange(same > 0, "b (l k) -> b l k", l=ids.shape[1])
    ordered = row.sort(1).values.contiguous()
    place = torch.searchsorted(ordered, wanted).clamp(max=row.shape[1] - 1)
    return rearrange(ordered.gather(1, place) == wanted, "b (l k) -> b l k", l=ids.shape[1])


def first_not_in_row(table: Tensor, ids: Tensor, at: Tensor, row: Tensor, most: int) -> Tensor:
    """Which of its neighbours are the first few that an item's row does not have; one after the other, until every item has enough.

    Waits for the device once per neighbour; in sessions of like items few need more than the first few.

    Args:
        table: (N, K) int64 neighbours of at least 0; 0 for none, which comes last.
        ids: (M,) int64 rows of the table.
        at: (M,) int64; the row of the batch of each.
        row: (B, L) int64 of at least 0.
        most: how many of each are wanted.

    Returns:
        (M, most) int64 columns of the table, in order; -1 where there are no more.
    """
    # Each item leaves its slot where the low bits of its id say: the id found there is the one looked for, or there is none,
    # or it is another one with the same bits, and the whole row is looked through.
    slots = row.shape[1]
    places = 1 << (4 * slots).bit_length()
    narrow = torch.int8 if slots < 128 else torch.int32
    slot = torch.arange(slots, dtype=narrow, device=row.device)
    there = torch.full((len(row), places), -1, dtype=narrow, device=row.device)
    there = there.scatter_(1, row & (places - 1), slot.expand(row.shape)).flatten()
    flat = row.flatten()
    columns = torch.full((len(ids), most), -1, device=ids.device)
    number, have = torch.arange(len(ids), device=ids.device), torch.zeros_like(at)
    for column in range(table.shape[1]):
        if number.numel() == 0:
            break
        wanted = look_up(table[:, column], ids)
        found = look_up(there, (at * places).add_(wanted & (places - 1))).long()
        absent = look_up(flat, (at * slots).add_(found.clamp(min=0))) != wanted
        unsure = (absent & (found >= 0)).nonzero().squeeze(1)
        absent[unsure] = (look_up(row, look_up(at, unsure)) != look_up(wanted, unsure)[:, None]).all(1)
        there_is, absent = wanted > 0, absent.logical_and_(wanted > 0)
        new = absent.nonzero().squeeze(1)
        columns[look_up(number, new), look_up(have, new)] = column
        have += absent
        left = (there_is & (have < most)).nonzero().squeeze(1)
        number, ids, at, have = (look_up(x, left) for x in (number, ids, at, have))
    return columns


def one_of(
    near: Tensor, allowed: Tensor, scores: Tensor | None, bits: Callable[[], Tensor], top: int
) -> Tensor:
    """One of the first few neighbours that are allowed, 0 where there is none.

    Args:
        near: (..., K) int64 neighbours, nearest first.
        allowed: (..., K) bool.
        scores: (..., K) float32; it is drawn by their softmax; ``None``: each as likely.
        bits: makes (...) int64, where they are needed; see :attr:`seqaug.noise.Noise.bits`.
        top: how many of those allowed to choose from.

    Returns:
        (...) int64.
    """
    if top == 1:  # whatever the scores: the first that is allowed
        first = allowed.long().argmax(-1, keepdim=True)  # of several largest values the first
        return rearrange(near.gather(-1, first) * allowed.gather(-1, first), "... 1 -> ...")
    rank = allowed.cumsum(-1)  # the how-manieth allowed neighbour this is
    if scores is None:
        count = rank[..., -1].clamp(max=top)
        wanted = 1 + pick(bits(), count.clamp(min=1))
        picked = (allowed & (rank == wanted[..., None])).long().argmax(-1, keepdim=True)
    else:
        scores = scores.masked_fill(~allowed | (rank > top), -torch.inf)
        weight = (scores - scores.amax(-1, keepdim=True)).exp().nan_to_num(nan=0.0).cumsum(-1)
        drawn = unit(bits()) * weight[..., -1]
        picked = (weight <= drawn[..., None]).sum(-1, keepdim=True).clamp(max=near.shape[-1] - 1)
    neighbour = rearrange(near.gather(-1, picked), "... 1 -> ...")
    return torch.where(rank[..., -1] > 0, neighbour, 0)


def stranger(bits: Tensor, num_items: int, pad_id: int, items: Tensor | None = None) -> Tensor:
    """Any item, each as likely, for those without a neighbour.

    Args:
        bits: (B, K) int64; see :attr:`seqaug.noise.Noise.bits`.
        num_items: V.
        pad_id: never drawn; where it is one of 1..V, the V items are 0..V without it.
        items: (B, L) ids of the rows, which are not drawn either; ``None``: all are.

    Returns:
        (B, K) int64.
    """
    # The items below a pad id in 1..V move up by one to be numbered 1..V, and the drawn number moves back.
    pad_inside = 1 <= pad_id <= num_items
    if items is None:
        drawn = 1 + pick(bits, num_items)
    else:
        row = items.long()
        numbered = row + (row < pad_id) if pad_inside else row
        drawn, _ = uniform_excluding(unit(bits), num_items, torch.where(items != pad_id, numbered, 0))
    return drawn - (drawn <= pad_id).long() if pad_inside else drawn


def similar_at(
    table: Tensor,
    scores: Tensor | None,
    items: Tensor,
    at: Tensor,
    bits: Callable[[], Tensor],
    top: int,
    pad_id: int,
) -> Tensor:
    """For some slots a neighbour of their item that the row has not, or where it has them all any such item. Waits for the device.

    Args:
        table: (N, K) int64 neighbours, nearest first, 0 for none, which comes last.
        scores: (N, K) float32; see :func:`one_of`.
        items: (B, L) ids.
        at: (M,) int64; the slots, counted through the batch.
        bits: makes those (M,) of the slots, where they are needed.
        top: how many neighbours to choose from.
        pad_id: the id of padding.

    Returns:
        (M,) int64.
    """
    row = torch.where(items != pad_id, items, 0).long()
    number = at // row.shape[1]
    ids = look_up(row.flatten(), at)
    if ids.numel() * table.shape[1] * row.shape[1] <= _COMPARED:  # fewer calls than a search takes
        near = look_up(table, ids)
        same = rearrange(near, "m k -> m k 1") == rearrange(look_up(row, number), "m l -> m 1 l")
        allowed = (near > 0) & ~same.any(2)
        weights = None if scores is None else look_up(scores, ids)
    else:
        columns = first_not_in_row(table, ids, number, row, top)
        place = rearrange(ids * table.shape[1], "m -> m 1") + columns.clamp(min=0)
        near, allowed = look_up(table.flatten(), place), columns >= 0
        weights = None if scores is None else look_up(scores.flatten(), place)
    found = one_of(near, allowed, weights, bits, top)
    lonely = (found == 0).nonzero().squeeze(1)
    if lonely.numel() > 0:
        drawn = rearrange(bits()[lonely], "n -> n 1")
        found[lonely] = stranger(drawn, len(table) - 2, pad_id, items[number[lonely]]).squeeze(1)
    return found


@torch.library.custom_op("seqaug::similar_not_in_row", mutates_args=())
def similar_not_in_row(
    table: Tensor,
    scores: Tensor | None,
    items: Tensor,
    chosen: Tensor,
    seeds: Tensor,
    distance: Tensor,
    top: int,
    pad_id: int,
) -> Tensor:
    """:func:`similar_at` the chosen slots, (B, L) of the dtype of ``items``, -1 elsewhere: for compiled code, which cannot look.

    ``seeds`` and ``distance`` are those of the noise, of which few bits are needed.
    """
    similar = items.new_full((items.numel(),), -1)
    at = chosen.flatten().nonzero().squeeze(1)
    if at.numel() > 0:
        # Often few rows have such a slot, and the others are not looked at.
        slots = items.shape[1]
        row, slot = at // slots, at % slots
        rows, place = torch.unique_consecutive(row, return_inverse=True)
        found = similar_at(
            table, scores, look_up(items, rows), place * slots + slot,
            lambda: low_bits(half_mixed(look_up(seeds, row), look_up(distance, slot))), top, pad_id,
        )  # fmt: skip
        similar.index_copy_(0, at, found.to(items.dtype))
    return similar.view(items.shape)


@similar_not_in_row.register_fake
def _(table: Tensor, scores: Tensor | None, items: Tensor, *rest: Any) -> Tensor:
    return items.new_empty(items.shape)
