"""Without an accelerator: proof that nothing waits for one, and that nothing is made on the wrong device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from catalogue import EVERYTHING, Layout, V, make_batch

import seqaug as sa

HERE = Path(__file__).resolve().parent
MIXING = [
    f"mixing {name}" for name in ("batch_sum position", "row feature", "mean_one position", "none feature")
]


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    """What went wrong in each check; in a process of its own, since a registered device cannot be taken back."""
    done = subprocess.run(
        [sys.executable, "-c", "import fake_device; fake_device.main()"],
        cwd=HERE.parent,
        env={"PYTHONPATH": f"{HERE}:{HERE.parent}", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [*EVERYTHING, *MIXING])
def test_nothing_synchronises_or_mixes_devices(name: str, report: dict[str, str]) -> None:
    assert report[name] == ""


@pytest.mark.parametrize(
    ("name", "error"),
    [("synchronises", "DataDependentOutput"), ("mixes", "touches cpu"), ("copies", "touches cpu")],
)
def test_the_fake_device_would_notice(name: str, error: str, report: dict[str, str]) -> None:
    assert error in report[name]


@pytest.mark.parametrize("name", EVERYTHING)
def test_meta_device(name: str) -> None:
    batch = make_batch(Layout(), [0, 1, 2, 6], 6)
    operator = EVERYTHING[name](Layout()).to("meta")
    items, times = batch.items.to("meta"), batch.timestamps.to("meta")
    edit = operator.sample(items, timestamps=times)
    assert edit(items).shape == (4, 6) and edit(items).device.type == "meta"
    assert edit.align(torch.zeros(4, 6, 3, device="meta")).shape == (4, 6, 3)
    assert edit.rate.device.type == edit.future.device.type == "meta"


@pytest.mark.parametrize("over", ["position", "feature"])
def test_mixing_on_the_meta_device(over: str) -> None:
    items = torch.ones(3, 5, dtype=torch.int64, device="meta")
    table = torch.nn.Embedding(V + 2, 4, device="meta")
    mixed = sa.MixupOp(sa.Crop(0.2, 0.7))(items, table)
    pair = sa.CrossMixup(over=over).sample(mixed.embeddings, valid=items != 0)
    assert pair(mixed.embeddings).device.type == "meta"
