"""pad_sequences, lengths and check_batch."""

from __future__ import annotations

import pytest
import torch
from catalogue import LAYOUTS, Batch, Layout, batches
from hypothesis import given
from hypothesis import strategies as st

import seqaug as sa

rows_of_ids = st.lists(st.lists(st.integers(1, 20), max_size=8), max_size=5)


@given(rows=rows_of_ids, length=st.none() | st.integers(1, 10), side=st.sampled_from(["left", "right"]))
def test_padding_row_by_row(rows: list[list[int]], length: int | None, side: str) -> None:
    padded = sa.pad_sequences(rows, length, side=side, pad_id=-1)  # type: ignore[arg-type]
    slots = length or max([1, *map(len, rows)])
    assert padded.dtype == torch.int64 and padded.shape == (len(rows), slots)
    for row, ids in zip(padded.tolist(), rows, strict=True):
        newest = ids[-slots:]
        padding = [-1] * (slots - len(newest))
        assert row == (padding + newest if side == "left" else newest + padding)
    assert sa.lengths(padded, pad_id=-1).tolist() == [min(len(ids), slots) for ids in rows]


def test_rows_may_be_tensors_tuples_or_a_generator() -> None:
    expected = [[0, 1, 2], [3, 4, 5]]
    assert sa.pad_sequences([(1, 2), range(3, 6)]).tolist() == expected
    assert sa.pad_sequences(torch.tensor(row) for row in ([1, 2], [3, 4, 5])).tolist() == expected
    assert sa.pad_sequences([torch.tensor([1, 2], dtype=torch.int32), [3, 4, 5]]).tolist() == expected
    assert sa.pad_sequences([]).shape == (0, 1)
    assert sa.pad_sequences([[], torch.zeros(0, dtype=torch.int64)], length=2).tolist() == [[0, 0], [0, 0]]
    assert sa.pad_sequences([[2**62 + 1]]).tolist() == [[2**62 + 1]]


def test_rows_are_copied() -> None:
    row = torch.tensor([1, 2, 3])
    sa.pad_sequences([row], length=3).fill_(9)
    assert row.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([[1, 2], [3, 0]], {}, ValueError, "row 1 holds the pad id, got pad_id=0"),
        ([[1, 2], [3, 7]], {"pad_id": 7}, ValueError, "row 1 holds the pad id, got pad_id=7"),
        ([[1], [0, 2, 3]], {"length": 2}, ValueError, "row 1 holds the pad id"),
        ([[1], [2.5]], {}, TypeError, "row 1 of torch.float32"),
        ([[True]], {}, TypeError, "row 0 of torch.bool"),
        ([[[1, 2]]], {}, TypeError, r"row 0 of torch.int64, shape=\(1, 2\)"),
        ([["a"]], {}, TypeError, "row 0"),
        ([1, 2, 3], {}, TypeError, "row 0"),
        ([None], {}, TypeError, "row 0"),
        ([[1]], {"length": 0}, ValueError, "length=0"),
        ([[1]], {"length": 2.0}, TypeError, "length=2.0"),
        ([[1]], {"side": "top"}, ValueError, "side='top'"),
    ],
)
def test_errors_of_padding(
    rows: list[list[int]], options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sa.pad_sequences(rows, **options)  # type: ignore[arg-type]


@given(batch=batches())
def test_lengths(batch: Batch) -> None:
    found = sa.lengths(batch.items, pad_id=batch.layout.pad_id)
    assert found.dtype == torch.int64 and found.tolist() == batch.lengths


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_batch_of_a_convention_is_right(layout: Layout) -> None:
    items = sa.pad_sequences([layout.ids[:5], [], layout.ids], **layout.arguments)
    before = items.clone()
    sa.check_batch(items, 20, **layout.arguments)
    sa.check_batch(items.int(), 20, **layout.arguments)
    sa.check_batch(items[:0], 20, **layout.arguments)
    assert torch.equal(items, before)


@given(batch=batches(least=1), data=st.data())
def test_a_pad_among_the_items_is_found(batch: Batch, data: st.DataObject) -> None:
    """Exactly where a pad stands between items, or on the wrong side of them."""
    layout, items = batch.layout, batch.items.clone()
    row = data.draw(st.integers(0, len(items) - 1))
    slot = data.draw(st.integers(0, items.shape[1] - 1))
    items[row, slot] = layout.pad_id
    real = (items[row] != layout.pad_id).tolist()
    count = sum(real)
    wanted = [False] * (len(real) - count) + [True] * count
    if real == (wanted if layout.side == "left" else wanted[::-1]):
        sa.check_batch(items, 20, mask_id=layout.mask_id, **layout.arguments)
    else:
        with pytest.raises(ValueError, match=f"on the {layout.side} only.*row {row}, slot {slot}$"):
            sa.check_batch(items, 20, mask_id=layout.mask_id, **layout.arguments)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_ids_outside_the_catalog_are_found(layout: Layout) -> None:
    for wrong in ({-5, -1, 0, 21, 22, 100} | {20} - set(layout.ids)) - {layout.pad_id, *layout.ids}:
        items = torch.tensor([[layout.ids[0], layout.ids[1]], [layout.ids[2], wrong]])
        with pytest.raises(ValueError, match=rf"items\[1, 1\]={wrong}$"):
            sa.check_batch(items, 20, **layout.arguments)
        if wrong >= 0:
            sa.check_batch(items, 20, mask_id=wrong, **layout.arguments)


def test_padding_on_the_other_side_is_found() -> None:
    left = torch.tensor([[1, 2], [0, 3]])
    sa.check_batch(left, 5)
    with pytest.raises(ValueError, match="padded on the right only.*before an item in row 1, slot 0"):
        sa.check_batch(left, 5, side="right")


def test_errors_of_checks() -> None:
    items = torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(TypeError, match="items.dtype=torch.float32"):
        sa.check_batch(items.float(), 5)
    with pytest.raises(TypeError, match="items.dtype=torch.float32"):
        sa.lengths(items.float())
    with pytest.raises(ValueError, match=r"items.shape=\(3,\)"):
        sa.lengths(items[0])
    with pytest.raises(ValueError, match="num_items=0"):
        sa.check_batch(items, 0)
    with pytest.raises(ValueError, match="side='top'"):
        sa.check_batch(items, 5, side="top")  # type: ignore[arg-type]


@pytest.mark.parametrize("pad_id", [True, 0.0, "0"])
def test_pad_ids_are_whole_numbers(pad_id: object) -> None:
    items = torch.tensor([[7, 8, 9]])
    for call in (
        lambda: sa.pad_sequences([[7, 8, 9], [5]], pad_id=pad_id),
        lambda: sa.lengths(items, pad_id=pad_id),
        lambda: sa.check_batch(items, 10, pad_id=pad_id),
    ):
        with pytest.raises(TypeError, match="pad_id must be a whole number"):
            call()
