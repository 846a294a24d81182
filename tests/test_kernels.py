"""The catalog kernel: every backend against whole logits, in every dtype, compiled, fake, and at its edges."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from seqaug import functional
from seqaug.kernels import backends, chunked, flash
from seqaug.kernels.surprise import softplus, surprise
from seqaug.losses import ICELoss

FAST = ("chunked", "flash")


def inputs(
    tokens: int = 13,
    items: int = 1531,
    features: int = 7,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(tokens + items)
    hidden = scale * torch.randn(tokens, features, generator=g, dtype=torch.float64)
    table = torch.randn(items, features, generator=g, dtype=torch.float64)
    return hidden.to(dtype).requires_grad_(), table.to(dtype).requires_grad_()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("catalog", [slice(None), slice(1, 1530), slice(3, 4)])
def test_value_and_any_upstream_gradient(backend: str, scale: float, catalog: slice) -> None:
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 3e-6)):
        hidden, table = inputs(dtype=dtype, scale=scale)
        upstream = torch.randn(13, generator=torch.Generator().manual_seed(5), dtype=dtype)
        upstream[3] = 0.0
        found = functional.linear_logsumexp(hidden, table, catalog=catalog, backend=backend)
        grads = torch.autograd.grad(found, (hidden, table), upstream)
        wide = [x.detach().double().requires_grad_() for x in (hidden, table)]
        want = (wide[0] @ wide[1][catalog].T).logsumexp(1)
        right = torch.autograd.grad(want, wide, upstream.double())
        torch.testing.assert_close(found.double(), want, rtol=tolerance, atol=tolerance)
        for one, other in zip(grads, right, strict=True):
            size = other.abs().max().item()
            torch.testing.assert_close(one.double(), other, rtol=0, atol=tolerance * scale * max(size, 1e-3))


@pytest.mark.parametrize("backend", FAST)
def test_blocks_join(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uneven last blocks of tokens and items, also where exponentials keep the tokens of a block few."""
    monkeypatch.setattr(chunked, "CPU_TOKENS", 5)
    monkeypatch.setattr(chunked, "CPU_ITEMS", 11)
    for scale in (1.0, 60.0):
        hidden, table = inputs(tokens=17, items=37, scale=scale)
        loss = ICELoss(catalog=slice(1, 36), backend=backend, reduction="sum")
        ids = torch.arange(1, 18)
        naive = ICELoss(catalog=slice(1, 36), backend="naive", reduction="sum")
        found = torch.autograd.grad(loss(hidden, table, ids), (hidden, table))
        want = torch.autograd.grad(naive(hidden, table, ids), (hidden, table))
        for one, other in zip(found, want, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", FAST)
def test_any_strides(backend: str) -> None:
    hidden, table = (x.detach() for x in inputs(dtype=torch.float32))
    want = functional.linear_logsumexp(hidden, table, backend="naive")
    columns = [x.t().contiguous().t() for x in (hidden, table)]
    spread = [torch.stack([x, x + 1], -1)[..., 0] for x in (hidden, table)]
    for one, other in (columns, spread):
        found = functional.linear_logsumexp(one.requires_grad_(), other.requires_grad_(), backend=backend)
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)
        grads = torch.autograd.grad(found.sum(), (one, other))
        right = torch.autograd.grad(
            functional.linear_logsumexp(
                hidden.requires_grad_(), table.requires_grad_(), backend="naive"
            ).sum(),
            (hidden, table),
        )
        torch.testing.assert_close(grads, right, rtol=1e-4, atol=1e-5)
        hidden, table = hidden.detach(), table.detach()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("tokens", [0, 1])
def test_few_tokens(backend: str, tokens: int) -> None:
    hidden, table = inputs(tokens=tokens)
    value = functional.linear_logsumexp(hidden, table, backend=backend)
    assert value.shape == (tokens,)
    value.sum().backward()
    assert table.grad is not None and table.grad.isfinite().all()
    if not tokens:
        assert (table.grad == 0).all()


@pytest.mark.parametrize("backend", FAST)
def test_weights_of_zero_reach_nothing(backend: str) -> None:
    hidden, table = inputs()
    value = functional.linear_logsumexp(hidden, table, backend=backend)
    value.backward(torch.zeros_like(value))
    assert hidden.grad is not None and (hidden.grad == 0).all()
    assert table.grad is not None and (table.grad == 0).all()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("wanted", ["hidden", "table", "neither"])
