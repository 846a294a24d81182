"""What every loss keeps: compiled in one process, on a device that cannot be asked, and under random shapes."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import seqaug as sa
import seqaug.losses
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
from seqaug.soft_target import SoftTarget

ITEMS, FEATURES = 29, 5
CATALOG = slice(1, ITEMS + 1)
MAKE = {
    "BCELoss": BCELoss,
    "BPRLoss": BPRLoss,
    "CELoss": lambda **kw: CELoss(catalog=CATALOG, **kw),
    "FocalLoss": FocalLoss,
    "GBCELoss": lambda **kw: GBCELoss(num_items=ITEMS, **kw),
    "ICELoss": lambda **kw: ICELoss(catalog=CATALOG, **kw),
    "InfoNCELoss": InfoNCELoss,
    "RECELoss": lambda **kw: RECELoss(catalog=CATALOG, chunks=3, **kw),
    "SCELoss": lambda **kw: SCELoss(
        catalog=CATALOG, buckets=4, tokens_per_bucket=5, items_per_bucket=7, **kw
    ),
    "SampledSoftmaxLoss": SampledSoftmaxLoss,
    "SoftmaxFocalLoss": lambda **kw: SoftmaxFocalLoss(catalog=CATALOG, **kw),
}
DRAWS = ("RECELoss", "SCELoss")
KINDS = ("ids", "soft", "vectors")


def kinds(name: str) -> tuple[str, ...]:
    return ("vectors",) if name == "InfoNCELoss" else KINDS


def arguments(
    loss: ItemLoss, kind: str, rows: int = 3, steps: int = 7, seed: int = 0, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor | SoftTarget, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, steps, FEATURES, generator=g).to(device)
    table = torch.randn(ITEMS + 2, FEATURES, generator=g).to(device)
    lengths = torch.randint(0, steps + 1, (rows, 1), generator=g)
    real = torch.arange(steps) >= steps - lengths
    ids = (torch.randint(1, ITEMS + 1, (rows, steps), generator=g) * real).to(device)
    other = (torch.randint(1, ITEMS + 1, (rows, steps), generator=g) * real).to(device)
    lam = torch.rand(rows, 1, generator=g).to(device)
    vectors = torch.randn(rows, steps, FEATURES, generator=g).to(device)
    extras: dict[str, Tensor] = {
        "valid": real.to(device),
        "weight": torch.rand(rows, steps, generator=g).to(device),
    }
    if loss.needs_negatives:
        extras["negatives"] = torch.randint(1, ITEMS + 1, (rows, steps, 4), generator=g).to(device)
    return hidden, table, {"ids": ids, "soft": SoftTarget(ids, other, lam), "vectors": vectors}[kind], extras


def test_the_table_above_has_every_loss() -> None:
    assert sorted([*MAKE, "ItemLoss"]) == sorted(seqaug.losses.__all__)


def test_one_signature_and_own_code() -> None:
    want = ["self", "hidden", "table", "target", "negatives", "weight", "valid"]
    classes = [getattr(seqaug.losses, name) for name in MAKE]
    for cls in classes:
        assert list(inspect.signature(cls.forward).parameters) == want
    assert len({cls.forward.__code__ for cls in classes}) == len(classes)


@pytest.mark.parametrize("name", MAKE)
def test_compiles_whole(name: str) -> None:
    loss = MAKE[name]()
    run = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for kind in kinds(name):
        hidden, table, target, extras = arguments(loss, kind)
        leaves = [hidden.requires_grad_(), table.requires_grad_()]
        torch.manual_seed(0)
        found = run(hidden, table, target, **extras)
        grads = torch.autograd.grad(found, leaves, allow_unused=True, materialize_grads=True)
        if name in DRAWS:  # a graph keeps padding, so its draws are others
            assert found.isfinite() and found >= 0
            continue
        want = loss(hidden, table, target, **extras)
        right = torch.autograd.grad(want, leaves, allow_unused=True, materialize_grads=True)
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
        for one, other in zip(grads, right, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_all_compile_in_one_process_with_the_default_compiler() -> None:
    torch._dynamo.reset()
    for name in ("ICELoss", "BCELoss", "SampledSoftmaxLoss", "RECELoss"):
        loss = MAKE[name]()
        hidden, table, target, extras = arguments(loss, "ids")
        found = torch.compile(loss, fullgraph=True)(hidden, table, target, **extras)
        assert found.isfinite()
        if name not in DRAWS:
            torch.testing.assert_close(found, loss(hidden, table, target, **extras), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", MAKE)
def test_nothing_asks_the_device(name: str, device: str) -> None:
    loss = MAKE[name]()
    for kind in kinds(name):
        for reduction in ("token", "row", "sum", "none"):
            with FakeTensorMode(allow_non_fake_inputs=False):
                g_loss = MAKE[name](reduction=reduction)
                hidden = torch.empty(3, 7, FEATURES, device=device, requires_grad=True)
                table = torch.empty(ITEMS + 2, FEATURES, device=device, requires_grad=True)
                ids = torch.empty(3, 7, dtype=torch.long, device=device)
                target: Tensor | SoftTarget = ids
                if kind == "soft":
                    target = SoftTarget(ids, ids, torch.empty(3, 1, device=device))
                if kind == "vectors":
                    target = torch.empty(3, 7, FEATURES, device=device)
                extras = {"valid": torch.empty(3, 7, dtype=torch.bool, device=device)}
                if loss.needs_negatives:
                    extras["negatives"] = torch.empty(3, 7, 4, dtype=torch.long, device=device)
                value = g_loss(hidden, table, target, **extras)
                assert value.shape == ((3, 7) if reduction == "none" else ())
                assert value.device.type == device
                value.sum().backward()
                assert hidden.grad is not None and hidden.grad.shape == hidden.shape


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from([name for name in MAKE if name != "InfoNCELoss"]),
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 4),
    steps=st.integers(1, 5),
    seed=st.integers(0, 999),
)
def test_never_negative_and_padding_is_free(name: str, kind: str, rows: int, steps: int, seed: int) -> None:
    loss = MAKE[name](reduction="none")
    hidden, table, target, extras = arguments(loss, kind, rows, steps, seed)
    torch.manual_seed(seed)
    value = loss(hidden, table, target, **extras)
    assert (value >= 0).all() and value.isfinite().all()
    assert (value[~extras["valid"]] == 0).all()
    # What stands at padding does not matter.
    hidden = torch.where(extras["valid"][..., None], hidden, 1e30)
    torch.manual_seed(seed)
    assert torch.equal(loss(hidden, table, target, **extras), value)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from([name for name in MAKE if name not in DRAWS]),
    kind=st.sampled_from(KINDS),
    reduction=st.sampled_from(["token", "row", "sum"]),
    seed=st.integers(0, 999),
)
def test_rows_in_any_order(name: str, kind: str, reduction: str, seed: int) -> None:
    kind = kind if kind in kinds(name) else "vectors"
    loss = MAKE[name](reduction=reduction)
    hidden, table, target, extras = arguments(loss, kind, seed=seed)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    moved = SoftTarget(*[x[order] for x in target]) if isinstance(target, SoftTarget) else target[order]
    value = loss(hidden, table, target, **extras)
    again = loss(hidden[order], table, moved, **{key: x[order] for key, x in extras.items()})
    torch.testing.assert_close(value, again, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from([name for name in MAKE if name not in (*DRAWS, "InfoNCELoss")]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 999),
)
def test_one_at_a_time_equals_the_batch(name: str, kind: str, seed: int) -> None:
    loss = MAKE[name](reduction="none")
    hidden, table, target, extras = arguments(loss, kind, seed=seed)
    whole = loss(hidden, table, target, **extras)
    for row in range(3):
        part = (
            SoftTarget(*[x[row : row + 1] for x in target])
            if isinstance(target, SoftTarget)
            else target[row, None]
        )
        alone = loss(hidden[row, None], table, part, **{key: x[row, None] for key, x in extras.items()})
        torch.testing.assert_close(alone[0], whole[row], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
def test_losses_are_plain_modules(name: str) -> None:
    loss = MAKE[name](reduction="row", denominator=3.0)
    assert not loss.state_dict() and not list(loss.parameters())
    assert "reduction='row'" in repr(loss) and repr(loss).startswith(name)
    hidden, table, target, extras = arguments(loss, kinds(name)[0])
    torch.manual_seed(0)
    value = loss(hidden, table, target, **extras)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), loss.double().eval()):
        torch.manual_seed(0)
        assert torch.equal(twin(hidden, table, target, **extras), value)
        assert repr(twin) == repr(loss)


def test_errors_of_arguments_say_how_to_mend_them() -> None:
    hidden, table, target, _ = arguments(MAKE["ICELoss"](), "ids")
    assert isinstance(target, Tensor)
    ice = seqaug.losses.ICELoss(catalog=slice(1, ITEMS + 1))
    with pytest.raises(TypeError, match="got Embedding: of an nn.Embedding pass embedding.weight"):
        ice(hidden, torch.nn.Embedding(3, 4), target)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="slice of consecutive table rows, got catalog=slice.1, 11, 2."):
        seqaug.losses.ICELoss(catalog=slice(1, 11, 2))


@pytest.mark.parametrize("name", sorted(set(MAKE) - {"InfoNCELoss"}))
@pytest.mark.parametrize("wrong", [ITEMS + 9, -1])
def test_ids_without_a_row_in_the_table(name: str, wrong: int) -> None:
    loss = MAKE[name]()
    hidden, table, target, extras = arguments(loss, "ids")
    assert isinstance(target, Tensor)
    message = f"must be rows of a table of {ITEMS + 2}, .*{wrong}.*check_batch"
    of_target = (
        f"target must be rows 1..{ITEMS} of the catalog.*{wrong}"
        if hasattr(loss, "catalog")
        else f"target {message}"
    )
    with pytest.raises(ValueError, match=of_target):
        loss(hidden, table, target.masked_fill(target > 0, wrong), **extras)
    if loss.needs_negatives:
        with pytest.raises(ValueError, match=f"negatives {message}"):
            loss(hidden, table, target, **extras | {"negatives": torch.full_like(extras["negatives"], wrong)})


@pytest.mark.parametrize("loss", [sa.ICELoss, sa.CELoss, sa.SoftmaxFocalLoss, sa.SCELoss, sa.RECELoss])
def test_targets_that_the_denominator_leaves_out(loss) -> None:  # type: ignore[no-untyped-def]
    """Their probability would be above 1."""
    hidden, table = torch.randn(1, 2, 4), torch.randn(9, 4)
    for wrong in ([[1, 6]], [[6, 0]], [[3, -100]], [[1, 500]]):
        with pytest.raises(ValueError, match=r"rows 1..5 of the catalog, or ignore_index=0.*"):
            loss(catalog=slice(1, 6))(hidden, table, torch.tensor(wrong))
    soft = sa.SoftTarget(torch.tensor([[1, 0]]), torch.tensor([[0, 5]]), torch.tensor(0.5))
    assert loss(catalog=slice(1, 6))(hidden, table, soft).isfinite()  # one half is padding
    with pytest.raises(ValueError, match="to 6"):
        soft = sa.SoftTarget(torch.tensor([[1, 0]]), torch.tensor([[0, 6]]), torch.tensor(0.5))
        loss(catalog=slice(1, 6))(hidden, table, soft)


def test_numbers_of_another_kind() -> None:
    hidden, table, target = torch.randn(1, 2, 4), torch.randn(9, 4), torch.tensor([[1, 2]])
    for wrong in (torch.tensor([True]), torch.tensor([1j])):
        with pytest.raises(TypeError, match="negatives.dtype"):
            sa.BCELoss()(hidden, table, target, negatives=wrong)
    with pytest.raises(TypeError, match="weight.dtype=torch.complex64"):
        sa.ICELoss(catalog=slice(1, 9))(hidden, table, target, weight=torch.tensor([1j]))
    with pytest.raises(TypeError, match="lam.dtype=torch.bool"):
        sa.ICELoss(catalog=slice(1, 9))(hidden, table, sa.SoftTarget(target, target, torch.tensor([True])))
