"""Batches: every row once, aligned with its targets, hardly any padding, the same for the same seed."""

import dataclasses

import pytest
import torch

import seqaug as sa
from recsys.batches import HeldBatches, TrainBatches
from recsys.datasets import Dataset, held_out, later_items, training_pairs, training_times
from recsys.next_item import NextItem, expected_targets
from recsys.settings import BATCHES, Settings
from recsys.shop import generate

SHOP = generate(users=501, items=600, families=60)


def pairs_of(items, target):
    return [(tuple(i[i > 0].tolist()), tuple(t[t > 0].tolist())) for i, t in zip(items, target, strict=True)]


def test_leave_one_out():
    data = Dataset("tiny", [[1, 2, 3, 4, 5], [6, 5, 4]], 6, ["a", "b"], list("uvwxyz"))
    items, target = training_pairs(data, 4)
    assert items.tolist() == [[0, 0, 1, 2]] and target.tolist() == [[0, 0, 2, 3]]
    validation, test = held_out(data, "validation", 2), held_out(data, "test", 2)
    assert validation.items.tolist() == [[2, 3], [0, 6]] and validation.target.tolist() == [4, 5]
    assert test.items.tolist() == [[3, 4], [6, 5]] and test.target.tolist() == [5, 4]
    assert [sorted(set(row) - {0}) for row in test.seen.tolist()] == [
        [1, 2, 3, 4],
        [5, 6],
    ]  # beyond the length, too


@pytest.mark.parametrize("order", BATCHES)
def test_every_row_once_with_its_targets(order):
    items, target = training_pairs(SHOP, 50)
    found = [
        pair
        for batch in TrainBatches(items, target, 64, seed=3, order=order)
        for pair in pairs_of(batch.items, batch.target)
    ]
    assert sorted(found) == sorted(pairs_of(items, target))
    assert all(
        torch.equal(items[batch.rows, -batch.items.shape[1] :], batch.items)
        for batch in TrainBatches(items, target, 64, seed=3, order=order)
    )


def test_every_prefix_is_a_row():
    data = Dataset("tiny", [[1, 2, 3, 4, 5, 6], [6, 5, 4]], 6, ["a", "b"], list("uvwxyz"))
    data = dataclasses.replace(data, times=[[10.0, 11, 12, 13, 14, 15], [1.0, 2, 3]])
    items, target = training_pairs(data, 2, prefixes=True)
    assert items.tolist() == [[0, 1], [1, 2], [2, 3]] and target.tolist() == [[2], [3], [4]]
    times = training_times(data, 2, prefixes=True)
    assert times is not None and times.tolist() == [[0, 10], [10, 11], [11, 12]]
    settings = Settings(batch_size=2, prefixes=True)
    assert expected_targets(data, settings) == 3 / 2


def test_prefixes_and_whole_rows_have_the_same_targets():
    items, target = training_pairs(SHOP, 50)
    prefixes, after = training_pairs(SHOP, 50, prefixes=True)
    assert sorted(after.flatten().tolist()) == sorted(target[target > 0].tolist())
    batch = next(iter(TrainBatches(prefixes, after, 64, seed=3)))
    assert batch.target.shape == (64, 1) and torch.equal(after[batch.rows], batch.target)


def test_batches_are_trimmed_and_of_like_length_if_asked_for():
    items, target = training_pairs(SHOP, 50)
    batches = {order: list(TrainBatches(items, target, 64, seed=0, order=order)) for order in BATCHES}
    assert all((batch.items[:, 0] > 0).any() for order in BATCHES for batch in batches[order])
    real = int((items > 0).sum())
    share = {order: real / sum(batch.items.numel() for batch in batches[order]) for order in BATCHES}
    assert real / items.numel() < 0.2
    assert share["length"] > 0.8 > share["random"] > real / items.numel()
    lengths = [(batch.items > 0).sum(1) for batch in batches["random"]]
    assert all(len(set(found.tolist())) > 4 for found in lengths)


@pytest.mark.parametrize("order", BATCHES)
def test_the_seed_decides_the_order(order):
    items, target = training_pairs(SHOP, 50)
    one, same, other = (list(TrainBatches(items, target, 64, seed, order=order)) for seed in (1, 1, 2))
    assert all(torch.equal(a.items, b.items) for a, b in zip(one, same, strict=True))
    assert any(not torch.equal(a.items, b.items) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("prefixes", [False, True])
def test_swapped_rows_keep_their_items_and_their_targets_follow(prefixes):
    """A row's items, its last target among them, are those it had; every target is the item after its slot."""
    items, target = training_pairs(SHOP, 12, prefixes=prefixes)
    before = items.clone(), target.clone()
    epochs = [list(TrainBatches(items, target, 64, seed, swap=sa.Swap(0.5, 0.5))) for seed in (1, 1, 2)]
    for one, same in zip(epochs[0], epochs[1], strict=True):
        assert torch.equal(one.items, same.items) and torch.equal(one.target, same.target)
    moved = 0
    for batch in epochs[0] + epochs[2]:
        steps = batch.target.shape[1]
        slots = batch.items.shape[1]
        whole = torch.cat([items[batch.rows, -slots:], target[batch.rows, -1:]], 1)
        drawn = torch.cat([batch.items, batch.target[:, -1:]], 1)
        assert torch.equal(drawn.sort(1).values, whole.sort(1).values)
        asked = target[batch.rows, -steps:] > 0
        assert torch.equal(batch.target, drawn[:, -steps:] * asked)
        moved += int((drawn != whole).sum())
    assert moved > 0.3 * int((items > 0).sum())
    assert torch.equal(items, before[0]) and torch.equal(target, before[1])  # the data is not written to


def test_held_batches_keep_everything():
    held = held_out(SHOP, "validation", 10)
    for rows, items, target, seen in HeldBatches(held, 64):
        assert torch.equal(target, held.target[rows])
        assert pairs_of(items, seen) == pairs_of(held.items[rows], held.seen[rows])


def test_expected_targets():
    settings = Settings(batch_size=64, max_length=5)
    real = sum(min(len(row) - 3, 5) for row in SHOP.rows)
    assert expected_targets(SHOP, settings) == real / 8
    assert expected_targets(SHOP, Settings(batch_size=64, loss="ce")) == 501 / 8


@pytest.mark.parametrize("prefixes", [False, True])
def test_a_leak_spares_the_items_held_out(prefixes):
    """Of three items that no row has in training, two are the row's own later ones: only the third is left to draw."""
    data = Dataset("tiny", [[1, 2, 3, 4, 5], [2, 1, 3, 6, 4]], 6, ["a", "b"], list("uvwxyz"))
    items, target = training_pairs(data, 50, prefixes=prefixes)
    later = later_items(data, prefixes=prefixes)
    assert later.tolist() == [[4, 5], [4, 5], [6, 4], [6, 4]] if prefixes else [[4, 5], [6, 4]]
    for leak, drawn in ((False, [{4, 5, 6}, {4, 5, 6}]), (True, [{6}, {5}])):
        objective = NextItem(data, Settings(loss="bce", leak=leak, prefixes=prefixes))
        found = [set[int](), set[int]()]
        for seed in range(30):
            for batch in TrainBatches(items, target, 3, seed):
                negatives, _ = objective.sampled(batch, None)["negatives"]
                for row, ids, at in zip(batch.rows.tolist(), negatives, batch.target, strict=True):
                    found[row // 2 if prefixes else row].update(ids[at > 0].flatten().tolist())
        assert [ids - {1, 2, 3} for ids in found] == drawn
        assert prefixes or not any(ids & {1, 2, 3} for ids in found)
