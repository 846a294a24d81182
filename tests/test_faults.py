"""Faults in the main job: whatever stops it, what was written stays whole and `--resume` ends with the same numbers.

`--hypothesis-profile=long` kills fifty times instead of three.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import settings
from safetensors.torch import load_file

from recsys.shop import generate

ROOT = Path(__file__).parent.parent
SYSTEMS = ("sasrec-ice", "rmhsaocl")
OPTIONS = [
    "--system", "rmhsaocl", "--mixes", "1+1", "--policy", "adaptive", "--epochs", "8", "--patience", "8", "--dim", "16", "--threads", "1",
    "--max-length", "12", "--batch-size", "64", "--device", "cpu",
]  # fmt: skip


def start(*words: object, before: str = "") -> subprocess.Popen[str]:
    """The main job in a process of its own; ``before`` is run there first."""
    code = (
        # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"{before}\nimport sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); sys.path.insert(0, {str(ROOT)!r})\n"
        "from recsys import machine; machine.matmul_rate = lambda: 1.0\n"
        "from rmhsaocl_full import HybridAugmentation; from recsys.cli import run; from systems import SYSTEMS\n"
        f"sys.exit(run({[str(word) for word in words]!r}, HybridAugmentation, SYSTEMS))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = generate(users=300, items=200, families=40)
    path = tmp_path_factory.mktemp("data") / "small.txt"
    path.write_text(
        "".join(
            f"{user} {' '.join(map(str, row))}\n" for user, row in zip(shop.users, shop.rows, strict=True)
        )
    )
    return path


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing disturbed, and how long it took."""
    out = tmp_path_factory.mktemp("whole") / "run"
    begin = time.perf_counter()
    code, said = finished(start("--data", data, *OPTIONS, "--out", out))
    assert code == 0, said
    return out, time.perf_counter() - begin


def check_whole(out: Path) -> None:
    """Nothing in the folder is half-written, whatever happened."""
    for file in out.rglob("*.json"):
        json.loads(file.read_text())
    for file in out.rglob("*.safetensors"):
        load_file(file)


def check_same(out: Path, whole: Path) -> None:
    """Bit for bit the numbers of the run that was not disturbed."""
    for system in SYSTEMS:
        one, other = (json.loads((run / system / "result.json").read_text()) for run in (out, whole))
        for name in ("validation", "test", "epochs", "best_epoch", "settings"):
            assert one[name] == other[name], (system, name)
        mine, theirs = (load_file(run / system / "weights.safetensors") for run in (out, whole))
        assert all(bool((mine[name] == theirs[name]).all()) for name in theirs)


@pytest.mark.slow
def test_killed_at_any_moment(data: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    folder, seconds = whole
    kills = 3 if settings().max_examples < 100 else 50
    chance = random.Random(0)
    out = tmp_path / "run"
    done = 0
    while done < kills:
        if (out / "report.txt").exists():
            check_same(out, folder)
            out = tmp_path / f"run{done}"
        words = (
            ["--resume", out] if (out / "config.json").exists() else ["--data", data, *OPTIONS, "--out", out]
        )
        process = start(*words)
        try:
            process.wait(timeout=chance.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.communicate()
        check_whole(tmp_path)
    if not (out / "report.txt").exists():
        words = (
            ["--resume", out] if (out / "config.json").exists() else ["--data", data, *OPTIONS, "--out", out]
        )
        code, said = finished(start(*words))
        assert code == 0, said
    check_same(out, folder)


@pytest.mark.slow
def test_a_full_disk(data: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    """Files that must not grow past 100 kB stand for a disk without room for a checkpoint."""
    out = tmp_path / "run"
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    code, said = finished(start("--data", data, *OPTIONS, "--out", out, before=limit))
    last = said.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: cannot go on: ") and f"--resume {out}" in last, said
    assert "Traceback" not in said
    check_whole(out)
    code, said = finished(start("--resume", out))
    assert code == 0, said
    check_same(out, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stop"), [("last.ckpt", True), ("best.ckpt", False)])
def test_damaged_checkpoints(
    name: str, stop: bool, data: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """The last one of a run that was stopped is cut, the best one of a run that has trained all its epochs loses a bit."""
    out = tmp_path / "run"
    process = start("--data", data, *OPTIONS, "--out", out)
    assert process.stdout is not None
    for line in process.stdout:
        if stop and line.startswith("rmhsaocl epoch   4"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == (130 if stop else 0)  # Ctrl-C
    check_whole(out)
    file = out / "rmhsaocl" / "checkpoints" / name
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:  # between its parts there is padding, which means nothing
        weights = max(map(archive.read, archive.namelist()), key=len)
    content[content.index(weights) + len(weights) // 2] ^= 0x40
    file.write_bytes(content[:3000] if stop else content)
    (out / "rmhsaocl" / "result.json").unlink(missing_ok=True)
    code, said = finished(start("--resume", out))
    assert code == 2 and said.strip().splitlines()[-1].startswith(
        f"error: expected {file} to be a whole checkpoint"
    ), said
    assert "Traceback" not in said
    file.unlink()
    code, said = finished(start("--resume", out))
    assert code == 0, said
    check_same(out, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20 GiB')",
        "RuntimeError('DefaultCPUAllocator: not enough memory: you tried to allocate memory')",
        "MemoryError('no more')",
    ],
)
def test_out_of_memory_in_one_step(error: str, data: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    out = tmp_path / "run"
    once = (
        f"import torch, sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); sys.path.insert(0, {str(ROOT)!r})\n"
        "from recsys.recommender import Recommender; own = Recommender.training_step\n"
        "def step(self, batch, number):\n"
        f"    if self.current_epoch == 3 and number == 2: raise {error}\n"
        "    return own(self, batch, number)\n"
        "Recommender.training_step = step"
    )
    code, said = finished(start("--data", data, *OPTIONS, "--out", out, before=once))
    last = said.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: out of memory (") and f"--resume {out}" in last, said
    assert "Traceback" not in said
    check_whole(out)
    code, said = finished(start("--resume", out))
    assert code == 0, said
    check_same(out, whole[0])


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(data: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    """Where mkdir and open for writing are refused, as on a disk mounted for reading."""
    out = tmp_path / "run"
    refuse = (
        "import os, pathlib\n"
        "def refuse(self, *_, **__): raise PermissionError(30, 'Read-only file system', str(self))\n"
        "pathlib.Path.mkdir = refuse"
    )
    code, said = finished(start("--data", data, *OPTIONS, "--out", out, before=refuse))
    last = said.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: ") and "Read-only file system" in last, said
    assert "Traceback" not in said and not out.exists()
