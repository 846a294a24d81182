"""What holds for every operator and every policy, whatever the batch."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from catalogue import (
    EVERYTHING,
    LAYOUTS,
    OPERATORS,
    Batch,
    Layout,
    V,
    batches,
    make_batch,
    same,
    sample,
    seeds,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import seqaug as sa

everything = pytest.mark.parametrize("name", EVERYTHING)
ABSTRACT = {sa.Augmentation, sa.Operator}
LEARNS = {"AdaptivePolicy"}  # keeps what it learned; all others have an empty state_dict


def test_no_public_operator_escapes_the_table() -> None:
    public = {
        value for value in vars(sa).values() if isinstance(value, type) and issubclass(value, sa.Augmentation)
    }
    assert {type(build(Layout())) for build in EVERYTHING.values()} == public - ABSTRACT


def test_every_class_of_the_library_is_public_or_a_base() -> None:
    def below(cls: type) -> set[type]:
        return {cls}.union(*map(below, cls.__subclasses__()))

    inside = {cls for cls in below(sa.Augmentation) if cls.__module__.startswith("seqaug.")}
    hidden = {cls for cls in inside if getattr(sa, cls.__name__, None) is not cls}
    assert all(cls.__subclasses__() for cls in hidden), (
        "only a base class may be missing among the public names"
    )


def check_well_formed(edit: sa.Edit, batch: Batch) -> None:
    layout, (rows, slots) = batch.layout, batch.items.shape
    assert edit.source.shape == edit.replaced.shape == (rows, slots)
    assert edit.source.dtype == torch.int64
    assert edit.pad_id == layout.pad_id
    assert edit.rate.shape == (rows,) and edit.rate.dtype == torch.float32
    assert bool(((edit.rate >= 0) & (edit.rate <= 1)).all())
    known = {-1, layout.mask_id, *layout.ids} - {layout.pad_id}
    for row in range(rows):
        source, replaced = edit.source[row].tolist(), edit.replaced[row].tolist()
        assert set(source) <= {-1, *batch.slots(row)}, "reads only what is real"
        filled = sum(slot >= 0 for slot in source)
        assert (filled == 0) == (batch.lengths[row] == 0), "an empty row stays empty, and no other becomes so"
        where = range(slots - filled, slots) if layout.side == "left" else range(filled)
        assert all((source[slot] >= 0) == (slot in where) for slot in range(slots)), "padded on its side only"
        assert set(replaced) <= known | {-1}
        assert all(replaced[slot] == -1 for slot in range(slots) if source[slot] == -1)


@everything
@given(batch=batches(), seed=seeds)
def test_edit_is_well_formed(name: str, batch: Batch, seed: int) -> None:
    check_well_formed(sample(EVERYTHING[name](batch.layout), batch, seed), batch)


@everything
@given(batch=batches(), seed=seeds, data=st.data())
def test_times_without_sense_leave_the_edit_well_formed(
    name: str, batch: Batch, seed: int, data: st.DataObject
) -> None:
    odd = st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308])
    size = batch.items.numel()
    times = data.draw(st.lists(odd, min_size=size, max_size=size))
    timestamps = torch.tensor(times, dtype=torch.float64).view(batch.items.shape)
    operator, generator = EVERYTHING[name](batch.layout), torch.Generator().manual_seed(seed)
    check_well_formed(operator.sample(batch.items, timestamps=timestamps, generator=generator), batch)


@everything
@given(batch=batches(), seed=seeds)
def test_edit_writes_what_it_says(name: str, batch: Batch, seed: int) -> None:
    """Ids, aligned features, valid and future, against loops over single slots."""
    items, pad = batch.items, batch.layout.pad_id
    rows, slots = items.shape
    edit = sample(EVERYTHING[name](batch.layout), batch, seed)
    features = torch.randn(rows, slots, 3, dtype=torch.float64)
    flags = features[..., 0] > 0
    written, times = edit(items), edit.align(batch.timestamps)
    vectors, lit = edit.align(features, fill=-2.5), edit.align(flags, fill=True)
    assert written.dtype == items.dtype and times.dtype == torch.int64
    assert vectors.dtype == torch.float64 and vectors.shape == features.shape and lit.dtype == torch.bool
    for row in range(rows):
        for slot in range(slots):
            source, replaced = int(edit.source[row, slot]), int(edit.replaced[row, slot])
            real = source >= 0
            assert written[row, slot] == (
                pad if not real else replaced if replaced >= 0 else items[row, source]
            )
            assert times[row, slot] == (batch.timestamps[row, source] if real else 0)
            assert torch.equal(
                vectors[row, slot], features[row, source] if real else torch.full((3,), -2.5).double()
            )
            assert lit[row, slot] == (flags[row, source] if real else True)
            assert bool(edit.valid[row, slot]) == real
            assert bool(edit.future[row, slot]) == (source > slot)
    assert torch.equal(written != pad, edit.valid)


@everything
@given(batch=batches(), seed=seeds)
def test_same_generator_state_same_draw_and_global_state_untouched(
    name: str, batch: Batch, seed: int
) -> None:
    operator = EVERYTHING[name](batch.layout)
    torch.manual_seed(seed % 1000)
    before = torch.get_rng_state()
    edit = sample(operator, batch, seed)
    assert same(edit, sample(operator, batch, seed))
    generator = torch.Generator().manual_seed(seed)
    assert torch.equal(
        operator(batch.items, timestamps=batch.timestamps, generator=generator), edit(batch.items)
    )
    assert torch.equal(torch.get_rng_state(), before)
    noise = operator.draw(batch.items, torch.Generator().manual_seed(seed))
    for _ in range(2):
        assert same(operator.plan(batch.items, noise, batch.timestamps), edit), "planning is deterministic"
    assert torch.equal(torch.get_rng_state(), before)


@everything
@given(batch=batches(), other_seed=seeds, seed=seeds)
def test_noise_does_not_depend_on_the_data(name: str, batch: Batch, other_seed: int, seed: int) -> None:
    """So that two batches of one shape leave the generator in the same state."""
    operator = EVERYTHING[name](batch.layout)
    other = make_batch(batch.layout, batch.lengths[::-1], batch.items.shape[1], other_seed, batch.items.dtype)
    states = []
    for data in (batch, other):
        generator = torch.Generator().manual_seed(seed)
        operator.sample(data.items, timestamps=data.timestamps, generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@everything
@given(batch=batches(least=1), data=st.data(), seed=seeds)
def test_rows_are_independent(name: str, batch: Batch, data: st.DataObject, seed: int) -> None:
    operator = EVERYTHING[name](batch.layout)
    rows, slots = batch.items.shape
    row = data.draw(st.integers(0, rows - 1))
    lengths = list(batch.lengths)
    lengths[row] = data.draw(st.integers(0, slots))
    fresh = make_batch(batch.layout, lengths, slots, data.draw(seeds) % 2**20, batch.items.dtype)
    changed = (torch.arange(rows) == row)[:, None]
    other = Batch(
        batch.layout,
        torch.where(changed, fresh.items, batch.items),
        torch.where(changed, fresh.timestamps, batch.timestamps),
        lengths,
    )
    one, two = sample(operator, batch, seed), sample(operator, other, seed)
    kept = torch.arange(rows) != row
    for field in ("source", "replaced", "rate"):
        assert torch.equal(getattr(one, field)[kept], getattr(two, field)[kept])
    if one.choice is not None and two.choice is not None:
        assert torch.equal(one.choice[kept], two.choice[kept])


@everything
@given(batch=batches(), seed=seeds)
def test_input_is_never_written_to(name: str, batch: Batch, seed: int) -> None:
    """Not in place, and not through views: wider parents, transposed and expanded memory."""
    operator = EVERYTHING[name](batch.layout)
    rows, slots = batch.items.shape
    expected = sample(operator, batch, seed)
    parent = torch.full((rows + 2, 2 * slots + 3), 7, dtype=batch.items.dtype)
    parent[1:-1, 2 : 2 + 2 * slots : 2] = batch.items
    transposed = batch.items.T.contiguous()
    for owner, view in [
        (batch.items, batch.items),
        (parent, parent[1:-1, 2 : 2 + 2 * slots : 2]),
        (transposed, transposed.T),
    ]:
        before, times = owner.clone(), batch.timestamps.clone()
        edit = sample(operator, Batch(batch.layout, view, batch.timestamps, batch.lengths), seed)
        assert same(edit, expected)
        out = edit(view)
        assert torch.equal(out, expected(batch.items))
        out.fill_(3)
        edit.align(batch.timestamps).fill_(3)
        edit.align(view[..., None]).fill_(3)
        assert torch.equal(owner, before) and torch.equal(batch.timestamps, times)


@everything
@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
def test_one_row_expanded_over_a_batch(name: str, layout: Layout) -> None:
    """Memory that all rows share, which an in-place write would refuse or spread."""
    one = make_batch(layout, [6], 9)
    items, times = one.items.expand(50, 9), one.timestamps.expand(50, 9)
    edit = EVERYTHING[name](layout).sample(
        items, timestamps=times, generator=torch.Generator().manual_seed(0)
    )
    plain = EVERYTHING[name](layout).sample(
        items.contiguous(), timestamps=times.contiguous(), generator=torch.Generator().manual_seed(0)
    )
    assert same(edit, plain)
    assert torch.equal(edit(items), plain(items.contiguous()))
    assert edit.align(times).shape == (50, 9)


@everything
@given(batch=batches(), seed=seeds)
def test_modes(name: str, batch: Batch, seed: int) -> None:
    """Training draws, evaluation is the identity, sample always draws."""
    operator = EVERYTHING[name](batch.layout)
    assert operator.training
    edit = sample(operator, batch, seed)
    assert operator.eval() is operator
    before = torch.get_rng_state()
    assert operator(batch.items, timestamps=batch.timestamps) is batch.items
    assert operator(batch.items) is batch.items
    assert torch.equal(torch.get_rng_state(), before)
    assert same(sample(operator, batch, seed), edit)
    operator.train()
    generator = torch.Generator().manual_seed(seed)
    assert torch.equal(
        operator(batch.items, timestamps=batch.timestamps, generator=generator), edit(batch.items)
    )


@everything
def test_training_draws_afresh(name: str) -> None:
    batch = make_batch(Layout(), [9] * 40, 30)
    operator = EVERYTHING[name](batch.layout)
    torch.manual_seed(3)
    first, second = (operator(batch.items, timestamps=batch.timestamps) for _ in range(2))
    assert not torch.equal(first, batch.items)
    assert not torch.equal(first, second)


@everything
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_no_rows(name: str, dtype: torch.dtype) -> None:
    batch = make_batch(Layout(), [], 5, dtype=dtype)
    edit = sample(EVERYTHING[name](batch.layout), batch)
    assert edit(batch.items).shape == (0, 5) and edit(batch.items).dtype == dtype
    assert edit.align(torch.zeros(0, 5, 3)).shape == (0, 5, 3)
    assert edit.rate.shape == (0,)


@everything
@given(batch=batches(), seed=seeds)
def test_int32_and_int64_agree(name: str, batch: Batch, seed: int) -> None:
    operator = EVERYTHING[name](batch.layout)
    other = torch.int64 if batch.items.dtype == torch.int32 else torch.int32
    converted = Batch(batch.layout, batch.items.to(other), batch.timestamps, batch.lengths)
    one, two = sample(operator, batch, seed), sample(operator, converted, seed)
    assert torch.equal(one.source, two.source)
    assert torch.equal(one(batch.items).to(other), two(converted.items))


def holds_tensors(operator: sa.Augmentation) -> bool:
    return "neighbours=<" in repr(operator)


@pytest.mark.parametrize(
    "name", [name for name, build in EVERYTHING.items() if not holds_tensors(build(Layout()))]
)
@given(batch=batches(), seed=seeds)
def test_any_pad_id_gives_the_same_edit(name: str, batch: Batch, seed: int) -> None:
    """Renumbering the ids changes nothing for what does not look at them."""
    layout = Layout(0, batch.layout.side)
    renumbered = torch.where(batch.items == batch.layout.pad_id, 0, batch.items + 1)
    one = sample(EVERYTHING[name](batch.layout), batch, seed)
    two = sample(EVERYTHING[name](layout), Batch(layout, renumbered, batch.timestamps, batch.lengths), seed)
    assert torch.equal(one.source, two.source) and torch.equal(one.rate, two.rate)
    assert torch.equal(one.replaced >= 0, two.replaced >= 0)


@everything
@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=str)
def test_pickle_copy_and_state(name: str, layout: Layout) -> None:
    operator = EVERYTHING[name](layout)
    batch = make_batch(layout, [0, 1, 2, 5, 9], 9)
    edit = sample(operator, batch)
    for other in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator), operator.to("cpu")):
        assert repr(other) == repr(operator)
        assert (other.pad_id, other.side) == (layout.pad_id, layout.side)
        assert same(sample(other, batch), edit)
    assert list(operator.parameters()) == []
    assert bool(operator.state_dict()) == (name in LEARNS)
    operator.load_state_dict(copy.deepcopy(operator.state_dict()))
    copied = pickle.loads(pickle.dumps(edit))
    assert same(copied, edit) and same(copy.deepcopy(edit), edit) and same(edit.to("cpu"), edit)


@everything
@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=str)
def test_repr_recreates(name: str, layout: Layout) -> None:
    operator = EVERYTHING[name](layout)
    if holds_tensors(operator):
        assert repr(operator).startswith(type(operator).__name__ + "(")
        assert f"neighbours=<{V + 2} rows>" in repr(operator)
        return
    again = eval(repr(operator), vars(sa))
    assert type(again) is type(operator) and repr(again) == repr(operator)
    batch = make_batch(layout, [0, 1, 2, 5, 9], 9)
    assert same(sample(again, batch), sample(operator, batch))


def test_repr_of_each_option() -> None:
    assert repr(sa.Crop(0.2, 0.7)) == "Crop(0.2, 0.7)"
    assert repr(sa.Crop(0, 1, pad_id=5, side="right")) == "Crop(0.0, 1.0, pad_id=5, side='right')"
    assert (
        repr(sa.TimeMask(0.2, 0.7, mask_id=9, gaps="smallest"))
        == "TimeMask(0.2, 0.7, mask_id=9, gaps='smallest')"
    )


@pytest.mark.parametrize("name", OPERATORS)
@given(
    batch=batches(),
    rates=st.tuples(*2 * [st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]) | st.floats(0, 1)]).map(sorted),
    seed=seeds,
)
def test_rate_is_between_low_and_high(name: str, batch: Batch, rates: list[float], seed: int) -> None:
    operator = OPERATORS[name](*rates, batch.layout)
    low, high = (1.0, 1.0) if name == "RepeatPad" else rates
    rate = sample(operator, batch, seed).rate
    assert rate.dtype == torch.float32
    assert bool((rate >= torch.tensor(low)).all()) and bool((rate <= torch.tensor(high)).all())


@pytest.mark.parametrize("name", OPERATORS)
def test_plain_operator_has_no_choice(name: str) -> None:
    batch = make_batch(Layout(), [3, 4], 5)
    assert sample(OPERATORS[name](0.2, 0.7, batch.layout), batch).choice is None


@everything
def test_default_generator_follows_manual_seed(name: str) -> None:
    batch = make_batch(Layout(), [3, 9, 9], 9)
    operator = EVERYTHING[name](batch.layout)
    edits = []
    for _ in range(2):
        torch.manual_seed(5)
        edits.append(operator.sample(batch.items, timestamps=batch.timestamps))
    assert same(*edits)


NOT_ITEMS: list[tuple[object, type[Exception], str]] = [
    (torch.zeros(2, 3), TypeError, "items.dtype=torch.float32"),
    (torch.zeros(2, 3, dtype=torch.bool), TypeError, "items.dtype=torch.bool"),
    (torch.zeros(2, 3, dtype=torch.int16), TypeError, "items.dtype=torch.int16"),
    ([[1, 2]], TypeError, "list"),
    (torch.zeros(3, dtype=torch.int64), ValueError, r"items.shape=\(3,\)"),
    (torch.zeros(2, 3, 4, dtype=torch.int64), ValueError, r"items.shape=\(2, 3, 4\)"),
]


@everything
@pytest.mark.parametrize(("items", "error", "message"), NOT_ITEMS)
def test_wrong_items(name: str, items: Tensor, error: type[Exception], message: str) -> None:
    operator = EVERYTHING[name](Layout())
    with pytest.raises(error, match=message):
        operator.sample(items)
    with pytest.raises(error, match=message):
        operator(items)


@everything
def test_wrong_timestamps(name: str) -> None:
    batch = make_batch(Layout(), [2, 3], 5)
    with pytest.raises(ValueError, match=r"timestamps.shape=\(2, 4\).*items.shape=\(2, 5\)"):
        EVERYTHING[name](batch.layout).sample(batch.items, timestamps=batch.timestamps[:, 1:])


@everything
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_timestamps_that_are_no_numbers(name: str, dtype: torch.dtype) -> None:
    batch = make_batch(Layout(), [2, 3], 5)
    with pytest.raises(TypeError, match="timestamps must be whole or real numbers"):
        EVERYTHING[name](batch.layout).sample(batch.items, timestamps=batch.timestamps.to(dtype))


@pytest.mark.parametrize("mask", [sa.Mask, sa.TimeMask])
def test_mask_id_beyond_the_dtype_of_the_items(mask: type[sa.Mask]) -> None:
    items, times = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2]])
    operator = mask(1.0, 1.0, mask_id=2**31)
    assert operator(items, timestamps=times).max() == 2**31
    with pytest.raises(
        ValueError, match="mask_id must fit into ids of torch.int32, got mask_id=2147483648: use"
    ):
        operator(items.int(), timestamps=times)


@pytest.mark.parametrize("wrong", [50, -3])
@pytest.mark.parametrize("options", [{}, {"top": 3}, {"exclude_row": True}], ids=str)
def test_ids_without_a_row_in_the_table(wrong: int, options: dict[str, object]) -> None:
    operator = sa.Substitute(1.0, 1.0, torch.randint(1, 9, (10, 3)), **options)
    with pytest.raises(ValueError, match=f"items must be rows of a table of 10.*{wrong}.*check_batch"):
        operator(torch.tensor([[0, wrong, 2]]))


RATED = sorted(set(OPERATORS) - {"RepeatPad"})


@pytest.mark.parametrize("name", RATED)
@pytest.mark.parametrize(
    ("low", "high", "error", "message"),
    [
        (0.7, 0.2, ValueError, "low=0.7, high=0.2"),
        (-0.1, 0.2, ValueError, "low=-0.1"),
        (0.2, 1.1, ValueError, "high=1.1"),
        (float("nan"), 0.5, ValueError, "low=nan"),
        (0.2, float("inf"), ValueError, "high=inf"),
        ("0.2", 0.5, TypeError, "low='0.2'"),
        (0.2, None, TypeError, "high=None"),
        (True, 1.0, TypeError, "low=True"),
    ],
)
def test_wrong_rates(name: str, low: object, high: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OPERATORS[name](low, high, Layout())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    ("layout", "error", "message"),
    [
        (Layout(0, "middle"), ValueError, "side='middle'"),
        (Layout(0, None), ValueError, "side=None"),  # type: ignore[arg-type]
        (Layout(0.5), TypeError, "pad_id=0.5"),  # type: ignore[arg-type]
        (Layout(True), TypeError, "pad_id=True"),
    ],
)
def test_wrong_layout(name: str, layout: Layout, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OPERATORS[name](0.2, 0.7, layout)


@pytest.mark.parametrize("cls", [sa.Mask, sa.TimeMask])
def test_wrong_mask_id(cls: type[sa.Mask]) -> None:
    with pytest.raises(ValueError, match="mask_id=0 and pad_id=0"):
        cls(0.2, 0.7, mask_id=0)
    with pytest.raises(ValueError, match="mask_id=-3"):
        cls(0.2, 0.7, mask_id=-3)
    with pytest.raises(TypeError, match="mask_id=1.5"):
        cls(0.2, 0.7, mask_id=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [sa.TimeMask, sa.TimeSubstitute, sa.TimeInsert])
def test_wrong_gaps(cls: type[sa.Operator]) -> None:
    arguments = {"mask_id": 9} if cls is sa.TimeMask else {"neighbours": Layout().neighbours()}
    with pytest.raises(ValueError, match="gaps='widest'"):
        cls(0.2, 0.7, gaps="widest", **arguments)


@pytest.mark.parametrize("cls", [sa.Substitute, sa.Insert, sa.TimeSubstitute, sa.TimeInsert])
@pytest.mark.parametrize(
    ("table", "options", "error", "message"),
    [
        ([[1, 2]], {}, TypeError, "list"),
        (torch.ones(V + 2, 3), {}, TypeError, "torch.float32"),
        (torch.ones(V + 2, dtype=torch.int64), {}, ValueError, rf"neighbours.shape=\({V + 2},\)"),
        (
            torch.ones(V + 2, 0, dtype=torch.int64),
            {},
            ValueError,
            rf"K\) ids, got neighbours.shape=\({V + 2}, 0\)",
        ),
        (torch.full((V + 2, 2), V + 1), {}, ValueError, f"got {V + 1}"),
        (torch.full((V + 2, 2), -1), {}, ValueError, "got -1"),
        (torch.full((V + 2, 2), 5), {"pad_id": 5}, ValueError, "pad_id=5"),
        (torch.ones(V + 2, 2, dtype=torch.int64), {"top": 3}, ValueError, "top=3"),
        (torch.ones(V + 2, 2, dtype=torch.int64), {"top": 0}, ValueError, "top=0"),
        (torch.ones(V + 2, 2, dtype=torch.int64), {"top": 1.5}, TypeError, "top=1.5"),
        (torch.ones(V + 2, 2, dtype=torch.int64), {"exclude_row": 1}, TypeError, "exclude_row=1"),
        (
            torch.ones(V + 2, 2, dtype=torch.int64),
            {"temperature": 0.5},
            ValueError,
            "temperature=0.5.*has none",
        ),
        (Layout().similarity(), {"temperature": 0.0}, ValueError, "temperature=0.0"),
        (Layout().similarity(), {"temperature": "warm"}, TypeError, "temperature='warm'"),
    ],
)
def test_wrong_neighbours(
    cls: type[sa.Substitute], table: Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cls(0.2, 0.7, table, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in OPERATORS if name.startswith("Time")])
def test_missing_timestamps(name: str) -> None:
    batch = make_batch(Layout(), [2, 3], 5)
    operator = OPERATORS[name](0.2, 0.7, batch.layout)
    with pytest.raises(ValueError, match=f"{type(operator).__name__}.*timestamps=None"):
        operator(batch.items)
    with pytest.raises(ValueError, match="timestamps=None"):
        sa.Policy([sa.Crop(0.2, 0.7), operator]).sample(batch.items)


def test_messages_about_neighbours_say_what_is_wrong() -> None:
    for wrong in (-4, 7):
        table = torch.ones(5, 2, dtype=torch.int64)
        table[1, 1] = wrong
        with pytest.raises(ValueError, match=f"got {wrong}$"):
            sa.Substitute(0.1, 0.2, table)


def test_repr_shows_temperature_and_gaps_only_where_they_are_set() -> None:
    similar = sa.ItemSimilarity.from_sequences([[1, 2, 3], [1, 3]], num_items=3, k=2)
    assert "temperature" not in repr(sa.Substitute(0.1, 0.2, similar))
    assert "temperature=0.5" in repr(sa.Substitute(0.1, 0.2, similar, top=2, temperature=0.5))
    for operator, usual, other in (
        (sa.TimeSubstitute, "smallest", "largest"),
        (sa.TimeInsert, "largest", "smallest"),
    ):
        assert repr(operator(0.1, 0.2, similar)) == repr(operator(0.1, 0.2, similar, gaps=usual))
        assert "gaps" not in repr(operator(0.1, 0.2, similar))
        assert f"gaps='{other}'" in repr(operator(0.1, 0.2, similar, gaps=other))
