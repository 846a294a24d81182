"""Contrast between two views of the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from seqaug._calls import calls
from seqaug._checks import check_number
from seqaug.functional import full_precision
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, refuse
from seqaug.losses._tokens import Target, finish, gather_tokens


class InfoNCELoss(ItemLoss):
    """InfoNCE with the batch as negatives: each vector must find its other view among 2 T - 1 others.

    With z the 2 T real vectors of both views and z' the other view of z, a pair's loss is the mean over its
    two vectors of log sum_{c != z} exp(z . c / temperature) - z . z' / temperature.

    Args:
        temperature: above 0. For the cosine similarity, normalise both views first.
        reduction, denominator, ignore_index: see `ItemLoss`; there are no ids here to ignore, use `valid`.

    Shape:
        hidden: (B, D) one vector per row, or (B, L, D): the first view.
        table: not used, None will do: it is there since all losses have the same signature.
        target: of the shape of hidden: the second view.
        weight: (B,), or (B, L) for (B, L, D).
        valid: bool, (B,) or (B, L): vectors that are not valid are nobody's negatives either.
        output: () float32 (float64 for float64), (B,) or (B, L) for reduction "none".

    Example:
        >>> import torch
        >>> one, two = torch.zeros(3, 4), torch.zeros(3, 4)
        >>> InfoNCELoss()(one, None, two).exp().round().item()
        5.0

    Source: Eq. 4 of contrastive learning for sequential recommendation (2020).
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(reduction=reduction, denominator=denominator, ignore_index=ignore_index)
        check_number("temperature", temperature, 0.0, float("inf"))
        if temperature == 0:
            raise ValueError(f"temperature must be above 0, got temperature={temperature!r}")
        self.temperature = temperature

    def forward(
        self,
        hidden: Tensor,
        table: Tensor | None,
        target: Target,
        *,
        negatives: Negatives | None = None,
        weight: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        refuse("InfoNCELoss", negatives)
        if not isinstance(target, Tensor) or not target.is_floating_point():
            kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
            raise TypeError(
                f"InfoNCELoss compares two views: target must be vectors like hidden, got target={kind}"
            )
        if target.ndim == 0:
            raise ValueError("target must be vectors of the shape of hidden, got target.shape=()")
        tokens = gather_tokens(hidden, target.reshape(-1, target.shape[-1]), target, weight, valid, self.rule)
        with full_precision(hidden.device.type):
            value = info_nce(tokens.hidden, tokens.first, tokens.real, self.temperature, tokens.share.dtype)
        return finish(value, tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


def info_nce(one: Tensor, two: Tensor, real: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    """Loss of each pair (pairs,), the mean of both directions."""
    both = torch.cat([one, two]).to(dtype)  # (2 pairs, features)
    similar = both @ both.t() / temperature
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    missing = rearrange(torch.cat([~real, ~real]), "c -> 1 c")
    others = similar.masked_fill(itself | missing, torch.finfo(dtype).min / 2).logsumexp(1)
    match = (one.to(dtype) * two.to(dtype)).sum(1) / temperature
    directions = rearrange(others, "(view t) -> view t", view=2) - match
    return directions.clamp_min(0.0).mean(0)
