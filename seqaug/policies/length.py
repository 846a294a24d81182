"""LengthPolicy: one operator for short rows, another for long ones."""

from __future__ import annotations

from torch import Tensor

from seqaug._checks import check_count
from seqaug.operator import Augmentation
from seqaug.policies.split import Split


class LengthPolicy(Split):
    """One operator for short rows and another for long ones. ``choice`` is 0 for short rows and 1 for long ones.

    Args:
        threshold: rows of at most this many items are short.
        short: operator or policy for short rows; by CoSeRec Insert and Substitute, since short rows lose too much otherwise.
        long: operator or policy for the others.

    Raises:
        ValueError: ``threshold`` is negative, or the two disagree on pad id or side.

    Example:
        >>> import torch, seqaug as sa
        >>> policy = sa.LengthPolicy(threshold=2, short=sa.Mask(0.5, 0.5, mask_id=99), long=sa.Crop(0.5, 0.5))
        >>> policy.sample(torch.tensor([[0, 0, 1], [1, 2, 3]])).choice
        tensor([0, 1])

    Source: CoSeRec (Liu et al., 2021), section 3.3.
    """

    def __init__(self, threshold: int, short: Augmentation, long: Augmentation) -> None:
        super().__init__(short, long)
        check_count("threshold", threshold, 0)
        self.threshold = threshold

    def second(self, items: Tensor, timestamps: Tensor | None) -> Tensor:
        return (items != self.pad_id).sum(1) > self.threshold

    def extra_repr(self) -> str:
        return f"{self.threshold}, short={self.operators[0]!r}, long={self.operators[1]!r}"
