"""Mixing of packed rows: for every operator the draws and the vectors of the padded batch."""

from __future__ import annotations

import itertools

import pytest
import torch
from catalogue import EVERYTHING, LAYOUTS, Batch, Layout, V, batches, make_batch, seeds
from hypothesis import given
from torch import Tensor, nn

import seqaug as sa

OPTIONS = [
    {"future": future, "pad_mix": pad_mix}
    for future, pad_mix in itertools.product(("keep", "mix"), ("keep", "embedding"))
]


def packed(batch: Batch) -> tuple[sa.Packed, sa.Packed, Tensor]:
    """Items and times without padding, and where the padded batch has them."""
    real = batch.items != batch.layout.pad_id
    items = sa.pack(batch.items, pad_id=batch.layout.pad_id)
    return items, items.like(batch.timestamps[real]), real


def table(layout: Layout) -> nn.Embedding:
    """Vectors of all ids, that of padding among them, wherever its id is."""

    class Shifted(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids.long() + 1)

    torch.manual_seed(1)
    return Shifted(V + 3, 3)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", EVERYTHING)
@given(batch=batches(), seed=seeds)
def test_mixup_is_that_of_the_padded_batch(
    name: str, options: dict[str, str], batch: Batch, seed: int
) -> None:
    mixup = sa.MixupOp(EVERYTHING[name](batch.layout), alpha=0.4, weighting="row", **options)
    embedding = table(batch.layout)
    items, times, real = packed(batch)
    expected = mixup(
        batch.items,
        embedding,
        timestamps=batch.timestamps,
        generator=torch.Generator().manual_seed(seed),
    )
    found = mixup(items, embedding, timestamps=times, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(found.lam, expected.lam) and torch.equal(found.weight, expected.weight)
    assert torch.equal(found.edit.pad().source, expected.edit.source)
    assert isinstance(found.embeddings, sa.Packed)
    assert torch.equal(found.embeddings.values, expected.embeddings[real])


def test_some_values_are_mixed_and_some_are_not() -> None:
    """Otherwise the comparison above would show little."""
    items = sa.pack([[1, 2, 3, 4, 5, 6], [7], [], [8, 9]], length=8)
    mix = sa.MixupOp(sa.Crop(0.5, 0.5)).sample(items)
    assert mix.mixed.tolist() == [False] * 3 + [True] * 3 + [True] + [False, True]
    assert mix.place.tolist() == [-1, -1, -1, 0, 1, 2, 3, -1, 4]


def test_views_share_the_lam_of_the_padded_batch() -> None:
    batch = make_batch(Layout(), [0, 1, 2, 6, 4], 6)
    items, _, _ = packed(batch)
    mixup = sa.MixupOp(EVERYTHING["EachOnce"](Layout()))
    views = mixup.sample_views(batch.items, 3, generator=torch.Generator().manual_seed(2))
    found = mixup.sample_views(items, 3, generator=torch.Generator().manual_seed(2))
    for one, other in zip(views, found, strict=True):
        assert torch.equal(one.lam, other.lam) and torch.equal(one.edit.choice, other.edit.choice)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("over", ["position", "feature"])
@pytest.mark.parametrize("seed", range(5))
def test_cross_mixup_is_that_of_the_padded_batch(over: str, layout: Layout, seed: int) -> None:
    batch = make_batch(layout, [0, 1, 2, 7, 4, 7, 3], 7, seed)
    items, _, real = packed(batch)
    hidden = torch.randn(*batch.items.shape, 5, generator=torch.Generator().manual_seed(seed))
    rows = items.like(hidden[real])
    cross = sa.CrossMixup(0.4, over=over)
    pair = cross.sample(hidden, valid=real, generator=torch.Generator().manual_seed(seed))
    found = cross.sample(rows, side=layout.side, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(found.partner, pair.partner) and torch.equal(found.mixed, pair.mixed[real])
    assert 0 < int(found.mixed.sum()) < len(found.mixed)
    assert torch.equal(found(rows).values, pair(hidden)[real])
    assert torch.equal(found(rows.values), pair(hidden)[real])
    if over == "feature":
        with pytest.raises(TypeError, match="mix the target vectors"):
            found.targets(items)
        return
    expected, targets = pair.targets(batch.items), found.targets(items)
    assert torch.equal(targets.first, items.values)
    assert torch.equal(targets.second, expected.second[real])
    assert torch.equal(targets.lam, expected.lam[real])
    loss = sa.ICELoss(catalog=slice(1, V + 1), ignore_index=layout.pad_id)
    if layout.pad_id == 0:
        vectors = torch.randn(V + 2, 5)
        padded = loss(pair(hidden), vectors, expected)
        assert torch.allclose(loss(found(rows).values, vectors, targets), padded, atol=1e-6)


def test_nested_tensors_go_in_and_come_out() -> None:
    items, _, _ = packed(make_batch(Layout(), [0, 1, 2, 6, 4], 6))
    embedding, mixup = table(Layout()), sa.MixupOp(sa.Mask(0.5, 0.5, mask_id=V + 1))
    g = torch.Generator()
    found = mixup(items.nested(), embedding, generator=g.manual_seed(0))
    expected = mixup(items, embedding, generator=g.manual_seed(0))
    assert found.embeddings.is_nested
    assert torch.equal(found.embeddings.values(), expected.embeddings.values)
    for over in ("position", "feature"):
        cross = sa.CrossMixup(0.4, over=over)
        pair = cross(found.embeddings, generator=g.manual_seed(0))
        same = cross(expected.embeddings, generator=g.manual_seed(0))
        assert torch.equal(pair(found.embeddings).values(), same(expected.embeddings.values))


@pytest.mark.parametrize("over", ["position", "feature"])
def test_evaluation_mode_gives_the_rows_themselves(over: str) -> None:
    items = sa.pack([[1, 2, 3], [], [4], [], []], length=4)
    embedding = table(Layout())
    mixed = sa.MixupOp(sa.Crop(0.5, 0.5)).eval()(items, embedding)
    assert torch.equal(mixed.embeddings.values, embedding(items.values))
    assert mixed.weight.tolist() == [1.0] * 5 == mixed.lam.tolist()
    assert torch.equal(mixed.edit(items).values, items.values)
    pair = sa.CrossMixup(0.4, over=over).eval()(mixed.embeddings)
    assert torch.equal(pair(mixed.embeddings.values), mixed.embeddings.values)
    assert pair.partner.tolist() == list(range(5))


def test_gradients_flow_into_both() -> None:
    items = sa.pack([[1, 2, 3, 4], [5, 6]])
    mix = sa.MixupOp(sa.Mask(1.0, 1.0, mask_id=9)).sample(items)
    own, view = (torch.randn(6, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(mix, (own, view))
    mix(own, view).sum().backward()
    assert own.grad is not None and view.grad is not None
    assert torch.allclose(own.grad + view.grad, torch.ones(6, 2, dtype=torch.float64))


def test_errors() -> None:
    items = sa.pack([[1, 2, 3, 4], [5, 6]])
    mix = sa.MixupOp(sa.Mask(0.5, 0.5, mask_id=9)).sample(items)
    with pytest.raises(ValueError, match=r"\(6, features\) of the rows"):
        mix(torch.zeros(5, 2), torch.zeros(6, 2))
    cross = sa.CrossMixup(0.4)
    with pytest.raises(ValueError, match="values, features"):
        cross.sample(items)
    pair = cross.sample(items.like(torch.zeros(6, 2)))
    with pytest.raises(ValueError, match="6 values"):
        pair(torch.zeros(7, 2))
    with pytest.raises(ValueError, match="aligned with the rows"):
        pair.targets(torch.zeros(7, dtype=torch.int64))
    for call in (sa.CrossMixup().sample, sa.CrossMixup(), sa.CrossMixup().eval()):
        with pytest.raises(TypeError, match="valid="):
            call(items.like(torch.zeros(6, 2)), valid=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="side"):
        cross.sample(items.like(torch.zeros(6, 2)), side="middle")
