"""From the arguments every loss takes to one flat list of tokens, each with its share of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from seqaug._checks import can_look, check_ids
from seqaug.functional import check_table
from seqaug.kernels.chunked import accumulator
from seqaug.sharding import ShardedTable, Table, check_alike, copy_to_ranks, spread, sum_over_ranks
from seqaug.soft_target import SoftTarget
from seqaug.sparse_table import read_rows

Target = Tensor | SoftTarget


class Rule(NamedTuple):
    """How the losses of tokens become one number."""

    reduction: str
    denominator: float | None
    ignore_index: int


class Tokens(NamedTuple):
    """The scored positions. `share` holds weights and denominators: a loss is the sum of share * value."""

    hidden: Tensor  # (tokens, features), zero where nothing is real
    padded: Tensor  # (rows, steps, features), the same before padding was dropped
    queries: Tensor  # (tokens, features), hidden as work on a rank's own rows of a sharded table sees it
    first: Tensor  # (tokens,) ids, 0 where nothing is real; or (tokens, features) vectors
    second: Tensor | None  # (tokens,) ids of the other half of soft targets
    lam: Tensor | None  # (tokens,) share of the first half
    share: Tensor  # (tokens,), 0 where nothing is real
    real: Tensor  # (tokens,) bool
    kept: Tensor | None  # (tokens,) which of the rows * steps positions these are, None for all
    shape: torch.Size  # of the ids: (rows, steps), or (tokens,) when packed


def gather_tokens(
    hidden: Tensor,
    table: Table,
    target: Target,
    weight: Tensor | None,
    valid: Tensor | None,
    rule: Rule,
    only_last: bool = False,
) -> Tokens:
    """Check the arguments, find the real tokens, give each its share, drop the others where that is free."""
    check_table(hidden, table)
    if hidden.ndim not in (2, 3):
        raise ValueError(
            "hidden must be (rows, steps, features), or (tokens, features) when packed, "
            f"got hidden.shape={tuple(hidden.shape)}"
        )
    shape = hidden.shape[:-1]
    wide = accumulator(torch.promote_types(hidden.dtype, table.dtype))
    first, second, lam, whole = read_target(target, hidden, rule.ignore_index)
    # Not `whole > 0`: of a share that is NaN the loss is to be NaN.
    real = torch.ones(shape, dtype=torch.bool, device=hidden.device) if whole is None else ~(whole <= 0)
    if valid is not None:
        check_valid(valid, shape)
        real = real & valid

    grid = real if real.ndim == 2 else rearrange(real, "t -> t 1")  # (rows, steps)
    if only_last:
        grid = grid & (grid.flip(1).cumsum(1).flip(1) == 1)
    share = shares(grid, rule, wide)
    table = spread(table)
    if isinstance(table, ShardedTable):
        whose = first if first.is_floating_point() else first * real
        check_alike("target", whose, table.group)
    real, share = grid.reshape(shape), share.reshape(shape)
    if weight is not None:
        share = share * spread_weight(weight, shape).to(wide)
    if second is not None and whole is not None:
        share = share * whole.to(wide)
    share = share.masked_fill(~real, 0.0).flatten()

    states = hidden.masked_fill(~rearrange(real, "... -> ... 1"), 0.0)
    padded = states if hidden.ndim == 3 else rearrange(states, "t d -> t 1 d")
    states = rearrange(padded, "b l d -> (b l) d")
    if first.is_floating_point():
        first = first.masked_fill(~rearrange(real, "... -> ... 1"), 0.0).reshape(states.shape)
    else:
        first = first.masked_fill(~real, 0).flatten()
    if second is not None and lam is not None:
        second = second.masked_fill(~real, 0).flatten()
        lam = lam.to(wide).masked_fill(~real, 1.0).flatten()
    real = real.flatten()

    kept = None
    if can_look(states):  # dropping padding asks how much is left; graphs need fixed shapes
        kept = real.nonzero().squeeze(1)
        states, first, share, real = states[kept], first[kept], share[kept], real[kept]
        if second is not None and lam is not None:
            second, lam = second[kept], lam[kept]
    queries = copy_to_ranks(states, table.group) if isinstance(table, ShardedTable) else states
    return Tokens(states, padded, queries, first, second, lam, share, real, kept, shape)


def read_target(
    target: Target, hidden: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """First and second half, share of the first, and how much of the target is real (None: all of it)."""
    shape = hidden.shape[:-1]
    if isinstance(target, SoftTarget):
        for name, ids in (("first", target.first), ("second", target.second)):
            check_ids_on(f"target.{name}", ids, shape)
        share = broadcast_share(target.lam, shape)
        one = share.masked_fill(target.first == ignore_index, 0.0)
        two = (1.0 - share).masked_fill(target.second == ignore_index, 0.0)
        whole = one + two
        lam = one / whole.masked_fill(whole <= 0, 1.0)
        first = target.first.masked_fill(target.first == ignore_index, 0)
        return first.long(), target.second.masked_fill(target.second == ignore_index, 0).long(), lam, whole
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be ids, a SoftTarget or vectors, got {type(target).__name__}")
    if target.is_floating_point():
        if target.shape != hidden.shape:
            raise ValueError(
                f"vectors as targets must have the shape of hidden, {tuple(hidden.shape)}, "
                f"got target.shape={tuple(target.shape)}"
            )
        return target, None, None, None
    check_ids_on("target", target, shape)
    return target.long(), None, None, (target != ignore_index).float()


def broadcast_share(lam: Tensor, shape: torch.Size) -> Tensor:
    if not isinstance(lam, Tensor):
        raise TypeError(f"target.lam must be a tensor of shares, got target.lam={lam!r}")
    if not lam.is_floating_point():
        raise TypeError(f"target.lam must hold floats in [0, 1], got target.lam.dtype={lam.dtype}")
    fits = lam.ndim <= len(shape) and all(
        own in (1, wanted) for own, wanted in zip(reversed(lam.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"target.lam must broadcast to the ids' shape {tuple(shape)}, got target.lam.shape={tuple(lam.shape)}: "
            "one share per row is (rows, 1)"
        )
    if can_look(lam) and lam.numel():
        low, high = lam.aminmax()  # NaN, of which the loss is to be NaN, compares with nothing
        if low < 0 or high > 1:
            raise ValueError(
                f"target.lam must hold shares in [0, 1], got target.lam from {low.item():g} to {high.item():g}"
            )
    return torch.broadcast_to(lam, shape)


def shares(real: Tensor, rule: Rule, dtype: torch.dtype) -> Tensor:
    """What one token's value counts in the result, before weights: (rows, steps)."""
    share = real.to(dtype)
    if rule.reduction == "token":
        return share / (share.sum().clamp_min(1.0) if rule.denominator is None else rule.denominator)
    if rule.reduction == "row":
        length = share.sum(1, keepdim=True)
        rows = (length > 0).sum().clamp_min(1) if rule.denominator is None else rule.denominator
        return share / length.clamp_min(1.0) / rows
    return share


