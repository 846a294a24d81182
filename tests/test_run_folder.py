"""Run folders that somebody or something has changed: one line that says which file, and what to do about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys import machine
from recsys.cli import run
from recsys.shop import generate
from rmhsaocl_full import HybridAugmentation
from systems import SYSTEMS

OPTIONS = ["--dim", "16", "--threads", "1", "--max-length", "12", "--batch-size", "64", "--device", "cpu", "--epochs", "1"]  # fmt: skip


def job(*words: object) -> int:
    return run([str(word) for word in words], HybridAugmentation, SYSTEMS)


@pytest.fixture(autouse=True)
def known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "matmul_rate", lambda: 123.4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = generate(users=100, items=100, families=20)
    path = tmp_path_factory.mktemp("data") / "small.txt"
    rows = zip(shop.users, shop.rows, strict=True)
    path.write_text("".join(f"{user} {' '.join(map(str, row))}\n" for user, row in rows))
    return path


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "matmul_rate", lambda: 123.4)
        assert job("--data", data, "--system", "sasrec-ice", *OPTIONS, "--out", folder, "--quiet") == 0
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A finished run, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a job ends with."""
    capsys.readouterr()
    assert job(*words, "--quiet") == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and stderr.startswith("error: ") and stderr.count("\n") == 1
    return stderr


def text(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content)


def ranks(test: Any) -> Callable[[Path], object]:
    return lambda file: np.savez_compressed(file, test=test)


def cut(file: Path) -> object:
    return file.write_bytes(file.read_bytes()[:-40])


DAMAGED: list[tuple[str, Callable[[Path], object]]] = [
    ("result.json", cut),
    ("result.json", text("[]")),
    ("result.json", text("[" * 100_000)),
    ("result.json", text('{"settings": {}}')),
    ("ranks.npz", cut),
    ("ranks.npz", ranks(np.zeros(7, dtype=np.int32))),
    ("ranks.npz", ranks(np.array([None] * 100))),
    ("ranks.npz", ranks(np.full(100, np.nan))),
    ("metrics.csv", text("epoch,loss\n1,\n1,2,3\n")),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGED)
def test_damaged_results(
    name: str, damage: Callable[[Path], object], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = out / "sasrec-ice" / name
    before = json.loads(file.with_name("result.json").read_text())
    damage(file)
    said = refused(capsys, "--resume", out)
    assert f"expected {file} to be whole, got a damaged file (" in said
    for told in {file, file.with_name("result.json")}:
        assert str(told) in said
        told.unlink()
    assert job("--resume", out, "--quiet") == 0
    after = json.loads(file.with_name("result.json").read_text())
    assert after["test"] == before["test"] and file.exists()


def settings(**changed: object) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["systems"][0].update(changed)


def entry(**changed: object) -> Callable[[dict[str, Any]], object]:
    return lambda config: config.update(changed)


@pytest.mark.parametrize(
    "change",
    [
        settings(system="../../evil"), settings(system="sasrec-ice/../../evil"), settings(system=3), settings(seed="0/.."),
        settings(dim="16"), settings(dim=16.5), settings(rate=[0.5]), settings(prefixes=0), settings(other=1),
        entry(systems=[]), entry(systems={"a": 1}), entry(systems=[[]]), entry(given=[]), entry(source=None),
        entry(control=7), entry(fingerprint=[]),
    ],
)  # fmt: skip
def test_settings_that_no_run_has_written(
    change: Callable[[dict[str, Any]], object], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = out / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    before = sorted(out.parent.parent.rglob("*"))
    assert f"expected {file} to hold the settings of a run" in refused(capsys, "--resume", out)
    assert sorted(out.parent.parent.rglob("*")) == before


def test_damaged_controls(data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = out / "sasrec-ice"
    shared = ["--data", data, "--system", "rmhsaocl", "--stages", 2, "--control", control, *OPTIONS]
    other = refused(capsys, *shared, "--dim", 8, "--out", tmp_path / "other")
    assert "got dim=16" in other and "instead of 8; give --dim" in other
    assert not (tmp_path / "other").exists()
    file, before = control / "result.json", (control / "result.json").read_text()
    as_if = json.loads(before)
    as_if["settings"]["dim"] = 8  # whatever it says, the weights are of 16
    file.write_text(json.dumps(as_if))
    other = refused(capsys, *shared, "--dim", 8, "--out", tmp_path / "weights")
    assert " of shape (" in other and "--control with the same settings" in other
    file.write_text(before)
    weights = control / "weights.safetensors"
    cut(weights)
    assert f"expected {weights} to be whole" in refused(capsys, *shared, "--out", tmp_path / "cut")
    (control / "result.json").write_text("[]")
    assert "result.json to be whole" in refused(capsys, *shared, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_names_that_no_file_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--data", "--resume", "--control", "--out"):
        assert "expected files and folders that can be read" in refused(capsys, option, "x" * 300)
