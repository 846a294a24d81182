"""Losses that score the target against sampled negatives one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from einops import rearrange
from torch import Tensor

from seqaug._calls import calls
from seqaug._checks import check_count, check_number
from seqaug.kernels.surprise import softplus
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, required, score_negatives
from seqaug.losses._tokens import Target, finish, gather_tokens, over_targets, target_score
from seqaug.sharding import Table


class BCELoss(ItemLoss):
    """Binary cross-entropy of the target against each of its sampled negatives.

    loss = mean over real targets of softplus(-h . e_y) + sum_j softplus(h . e_j)

    Args:
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        hidden: (B, L, D) or packed (T, D) float.
        table: (R, D) float.
        target: (B, L) or (T,) ids, a `SoftTarget` of such ids, or vectors of the shape of hidden.
        negatives: ids (K,), (B, K) or (B, L, K), for packed input (K,) or (T, K), vectors with one more
            axis D, or the (ids, log_q) of a sampler, whose log_q this loss has no use for.
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
        table: Table,
        target: Target,
        *,
        negatives: Negatives | None = None,
        weight: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        negatives = required("BCELoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        scored = score_negatives(tokens, table, negatives)
        against = scored.total(softplus(scored.scores))
        with_target = over_targets(tokens, lambda half: softplus(-target_score(tokens, table, half)))
        return finish(with_target + against, tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


class BPRLoss(ItemLoss):
    """Bayesian personalised ranking: the target above each of its sampled negatives.

    loss = mean over real targets of mean_j softplus(h . e_j - h . e_y)

    Args:
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `BCELoss`.

    Example:
        >>> import torch
        >>> loss = BPRLoss()
        >>> hidden, table = torch.zeros(1, 2, 4), torch.zeros(7, 4)
        >>> round(loss(hidden, table, torch.tensor([[0, 1]]), negatives=torch.tensor([2, 3])).item(), 4)
        0.6931

    Source: BPR-Opt of Bayesian personalized ranking from implicit feedback (2009).
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
        negatives = required("BPRLoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        scored = score_negatives(tokens, table, negatives)

        def value(half: Tensor) -> Tensor:
            score = target_score(tokens, table, half)
            return scored.mean(softplus(scored.scores - rearrange(score, "t -> t 1")))

        return finish(over_targets(tokens, value), tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


class GBCELoss(ItemLoss):
    """Generalised binary cross-entropy: corrects the overconfidence that few sampled negatives bring.

    loss = mean over real targets of (beta * softplus(-h . e_y) + sum_j softplus(h . e_j)) / (k + 1),
    beta = 1 - t * (1 - a) with the sampling rate a = k / (num_items - 1) of k negatives.

    Args:
        num_items: size of the catalog the negatives come from, at least 2.
        t: calibration in [0, 1]; 0 is the plain binary cross-entropy, 1 undoes the sampling wholly.
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `BCELoss`; the source uses 256 negatives.

    Example:
        >>> import torch
        >>> loss = GBCELoss(num_items=5, t=0.0)
        >>> hidden, table = torch.zeros(1, 2, 4), torch.zeros(7, 4)
        >>> round(loss(hidden, table, torch.tensor([[0, 1]]), negatives=torch.tensor([2, 3])).item(), 4)
        0.6931

    Source: Eq. 18 and 22 of gSASRec: reducing overconfidence in sequential recommendation (2023).
    """

    needs_negatives = True

    def __init__(
        self,
        *,
        num_items: int,
        t: float = 0.75,
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(reduction=reduction, denominator=denominator, ignore_index=ignore_index)
        check_count("num_items", num_items, 2)
        check_number("t", t, 0.0, 1.0)
        self.num_items = num_items
        self.t = t

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
        negatives = required("GBCELoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        scored = score_negatives(tokens, table, negatives)
        k = scored.counted
        beta = 1.0 - self.t * (1.0 - k / (self.num_items - 1))
        with_target = over_targets(tokens, lambda half: softplus(-target_score(tokens, table, half)))
        return finish(
            (beta * with_target + scored.total(softplus(scored.scores))) / (k + 1), tokens, self.rule
        )

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...