def spread_weight(weight: Tensor, shape: torch.Size) -> Tensor:
    if not isinstance(weight, Tensor):
        raise TypeError(
            f"weight must be a tensor, one per row or one per target, got weight={weight!r}: torch.full((rows,), 0.5) "
            "weighs all rows alike"
        )
    if weight.is_complex():
        raise TypeError(f"weight must hold real numbers, got weight.dtype={weight.dtype}")
    if weight.shape == shape:
        return weight
    if weight.shape == shape[:1]:
        return rearrange(weight, "b -> b 1")
    raise ValueError(
        f"weight must be one per row, {tuple(shape[:1])}, or one per target, {tuple(shape)}, "
        f"got weight.shape={tuple(weight.shape)}"
    )


def check_ids_on(name: str, ids: Tensor, shape: torch.Size) -> None:
    check_ids(name, ids)
    if ids.shape != shape:
        raise ValueError(
            f"{name} must have the shape of the hidden states, {tuple(shape)}, got {name}.shape={tuple(ids.shape)}"
        )


def check_valid(valid: Tensor, shape: torch.Size) -> None:
    if not isinstance(valid, Tensor):
        raise TypeError(f"valid must be a bool tensor of shape {tuple(shape)}, got {type(valid).__name__}")
    if valid.dtype != torch.bool or valid.shape != shape:
        raise ValueError(
            f"valid must be bool of shape {tuple(shape)}, got {valid.dtype} of shape {tuple(valid.shape)}"
        )


def target_score(tokens: Tokens, table: Table, half: Tensor) -> Tensor:
    """hidden . target for ids (tokens,) or vectors (tokens, features), in the accumulation dtype."""
    wide = tokens.share.dtype
    if half.is_floating_point():
        return (tokens.hidden.to(wide) * half.to(wide)).sum(1)
    table = spread(table)
    if isinstance(table, ShardedTable):
        vectors, here = table.own(half)
        scores = (tokens.queries.to(wide) * vectors.to(wide)).sum(1)
        return sum_over_ranks(scores.masked_fill(~here, 0.0), table.group)
    return (tokens.hidden.to(wide) * read_rows(table, half, "target").to(wide)).sum(1)


def check_in_catalog(tokens: Tokens, start: int, stop: int, rule: Rule) -> None:
    """On a CPU: targets that the denominator leaves out would give probabilities above 1."""
    if tokens.first.is_floating_point() or not can_look(tokens.hidden):
        return
    lam = tokens.lam
    for half, share in ((tokens.first, lam), (tokens.second, None if lam is None else 1.0 - lam)):
        if half is None or not half.numel():
            continue
        smallest, largest = half.aminmax()
        below = half < start
        if share is not None:  # the half of a soft target that is padding is 0, and has no share
            below = below & ((half != 0) | (share > 0))
        if largest >= stop or below.any():
            raise ValueError(
                f"target must be rows {start}..{stop - 1} of the catalog, or ignore_index={rule.ignore_index} for padding, got "
                f"target from {int(smallest)} to {int(largest)}"
            )


def over_targets(tokens: Tokens, value: Callable[[Tensor], Tensor]) -> Tensor:
    """value(target) of each token; for a soft target the mean of both halves by their shares."""
    first = value(tokens.first)
    if tokens.second is None or tokens.lam is None:
        return first
    return tokens.lam * first + (1.0 - tokens.lam) * value(tokens.second)


def nothing(tokens: Tokens, table: Table, rule: Rule) -> Tensor:
    """The loss of no tokens: 0, with zero gradients, which other processes may wait for."""
    rows = table.local[:0] if isinstance(table, ShardedTable) else read_rows(table, tokens.real[:0].long())
    return finish((tokens.hidden.sum(1) + rows.sum()).to(tokens.share.dtype), tokens, rule)


def finish(values: Tensor, tokens: Tokens, rule: Rule) -> Tensor:
    """Values of tokens to the loss: a number, or one per position with 0 where nothing is real."""
    parts = tokens.share * values.masked_fill(~tokens.real, 0.0)
    if rule.reduction != "none":
        return parts.sum()
    if tokens.kept is not None:
        parts = parts.new_zeros(tokens.shape.numel()).index_copy(0, tokens.kept, parts)
    return parts.reshape(tokens.shape)
