"""Encoders: item vectors (rows, slots, features) and which slots are real -> hidden states of the same shape.

They take vectors, not ids, so that a mix of two sequences goes in like any other. Rows are left-padded and may be
trimmed: positions count from the newest slot, so trimming changes nothing. ``newest`` asks for the states of the last
slots only; the work for the others is left out where it can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from seqaug.groups import group_rows

# What encoding one more group of rows costs, in slots.
COST_OF_A_GROUP = 400


def item_table(num_items: int, dim: int) -> nn.Embedding:
    """Table of V + 2 rows: 0 = padding, 1..V = the catalog, V + 1 = mask."""
    table = nn.Embedding(num_items + 2, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=0.02)
    with torch.no_grad():
        table.weight[0].zero_()
    return table


class Block(nn.Module):
    """Post-norm transformer block: causal self-attention, then a GELU network four times as wide."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.wide = nn.Linear(dim, 4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-12)
        self.network_norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor, newest: int | None = None) -> Tensor:
        """States (rows, newest or slots, features): of the ``newest`` last slots only, where no other is asked for."""
        if newest is None:
            q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        else:
            dim = x.shape[-1]
            weight, shift = self.qkv.weight, self.qkv.bias
            k, v = rearrange(
                F.linear(x, weight[dim:], shift[dim:]), "b l (two h d) -> two b h l d", two=2, h=self.heads
            )
            x, bias = x[:, -newest:], bias[..., -newest:, :]
            q = rearrange(F.linear(x, weight[:dim], shift[:dim]), "b l (h d) -> b h l d", h=self.heads)
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.mT + bias  # (rows, heads, slots, slots)
        mixed = self._drop(scores.softmax(-1)) @ v
        x = self.attention_norm(x + self._drop(self.out(rearrange(mixed, "b h l d -> b l (h d)"))))
        return self.network_norm(x + self._drop(self.narrow(F.gelu(self.wide(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class SASRec(nn.Module):
    """Self-attentive sequential recommendation (Kang and McAuley, 2018) with post-norm blocks and GELU."""

    def __init__(
        self,
        num_items: int,
        dim: int = 64,
        layers: int = 2,
        heads: int = 2,
        length: int = 50,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.length = length
        self.item_embedding = item_table(num_items, dim)
        self.positions = nn.Embedding(length, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        nn.init.normal_(self.positions.weight, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, vectors: Tensor, valid: Tensor, newest: int | None = None) -> Tensor:
        return by_width(self._encode, vectors, valid, newest)

    def _encode(self, vectors: Tensor, valid: Tensor, newest: int | None) -> Tensor:
        slots = vectors.shape[1]
        x = self.dropout(self.norm(vectors + self.positions.weight[self.length - slots :]))
        bias = attention_bias(valid, x.dtype)
        *first, last = self.blocks
        for block in first:
            x = block(x, bias)
        return last(x, bias, None if newest is None or newest >= slots else newest)


def by_width(
    encode: Callable[[Tensor, Tensor, int | None], Tensor],
    vectors: Tensor,
    valid: Tensor,
    newest: int | None,
) -> Tensor:
    """Encode rows of like length together, so that padding is hardly any work; states of padding are anything.

    Args:
        encode: (rows, slots, features), (rows, slots), newest -> states.
        vectors: (rows, slots, features).
        valid: (rows, slots) bool, False in the padding on the left.
        newest: how many of the last slots are asked for; None is all.
    """
    if not vectors.is_cpu:  # there padding costs less than to wait for the lengths
        return encode(vectors, valid, newest)
    slots = vectors.shape[1]
    asked = slots if newest is None else min(newest, slots)
    widths = (slots - valid.int().argmax(1)) * valid.any(1)
    groups = group_rows(widths, COST_OF_A_GROUP)
    if len(groups) == 1:  # in order as they are
        return _widened(encode(vectors[:, -groups[0].width :], valid[:, -groups[0].width :], newest), asked)
    order = torch.cat([group.rows for group in groups])
    sizes = [len(group.rows) for group in groups]
    parts = [
        _widened(encode(x[:, -group.width :], real[:, -group.width :], newest), asked)
        for group, x, real in zip(groups, vectors[order].split(sizes), valid[order].split(sizes), strict=True)
    ]
    return torch.cat(parts)[order.argsort()]


def _widened(states: Tensor, slots: int) -> Tensor:
    return F.pad(states, (0, 0, slots - states.shape[1], 0))


def attention_bias(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(rows, 1, slots, slots): 0 where a slot may look, -inf elsewhere; padding looks at itself only."""
    slots = torch.arange(valid.shape[1], device=valid.device)
    past = rearrange(slots, "q -> q 1") > slots
    same = rearrange(slots, "q -> q 1") == slots
    open_ = (past & rearrange(valid, "b k -> b 1 1 k")) | same
    return torch.zeros(open_.shape, dtype=dtype, device=valid.device).masked_fill_(~open_, -math.inf)


class GRU4Rec(nn.Module):
    """Recurrent sequential recommendation (Hidasi et al., 2016): a GRU that starts at the first real slot."""

    def __init__(
        self,
        num_items: int,
        dim: int = 64,
        layers: int = 1,
        heads: int = 1,
        length: int = 50,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.length = length
        self.item_embedding = item_table(num_items, dim)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(dim, dim, num_layers=layers, batch_first=True)
        self.out = nn.Linear(dim, dim)

    def forward(self, vectors: Tensor, valid: Tensor, newest: int | None = None) -> Tensor:
        return by_width(self._encode, vectors, valid, newest)

    def _encode(self, vectors: Tensor, valid: Tensor, newest: int | None) -> Tensor:
        # Left-padded rows are turned to start in slot 0: what follows a row's end cannot reach back into it.
        slots = torch.arange(valid.shape[1], device=valid.device)
        pads = valid.shape[1] - valid.sum(1, keepdim=True)  # (rows, 1)
        to_start = (slots + pads) % valid.shape[1]
        to_end = (slots - pads) % valid.shape[1]
        states, _ = self.gru(_take(self.dropout(vectors), to_start))
        return self.out(_take(states, to_end)[:, -(newest or 0) :])


def _take(x: Tensor, slots: Tensor) -> Tensor:
    return x.gather(1, rearrange(slots, "b l -> b l 1").expand(-1, -1, x.shape[2]))


class Direction(nn.Module):
    """Rows of length 1; a row of zeros, which padding is, stays."""

    def forward(self, weight: Tensor) -> Tensor:
        return F.normalize(weight, dim=-1)


class Cosine(nn.Module):
    """h . e = cos(h, e) / temperature: item vectors of length 1, hidden states of length 1 / temperature.

    A product's size is direction and length, and length learns how popular an item is; without it the softmax over the catalog
    has to be sharpened by a temperature.

    Args:
        encoder: any of the others; its item table is made one of directions.
        temperature: above 0; 0.05 to 0.1 is usual.
    """

    def __init__(self, encoder: SASRec | GRU4Rec, temperature: float) -> None:
        super().__init__()
        parametrize.register_parametrization(encoder.item_embedding, "weight", Direction())
        self.encoder = encoder
        self.temperature = temperature

    @property
    def item_embedding(self) -> nn.Embedding:
        return self.encoder.item_embedding

    def forward(self, vectors: Tensor, valid: Tensor, newest: int | None = None) -> Tensor:
        return F.normalize(self.encoder(vectors, valid, newest), dim=-1) / self.temperature


def item_vectors(weights: dict[str, Tensor]) -> Tensor:
    """(V + 2, D) the item vectors in the weights of an encoder, whatever it scores by."""
    plain = weights.get("item_embedding.weight")
    if plain is not None:
        return plain
    return Direction()(weights["encoder.item_embedding.parametrizations.weight.original"])


Encoder: TypeAlias = SASRec | GRU4Rec | Cosine
ENCODERS: dict[str, type[SASRec | GRU4Rec]] = {"sasrec": SASRec, "gru4rec": GRU4Rec}
