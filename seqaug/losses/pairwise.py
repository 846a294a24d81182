"""Losses that score the target against sampled negatives one by one."""

from __future__ import annotations

from torch import Tensor

from seqaug.kernels.surprise import softplus
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, required, score_negatives
from seqaug.losses._tokens import Target, finish, gather_tokens, over_targets, target_score


class BCELoss(ItemLoss):
    """Binary cross-entropy of the target against each of its sampled negatives.

    loss = mean over real targets of softplus(-h . e_y) + sum_j softplus(h . e_j)

    Args:
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        hidden: (B, L, D) or packed (T, D) float.
        table: (R, D) float.
        target: (B, L) or (T,) ids, a `SoftTarget` of such ids, or vectors of the shape of hidden.
        negatives: ids (K,), (B, K) or (B, L, K), for packed input (K,) or (T, K), vectors with one more axis D,
            or the (ids, log_q) of a sampler, whose log_q this loss has no use for.
        weight: (B,) or (B, L), for packed input (T,); multiplies.
        valid: bool of the shape of the ids, ANDed with the target's own.
        output: () float32 (float64 for float64), (B, L) or (T,) for reduction "none".

    Example:
        >>> import torch
        >>> loss = BCELoss()
        >>> hidden, table = torch.zeros(1, 2, 4), torch.zeros(7, 4)
        >>> round(loss(hidden, table, torch.tensor([[0, 1]]), negatives=torch.tensor([2, 3, 4])).item(), 4)
        2.7726

    Source: the loss of self-attentive sequential recommendation (2018); one negative per position there.
    """

    needs_negatives = True

    def forward(
        self,
        hidden: Tensor,
        table: Tensor,
        target: Target,
        *,
        negatives: Negatives | None = None,
        weight: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        negatives = required("BCELoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        against = softplus(score_negatives(tokens, table, negatives).scores).sum(1)
        with_target = over_targets(tokens, lambda half: softplus(-target_score(tokens, table, half)))
        return finish(with_target + against, tokens, self.rule)
