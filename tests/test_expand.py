"""Prefixes and sliding windows against plain loops over lists."""

from __future__ import annotations

import pytest
import torch
from catalogue import Batch, Layout, batches, make_batch
from hypothesis import given
from hypothesis import strategies as st

import seqaug as sa


def padded(row: list[int], width: int, pad: int, side: str) -> list[int]:
    gap = [pad] * (width - len(row))
    return gap + row if side == "left" else row + gap


def check(parts: sa.Expansion, batch: Batch, expected: list[list[tuple[int, int, int]]], width: int) -> None:
    """``expected``: per row of the batch the (begin, end, first item whose target counts) of each part, in their order."""
    layout, items = batch.layout, batch.items
    pad, side = layout.pad_id, layout.side
    target = torch.where(items != pad, items + 100, pad)  # not ids of the batch, so that none is mistaken
    new, asked, times = parts(items), parts.targets(target), parts.align(batch.timestamps, fill=-3)
    assert new.dtype == items.dtype and new.shape == asked.shape == times.shape == parts.asked.shape
    found = iter(range(len(new)))
    for row, spans in enumerate(expected):
        own = [items[row, slot].item() for slot in batch.slots(row)]
        when = [batch.timestamps[row, slot].item() for slot in batch.slots(row)]
        for begin, end, first in spans:
            n = next(found)
            span = range(begin, end)
            assert new[n].tolist() == padded([own[i] for i in span], width, pad, side)
            wanted = [own[i] + 100 if i >= first else pad for i in span]
            assert asked[n].tolist() == padded(wanted, width, pad, side)
            assert times[n].tolist() == padded([when[i] for i in span], width, -3, side)
            assert parts.row[n] == row and bool(parts.filled[n]) == bool(span)
    assert next(found, None) is None
    counted = asked[asked != pad].sort().values
    assert torch.equal(counted, target[target != pad].sort().values), "every target counts once"


@given(batch=batches())
def test_prefixes_are_all_beginnings(batch: Batch) -> None:
    slots = batch.items.shape[1]
    expected = [
        [(0, max(0, n - older), max(0, n - older) - 1) for older in reversed(range(slots))]
        for n in batch.lengths
    ]
    parts = sa.prefixes(batch.items, **batch.layout.arguments)
    check(parts, batch, expected, slots)


@given(batch=batches(), most=st.integers(1, 15))
def test_prefixes_may_be_only_the_longest(batch: Batch, most: int) -> None:
    every = sa.prefixes(batch.items, **batch.layout.arguments)
    some = sa.prefixes(batch.items, most=most, **batch.layout.arguments)
    rows, slots = batch.items.shape
    kept = torch.arange(rows * slots).view(rows, slots)[:, -most:].flatten()
    assert torch.equal(some(batch.items), every(batch.items)[kept])
    assert torch.equal(some.targets(batch.items), every.targets(batch.items)[kept])


@given(batch=batches(), size=st.integers(1, 15), data=st.data())
def test_windows_reach_the_oldest_item(batch: Batch, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size))
    slots = batch.items.shape[1]
    width = min(size, slots)
    parts = sa.windows(batch.items, size, stride=stride, **batch.layout.arguments)
    number = len(parts.row) // max(1, len(batch.lengths))
    expected = []
    for n in batch.lengths:
        spans, end = [], n
        while True:
            begin = max(0, end - width)
            spans.append((begin, end, end - stride if begin else 0))
            if begin == 0:
                break
            end -= stride
        expected.append(spans + [(0, 0, 0)] * (number - len(spans)))
    check(parts, batch, expected, width)
    assert not batch.lengths or max(map(len, expected)) == number


def test_no_more_windows_than_the_longest_row_needs() -> None:
    for slots, size, stride, number in (
        (50, 20, 10, 4),
        (50, 50, 1, 1),
        (51, 50, 7, 2),
        (7, 20, 3, 1),
        (9, 3, 2, 4),
    ):
        batch = make_batch(Layout(), [slots], slots)
        parts = sa.windows(batch.items, size, stride=stride)
        assert len(parts.row) == number and bool(parts.filled.all())


@given(batch=batches(least=1))
def test_compact_leaves_out_what_is_empty(batch: Batch) -> None:
    parts = sa.prefixes(batch.items, **batch.layout.arguments)
    full = parts.compact()
    assert bool(full.filled.all()) and len(full.row) == sum(batch.lengths)
    assert torch.equal(full(batch.items), parts(batch.items)[parts.filled])
    assert torch.equal(full.targets(batch.items), parts.targets(batch.items)[parts.filled])


def test_one_graph_without_a_look_at_the_data() -> None:
    def expand(items: torch.Tensor) -> torch.Tensor:
        parts, pieces = sa.windows(items, 3, stride=2), sa.prefixes(items, most=4)
        return torch.cat([parts(items).flatten(), pieces.targets(items).flatten()])

    compiled = torch.compile(expand, fullgraph=True, backend="aot_eager")
    for lengths in ([0, 1, 7], [3, 4, 5]):
        items = make_batch(Layout(), lengths, 7).items
        assert torch.equal(compiled(items), expand(items))
    assert sa.windows(torch.ones(2, 7, dtype=torch.int64, device="meta"), 3).source.shape == (10, 3)


def test_vectors_follow() -> None:
    items, vectors = torch.tensor([[0, 1, 2, 3]]), torch.randn(1, 4, 5)
    parts = sa.windows(items, 2)
    assert torch.equal(parts.align(vectors)[0], vectors[0, 2:])


def test_errors() -> None:
    items = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="stride=3 and size=2"):
        sa.windows(items, 2, stride=3)
    with pytest.raises(ValueError, match="size=0"):
        sa.windows(items, 0)
    with pytest.raises(ValueError, match="most=0"):
        sa.prefixes(items, most=0)
    with pytest.raises(ValueError, match="side='top'"):
        sa.prefixes(items, side="top")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"torch.float32"):
        sa.prefixes(torch.ones(2, 3))
    for expand in (sa.prefixes, lambda items, **options: sa.windows(items, 2, **options)):
        with pytest.raises(TypeError, match="pad_id=0.5"):
            expand(torch.tensor([[1, 2]]), pad_id=0.5)  # type: ignore[operator]
        with pytest.raises(ValueError, match="pad_id=1099511627776"):
            expand(torch.tensor([[1, 2]], dtype=torch.int32), pad_id=2**40)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"\(1, 4\).*x.shape=\(2, 4\)"):
        sa.prefixes(torch.tensor([[1, 2, 3, 4]])).align(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"\(1, 4\).*x.shape=\(1, 5\)"):
        sa.windows(torch.tensor([[1, 2, 3, 4]]), 2).targets(torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x.shape=\(3,\)"):
        sa.prefixes(items).align(torch.ones(3))
