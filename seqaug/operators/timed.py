"""Time-aware operators: where Crop, Mask, Reorder, Substitute and Insert act is decided by the gaps between timestamps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seqaug._checks import Side, check_choice
from seqaug._pairs import written
from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Augmentation, Operator, check_batch_and_times
from seqaug.operators.crop import window_source
from seqaug.operators.insert import Insert
from seqaug.operators.mask import Mask
from seqaug.operators.substitute import Substitute
from seqaug.sharding import ShardedTable
from seqaug.similarity import ItemSimilarity
from seqaug.slots import at_least_one, first_slot, fraction, offset, slot_numbers

_GAPS = ("largest", "smallest")
# Of sums of n squares up to 1, per n**2: variances of gaps that differ by less count as the same.
_ROUNDING = 1e-15


def needed(timestamps: Tensor | None, operator: Augmentation) -> Tensor:
    """The timestamps, or an error that says who needs them."""
    if timestamps is None:
        name = type(operator).__name__
        raise ValueError(
            f"{name} needs the time of each item, got timestamps=None: pass timestamps=(batch, slots)"
        )
    return timestamps


def gaps_before(real: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
    """Time between each item and the one before it.

    Args:
        real: (B, L) bool.
        timestamps: (B, L) of any unit and dtype, whose differences an int64 can hold where they are whole; padded slots are not
            looked at.

    Returns:
        gap (B, L) float32 for times in float32, whose differences are no finer, else float64, and known (B, L) bool: not the first
        item, which has none before it, not padded slots, and not where a time is no number. Elsewhere the gap is anything.
    """
    dtype = torch.float32 if timestamps.dtype == torch.float32 else torch.float64
    if timestamps.dtype not in (
        torch.float32,
        torch.float64,
        torch.int64,
    ):  # differences of which need more room
        timestamps = timestamps.to(dtype if timestamps.is_floating_point() else torch.int64)
    if timestamps.shape[1] == 1:  # compilers stumble over the shift of one slot
        return torch.zeros_like(timestamps, dtype=dtype), torch.zeros_like(real)
    largest = torch.finfo(dtype).max  # of times that are not finite the gap may be infinite, or no number
    gap = (timestamps - F.pad(timestamps, (1, 0))[:, :-1]).abs_().to(dtype).clamp_(max=largest)
    return gap, (gap <= largest).logical_and_(real).logical_and_(F.pad(real, (1, 0))[:, :-1])


def gap_variance(items: Tensor, timestamps: Tensor, *, pad_id: int = 0) -> Tensor:
    """Variance of the gaps between the items of each row, 0 for fewer than two gaps.

    Args:
        items: (B, L) int64 or int32 ids, padded on either side.
        timestamps: (B, L) of any unit and dtype; padded slots are not looked at.
        pad_id: the id of padding.

    Returns:
        (B,) float64, in squared units of the timestamps; the mean of the squares about the mean.

    Raises:
        TypeError: ``items`` is not a tensor of ids.
        ValueError: ``timestamps`` are of another shape than the items.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.tensor([[1, 2, 3, 4], [0, 0, 5, 6]])
        >>> sa.gap_variance(items, torch.tensor([[0, 1, 2, 6], [0, 0, 3, 9]]))
        tensor([2., 0.], dtype=torch.float64)

    Source: TiCoSeRec (Dang et al., 2023).
    """
    check_batch_and_times(items, timestamps, pad_id)
    times = timestamps.double() if timestamps.is_floating_point() else timestamps
    gap, known = gaps_before(items != pad_id, times)
    number = known.sum(1, keepdim=True).clamp(min=1)
    mean = torch.where(known, gap, 0.0).sum(1, keepdim=True) / number
    return (torch.where(known, gap - mean, 0.0).square() / number).sum(1)


def gap_priority(real: Tensor, timestamps: Tensor, gaps: str) -> Tensor:
    """What orders slots by the gap before them, smallest first; slots without a gap come last.

    Args:
        real: (B, L) bool.
        timestamps: (B, L); see :func:`gaps_before`.
        gaps: ``"largest"`` or ``"smallest"`` first.

    Returns:
        (B, L) float32 or float64.
    """
    gap, known = gaps_before(real, timestamps)
    never = torch.finfo(gap.dtype).max  # later than any gap, but before what does not count at all
    return (gap.neg_() if gaps == "largest" else gap).masked_fill_(known.logical_not_(), never)


def most_even_window(
    first: Tensor, count: Tensor, gaps: tuple[Tensor, Tensor], width: Tensor, uniform: Tensor
) -> Tensor:
    """The window of each row whose gaps have the least variance; of several, each is as likely.

    Args:
        first: (B,) int64; the slot of the row's first item.
        count: (B,) int64; items of the row.
        gaps: the gap before each item and which there are, as :func:`gaps_before` has them; written over.
        width: (B,) int64; items of the window, at most those of the row.
        uniform: (B,) float32 in [0, 1); not the noise that shuffles the window, which would not be uniform then.

    Returns:
        (B,) int64; the first slot of the window.
    """
    gap, known = gaps
    slots = gap.shape[1]
    slot = torch.arange(slots, device=gap.device)
    # What is made here is written over where it can be: at this size a new tensor takes longer to get than to fill.
    gap = gap.masked_fill_(known.logical_not_(), 0.0).to(torch.float64)
    scaled = written(gap.div_(gap.amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float64).tiny)))
    squares = scaled.square().cumsum_(1)
    upto = scaled.cumsum_(1)
    # (batch, slots): last slot of the window that begins here
    last = (slot + width[:, None] - 1).clamp_(0, slots - 1)
    between = (width - 1).clamp(min=1)[:, None]
    total = upto.gather(1, last).sub_(upto)
    # the variance times the number of gaps
    spread = squares.gather(1, last).sub_(squares).sub_(total.square_().div_(between))
    # A window that begins here is inside the row where its first and its last slot are.
    number = slot.to(torch.int32)
    outside = (number < first.to(torch.int32)[:, None]) | (
        number > (first + count - width).to(torch.int32)[:, None]
    )
    spread.masked_fill_(outside, torch.inf)
    least = spread <= spread.amin(1, keepdim=True).clamp(min=0.0) + _ROUNDING * count.square()[:, None]
    rank = least.int().cumsum(1)
    wanted = 1 + offset(uniform, (rank[:, -1] - 1).clamp(min=0))
    return (rank < wanted[:, None]).sum(1).clamp(max=slots - 1)


class TimeCrop(Operator):
    """Keep the window of max(1, floor(rate * n)) items whose time gaps are the most even (least variance).

    Windows of one or two items are all as even: there one is drawn uniformly. Needs ``timestamps``.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> crop = sa.TimeCrop(0.6, 0.6)
        >>> crop(torch.tensor([[1, 2, 3, 4, 5]]), timestamps=torch.tensor([[0, 9, 10, 11, 30]]))
        tensor([[0, 0, 2, 3, 4]])

    Source: TiCoSeRec (Dang et al., 2023), section "Time interval-aware operators".
    """

    lengthens = False

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        real = items != self.pad_id
        count = real.sum(1)
        rate = self.rate(noise)
        kept = at_least_one(rate, count)
        first = first_slot(count, items.shape[1], self.side)
        gaps = gaps_before(real, needed(timestamps, self))
        start = most_even_window(first, count, gaps, kept, noise.start) - first
        source = window_source(items, count, start, kept, self.side)
        return Edit(source, torch.full_like(items, -1), rate, self.pad_id)


class TimeReorder(Operator):
    """Shuffle the window of floor(rate * n) items whose time gaps are the most even (least variance). Needs ``timestamps``.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> reorder = sa.TimeReorder(0.6, 0.6)
        >>> edit = reorder.sample(
        ...     torch.tensor([[1, 2, 3, 4, 5]]), timestamps=torch.tensor([[0, 9, 10, 11, 30]])
        ... )
        >>> sorted(edit.source[0, 1:4].tolist())
        [1, 2, 3]

    Source: TiCoSeRec (Dang et al., 2023), section "Time interval-aware operators".
    """

    lengthens = False

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        real = items != self.pad_id
        count = real.sum(1)
        rate = self.rate(noise)
        width = fraction(rate, count)
        first = first_slot(count, items.shape[1], self.side)
        gaps = gaps_before(real, needed(timestamps, self))
        begin = most_even_window(first, count, gaps, width, noise.start)
        into = slot_numbers(items) - begin[:, None]  # (batch, slots): place within the window
        moved = noise.shuffled((into >= 0) & (into < width[:, None]), begin)
        return Edit(torch.where(real, moved, -1), torch.full_like(items, -1), rate, self.pad_id)


class TimeMask(Mask):
    """Put the mask id in place of the max(1, floor(rate * n)) items with the largest (smallest) time gaps before them.

    The first item has no gap before it and comes last; equal gaps are drawn among uniformly. Needs ``timestamps``.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        mask_id: the id of the mask.
        gaps: ``"largest"`` or ``"smallest"``.
        pad_id: the id of padding; must not be the mask id.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> mask = sa.TimeMask(0.4, 0.4, mask_id=99)
        >>> mask(torch.tensor([[1, 2, 3, 4, 5]]), timestamps=torch.tensor([[0, 9, 10, 11, 30]]))
        tensor([[ 1, 99,  3,  4, 99]])

    Source: TiCoSeRec (Dang et al., 2023), section "Time interval-aware operators".
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        mask_id: int,
        gaps: str = "largest",
        pad_id: int = 0,
        side: Side = "left",
    ) -> None:
        super().__init__(low, high, mask_id=mask_id, pad_id=pad_id, side=side)
        check_choice("gaps", gaps, _GAPS)
        self.gaps = gaps

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        priority = gap_priority(items != self.pad_id, needed(timestamps, self), self.gaps)
        return super().plan(items, noise.by(priority))

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.gaps == "largest" else f", gaps={self.gaps!r}")


