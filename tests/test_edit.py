"""Edit: how a draw applies and how two of them compose."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from catalogue import EVERYTHING, Batch, Layout, batches, make_batch, same, sample, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import seqaug as sa
from seqaug.edit import identity, where


def random_edit(rows: int, slots: int, seed: int, pad_id: int = 0, on: sa.Edit | None = None) -> sa.Edit:
    """Any edit, also one that no operator draws; of another one's result it reads only what is real there."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(-1, slots, (rows, slots), generator=generator)
    if on is not None:
        source = torch.where(on.valid.gather(1, source.clamp(min=0)), source, -1)
    replaced = torch.randint(100, 110, (rows, slots), generator=generator)
    kept = torch.rand(rows, slots, generator=generator) < 0.6
    return sa.Edit(
        source, replaced.masked_fill(kept | (source < 0), -1), torch.rand(rows, generator=generator), pad_id
    )


def assert_composes(first: sa.Edit, second: sa.Edit, items: Tensor, timestamps: Tensor) -> sa.Edit:
    both = first.then(second)
    assert torch.equal(both(items), second(first(items)))
    assert torch.equal(both.align(timestamps), second.align(first.align(timestamps)))
    vectors = torch.randn(*items.shape, 2)
    assert torch.equal(both.align(vectors, fill=9), second.align(first.align(vectors, fill=9), fill=9))
    assert torch.equal(both.rate, (first.rate + second.rate) / 2)
    assert both.choice is None
    assert bool((both.replaced[~both.valid] == -1).all())
    return both


@pytest.mark.parametrize("name", EVERYTHING)
@given(batch=batches(), other=st.sampled_from(list(EVERYTHING)), seed=seeds)
def test_one_after_the_other_is_one_edit(name: str, batch: Batch, other: str, seed: int) -> None:
    first = sample(EVERYTHING[name](batch.layout), batch, seed)
    between = Batch(
        batch.layout, first(batch.items), first.align(batch.timestamps), first.valid.sum(1).tolist()
    )
    second = sample(EVERYTHING[other](batch.layout), between, seed + 1)
    assert_composes(first, second, batch.items, batch.timestamps)


@pytest.mark.parametrize("other", EVERYTHING)
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_pair_composes(name: str, other: str) -> None:
    batch = make_batch(Layout(5, "right"), [0, 1, 2, 4, 6], 6)
    first = sample(EVERYTHING[name](batch.layout), batch, 1)
    between = Batch(
        batch.layout, first(batch.items), first.align(batch.timestamps), first.valid.sum(1).tolist()
    )
    second = sample(EVERYTHING[other](batch.layout), between, 2)
    assert_composes(first, second, batch.items, batch.timestamps)


@given(rows=st.integers(0, 4), slots=st.integers(1, 6), seed=seeds)
def test_any_edits_compose_and_composition_is_associative(rows: int, slots: int, seed: int) -> None:
    items = torch.randint(1, 50, (rows, slots))
    one = random_edit(rows, slots, seed)
    two = random_edit(rows, slots, seed + 1, on=one)
    three = random_edit(rows, slots, seed + 2, on=two)
    left = assert_composes(assert_composes(one, two, items, items), three, items, items)
    right = one.then(two.then(three))
    assert torch.equal(left.source, right.source) and torch.equal(left.replaced, right.replaced)
    assert torch.equal(left(items), three(two(one(items))))


@given(batch=batches())
def test_identity_changes_nothing_and_is_neutral(batch: Batch) -> None:
    nothing = identity(batch.items, batch.layout.pad_id)
    assert torch.equal(nothing(batch.items), batch.items)
    assert torch.equal(nothing.align(batch.timestamps), batch.timestamps)
    assert not bool(nothing.future.any()) and bool((nothing.rate == 1).all())
    assert torch.equal(nothing.valid, batch.items != batch.layout.pad_id)
    edit = sample(EVERYTHING["Compose"](batch.layout), batch)
    for both in (nothing.then(edit), edit.then(identity(edit(batch.items), batch.layout.pad_id))):
        assert torch.equal(both.source, edit.source) and torch.equal(both.replaced, edit.replaced)


def test_where_takes_whole_rows() -> None:
    yes, no = random_edit(4, 5, 0), random_edit(4, 5, 1)
    rows = torch.tensor([True, False, False, True])
    mixed = where(rows, yes, no)
    for row in range(4):
        taken = yes if rows[row] else no
        assert torch.equal(mixed.source[row], taken.source[row])
        assert torch.equal(mixed.replaced[row], taken.replaced[row])
        assert mixed.rate[row] == taken.rate[row]
    assert mixed.choice is None


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool, torch.float64, torch.bfloat16]
)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2), (0,)], ids=str)
def test_align_takes_any_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    edit = random_edit(3, 5, 7)
    x = torch.randint(0, 2, (3, 5, *shape)).to(dtype)
    fill = True if dtype == torch.bool else 3
    before = x.clone()
    out = edit.align(x, fill=fill)
    assert out.dtype == dtype and out.shape == x.shape
    for row in range(3):
        for slot in range(5):
            source = int(edit.source[row, slot])
            expected = x[row, source] if source >= 0 else torch.full(shape, fill, dtype=dtype)
            assert torch.equal(out[row, slot], expected)
    assert torch.equal(x, before)


