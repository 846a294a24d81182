"""Draws are versioned: the same seed gives the same draw in every release, unless the changelog says otherwise.

python tests/test_golden_draws.py --write     # after a change of draws that CHANGELOG.md names
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from catalogue import EVERYTHING, Layout, make_batch, sample
from torch import Tensor

import seqaug as sa

GOLDEN = Path(__file__).parent / "golden_draws.json"
LENGTHS = [0, 1, 2, 3, 5, 8, 13, 13]


def digest(*tensors: Tensor) -> str:
    """Sixteen hexadecimal digits of shapes, dtypes and bytes."""
    found = hashlib.sha256()
    for x in tensors:
        found.update(f"{tuple(x.shape)} {x.dtype}".encode())
        found.update(bytes(x.contiguous().flatten().view(torch.uint8).tolist()))
    return found.hexdigest()[:16]


def draw(name: str, side: str) -> str:
    batch = make_batch(Layout(0, side), LENGTHS, 13, seed=5)
    edits = [sample(EVERYTHING[name](batch.layout), batch, seed) for seed in range(4)]
    return digest(*(x for edit in edits for x in (edit.source, edit.replaced, edit.rate)))


def others() -> dict[str, str]:
    """Everything else that draws."""
    g = torch.Generator().manual_seed(7)
    items = make_batch(Layout(), LENGTHS, 13, seed=5).items
    mix = sa.MixupOp(sa.Crop(0.2, 0.7), alpha=0.4).sample(items, generator=g)
    # Gamma draws and logarithms may differ in their last bits from machine to machine.
    rounded = (mix.lam * 1000).round().to(torch.int32)
    pairs = {
        over: sa.CrossMixup(0.4, over=over).sample(torch.zeros(8, 13, 4), valid=items > 0, generator=g)
        for over in ("position", "feature")
    }
    negatives = {
        "UniformNegatives": sa.UniformNegatives(20, k=3),
        "PopularityNegatives": sa.PopularityNegatives(torch.arange(22).float(), k=3),
    }
    return {
        "MixupOp": digest(mix.edit.source, rounded),
        **{f"CrossMixup {over}": digest(pair.partner) for over, pair in pairs.items()},
        **{
            name: digest(sampler.sample(items, history=items, generator=g)[0])
            for name, sampler in negatives.items()
        },
    }


def current() -> dict[str, str]:
    return {
        f"{name}, {side}": draw(name, side) for name in EVERYTHING for side in ("left", "right")
    } | others()


@pytest.fixture(scope="module")
def golden() -> dict[str, str]:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_operators_draw_as_ever(name: str, side: str, golden: dict[str, str]) -> None:
    assert draw(name, side) == golden[f"{name}, {side}"], (
        f"the draws of {name} changed: see the top of this file"
    )


def test_mixing_and_negatives_draw_as_ever(golden: dict[str, str]) -> None:
    assert others() == {name: golden[name] for name in others()}


def test_nothing_else_is_golden(golden: dict[str, str]) -> None:
    assert set(golden) == set(current())


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_golden_draws.py --write")
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
