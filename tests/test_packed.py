"""Packed rows: for every operator and policy the very draw of the padded batch."""

from __future__ import annotations

import pytest
import torch
from catalogue import EVERYTHING, LAYOUTS, Batch, Layout, batches, make_batch, same, sample, seeds
from hypothesis import given
from torch import Tensor

import seqaug as sa


def packed(batch: Batch) -> tuple[sa.Packed, sa.Packed]:
    """Items and times without padding."""
    items = sa.pack(batch.items, pad_id=batch.layout.pad_id)
    return items, items.like(batch.timestamps[batch.items != batch.layout.pad_id])


def sample_packed(operator: sa.Augmentation, batch: Batch, seed: int = 0) -> sa.PackedEdit:
    items, times = packed(batch)
    generator = torch.Generator().manual_seed(seed)
    return operator.sample(items, timestamps=times, generator=generator)


def assert_same_draw(operator: sa.Augmentation, batch: Batch, seed: int) -> None:
    edit, found = sample(operator, batch, seed), sample_packed(operator, batch, seed)
    assert same(found.pad(), sa.Edit(edit.source, edit.replaced, edit.rate, edit.pad_id, edit.choice))
    bucket = getattr(edit, "bucket", None)
    assert (found.bucket is None) == (bucket is None)
    assert bucket is None or torch.equal(found.bucket, bucket)
    items, times = packed(batch)
    valid = edit.valid
    assert torch.equal(found.future, edit.future[valid])
    assert torch.equal(found.lengths, valid.sum(1))
    out = found(items)
    assert out.values.dtype == batch.items.dtype
    assert torch.equal(out.pad(side=batch.layout.side, fill=batch.layout.pad_id), edit(batch.items))
    assert torch.equal(found.align(times).values, edit.align(batch.timestamps)[valid])
    vectors = torch.randn(*batch.items.shape, 3)
    own = vectors[batch.items != batch.layout.pad_id]
    assert torch.equal(found.align(own), edit.align(vectors)[valid])


@pytest.mark.parametrize("name", EVERYTHING)
@given(batch=batches(), seed=seeds)
def test_same_draw_as_on_the_padded_batch(name: str, batch: Batch, seed: int) -> None:
    assert_same_draw(EVERYTHING[name](batch.layout), batch, seed)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", EVERYTHING)
def test_same_draw_when_rows_fall_into_several_groups(name: str, layout: Layout) -> None:
    lengths = [0, 1, 2, 3, 5, 8, 13, 2, 2, 30, 50, 49, 7, 1, 0, 40] * 150
    batch = make_batch(layout, lengths, 50, seed=3)
    assert len(packed(batch)[0].groups) > 1
    assert_same_draw(EVERYTHING[name](layout), batch, 5)


@pytest.mark.parametrize("name", EVERYTHING)
def test_views_are_those_of_the_padded_batch(name: str) -> None:
    operator, batch = EVERYTHING[name](Layout()), make_batch(Layout(), [0, 1, 2, 6, 4], 6)
    items, times = packed(batch)
    padded = operator.sample_views(
        batch.items, 3, timestamps=batch.timestamps, generator=torch.Generator().manual_seed(2)
    )
    views = operator.sample_views(items, 3, timestamps=times, generator=torch.Generator().manual_seed(2))
    for edit, found in zip(padded, views, strict=True):
        assert torch.equal(found(items).pad(), edit(batch.items))


@pytest.mark.parametrize("name", EVERYTHING)
def test_one_edit_after_another(name: str) -> None:
    layout = Layout(5, "right")
    batch = make_batch(layout, [0, 1, 2, 6, 4], 9)
    items, times = packed(batch)
    first, second = EVERYTHING[name](layout), EVERYTHING["Compose"](layout)
    one = first.sample(items, timestamps=times)
    two = second.sample(one(items), timestamps=one.align(times))
    both = one.then(two)
    assert torch.equal(both(items).values, two(one(items)).values)
    assert torch.equal(both.align(times).values, two.align(one.align(times)).values)
    assert torch.equal(both.pad().source, one.pad().then(two.pad()).source)
    assert torch.equal(both.future, both.pad().future[both.pad().valid])


