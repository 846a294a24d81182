"""Draws that respect what a row must not contain, without loops and without asking the device."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from seqaug._pairs import count_pairs, float_bits, worth_comparing, written


def check_generator(generator: object) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, got generator={generator!r}: torch.Generator().manual_seed(0)"
        )


def uniform(
    shape: tuple[int, ...],
    device: torch.device,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """torch.rand. Under torch.compile a draw whose shape varies must not be given a generator, not even None."""
    if generator is None:
        return torch.rand(shape, device=device, dtype=dtype)
    check_generator(generator)
    return torch.rand(shape, device=device, dtype=dtype, generator=generator)


def integers(
    high: int, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """torch.randint from 0 to high - 1; see :func:`uniform` for the generator."""
    if generator is None:
        return torch.randint(high, shape, device=device)
    check_generator(generator)
    return torch.randint(high, shape, device=device, generator=generator)


def permutation(count: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """torch.randperm of 0 to count - 1."""
    check_generator(generator)
    return torch.randperm(count, device=device, generator=generator)


def uniform_excluding(u: Tensor, num_items: int, excluded: Tensor) -> tuple[Tensor, Tensor]:
    """Turn uniform numbers into ids that are uniform over 1..num_items without each row's excluded ids.

    With the distinct excluded ids h_0 < h_1 < ... of a row, h_j - 1 - j allowed ids lie below h_j. The r-th
    allowed id (from 0) is therefore r + 1 plus the number of j with h_j - 1 - j <= r: one sort and one binary
    search, exact, in static shapes.

    Args:
        u: (B, K) uniform numbers in [0, 1). A float32 draw has 2**24 values: use float64 for catalogs above
            some 100,000 items.
        num_items: size of the catalog, ids 1..num_items.
        excluded: (B, M) integer ids. 0 and ids outside 1..num_items are ignored, repeated ids count once.

    Returns:
        ids: (B, K) in the dtype of `excluded`. Several draws of a row may be equal (draws with replacement).
            A row that excludes the whole catalog gets ids uniform over 1..num_items instead.
        remaining: (B,) int64, number of ids the row leaves to draw from; 0 marks the rows just described.

    Example:
        >>> import torch
        >>> u = torch.tensor([[0.0, 0.4, 0.99]])
        >>> ids, remaining = uniform_excluding(u, 5, torch.tensor([[2, 4, 2, 0]]))
        >>> ids.tolist(), remaining.tolist()
        ([[1, 3, 5]], [3])
    """
    outside = (excluded < 1) | (excluded > num_items)
    known = excluded.long().masked_fill(outside, num_items + 1)
    if worth_comparing(excluded.shape[1], num_items + 1):
        ids, remaining = _compared_excluding(u, num_items, known)
        return ids.to(excluded.dtype), remaining
    ordered = known.sort(dim=1).values
    first = (F.pad(ordered[:, :-1], (1, 0)) != ordered) & (ordered <= num_items)  # (rows, excluded)
    distinct = F.pad(first.cumsum(1), (1, 0))  # (rows, excluded + 1), distinct ids among the first j
    remaining = num_items - distinct[:, -1]
    rank = _rank_among(u, num_items, remaining)
    allowed_below = ordered - distinct[:, 1:]
    position = torch.searchsorted(allowed_below, rank, right=True)
    skipped = distinct.gather(1, position) * (rearrange(remaining, "b -> b 1") > 0)
    return (rank + 1 + skipped).to(excluded.dtype), remaining


def _rank_among(u: Tensor, num_items: int, remaining: Tensor) -> Tensor:
    """(B, K) int64: the how-manieth of the ``remaining`` ids was drawn, of the whole catalog where none remains."""
    choices = rearrange(torch.where(remaining > 0, remaining, num_items), "b -> b 1")
    return torch.minimum((u * choices).long(), choices - 1)


def _compared_excluding(u: Tensor, num_items: int, excluded: Tensor) -> tuple[Tensor, Tensor]:
    """The ids of :func:`uniform_excluding` from all pairs of a row; what is not to be excluded is num_items + 1."""
    key = written(float_bits(excluded))
    slot = torch.arange(excluded.shape[1], device=excluded.device)
    repeated = count_pairs(key, key, lambda one, other, place: (one == other) & (slot > place))
    first = (repeated == 0) & (excluded <= num_items)  # (rows, excluded): each distinct id once
    below = count_pairs(key, torch.where(first, key, torch.inf), lambda one, other, _: other < one)
    allowed_below = excluded - 1 - below.long()
    remaining = num_items - first.sum(1)
    rank = _rank_among(u, num_items, remaining)
    allowed = torch.where(first, float_bits(allowed_below), torch.inf)
    passed = count_pairs(float_bits(rank), allowed, lambda one, other, _: other <= one)
    skipped = passed.long() * (rearrange(remaining, "b -> b 1") > 0)
    return rank + 1 + skipped, remaining