class TimeSubstitute(Substitute):
    """Put a similar item in place of the max(1, floor(rate * n)) items with the smallest (largest) time gaps before them.

    The first item has no gap before it and comes last; equal gaps are drawn among uniformly. Needs ``timestamps``.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none.
        top: how many of the nearest to choose from, in 1..K.
        temperature: draw among them by softmax(score / temperature), low values nearly always the nearest; ``None``: each as
            likely. Needs the scores of an :class:`~seqaug.ItemSimilarity`.
        exclude_row: never put in an item that the row already has, unless it has the whole catalog.
        gaps: ``"smallest"`` or ``"largest"``.
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> table = torch.tensor([[0], [11], [12], [13], [14], [15]] + [[0]] * 12)
        >>> substitute = sa.TimeSubstitute(0.4, 0.4, table)
        >>> substitute(torch.tensor([[1, 2, 3, 4, 5]]), timestamps=torch.tensor([[0, 9, 10, 11, 30]]))
        tensor([[ 1,  2, 13, 14,  5]])

    Source: TiCoSeRec (Dang et al., 2023), section "Time interval-aware operators".
    """

    def __init__(
        self,
        low: float,
        high: float,
        neighbours: ItemSimilarity | Tensor | ShardedTable,
        *,
        top: int = 1,
        temperature: float | None = None,
        exclude_row: bool = False,
        gaps: str = "smallest",
        pad_id: int = 0,
        side: Side = "left",
    ) -> None:
        super().__init__(
            low,
            high,
            neighbours,
            top=top,
            temperature=temperature,
            exclude_row=exclude_row,
            pad_id=pad_id,
            side=side,
        )
        check_choice("gaps", gaps, _GAPS)
        self.gaps = gaps

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        priority = gap_priority(items != self.pad_id, needed(timestamps, self), self.gaps)
        return super().plan(items, noise.by(priority))

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.gaps == "smallest" else f", gaps={self.gaps!r}")


