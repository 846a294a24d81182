"""Every loss against its plain float64 formula, in every form its arguments can take."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import seqaug as sa
from seqaug.losses import (
    BCELoss,
    BPRLoss,
    CELoss,
    FocalLoss,
    GBCELoss,
    ICELoss,
    SampledSoftmaxLoss,
    SoftmaxFocalLoss,
)
from seqaug.losses._base import ItemLoss
from seqaug.negatives import UniformNegatives
from seqaug.soft_target import SoftTarget

ROWS, STEPS, FEATURES, ITEMS = 5, 7, 11, 2311  # more items than one block holds
CATALOG = slice(1, ITEMS + 1)
LOSSES = {
    "BCE": BCELoss,
    "BPR": BPRLoss,
    "CE": lambda **kw: CELoss(catalog=CATALOG, **kw),
    "Focal": FocalLoss,
    "ICE": lambda **kw: ICELoss(catalog=CATALOG, **kw),
    "SampledSoftmax": SampledSoftmaxLoss,
    "SoftmaxFocal": lambda **kw: SoftmaxFocalLoss(catalog=CATALOG, gamma=1.5, **kw),
    "gBCE": lambda **kw: GBCELoss(num_items=ITEMS, **kw),
}
KINDS = ("ids", "soft", "vectors")
REDUCTIONS = ("token", "row", "sum", "none")


class Case:
    """One batch with padding on the left, a row without any target, and everything a loss can be given."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        self.hidden = torch.randn(ROWS, STEPS, FEATURES, generator=g, dtype=torch.float64).to(dtype)
        self.table = (0.7 * torch.randn(ITEMS + 2, FEATURES, generator=g, dtype=torch.float64)).to(dtype)
        lengths = torch.tensor([0, 1, 3, 6, 7])
        real = torch.arange(STEPS) >= STEPS - lengths[:, None]
        self.ids = torch.randint(1, ITEMS + 1, (ROWS, STEPS), generator=g) * real
        self.other = torch.randint(1, ITEMS + 1, (ROWS, STEPS), generator=g) * real
        self.lam = torch.rand(ROWS, 1, generator=g, dtype=torch.float64).to(dtype)
        self.vectors = torch.randn(ROWS, STEPS, FEATURES, generator=g, dtype=torch.float64).to(dtype)
        self.real = real
        self.weight = torch.rand(ROWS, STEPS, generator=g, dtype=torch.float64).to(dtype)
        self.negatives = torch.randint(1, ITEMS + 1, (ROWS, STEPS, 3), generator=g)
        self.negatives[1:, -1, 0] = self.ids[1:, -1]  # accidental hits

    def target(self, kind: str) -> Tensor | SoftTarget:
        return {"ids": self.ids, "soft": SoftTarget(self.ids, self.other, self.lam), "vectors": self.vectors}[
            kind
        ]

    def extras(self, loss: ItemLoss) -> dict[str, Tensor]:
        return {"negatives": self.negatives} if loss.needs_negatives else {}


def plain(name: str, case: Case, target: Tensor | SoftTarget) -> Tensor:
    """The loss of every position (rows, steps), from whole logits in float64."""
    hidden, table = case.hidden.double(), case.table.double()
    if isinstance(target, SoftTarget):
        lam = target.lam.double()
        return lam * plain(name, case, target.first) + (1 - lam) * plain(name, case, target.second)
    vectors = target.double() if target.is_floating_point() else table[target]
    score = (hidden * vectors).sum(-1)
    against = torch.einsum("bld,blkd->blk", hidden, table[case.negatives])
    if name == "BCE":
        return -score.sigmoid().log() - (1 - against.sigmoid()).log().sum(-1)
    if name == "gBCE":
        rate = 3 / (ITEMS - 1)
        beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
        return -(beta * score.sigmoid().log() + (1 - against.sigmoid()).log().sum(-1)) / 4
    if name == "BPR":
        return -(score[..., None] - against).sigmoid().log().mean(-1)
    if name == "SampledSoftmax":
        if not target.is_floating_point():
            against = torch.where(case.negatives == target[..., None], -torch.inf, against)
        return torch.cat([score[..., None], against], -1).logsumexp(-1) - score
    if name == "Focal":
        p, q = score.sigmoid(), against.sigmoid()
        return -0.25 * (1 - p) ** 2 * p.log() - 0.75 * (q**2 * (1 - q).log()).sum(-1)
    logits = hidden @ table[CATALOG].T
    if target.is_floating_point():
        logits = torch.cat([logits, score[..., None]], -1)
    nll = logits.logsumexp(-1) - score
    return (1 - (-nll).exp()) ** 1.5 * nll if name == "SoftmaxFocal" else nll


