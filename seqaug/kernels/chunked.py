"""Blocks of tokens x items: any device, any dtype.

A block of logits is made, exponentiated, summed and multiplied with its items while it is in the cache.
The exponentials of one block of tokens are kept over the whole catalog, so that the gradient of the table
costs one further product instead of making them again: three products in all.

Measured on a CPU with AVX-512 and 1 MiB of L2 per core: exp costs 0.6 of a product at 64 features and exp2
0.2, so logits are made in base 2; a product with the transposed block runs at 0.7 of the rate of one with
the block itself, so the table's gradient is summed transposed; and a product that writes to memory not in the
cache takes 1.5 times as long, so logits go to a block that is used again and only their exponentials are
kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

# exp(60) summed over 1e12 items stays below float32's largest number, exp(-60) above its smallest.
SAFE_LOGIT = 60.0
# Exponentials kept at once (256 MiB of float32), unless that would leave blocks too low to be fast.
KEPT, FEWEST_TOKENS = 2**26, 128
# glibc takes 32 MiB or more fresh from the system every time, whose pages cost as much as a product to get.
REUSED_BYTES, FEWEST_REUSED = 30 * 2**20, 256
CPU_TOKENS, CPU_ITEMS = 512, 2048
OTHER_TOKENS, OTHER_ITEMS = 4096, 8192
LOG2_E = 1.0 / math.log(2.0)

#: From the logsumexp of some tokens, and which tokens of the call they are, to the slopes of their losses.
Slope = Callable[[Tensor, slice], Tensor]


class Gradients(NamedTuple):
    """What one sweep over the catalog yields; None where it was not asked for."""

    lse: Tensor  # (tokens,)
    hidden: Tensor | None  # (tokens, features)
    table: Tensor | None  # (items, features)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are made in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def factor_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype products are made in: that of the input, but CPUs have no fast products of float16."""
    slow = hidden.device.type == "cpu" and hidden.dtype == torch.float16
    return torch.float32 if slow else hidden.dtype


def logit_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype of logits: a CPU's low-precision product would round them, by 2**-9 in bfloat16."""
    return accumulator(hidden.dtype) if hidden.device.type == "cpu" else factor_dtype(hidden)


