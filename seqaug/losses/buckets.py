"""Cross-entropy over the items that random projections find near each hidden state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seqaug._calls import calls
from seqaug._checks import catalog_bounds, check_catalog, check_count
from seqaug.functional import dense, full_precision
from seqaug.kernels.surprise import softplus
from seqaug.losses._base import ItemLoss
from seqaug.losses._negatives import Negatives, refuse
from seqaug.losses._tokens import (
    Target,
    Tokens,
    check_in_catalog,
    finish,
    gather_tokens,
    nothing,
    over_targets,
    target_score,
)
from seqaug.retrieval import nearest_rows
from seqaug.sharding import ShardedTable, Table, first_rank_says, logsumexp_over_ranks, spread
from seqaug.sparse_table import read_rows


def twice_the_root(count: int) -> int:
    """2 * sqrt(count), at least 1: what both sources take for the number of buckets."""
    return max(1, int(2.0 * math.sqrt(count)))


def check_optional(name: str, value: int | None) -> None:
    if value is not None:
        check_count(name, value, 1)


class SCELoss(ItemLoss):
    """Scalable cross-entropy: softmax inside buckets of hidden states and items that point the same way.

    Each of some random directions takes the hidden states and the items with the largest projections on it
    into a bucket. A position's loss is the largest, over its buckets, of log(exp(s) + sum_c exp(s_c)) - s
    with c the bucket's items other than the target: at most the full `ICELoss`, and 0 for a position in no
    bucket.

    Args:
        catalog: the rows of the table that are items: slice(1, num_items + 1).
        buckets: number of buckets; None for 2 * sqrt(number of tokens).
        tokens_per_bucket: None for the same number.
        items_per_bucket: the source uses 64 to 4,096; more is closer to the full softmax.
        mix: directions are random mixtures of the hidden states rather than of the axes.
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `ICELoss`. Directions are drawn from torch's default generator on each call.

    Example:
        >>> import torch
        >>> loss = SCELoss(catalog=slice(1, 6), items_per_bucket=5)
        >>> value = loss(torch.zeros(1, 1, 4), torch.zeros(7, 4), torch.tensor([[3]]))
        >>> round(value.exp().item(), 4)
        5.0

    Source: Algorithm 1 of scalable cross-entropy loss for sequential recommendations with large item
    catalogs (2024).
    """

    def __init__(
        self,
        *,
        catalog: slice,
        buckets: int | None = None,
        tokens_per_bucket: int | None = None,
        items_per_bucket: int = 256,
        mix: bool = True,
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(reduction=reduction, denominator=denominator, ignore_index=ignore_index)
        check_catalog(catalog)
        check_optional("buckets", buckets)
        check_optional("tokens_per_bucket", tokens_per_bucket)
        check_count("items_per_bucket", items_per_bucket, 1)
        self.catalog = catalog
        self.buckets = buckets
        self.tokens_per_bucket = tokens_per_bucket
        self.items_per_bucket = items_per_bucket
        self.mix = mix

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
        refuse("SCELoss", negatives)
        table = spread(table)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        start, stop = catalog_bounds(len(table), self.catalog)
        check_in_catalog(tokens, start, stop, self.rule)
        count = len(tokens.hidden)
        if count == 0:
            return nothing(tokens, table, self.rule)
        buckets = twice_the_root(count) if self.buckets is None else self.buckets
        height = twice_the_root(count) if self.tokens_per_bucket is None else self.tokens_per_bucket
        with full_precision(hidden.device.type):
            members, items = find_buckets(
                tokens,
                table,
                (start, stop),
                buckets,
                min(height, count),
                min(self.items_per_bucket, stop - start),
                self.mix,
            )
            logits = bucket_logits(tokens, table, members, items)

            def value(half: Tensor) -> Tensor:
                inside = bucket_logsumexp(logits, members, items, half)
                if isinstance(table, ShardedTable):
                    inside = logsumexp_over_ranks(inside, table.group)
                best = largest_per_token(inside, members, count)
                return softplus(best - target_score(tokens, table, half))

            return finish(over_targets(tokens, value), tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


def find_buckets(
    tokens: Tokens,
    table: Table,
    catalog: tuple[int, int],
    buckets: int,
    height: int,
    width: int,
    mix: bool,
) -> tuple[Tensor, Tensor]:
    """Which tokens (buckets, height) and items (buckets, width) have the largest projections on each direction."""
    wide = tokens.share.dtype
    states = tokens.hidden.detach().to(wide)
    if mix:
        directions = torch.randn(buckets, len(states), dtype=wide, device=states.device) @ states
    else:
        directions = torch.randn(buckets, states.shape[1], dtype=wide, device=states.device)
    if isinstance(table, ShardedTable):
        directions = first_rank_says(directions, table.group)
    near = (directions @ states.t()).masked_fill(~rearrange(tokens.real, "t -> 1 t"), -torch.inf)
    members = near.topk(height, dim=1).indices
    start, stop = catalog
    return members, nearest_rows(directions, table, start, stop, width)[1]


def bucket_logits(tokens: Tokens, table: Table, members: Tensor, items: Tensor) -> Tensor:
    """(buckets, height, width) scores of the items of each bucket, far below 0 for items of other ranks."""
    wide = tokens.share.dtype
    if not isinstance(table, ShardedTable):
        entries = read_rows(table, items).to(wide)
        return torch.einsum("n h d, n w d -> n h w", tokens.hidden[members].to(wide), entries)
    entries, here = table.own(items)
    logits = torch.einsum("n h d, n w d -> n h w", tokens.queries[members].to(wide), entries.to(wide))
    return logits.masked_fill(~rearrange(here, "n w -> n 1 w"), torch.finfo(wide).min / 2)


def bucket_logsumexp(logits: Tensor, members: Tensor, items: Tensor, half: Tensor) -> Tensor:
    """(buckets, height) log sum over the items of each bucket without the token's target."""
    if not half.is_floating_point():
        hit = rearrange(items, "n w -> n 1 w") == rearrange(half[members], "n h -> n h 1")
        logits = logits.masked_fill(hit, torch.finfo(logits.dtype).min / 2)
    return logits.logsumexp(2)