def counted(name: str, case: Case) -> Tensor:
    """Which positions count; the last real one of each row for CE."""
    if name != "CE":
        return case.real
    return case.real & (torch.arange(STEPS) == STEPS - 1)


def expected(name: str, case: Case, kind: str, reduction: str, weight: Tensor | None = None) -> Tensor:
    real = counted(name, case)
    value = torch.where(real, plain(name, case, case.target(kind)), 0.0)
    if weight is not None:
        value = value * (weight if weight.ndim == 2 else weight[:, None]).double()
    lengths = real.sum(1)
    if reduction == "token":
        return value.sum() / real.sum()
    if reduction == "row":
        return (value.sum(1) / lengths.clamp_min(1)).sum() / (lengths > 0).sum()
    return value.sum() if reduction == "sum" else value


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_value_is_the_formula(name: str, kind: str, reduction: str) -> None:
    loss = LOSSES[name](reduction=reduction)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        case = Case(dtype)
        extras = case.extras(loss)
        for weight in (None, case.weight, case.weight[:, 0]):
            got = loss(case.hidden, case.table, case.target(kind), weight=weight, valid=case.real, **extras)
            want = expected(name, case, kind, reduction, weight)
            assert got.dtype == dtype
            # Of one position, within as much of the largest: a value near 0 is a difference of large scores.
            floor = tolerance * want.abs().max().item() if reduction == "none" else 0.0
            torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=floor)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_formula(name: str, kind: str, reduction: str) -> None:
    case = Case()
    leaves = [case.hidden, case.table, case.weight, case.vectors]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = LOSSES[name](reduction=reduction)
    extras = case.extras(loss)
    got = loss(case.hidden, case.table, case.target(kind), weight=case.weight, valid=case.real, **extras)
    want = expected(name, case, kind, reduction, case.weight)
    upstream = torch.randn(got.shape, dtype=torch.float64)  # negative ones too
    found = torch.autograd.grad(got, leaves, upstream, allow_unused=True, materialize_grads=True)
    right = torch.autograd.grad(want, leaves, upstream, allow_unused=True, materialize_grads=True)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("reduction", ["token", "none"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name: str, kind: str, reduction: str) -> None:
    g = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, 3, 5, generator=g, dtype=torch.float64, requires_grad=True)
    table = torch.randn(9, 5, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 3, generator=g, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(2, 3, 5, generator=g, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[0, 1, 7], [3, 2, 2]])
    lam = torch.tensor([[0.3], [0.9]], dtype=torch.float64)
    make = {
        "CE": lambda **kw: CELoss(catalog=slice(1, 8), **kw),
        "ICE": lambda **kw: ICELoss(catalog=slice(1, 8), **kw),
        "SoftmaxFocal": lambda **kw: SoftmaxFocalLoss(catalog=slice(1, 8), **kw),
        "gBCE": lambda **kw: GBCELoss(num_items=7, **kw),
    }
    loss = make.get(name, LOSSES[name])(reduction=reduction)
    extras = {"negatives": torch.tensor([[4, 5], [6, 1]])} if loss.needs_negatives else {}

    def run(hidden: Tensor, table: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
        soft = SoftTarget(ids, torch.tensor([[0, 5, 6], [1, 4, 7]]), lam)
        target = {"ids": ids, "soft": soft, "vectors": vectors}[kind]
        return loss(hidden, table, target, weight=weight, **extras)

    assert torch.autograd.gradcheck(run, (hidden, table, weight, vectors))


@pytest.mark.parametrize("name", LOSSES)
def test_masked_equals_sliced_and_packed(name: str) -> None:
    case = Case()
    real = counted(name, case)
    loss = LOSSES[name]()
    for kind in KINDS:
        whole = loss(case.hidden, case.table, case.target(kind), valid=case.real, **case.extras(loss))
        target = case.target(kind)
        if isinstance(target, SoftTarget):
            parts = [x.expand(ROWS, STEPS)[real] for x in target]
            packed_target: Tensor | SoftTarget = SoftTarget(*parts)
        else:
            packed_target = target[real]
        extras = {name: value[real] for name, value in case.extras(loss).items()}
        packed = loss(case.hidden[real], case.table, packed_target, **extras)
        torch.testing.assert_close(whole, packed, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("pad", [0, -1, ITEMS + 1, 10**9])
def test_padding_is_any_id_and_holds_anything(name: str, pad: int) -> None:
    case = Case()
    loss = LOSSES[name](ignore_index=pad)
    extras = case.extras(loss)
    clean = LOSSES[name]()(case.hidden, case.table, case.ids, **extras)
    dirty = torch.where(case.real[..., None], case.hidden, torch.nan).requires_grad_()
    table = case.table.clone().requires_grad_()
    weight = torch.where(case.real, 1.0, torch.nan)
    value = loss(dirty, table, torch.where(case.real, case.ids, pad), weight=weight, **extras)
    torch.testing.assert_close(value, clean, rtol=1e-13, atol=0)
    value.backward()
    assert dirty.grad is not None and table.grad is not None
    assert table.grad.isfinite().all()
    assert (dirty.grad[~case.real] == 0).all() and dirty.grad[case.real].isfinite().all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_real_is_zero_with_zero_gradients(name: str, kind: str, reduction: str) -> None:
    loss = LOSSES[name](reduction=reduction)
    for rows in (ROWS, 0):
        case = Case()
        hidden = case.hidden[:rows].clone().requires_grad_()
        table = case.table.clone().requires_grad_()
        target = case.target(kind)
        target = (
            SoftTarget(*[x[:rows] * 0 for x in target[:2]], target.lam[:rows])
            if kind == "soft"
            else target[:rows]
        )
        valid = torch.zeros(rows, STEPS, dtype=torch.bool)
        extras = {name: value[:rows] for name, value in case.extras(loss).items()}
        value = loss(hidden, table, target, valid=valid, **extras)
        assert (value == 0).all()
        value.sum().backward()
        assert hidden.grad is not None and (hidden.grad == 0).all()
        assert table.grad is not None and (table.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_soft_targets_at_their_edges(name: str) -> None:
    case = Case()
    loss = LOSSES[name]()
    extras = case.extras(loss)
    plain_value = loss(case.hidden, case.table, case.ids, **extras)
    one = torch.ones(ROWS, 1, dtype=torch.float64)
    same = loss(case.hidden, case.table, SoftTarget(case.ids, case.ids, case.lam), **extras)
    first = loss(case.hidden, case.table, SoftTarget(case.ids, case.other, one), **extras)
    second = loss(case.hidden, case.table, SoftTarget(case.other, case.ids, 0 * one), **extras)
    padded = loss(case.hidden, case.table, SoftTarget(case.ids, case.ids * 0, one), **extras)
    for value in (same, first, second, padded):
        torch.testing.assert_close(value, plain_value, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_denominator_replaces_the_count(name: str) -> None:
    case = Case()
    total = LOSSES[name](reduction="sum")
    extras = case.extras(total)
    whole = total(case.hidden, case.table, case.ids, **extras)
    value = LOSSES[name](denominator=40)(case.hidden, case.table, case.ids, **extras)
    torch.testing.assert_close(value, whole / 40)
    rows = LOSSES[name](reduction="row")(case.hidden, case.table, case.ids, **extras)
    value = LOSSES[name](reduction="row", denominator=40.0)(case.hidden, case.table, case.ids, **extras)
    torch.testing.assert_close(value, rows * 4 / 40)  # four rows have a target


def test_vector_target_keeps_the_loss_above_zero() -> None:
    """h = (1, 1), items (10, -10) and (-10, 10), mixed by feature to (10, 10): below zero without its own class."""
    hidden = torch.ones(1, 1, 2, requires_grad=True)
    table = torch.tensor([[0.0, 0.0], [10.0, -10.0], [-10.0, 10.0]])
    value = ICELoss(catalog=slice(1, 3))(hidden, table, torch.tensor([[[10.0, 10.0]]]))
    assert 0 <= value.item() < 1e-8
    value.backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_large_logits(scale: float) -> None:
    case = Case(torch.float32)
    hidden = (case.hidden * scale).requires_grad_()
    value = ICELoss(catalog=CATALOG)(hidden, case.table, case.ids)
    case.hidden = case.hidden * scale
    torch.testing.assert_close(value.double(), expected("ICE", case, "ids", "token"), rtol=1e-6, atol=0)
    value.backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


def test_perfect_prediction_is_not_below_zero() -> None:
    g = torch.Generator().manual_seed(3)
    for scale in (3.0, 10.0, 100.0):
        table = torch.randn(100, 16, generator=g)
        ids = torch.arange(1, 99)
        hidden = table[ids] * scale
        for reduction in ("token", "none"):
            assert (ICELoss(catalog=slice(1, 99), reduction=reduction)(hidden, table, ids) >= 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_gives_float32_and_is_close(name: str, dtype: torch.dtype) -> None:
    case = Case(dtype)
    loss = LOSSES[name]()
    hidden, table = case.hidden.requires_grad_(), case.table.requires_grad_()
    value = loss(hidden, table, case.ids, **case.extras(loss))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected(name, case, "ids", "token"), rtol=5e-3, atol=0)
    value.backward()
    assert hidden.grad is not None and hidden.grad.dtype == dtype
    assert table.grad is not None and table.grad.dtype == dtype


@pytest.mark.parametrize("name", LOSSES)
def test_autocast(name: str) -> None:
    case = Case(torch.float32)
    loss = LOSSES[name]()
    hidden, table = case.hidden.requires_grad_(), case.table.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(hidden.bfloat16(), table, case.ids, **case.extras(loss))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected(name, case, "ids", "token"), rtol=2e-2, atol=0)
    value.backward()
    assert table.grad is not None and table.grad.dtype == torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_inputs_are_left_alone_and_int32_will_do(name: str) -> None:
    case = Case()
    loss = LOSSES[name]()
    before = [x.clone() for x in (case.hidden, case.table, case.ids)]
    value = loss(case.hidden, case.table, case.ids, **case.extras(loss))
    for was, now in zip(before, (case.hidden, case.table, case.ids), strict=True):
        assert torch.equal(was, now)
    small = {key: x.int() for key, x in case.extras(loss).items()}
    assert torch.equal(loss(case.hidden, case.table, case.ids.int(), **small), value)


def test_negatives_in_every_form() -> None:
    case = Case()
    g = torch.Generator().manual_seed(2)
    per_row = torch.randint(1, ITEMS + 1, (ROWS, 3), generator=g)
    for make in (BCELoss, FocalLoss):
        loss = make()
        for ids in (per_row, per_row[0]):
            everywhere = ids[:, None].expand(ROWS, STEPS, 3) if ids.ndim == 2 else ids.expand(ROWS, STEPS, 3)
            want = loss(case.hidden, case.table, case.ids, negatives=everywhere)
            log_q = torch.zeros(ids.shape)
            for form in (ids, case.table[ids], (ids, log_q)):
                got = loss(case.hidden, case.table, case.ids, negatives=form)
                torch.testing.assert_close(got, want, rtol=1e-13, atol=0)
        vectors = loss(case.hidden, case.table, case.ids, negatives=case.table[case.negatives])
        torch.testing.assert_close(
            vectors, loss(case.hidden, case.table, case.ids, negatives=case.negatives), rtol=1e-13, atol=0
        )


@pytest.mark.parametrize("name", LOSSES)
def test_missing_and_superfluous_negatives(name: str) -> None:
    case = Case()
    loss = LOSSES[name]()
    extras = {} if loss.needs_negatives else {"negatives": case.negatives}
    with pytest.raises(ValueError, match="negatives"):
        loss(case.hidden, case.table, case.ids, **extras)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"target": torch.zeros(ROWS, STEPS + 1, dtype=torch.long)}, ValueError, "target"),
        ({"target": torch.zeros(ROWS, STEPS, dtype=torch.bool)}, TypeError, "target"),
        ({"target": torch.zeros(ROWS, STEPS, FEATURES + 1)}, ValueError, "target"),
        ({"target": [1, 2]}, TypeError, "target"),
        ({"hidden": torch.zeros(ROWS, STEPS, FEATURES + 1)}, ValueError, "features"),
        ({"hidden": torch.zeros(ROWS, STEPS, FEATURES, dtype=torch.long)}, TypeError, "hidden"),
        ({"hidden": torch.zeros(FEATURES)}, ValueError, "hidden"),
        ({"weight": torch.ones(ROWS + 1)}, ValueError, "weight"),
        ({"valid": torch.ones(ROWS, STEPS)}, ValueError, "valid"),
        ({"table": torch.zeros(ITEMS, FEATURES)}, ValueError, "catalog"),
    ],
)
def test_bad_arguments(change: dict[str, object], error: type[Exception], says: str) -> None:
    case = Case(torch.float32)
    arguments = {"hidden": case.hidden, "table": case.table, "target": case.ids, **change}
    with pytest.raises(error, match=says):
        ICELoss(catalog=CATALOG)(**arguments)


