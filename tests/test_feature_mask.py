"""FeatureMask: how many features are dropped, that all are as likely, and the complementary pair."""

from __future__ import annotations

import copy
import pickle
from itertools import combinations
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import seqaug as sa

P = 1e-3
per = pytest.mark.parametrize("per", ["row", "slot"])


def sample(mask: sa.FeatureMask, vectors: torch.Tensor, seed: int = 0) -> sa.DroppedFeatures:
    return mask.sample(vectors, generator=torch.Generator().manual_seed(seed))


@per
@given(
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    fields=st.sampled_from([None, 1, 2, 3, 6]),
    seed=st.integers(0, 2**40),
)
def test_drops_the_promised_number_of_whole_fields(
    per: str, rates: list[float], fields: int | None, seed: int
) -> None:
    mask, vectors = sa.FeatureMask(*rates, fields=fields, per=per), torch.randn(5, 7, 6)
    view = sample(mask, vectors, seed)
    features = fields or 6
    out = view(vectors)
    for row in range(5):
        rate = view.rate[row]
        assert torch.tensor(rates[0]) <= rate <= torch.tensor(rates[1])
        count = min(max(1, floor(float(rate * features))), features - 1)
        for slot in range(7):
            lost = (out[row, slot] == 0).view(features, -1)
            assert bool((lost.all(1) == lost.any(1)).all()), "a field is dropped as a whole"
            assert int(lost.all(1).sum()) == count
    kept = out != 0
    assert torch.equal(out[kept], vectors[kept])
    if per == "row":
        assert bool((kept == kept[:, :1]).all())


@per
def test_every_set_of_features_is_as_likely(per: str) -> None:
    vectors = torch.ones(6000, 1, 5)
    out = sample(sa.FeatureMask(0.4, 0.4, per=per), vectors, seed=3)(vectors)[:, 0]
    sets = {pair: 0 for pair in combinations(range(5), 2)}
    for row in (out == 0).tolist():
        sets[tuple(i for i, gone in enumerate(row) if gone)] += 1  # type: ignore[index]
    assert stats.chisquare(list(sets.values())).pvalue > P


def test_slots_of_a_row_draw_their_own() -> None:
    vectors = torch.ones(1, 4000, 6)
    dropped = sample(sa.FeatureMask(0.5, 0.5, per="slot"), vectors).dropped[0]
    assert len(dropped.unique(dim=0)) == 20
    table = torch.zeros(2, 2)
    table.index_put_((dropped[:-1, 0].long(), dropped[1:, 0].long()), torch.ones(3999), accumulate=True)
    assert stats.chi2_contingency(table.numpy()).pvalue > P


@per
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_pair_is_complementary(per: str, dtype: torch.dtype) -> None:
    vectors = torch.randn(3, 5, 8).to(dtype)
    view = sample(sa.FeatureMask(0.2, 0.7, fields=4, per=per), vectors)
    one, other = view(vectors), view.complement(vectors)
    assert one.dtype == other.dtype == dtype
    assert torch.equal(one + other, vectors)
    assert bool((one == 0).any(2).all()) and bool((other == 0).any(2).all()), "both lose something"
    assert torch.equal(view.complement.complement.dropped, view.dropped)


def test_rescaled_vectors_keep_their_sum_on_average() -> None:
    vectors = torch.ones(2, 3, 8)
    view = sample(sa.FeatureMask(0.25, 0.25, rescale=True), vectors)
    assert view(vectors).sum(2).flatten().tolist() == pytest.approx([8.0] * 6)
    assert view.complement(vectors).sum(2).flatten().tolist() == pytest.approx([8.0] * 6)


def test_modes_generators_and_copies() -> None:
    mask, vectors = sa.FeatureMask(0.2, 0.7), torch.randn(4, 5, 16, requires_grad=True)
    before = torch.get_rng_state()
    first = mask(vectors, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, sample(mask, vectors, seed=1)(vectors))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, mask(vectors))
    first.sum().backward()
    assert vectors.grad is not None and torch.equal(vectors.grad, (first != 0).float())
    assert mask.eval()(vectors) is vectors and not mask.state_dict()
    for other in (pickle.loads(pickle.dumps(mask)), copy.deepcopy(mask), eval(repr(mask), vars(sa))):
        assert repr(other) == repr(mask) == "FeatureMask(0.2, 0.7)"
    full = sa.FeatureMask(0.1, 0.2, fields=3, per="slot", rescale=True)
    assert repr(eval(repr(full), vars(sa))) == repr(full)
    assert sample(mask, torch.ones(0, 5, 4))(torch.ones(0, 5, 4)).shape == (0, 5, 4)


@per
def test_one_graph_and_the_meta_device(per: str) -> None:
    mask, vectors = sa.FeatureMask(0.2, 0.7, per=per), torch.randn(4, 5, 6)

    def step(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        view = mask.sample(vectors)
        return view(vectors), view.complement(vectors)

    torch.manual_seed(0)
    expected = step(vectors)
    torch.manual_seed(0)
    found = torch.compile(step, fullgraph=True, backend="eager", dynamic=True)(vectors)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    torch.compile(step, fullgraph=True, backend="aot_eager")(vectors)
    assert mask(vectors.to("meta")).device.type == "meta"


def test_errors() -> None:
    with pytest.raises(ValueError, match="low=0.7, high=0.2"):
        sa.FeatureMask(0.7, 0.2)
    with pytest.raises(ValueError, match="per='item'"):
        sa.FeatureMask(0.2, 0.7, per="item")
    with pytest.raises(TypeError, match="vectors must be a tensor .*got list"):
        sa.FeatureMask(0.2, 0.7).sample([[[1.0]]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fields=0"):
        sa.FeatureMask(0.2, 0.7, fields=0)
    with pytest.raises(ValueError, match="fields=3 .* got 8"):
        sa.FeatureMask(0.2, 0.7, fields=3).sample(torch.ones(1, 2, 8))
    with pytest.raises(ValueError, match=r"vectors.shape=\(2, 8\)"):
        sa.FeatureMask(0.2, 0.7)(torch.ones(2, 8))
    view = sa.FeatureMask(0.2, 0.7).sample(torch.ones(1, 2, 8))
    with pytest.raises(ValueError, match=r"vectors.shape=\(1, 2, 6\)"):
        view(torch.ones(1, 2, 6))
