"""Noise: every random number an operator may need for one batch, drawn before anything looks at the data."""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = 31  # the low ones of a key, that choose a neighbour; its 31 highest decide the order


class Noise:
    """One draw for a batch, the same whatever the operator, so that a policy draws and sorts once for all its members.

    Args:
        rate: (B,) float32 in [0, 1); an operator stretches it to its own [low, high].
        start: (B,) float32 in [0, 1); where a window begins.
        keys: (B, L) int64 in [0, 2**63); their order and their low bits are two independent draws.
        order: (B, L) int64; the slots of a row in the order they are to be drawn in; by default that of the keys.
    """

    def __init__(self, rate: Tensor, start: Tensor, keys: Tensor, order: Tensor | None = None) -> None:
        self.rate = rate
        self.start = start
        self.keys = keys
        self._order = order

    @property
    def order(self) -> Tensor:
        """(B, L) int64; a uniform random permutation of the slots of each row. Sorted when first asked for: Crop never is."""
        if self._order is None:
            # 31 bits decide the order: half the bytes of a key, sorted in two thirds of the time.
            self._order = (self.keys >> 32).to(torch.int32).argsort(1)
        return self._order

    def in_order(self, order: Tensor) -> Noise:
        """The same noise with the slots in another order."""
        return Noise(self.rate, self.start, self.keys, order)

    def pick(self, counts: Tensor) -> Tensor:
        """One of ``counts`` alternatives per slot, uniformly.

        Args:
            counts: (B, L) int64 in [1, 2**31).

        Returns:
            (B, L) int64 in [0, counts).
        """
        return ((self.keys & ((1 << _BITS) - 1)) * counts) >> _BITS

    def uniform(self) -> Tensor:
        """(B, L) float64 in [0, 1), from the same bits as :meth:`pick`."""
        return (self.keys & ((1 << _BITS) - 1)).to(torch.float64) / (1 << _BITS)


def draw_noise(items: Tensor, generator: torch.Generator | None = None) -> Noise:
    """Draw the noise of one batch: three calls of the generator, whatever the ids are.

    Args:
        items: (B, L) ids; only shape and device are looked at.
        generator: on the device of ``items``; ``None`` is torch's default one.

    Returns:
        A :class:`Noise` on the device of ``items``.
    """
    rows = items.shape[0]
    rate = torch.rand(rows, device=items.device, generator=generator)
    start = torch.rand(rows, device=items.device, generator=generator)
    keys = torch.randint(0, 2**63 - 1, items.shape, device=items.device, generator=generator)
    return Noise(rate, start, keys)


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
    gamma = torch._standard_gamma(torch.full((2, *shape), alpha + 1.0, device=device), generator=generator)
    uniform = 1.0 - torch.rand(
        (2, *shape), device=device, generator=generator
    )  # in (0, 1]: its logarithm is finite
    log_gamma = gamma.log() + uniform.log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1])