@pytest.mark.parametrize("shape", [(ROWS + 1, 3), (ROWS, STEPS + 1, 3), ()])
def test_bad_negatives(shape: tuple[int, ...]) -> None:
    case = Case()
    with pytest.raises(ValueError, match="negatives"):
        BCELoss()(case.hidden, case.table, case.ids, negatives=torch.ones(shape, dtype=torch.long))


def test_bad_settings() -> None:
    with pytest.raises(TypeError, match="catalog"):
        ICELoss()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="catalog"):
        ICELoss(catalog=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction"):
        BCELoss(reduction="mean")
    with pytest.raises(ValueError, match="denominator"):
        BCELoss(reduction="sum", denominator=3)
    with pytest.raises(ValueError, match="denominator"):
        BCELoss(denominator=0)
    with pytest.raises(ValueError, match="gamma"):
        FocalLoss(gamma=-1.0)
    with pytest.raises(ValueError, match="backend"):
        ICELoss(catalog=CATALOG, backend="fast")


def test_second_derivatives_are_refused() -> None:
    case = Case()
    hidden = case.hidden.requires_grad_()
    for reduction in ("token", "none"):
        value = ICELoss(catalog=CATALOG, reduction=reduction)(hidden, case.table, case.ids).sum()
        (first,) = torch.autograd.grad(value, hidden, create_graph=True)
        with pytest.raises(RuntimeError, match="second derivative"):
            first.square().sum().backward()


def test_uniform_scores_cost_log_of_the_catalog() -> None:
    loss = ICELoss(catalog=CATALOG)
    value = loss(torch.zeros(1, 1, FEATURES), torch.zeros(ITEMS + 2, FEATURES), torch.tensor([[5]]))
    assert value.item() == pytest.approx(math.log(ITEMS), rel=1e-6)


def test_packed_ce_counts_every_token() -> None:
    case = Case()
    states, ids = case.hidden[case.real], case.ids[case.real]
    one, other = CELoss(catalog=CATALOG), ICELoss(catalog=CATALOG)
    assert torch.equal(one(states, case.table, ids), other(states, case.table, ids))


def test_matches_torch_cross_entropy() -> None:
    case = Case()
    want = F.cross_entropy(
        (case.hidden @ case.table[CATALOG].T).flatten(0, 1), case.ids.flatten() - 1, ignore_index=-1
    )
    torch.testing.assert_close(ICELoss(catalog=CATALOG)(case.hidden, case.table, case.ids), want)


def test_sampled_negatives_feed_a_loss() -> None:
    case = Case()
    drawn = UniformNegatives(ITEMS, k=2).sample(case.ids, history=case.other)
    assert BCELoss()(case.hidden, case.table, case.ids, negatives=drawn).item() > 0


def test_errors_of_what_is_no_tensor() -> None:
    hidden, table, target = torch.zeros(2, 3, 4), torch.zeros(7, 4), torch.ones(2, 3, dtype=torch.long)
    loss = sa.ICELoss(catalog=slice(1, 6))
    with pytest.raises(TypeError, match="weight must be a tensor, .* got weight=0.5"):
        loss(hidden, table, target, weight=0.5)
    with pytest.raises(ValueError, match=r"target.lam.shape=\(2,\): one share per row is \(rows, 1\)"):
        loss(hidden, table, sa.SoftTarget(target, target, torch.rand(2)))
    with pytest.raises(TypeError, match="target.lam must be a tensor"):
        loss(hidden, table, sa.SoftTarget(target, target, 0.5))
    with pytest.raises(TypeError, match="target must be ids, .* got list"):
        sa.UniformNegatives(5).sample([[1]])
    with pytest.raises(ValueError, match="above 0 and finite"):
        sa.ICELoss(catalog=slice(1, 6), denominator=float("inf"))
    with pytest.raises(ValueError, match="gamma=inf"):
        sa.FocalLoss(gamma=float("inf"))
    with pytest.raises(TypeError, match="weights must be numbers"):
        sa.Policy([sa.Crop(0.1, 0.5)], weights="a")


def test_a_pair_of_negatives_may_come_as_a_list() -> None:
    hidden, table, target = torch.randn(2, 3, 4), torch.randn(7, 4), torch.ones(2, 3, dtype=torch.long)
    ids, log_q = sa.UniformNegatives(5, k=2).sample(target)
    loss = sa.SampledSoftmaxLoss()
    assert torch.equal(
        loss(hidden, table, target, negatives=[ids, log_q]),
        loss(hidden, table, target, negatives=(ids, log_q)),
    )


@pytest.mark.parametrize("alpha", [-0.5, 1.5])
def test_focal_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha}"):
        sa.FocalLoss(alpha=alpha)


