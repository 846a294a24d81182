"""VariancePolicy: one operator for rows with even time gaps, another for uneven ones."""

from __future__ import annotations

from torch import Tensor

from seqaug._checks import check_number
from seqaug.operator import Augmentation
from seqaug.operators.timed import gap_variance, needed
from seqaug.policies.split import Split


class VariancePolicy(Split):
    """One operator for rows whose time gaps are even and another for the rest. ``choice`` is 0 for even rows and 1 for uneven ones.

    A row is even where the variance of the gaps between its items is at most ``threshold``; rows of one or two items are. The
    threshold is a number and not a share of the batch, so that no row depends on the others: take it from the data set,
    ``sa.gap_variance(items, timestamps).quantile(0.8)`` makes four fifths of the rows even. Needs ``timestamps``.

    Args:
        threshold: largest variance of an even row, in squared units of the timestamps, at least 0.
        even: operator or policy for rows with even gaps.
        uneven: operator or policy for the others; TiCoSeRec leaves them as they are, ``sa.Maybe(even, p=0.0)``.

    Raises:
        ValueError: ``threshold`` is negative, or the two disagree on pad id or side.

    Example:
        >>> import torch, seqaug as sa
        >>> policy = sa.VariancePolicy(
        ...     4.0, even=sa.TimeCrop(0.6, 0.6), uneven=sa.TimeMask(0.4, 0.4, mask_id=99)
        ... )
        >>> items = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
        >>> days = torch.tensor([[0, 2, 4, 6, 8], [0, 9, 10, 11, 30]])
        >>> policy.sample(items, timestamps=days).choice
        tensor([0, 1])

    Source: TiCoSeRec (Dang et al., 2023), which ranks the rows of a data set by this variance and augments the most even ones.
    """

    def __init__(self, threshold: float, even: Augmentation, uneven: Augmentation) -> None:
        super().__init__(even, uneven)
        check_number("threshold", threshold, 0.0, float("inf"))
        self.threshold = float(threshold)

    def second(self, items: Tensor, timestamps: Tensor | None) -> Tensor:
        return gap_variance(items, needed(timestamps, self), pad_id=self.pad_id) > self.threshold

    def extra_repr(self) -> str:
        return f"{self.threshold!r}, even={self.operators[0]!r}, uneven={self.operators[1]!r}"