def test_only_what_is_asked_for(backend: str, wanted: str) -> None:
    hidden, table = inputs()
    hidden.requires_grad_(wanted == "hidden")
    table.requires_grad_(wanted == "table")
    ids = torch.arange(1, 14)
    for reduction in ("token", "none"):
        value = ICELoss(catalog=slice(1, 1530), backend=backend, reduction=reduction)(
            hidden, table, ids
        ).sum()
        assert value.requires_grad == (wanted != "neither")
        if wanted != "neither":
            value.backward()
    assert (hidden.grad is not None) == (wanted == "hidden")
    assert (table.grad is not None) == (wanted == "table")


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.03, 0.5, 2.0])
def test_low_precision_is_no_worse_than_cross_entropy(backend: str, dtype: torch.dtype, scale: float) -> None:
    hidden, table = inputs(tokens=64, items=3001, features=32, dtype=dtype, scale=scale)
    ids = torch.arange(1, 65)
    exact = [x.detach().double().requires_grad_() for x in (hidden, table)]
    want = F.cross_entropy(exact[0] @ exact[1].T, ids)
    right = torch.autograd.grad(want, exact)
    usual = F.cross_entropy(hidden @ table.t(), ids)
    usual_grads = torch.autograd.grad(usual, (hidden, table))
    ours = ICELoss(catalog=slice(0, 3001), backend=backend)(hidden, table, ids)
    our_grads = torch.autograd.grad(ours, (hidden, table))
    assert (ours.double() - want).abs() <= (usual.double() - want).abs() + 1e-6
    for mine, theirs, true in zip(our_grads, usual_grads, right, strict=True):
        assert (mine.double() - true).norm() <= 1.01 * (theirs.double() - true).norm()


def test_float16_gradients_of_a_mean_do_not_vanish() -> None:
    hidden, table = inputs(tokens=300, items=2001, features=16, dtype=torch.float16, scale=0.3)
    ids = torch.arange(1, 301)
    share = 1e-3  # of a large batch
    value = ICELoss(catalog=slice(0, 2001), reduction="sum")(
        hidden, table, ids, weight=torch.full((300,), share)
    )
    (found,) = torch.autograd.grad(value, hidden)
    exact = [x.detach().double().requires_grad_() for x in (hidden, table)]
    (want,) = torch.autograd.grad(
        share * F.cross_entropy(exact[0] @ exact[1].T, ids, reduction="sum"), exact[0]
    )
    assert (found.double() - want).norm() <= 5e-3 * want.norm()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_slopes_made_on_the_way(backend: str, extra: bool, gamma: float) -> None:
    lse = torch.linspace(-3, 6, 41, dtype=torch.float64, requires_grad=True)
    score = torch.full_like(lse, -4.0)
    value, slope = surprise(lse, score, extra, gamma)
    (want,) = torch.autograd.grad(value.sum(), lse)
    torch.testing.assert_close(slope, want, rtol=1e-10, atol=1e-12)
    assert (value >= 0).all()


def test_softplus_to_the_last_digit() -> None:
    x = torch.linspace(-60, 60, 241, dtype=torch.float64)
    torch.testing.assert_close(softplus(x), torch.logaddexp(x, torch.zeros_like(x)), rtol=1e-15, atol=0)


def test_naive_has_second_derivatives() -> None:
    hidden, table = inputs(tokens=3, items=11, features=2)
    ids = torch.tensor([1, 2, 3])
    loss = ICELoss(catalog=slice(1, 11), backend="naive")
    assert torch.autograd.gradgradcheck(lambda h, e: loss(h, e, ids), (hidden, table))


