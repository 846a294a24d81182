"""Scores of sampled negatives, in every form they can be given."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from seqaug._checks import can_look
from seqaug.functional import full_precision
from seqaug.losses._tokens import Tokens
from seqaug.sharding import ShardedTable, Table, check_alike, spread, sum_over_ranks
from seqaug.sparse_table import read_rows

Negatives = Tensor | tuple[Tensor, Tensor] | list[Tensor]

FORMS = (
    "ids (k,), (rows, k) or (rows, steps, k), vectors (k, features), (rows, k, features) or "
    "(rows, steps, k, features), or the (ids, log_q) of a sampler"
)


class Scored(NamedTuple):
    """Negatives as each token sees them; leading 1 where all tokens share them."""

    scores: Tensor  # (tokens, negatives), 0 where left out
    ids: Tensor | None  # (tokens or 1, negatives), None for vectors
    log_q: Tensor | None  # (tokens or 1, negatives), None unless the sampler gave it
    left_out: Tensor | None  # (tokens or 1, negatives) bool, None where all count

    def total(self, values: Tensor) -> Tensor:
        """(tokens,) sum of the values (tokens, negatives) of the negatives that count."""
        return (values if self.left_out is None else values.masked_fill(self.left_out, 0.0)).sum(1)

    def mean(self, values: Tensor) -> Tensor:
        """(tokens,) their mean, 0 where none counts."""
        count = self.counted
        return self.total(values) / (count.clamp_min(1) if isinstance(count, Tensor) else count)

    @property
    def counted(self) -> Tensor | int:
        """How many negatives count: a number, or (tokens or 1,)."""
        return self.scores.shape[1] if self.left_out is None else (~self.left_out).sum(1)


def required(name: str, negatives: Negatives | None) -> Negatives:
    if negatives is None:
        raise ValueError(
            f"{name} needs negatives=, got None: pass {FORMS}, for example "
            "UniformNegatives(num_items).sample(target, history=items)"
        )
    return negatives


def kind(negatives: object) -> str:
    """What was given, in a word or two."""
    return (
        f"{tuple(negatives.shape)} {negatives.dtype}"
        if isinstance(negatives, Tensor)
        else type(negatives).__name__
    )


def refuse(name: str, negatives: Negatives | None) -> None:
    if negatives is not None:
        raise ValueError(
            f"{name} scores the whole catalog and takes no negatives, got negatives={kind(negatives)}: leave them out"
        )


def score_negatives(tokens: Tokens, table: Table, negatives: Negatives) -> Scored:
    """hidden . negative for every token, in the accumulation dtype."""
    # A list of two is what a data loader makes of a pair.
    ids, log_q = (
        negatives if isinstance(negatives, (tuple, list)) and len(negatives) == 2 else (negatives, None)
    )
    if not isinstance(ids, Tensor):
        raise TypeError(f"negatives must be {FORMS}, got {type(ids).__name__}")
    vectors = ids.is_floating_point()
    if not vectors and ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"negatives must be {FORMS}, got negatives.dtype={ids.dtype}")
    lead = ids.shape[:-2] if vectors else ids.shape[:-1]  # (), (rows,) or (rows, steps)
    rows = tokens.padded.shape[:1]
    if (
        ids.ndim < 1 + vectors
        or lead not in (torch.Size(()), rows, tokens.shape)
        or (vectors and ids.shape[-1] != table.shape[1])
    ):
        raise ValueError(
            f"negatives must be {FORMS}, with rows and steps as in {tuple(tokens.shape)}, "
            f"got negatives.shape={tuple(ids.shape)}"
        )
    if ids.shape[-2 if vectors else -1] == 0:
        raise ValueError(
            f"a loss on negatives needs at least one for each target, got negatives.shape={tuple(ids.shape)}"
        )
    if log_q is not None and not (isinstance(log_q, Tensor) and log_q.is_floating_point()):
        raise TypeError(
            f"a pair of negatives must be the (ids, log_q) of a sampler, log_q floats, got log_q={kind(log_q)}: "
            "join several sets of ids with torch.cat"
        )
    if log_q is not None and (vectors or log_q.shape != ids.shape):
        raise ValueError(
            "the log_q of negatives must come with ids of the same shape, "
            f"got ids.shape={tuple(ids.shape)}, log_q.shape={tuple(log_q.shape)}"
        )
    missing = not_offered(log_q)
    if missing is not None and ids.numel():
        # Such a slot reads the vector of an item that is one: what stands at padding reaches no gradient.
        ids = torch.where(missing, ids.amax(), ids)
    wide = tokens.share.dtype
    per_token = lead == tokens.shape
    seen = pick(ids.flatten(0, len(lead) - 1), tokens) if per_token else ids
    states = tokens.hidden
    table = spread(table)
    here: Tensor | None = None
    if vectors:
        entries = seen  # (..., negatives, features)
    elif not isinstance(table, ShardedTable):
        entries = read_rows(table, seen.long(), "negatives")
    elif per_token:  # scores cross: fewer than the vectors of so many negatives
        check_alike("negatives", seen, table.group)
        states = tokens.queries
        entries, here = table.own(seen)
    else:  # vectors cross: fewer than the scores of all tokens
        entries = table.lookup(seen)
    entries = entries.to(wide)
    with full_precision(entries.device.type):
        if per_token:
            scores = torch.einsum("t d, t k d -> t k", states.to(wide), entries)
        elif lead:
            every = torch.einsum("b l d, b k d -> b l k", tokens.padded.to(wide), entries)
            scores = pick(rearrange(every, "b l k -> (b l) k"), tokens)
        else:
            scores = tokens.hidden.to(wide) @ entries.t()
    if here is not None and isinstance(table, ShardedTable):
        scores = sum_over_ranks(scores.masked_fill(~here, 0.0), table.group)
    left_out = None if missing is None else lines(missing, tokens)
    if left_out is not None:
        scores = scores.masked_fill(left_out, 0.0)
    return Scored(
        scores,
        None if vectors else lines(ids, tokens),
        None if log_q is None else lines(log_q, tokens),
        left_out,
    )


def not_offered(log_q: Tensor | None) -> Tensor | None:
    """Where a sampler says, with a log_q of infinity, that a slot holds no negative; None where a CPU finds no such slot."""
    if log_q is None:
        return None
    infinite = log_q == torch.inf
    return None if can_look(infinite) and not infinite.any() else infinite


def lines(values: Tensor, tokens: Tokens) -> Tensor:
    """Ids or log q as scores are: one line per token, or one line for all."""
    if values.ndim == 1:
        return rearrange(values, "k -> 1 k")
    steps = tokens.padded.shape[1]
    if values.shape[:-1] != tokens.shape:
        values = repeat(values, "b k -> b l k", l=steps)
    return pick(values.reshape(-1, values.shape[-1]), tokens)


def pick(values: Tensor, tokens: Tokens) -> Tensor:
    return values if tokens.kept is None else values[tokens.kept]
