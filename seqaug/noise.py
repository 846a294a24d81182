"""Noise: every random number an operator may need for one batch, drawn before anything looks at the data."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from seqaug._checks import Side
from seqaug._random import integers, uniform

_BITS = 31  # the low ones of a key, that choose a neighbour; its 31 highest decide the order
_STEP = 0x9E3779B97F4A7C15 - 2**64  # odd, so that the multiples of it visit every 64-bit number
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


class Noise:
    """One draw for a batch, the same whatever the operator, so that a policy draws and sorts once for all its members.

    A row draws three numbers; those of its slots are a hash of its seed and of the slot's distance from the end of the row
    that is not padded. So a slot's number depends neither on the other rows nor on how wide the batch is padded, and costs
    no draw.

    Args:
        rate: (B,) float32 in [0, 1); an operator stretches it to its own [low, high].
        start: (B,) float32 in [0, 1); where a window begins.
        seeds: (B,) int64.
        distance: (L,) int64; of each slot from the end that is not padded.
        order: (B, L) int64; the slots of a row in the order they are to be drawn in; by default that of the keys.
    """

    def __init__(
        self, rate: Tensor, start: Tensor, seeds: Tensor, distance: Tensor, order: Tensor | None = None
    ) -> None:
        self.rate = rate
        self.start = start
        self.seeds = seeds
        self.distance = distance
        self._order = order
        self._keys: Tensor | None = None

    @property
    def keys(self) -> Tensor:
        """(B, L) int64 in [0, 2**63), uniform; their order and their low bits are two independent draws."""
        if self._keys is None:
            self._keys = mixed_bits((rearrange(self.seeds, "b -> b 1") + self.distance) * _STEP)
        return self._keys

    @property
    def order(self) -> Tensor:
        """(B, L) int64; a uniform random permutation of the slots of each row. Sorted when first asked for: Crop never is."""
        if self._order is None:
            # 31 bits decide the order: half the bytes of a key, sorted in two thirds of the time.
            self._order = (self.keys >> 32).to(torch.int32).argsort(1)
        return self._order

    def in_order(self, order: Tensor) -> Noise:
        """The same noise with the slots in another order."""
        return Noise(self.rate, self.start, self.seeds, self.distance, order)

    @property
    def bits(self) -> Tensor:
        """(B, L) int64 in [0, 2**31), uniform and independent of the order."""
        return self.keys & ((1 << _BITS) - 1)

    def pick(self, counts: Tensor | int) -> Tensor:
        """One of ``counts`` alternatives per slot, uniformly.

        Args:
            counts: (B, L) int64 in [1, 2**31), or one number for all.

        Returns:
            (B, L) int64 in [0, counts).
        """
        return (self.bits * counts) >> _BITS

    def uniform(self) -> Tensor:
        """(B, L) float64 in [0, 1), from the same bits as :meth:`pick`."""
        return self.bits.to(torch.float64) / (1 << _BITS)


def draw_noise(items: Tensor, side: Side = "left", generator: torch.Generator | None = None) -> Noise:
    """Draw the noise of one batch: three calls of the generator for a number per row, whatever the ids are.

    Args:
        items: (B, L) ids; only shape and device are looked at.
        side: where the padding is.
        generator: on the device of ``items``; ``None`` is torch's default one.

    Returns:
        A :class:`Noise` on the device of ``items``.
    """
    rows, slots = items.shape
    rate = uniform((rows,), items.device, generator)
    start = uniform((rows,), items.device, generator)
    seeds = integers(2**63 - 1, (rows,), items.device, generator)
    slot = torch.arange(slots, device=items.device)
    return Noise(rate, start, seeds, slots - 1 - slot if side == "left" else slot)


def mixed_bits(x: Tensor) -> Tensor:
    """Scramble 64-bit numbers, so that neighbouring ones have nothing in common, and drop the sign.

    Args:
        x: int64 of any shape.

    Returns:
        int64 in [0, 2**63) of the same shape.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014, figure 16 (the variant MIX13).
    """
    # Shifts of int64 carry the sign along: the masks cut it off again. Products wrap around, as they should.
    x = (x ^ ((x >> 30) & (2**34 - 1))) * _FIRST
    x = (x ^ ((x >> 27) & (2**37 - 1))) * _SECOND
    return (x ^ ((x >> 31) & (2**33 - 1))) & (2**63 - 1)


def draw_beta(
    alpha: float, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """Draw from Beta(alpha, alpha), with a generator, which ``torch.distributions`` does not take.

    A ratio of two gamma draws, taken in logarithms: at small ``alpha`` both draws underflow and their plain ratio would be
    0 / 0. log Gamma(a) is drawn as log Gamma(a + 1) + log(U) / a.

    Args:
        alpha: positive.
        shape: of the result.
        device: of the result and of ``generator``.
        generator: ``None`` is torch's default one.

    Returns:
        float32 in [0, 1].
    """
    alpha = min(
        max(alpha, 1e-30), 1e30
    )  # beyond these lam is 0, 1 or 1/2 in any case, and float32 has no quotients
    gamma = torch._standard_gamma(torch.full((2, *shape), alpha + 1.0, device=device), generator=generator)
    # In (0, 1], so that the logarithm is finite.
    drawn = 1.0 - uniform((2, *shape), device, generator)
    log_gamma = gamma.log() + drawn.log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1])
