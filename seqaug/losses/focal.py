"""Focal losses: what is already well predicted counts less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqaug._calls import calls
from seqaug._checks import check_number
from seqaug.kernels.surprise import softplus
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, refuse, required, score_negatives
from seqaug.losses._tokens import Target, finish, gather_tokens, over_targets, target_score
from seqaug.losses.softmax import CatalogLoss, catalog_loss
from seqaug.sharding import Table


def focal(score: Tensor, gamma: float) -> Tensor:
    """-(1 - p) ** gamma * log p with p = sigmoid(score), finite with finite gradients at any score."""
    return torch.exp(-gamma * softplus(score)) * softplus(-score)


class FocalLoss(ItemLoss):
    """Binary focal loss of the target and its sampled negatives.

    loss = mean over real targets of alpha * f(s) + (1 - alpha) * sum_j f(-s_j),
    f(s) = -(1 - p) ** gamma * log p with p = sigmoid(s); s and s_j are the scores of target and negatives.

    Args:
        gamma: 0 or more; 0 is the balanced binary cross-entropy.
        alpha: weight of the target in [0, 1]; the negatives have 1 - alpha.
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `BCELoss`.

    Example:
        >>> import torch
        >>> loss = FocalLoss(gamma=0.0, alpha=0.5)
        >>> hidden, table = torch.zeros(1, 2, 4), torch.zeros(7, 4)
        >>> round(loss(hidden, table, torch.tensor([[0, 1]]), negatives=torch.tensor([2])).item(), 4)
        0.6931

    Source: Eq. 5 of focal loss for dense object detection (2017).
    """

    needs_negatives = True

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(reduction=reduction, denominator=denominator, ignore_index=ignore_index)
        check_number("gamma", gamma, 0.0, float("inf"))
        check_number("alpha", alpha, 0.0, 1.0)
        self.gamma = gamma
        self.alpha = alpha

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
        negatives = required("FocalLoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        scored = score_negatives(tokens, table, negatives)
        against = scored.total(focal(-scored.scores, self.gamma))
        with_target = over_targets(tokens, lambda half: focal(target_score(tokens, table, half), self.gamma))
        return finish(self.alpha * with_target + (1.0 - self.alpha) * against, tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


class SoftmaxFocalLoss(CatalogLoss):
    """Focal loss on the softmax over the whole catalog, at every real timestep.

    loss = mean over real targets of -(1 - p) ** gamma * log p, with p the target's softmax over the catalog.

    Args:
        catalog: the rows of the table that are items: slice(1, num_items + 1).
        gamma: 0 or more; 0 is `ICELoss`.
        backend: of `seqaug.functional.linear_logsumexp`.
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `ICELoss`.

    Example:
        >>> import torch
        >>> loss = SoftmaxFocalLoss(catalog=slice(1, 3), gamma=1.0)
        >>> round(loss(torch.zeros(1, 1, 4), torch.zeros(4, 4), torch.tensor([[2]])).item(), 4)
        0.3466

    Source: Eq. 4 of focal loss for dense object detection (2017), with the softmax as probability.
    """

    def __init__(
        self,
        *,
        catalog: slice,
        gamma: float = 2.0,
        backend: str = "auto",
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(
            catalog=catalog,
            backend=backend,
            reduction=reduction,
            denominator=denominator,
            ignore_index=ignore_index,
        )
        check_number("gamma", gamma, 0.0, float("inf"))
        self.gamma = gamma

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
        refuse("SoftmaxFocalLoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        self.note_backend(tokens.hidden, table)
        return catalog_loss(tokens, table, self.catalog, self.rule, self.gamma, self.backend)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...