def softmax_gradients(
    hidden: Tensor, table: Tensor, slope: Slope | None, *, need_hidden: bool, need_table: bool
) -> Gradients:
    """Logsumexp of each token over the table, and gradients of sum_r value_r, d value_r / d lse_r = slope_r.

    Args:
        hidden: (tokens, features).
        table: (items, features), same dtype.
        slope: the slopes of a block of tokens, from their logsumexp; None stands for ones.
        need_hidden, need_table: which gradients to make.
    """
    (tokens, features), items = hidden.shape, len(table)
    wide = accumulator(hidden.dtype)
    factor = factor_dtype(hidden)
    exact = factor == wide
    logit = logit_dtype(hidden)
    height, width = block_shape(tokens, items, hidden.device, factor)
    shift = needs_shift(hidden, table)
    lse = hidden.new_empty(tokens, dtype=wide)
    hidden_grad = torch.empty_like(hidden, dtype=wide) if need_hidden else None
    table_grad = hidden.new_zeros(items * features, dtype=wide) if need_table else None  # blocks, transposed
    logits = hidden.new_empty(height * width, dtype=wide)
    storage = hidden.new_empty(height * (items if need_table else width), dtype=factor)

    for span in spans(tokens, height):
        states, queries = hidden[span].to(factor), hidden[span].to(logit)
        rows = len(states)
        if logit == wide:
            queries = queries * LOG2_E  # scaling rounds: not in a low-precision dtype
        total = states.new_zeros(rows, dtype=wide)
        mean = states.new_zeros(states.shape, dtype=wide)
        top = states.new_full((rows,), -torch.inf, dtype=wide)
        kept: list[tuple[slice, Tensor, Tensor]] = []
        for block in spans(items, width):
            entries, keys = table[block].to(factor), table[block].to(logit)
            size = rows * len(entries)
            scores = logits[:size].view(rows, len(entries))
            if logit == wide:
                torch.mm(queries, keys.t(), out=scores)
            else:
                scores.copy_(queries @ keys.t()).mul_(LOG2_E)
            if shift:
                higher = torch.maximum(top, scores.amax(1))
                shrink = torch.exp2(top - higher)
                total.mul_(shrink)
                mean.mul_(rearrange(shrink, "t -> t 1"))
                scores.sub_(rearrange(higher, "t -> t 1"))
                top = higher
            offset = rows * block.start if need_table else 0
            shares = storage[offset : offset + size].view(rows, len(entries))
            if exact:
                torch.exp2(scores, out=shares)
                total.add_(shares.sum(1))
            else:
                total.add_(scores.exp2_().sum(1))
                shares.copy_(scores)
            if need_hidden:
                if exact:
                    mean.addmm_(shares, entries)
                else:
                    mean.add_(shares @ entries)
            if need_table:
                kept.append((block, shares, top))

        lse[span] = total.log() + top / LOG2_E if shift else total.log()
        weight = torch.ones_like(total) if slope is None else slope(lse[span], span).to(wide)
        if hidden_grad is not None:
            torch.mul(mean, rearrange(weight / total, "t -> t 1"), out=hidden_grad[span])
        if table_grad is not None:
            for block, shares, reference in kept:
                slopes = weight / total * torch.exp2(reference - top) if shift else weight / total
                scaled = rearrange(states * rearrange(slopes, "t -> t 1"), "t d -> d t")
                part = table_grad[block.start * features : block.stop * features].view(features, -1)
                add_product(part, scaled, shares, factor)
    if table_grad is None:
        return Gradients(lse, hidden_grad, None)
    for block in spans(items, width):  # block by block, since a whole second copy may not fit
        part = table_grad[block.start * features : block.stop * features]
        part.copy_(rearrange(part, "(d c) -> (c d)", d=features))
    return Gradients(lse, hidden_grad, table_grad.view(items, features))


def spans(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def block_shape(tokens: int, items: int, device: torch.device, factor: torch.dtype) -> tuple[int, int]:
    """Tokens and items of one block, whose exponentials are kept as `factor`."""
    on_cpu = device.type == "cpu"
    most, width = (CPU_TOKENS, CPU_ITEMS) if on_cpu else (OTHER_TOKENS, OTHER_ITEMS)
    height = REUSED_BYTES // (items * factor.itemsize) if on_cpu else 0
    if height < FEWEST_REUSED:
        height = max(FEWEST_TOKENS, KEPT // items)
    blocks = max(1, -(-tokens // min(most, height)))  # of like height: a low one is as slow as a full one
    return max(1, -(-tokens // blocks)), min(items, width)


def needs_shift(hidden: Tensor, table: Tensor) -> bool:
    """Whether a logit may be too large for a bare exponential, by |h . e| <= |h| |e|; no device is asked."""
    if hidden.device.type != "cpu" or not hidden.numel():
        return True
    wide = accumulator(hidden.dtype)
    largest = torch.linalg.vector_norm(hidden, dim=1, dtype=wide).amax()
    largest = largest * torch.linalg.vector_norm(table, dim=1, dtype=wide).amax()
    return not bool(largest <= SAFE_LOGIT)


def add_product(out: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype) -> None:
    """out += left @ right, multiplied in `dtype` and summed in the dtype of `out`."""
    if out.dtype == dtype:
        out.addmm_(left, right)
        return
    # A mean over many tokens has gradients below float16's smallest number: bring them to 1 for the product.
    peak = left.abs().amax().clamp_min(torch.finfo(out.dtype).tiny)
    out.add_(((left / peak).to(dtype) @ right.to(dtype)) * peak)
