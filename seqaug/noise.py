"""Noise: every random number an operator may need for one batch, drawn before anything looks at the data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from seqaug._checks import Side, can_look
from seqaug._pairs import count_pairs, written
from seqaug._random import integers, uniform
from seqaug.slots import place

_BITS = 31  # the low ones of a key, that choose a neighbour; its 30 highest decide the order
_LEAST = (
    1 << 23
)  # from here on the bits of an int32, read as a float32, are an ordinary number in the same order
_NARROW = 1 << 10  # slots up to which a key of 30 bits has room for 20 random ones
_NOT_SLOT = ((1 << 20) - 1) << 10
_BEHIND = (1 << 30) + (1 << 24)  # above every key that orders slots
_COMPARED = 256  # slots up to which compiled code finds ranks by comparing all pairs, rather than by sorting
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
        priority: (B, L) float32 or float64; slots with smaller values come first, and the keys decide among equal ones; ``None``: they alone.
    """

    def __init__(
        self, rate: Tensor, start: Tensor, seeds: Tensor, distance: Tensor, priority: Tensor | None = None
    ) -> None:
        self.rate = rate
        self.start = start
        self.seeds = seeds
        self.distance = distance
        self.priority = priority
        self._scrambled: Tensor | None = None
        self._order_keys: Tensor | None = None
        self._order: Tensor | None = None
        self.shared: dict[object, Any] | None = None
        """What members of a policy have made of this noise that others of them need as well, while they are planned."""

    @property
    def keys(self) -> Tensor:
        """(B, L) int64 in [0, 2**63), uniform; their order and their low bits are two independent draws."""
        x = self._half_mixed()
        return (x ^ ((x >> 31) & (2**33 - 1))) & (2**63 - 1)

    def _half_mixed(self) -> Tensor:
        """The keys but for the last step, which leaves their upper half as it is."""
        if self._scrambled is None:
            self._scrambled = half_mixed(rearrange(self.seeds, "b -> b 1"), self.distance)
        return self._scrambled

    @property
    def order_keys(self) -> Tensor:
        """(B, L) int32, distinct within a row; the smallest comes first. As float32 numbers of these bits they have the same order.

        Rows of more than 1,024 slots have int64 ones, of the same order among the slots that narrower rows have.
        """
        if self._order_keys is None:
            # The lowest bits are the slot's own, so that no two slots of a row are equal: 20 random ones stand above them.
            if self.distance.shape[0] <= _NARROW:
                random = upper_half(self._half_mixed()).bitwise_and_(_NOT_SLOT)
                self._order_keys = random.add_((self.distance + _LEAST).to(torch.int32))
            else:
                random = (self._half_mixed() >> 33).bitwise_and_(_NOT_SLOT).mul_(1 << 20)
                self._order_keys = random.add_(self.distance + _LEAST)
        return self._order_keys

    @property
    def order(self) -> Tensor:
        """(B, L) int64; the slots of each row in the order drawn, by default a uniform permutation. Sorted when first asked for."""
        if self._order is None:
            self._order = self.order_keys.argsort(1)
            if self.priority is not None:
                by_priority = self.priority.gather(1, self._order).sort(dim=1, stable=True).indices
                self._order = self._order.gather(1, by_priority)
        return self._order

    def ranks(self, among: Tensor) -> Tensor:
        """Which place each slot has in the order, counting only some of the slots.

        Args:
            among: (B, L) bool.

        Returns:
            (B, L) int64; 0, 1, ... for the slots among them, anything elsewhere.
        """
        in_order = among.gather(1, self.order)
        return torch.zeros_like(self.order).scatter(1, self.order, in_order.cumsum(1) - 1)

    def first(self, count: Tensor, among: Tensor) -> Tensor:
        """The first ``count`` of some slots of each row: without a priority, so many distinct ones chosen uniformly.

        Args:
            count: (B,) int64, at most the number of slots among them.
            among: (B, L) bool.

        Returns:
            (B, L) bool.
        """
        # A sort is what an operator mostly waits for. Compiled, all pairs of a row are compared in less time than it takes to
        # sort; uncompiled they would have to be written to memory first.
        if self._by_pairs:
            keys = [self.order_keys] if self.priority is None else [self.priority, self.order_keys]
            return first_by_pairs(keys, count, among)
        return first_by_sorting(self.priority, lambda: self.order_keys, count, among)

    def shuffled(self, inside: Tensor, begin: Tensor) -> Tensor:
        """The slots of one window of each row in the order drawn, whatever the priority.

        Args:
            inside: (B, L) bool; one contiguous run of each row.
            begin: (B,) int64; its first slot.

        Returns:
            (B, L) int64; the slot read by each slot, itself outside the window.
        """
        slot = torch.arange(inside.shape[1], device=inside.device)
        if self._by_pairs:
            keys = torch.where(inside, self.order_keys.view(torch.float32), torch.inf)
            number = slot.int().expand(inside.shape)
            moved = place(number, begin[:, None] + count_smaller(keys).long(), inside)
            return torch.where(inside, moved, number).long()
        # What stands before the window sorts before it, and what stands behind it behind.
        keys = self.order_keys
        number = slot.to(keys.dtype)
        behind = _BEHIND if keys.dtype == torch.int32 else _BEHIND << 20
        beyond = (number >= begin.to(keys.dtype)[:, None]).to(keys.dtype).mul_(behind).add_(number)
        return torch.where(inside, keys, beyond).argsort(1)

    @property
    def _by_pairs(self) -> bool:
        return torch.compiler.is_compiling() and self.distance.shape[0] <= _COMPARED

    def by(self, priority: Tensor) -> Noise:
        """The same noise with the slots ordered by ``priority``, smallest first, and as drawn among equal ones."""
        noise = Noise(self.rate, self.start, self.seeds, self.distance, priority)
        noise._scrambled, noise._order_keys = self._scrambled, self._order_keys
        return noise

    @property
    def bits(self) -> Tensor:
        """(B, L) int64 in [0, 2**31), uniform and independent of the order."""
        return low_bits(self._half_mixed())

    def of_rows(self, rows: Tensor | slice, slots: slice) -> Noise:
        """The noise of some rows in a narrower batch, in the order of the keys; see :func:`noise_of_rows`."""
        return Noise(self.rate[rows], self.start[rows], self.seeds[rows], self.distance[slots])

    def pick(self, counts: Tensor | int) -> Tensor:
        """One of ``counts`` alternatives per slot, uniformly.

        Args:
            counts: (B, L) int64 in [1, 2**31), or one number for all.

        Returns:
            (B, L) int64 in [0, counts).
        """
        return pick(self.bits, counts)

    def uniform(self) -> Tensor:
        """(B, L) float64 in [0, 1), from the same bits as :meth:`pick`."""
        return unit(self.bits)


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