@pytest.mark.parametrize("name", EVERYTHING)
def test_nested_tensors_go_in_and_come_out(name: str) -> None:
    operator, batch = EVERYTHING[name](Layout()), make_batch(Layout(), [0, 1, 2, 6, 4], 6)
    items, times = packed(batch)
    nested, when = items.nested(), torch.nested.nested_tensor_from_jagged(times.values, items.offsets)
    edit = operator.sample(nested, timestamps=when, generator=torch.Generator().manual_seed(1))
    expected = sample_packed(operator, batch, 1)
    out = edit(nested)
    assert out.is_nested and torch.equal(out.values(), expected(items).values)
    assert torch.equal(out.offsets(), expected.offsets)
    assert torch.equal(edit.align(when).values(), expected.align(times.values))
    again = operator(nested, timestamps=when, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.values(), out.values())
    assert operator.eval()(nested, timestamps=when) is nested
    assert operator(items, timestamps=times) is items


@pytest.mark.parametrize("name", EVERYTHING)
def test_compiled_with_breaks_only_where_sizes_are_asked_for(name: str) -> None:
    """`eager` keeps every draw, so that the result is that of the uncompiled operator to the bit."""
    operator, batch = EVERYTHING[name](Layout()), make_batch(Layout(), [0, 1, 2, 6, 4], 6)
    items, times = packed(batch)
    torch.manual_seed(0)
    expected = operator(items, timestamps=times)
    torch.manual_seed(0)
    found = torch.compile(operator, backend="eager")(items, timestamps=times)
    assert torch.equal(found.values, expected.values) and torch.equal(found.offsets, expected.offsets)


def test_adaptive_policy_learns_from_packed_rows() -> None:
    policy = sa.AdaptivePolicy([sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99)], warmup=0)
    items = sa.pack([[1, 2, 3]] * 64)
    for _ in range(50):
        edit = policy.sample(items)
        assert edit.choice is not None
        policy.update(edit, (edit.choice == 1).float())
    assert policy.weights[0, 1] > 0.8


class Jagged:
    """The part of TorchRec's JaggedTensor and KeyedJaggedTensor that matters: methods in place of attributes."""

    def __init__(self, values: Tensor, lengths: Tensor, keys: list[str]) -> None:
        self._values, self._lengths, self._keys = values, lengths, keys

    def values(self) -> Tensor:
        return self._values

    def lengths(self) -> Tensor:
        return self._lengths

    def offsets(self) -> Tensor:
        return torch.nn.functional.pad(self._lengths.cumsum(0), (1, 0))

    def keys(self) -> list[str]:
        return self._keys


ROWS = [[1, 2], [], [3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (ROWS, {}),
        ([torch.tensor(row, dtype=torch.int64) for row in ROWS], {}),
        (torch.arange(1, 7), {"lengths": torch.tensor([2, 0, 4], dtype=torch.int32)}),
        (torch.arange(1, 7), {"offsets": torch.tensor([0, 2, 2, 6])}),
        (sa.pad_sequences(ROWS, length=4), {}),
        (sa.pad_sequences(ROWS, length=4, side="right", pad_id=9), {"pad_id": 9}),
        (torch.nested.nested_tensor_from_jagged(torch.arange(1, 7), torch.tensor([0, 2, 2, 6])), {}),
        (
            torch.nested.nested_tensor_from_jagged(
                torch.tensor([1, 2, 0, 0, 0, 3, 4, 5, 6]),
                torch.tensor([0, 4, 5, 9]),
                lengths=torch.tensor([2, 0, 4]),
            ),
            {},
        ),
        (Jagged(torch.arange(1, 7), torch.tensor([2, 0, 4], dtype=torch.int32), ["item"]), {}),
    ],
    ids=["lists", "tensors", "lengths", "offsets", "left", "right", "nested", "narrowed", "torchrec"],
)
def test_pack_takes_every_form(rows: object, options: dict[str, object]) -> None:
    whole = sa.pack(rows, **options)
    assert whole.values.tolist() == [1, 2, 3, 4, 5, 6] and whole.offsets.tolist() == [0, 2, 2, 6]
    assert whole.length == 4 and whole.offsets.dtype == torch.int64
    cut = sa.pack(rows, length=3, **options)
    assert cut.values.tolist() == [1, 2, 4, 5, 6] and cut.lengths.tolist() == [2, 0, 3] and cut.length == 3
    assert sa.pack(whole, length=3).values.tolist() == cut.values.tolist()
    assert sa.pack(whole) is whole


