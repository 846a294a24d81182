"""Losses that draw: sampled and in-batch softmax, SCE, RECE; and InfoNCE."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqaug.losses import (
    BCELoss,
    BPRLoss,
    CELoss,
    FocalLoss,
    GBCELoss,
    ICELoss,
    InfoNCELoss,
    RECELoss,
    SampledSoftmaxLoss,
    SCELoss,
    SoftmaxFocalLoss,
)
from seqaug.losses._base import ItemLoss
from seqaug.negatives import InBatchNegatives, UniformNegatives
from seqaug.soft_target import SoftTarget

ITEMS, FEATURES = 61, 5
CATALOG = slice(1, ITEMS + 1)


def batch(rows: int = 6, steps: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, steps, FEATURES, generator=g, dtype=torch.float64)
    table = torch.randn(ITEMS + 2, FEATURES, generator=g, dtype=torch.float64)
    ids = torch.randint(1, ITEMS + 1, (rows, steps), generator=g)
    ids[0, :3] = 0
    return hidden, table, ids


def test_log_q_corrects_the_negatives() -> None:
    hidden, table, ids = batch()
    g = torch.Generator().manual_seed(1)
    negatives = torch.randint(1, ITEMS + 1, (6, 4, 3), generator=g)
    log_q = torch.rand(6, 4, 3, generator=g).log()
    got = SampledSoftmaxLoss(reduction="none")(hidden, table, ids, negatives=(negatives, log_q))
    score = (hidden * table[ids]).sum(-1)
    against = torch.einsum("bld,blkd->blk", hidden, table[negatives]) - math.log(3) - log_q.double()
    against = torch.where(negatives == ids[..., None], -torch.inf, against)
    want = torch.cat([score[..., None], against], -1).logsumexp(-1) - score
    torch.testing.assert_close(got, torch.where(ids > 0, want, 0.0))


def test_log_q_makes_the_sampled_denominator_unbiased() -> None:
    """k draws with -log(k q) sum to the whole denominator in expectation, whatever the sampler prefers."""
    hidden, table, _ = batch(rows=1, steps=1)
    g = torch.Generator().manual_seed(4)
    chance = torch.rand(ITEMS, generator=g, dtype=torch.float64).softmax(0)
    drawn = torch.multinomial(chance, 200_000, replacement=True, generator=g)
    scores = (table[drawn + 1] @ hidden[0, 0]) - chance[drawn].log() - math.log(200_000)
    whole = (table[CATALOG] @ hidden[0, 0]).logsumexp(0)
    assert abs(scores.logsumexp(0) - whole) < 0.02
    target = torch.tensor([[ITEMS]])
    value = SampledSoftmaxLoss()(hidden, table, target, negatives=(drawn + 1, chance[drawn].log()))
    assert abs(value - ICELoss(catalog=CATALOG)(hidden, table, target)) < 0.02


@pytest.mark.parametrize("shape", [(2,), (6, 2), (6, 4, 2)])
def test_every_hit_masked_is_no_loss(shape: tuple[int, ...]) -> None:
    hidden, table, ids = batch()
    ids = torch.full_like(ids, 7)
    hidden.requires_grad_()
    value = SampledSoftmaxLoss()(hidden, table, ids, negatives=torch.full(shape, 7))
    assert value.item() == 0.0
    value.backward()
    assert hidden.grad is not None and (hidden.grad == 0).all()


def test_in_batch_softmax_is_the_softmax_over_the_batchs_items() -> None:
    hidden, table, ids = batch()
    ids[1] = 9  # the same item often: counts once
    got = SampledSoftmaxLoss(reduction="none")(hidden, table, ids, negatives=InBatchNegatives().sample(ids))
    distinct = ids.unique()[1:]
    logits = hidden @ table[distinct].T
    want = logits.logsumexp(-1) - (hidden * table[ids]).sum(-1)
    torch.testing.assert_close(got, torch.where(ids > 0, want, 0.0), rtol=1e-6, atol=1e-6)


def test_in_batch_negatives_leave_out_the_history() -> None:
    hidden, table, ids = batch()
    history = torch.randint(1, ITEMS + 1, (6, 9), generator=torch.Generator().manual_seed(2))
    negatives = InBatchNegatives().sample(ids, history=history)
    got = SampledSoftmaxLoss(reduction="none")(hidden, table, ids, negatives=negatives)
    for row in range(6):
        known = set(history[row].tolist()) | set(ids[row].tolist())
        left = torch.tensor([i for i in ids.unique().tolist() if i and i not in known])
        for step in range(4):
            if not ids[row, step]:
                continue
            score = hidden[row, step] @ table[ids[row, step]]
            want = torch.cat([score[None], table[left] @ hidden[row, step]]).logsumexp(0) - score
            torch.testing.assert_close(got[row, step], want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["ids", "soft", "vectors"])
def test_sce_and_rece_that_see_everything_are_ice(kind: str) -> None:
    hidden, table, ids = batch()
    hidden.requires_grad_()
    table.requires_grad_()
    other = torch.where(ids > 0, ids.flip(1).clamp_min(1), 0)
    target = {
        "ids": ids,
        "soft": SoftTarget(ids, other, torch.full((6, 1), 0.3, dtype=torch.float64)),
        "vectors": torch.randn(6, 4, FEATURES, dtype=torch.float64),
    }[kind]
    for reduction in ("token", "row", "sum", "none"):
        exact = ICELoss(catalog=CATALOG, reduction=reduction)(hidden, table, target)
        right = torch.autograd.grad(exact.sum(), (hidden, table))
        for loss in (
            SCELoss(
                catalog=CATALOG, buckets=3, tokens_per_bucket=99, items_per_bucket=99, reduction=reduction
            ),
            RECELoss(catalog=CATALOG, chunks=1, rounds=1, reduction=reduction),
            RECELoss(catalog=CATALOG, chunks=1, rounds=3, reduction=reduction),
            RECELoss(catalog=CATALOG, chunks=5, neighbours=2, rounds=2, reduction=reduction),
        ):
            value = loss(hidden, table, target)
            torch.testing.assert_close(value, exact, rtol=1e-11, atol=1e-11)
            if not isinstance(
                loss, SCELoss
            ):  # equal buckets share a maximum's gradient, which sums to the same
                found = torch.autograd.grad(value.sum(), (hidden, table))
                for one, two in zip(found, right, strict=True):
                    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


SMALL: list[ItemLoss] = [
    SCELoss(catalog=CATALOG, items_per_bucket=8, reduction="none"),
    SCELoss(catalog=CATALOG, items_per_bucket=8, mix=False, reduction="none"),
    RECELoss(catalog=CATALOG, reduction="none"),
    RECELoss(catalog=CATALOG, rounds=3, neighbours=0, reduction="none"),
    RECELoss(catalog=CATALOG, chunks=7, rounds=2, reduction="none"),
]


@pytest.mark.parametrize("loss", SMALL, ids=repr)
def test_part_of_the_catalog_bounds_the_loss_from_below(loss: ItemLoss) -> None:
    hidden, table, ids = batch(rows=13)
    exact = ICELoss(catalog=CATALOG, reduction="none")(hidden, table, ids)
    for seed in range(5):
        torch.manual_seed(seed)
        value = loss(hidden, table, ids)
        assert (value >= 0).all() and (value[ids == 0] == 0).all()
        assert (value <= exact + 1e-12).all()
        assert value.sum() > 0.3 * exact.sum()  # near items carry most of the denominator
        torch.manual_seed(seed)
        assert torch.equal(loss(hidden, table, ids), value)


@pytest.mark.parametrize("loss", SMALL, ids=repr)
def test_gradcheck_of_what_was_drawn(loss: ItemLoss) -> None:
    hidden, table, ids = batch(rows=3, steps=2)

    def run(hidden: Tensor, table: Tensor) -> Tensor:
        torch.manual_seed(0)
        return loss(hidden, table, ids)

    # The draws do not move with the small steps of the check.
    assert torch.autograd.gradcheck(
        run, (hidden.requires_grad_(), table.requires_grad_()), eps=1e-7, atol=1e-5, fast_mode=True
    )


@pytest.mark.parametrize("loss", SMALL, ids=repr)
def test_nothing_real(loss: ItemLoss) -> None:
    for rows in (0, 6):
        hidden, table, ids = batch()
        hidden, table = hidden[:rows].clone().requires_grad_(), table.requires_grad_()
        value = loss(hidden, table, ids[:rows] * 0)
        assert (value == 0).all()
        value.sum().backward()
        assert hidden.grad is not None and (hidden.grad == 0).all()
        assert table.grad is not None and (table.grad == 0).all(), "DDP waits for it"


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_info_nce_is_the_formula(temperature: float) -> None:
    g = torch.Generator().manual_seed(0)
    one, two = (
        torch.randn(7, FEATURES, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    valid = torch.tensor([True, True, False, True, True, True, True])
    got = InfoNCELoss(temperature=temperature, reduction="none")(one, None, two, valid=valid)
    for row in range(7):
        if not valid[row]:
            assert got[row] == 0
            continue
        both = [(view, other) for view in (0, 1) for other in range(7) if valid[other]]
        values = []
        for view in (0, 1):
            anchor = (one, two)[view][row]
            others = torch.stack([(one, two)[v][o] for v, o in both if (v, o) != (view, row)])
            match = anchor @ (two, one)[view][row] / temperature
            values.append((others @ anchor / temperature).logsumexp(0) - match)
        torch.testing.assert_close(got[row], (values[0] + values[1]) / 2)
    run = InfoNCELoss(temperature=temperature)
    assert torch.autograd.gradcheck(lambda a, b: run(a, None, b, valid=valid), (one, two))
    mean = run(one, None, two, valid=valid)
    torch.testing.assert_close(mean, got.sum() / 6)


def test_info_nce_counts_two_rows_minus_two_negatives() -> None:
    value = InfoNCELoss()(torch.zeros(4, 3), None, torch.zeros(4, 3))
    assert value.exp().item() == pytest.approx(7)  # the positive and 2 * 4 - 2 negatives
    nothing = InfoNCELoss()(
        torch.zeros(4, 3), None, torch.zeros(4, 3), valid=torch.zeros(4, dtype=torch.bool)
    )
    assert nothing.item() == 0
    alone = InfoNCELoss()(torch.randn(1, 3), None, torch.randn(1, 3))
    assert alone.item() == 0


def test_large_views_do_not_overflow() -> None:
    one = (1e4 * torch.randn(5, 3)).requires_grad_()
    value = InfoNCELoss()(one, None, torch.randn(5, 3) * 1e4)
    value.backward()
    assert value.isfinite() and one.grad is not None and one.grad.isfinite().all()


def test_softmax_focal_without_focus_is_ice_and_gbce_without_calibration_is_bce() -> None:
    hidden, table, ids = batch()
    plain = ICELoss(catalog=CATALOG)(hidden, table, ids)
    torch.testing.assert_close(SoftmaxFocalLoss(catalog=CATALOG, gamma=0.0)(hidden, table, ids), plain)
    assert SoftmaxFocalLoss(catalog=CATALOG, gamma=2.0)(hidden, table, ids) < plain
    assert CELoss(catalog=CATALOG).needs_negatives is False and GBCELoss(num_items=5).needs_negatives is True
    negatives = UniformNegatives(ITEMS, k=ITEMS - 1).sample(ids)
    whole = GBCELoss(num_items=ITEMS, t=0.9)(hidden, table, ids, negatives=negatives)  # a = 1: beta = 1
    bare = GBCELoss(num_items=ITEMS, t=0.0)(hidden, table, ids, negatives=negatives)
    torch.testing.assert_close(whole, bare)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: GBCELoss(num_items=1), ValueError, "num_items"),
        (lambda: GBCELoss(num_items=5, t=1.5), ValueError, "t must"),
        (lambda: SCELoss(catalog=CATALOG, buckets=0), ValueError, "buckets"),
        (lambda: SCELoss(catalog=5), TypeError, "catalog"),
        (lambda: RECELoss(catalog=CATALOG, rounds=0), ValueError, "rounds"),
        (lambda: RECELoss(catalog=CATALOG, neighbours=-1), ValueError, "neighbours"),
        (lambda: InfoNCELoss(temperature=0.0), ValueError, "temperature"),
        (
            lambda: InfoNCELoss()(torch.zeros(2, 3), None, torch.zeros(2, dtype=torch.long)),
            TypeError,
            "views",
        ),
        (lambda: SoftmaxFocalLoss(catalog=CATALOG, gamma="2"), TypeError, "gamma"),
    ],
)
def test_bad_settings(make: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("loss", "values", "target_counts"),
    [
        (BCELoss(), lambda s, k: F.softplus(s).sum(), lambda s, k: F.softplus(-s)),
        (FocalLoss(), lambda s, k: 0.75 * (s.sigmoid() ** 2 * F.softplus(s)).sum(),
         lambda s, k: 0.25 * ((-s).sigmoid() ** 2 * F.softplus(-s))),
        (GBCELoss(num_items=20), lambda s, k: F.softplus(s).sum() / (k + 1),
         lambda s, k: (1 - 0.75 * (1 - k / 19)) * F.softplus(-s) / (k + 1)),
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
@pytest.mark.parametrize("history", [False, True])
def test_what_a_sampler_leaves_out_is_no_negative(
    loss: ItemLoss, values: Callable[..., Tensor], target_counts: Callable[..., Tensor], history: bool
) -> None:
    hidden, table, target = torch.randn(2, 3, 4), torch.randn(22, 4), torch.tensor([[0, 0, 5], [0, 3, 7]])

    def call(hidden: Tensor) -> Tensor:
        negatives = InBatchNegatives().sample(target, history=target if history else None)
        return loss(hidden, table, target, negatives=negatives)

    expected = []
    for row, slot in ((0, 2), (1, 1), (1, 2)):
        own = set(target[row].tolist())
        others = [item for item in (5, 3, 7) if not history or item not in own]
        scores = table[others] @ hidden[row, slot]
        score = table[target[row, slot]] @ hidden[row, slot]
        expected.append(values(scores, len(others)) + target_counts(score, len(others)))
    torch.testing.assert_close(call(hidden), torch.stack(expected).mean())
    torch._dynamo.reset()  # compiled, padding cannot be left out before
    torch.testing.assert_close(torch.compile(call, fullgraph=True, backend="eager")(hidden), call(hidden))


def test_bpr_is_the_mean_over_the_negatives_that_count() -> None:
    hidden, table, target = torch.randn(1, 1, 4), torch.randn(9, 4), torch.tensor([[1]])
    ids, log_q = torch.tensor([2, 3, 0]), torch.tensor([0.0, 0.0, torch.inf])
    table[0] = torch.nan  # of padding
    loss = BPRLoss()
    found = loss(hidden.requires_grad_(), table, target, negatives=(ids, log_q))
    torch.testing.assert_close(found, loss(hidden, table, target, negatives=ids[:2]))
    assert torch.autograd.grad(found, hidden)[0].isfinite().all()
    assert loss(hidden, table, target, negatives=(ids, torch.full((3,), torch.inf))) == 0


@pytest.mark.parametrize("log_q", [torch.ones(3, dtype=torch.int64), 0.5])
def test_two_sets_of_ids_are_no_pair_of_a_sampler(log_q: object) -> None:
    with pytest.raises(TypeError, match=r"must be the \(ids, log_q\) of a sampler.*torch.cat"):
        SampledSoftmaxLoss()(
            torch.randn(1, 1, 4),
            torch.randn(9, 4),
            torch.tensor([[1]]),
            negatives=(torch.tensor([1, 2, 3]), log_q),
        )
