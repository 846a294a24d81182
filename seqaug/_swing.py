"""Swing: items are alike that several users share who share little else. Sparse throughout."""

from __future__ import annotations

import torch
from torch import Tensor

_PAIRS_AT_ONCE = 1 << 22  # shared items of user pairs held at a time: some 100 bytes each


def swing_scores(user: Tensor, item: Tensor, num_items: int, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """s(i, j) = sum over pairs of users u, v that both have i and j of w_u w_v / (alpha + \\|I_u and I_v\\|), w_u = 1 / sqrt(\\|I_u\\|).

    Time grows with the pairs of users that share an item, memory with the pairs of items that two users share.

    Args:
        user: (N,) int64, ascending.
        item: (N,) int64 in 1..num_items, ascending for each user; every pair once.
        num_items: V.
        alpha: at least 0; how little a large overlap counts.

    Returns:
        left (P,), right (P,) int64 and score (P,) float64, ordered by left and right; every pair in both directions.
    """
    size = torch.bincount(user)
    weight = size.double().clamp(min=1).rsqrt()
    # Interactions by item, users ascending: the partners of one are those behind it in its item's group.
    by_item = torch.argsort(item, stable=True)
    others = user[by_item]
    place = torch.empty_like(by_item).scatter_(0, by_item, torch.arange(len(by_item)))
    group_end = torch.bincount(item, minlength=num_items + 1).cumsum(0)[item]
    partners = group_end - 1 - place
    upto = partners.cumsum(0)
    keys = torch.zeros(0, dtype=torch.int64)
    scores = torch.zeros(0, dtype=torch.float64)
    last_of_user = size.cumsum(0)
    first = 0
    while first < len(size):  # blocks of users
        begin = int(last_of_user[first] - size[first])
        limit = (int(upto[begin - 1]) if begin else 0) + _PAIRS_AT_ONCE
        stop = max(first + 1, int(torch.searchsorted(upto[last_of_user - 1], limit, right=True)))
        own = slice(begin, int(last_of_user[stop - 1]))
        count = partners[own]
        one = torch.repeat_interleave(user[own], count)
        shared = torch.repeat_interleave(item[own], count)
        at = torch.repeat_interleave(place[own] + 1, count) + _within(count)
        key, value = _pair_scores(one, others[at], shared, len(size), weight, num_items, alpha)
        keys, inverse = torch.unique(torch.cat([keys, key]), return_inverse=True)
        scores = torch.zeros(len(keys), dtype=torch.float64).scatter_add_(
            0, inverse, torch.cat([scores, value])
        )
        first = stop
    left, right = keys // (num_items + 2), keys % (num_items + 2)
    both = torch.cat([left, right]), torch.cat([right, left])
    order = torch.argsort(both[0] * (num_items + 2) + both[1])
    return both[0][order], both[1][order], scores.repeat(2)[order]


def _within(count: Tensor) -> Tensor:
    """0, 1, ... within each group of so many."""
    return torch.arange(int(count.sum())) - torch.repeat_interleave(count.cumsum(0) - count, count)


def _pair_scores(
    one: Tensor, other: Tensor, shared: Tensor, users: int, weight: Tensor, num_items: int, alpha: float
) -> tuple[Tensor, Tensor]:
    """What pairs of users, given once for each item they share, add to pairs of items i < j: keys i * (V + 2) + j, and values."""
    pair, order = torch.sort(one * users + other, stable=True)  # items stay ascending within a pair
    shared = shared[order]
    pair, overlap = torch.unique_consecutive(pair, return_counts=True)
    value = weight[pair // users] * weight[pair % users] / (alpha + overlap)
    # Each item of a pair's overlap with those behind it.
    behind = torch.repeat_interleave(overlap, overlap) - 1 - _within(overlap)
    value = torch.repeat_interleave(torch.repeat_interleave(value, overlap), behind)
    left = torch.repeat_interleave(shared, behind)
    right = shared[torch.repeat_interleave(torch.arange(len(shared)), behind) + 1 + _within(behind)]
    key, inverse = torch.unique(left * (num_items + 2) + right, return_inverse=True)
    return key, torch.zeros(len(key), dtype=torch.float64).scatter_add_(0, inverse, value)