def test_pack_takes_vectors_and_pads_them() -> None:
    rows = [torch.arange(6.0).view(2, 3), torch.zeros(0, 3), torch.ones(1, 3)]
    found = sa.pack(rows, length=4).pad(fill=-1)
    assert found.shape == (3, 4, 3) and found.dtype == torch.float32
    assert torch.equal(found[0, 2:], rows[0]) and bool((found[1] == -1).all())


def test_empty_batches() -> None:
    for items in (sa.pack([], length=5), sa.pack([[], []], length=5)):
        edit = sa.Policy([sa.Crop(0.2, 0.7), sa.Reorder(0.2, 0.7)]).sample(items)
        assert len(edit(items).values) == 0 and len(edit.lengths) == len(items.lengths)
        assert edit(items).pad().shape == (len(items.lengths), 5)


def test_rows_go_into_few_groups() -> None:
    """Each row into one that is wide enough; together the groups cost no more than one padded batch."""
    lengths = torch.randint(0, 51, (4096,), generator=torch.Generator().manual_seed(0)).clamp(max=50)
    lengths[:3500] = lengths[:3500] % 6
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    groups = sa.Packed(torch.ones(int(lengths.sum()), dtype=torch.int64), offsets, 50).groups
    assert torch.cat([group.rows for group in groups]).sort().values.tolist() == list(range(4096))
    assert all(bool((lengths[group.rows] <= group.width).all()) for group in groups)
    assert 2 <= len(groups) <= 6
    assert sum(len(group.rows) * group.width for group in groups) < 4096 * 50 / 3


def test_groups_go_along_to_another_device() -> None:
    items = sa.pack(ROWS, length=4)
    groups = items.groups
    moved = items.to("meta")
    assert [group.rows.device.type for group in moved.groups] == ["meta"] * len(groups)
    assert items.like(items.values.float()).groups is groups
    edit = sa.Crop(0.5, 0.5).sample(items).to("meta")
    assert edit.source.device.type == edit.offsets.device.type == "meta"


def test_describe() -> None:
    items = sa.pack([[1, 2, 3, 4]], length=6)
    edit = sa.Crop(0.5, 0.5).sample(items, generator=torch.Generator().manual_seed(0))
    assert ". . 1 2 3 4" in edit.describe(0, items) and "rate 0.50" in edit.describe(0)
    assert sa.inspect.describe(edit, 0, items) == sa.inspect.describe(edit.pad(), 0, items.pad())
    assert sa.inspect.describe(edit, 0, sa.pack(items.nested())) == edit.describe(0, items)