def largest_per_token(inside: Tensor, members: Tensor, count: int) -> Tensor:
    """The largest logsumexp over the buckets of each token; far below 0 where it has none."""
    empty = inside.new_full((count,), torch.finfo(inside.dtype).min / 2)
    return empty.scatter_reduce(0, members.flatten(), inside.flatten(), "amax", include_self=True)


class RECELoss(ItemLoss):
    """Reduced cross-entropy: softmax over the chunks of items nearest in a random hash.

    Hidden states and items are hashed to the random direction they are nearest to, sorted by it and cut
    into equal chunks; a state's loss is log(exp(s) + sum_c exp(s_c)) - s over the items c of its own and
    neighbouring chunks, other than the target. With several rounds an item seen n times counts exp(s_c) / n
    each time, so that the loss is at most the full `ICELoss`.

    Args:
        catalog: the rows of the table that are items: slice(1, num_items + 1).
        chunks: None for 2 * sqrt(min(number of tokens, number of items)); also the number of directions.
        neighbours: chunks on each side, cyclic.
        rounds: independent hashes.
        reduction, denominator, ignore_index: see `ItemLoss`.

    Shape:
        As `ICELoss`. Directions are drawn from torch's default generator on each call.

    Example:
        >>> import torch
        >>> loss = RECELoss(catalog=slice(1, 6), chunks=1)
        >>> value = loss(torch.zeros(1, 1, 4), torch.zeros(7, 4), torch.tensor([[3]]))
        >>> round(value.exp().item(), 4)
        5.0

    Source: Section 3 of RECE: reduced cross-entropy loss for large-catalogue sequential recommenders (2024).
    """

    def __init__(
        self,
        *,
        catalog: slice,
        chunks: int | None = None,
        neighbours: int = 1,
        rounds: int = 1,
        reduction: str = "token",
        denominator: float | None = None,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(reduction=reduction, denominator=denominator, ignore_index=ignore_index)
        check_catalog(catalog)
        check_optional("chunks", chunks)
        check_count("neighbours", neighbours, 0)
        check_count("rounds", rounds, 1)
        self.catalog = catalog
        self.chunks = chunks
        self.neighbours = neighbours
        self.rounds = rounds

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
        refuse("RECELoss", negatives)
        if isinstance(table := spread(table), ShardedTable):
            raise TypeError(
                "RECELoss sorts the whole catalog and takes no sharded table, got table of type "
                f"{type(table).__name__}: use SCELoss, or a table on every rank"
            )
        table = dense(table)
        tokens = gather_tokens(hidden, table, target, weight, valid, self.rule)
        start, stop = catalog_bounds(len(table), self.catalog)
        check_in_catalog(tokens, start, stop, self.rule)
        count = len(tokens.hidden)
        if count == 0:
            return nothing(tokens, table, self.rule)
        fewer = min(count, stop - start)
        chunks = min(twice_the_root(fewer) if self.chunks is None else self.chunks, fewer)
        reach = min(self.neighbours, (chunks - 1) // 2)  # further would meet a chunk twice
        with full_precision(hidden.device.type):
            rounds = [hash_round(tokens, table[start:stop], chunks) for _ in range(self.rounds)]

            def value(half: Tensor) -> Tensor:
                others = near_logsumexp(tokens, table, start, rounds, reach, chunks, half)
                return softplus(others - target_score(tokens, table, half))

            return finish(over_targets(tokens, value), tokens, self.rule)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


def hash_round(tokens: Tokens, items: Tensor, chunks: int) -> tuple[Tensor, Tensor]:
    """The chunk of every token (tokens,) and item (items,) by one random hash."""
    wide = tokens.share.dtype
    directions = torch.randn(items.shape[1], chunks, dtype=wide, device=items.device)
    near_tokens = (tokens.hidden.detach().to(wide) @ directions).argmax(1)
    near_items = (items.detach().to(wide) @ directions).argmax(1)
    near_tokens = near_tokens.masked_fill(~tokens.real, chunks)  # padding comes last
    return chunk_of(near_tokens, chunks), chunk_of(near_items, chunks)


def chunk_of(buckets: Tensor, chunks: int) -> Tensor:
    """Which of `chunks` equal parts of the order by bucket each entry lies in."""
    order = buckets.argsort(stable=True)
    size = -(-len(buckets) // chunks)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return rank // size


def members_of(chunk: Tensor, chunks: int) -> Tensor:
    """(chunks, size) entries of each chunk, -1 where the last ones are short."""
    size = -(-len(chunk) // chunks)
    order = F.pad(chunk.argsort(stable=True), (0, chunks * size - len(chunk)), value=-1)
    return rearrange(order, "(n s) -> n s", n=chunks)


def near_logsumexp(
    tokens: Tokens,
    table: Tensor,
    start: int,
    rounds: list[tuple[Tensor, Tensor]],
    reach: int,
    chunks: int,
    half: Tensor,
) -> Tensor:
    """log sum over the items near each token, its target left out, each item once: (tokens,)."""
    count = len(tokens.hidden)
    wide = tokens.share.dtype
    total = tokens.share.new_full((count,), torch.finfo(wide).min / 2)
    for of_tokens, of_items in rounds:
        states, items = members_of(of_tokens, chunks), members_of(of_items, chunks)
        queries = tokens.hidden[states.clamp_min(0)].to(wide)  # (chunks, tokens, features)
        entries = F.embedding(items.clamp_min(0) + start, table).to(wide)  # (chunks, items, features)
        taken = None if half.is_floating_point() else half[states.clamp_min(0)] - start
        home = torch.where(states < 0, count, states).flatten()
        for offset in range(-reach, reach + 1):
            part = checkpoint(
                chunk_logsumexp,
                queries,
                entries,
                states,
                items,
                taken,
                offset,
                rounds,
                reach,
                chunks,
                use_reentrant=False,
            )
            lowest = part.new_full((count + 1,), torch.finfo(wide).min / 2)
            total = torch.logaddexp(total, lowest.scatter(0, home, part.flatten())[:count])
    return total


def chunk_logsumexp(
    queries: Tensor,
    entries: Tensor,
    states: Tensor,
    items: Tensor,
    taken: Tensor | None,
    offset: int,
    rounds: list[tuple[Tensor, Tensor]],
    reach: int,
    chunks: int,
) -> Tensor:
    """(chunks, tokens) log sum of the items `offset` chunks further; made again for the gradient, not kept."""
    entries, items = entries.roll(-offset, 0), items.roll(-offset, 0)
    logits = torch.einsum("n h d, n w d -> n h w", queries, entries)
    if len(rounds) > 1:
        times = torch.zeros_like(logits)
        for of_tokens, of_items in rounds:
            gap = rearrange(of_items[items.clamp_min(0)], "n w -> n 1 w")
            gap = (gap - rearrange(of_tokens[states.clamp_min(0)], "n h -> n h 1")).remainder(chunks)
            times = times + ((gap <= reach) | (gap >= chunks - reach)).to(logits.dtype)
        logits = logits - times.clamp_min(1.0).log()
    out = rearrange(items < 0, "n w -> n 1 w")
    if taken is not None:
        out = out | (rearrange(items, "n w -> n 1 w") == rearrange(taken, "n h -> n h 1"))
    return logits.masked_fill(out, torch.finfo(logits.dtype).min / 2).logsumexp(2)