@pytest.mark.parametrize("backend", FAST)
def test_operators_keep_torchs_contract(backend: str) -> None:
    hidden, table = inputs(tokens=3, items=29, features=5)
    ops = torch.ops.seqaug
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(ops.logsumexp, (hidden, table, 1, 28, True, backend), test_utils=checks[:3])
    weight = torch.rand(3, dtype=torch.float64)
    score = torch.rand(3, dtype=torch.float64)
    arguments = (hidden, table, score, weight, 1, 28, False, 0.0, True, True, backend, hidden.dtype)
    torch.library.opcheck(ops.softmax_total, arguments, test_utils=checks[:3])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_without_data(device: str) -> None:
    with FakeTensorMode():
        hidden = torch.randn(2, 3, 5, device=device, requires_grad=True)
        table = torch.randn(9, 5, device=device, requires_grad=True)
        value = functional.linear_logsumexp(hidden, table, catalog=slice(1, 8))
        assert value.shape == (2, 3) and value.dtype == torch.float32
        value.sum().backward()
        assert hidden.grad is not None and hidden.grad.shape == (2, 3, 5)
        assert table.grad is not None and table.grad.shape == (9, 5)


def test_bfloat16_function_gives_float32() -> None:
    hidden, table = inputs(dtype=torch.bfloat16)
    assert functional.linear_logsumexp(hidden, table).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_the_same_attention() -> None:
    """What other devices than the CPU run, here uncompiled."""
    hidden, table = (x.detach().float() for x in inputs(tokens=16, items=32, features=16))
    bias = torch.linspace(-2, 0, 16)
    four = [x[None, None] for x in (table, hidden, hidden)]
    mixed, lse = flash.flex_attention(*four, bias)
    want, logs = flash.attention(table, hidden, hidden, bias)
    torch.testing.assert_close(mixed[0, 0], want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lse[0, 0], logs, rtol=1e-5, atol=1e-6)


def test_auto_says_what_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    backends.choose.cache_clear()
    hidden, table = inputs(dtype=torch.float32)
    with caplog.at_level(logging.DEBUG, logger="seqaug"):
        loss = ICELoss(catalog=slice(1, 1530))
        assert repr(loss) == "ICELoss(catalog=slice(1, 1530, None), backend='auto')"
        loss(hidden, table, torch.arange(1, 14))
    assert "1529 items: chunked" in caplog.text
    assert repr(loss) == "ICELoss(catalog=slice(1, 1530, None), backend='auto' (took 'chunked'))"


def test_blocks_are_of_like_height() -> None:
    cpu = torch.device("cpu")
    for tokens, want in ((1770, 443), (12_800, 512), (3, 3), (513, 257), (1, 1), (0, 1)):
        assert chunked.block_shape(tokens, 12_101, cpu, torch.float32) == (want, 2048)


@pytest.mark.parametrize(
    ("items", "dtype"),
    [(3_417, torch.float32), (12_101, torch.float32), (30_720, torch.float32), (54_000, torch.bfloat16)],
)
def test_what_is_kept_is_memory_had_before(items: int, dtype: torch.dtype) -> None:
    for tokens in range(1, 4000, 37):
        height, _ = chunked.block_shape(tokens, items, torch.device("cpu"), dtype)
        assert height * items * dtype.itemsize < 2**25


def test_blocks_of_a_large_catalog_are_not_too_low() -> None:
    assert chunked.block_shape(4000, 100_000, torch.device("cpu"), torch.float32) == (500, 2048)


@pytest.mark.parametrize(
    ("catalog", "says"),
    [
        (slice(1, 20), "20"),
        (slice(5, 5), "at least one"),
        (slice(0, 9, 2), "consecutive"),
        (slice(-20, 9), "-20"),
    ],
)
def test_bad_catalogs(catalog: slice, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        functional.linear_logsumexp(torch.zeros(2, 3), torch.zeros(9, 3), catalog=catalog)


def test_bad_tensors() -> None:
    with pytest.raises(ValueError, match="features"):
        functional.linear_logsumexp(torch.zeros(2, 3), torch.zeros(9, 4))
    with pytest.raises(TypeError, match="table"):
        functional.linear_logsumexp(torch.zeros(2, 3), torch.zeros(9, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="hidden"):
        functional.linear_logsumexp([1.0], torch.zeros(9, 3))  # type: ignore[arg-type]


def test_memory_does_not_grow_with_tokens_times_items() -> None:
    height, width = chunked.block_shape(10**6, 10**6, torch.device("cpu"), torch.float32)
    assert height * 10**6 * 4 <= 2**29 and width <= 2**13