def test_large_ids_and_times_are_exact() -> None:
    """Nothing goes through float32, which has no 2**24 + 1."""
    items = torch.tensor([[2**24 + 1, 2**40 + 1, 2**62 + 1]])
    edit = sa.Edit(torch.tensor([[1, 2, 0]]), torch.tensor([[-1, -1, 2**53 + 1]]), torch.ones(1))
    assert edit(items).tolist() == [[2**40 + 1, 2**62 + 1, 2**53 + 1]]
    assert edit.align(items).tolist() == [[2**40 + 1, 2**62 + 1, 2**24 + 1]]


def test_gradients_follow_align() -> None:
    edit = sa.Edit(torch.tensor([[-1, 2, 2]]), torch.full((1, 3), -1), torch.ones(1))
    x = torch.randn(1, 3, 2, requires_grad=True)
    edit.align(x, fill=float("nan"))[edit.valid].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[0, 0], [0, 0], [2, 2]]]


def test_an_edit_is_a_value() -> None:
    edit = random_edit(2, 3, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.rate = torch.zeros(2)  # type: ignore[misc]
    moved = sample(EVERYTHING["Policy"](Layout()), make_batch(Layout(), [2, 3], 4)).to("cpu")
    assert moved.choice is not None and same(moved, moved.to(torch.device("cpu")))
    assert moved.to("meta").source.device.type == "meta"


def test_one_number_for_all_slots_is_the_new_id() -> None:
    """-1 that all slots share means that there is nothing new; any other number that they share is new."""
    items = torch.tensor([[0, 1, 2], [3, 4, 5]])
    for new in (7, 0, -1):
        for dtype in (torch.int64, torch.int32):
            shared = torch.tensor(new, dtype=dtype).expand(2, 3)
            edit = dataclasses.replace(identity(items.to(dtype)), replaced=shared)
            assert same(edit, dataclasses.replace(edit, replaced=shared.contiguous()))
            assert torch.equal(edit(items), dataclasses.replace(edit, replaced=shared.contiguous())(items))
            rows = sa.pack(items)
            packed = sa.Crop(1.0, 1.0).sample(rows)
            shared = torch.tensor(new, dtype=dtype).expand(5)
            found = dataclasses.replace(packed, replaced=shared)(rows).values
            assert torch.equal(found, dataclasses.replace(packed, replaced=shared.contiguous())(rows).values)
            assert found.tolist() == ([1, 2, 3, 4, 5] if new < 0 else [new] * 5)


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_a_draw_may_be_changed_in_one_place(name: str) -> None:
    """No two slots of an edit share memory."""
    batch = make_batch(Layout(), [3, 4], 5)
    edit = sample(EVERYTHING[name](Layout()), batch)
    for part in (edit.source, edit.replaced):
        before = part.clone()
        part[0, 4] = 3
        before[0, 4] = 3
        assert torch.equal(part, before)


@pytest.mark.parametrize(
    ("dtype", "fill"), [(torch.uint8, -1), (torch.int64, 0.5), (torch.int32, float("nan")), (torch.bool, 2)]
)
def test_a_fill_that_the_dtype_cannot_hold_is_refused(dtype: torch.dtype, fill: float) -> None:
    items = torch.tensor([[0, 1, 2]])
    x = torch.zeros(1, 3, dtype=dtype)
    for align in (identity(items).align, sa.prefixes(items).align):
        with pytest.raises(ValueError, match="fill must be a value of"):
            align(x, fill=fill)
    with pytest.raises(ValueError, match="fill must be a value of"):
        sa.Packed(x[0], torch.tensor([0, 1, 3]), 3).pad(fill=fill)


def test_errors() -> None:
    edit = random_edit(2, 3, 0)
    with pytest.raises(TypeError, match="items.dtype=torch.float32"):
        edit(torch.zeros(2, 3))
    for x in (torch.zeros(2, 4, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64)):
        with pytest.raises(ValueError, match=rf"\(2, 3\).*shape=\({x.shape[0]}, {x.shape[1]}\)"):
            edit(x)
    for shape in [(2,), (3, 2), (2, 4, 3), ()]:
        with pytest.raises(ValueError, match=r"\(batch, slots\) = \(2, 3\)"):
            edit.align(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"shape=\(2, 3\)"):
        edit.then(random_edit(2, 4, 0))
    with pytest.raises(ValueError, match="pad_id=0 and then pad_id=5"):
        edit.then(random_edit(2, 3, 0, pad_id=5))
    with pytest.raises(TypeError, match="x must be a tensor .*got list"):
        edit.align([[1.0, 2.0, 3.0]] * 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="other must be an edit.*got int"):
        edit.then(3)  # type: ignore[arg-type]
