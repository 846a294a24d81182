"""From a denominator and a target's score to a token's loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) to the last digit also in float64; torch's default threshold of 20 is off by 2e-9."""
    return F.softplus(x, threshold=40.0)


def surprise(lse: Tensor, score: Tensor, extra: bool, gamma: float) -> tuple[Tensor, Tensor]:
    """The loss of tokens and its slope with respect to their denominators.

    x = lse - score is -log p of a target in the catalog. With `extra` the target is one more class, so that
    -log p = softplus(x). The loss is (1 - p) ** gamma * -log p.
    """
    x = lse - score
    nll, slope = (softplus(x), x.sigmoid()) if extra else (x.clamp_min(0.0), torch.ones_like(x))
    if gamma == 0.0:
        return nll, slope
    miss = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).tiny)  # 1 - p
    focus = miss.pow(gamma)
    return focus * nll, slope * (focus + gamma * nll * (1.0 - miss) * miss.pow(gamma - 1.0))