class TimeInsert(Insert):
    """Put a similar item before the max(1, floor(rate * n)) items with the largest (smallest) time gaps before them.

    The first item has no gap before it and comes last; equal gaps are drawn among uniformly. Needs ``timestamps``.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none.
        top: how many of the nearest to choose from, in 1..K.
        temperature: draw among them by softmax(score / temperature), low values nearly always the nearest; ``None``: each as
            likely. Needs the scores of an :class:`~seqaug.ItemSimilarity`.
        exclude_row: never put in an item that the row already has, unless it has the whole catalog.
        gaps: ``"largest"`` or ``"smallest"``.
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> table = torch.tensor([[0], [11], [12], [13], [14], [15]] + [[0]] * 12)
        >>> insert = sa.TimeInsert(0.3, 0.3, table)
        >>> insert(torch.tensor([[0, 0, 1, 2, 3, 4, 5]]), timestamps=torch.tensor([[0, 0, 0, 9, 10, 11, 30]]))
        tensor([[ 0,  1,  2,  3,  4, 15,  5]])

    Source: TiCoSeRec (Dang et al., 2023), section "Time interval-aware operators".
    """

    def __init__(
        self,
        low: float,
        high: float,
        neighbours: ItemSimilarity | Tensor | ShardedTable,
        *,
        top: int = 1,
        temperature: float | None = None,
        exclude_row: bool = False,
        gaps: str = "largest",
        pad_id: int = 0,
        side: Side = "left",
    ) -> None:
        super().__init__(
            low,
            high,
            neighbours,
            top=top,
            temperature=temperature,
            exclude_row=exclude_row,
            pad_id=pad_id,
            side=side,
        )
        check_choice("gaps", gaps, _GAPS)
        self.gaps = gaps

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        priority = gap_priority(items != self.pad_id, needed(timestamps, self), self.gaps)
        return super().plan(items, noise.by(priority))

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.gaps == "largest" else f", gaps={self.gaps!r}")
