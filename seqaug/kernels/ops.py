"""The kernels as operators of torch: opaque to the compiler, with shapes and gradients registered."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from seqaug.kernels import backends, naive
from seqaug.kernels.chunked import accumulator
from seqaug.kernels.surprise import surprise


@torch.library.custom_op("seqaug::logsumexp", mutates_args=())
def logsumexp(
    hidden: Tensor, table: Tensor, start: int, stop: int, need_hidden: bool, backend: str
) -> tuple[Tensor, Tensor]:
    """lse (T,) of hidden (T, D) over rows start..stop - 1 of table (R, D); d lse / d hidden, (T, D) or (0, D)."""
    found = backends.softmax_gradients(
        backend, hidden, table[start:stop], None, need_hidden=need_hidden, need_table=False
    )
    mean = found.hidden
    return found.lse, hidden.new_empty((0, hidden.shape[1]), dtype=found.lse.dtype) if mean is None else mean


@logsumexp.register_fake
def _(
    hidden: Tensor, table: Tensor, start: int, stop: int, need_hidden: bool, backend: str
) -> tuple[Tensor, Tensor]:
    wide = accumulator(hidden.dtype)
    tokens, features = hidden.shape
    mean = hidden.new_empty((tokens if need_hidden else 0, features), dtype=wide)
    return hidden.new_empty(tokens, dtype=wide), mean


@torch.library.custom_op("seqaug::table_grad", mutates_args=())
def table_grad(hidden: Tensor, table: Tensor, slope: Tensor, start: int, stop: int, backend: str) -> Tensor:
    """d sum_r slope_r * lse_r / d table, (R, D)."""
    found = backends.softmax_gradients(
        backend, hidden, table[start:stop], lambda lse, span: slope[span], need_hidden=False, need_table=True
    )
    return padded(found.table, table, start, stop)


@table_grad.register_fake
def _(hidden: Tensor, table: Tensor, slope: Tensor, start: int, stop: int, backend: str) -> Tensor:
    return torch.empty_like(table)


@torch.library.custom_op("seqaug::softmax_total", mutates_args=())
def softmax_total(
    hidden: Tensor,
    table: Tensor,
    score: Tensor,
    weight: Tensor,
    start: int,
    stop: int,
    extra: bool,
    gamma: float,
    need_hidden: bool,
    need_table: bool,
    backend: str,
    products: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """sum_r weight_r * surprise_r, with every gradient of it made on the way, from products of that dtype.

    Returns the total (), each token's value and weighted slope (T,), and the gradients of hidden and table
    through the denominator, empty where not needed.
    """

    def slope(lse: Tensor, span: slice) -> Tensor:
        return weight[span] * surprise(lse, score[span], extra, gamma)[1]

    found = backends.softmax_gradients(
        backend,
        hidden.to(products),
        table[start:stop].to(products),
        slope,
        need_hidden=need_hidden,
        need_table=need_table,
    )
    value, steepness = surprise(found.lse, score, extra, gamma)
    hidden_part = hidden.new_empty(0) if found.hidden is None else found.hidden.to(hidden.dtype)
    table_part = table.new_empty(0) if found.table is None else padded(found.table, table, start, stop)
    return (weight * value).sum(), value, weight * steepness, hidden_part, table_part


@softmax_total.register_fake
def _(
    hidden: Tensor,
    table: Tensor,
    score: Tensor,
    weight: Tensor,
    start: int,
    stop: int,
    extra: bool,
    gamma: float,
    need_hidden: bool,
    need_table: bool,
    backend: str,
    products: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    hidden_part = torch.empty_like(hidden) if need_hidden else hidden.new_empty(0)
    table_part = torch.empty_like(table) if need_table else table.new_empty(0)
    return weight.new_empty(()), torch.empty_like(weight), torch.empty_like(weight), hidden_part, table_part


def total(
    hidden: Tensor,
    table: Tensor,
    score: Tensor,
    weight: Tensor,
    start: int,
    stop: int,
    extra: bool,
    gamma: float,
    backend: str,
    products: torch.dtype,
) -> Tensor:
    """The differentiable sum of weighted losses; only the gradients that somebody waits for are made."""
    if backend == "naive":
        lse = naive.logsumexp(hidden.to(products), table.to(products), start, stop)
        return (weight * surprise(lse, score, extra, gamma)[0]).sum()
    refuse_forward_mode(hidden, table, score, weight)
    needs = [torch.is_grad_enabled() and value.requires_grad for value in (hidden, table)]
    return softmax_total(hidden, table, score, weight, start, stop, extra, gamma, *needs, backend, products)[
        0
    ]


def denominators(hidden: Tensor, table: Tensor, start: int, stop: int, backend: str) -> Tensor:
    """The differentiable logsumexp of each token, for any upstream gradient."""
    if backend == "naive":
        return naive.logsumexp(hidden, table, start, stop)
    refuse_forward_mode(hidden, table)
    need_hidden = torch.is_grad_enabled() and hidden.requires_grad
    return logsumexp(hidden, table, start, stop, need_hidden, backend)[0]


def refuse_forward_mode(*inputs: Tensor) -> None:
    """Operators of torch without a forward derivative drop it silently, and what is left would be wrong."""
    if torch.compiler.is_compiling():
        return
    if any(forward_ad.unpack_dual(value).tangent is not None for value in inputs):  # type: ignore[no-untyped-call]
        raise RuntimeError(
            "the catalog softmax has no forward-mode derivative: use backend='naive' for one (it holds tokens x catalog), "
            "or reverse mode"
        )


def padded(part: Tensor | None, table: Tensor, start: int, stop: int) -> Tensor:
    """The gradient of a slice of the table as one of the whole table."""
    if part is None:
        raise ValueError("a gradient of the table was expected, got none: ask for need_table=True")
    if stop - start == len(table):
        return part.to(table.dtype)
    return F.pad(part.to(table.dtype), (0, 0, start, len(table) - stop))


TWICE = (
    "the catalog softmax has no second derivative: use backend='naive' for gradients of gradients "
    "(it holds tokens x catalog)"
)


def _save_logsumexp(ctx, inputs, output):  # type: ignore[no-untyped-def]
    hidden, table, ctx.start, ctx.stop, _, ctx.backend = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(hidden, table, output[1])


def _logsumexp_backward(ctx, grad, twice):  # type: ignore[no-untyped-def]
    if twice is not None:
        raise RuntimeError(TWICE)
    hidden, table, mean = ctx.saved_tensors
    if grad is None:
        return (None,) * 6
    hidden_grad = (mean * grad[:, None]).to(hidden.dtype) if ctx.needs_input_grad[0] else None
    table_part = None
    if ctx.needs_input_grad[1]:
        table_part = table_grad(hidden, table, grad, ctx.start, ctx.stop, ctx.backend)
    return hidden_grad, table_part, None, None, None, None


def _save_softmax_total(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:])


def _softmax_total_backward(ctx, grad, *twice):  # type: ignore[no-untyped-def]
    if any(part is not None for part in twice):
        raise RuntimeError(TWICE)
    nothing = (None,) * 8
    if grad is None:
        return None, None, None, None, *nothing
    value, steepness, hidden_part, table_part = ctx.saved_tensors
    hidden_needed, table_needed, score_needed, weight_needed = ctx.needs_input_grad[:4]
    return (
        grad.to(hidden_part.dtype) * hidden_part if hidden_needed else None,
        grad.to(table_part.dtype) * table_part if table_needed else None,
        -grad * steepness if score_needed else None,
        grad * value if weight_needed else None,
        *nothing,
    )


def _no_second(ctx, *grads):  # type: ignore[no-untyped-def]
    raise RuntimeError(TWICE)


logsumexp.register_autograd(_logsumexp_backward, setup_context=_save_logsumexp)
softmax_total.register_autograd(_softmax_total_backward, setup_context=_save_softmax_total)
table_grad.register_autograd(_no_second)
