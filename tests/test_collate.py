"""Rows to batches in data loaders: with workers of either kind, ranks, epochs and reruns."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from catalogue import EVERYTHING, Layout
from torch.utils.data import DataLoader, Dataset

import seqaug as sa

LAYOUT = Layout()


class Rows(Dataset[Any]):
    """The same row over and over, so that batches differ by their draws alone."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"items": list(range(1, 13)), "timestamps": list(range(0, 120, 10)), "user": number}


def views(loader: DataLoader[Any], epochs: int = 1) -> list[list[list[list[int]]]]:
    """Augmented ids by epoch and batch."""
    return [[batch["edits"][0](batch["items"]).tolist() for batch in loader] for _ in range(epochs)]


def loader(collate: sa.Collate, seed: int = 0, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        Rows(), batch_size=8, collate_fn=collate, generator=torch.Generator().manual_seed(seed), **options
    )


def collate(name: str = "Policy", **options: Any) -> sa.Collate:
    return sa.Collate(length=16, operator=EVERYTHING[name](LAYOUT), **options)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    "start", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]
)
def test_workers_and_epochs_differ_and_a_rerun_repeats(start: str, persistent: bool) -> None:
    options: dict[str, Any] = {
        "num_workers": 2,
        "multiprocessing_context": start,
        "persistent_workers": persistent,
    }
    first = views(loader(collate(rank=0), **options), epochs=2)
    assert views(loader(collate(rank=0), **options), epochs=2) == first
    # Four batches an epoch of the same rows, two from each worker: all eight differ.
    batches = [batch for epoch in first for batch in epoch]
    assert all(one != other for number, one in enumerate(batches) for other in batches[:number])


def test_ranks_differ_though_seeded_alike() -> None:
    ranks = [
        views(loader(collate(rank=rank), num_workers=2, multiprocessing_context="spawn"))[0]
        for rank in (0, 1)
    ]
    batches = [batch for epoch in ranks for batch in epoch]
    assert all(one != other for number, one in enumerate(batches) for other in batches[:number])


def test_rank_comes_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    found = {}
    for rank in (0, 1, 2):
        monkeypatch.setenv("RANK", str(rank))
        found[rank] = views(loader(collate()))
        told = pickle.loads(pickle.dumps(collate()))
        monkeypatch.setenv("RANK", "0")
        assert told.rank == rank and views(loader(told)) == found[rank]
    assert found[0] != found[1] != found[2] != found[0]


def test_in_the_main_process() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = views(loader(collate(rank=0)), epochs=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert first[0] != first[1]
    assert views(loader(collate(rank=0)), epochs=2) == first
    torch.manual_seed(4)
    assert views(loader(collate(rank=0)), epochs=2) != first


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_operator(name: str, packed: bool) -> None:
    make = sa.Collate(length=6, operator=EVERYTHING[name](LAYOUT), views=2, packed=packed, rank=0)
    rows = [{"items": [1, 2, 3], "timestamps": [5, 6, 9]}, {"items": [4], "timestamps": [1]}]
    batch = make(rows)
    assert len(batch["edits"]) == 2
    for edit in batch["edits"]:
        out = edit(batch["items"])
        assert (out.pad() if packed else out).shape == (2, 6)


def test_draws_are_the_same_packed_and_padded() -> None:
    rows = [{"items": [1, 2, 3, 4, 5], "timestamps": [5, 6, 9, 9, 9]}, {"items": [4], "timestamps": [1]}]
    torch.manual_seed(0)
    padded, packed = (collate(packed=packed, rank=0)(rows) for packed in (False, True))
    assert torch.equal(packed["edits"][0](packed["items"]).pad(), padded["edits"][0](padded["items"]))


def test_on_the_device_after_transfer() -> None:
    batch = sa.Collate(length=4)([[1, 2, 3], [4]])
    device = torch.device("meta")
    assert sa.Crop(0.5, 0.5)(batch["items"].to(device)).shape == (2, 4)
    packed = sa.Collate(length=4, packed=True)([[1, 2, 3], [4]])["items"]
    assert isinstance(packed, sa.Packed) and packed.to(device).values.device == device


def test_mixing_in_a_worker() -> None:
    make = sa.Collate(length=4, operator=sa.MixupOp(sa.Crop(0.2, 0.7)), rank=0)
    (mix,) = make([[1, 2, 3], [4]])["edits"]
    assert mix(torch.ones(2, 4, 3), torch.ones(2, 4, 3)).shape == (2, 4, 3)


def test_whatever_is_aligned_is_padded() -> None:
    row = {
        "items": [1, 2, 3],
        "target": [2, 3, 4],
        "rating": [0.5, 1.0, 5.0],
        "image": torch.arange(6.0).view(3, 2),
        "user": 7,
    }
    batch = sa.Collate(length=2, fill={"target": -100})(
        [row, {**row, "items": [9], "target": [8], "rating": [2.0], "image": torch.ones(1, 2)}]
    )
    assert batch["items"].tolist() == [[2, 3], [0, 9]] and batch["target"].tolist() == [[3, 4], [-100, 8]]
    assert batch["rating"].tolist() == [[1.0, 5.0], [0.0, 2.0]] and batch["image"].shape == (2, 2, 2)
    assert batch["image"][0].tolist() == [[2, 3], [4, 5]] and batch["user"].tolist() == [7, 7]
    right = sa.Collate(pad_id=99, side="right")([[1, 2, 3], [4], []])
    assert right["items"].tolist() == [[1, 2, 3], [4, 99, 99], [99, 99, 99]]


def test_no_rows() -> None:
    assert sa.Collate(length=3)([])["items"].shape == (0, 3)


def test_copies() -> None:
    make = collate(rank=3)
    make([{"items": [1], "timestamps": [1]}])
    assert copy.deepcopy(make).rank == 3


def test_errors() -> None:
    with pytest.raises(ValueError, match="pad_id=5"):
        sa.Collate(operator=sa.Crop(0.5, 0.5), pad_id=5)
    with pytest.raises(ValueError, match="pad id.*renumber"):
        sa.Collate()([[1, 0]])
    with pytest.raises(ValueError, match="row 0 must be as long in 'time'"):
        sa.Collate()([{"items": [1, 2], "time": [1]}])
    with pytest.raises(ValueError, match="same names"):
        sa.Collate()([{"items": [1]}, {"items": [1], "time": [1]}])
    with pytest.raises(ValueError, match='"edits" is what the operator draws'):
        sa.Collate(operator=sa.Crop(0.5, 0.5))([{"items": [1, 2], "edits": [3, 4]}])
    with pytest.raises(TypeError, match="items.dtype=torch.float32"):
        sa.Collate()([[1.5, 2.0]])
    with pytest.raises(TypeError, match="operator=3"):
        sa.Collate(operator=3)
    with pytest.raises(ValueError, match="rank"):
        sa.Collate(rank=-1)


def test_seconds_since_1970_as_floats_are_told_apart() -> None:
    times = [1.7e9 + k for k in (0.0, 9.0, 10.0, 11.0, 30.0)]
    batch = sa.Collate(length=5)([{"items": [1, 2, 3, 4, 5], "timestamps": times}])
    assert batch["timestamps"].tolist() == [times]
    view = sa.TimeMask(0.4, 0.4, mask_id=99)(batch["items"], timestamps=batch["timestamps"])
    assert view.tolist() == [[1, 99, 3, 4, 99]]  # as with times from 0 on
    with pytest.raises(ValueError, match="floats in a list become float32"):
        sa.pack([times])
    assert sa.pack([[0.5, 2.0**25]]).values.dtype == torch.float32  # held as they are
