"""Softmax over the whole catalog: CE at the last step, ICE at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from seqaug import functional
from seqaug._calls import calls
from seqaug._checks import catalog_bounds, check_catalog
from seqaug.kernels import backends, ops
from seqaug.kernels.surprise import surprise
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, refuse
from seqaug.losses._tokens import (
    Rule,
    Target,
    Tokens,
    check_in_catalog,
    finish,
    gather_tokens,
    over_targets,
    target_score,
)
from seqaug.sharding import ShardedTable, Table, spread


def catalog_loss(
    tokens: Tokens, table: Table, catalog: slice, rule: Rule, gamma: float, backend: str
) -> Tensor:
    """(1 - p) ** gamma * -log p under a softmax over the catalog; a vector as target is one more class."""
    start, stop = catalog_bounds(len(table), catalog)
    check_in_catalog(tokens, start, stop, rule)
    extra = tokens.first.is_floating_point()
    two_values = tokens.second is not None and gamma != 0.0
    table = spread(table)
    states, entries = functional.alike(tokens.queries, table)
    products, wide = states.dtype, tokens.share.dtype
    if rule.reduction != "none" and not two_values and isinstance(entries, Tensor):
        if products != wide:
            # In front of both parts of the loss, so that their gradients meet before they are rounded, once.
            states, table = states.to(wide), entries.to(wide)
            tokens, entries = tokens._replace(hidden=states), table
        score = over_targets(tokens, lambda half: target_score(tokens, table, half))
        with functional.full_precision(states.device.type):
            return ops.total(
                states, entries, score, tokens.share, start, stop, extra, gamma, backend, products
            )
    # Numerator and denominator of the same vectors, rounded if autocast asks for it.
    tokens = tokens._replace(hidden=tokens.hidden.to(products), queries=states)
    lse = functional.denominators(states, entries, start, stop, backend)

    def value(half: Tensor) -> Tensor:
        return surprise(lse, target_score(tokens, entries, half), extra, gamma)[0]

    return finish(over_targets(tokens, value), tokens, rule)


class CatalogLoss(ItemLoss):
    """What the losses with a denominator over the catalog are made with.

    Args:
        catalog: the rows of the table that are items, slice(1, num_items + 1) where row 0 is padding and the
            mask comes last.
        backend: of `seqaug.functional.linear_logsumexp`.
    """

    def __init__(
        self,
        *,
        catalog: slice,
        backend: str = "auto",
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(reduction=reduction, denominator=denominator, ignore_index=ignore_index)
        check_catalog(catalog)
        backends.check_backend(backend)
        self.catalog = catalog
        self.backend = backend
        self._taken: str | None = None  # what "auto" took in the last call

    def note_backend(self, hidden: Tensor, table: Table) -> None:
        if self.backend == "auto":
            start, stop = self.catalog.indices(len(table))[:2]
            table = spread(table)
            if isinstance(table, ShardedTable):
                start, stop = table.part(start, stop)
                table = table.local
            dtype = functional.same_dtype(hidden[:0], functional.dense(table)[:0])[0].dtype
            self._taken = backends.pick(hidden.device.type, str(dtype), table.shape[1], stop - start)

    def extra_repr(self) -> str:
        taken = "" if self._taken is None else f" (took {self._taken!r})"
        return super().extra_repr().replace("backend='auto'", f"backend='auto'{taken}")


class ICELoss(CatalogLoss):
    """Cross-entropy over the whole catalog at every real timestep.

    loss = sum over real targets y of log sum_c exp(h . e_c) - h . e_y, reduced as `reduction` says.

    Args:
        catalog: the rows of the table that are items: slice(1, num_items + 1). Targets must be among them, `check_batch`
            looks: any other row of the table would be scored without being in the denominator.
        backend: of `seqaug.functional.linear_logsumexp`; "auto" takes what is fastest where the tensors are.
        reduction, denominator, ignore_index: see `ItemLoss`; "row" is the mean of Eq. 9, "token" what its
            public implementations compute.

    Shape:
        hidden: (B, L, D) or packed (T, D) float.
        table: (R, D) float, R at least `catalog.stop`.
        target: (B, L) or (T,) ids, a `SoftTarget` of such ids, or vectors of the shape of hidden: one more
            class of the denominator.
        weight: (B,) or (B, L), for packed input (T,); multiplies.
        valid: bool of the shape of the ids, ANDed with the target's own.
        output: () float32 (float64 for float64), (B, L) or (T,) for reduction "none".

    Example:
        >>> import torch
        >>> loss = ICELoss(catalog=slice(1, 6))
        >>> hidden, table = torch.zeros(2, 3, 4), torch.zeros(7, 4)
        >>> round(loss(hidden, table, torch.tensor([[0, 1, 2], [3, 4, 5]])).exp().item(), 4)
        5.0

    Source: Eq. 9 of the improved cross-entropy loss for sequential recommendation.
    """

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
        refuse("ICELoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        self.note_backend(tokens.hidden, table)
        return catalog_loss(tokens, table, self.catalog, self.rule, 0.0, self.backend)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


class CELoss(CatalogLoss):
    """Cross-entropy over the whole catalog at the last real timestep of each row only.

    loss = mean over rows of log sum_c exp(h_last . e_c) - h_last . e_y. Packed (T, D) input has no rows left,
    so each token is its own row and every one of them counts: pack the last states only.

    Args and shape: as `ICELoss`, with `catalog`, `backend` and the rest. "token" and "row" agree, since a row has one token.

    Example:
        >>> import torch
        >>> loss = CELoss(catalog=slice(1, 6), reduction="none")
        >>> loss(torch.zeros(1, 3, 4), torch.zeros(7, 4), torch.tensor([[1, 2, 0]])).exp().round().tolist()
        [[1.0, 5.0, 1.0]]

    Source: Eq. 7 of the improved cross-entropy loss for sequential recommendation.
    """

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
        refuse("CELoss", negatives)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule, only_last=True)
        self.note_backend(tokens.hidden, table)
        return catalog_loss(tokens, table, self.catalog, self.rule, 0.0, self.backend)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...
