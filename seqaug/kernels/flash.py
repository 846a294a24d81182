"""Catalog softmax as attention over the item table, on torch's own attention kernels.

Attention with queries h, keys and values e and scale 1 returns lse_r = log sum_c exp(h_r . e_c) and
o_r = sum_c p_rc e_c, which is d lse_r / d h_r. The table's gradient is a second attention forward:

    d sum_r w_r lse_r / d e_c = sum_r w_r p_rc h_r = sum_r exp(e_c . h_r + b_r) sign(w_r) h_r,
    b_r = log |w_r| - lse_r,

with queries e, keys h, values sign(w) h and one bias per key: its output times the exponential of its own
logsumexp, which is log sum_r |w_r| p_rc <= log sum_r |w_r| and cannot overflow. Nothing is held beyond
inputs and outputs. The bias is rounded at the size of lse, so that the table's gradient is exact to 1e-7 times the
largest lse: 1e-5 at 100. No hand-written device code.
"""

from __future__ import annotations

import functools

import torch
from einops import rearrange
from torch import Tensor

from seqaug.kernels.chunked import Gradients, Slope, accumulator, factor_dtype


def softmax_gradients(
    hidden: Tensor, table: Tensor, slope: Slope | None, *, need_hidden: bool, need_table: bool
) -> Gradients:
    """As `seqaug.kernels.chunked.softmax_gradients`."""
    wide = accumulator(hidden.dtype)
    hidden, table = (x.to(factor_dtype(hidden)) for x in (hidden, table))
    if not len(hidden):
        hidden_grad = torch.empty_like(hidden, dtype=wide) if need_hidden else None
        table_grad = torch.zeros_like(table, dtype=wide) if need_table else None
        return Gradients(hidden.new_empty(0, dtype=wide), hidden_grad, table_grad)
    mean, lse = attention(hidden, table, table, None)
    lse = lse.to(wide)
    weight = torch.ones_like(lse) if slope is None else slope(lse, slice(0, len(hidden))).to(wide)
    hidden_grad = mean.to(wide) * rearrange(weight, "t -> t 1") if need_hidden else None
    if not need_table:
        return Gradients(lse, hidden_grad, None)
    values = hidden * rearrange(weight.sign(), "t -> t 1").to(hidden.dtype)
    mixed, logs = attention(table, hidden, values, weight.abs().log() - lse)
    # No token with a weight: every bias is -inf, the mixture 0 / 0 and its share exp(-inf).
    # Rounding of large lse may carry the logarithm above the most it can be.
    share = rearrange(logs.to(wide).minimum(weight.abs().sum().log()).exp(), "c -> c 1")
    return Gradients(lse, hidden_grad, torch.where(share > 0, mixed.to(wide) * share, 0.0))


def attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """sum_k softmax_k(q . k + bias_k) v_k, (queries, features), and the logsumexp, (queries,)."""
    # The CPU kernel takes the features of a vector to be neighbours in memory, whatever the strides say.
    inputs = [rearrange(x.contiguous(), "t d -> 1 1 t d") for x in (queries, keys, values)]
    if queries.device.type == "cpu":
        mask = None
        if bias is not None:
            mask = rearrange(bias, "k -> 1 1 1 k").expand(1, 1, len(queries), len(keys))
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mixed, lse = flash(*inputs, 0.0, False, attn_mask=mask, scale=1.0)
    else:
        mixed, lse = compiled_flex_attention()(*inputs, bias)
    return mixed[0, 0], lse[0, 0]


def flex_attention(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same through torch's public interface; the bias is added in the accumulation dtype."""
    from torch.nn.attention.flex_attention import AuxRequest
    from torch.nn.attention.flex_attention import flex_attention as attend

    def add_bias(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score if bias is None else score + bias[key]

    mixed, extra = attend(
        queries,
        keys,
        values,
        score_mod=None if bias is None else add_bias,
        scale=1.0,
        return_aux=AuxRequest(lse=True),
    )
    if extra.lse is None:
        raise RuntimeError("flex_attention gave no logsumexp: it was asked for one with return_aux")
    return mixed, extra.lse


@functools.cache
def compiled_flex_attention():  # type: ignore[no-untyped-def]
    """Flex attention is a kernel only once compiled; eager, it holds queries x keys."""
    return torch.compile(flex_attention, dynamic=True)
