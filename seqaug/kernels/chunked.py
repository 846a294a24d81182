"""Blocks of tokens x items: any device, any dtype.

A block of logits is made, exponentiated, summed and multiplied with its items while it is in the cache.
The exponentials of one block of tokens are kept over the whole catalog, so that the gradient of the table
costs one further product instead of making them again: three products in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

# exp(60) summed over 1e12 items stays below float32's largest number, exp(-60) above its smallest.
SAFE_LOGIT = 60.0
# Exponentials kept at once, and the widest block: measured on a CPU with 1 MiB of L2 per core.
KEPT = 2**24
CPU_ITEMS, CPU_TOKENS = 2048, 512
OTHER_ITEMS, OTHER_TOKENS = 8192, 4096

#: From the logsumexp of some tokens and their positions in the call to the weights of their gradients.
Slope = Callable[[Tensor, slice], Tensor]


class Gradients(NamedTuple):
    lse: Tensor  # (tokens,)
    hidden: Tensor | None  # (tokens, features)
    table: Tensor | None  # (items, features)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are made in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def block_tokens(tokens: int, items: int, device: torch.device) -> int:
    most = CPU_TOKENS if device.type == "cpu" else OTHER_TOKENS
    return max(1, min(tokens, most, max(64, KEPT // max(items, 1))))


def needs_shift(hidden: Tensor, table: Tensor) -> bool:
    """Whether a logit may be too large for a bare exponential, by |h . e| <= |h| |e|; no device is asked."""
    if (
        hidden.device.type != "cpu"
        or hidden.dtype != accumulator(hidden.dtype)
        or not hidden.numel()
        or not len(table)
    ):
        return True
    largest = torch.linalg.vector_norm(hidden, dim=1).amax()
    largest = largest * torch.linalg.vector_norm(table, dim=1).amax()
    return not bool(largest <= SAFE_LOGIT)


def softmax_gradients(
    hidden: Tensor, table: Tensor, slope: Slope | None, *, need_hidden: bool, need_table: bool
) -> Gradients:
    """Logsumexp of each token over the table, and the gradients of sum_r value_r, d value_r / d lse_r = slope_r.

    Args:
        hidden: (tokens, features).
        table: (items, features), same dtype.
        slope: from the logsumexp of a block of tokens to its slopes; None stands for ones.
        need_hidden, need_table: which gradients to make.
    """
    tokens, items = len(hidden), len(table)
    wide = accumulator(hidden.dtype)
    lse = hidden.new_empty(tokens, dtype=wide)
    hidden_grad = torch.empty_like(hidden, dtype=wide) if need_hidden else None
    table_grad = torch.zeros_like(table, dtype=wide) if need_table else None
    rows = block_tokens(tokens, items, hidden.device)
    columns = CPU_ITEMS if hidden.device.type == "cpu" else OTHER_ITEMS
    shift = needs_shift(hidden, table)
    buffer = hidden.new_empty(rows * (items if need_table else min(columns, items)), dtype=wide)

    for start in range(0, tokens, rows):
        span = slice(start, min(start + rows, tokens))
        states = hidden[span]
        height = len(states)
        total = states.new_zeros(height, dtype=wide)
        mean = states.new_zeros(states.shape, dtype=wide)
        top = states.new_full((height,), -torch.inf, dtype=wide)
        kept: list[tuple[slice, Tensor, Tensor]] = []
        used = 0
        for low in range(0, items, columns):
            block = slice(low, min(low + columns, items))
            entries = table[block]
            size = height * len(entries)
            scores = buffer[used : used + size].view(height, len(entries))  # (tokens, items)
            if need_table:
                used += size
            matmul_into(scores, states, entries.t())
            if shift:
                higher = torch.maximum(top, scores.amax(1))
                shrink = (top - higher).exp_()
                total.mul_(shrink)
                mean.mul_(rearrange(shrink, "t -> t 1"))
                scores.sub_(rearrange(higher, "t -> t 1"))
                top = higher
            scores.exp_()
            total.add_(scores.sum(1))
            if need_hidden:
                add_matmul(mean, scores, entries, entries.dtype)
            kept.append((block, scores, top))

        lse[span] = total.log() + top if shift else total.log()
        weight = torch.ones_like(total) if slope is None else slope(lse[span], span).to(wide)
        if hidden_grad is not None:
            torch.mul(mean, rearrange(weight / total, "t -> t 1"), out=hidden_grad[span])
        if table_grad is not None:
            for block, scores, reference in kept:
                share = weight * (reference - lse[span]).exp() if shift else weight / total
                scaled = states * rearrange(share, "t -> t 1")
                add_matmul(table_grad[block], scores.t(), scaled, hidden.dtype)
    return Gradients(lse, hidden_grad, table_grad)


def matmul_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out = left @ right, where `out` may be wider than the factors."""
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


def add_matmul(out: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype) -> None:
    """out += left @ right, multiplied in `dtype` and summed in the dtype of `out`."""
    if out.dtype == dtype:
        out.addmm_(left, right)
    else:  # gradients of a mean over many tokens would fall below float16's smallest number
        peak = right.abs().amax().to(out.dtype).clamp_min(torch.finfo(out.dtype).tiny)
        out.add_((left.to(dtype) @ (right / peak).to(dtype)) * peak)