@pytest.mark.parametrize(
    "loss", [sa.BCELoss(), sa.BPRLoss(), sa.FocalLoss(), sa.GBCELoss(num_items=9), sa.SampledSoftmaxLoss()]
)
@pytest.mark.parametrize("shape", [(0,), (2, 0), (2, 3, 0), (0, 4), (2, 3, 0, 4)])
def test_no_negatives_at_all_are_refused(loss: torch.nn.Module, shape: tuple[int, ...]) -> None:
    kind = torch.float32 if shape[-1] else torch.int64
    with pytest.raises(ValueError, match="at least one"):
        loss(
            torch.zeros(2, 3, 4),
            torch.zeros(11, 4),
            torch.ones(2, 3).long(),
            negatives=torch.zeros(shape, dtype=kind),
        )


def test_valid_is_a_tensor() -> None:
    with pytest.raises(TypeError, match="valid must be a bool tensor"):
        sa.ICELoss(catalog=slice(1, 10))(
            torch.zeros(1, 2, 4), torch.zeros(11, 4), torch.ones(1, 2).long(), valid=[[True, False]]
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("reduction", ["token", "none"])
def test_forward_mode_is_refused_but_by_the_backend_that_has_it(reduction: str) -> None:
    hidden, table = torch.randn(3, 4), torch.randn(22, 4)
    target, direction = torch.tensor([1, 7, 20]), torch.randn(3, 4)

    def derivative(backend: str) -> Tensor:
        loss = ICELoss(catalog=slice(1, 21), reduction=reduction, backend=backend)
        return torch.func.jvp(lambda x: loss(x, table, target).sum(), (hidden,), (direction,))[1]

    with pytest.raises(RuntimeError, match="no forward-mode derivative: use backend='naive'"):
        derivative("auto")
    logits = hidden @ table[1:21].t()
    share = logits.softmax(1) - F.one_hot(target - 1, 20)
    expected = (share * (direction @ table[1:21].t())).sum() / (3 if reduction == "token" else 1)
    torch.testing.assert_close(derivative("naive"), expected)


@pytest.mark.parametrize(
    "loss", [ICELoss(catalog=slice(1, 501)), SoftmaxFocalLoss(catalog=slice(1, 501))], ids=repr
)
def test_all_reductions_follow_autocast(loss: ICELoss | SoftmaxFocalLoss) -> None:
    hidden, table, target = torch.randn(64, 64) * 2, torch.randn(502, 64) * 2, torch.randint(1, 501, (64,))
    each = type(loss)(catalog=loss.catalog, reduction="none")
    plain = each(hidden, table, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(each(hidden, table, target).mean(), loss(hidden, table, target))
        assert not torch.equal(each(hidden, table, target), plain)
    rounded = each(hidden.bfloat16().float(), table.bfloat16().float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(each(hidden, table, target), rounded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["chunked", "flash", "naive"])
def test_logits_that_16_bits_do_not_hold(backend: str) -> None:
    hidden, table = (torch.randn(2, 64) * 60).half(), (torch.randn(22, 64) * 60).half()
    target = torch.tensor([1, 2])
    loss = ICELoss(catalog=slice(1, 21), backend=backend)
    expected = loss(hidden.double(), table.double(), target)
    torch.testing.assert_close(loss(hidden, table, target).double(), expected, rtol=1e-5, atol=0)


def test_half_of_a_soft_target_outside_the_catalog_is_refused_but_for_padding() -> None:
    hidden, table = torch.randn(1, 2, 4), torch.randn(7, 4)
    loss = ICELoss(catalog=slice(1, 6), ignore_index=-1)
    second, lam = torch.tensor([[2, 3]]), torch.tensor([[0.5]])
    with pytest.raises(ValueError, match="target must be rows 1..5 of the catalog"):
        loss(hidden, table, SoftTarget(torch.tensor([[0, 1]]), second, lam))
    with pytest.raises(ValueError, match="target must be rows 1..5 of the catalog"):
        loss(hidden, table, SoftTarget(second, torch.tensor([[0, 1]]), lam))
    padded = loss(hidden, table, SoftTarget(torch.tensor([[-1, 1]]), second, lam))
    assert padded.isfinite()


def test_shares_of_soft_targets_lie_between_0_and_1() -> None:
    hidden, table, ids = torch.randn(1, 2, 4), torch.randn(7, 4), torch.tensor([[2, 3]])
    loss = ICELoss(catalog=slice(1, 6))
    for wrong in (3.0, -0.1):
        with pytest.raises(ValueError, match=r"shares in \[0, 1\], got target.lam from"):
            loss(hidden, table, SoftTarget(ids, ids, torch.tensor([[wrong]])))
    assert loss(hidden, table, SoftTarget(ids, ids, torch.tensor([[torch.nan]]))).isnan()
