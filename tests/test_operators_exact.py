"""Each operator against its definition: what it may do to a row, and that all of it is as likely as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import pytest
import torch
from catalogue import OPERATORS, Batch, Layout, V, batches, make_batch, sample, seeds
from hypothesis import given
from hypothesis import strategies as st
from reference import KEPT, NEW, at_least_one, candidates, floor32, observed, outcomes
from scipy import stats

import seqaug as sa

P = 1e-3  # smallest p-value that passes; the seeds are fixed, so that none fails by bad luck


def assert_as_likely_as(counted: Counter[Hashable], weights: Counter[Hashable]) -> None:
    """Chi-square test of counts against weights; what has no weight must not occur."""
    assert set(counted) <= set(weights)
    total, weight = sum(counted.values()), sum(weights.values())
    expected = [total * share / weight for share in weights.values()]
    assert min(expected) > 5, "too few draws for so many outcomes"
    if len(weights) > 1:
        assert stats.chisquare([counted[outcome] for outcome in weights], expected).pvalue > P


@pytest.mark.parametrize("name", OPERATORS)
@given(
    batch=batches(longest=7),
    rates=st.sampled_from([(0.2, 0.7), (0, 1), (0, 0), (1, 1), (0.5, 0.5)]),
    seed=seeds,
)
def test_outcome_is_one_of_those_defined(
    name: str, batch: Batch, rates: tuple[float, float], seed: int
) -> None:
    operator = OPERATORS[name](*rates, batch.layout)
    edit = sample(operator, batch, seed)
    for row in range(len(batch.lengths)):
        times = [int(batch.timestamps[row, slot]) for slot in batch.slots(row)]
        outcome, new = observed(edit, batch, row)
        assert outcome in outcomes(operator, float(edit.rate[row]), times, batch.items.shape[1])
        numbers = [number for number, what in outcome if what == NEW]
        for number, item in zip(numbers, new, strict=True):
            assert item in candidates(operator, batch, row, number)


# (items, slots, rate, times)
ROWS = [
    (1, 4, 0.5, [0]),
    (2, 4, 0.5, [0, 3]),
    (4, 4, 0.5, [0, 1, 2, 5]),
    (4, 6, 0.75, [0, 1, 1, 2]),
    (5, 5, 0.4, [0, 7, 9, 11, 18]),
    (5, 12, 0.6, [0, 0, 0, 0, 0]),
    (6, 8, 0.34, [0, 1, 3, 4, 6, 9]),
]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_every_outcome_is_as_likely_as_defined(
    name: str, row: tuple[int, int, float, list[int]], side: str
) -> None:
    n, slots, rate, times = row
    layout = Layout(0, side)
    operator = OPERATORS[name](rate, rate, layout)
    single = make_batch(layout, [n], slots)
    begin = single.slots(0)[0]
    single.timestamps[0, begin : begin + n] = torch.tensor(times)
    draws = 6000
    whole = Batch(layout, single.items.expand(draws, -1), single.timestamps.expand(draws, -1), [n] * draws)
    edit = sample(operator, whole, seed=n + slots)
    structure = torch.stack([edit.source, (edit.replaced >= 0).long()], 2)  # (draws, slots, 2)
    distinct, counts = structure.unique(dim=0, return_counts=True)
    counted = Counter(
        {
            tuple((source - begin, NEW if new else KEPT) for source, new in one if source >= 0): count
            for one, count in zip(distinct.tolist(), counts.tolist(), strict=True)
        }
    )
    applied_rate = 1.0 if name == "RepeatPad" else rate
    assert_as_likely_as(counted, outcomes(operator, applied_rate, times, slots))


@pytest.mark.parametrize("layout", [Layout(), Layout(5), Layout(V), Layout(V + 1), Layout(-1)], ids=str)
@pytest.mark.parametrize("name", [name for name in OPERATORS if "ubstitute" in name or "nsert" in name])
def test_every_candidate_is_as_likely_as_defined(name: str, layout: Layout) -> None:
    """At every item of a row with all sorts of neighbours, and of no item more often than of another."""
    operator = OPERATORS[name](0.3, 0.3, layout)
    n, draws = 8, 8000
    single = make_batch(layout, [n], 12, seed=4)
    single.timestamps[:] = 0
    whole = Batch(layout, single.items.expand(draws, -1), single.timestamps.expand(draws, -1), [n] * draws)
    edit = sample(operator, whole, seed=1)
    begin = single.slots(0)[0]
    seen: dict[int, Counter[Hashable]] = {number: Counter() for number in range(n)}
    for source, new in zip(edit.source.flatten().tolist(), edit.replaced.flatten().tolist(), strict=True):
        if new >= 0:
            seen[source - begin][new] += 1
    for number, counted in seen.items():
        if not counted:  # the first item of a time-aware operator comes last
            assert name.startswith("Time") and number == 0
            continue
        assert_as_likely_as(counted, candidates(operator, single, 0, number))


@pytest.mark.parametrize("exclude_row", [False, True])
def test_candidates_of_several_positions_are_independent(exclude_row: bool) -> None:
    """The two neighbours drawn in one row, and the positions they are drawn at."""
    table = torch.tensor([[0, 0], [4, 5], [6, 7], [8, 9]])
    table = torch.cat([table, torch.zeros(8, 2, dtype=torch.int64)])
    operator = sa.Substitute(0.67, 0.67, table, top=2, exclude_row=exclude_row)
    items = torch.tensor([[0, 1, 2, 3]]).expand(6000, 4)
    replaced = operator.sample(items, generator=torch.Generator().manual_seed(2)).replaced[:, 1:]
    options = [[4, 5], [6, 7], [8, 9]]
    expected: Counter[Hashable] = Counter()
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        for one in options[first]:
            for two in options[second]:
                row = [-1, -1, -1]
                row[first], row[second] = one, two
                expected[tuple(row)] = 1
    assert_as_likely_as(Counter(map(tuple, replaced.tolist())), expected)


def test_a_zero_among_the_neighbours_is_passed_over() -> None:
    table = torch.zeros(8, 3, dtype=torch.int64)
    table[1:7] = torch.tensor([0, 5, 0])
    items = torch.tensor([[1, 2, 3, 4]]).expand(200, 4)
    for options in ({}, {"top": 2}, {"exclude_row": True}):
        replaced = sa.Substitute(0.3, 0.7, table, **options).sample(items).replaced
        assert set(replaced.unique().tolist()) == {-1, 5}


def test_a_row_that_has_the_whole_catalog_still_gets_items() -> None:
    table = torch.zeros(6, 1, dtype=torch.int64)  # V = 4
    items = torch.tensor([[1, 2, 3, 4]]).expand(4000, 4)
    operator = sa.Substitute(0.25, 0.25, table, exclude_row=True)
    replaced = operator.sample(items, generator=torch.Generator().manual_seed(0)).replaced
    assert_as_likely_as(Counter(replaced[replaced >= 0].tolist()), Counter([1, 2, 3, 4]))


@given(batch=batches(), seed=seeds)
def test_crop_is_one_window_at_the_padding_side(batch: Batch, seed: int) -> None:
    edit = sample(OPERATORS["Crop"](0.2, 0.7, batch.layout), batch, seed)
    out = edit(batch.items)
    for row, n in enumerate(batch.lengths):
        items = [int(batch.items[row, slot]) for slot in batch.slots(row)]
        c = min(n, at_least_one(float(edit.rate[row]), n))
        window = [int(i) for i in out[row] if i != batch.layout.pad_id]
        assert len(window) == c
        assert not n or any(items[start : start + c] == window for start in range(n - c + 1))
        padding = [batch.layout.pad_id] * (out.shape[1] - c)
        left = batch.layout.side == "left"
        assert out[row].tolist() == (padding + window if left else window + padding)
        if left:
            assert not bool(edit.future[row].any()), "a window that ends in the last slot shows nothing newer"


@pytest.mark.parametrize("name", ["Crop", "TimeCrop"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_newest_and_oldest_item_can_be_kept(name: str, side: str) -> None:
    batch = make_batch(Layout(0, side), [6] * 500, 8)
    batch.timestamps[:] = 0
    source = sample(OPERATORS[name](0.5, 0.5, batch.layout), batch).source
    kept = {tuple(row[row >= 0].tolist()) for row in source}
    first = batch.slots(0)[0]
    assert kept == {tuple(range(first + start, first + start + 3)) for start in range(4)}


@pytest.mark.parametrize("name", [n for n in OPERATORS if "Mask" in n or "ubstitute" in n])
@given(batch=batches(), seed=seeds)
def test_exactly_the_promised_number_of_positions_changes(name: str, batch: Batch, seed: int) -> None:
    edit = sample(OPERATORS[name](0.2, 0.7, batch.layout), batch, seed)
    for row, n in enumerate(batch.lengths):
        assert int((edit.replaced[row] >= 0).sum()) == (at_least_one(float(edit.rate[row]), n) if n else 0)
        assert edit.source[row][edit.valid[row]].tolist() == batch.slots(row), "no item moves"
    assert not bool(edit.future.any())


@pytest.mark.parametrize("name", ["Reorder", "TimeReorder"])
@given(batch=batches(), seed=seeds)
def test_reorder_permutes_one_window(name: str, batch: Batch, seed: int) -> None:
    edit = sample(OPERATORS[name](0.2, 1.0, batch.layout), batch, seed)
    out = edit(batch.items)
    for row, n in enumerate(batch.lengths):
        assert sorted(out[row].tolist()) == sorted(batch.items[row].tolist())
        source = edit.source[row][edit.valid[row]].tolist()
        assert sorted(source) == batch.slots(row)
        moved = [number for number, slot in enumerate(batch.slots(row)) if source[number] != slot]
        assert not moved or moved[-1] - moved[0] < floor32(float(edit.rate[row]), n)
    assert bool((edit.replaced == -1).all())


@given(batch=batches(), seed=seeds)
def test_delete_closes_the_gaps(batch: Batch, seed: int) -> None:
    edit = sample(OPERATORS["Delete"](0.2, 1.0, batch.layout), batch, seed)
    for row, n in enumerate(batch.lengths):
        source = edit.source[row][edit.valid[row]].tolist()
        removed = min(at_least_one(float(edit.rate[row]), n), max(0, n - 1))
        assert len(source) == n - removed
        assert source == sorted(set(source)), "the order stays, and nothing is doubled"
    if batch.layout.side == "left":
        assert not bool(edit.future.any())


@pytest.mark.parametrize("name", [n for n in OPERATORS if "nsert" in n])
@given(batch=batches(), seed=seeds)
def test_insert_keeps_the_newest(name: str, batch: Batch, seed: int) -> None:
    edit = sample(OPERATORS[name](0.2, 1.0, batch.layout), batch, seed)
    slots = batch.items.shape[1]
    for row, n in enumerate(batch.lengths):
        k = at_least_one(float(edit.rate[row]), n) if n else 0
        assert int(edit.valid[row].sum()) == min(slots, n + k)
        source = edit.source[row][edit.valid[row]].tolist()
        new = (edit.replaced[row][edit.valid[row]] >= 0).tolist()
        assert source == sorted(source)
        old = [slot for slot, is_new in zip(source, new, strict=True) if not is_new]
        assert old == batch.slots(row)[n - len(old) :], "what falls out is the oldest"
        if n + k <= slots:
            assert sum(new) == k
        for place, is_new in enumerate(new):
            if is_new:
                assert source[place + 1] == source[place] and not new[place + 1], (
                    "an insertion stands before its anchor"
                )


@given(batch=batches(), seed=seeds)
def test_repeat_pad_keeps_the_row_and_adds_copies(batch: Batch, seed: int) -> None:
    items = batch.items
    edit = sample(sa.RepeatPad(**batch.layout.arguments), batch, seed)
    out = edit(items)
    assert torch.equal(torch.where(items != batch.layout.pad_id, out, items), items)
    for row, n in enumerate(batch.lengths):
        own = [int(items[row, slot]) for slot in batch.slots(row)]
        filled = [int(i) for i in out[row] if i != batch.layout.pad_id]
        copies = len(filled) // n if n else 0
        assert filled == own * copies
        assert not n or min(2, items.shape[1] // n) <= copies <= items.shape[1] // n


def leaks(edit: sa.Edit, batch: Batch) -> set[tuple[int, int]]:
    """(row, slot) where an item is shown that the row had only later."""
    return {
        (row, slot)
        for row in range(len(batch.lengths))
        for slot in range(batch.items.shape[1])
        if int(edit.source[row, slot]) > slot
    }


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_which_operators_show_the_future(name: str, side: str) -> None:
    batch = make_batch(Layout(0, side), [10] * 300, 24)
    edit = sample(OPERATORS[name](0.2, 0.7, batch.layout), batch)
    assert leaks(edit, batch) == {tuple(pair) for pair in edit.future.nonzero().tolist()}
    pulls = {
        "left": ("Reorder", "Swap", "Insert", "RepeatPad"),
        "right": ("Reorder", "Swap", "Crop", "Delete"),
    }[side]
    assert bool(edit.future.any()) == any(word in name for word in pulls)


@pytest.mark.parametrize("name", [n for n in OPERATORS if "nsert" in n])
def test_an_insertion_that_pushes_the_oldest_out_shows_the_future(name: str) -> None:
    batch = make_batch(Layout(0, "right"), [10] * 50, 10)
    edit = sample(OPERATORS[name](0.2, 0.7, batch.layout), batch)
    assert bool(edit.future.any(1).all())
    assert leaks(edit, batch) == {tuple(pair) for pair in edit.future.nonzero().tolist()}


def test_rates_whose_product_is_whole() -> None:
    """0.7 of 10 items are 7, though 0.7 has no exact float."""
    for rate, n, k in [(0.7, 10, 7), (0.6, 5, 3), (0.3, 10, 3), (0.2, 50, 10), (0.1, 50, 5), (1.0, 50, 50)]:
        batch = make_batch(Layout(), [n], 50)
        assert int(sample(sa.Crop(rate, rate), batch).valid.sum()) == k
        assert int((sample(sa.Mask(rate, rate, mask_id=V + 1), batch).replaced >= 0).sum()) == k


def noise(rows: int, slots: int) -> tuple[torch.Tensor, sa.operator.Noise]:
    items = torch.ones(rows, slots, dtype=torch.int64)
    return items, sa.Crop(0, 1).draw(items, torch.Generator().manual_seed(8))


def uniform(values: torch.Tensor) -> bool:
    return bool(stats.kstest(values.flatten().double().numpy(), "uniform").pvalue > P)


def independent(one: torch.Tensor, two: torch.Tensor, bins: int = 8) -> bool:
    """Chi-square test of independence of two draws from [0, 1)."""
    table = torch.zeros(bins, bins)
    table.index_put_(((one * bins).long(), (two * bins).long()), torch.ones(len(one)), accumulate=True)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    return bool(stats.chi2_contingency(table.numpy()).pvalue > P)


def test_noise_is_uniform_and_its_parts_are_independent() -> None:
    rows, slots = 20_000, 7
    _, drawn = noise(rows, slots)
    first = drawn.order[:, 0] / slots  # which slot comes first
    low = drawn.uniform().float()[:, 0]  # the bits that choose a neighbour in the first slot
    rank = drawn.order.argsort(1)[:, 0] / slots  # where the first slot comes
    assert uniform(drawn.rate) and uniform(drawn.start) and uniform(drawn.uniform())
    parts: Sequence[torch.Tensor] = [drawn.rate, drawn.start, first, low, rank]
    for a in range(len(parts)):
        assert independent(parts[a][:-1], parts[a][1:].clone()), "of neighbouring rows"
        for b in range(a):
            if {a, b} != {2, 4}:  # the first place and the first slot are in one permutation
                assert independent(parts[a], parts[b]), (a, b)
    assert_as_likely_as(
        Counter(drawn.pick(torch.full((rows, slots), 11)).flatten().tolist()), Counter(range(11))
    )
    orders = Counter(map(tuple, noise(rows, 4)[1].order.tolist()))
    assert len(orders) == 24 and stats.chisquare(list(orders.values())).pvalue > P


@pytest.mark.parametrize("name", [n for n in OPERATORS if n != "RepeatPad"])
def test_rate_is_uniform_between_low_and_high(name: str) -> None:
    batch = make_batch(Layout(), [5] * 4000, 6)
    rate = sample(OPERATORS[name](0.2, 0.7, batch.layout), batch, seed=6).rate
    assert uniform((rate - 0.2) / 0.5)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.float16, torch.float32]
)
def test_gaps_that_the_dtype_of_the_times_cannot_hold(dtype: torch.dtype) -> None:
    items = torch.tensor([[1, 2, 3, 4, 5]])
    known = torch.iinfo(dtype) if not dtype.is_floating_point else torch.finfo(dtype)
    low, high = int(known.min), int(known.max)
    times = torch.tensor([[low, low, high, high, high]], dtype=torch.float64)
    wanted = sa.gap_variance(items, times)
    assert wanted.isfinite()
    torch.testing.assert_close(sa.gap_variance(items, times.to(dtype)), wanted)
    mask = sa.TimeMask(0.2, 0.2, mask_id=9)
    assert mask(items, timestamps=times.to(dtype)).tolist() == [[1, 2, 9, 4, 5]]


def test_another_default_dtype_changes_nothing(default_dtype: torch.dtype) -> None:
    items = torch.tensor([[1, 2, 3, 4, 5], [0, 0, 0, 6, 7]])
    four = [sa.Crop(0.3, 0.8), sa.Mask(0.3, 0.8, mask_id=9), sa.Reorder(0.3, 0.8), sa.Delete(0.3, 0.8)]

    def drawn() -> list[torch.Tensor]:
        g = torch.Generator().manual_seed(0)
        edits = [op.sample(items, generator=g) for op in (sa.SomeOf(2, four), sa.Maybe(four[0], 0.5))]
        mix = sa.MixupOp(sa.Policy(four), alpha=0.4).sample(items, generator=g)
        pair = sa.CrossMixup(alpha=0.4).sample(torch.zeros(2, 5, 4, dtype=torch.float32), generator=g)
        return [edit.rate for edit in edits] + [mix.lam, pair.lam]

    found = drawn()
    torch.set_default_dtype(torch.float32)
    for one, other in zip(found, drawn(), strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)


@pytest.fixture(params=[torch.float64, torch.float16])
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_a_pad_id_that_the_items_cannot_hold() -> None:
    with pytest.raises(ValueError, match=r"pad_id=1099511627776: use items.long()"):
        sa.Crop(0.2, 0.7, pad_id=2**40)(torch.tensor([[1, 2]], dtype=torch.int32))
    with pytest.raises(ValueError, match=f"pad_id={2**70}$"):
        sa.Crop(0.2, 0.7, pad_id=2**70)


def test_long_rows_choose_every_slot_as_often() -> None:
    """Above 1,024 slots, too, and a slot's draw does not depend on how wide the batch is padded."""
    items = torch.arange(1, 2001).expand(500, 2000)
    mask, generator = sa.Mask(0.0, 0.0, mask_id=3000), torch.Generator().manual_seed(0)
    tenths = torch.zeros(10)
    for _ in range(8):
        where = (mask.sample(items, generator=generator)(items) == 3000).int().argmax(1)
        tenths += torch.bincount(where // 200, minlength=10)
    assert ((tenths / 4000 - 0.1).abs() < 0.02).all()  # four standard errors
    row = torch.arange(1, 801).expand(16, 800)
    for operator in (sa.Mask(0.3, 0.3, mask_id=3000), sa.Delete(0.3, 0.3), sa.Reorder(0.5, 0.5)):
        drawn = []
        for pads in (200, 400):
            wide = torch.nn.functional.pad(row, (pads, 0))
            drawn.append(operator.sample(wide, generator=torch.Generator().manual_seed(1))(wide)[:, -800:])
        assert torch.equal(*drawn)


def test_one_long_gap_hides_no_difference_between_windows() -> None:
    month = 30 * 86400
    times = torch.tensor([[0, *(month + t for t in (0, 60, 3660, 3700, 3760, 3820, 3880, 3940))]])
    items, crop = torch.arange(1, 10)[None], sa.TimeCrop(0.45, 0.45)
    kept = {tuple(crop(items, timestamps=times)[0, -4:].tolist()) for _ in range(100)}
    assert kept == {(5, 6, 7, 8), (6, 7, 8, 9)}
