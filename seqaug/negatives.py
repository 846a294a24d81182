"""Samplers of negative items, on the batch's device, that never draw what a row already has."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from seqaug._checks import check_choice, check_count
from seqaug._random import uniform_excluding
from seqaug.soft_target import SoftTarget

PER = ("position", "row", "batch")
# From here on a float32 draw, one of 2**24 numbers, would favour some items by more than 1 %.
FINE_CATALOG = 2**17


def excluded_ids(target: Tensor | SoftTarget, history: Tensor | None) -> Tensor:
    """(B, M) what each row must not be offered: its own targets and its history."""
    if isinstance(target, SoftTarget):
        own = [target.first, target.second]
    else:
        own = [] if target.is_floating_point() else [target]
    rows = target.first.shape[0] if isinstance(target, SoftTarget) else target.shape[0]
    own = [ids.reshape(rows, -1).long() for ids in own]
    if history is not None:
        if history.ndim != 2 or history.shape[0] != rows or history.is_floating_point():
            raise ValueError(
                f"history must be ids ({rows}, slots), got {history.dtype} of shape {tuple(history.shape)}: "
                "packed targets need the history of each token's row, (tokens, slots)"
            )
        own.append(history.long())
    if not own:
        device = target[0].device if isinstance(target, SoftTarget) else target.device
        return torch.zeros((rows, 0), dtype=torch.long, device=device)
    return torch.cat(own, dim=1)


def steps_of(target: Tensor | SoftTarget) -> tuple[int, ...]:
    """Axes of the targets after the row axis, without features: (L,), or () when packed."""
    if isinstance(target, SoftTarget):
        return tuple(target.first.shape[1:])
    return tuple(target.shape[1:-1] if target.is_floating_point() else target.shape[1:])


class UniformNegatives:
    """Negatives drawn uniformly from the items a row does not have.

    Rejection is exact and takes no loop: draws land on the items that are left. A row that has every item
    gets draws from the whole catalog, with log_q to match.

    Args:
        num_items: size of the catalog, ids 1..num_items.
        k: negatives per position, row or batch.
        per: "position" draws for each target, "row" for each row, "batch" once for all. A set shared by the
            batch avoids every row's ids when a history is given, and nothing otherwise. With many rows that
            takes the popular items out of the negatives: better leave the history out and let a loss that
            masks accidental hits sort it out.

    Example:
        >>> import torch
        >>> target, history = torch.tensor([[0, 2, 3]]), torch.tensor([[0, 1, 2]])
        >>> ids, log_q = UniformNegatives(5, k=4).sample(target, history=history)
        >>> ids.shape, sorted(set(ids.flatten().tolist()) - {4, 5})
        (torch.Size([1, 3, 4]), [])
        >>> log_q.exp().unique().tolist()
        [0.5]
    """

    def __init__(self, num_items: int, k: int = 1, *, per: str = "position") -> None:
        check_count("num_items", num_items, 1)
        check_count("k", k, 1)
        check_choice("per", per, PER)
        self.num_items = num_items
        self.k = k
        self.per = per

    def __repr__(self) -> str:
        return f"UniformNegatives({self.num_items}, k={self.k}, per={self.per!r})"

    def sample(
        self,
        target: Tensor | SoftTarget,
        *,
        history: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw negatives for a batch of targets.

        Args:
            target: (B, L) or (T,) ids, a `SoftTarget` of such ids, or (B, L, D) vectors; ids are never
                drawn for their own row.
            history: (B, M) ids a row must not be offered, padding is ignored; None rejects the targets only.
            generator: on the targets' device; None uses the default one.

        Returns:
            ids: (B, L, k), (T, k) for packed targets, (B, k) per row, (k,) per batch; int64.
            log_q: of the same shape, log of the probability that one draw gives this id.

        Raises:
            ValueError: a history that does not fit the targets.
        """
        excluded = excluded_ids(target, history)
        steps = steps_of(target) if self.per == "position" else ()
        if self.per == "batch":
            excluded = (
                rearrange(excluded, "b m -> 1 (b m)") if history is not None else excluded.new_zeros((1, 0))
            )
        rows = excluded.shape[0]
        draws = self.k * (steps[0] if steps else 1)
        dtype = torch.float32 if self.num_items < FINE_CATALOG else torch.float64
        u = torch.rand((rows, draws), dtype=dtype, device=excluded.device, generator=generator)
        ids, remaining = uniform_excluding(u, self.num_items, excluded)
        log_q = -torch.where(remaining > 0, remaining, self.num_items).float().log()
        log_q = rearrange(log_q, "b -> b 1").expand(rows, draws)
        shape = (self.k,) if self.per == "batch" else (rows, *steps, self.k)
        return ids.reshape(shape), log_q.reshape(shape)