def test_errors() -> None:
    items = sa.pack(ROWS)
    edit = sa.Crop(0.5, 0.5).sample(items)
    with pytest.raises(ValueError, match="6 values in 3 rows"):
        edit.align(torch.zeros(5))
    with pytest.raises(ValueError, match="6 values in 3 rows"):
        edit(sa.pack([[1, 2, 3, 4, 5, 6]]))
    with pytest.raises(TypeError, match="packed or nested"):
        edit(items.values)
    with pytest.raises(TypeError, match="int64 or int32"):
        sa.Crop(0.5, 0.5).sample(items.like(items.values.float()))
    with pytest.raises(ValueError, match="aligned with the items"):
        sa.TimeCrop(0.5, 0.5).sample(items, timestamps=torch.zeros(5))
    with pytest.raises(ValueError, match="timestamps=None"):
        sa.TimeCrop(0.5, 0.5).sample(items)
    with pytest.raises(ValueError, match="length=3 items, got one of 4"):
        sa.Crop(0.5, 0.5).sample(sa.Packed(items.values, items.offsets, 3))
    with pytest.raises(ValueError, match="sampled|share"):
        edit.then(sa.Crop(0.5, 0.5).sample(sa.pack([[1]])))
    with pytest.raises(TypeError, match="other must be an edit.*got Edit"):
        edit.then(edit.pad())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x must be a tensor .*got list"):
        edit.align([1.0] * 6)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="lengths must be a tensor .*got list"):
        sa.pack(torch.arange(4), lengths=[1, 3])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one key.*keyed"):
        sa.pack(Jagged(torch.arange(4), torch.tensor([1, 1, 1, 1]), ["item", "time"]))
    with pytest.raises(ValueError, match="ascend from 0"):
        sa.pack(torch.arange(4), lengths=torch.tensor([1, 1]))
    with pytest.raises(TypeError, match="lengths= or offsets="):
        sa.pack(torch.arange(4))
    with pytest.raises(TypeError, match="either lengths or offsets"):
        sa.pack(ROWS, lengths=torch.tensor([1]))
    with pytest.raises(TypeError, match="got dict"):
        sa.pack({"a": 1})
    with pytest.raises(TypeError, match="lists of numbers"):
        sa.pack(["ab", "c"])
    with pytest.raises(TypeError, match="offsets.dtype=torch.int32"):
        sa.Packed(items.values, items.offsets.int(), 4)


def test_noise_of_a_policy_of_ones_own() -> None:
    class Odd(sa.Crop):
        def draw(self, items: Tensor, generator: torch.Generator | None = None) -> object:  # type: ignore[override]
            return object()

    with pytest.raises(TypeError, match="of_rows"):
        Odd(0.5, 0.5).sample(sa.pack(ROWS))


@pytest.mark.parametrize("offsets", [torch.zeros(2, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)])
def test_packed_wants_offsets_with_one_axis(offsets: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"offsets must be \(rows \+ 1,\)"):
        sa.Packed(torch.arange(4), offsets, length=4)


@pytest.mark.parametrize("offsets", [[1, 2, 4], [0, 2, 3], [0, 3, 2, 4], [[0, 4]], []])
def test_pack_wants_offsets_that_fit(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets must ascend from 0 to the number of values"):
        sa.pack(torch.arange(1, 5), offsets=torch.tensor(offsets, dtype=torch.int64))


def test_rows_that_hold_the_pad_id_are_refused() -> None:
    for operator in (sa.Crop(1.0, 1.0), sa.Mask(0.3, 0.3, mask_id=99)):
        with pytest.raises(ValueError, match="packed rows must not hold the pad id, got pad_id=0"):
            operator(sa.pack([[1, 0, 3], [4, 5]]))


def test_as_many_values_in_other_rows_are_refused() -> None:
    edit = sa.Reorder(1.0, 1.0).sample(sa.pack([[1, 2, 3], [4]]))
    with pytest.raises(ValueError, match="sampled on rows of other lengths"):
        edit(sa.pack([[1], [2, 3, 4]]))
    assert sorted(edit(sa.pack([[5, 6, 7], [8]])).values.tolist()) == [5, 6, 7, 8]
    timed, rows = sa.TimeMask(0.3, 0.3, mask_id=9), sa.pack([[1, 2, 3], [4]])
    with pytest.raises(ValueError, match="timestamps must be aligned .* in rows that begin elsewhere"):
        timed(rows, timestamps=sa.pack([[1], [2, 3, 4]]))
    assert len(timed(rows, timestamps=sa.pack([[1, 2, 3], [4]])).values) == 4


@pytest.mark.parametrize("offsets", [[1, 4], [0, 2], [0, 3, 1, 3]])
def test_packed_wants_offsets_that_fit(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match=r"offsets must ascend from 0 to the number of values \(3\)"):
        sa.Packed(torch.tensor([1, 2, 3]), torch.tensor(offsets), 4)