def pick(bits: Tensor, counts: Tensor | int) -> Tensor:
    """One of ``counts`` alternatives each: int64 in [0, counts), of bits as :attr:`Noise.bits` has them."""
    return (bits * counts).bitwise_right_shift_(_BITS)


def unit(bits: Tensor) -> Tensor:
    """float64 in [0, 1), of bits as :attr:`Noise.bits` has them."""
    return bits.to(torch.float64) / (1 << _BITS)


def split_float64(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two float32 tensors whose pairs are ordered as the numbers are, to 48 bits: whole numbers below 2**48 exactly."""
    high = x.float()
    low = torch.where(high.isinf(), 0.0, x - high)  # what is beyond float32 is one infinity
    return high, low.float()


def count_smaller(key: Tensor) -> Tensor:
    """How many others of its row are smaller than each slot; for compiled code.

    Args:
        key: (B, L) float32, whose comparisons compilers turn into vector instructions.

    Returns:
        (B, L) float32, whole numbers.
    """
    key = written(key)
    return count_pairs(key, key, lambda one, other, _: other < one)


def first_by_pairs(keys: list[Tensor], count: Tensor, among: Tensor) -> Tensor:
    """The first slots of each row, by all pairs; for compiled code. See :meth:`Noise.first`.

    Args:
        keys: (B, L); the first orders the slots, the next one those that are equal by it, and so on.
        count: (B,) int64.
        among: (B, L) bool.

    Returns:
        (B, L) bool.
    """
    floats: list[Tensor] = []
    for key in keys:
        if key.dtype == torch.float64:
            floats += split_float64(written(key))
        else:
            floats.append(written(key) if key.dtype == torch.float32 else key.view(torch.float32))
    chosen = torch.zeros_like(among)
    for key in floats[:-1]:
        rank = count_smaller(torch.where(among, key, torch.inf))
        # Of what this key decides, all slots below the last one are in; those equal to it are left to the next key.
        last = torch.where(among & (rank < count[:, None]), key, -torch.inf).amax(1, keepdim=True)
        below = among & (key < last)
        chosen, among = chosen | below, among & (key == last)
        count = count - below.sum(1)
    rank = count_smaller(torch.where(among, floats[-1], torch.inf))
    return chosen | (among & (rank < count[:, None]))


def first_by_sorting(
    priority: Tensor | None, keys: Callable[[], Tensor], count: Tensor, among: Tensor
) -> Tensor:
    """The same from a sort; the keys are made where the priority leaves something to them, and on a CPU for these rows sorted alone."""
    if priority is None:
        return _up_to_last(keys(), count, among)[0]
    chosen, last = _up_to_last(priority, count, among)
    below = (priority < last) & chosen
    if not can_look(among):
        return below | _up_to_last(keys(), count - below.sum(1), chosen & ~below)[0]
    rows = (chosen.sum(1) > count).nonzero().squeeze(1)
    if rows.numel() > 0:
        below, equal = below[rows], (chosen & ~below)[rows]
        chosen[rows] = below | _up_to_last(keys()[rows], count[rows] - below.sum(1), equal)[0]
    return chosen


def _up_to_last(key: Tensor, count: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """The slots (B, L) whose key is at most the ``count``-th smallest among them, and that key (B, 1)."""
    sought = torch.where(among, key, torch.inf if key.is_floating_point() else torch.iinfo(key.dtype).max)
    last = sought.sort(1).values.gather(1, rearrange((count - 1).clamp(min=0), "b -> b 1"))
    some = rearrange(count > 0, "b -> b 1")
    return (sought <= last).logical_and_(among).logical_and_(some), last


def noise_of_rows(noise: Any, rows: Tensor | slice, slots: slice) -> Any:
    """Some rows of the noise of a batch, as it is for a batch of fewer slots: each row draws what it draws in the whole one.

    Args:
        noise: of an operator or policy: a :class:`Noise`, tensors (B, ...), whatever has a method ``of_rows(rows, slots)``, and
            tuples of them. What stands in a tuple twice stays one object, so that it is sorted once.
        rows: (R,) int64, or a slice of the batch.
        slots: the slots that are left.

    Returns:
        The same structure.

    Raises:
        TypeError: noise of another kind.
    """
    if isinstance(noise, Tensor):
        return noise[rows]
    if isinstance(noise, tuple):
        taken: list[Any] = []
        for number, part in enumerate(noise):
            first = next(i for i, other in enumerate(noise) if other is part)
            taken.append(taken[first] if first < number else noise_of_rows(part, rows, slots))
        return tuple(taken)
    if not hasattr(noise, "of_rows"):
        raise TypeError(
            f"packed input needs the noise of some of the rows, got {type(noise).__name__}: give it a method "
            "of_rows(rows, slots), or draw tensors (batch, ...) and tuples of them"
        )
    return noise.of_rows(rows, slots)


def half_mixed(seeds: Tensor, distance: Tensor) -> Tensor:
    """The keys of slots but for the last step, of the seeds of their rows and their distances (broadcast, int64)."""
    return scrambled((seeds + distance).mul_(_STEP))


def low_bits(x: Tensor) -> Tensor:
    """int64 in [0, 2**31), of what :func:`half_mixed` gives: see :attr:`Noise.bits`."""
    return (x >> 31).bitwise_xor_(x).bitwise_and_((1 << _BITS) - 1)


def upper_half(x: Tensor) -> Tensor:
    """(B, L) int32: the 31 highest bits of int64 numbers, a new tensor."""
    # On a CPU without a pass over the lower halves.
    if can_look(x) and sys.byteorder == "little" and x.stride(-1) == 1:
        return x.view(torch.int32)[:, 1::2] >> 1
    return (x >> 33).to(torch.int32)


def scrambled(x: Tensor) -> Tensor:
    """Scramble 64-bit numbers, so that neighbouring ones have nothing in common in their upper half.

    Args:
        x: int64 of any shape; written over.

    Returns:
        int64 of the same shape.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014, figure 16 (the variant MIX13), all but
    the last of its steps.
    """
    # Shifts of int64 carry the sign along: the masks cut it off again. Products wrap around, as they should.
    shifted = x >> 30  # a tensor of its own, used again: at this size it takes longer to get than to fill
    x ^= shifted.bitwise_and_((1 << 34) - 1)
    x *= _FIRST
    x ^= torch.bitwise_right_shift(x, 27, out=shifted).bitwise_and_((1 << 37) - 1)
    x *= _SECOND
    return x


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
    shapes = torch.full((2, *shape), alpha + 1.0, dtype=torch.float32, device=device)
    gamma = torch._standard_gamma(shapes, generator=generator)
    # In (0, 1], so that the logarithm is finite.
    drawn = 1.0 - uniform((2, *shape), device, generator)
    log_gamma = gamma.log() + drawn.log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1])
