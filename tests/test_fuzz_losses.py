"""Losses under everything a caller may hand them: a right result, or one clear error; never NaN from finite input.

`--hypothesis-profile=long` tries ten times as many cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import seqaug as sa

ITEMS, FEATURES = 29, 5
CATALOG = slice(1, ITEMS + 1)
MAKE = {
    "BCELoss": sa.BCELoss,
    "BPRLoss": sa.BPRLoss,
    "CELoss": lambda **kw: sa.CELoss(catalog=CATALOG, **kw),
    "FocalLoss": sa.FocalLoss,
    "GBCELoss": lambda **kw: sa.GBCELoss(num_items=ITEMS, **kw),
    "ICELoss": lambda **kw: sa.ICELoss(catalog=CATALOG, **kw),
    "ICELoss flash": lambda **kw: sa.ICELoss(catalog=CATALOG, backend="flash", **kw),
    "ICELoss naive": lambda **kw: sa.ICELoss(catalog=CATALOG, backend="naive", **kw),
    "InfoNCELoss": sa.InfoNCELoss,
    "RECELoss": lambda **kw: sa.RECELoss(catalog=CATALOG, chunks=3, **kw),
    "SCELoss": lambda **kw: sa.SCELoss(
        catalog=CATALOG, buckets=4, tokens_per_bucket=5, items_per_bucket=7, **kw
    ),
    "SampledSoftmaxLoss": sa.SampledSoftmaxLoss,
    "SoftmaxFocalLoss": lambda **kw: sa.SoftmaxFocalLoss(catalog=CATALOG, **kw),
}
MORE = settings(max_examples=settings().max_examples * 10)


@dataclass
class Call:
    """Everything of one call of a loss."""

    name: str
    loss: torch.nn.Module
    hidden: Tensor
    table: Tensor
    target: Tensor | sa.SoftTarget
    extras: dict[str, Tensor]
    real: Tensor

    def run(self) -> Tensor:
        torch.manual_seed(0)  # of the losses that draw
        return self.loss(self.hidden, self.table, self.target, **self.extras)


def relaid(x: Tensor, layout: str) -> Tensor:
    """The same values at other places in memory."""
    if layout == "columns" and x.ndim > 1:
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "spread":
        return torch.stack([x, torch.full_like(x, 7)], -1)[..., 0]
    return x


@st.composite
def calls(
    draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32, torch.bfloat16)
) -> Call:
    name = draw(st.sampled_from(sorted(MAKE)))
    dtype = draw(st.sampled_from(dtypes))
    kind = "vectors" if name == "InfoNCELoss" else draw(st.sampled_from(["ids", "soft", "vectors"]))
    rows, slots = draw(st.sampled_from([(0, 3), (1, 1), (2, 7), (5, 2), (3, 0)]))
    scale = draw(st.sampled_from([0.0, 1e-30, 1.0, 30.0, 1e4]))
    layout = st.sampled_from(["plain", "columns", "spread"])
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    hidden = relaid((scale * torch.randn(rows, slots, FEATURES, generator=g)).to(dtype), draw(layout))
    # Logits reach +-1e4 and beyond.
    table = relaid(
        (math.sqrt(max(scale, 1.0)) * torch.randn(ITEMS + 2, FEATURES, generator=g)).to(dtype), draw(layout)
    )
    real = torch.arange(slots) >= slots - torch.randint(0, slots + 1, (rows, 1), generator=g)
    ids, other = (torch.randint(1, ITEMS + 1, (rows, slots), generator=g) * real for _ in range(2))
    target: Tensor | sa.SoftTarget = ids
    if kind == "soft":
        target = sa.SoftTarget(
            ids, other, torch.rand(rows, 1, generator=g).round(decimals=draw(st.integers(0, 3)))
        )
    if kind == "vectors":
        target = (scale * torch.randn(rows, slots, FEATURES, generator=g)).to(dtype)
    loss = MAKE[name](reduction=draw(st.sampled_from(["token", "row", "sum", "none"])))
    extras: dict[str, Tensor] = {"valid": real} if kind == "vectors" else {}
    weight = draw(st.sampled_from([None, 0.0, 1e-8, 1.0, 1e6]))
    if weight is not None:
        extras["weight"] = weight * torch.rand(rows, slots, generator=g)
    if loss.needs_negatives:
        extras["negatives"] = torch.randint(1, ITEMS + 1, (rows, slots, 4), generator=g)
    return Call(name, loss, hidden.requires_grad_(), table.requires_grad_(), target, extras, real)


@MORE
@given(call=calls())
def test_finite_in_finite_out(call: Call) -> None:
    before = [x.detach().clone() for x in (call.hidden, call.table)]
    value = call.run()
    assert value.isfinite().all() and (value >= 0).all()
    value.sum().backward()
    for x, was in zip((call.hidden, call.table), before, strict=True):
        assert torch.equal(x, was)  # never written to
        if x.grad is not None:
            assert x.grad.isfinite().all()
    assert call.hidden.grad is not None


@MORE
@given(
    call=calls(dtypes=(torch.float64, torch.float32)), poison=st.sampled_from([math.nan, math.inf, -math.inf])
)
def test_what_stands_at_padding_reaches_nothing(call: Call, poison: float) -> None:
    want = call.run()
    call.hidden = call.hidden.detach().masked_fill(~call.real[..., None], poison).requires_grad_()
    if isinstance(call.target, Tensor) and call.target.is_floating_point():
        call.target = call.target.masked_fill(~call.real[..., None], poison)
    if "weight" in call.extras:
        call.extras["weight"] = call.extras["weight"].masked_fill(~call.real, poison)
    found = call.run()
    assert torch.equal(found, want)
    found.sum().backward()
    assert call.hidden.grad is not None and call.hidden.grad.isfinite().all()
    assert (call.hidden.grad[~call.real] == 0).all()


@MORE
@given(call=calls(dtypes=(torch.float64, torch.float32)), where=st.sampled_from(["hidden", "table", "share"]))
def test_not_a_number_is_seen(call: Call, where: str) -> None:
    """NaN at a real target is never hidden behind a finite loss."""
    if not call.real.any() or (call.extras.get("weight", torch.ones(())) == 0).all():
        return
    with torch.no_grad():
        if where == "hidden":
            call.hidden[call.real] = torch.nan
        elif where == "table" and call.name != "InfoNCELoss":  # which reads none
            call.table.fill_(torch.nan)
        elif where == "share" and isinstance(call.target, sa.SoftTarget):
            call.target = sa.SoftTarget(call.target.first, call.target.second, torch.tensor(torch.nan))
        else:
            return
    assert not call.run().isfinite().all()
