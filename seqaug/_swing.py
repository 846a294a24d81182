"""Swing: items are alike that several users share who share little else. Sparse throughout, a block of users at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seqaug._pair_sums import PairSums

_PAIRS_AT_ONCE = 1 << 20  # shared items of user pairs held at a time: some 100 bytes each
_MIX = 0x9E3779B97F4A7C15 - 2**64  # odd; the upper bits of a product with it are spread over all counters


def swing_scores(
    user: Tensor, item: Tensor, num_items: int, alpha: float
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """s(i, j) = sum over pairs of users u, v that both have i and j of w_u w_v / (alpha + \\|I_u and I_v\\|), w_u = 1 / sqrt(\\|I_u\\|).

    Time grows with the pairs of users that share an item, memory with the pairs of items that two users share, 16 bytes each.

    Args:
        user: (N,) int64, ascending.
        item: (N,) int64 in 1..num_items, ascending for each user; every pair once.
        num_items: V.
        alpha: at least 0; how little a large overlap counts.

    Returns:
        left (P,), right (P,) int64 and score (P,) float64 for one block of left items, ordered by left and right; over all blocks every
        pair in both directions.
    """
    size = torch.bincount(user)
    weight = size.double().clamp(min=1).rsqrt()
    # Interactions by item, users ascending: the partners of one are those behind it in its item's group.
    by_item = torch.argsort(item, stable=True)
    others = user[by_item]
    place = torch.empty_like(by_item).scatter_(0, by_item, torch.arange(len(by_item)))
    per_item = torch.bincount(item, minlength=num_items + 1)
    partners = per_item.cumsum(0)[item] - 1 - place
    upto = partners.cumsum(0)
    last_of_user = size.cumsum(0)
    sums = PairSums(per_item)
    first = 0
    while first < len(size):  # blocks of users
        begin = int(last_of_user[first] - size[first])
        limit = (int(upto[begin - 1]) if begin else 0) + _PAIRS_AT_ONCE
        stop = max(first + 1, int(torch.searchsorted(upto[last_of_user - 1], limit, right=True)))
        own = slice(begin, int(last_of_user[stop - 1]))
        count = partners[own]
        one = torch.repeat_interleave(user[own], count)
        at = torch.repeat_interleave(place[own] + 1, count) + _within(count)
        pair = one * len(size) + others[at]
        again = _may_repeat(pair)
        shared = torch.repeat_interleave(item[own], count)[again]
        sums.add(*_pair_scores(pair[again], shared, len(size), weight, alpha))
        first = stop
    return sums.both_ways()


def _within(count: Tensor) -> Tensor:
    """0, 1, ... within each group of so many."""
    return torch.arange(int(count.sum())) - torch.repeat_interleave(count.cumsum(0) - count, count)


def _may_repeat(key: Tensor) -> Tensor:
    """The places of all keys that stand there more than once, and of a few others: counting by hash, to sort only these.

    Most pairs of users share one item, and add nothing.
    """
    bits = len(key).bit_length() + 1
    counter = (key * _MIX >> (64 - bits)) & ((1 << bits) - 1)
    return (torch.bincount(counter)[counter] > 1).nonzero().squeeze(1)


def _pair_scores(
    pair: Tensor, shared: Tensor, users: int, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What pairs of users, given once for each item they share, add to pairs of items i < j: both items, and values."""
    pair, order = torch.sort(pair, stable=True)  # items stay ascending within a pair
    shared = shared[order]
    pair, overlap = torch.unique_consecutive(pair, return_counts=True)
    value = weight[pair // users] * weight[pair % users] / (alpha + overlap)
    # Each item of a pair's overlap with those behind it.
    behind = torch.repeat_interleave(overlap, overlap) - 1 - _within(overlap)
    value = torch.repeat_interleave(torch.repeat_interleave(value, overlap), behind)
    left = torch.repeat_interleave(shared, behind)
    right = shared[torch.repeat_interleave(torch.arange(len(shared)), behind) + 1 + _within(behind)]
    return left, right, value
