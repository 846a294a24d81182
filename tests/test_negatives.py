"""Samplers: exact rejection, the promised distribution, and log q that matches it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from seqaug._random import uniform_excluding
from seqaug.losses import SampledSoftmaxLoss
from seqaug.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from seqaug.soft_target import SoftTarget

ITEMS = 23
COUNTS = torch.tensor([99, *range(ITEMS)])  # id 1 never occurs
SAMPLERS = {
    "uniform": lambda **kw: UniformNegatives(ITEMS, **kw),
    "popularity": lambda **kw: PopularityNegatives(COUNTS, **kw),
}


@settings(deadline=None, max_examples=200)
@given(
    num_items=st.integers(1, 12),
    excluded=st.lists(st.integers(-3, 15), max_size=20),
    u=st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=1, max_size=30),
    small=st.booleans(),
)
def test_uniform_excluding_is_a_choice_from_what_is_left(
    num_items: int, excluded: list[int], u: list[float], small: bool
) -> None:
    dtype = torch.int32 if small else torch.int64
    ids, remaining = uniform_excluding(torch.tensor([u]), num_items, torch.tensor([excluded], dtype=dtype))
    left = [i for i in range(1, num_items + 1) if i not in excluded]
    assert remaining.item() == len(left) and ids.dtype == dtype
    choices = left or list(range(1, num_items + 1))
    draws = (torch.tensor(u) * len(choices)).long().clamp_max(len(choices) - 1).tolist()
    assert ids[0].tolist() == [choices[i] for i in draws]


def test_compiled_excluding_compares_pairs_and_draws_the_same() -> None:
    """Rows that exclude nothing, some ids repeatedly, ids outside the catalog, and the whole catalog."""
    excluded = torch.tensor([[0, 0, 0, 0, 0], [2, 4, 2, 0, 4], [-3, 9, 5, 1, 5], [5, 4, 3, 2, 1]])
    u = torch.rand(4, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    compiled = torch.compile(uniform_excluding, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(u, 5, excluded), uniform_excluding(u, 5, excluded), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("per", ["position", "row", "batch"])
def test_shapes_and_rejection(name: str, per: str) -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, ITEMS + 1, (4, 3), generator=g)
    history = torch.randint(0, ITEMS + 1, (4, 2), generator=g)
    ids, log_q = SAMPLERS[name](k=500, per=per).sample(target, history=history, generator=g)
    assert ids.shape == {"position": (4, 3, 500), "row": (4, 500), "batch": (500,)}[per]
    assert log_q.shape == ids.shape and log_q.dtype == torch.float32
    rows = [set(target[i].tolist()) | set(history[i].tolist()) for i in range(4)]
    rows = [set.union(*rows)] if per == "batch" else rows
    for row, known in zip(ids.reshape(len(rows), -1), rows, strict=True):
        assert not known & set(row.tolist())
        left = set(range(1 if name == "uniform" else 2, ITEMS + 1)) - known
        assert set(row.tolist()) <= left


def distribution(name: str, known: set[int]) -> Tensor:
    mass = torch.ones(ITEMS + 1).double() if name == "uniform" else COUNTS.double()
    mass[[0, *known]] = 0
    return mass / mass.sum()


@pytest.mark.parametrize("name", SAMPLERS)
def test_distribution_and_log_q(name: str) -> None:
    g = torch.Generator().manual_seed(1)
    target, history = torch.tensor([[5, 0, 5]]), torch.tensor([[7, 23, 7, 1, 0, 50]])
    ids, log_q = SAMPLERS[name](k=20_000).sample(target, history=history, generator=g)
    chance = distribution(name, {5, 7, 23, 1})
    torch.testing.assert_close(log_q.double().exp(), chance[ids], rtol=1e-5, atol=0)
    seen = torch.bincount(ids.flatten(), minlength=ITEMS + 1)
    assert (seen[chance == 0] == 0).all()
    expected = chance[chance > 0] * ids.numel()
    assert chisquare(seen[chance > 0].numpy(), expected.numpy()).pvalue > 1e-4


def test_popularity_at_the_edges_of_an_items_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest and the largest draw of every item that is left, with one item excluded in between."""
    sampler = PopularityNegatives(torch.tensor([0, 1, 1, 2]), k=6, per="row")
    share = [int(part) for part in sampler.below.diff()]
    for excluded in (1, 2, 3):
        left = [item for item in (1, 2, 3) if item != excluded]
        first, second = (share[item - 1] for item in left)
        edges = torch.tensor([[0, 1, first - 1, first, first + 1, first + second - 1]])
        monkeypatch.setattr("seqaug.negatives.integers", lambda *_, edges=edges: edges)
        ids, log_q = sampler.sample(torch.tensor([[excluded]]))
        assert ids.flatten().tolist() == [left[0]] * 3 + [left[1]] * 3
        wanted = [first / (first + second)] * 3 + [second / (first + second)] * 3
        torch.testing.assert_close(log_q.exp().flatten(), torch.tensor(wanted))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_that_has_everything_gets_anything(name: str) -> None:
    everything = torch.arange(ITEMS + 1)[None]
    ids, log_q = SAMPLERS[name](k=2_000).sample(torch.tensor([[1]]), history=everything)
    assert ids.min() >= 1 and ids.max() <= ITEMS
    chance = distribution(name, set())
    torch.testing.assert_close(log_q.double().exp(), chance[ids], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_item_left_is_always_drawn(name: str) -> None:
    history = torch.tensor([[i for i in range(ITEMS + 1) if i != 8]])
    ids, log_q = SAMPLERS[name](k=100).sample(torch.tensor([[3]]), history=history)
    assert (ids == 8).all() and (log_q == 0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_generators(name: str) -> None:
    target = torch.arange(12).reshape(3, 4)
    state = torch.random.get_rng_state()
    draws = [
        SAMPLERS[name](k=3).sample(target, history=target, generator=torch.Generator().manual_seed(6))
        for _ in range(2)
    ]
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_kinds_of_targets(name: str) -> None:
    target = torch.randint(1, ITEMS + 1, (2, 3))
    other = torch.randint(1, ITEMS + 1, (2, 3))
    ids, _ = SAMPLERS[name](k=300).sample(SoftTarget(target, other, torch.rand(2, 1)))
    for row in range(2):
        assert not set(ids[row].flatten().tolist()) & {*target[row].tolist(), *other[row].tolist()}
    assert SAMPLERS[name](k=5).sample(torch.rand(2, 3, 7), history=target)[0].shape == (2, 3, 5)
    assert SAMPLERS[name](k=5).sample(target[0], history=target[[0, 0, 1]])[0].shape == (3, 5)
    assert SAMPLERS[name](k=5).sample(target[:0], history=target[:0])[0].shape == (0, 3, 5)
    assert SAMPLERS[name](k=5).sample(target.int(), history=target.int())[0].dtype == torch.int64


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_values(name: str) -> None:
    sampler = SAMPLERS[name](k=2, per="row")
    target = torch.tensor([[1, 2]])
    for twin in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert repr(twin) == repr(sampler)
        draws = [s.sample(target, generator=torch.Generator().manual_seed(0))[0] for s in (sampler, twin)]
        assert torch.equal(*draws)


def test_power_flattens() -> None:
    counts = torch.tensor([0, 1, 16])
    target = torch.zeros(1, 1, dtype=torch.long)
    for power, chance in ((1.0, 16 / 17), (0.5, 4 / 5), (0.0, 1 / 2)):
        ids, log_q = PopularityNegatives(counts, k=4_000, power=power).sample(target)
        assert abs((ids == 2).float().mean() - chance) < 0.03
        assert log_q[ids == 2][0].exp().item() == pytest.approx(chance, rel=1e-6)


def test_in_batch_negatives() -> None:
    target = torch.tensor([[0, 4, 4], [9, 0, 2]])
    ids, log_q = InBatchNegatives().sample(target)
    assert sorted(ids.tolist()) == [2, 4, 4, 9]
    torch.testing.assert_close((4 * log_q.exp())[ids == 4], torch.tensor([2.0, 2.0]))
    counts = torch.tensor([7, 1, 1, 0, 6, 0, 0, 0, 0, 2])
    ids, log_q = InBatchNegatives(counts).sample(target)
    torch.testing.assert_close(log_q.exp(), counts[ids] / 10)
    ids, log_q = InBatchNegatives().sample(target, history=torch.tensor([[9, 0], [1, 3]]))
    assert ids.shape == (2, 4) and (log_q[0] == torch.inf).equal(torch.isin(ids[0], torch.tensor([4, 9])))
    assert (log_q[1] == torch.inf).equal(torch.isin(ids[1], torch.tensor([9, 2])))


def test_samplers_compile() -> None:
    target = torch.randint(1, ITEMS + 1, (2, 3))

    def both(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one, _ = UniformNegatives(ITEMS, k=4).sample(target, history=target)
        two, _ = popular.sample(target, history=target)
        three, _ = InBatchNegatives().sample(target)
        return one, two, three

    popular = PopularityNegatives(COUNTS, k=4)
    one, two, three = torch.compile(both, fullgraph=True)(target)
    for ids in (one, two):
        for row in range(2):
            assert not set(ids[row].flatten().tolist()) & set(target[row].tolist())
    assert three.shape == (6,)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: UniformNegatives(0), "num_items"),
        (lambda: UniformNegatives(5, k=0), "k must"),
        (lambda: UniformNegatives(5, per="token"), "per"),
        (lambda: PopularityNegatives(torch.zeros(5)), "counts"),
        (lambda: PopularityNegatives(torch.ones(1)), "counts"),
        (lambda: PopularityNegatives(torch.tensor([0.0, -1.0, 3.0])), "counts"),
        (lambda: PopularityNegatives(torch.ones(5), power=-1.0), "power"),
        (
            lambda: UniformNegatives(5).sample(torch.ones(2, 3).long(), history=torch.ones(3, 3).long()),
            "history",
        ),
        (lambda: UniformNegatives(5).sample(torch.ones(2, 3).long(), history=torch.ones(2, 3)), "history"),
        (lambda: InBatchNegatives(torch.ones(1)), "counts"),
    ],
)
def test_bad_arguments(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]


