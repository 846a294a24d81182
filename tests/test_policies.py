"""Policies: which operator a row gets, how often, and what a policy of policies does."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
import torch
from catalogue import LAYOUTS, OPERATORS, Batch, Layout, batches, make_batch, members, same, sample, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import seqaug as sa
from seqaug.edit import identity

P = 1e-3
names = st.lists(st.sampled_from(list(OPERATORS)), min_size=1, max_size=4)


def marked(*rates: float) -> list[sa.Augmentation]:
    """Operators that can be told apart by the rate of the edit."""
    return [sa.Crop(rate, rate) for rate in rates]


def shares(values: Tensor, weights: dict[float, float]) -> bool:
    """Chi-square test of how often each value occurs; a value that is not listed, or with weight 0, fails."""
    counted = Counter(round(value, 4) for value in values.tolist())
    positive = {value: weight for value, weight in weights.items() if weight > 0}
    assert set(counted) <= set(positive)
    if len(positive) == 1:
        return True
    total = sum(positive.values())
    expected = [len(values) * weight / total for weight in positive.values()]
    return bool(stats.chisquare([counted[value] for value in positive], expected).pvalue > P)


def assert_rows(edit: sa.Edit, rows: Tensor, expected: sa.Edit) -> None:
    for field in ("source", "replaced", "rate"):
        assert torch.equal(getattr(edit, field)[rows], getattr(expected, field)[rows])


@given(batch=batches(), chosen=names, seed=seeds)
def test_policy_gives_each_row_one_operator(batch: Batch, chosen: list[str], seed: int) -> None:
    policy = sa.Policy(members(batch.layout, *chosen))
    edit = sample(policy, batch, seed)
    noise = policy.draw(batch.items, torch.Generator().manual_seed(seed))
    assert edit.choice is not None and edit.choice.dtype == torch.int64
    assert edit.choice.shape == (len(batch.lengths),)
    assert bool(((edit.choice >= 0) & (edit.choice < len(chosen))).all())
    for number, member in enumerate(policy.members):
        own = member.plan(batch.items, noise.members[number], batch.timestamps)  # type: ignore[operator]
        assert_rows(edit, edit.choice == number, own)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, [1, 1, 1, 1]),
        ([2, 2, 2, 2], [1, 1, 1, 1]),
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([0, 1, 0, 3], [0, 1, 0, 3]),
        ([5, 0, 0, 0], [5, 0, 0, 0]),
        ([0, 0, 0, 1e-9], [0, 0, 0, 1]),
        ([1e-3, 1e3, 0, 1e3], [1e-6, 1, 0, 1]),
    ],
)
def test_operators_are_drawn_by_weight(weights: list[float] | None, expected: list[float]) -> None:
    batch = make_batch(Layout(), [3] * 20_000, 4)
    policy = sa.Policy(marked(0.2, 0.4, 0.6, 0.8), weights=weights)
    edit = sample(policy, batch, seed=3)
    assert edit.choice is not None
    if min(weight for weight in expected if weight) > 1e-4:
        assert shares(edit.rate, dict(zip((0.2, 0.4, 0.6, 0.8), expected, strict=True)))
    else:
        assert set(edit.choice.tolist()) <= {0, 1, 3}
    assert torch.allclose(edit.rate, 0.2 * (1 + edit.choice))


def test_choice_is_independent_of_the_rest_of_the_draw() -> None:
    batch = make_batch(Layout(), [12] * 20_000, 12)
    policy = sa.Policy([sa.Crop(0, 1), sa.Crop(0, 1), sa.Crop(0, 1)])
    edit = sample(policy, batch, seed=6)
    assert edit.choice is not None
    end = edit.source.max(1).values  # where the window ends, which the start decides
    for value, bins in ((edit.rate, 8), (end / 12, 12)):
        table = torch.zeros(3, bins)
        table.index_put_((edit.choice, (value * bins).long()), torch.ones(20_000), accumulate=True)
        assert stats.chi2_contingency(table.numpy()).pvalue > P
    table = torch.zeros(3, 3)
    table.index_put_((edit.choice[:-1], edit.choice[1:]), torch.ones(19_999), accumulate=True)
    assert stats.chi2_contingency(table.numpy()).pvalue > P


def test_policies_nest() -> None:
    batch = make_batch(Layout(), [5] * 20_000, 6)
    policy = sa.Policy(
        [
            sa.Policy(marked(0.1, 0.2), weights=[1, 3]),
            sa.Maybe(sa.Policy(marked(0.3, 0.4)), p=0.5),
            sa.SomeOf(1, marked(0.5, 0.6)),
        ]
    )
    edit = sample(policy, batch, seed=2)
    expected = {0.1: 2, 0.2: 6, 0.3: 2, 0.4: 2, 1.0: 4, 0.5: 4, 0.6: 4}
    assert shares(edit.rate, expected)
    assert edit.choice is not None
    outer = {0.1: 0, 0.2: 0, 0.3: 1, 0.4: 1, 1.0: 1, 0.5: 2, 0.6: 2}
    for rate, number in zip(edit.rate.tolist(), edit.choice.tolist(), strict=True):
        assert outer[round(rate, 4)] == number, "choice is that of the outermost policy"


def test_plain_operators_share_one_draw() -> None:
    """So that a policy of four costs no more noise than a policy of two."""
    items = torch.ones(6, 9, dtype=torch.int64)
    states = []
    for rates in ((0.1, 0.2), (0.1, 0.2, 0.3, 0.4)):
        generator = torch.Generator().manual_seed(0)
        sa.Policy(marked(*rates)).sample(items, generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@given(batch=batches(), chosen=names, p=st.floats(0, 1), seed=seeds)
def test_compose_is_one_after_the_other(batch: Batch, chosen: list[str], p: float, seed: int) -> None:
    operators: list[sa.Augmentation] = members(batch.layout, *chosen)
    operators[-1] = sa.Maybe(operators[-1], p=p)
    compose = sa.Compose(operators)
    edit = sample(compose, batch, seed)
    noise = compose.draw(batch.items, torch.Generator().manual_seed(seed))
    items, times, whole, rates = batch.items, batch.timestamps, identity(batch.items, batch.layout.pad_id), []
    for operator, own in zip(operators, noise, strict=True):
        step = operator.plan(items, own, times)
        items, times = step(items), step.align(times)
        whole = whole.then(step)
        rates.append(step.rate)
    assert torch.equal(edit(batch.items), items)
    assert torch.equal(edit.align(batch.timestamps), times)
    assert torch.equal(edit.source, whole.source) and torch.equal(edit.replaced, whole.replaced)
    for row in range(len(batch.lengths)):
        mean = sum(float(rate[row]) for rate in rates) / len(rates)
        assert float(edit.rate[row]) == pytest.approx(mean, abs=1e-6)
    assert edit.choice is None


def test_members_of_compose_draw_independently() -> None:
    batch = make_batch(Layout(), [4] * 10_000, 5)
    compose = sa.Compose([sa.Crop(0, 1), sa.Crop(0, 1)])
    first, second = compose.draw(batch.items, torch.Generator().manual_seed(1))
    table = torch.zeros(6, 6)
    table.index_put_(((first.rate * 6).long(), (second.rate * 6).long()), torch.ones(10_000), accumulate=True)
    assert stats.chi2_contingency(table.numpy()).pvalue > P
    assert not torch.equal(first.order, second.order)


@given(batch=batches(), p=st.sampled_from([0.0, 0.3, 1.0]), name=st.sampled_from(list(OPERATORS)), seed=seeds)
def test_maybe_leaves_rows_alone(batch: Batch, p: float, name: str, seed: int) -> None:
    maybe = sa.Maybe(OPERATORS[name](0.2, 0.7, batch.layout), p=p)
    edit = sample(maybe, batch, seed)
    noise = maybe.draw(batch.items, torch.Generator().manual_seed(seed))
    assert edit.choice is not None and set(edit.choice.tolist()) <= {-1, 0}
    touched = edit.choice == 0
    assert_rows(edit, ~touched, identity(batch.items, batch.layout.pad_id))
    assert_rows(edit, touched, maybe.members[0].plan(batch.items, noise.members[0], batch.timestamps))  # type: ignore[operator]
    assert bool((edit.rate[~touched] == 1).all())
    assert p == 0.3 or bool((touched == (p == 1.0)).all())


def test_maybe_takes_a_share_of_p() -> None:
    batch = make_batch(Layout(), [4] * 20_000, 5)
    edit = sample(sa.Maybe(sa.Crop(0.5, 0.5), p=0.3), batch, seed=4)
    assert shares(edit.rate, {0.5: 3, 1.0: 7})


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_some_of_draws_every_subset_as_often(count: int) -> None:
    batch = make_batch(Layout(), [5] * 12_000, 6)
    rates = (0.1, 0.2, 0.4, 0.8)
    edit = sample(sa.SomeOf(count, marked(*rates)), batch, seed=9)
    assert shares(edit.rate * count, {round(sum(some), 4): 1 for some in combinations(rates, count)})
    assert edit.choice is None


@given(
    batch=batches(),
    chosen=st.lists(st.sampled_from([n for n in OPERATORS if n != "RepeatPad"]), min_size=1, max_size=4),
    data=st.data(),
    seed=seeds,
)
def test_some_of_applies_in_listed_order(
    batch: Batch, chosen: list[str], data: st.DataObject, seed: int
) -> None:
    count = data.draw(st.integers(1, len(chosen)))
    rates = (0.1, 0.2, 0.4, 0.8)[: len(chosen)]
    operators = [OPERATORS[name](rate, rate, batch.layout) for name, rate in zip(chosen, rates, strict=True)]
    some = sa.SomeOf(count, operators)
    edit = sample(some, batch, seed)
    noise = some.draw(batch.items, torch.Generator().manual_seed(seed))
    subsets = {
        round(sum(rates[i] for i in subset), 4): subset for subset in combinations(range(len(rates)), count)
    }
    out, times = edit(batch.items), edit.align(batch.timestamps)
    for row in range(len(batch.lengths)):
        items, stamps = batch.items, batch.timestamps
        for number in subsets[round(float(edit.rate[row]) * count, 4)]:
            step = operators[number].plan(items, noise.members[number], stamps)
            items, stamps = step(items), step.align(stamps)
        assert torch.equal(out[row], items[row])
        assert torch.equal(times[row], stamps[row])


@given(batch=batches(), threshold=st.integers(0, 14), seed=seeds)
def test_length_policy_looks_at_the_length(batch: Batch, threshold: int, seed: int) -> None:
    short, long = members(batch.layout, "Insert", "TimeCrop")
    policy = sa.LengthPolicy(threshold=threshold, short=short, long=long)
    edit = sample(policy, batch, seed)
    assert edit.choice is not None
    assert edit.choice.tolist() == [int(length > threshold) for length in batch.lengths]
    noise = policy.draw(batch.items, torch.Generator().manual_seed(seed))
    for number, member in enumerate((short, long)):
        assert_rows(edit, edit.choice == number, member.plan(batch.items, noise[number], batch.timestamps))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_pad_id_and_side_come_from_the_members(layout: Layout) -> None:
    crop = OPERATORS["Crop"](0.2, 0.7, layout)
    for policy in (
        sa.Policy([crop]),
        sa.Compose([crop]),
        sa.SomeOf(1, [crop]),
        sa.Maybe(crop, p=0.5),
        sa.LengthPolicy(3, crop, crop),
        sa.Policy([sa.Compose([sa.Maybe(crop, p=1.0)])]),
    ):
        assert (policy.pad_id, policy.side) == (layout.pad_id, layout.side)


def test_an_operator_may_stand_in_a_policy_twice() -> None:
    crop = sa.Crop(0.2, 0.7)
    batch = make_batch(Layout(), [5] * 200, 6)
    edit = sample(sa.Policy([crop, crop]), batch)
    assert edit.choice is not None and set(edit.choice.tolist()) == {0, 1}
    assert same(sample(sa.Compose([crop, crop]), batch), sample(sa.Compose([crop, crop]), batch))


def test_members_move_and_switch_with_their_policy() -> None:
    policy = sa.Policy([sa.Compose(members(Layout(), "Substitute"))])
    assert {tensor.device.type for tensor in policy.to("meta").buffers()} == {"meta"}
    assert not any(module.training for module in policy.eval().modules())


def test_a_cast_of_the_model_leaves_the_odds_alone() -> None:
    """bfloat16 has 8 bits: thresholds of 0.1 + 0.2 in it would give the second operator a share of 0.2 no more."""
    policy = sa.Policy(marked(0.1, 0.2, 0.3), weights=[0.1, 0.2, 0.7])
    learned = sa.AdaptivePolicy(marked(0.1, 0.2), warmup=0)
    learned.value.fill_(1.2345678)
    expected = policy.thresholds.clone()
    model = torch.nn.ModuleList([policy, learned, torch.nn.Linear(2, 2)]).bfloat16()
    assert model[2].weight.dtype == torch.bfloat16
    assert policy.thresholds.dtype == torch.float32 and torch.equal(policy.thresholds, expected)
    assert torch.equal(learned.value, torch.full_like(learned.value, 1.2345678))
    assert {buffer.device.type for buffer in model.to("meta").buffers()} == {"meta"}


def build(kind: str, operators: object) -> sa.Augmentation:
    return sa.SomeOf(1, operators) if kind == "SomeOf" else getattr(sa, kind)(operators)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["Policy", "Compose", "SomeOf"])
def test_wrong_members(kind: str) -> None:
    crop = sa.Crop(0.2, 0.7)
    with pytest.raises(TypeError, match="must be a list, got Crop"):
        build(kind, crop)
    with pytest.raises(TypeError, match="must be a list, got generator"):
        build(kind, (op for op in [crop]))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        build(kind, [])
    with pytest.raises(TypeError, match=r"operators\[1\]='crop'"):
        build(kind, [crop, "crop"])
    with pytest.raises(TypeError, match=r"operators\[1\]=.*Crop"):
        build(kind, [crop, sa.Crop])
    with pytest.raises(ValueError, match=r"pad_id=0, side='left'.*pad_id=5, side='left' in operators\[1\]"):
        build(kind, [crop, sa.Crop(0.2, 0.7, pad_id=5)])
    with pytest.raises(ValueError, match=r"side='right' in operators\[2\]"):
        build(kind, [crop, crop, sa.Policy([sa.Crop(0.2, 0.7, side="right")])])


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1], ValueError, r"\(2\), got 1"),
        ([1, 2, 3], ValueError, r"\(2\), got 3"),
        ([-1, 2], ValueError, r"weights=\[-1.0, 2.0\]"),
        ([0, 0], ValueError, r"weights=\[0.0, 0.0\]"),
        ([float("nan"), 1], ValueError, "nan"),
        ([float("inf"), 1], ValueError, "inf"),
        ([], ValueError, "got 0"),
    ],
)
def test_wrong_weights(weights: list[float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sa.Policy(marked(0.1, 0.2), weights=weights)


def test_wrong_options() -> None:
    crop = sa.Crop(0.2, 0.7)
    for count, error in ((0, ValueError), (3, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"count={count}"):
            sa.SomeOf(count, [crop, crop])  # type: ignore[arg-type]
    for p, error in ((-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError), ("0.5", TypeError)):
        with pytest.raises(error, match=f"p={p!r}"):
            sa.Maybe(crop, p=p)  # type: ignore[arg-type]
    for threshold, error in ((-1, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match=f"threshold={threshold}"):
            sa.LengthPolicy(threshold, crop, crop)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pad_id=7"):
        sa.LengthPolicy(3, crop, sa.Crop(0.2, 0.7, pad_id=7))
    with pytest.raises(TypeError, match="operators"):
        sa.Maybe("crop", p=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="weights=1.0"):
        sa.Policy([crop], weights=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="buckets=5"):
        sa.AdaptivePolicy([crop], buckets=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 0.0, and finite, got threshold=inf"):
        sa.VariancePolicy(float("inf"), crop, crop)
    with pytest.raises(TypeError, match=r"low=tensor\(0.2.*: use its .item\(\)"):
        sa.Crop(torch.tensor(0.2), 0.7)  # type: ignore[arg-type]


@given(batch=batches(), chosen=names, views=st.integers(1, 9), seed=seeds)
def test_each_once_leaves_no_operator_out(batch: Batch, chosen: list[str], views: int, seed: int) -> None:
    each = sa.EachOnce(members(batch.layout, *chosen))
    generator = torch.Generator().manual_seed(seed)
    edits = each.sample_views(batch.items, views, timestamps=batch.timestamps, generator=generator)
    assert len(edits) == views
    for row in range(len(batch.lengths)):
        drawn = [int(edit.choice[row]) for edit in edits]  # type: ignore[index]
        for begin in range(0, views, len(chosen)):
            part = drawn[begin : begin + len(chosen)]
            assert len(set(part)) == len(part) and set(part) <= set(range(len(chosen)))
    drawn_noise = each.draw_views(batch.items, views, torch.Generator().manual_seed(seed))
    for edit, noise in zip(edits, drawn_noise, strict=True):
        assert same(each.plan(batch.items, noise, batch.timestamps), edit)
        for number, member in enumerate(each.operators):
            assert_rows(
                edit, edit.choice == number, member.plan(batch.items, noise.members[number], batch.timestamps)
            )


def test_each_once_has_every_order_as_often_and_draws_afresh() -> None:
    batch = make_batch(Layout(), [8] * 6000, 8)
    each = sa.EachOnce(marked(0.25, 0.5, 0.75))
    edits = each.sample_views(batch.items, 6, generator=torch.Generator().manual_seed(0))
    choices = torch.stack([edit.choice for edit in edits if edit.choice is not None], 1)
    for part in (
        choices[:, :3],
        choices[:, 3:],
        choices[:, [2, 3]],
    ):  # one round, the next, and the two around their border
        counted = Counter(map(tuple, part.tolist()))
        assert len(counted) == (6 if part.shape[1] == 3 else 9)
        assert stats.chisquare(list(counted.values())).pvalue > P
    assert torch.equal(torch.stack([edit.rate for edit in edits], 1), 0.25 * (1 + choices))
    ends = [edit.source.max(1).values for edit in edits]
    assert not torch.equal(ends[0], ends[1]), "each view has noise of its own"


@pytest.mark.parametrize("kind", ["length", "variance"])
def test_each_once_keeps_its_promise_inside_a_split(kind: str) -> None:
    batch = make_batch(Layout(), [2, 3, 6, 6] * 20, 6)
    one, two = sa.EachOnce(marked(0.1, 0.2)), sa.EachOnce(marked(0.3, 0.4))
    policy: sa.Augmentation = (
        sa.LengthPolicy(3, one, two) if kind == "length" else sa.VariancePolicy(1.5, one, two)
    )
    first, second = policy.sample_views(batch.items, 2, timestamps=batch.timestamps)
    pairs = torch.stack([first.rate, second.rate], 1).sort(1).values
    expected = torch.where(first.choice[:, None] == 0, torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.4]))  # type: ignore[index]
    torch.testing.assert_close(pairs, expected)


def test_views_of_mixing_have_each_operator_once() -> None:
    items = make_batch(Layout(), [8] * 30, 8).items
    mixup = sa.MixupOp(sa.EachOnce(marked(0.25, 0.5, 0.75)))
    mixes = mixup.sample_views(items, 3, generator=torch.Generator().manual_seed(0))
    assert torch.stack([mix.edit.choice for mix in mixes]).sort(0).values.T.tolist() == [[0, 1, 2]] * 30  # type: ignore[misc]
    assert len({tuple(mix.lam.tolist()) for mix in mixes}) == 3


@pytest.mark.parametrize("views", [0, -1, 1.5, True])
def test_wrong_number_of_views(views: object) -> None:
    with pytest.raises((ValueError, TypeError), match=f"views={views}"):
        sa.Crop(0.2, 0.7).sample_views(torch.ones(2, 3, dtype=torch.int64), views)  # type: ignore[arg-type]


def plain_variance(times: list[int]) -> float:
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    mean = sum(gaps) / max(1, len(gaps))
    return sum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps))


@given(batch=batches(), threshold=st.sampled_from([0.0, 0.5, 2.0, 1e9]), seed=seeds)
def test_variance_policy_looks_at_the_gaps(batch: Batch, threshold: float, seed: int) -> None:
    policy = sa.VariancePolicy(threshold, *members(batch.layout, "TimeCrop", "Insert"))
    variances = [
        plain_variance([int(batch.timestamps[row, slot]) for slot in batch.slots(row)])
        for row in range(len(batch.lengths))
    ]
    found = sa.gap_variance(batch.items, batch.timestamps, pad_id=batch.layout.pad_id)
    assert found.tolist() == pytest.approx(variances, abs=1e-9)
    choice = sample(policy, batch, seed).choice
    assert choice is not None
    for row, variance in enumerate(variances):
        if abs(variance - threshold) > 1e-6:
            assert int(choice[row]) == int(variance > threshold)


def test_variance_policy_needs_times_and_a_threshold() -> None:
    crop = sa.Crop(0.2, 0.7)
    with pytest.raises(ValueError, match="VariancePolicy.*timestamps=None"):
        sa.VariancePolicy(1.0, crop, crop).sample(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="threshold=-1"):
        sa.VariancePolicy(-1, crop, crop)
    with pytest.raises(TypeError, match="threshold=None"):
        sa.VariancePolicy(None, crop, crop)  # type: ignore[arg-type]
