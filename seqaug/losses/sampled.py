"""Softmax over the target and sampled items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from seqaug._calls import calls
from seqaug.kernels.surprise import softplus
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, Scored, required, score_negatives
from seqaug.losses._tokens import Target, finish, gather_tokens, over_targets, target_score
from seqaug.sharding import Table


def corrected(scored: Scored) -> Tensor:
    """Scores minus log(k q): what each negative stands for. Finite, so that a row without any has gradients of 0."""
    scores = scored.scores
    if scored.log_q is not None:
        scores = scores - scored.log_q.to(scores.dtype) - math.log(max(scores.shape[1], 1))
    return scores.clamp_min(torch.finfo(scores.dtype).min / 2)


def without_hits(scores: Tensor, ids: Tensor | None, half: Tensor) -> Tensor:
    """Take out negatives that are the target itself; vectors are never an item."""
    if ids is None or half.is_floating_point():
        return scores
    return scores.masked_fill(ids == rearrange(half, "t -> t 1"), torch.finfo(scores.dtype).min / 2)


class SampledSoftmaxLoss(ItemLoss):
    """Softmax over the target and k sampled negatives.

    loss = mean over real targets of log(exp(s) + sum_j exp(s_j - log(k * q_j))) - s, with s = h . e_y, s_j
    = h . e_j and q_j the probability with which the sampler draws negative j. The correction is made where
    the sampler's log_q is given; the target stays as it is. Negatives that equal the target are left out.

    Args:
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `BCELoss`; negatives may be shared (K,), per row (B, K) or per position (B, L, K). With
        `InBatchNegatives` this is the in-batch softmax.

    Example:
        >>> import torch
        >>> loss = SampledSoftmaxLoss()
        >>> hidden, table = torch.zeros(1, 2, 4), torch.zeros(7, 4)
        >>> loss(
        ...     hidden, table, torch.tensor([[0, 1]]), negatives=torch.tensor([2, 3, 1])
        ... ).exp().round().item()
        3.0

    Source: log-Q correction as in adaptive importance sampling to accelerate training of a neural
    probabilistic language model (2008), Section IV.
    """

    needs_negatives = True

    def forward(
        self,
        hidden: Tensor,
        table: Table,
        target: Target,
        *,
        negatives: Negatives | None = None,
        weight: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        negatives = required("SampledSoftmaxLoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        scored = score_negatives(tokens, table, negatives)
        against = corrected(scored)

        def value(half: Tensor) -> Tensor:
            others = without_hits(against, scored.ids, half).logsumexp(1)
            return softplus(others - target_score(tokens, table, half))

        return finish(over_targets(tokens, value), tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...