def test_vectors_are_no_in_batch_negatives() -> None:
    with pytest.raises(TypeError, match="ids"):
        InBatchNegatives().sample(torch.rand(2, 3, 4))


def test_in_batch_items_that_were_never_counted() -> None:
    """An item of the batch occurs; as seldom as the rarest that was counted."""
    counts = torch.tensor([0, 5, 0, 3, 3, 3])
    ids, log_q = InBatchNegatives(counts).sample(torch.tensor([[1, 2], [0, 3]]))
    assert ids.tolist() == [1, 2, 3] and (14 * log_q.exp()).round(decimals=4).tolist() == [5.0, 3.0, 3.0]
    with pytest.raises(ValueError, match="table of 6"):
        InBatchNegatives(counts).sample(torch.tensor([[1, 7]]))


@pytest.mark.parametrize("ignore_index", [0, -100])
def test_in_batch_negatives_of_a_batch_of_padding(ignore_index: int) -> None:
    target = torch.full((2, 3), ignore_index)
    hidden, table = torch.randn(2, 3, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    drawn = InBatchNegatives(ignore_index=ignore_index).sample(target)
    loss = SampledSoftmaxLoss(ignore_index=ignore_index)(hidden, table, target, negatives=drawn)
    loss.backward()
    assert loss == 0 and hidden.grad is not None and (hidden.grad == 0).all()


def test_extreme_counts_and_powers() -> None:
    for counts, power in (
        ([0, 2, 3, 4], 2000.0),
        ([0, 1e-300, 1e-300, 2e-300], 3000.0),
        ([0, 1, 2, 1e300], 2.0),
    ):
        ids, log_q = PopularityNegatives(torch.tensor(counts, dtype=torch.float64), k=64, power=power).sample(
            torch.tensor([[0]])
        )
        assert (ids == 3).all() and (log_q.abs() < 1e-6).all()
    for wrong in ([1, 2], torch.zeros(4), torch.tensor([0.0, torch.nan])):
        for make in (InBatchNegatives, PopularityNegatives):
            with pytest.raises((TypeError, ValueError), match="counts must"):
                make(wrong)  # type: ignore[operator]


@pytest.mark.parametrize("sampler", [UniformNegatives(20), InBatchNegatives()], ids=repr)
def test_targets_and_history_that_are_no_ids(sampler: UniformNegatives | InBatchNegatives) -> None:
    target = torch.tensor([[1, 2, 3]])
    with pytest.raises(TypeError, match="history must be a tensor of ids, got list"):
        sampler.sample(target, history=[[1]])
    with pytest.raises(TypeError, match="got target.dtype=torch.bool"):
        sampler.sample(target > 0)
    with pytest.raises(ValueError, match=r"got target.shape=\(1, 1, 3\)"):
        sampler.sample(target[None])
