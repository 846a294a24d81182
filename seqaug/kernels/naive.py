"""The reference: whole logits, by plain autograd."""

from __future__ import annotations

from torch import Tensor

from seqaug.kernels.chunked import accumulator


def logsumexp(hidden: Tensor, table: Tensor, start: int, stop: int) -> Tensor:
    """Logsumexp (T,) of hidden (T, D) over rows start..stop - 1 of the table; holds tokens x catalog."""
    wide = accumulator(hidden.dtype)  # logits of 16 bits would overflow, and round
    return (hidden.to(wide) @ table[start:stop].to(wide).t()).logsumexp(1)
