"""The main job on several processes: the batches, losses and metrics of one process, by another division of the work."""

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import settings as hypothesis_settings
from safetensors.torch import load_file

from recsys import machine
from recsys.batches import HeldBatches, TrainBatches, share
from recsys.cli import run
from recsys.datasets import held_out, training_pairs, training_times
from recsys.recommender import build_encoder
from recsys.settings import BATCHES, LOSSES, resolve
from recsys.shop import generate
from rmhsaocl_full import HybridAugmentation
from systems import SYSTEMS

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "rmhsaocl_full.py"
SHOP = generate(users=45, items=150, families=30)
# Nothing random apart from what is drawn for the whole batch, and hardly any rounding.
EXACT = ["--precision", "64", "--dropout", "0", "--dim", "16", "--max-length", "12", "--device", "cpu"]
SECONDS = {"train_seconds", "seconds"}


@pytest.fixture(autouse=True)
def known_rate(monkeypatch):
    monkeypatch.setattr(machine, "matmul_rate", lambda: 123.4)


# ---- batches


@pytest.mark.parametrize("order", BATCHES)
@pytest.mark.parametrize("world", [2, 3, 9])
def test_every_row_once_in_the_batches_of_one_process(world, order):
    items, target = training_pairs(SHOP, 12)
    times = training_times(SHOP, 12)
    alone = list(TrainBatches(items, target, 8, 0, times=times, order=order))
    assert sorted(len(batch.rows) for batch in alone) == [45 % 8, *[8] * 5]
    assert len(alone[-1].rows) == (8 if order == "length" else 45 % 8)
    shares = [list(TrainBatches(items, target, 8, 0, rank, world, times, order)) for rank in range(world)]
    for number, whole in enumerate(alone):
        found = [batches[number] for batches in shares]
        assert all(torch.equal(part.all_items, whole.items) for part in found)
        assert all(torch.equal(part.all_rows, whole.rows) for part in found)
        busy = [part for part in found if part.whole.of_rows > 0]
        assert sorted(torch.cat([part.rows for part in busy]).tolist()) == sorted(whole.rows.tolist())
        assert len(busy) == min(world, len(whole.rows))
        for part in found:
            assert len(part.rows) >= 1 and torch.equal(part.items, whole.items[part.whole.own])
            assert torch.equal(part.times, whole.times[part.whole.own])
            idle = part.whole.of_rows == 0
            assert idle == (not part.target.any()) and idle == (part.whole.of_targets == 0)
        assert sum(part.whole.of_rows for part in found) == pytest.approx(world)
        assert sum(part.whole.of_targets for part in found) == pytest.approx(world)


@pytest.mark.parametrize(("users", "world"), [(7, 2), (7, 3), (7, 9), (45, 4)])
def test_every_user_is_ranked_once(users, world):
    data = dataclasses.replace(SHOP, rows=SHOP.rows[:users], users=SHOP.users[:users], times=None)
    held = held_out(data, "test", 12)
    shares = [list(HeldBatches(held, 5, rank, world)) for rank in range(world)]
    assert {len(batches) for batches in shares} == {len(HeldBatches(held, 5))}  # all take part in every step
    rows = torch.cat([rows for batches in shares for rows, *_ in batches])
    assert sorted(rows.tolist()) == list(range(users))


# ---- losses


def gradients(objective, encoder, batch):
    encoder.zero_grad()
    torch.manual_seed(0)
    losses = objective(encoder, batch, torch.Generator().manual_seed(3))
    total = torch.stack([value * objective.share(name, batch) for name, value in losses.items()]).sum()
    total.backward()
    return total.detach(), [parameter.grad.clone() for parameter in encoder.parameters()]


CASES = [("rmhsaocl", loss, "expected") for loss in LOSSES if loss not in ("sce", "rece")]
CASES += [("rmhsaocl", loss, reduction) for loss in ("ice", "bce", "ce") for reduction in ("token", "row")]
CASES += [("gru4rec", "ice", "token")]


@pytest.mark.parametrize("world", [2, 3, 9])
@pytest.mark.parametrize(("system", "loss", "reduction"), CASES)
def test_the_mean_gradient_is_that_of_the_whole_batch(system, loss, reduction, world):
    """A batch of eight rows: nine processes leave one without a row."""
    given = {
        "loss": loss,
        "reduction": reduction,
        "dropout": 0.0,
        "dim": 8,
        "max_length": 12,
        "batch_size": 8,
    }
    given |= {"weighting": "batch_sum"}
    if system == "gru4rec":
        given |= {"encoder": "gru4rec", "heads": 1, "layers": 1}
    settings = resolve("rmhsaocl", given, False, "shop")
    objective = HybridAugmentation(SHOP, settings)
    # Draws of negatives are a process's own: here those of a target are always the same.
    objective.negatives.sample = lambda target, **_: (
        (target[..., None] * torch.tensor([3, 7]) % 149 + 1),
        torch.zeros(*target.shape, 2),
    )
    torch.manual_seed(1)
    encoder = build_encoder(SHOP, settings).double()
    batch = next(iter(TrainBatches(*training_pairs(SHOP, 12), 8, 0)))
    value, wanted = gradients(objective, encoder, batch)
    parts = [gradients(objective, encoder, share(batch, rank, world)) for rank in range(world)]
    torch.testing.assert_close(sum(part for part, _ in parts) / world, value, rtol=1e-6, atol=1e-9)
    for number, gradient in enumerate(wanted):
        mean = sum(found[number] for _, found in parts) / world
        torch.testing.assert_close(mean, gradient, rtol=1e-5, atol=1e-9)
    assert any(gradient.abs().max() > 1e-4 for gradient in wanted)


@pytest.mark.parametrize("system", ["cl4srec", "duorec", "rmhsaocl"])
def test_losses_of_rows_count_by_rows(system):
    """Where each process has its own negatives the value differs, but every row counts alike."""
    given = {"dropout": 0.0, "dim": 8, "max_length": 12} | ({"mixes": (1, 1)} if system == "rmhsaocl" else {})
    settings = resolve(system, given, False, "shop")
    objective = SYSTEMS.get(system, HybridAugmentation)(SHOP, settings)
    encoder = build_encoder(SHOP, settings)
    batch = next(iter(TrainBatches(*training_pairs(SHOP, 12), 7, 0)))
    losses = objective(encoder, batch)
    for part in (share(batch, rank, 9) for rank in range(9)):
        found = objective(encoder, part)
        assert all(value.isfinite() for value in found.values()) and set(found) == set(losses)
        for name in objective.means_over_rows:
            assert objective.share(name, part) == part.whole.of_rows
    assert set(losses) - objective.means_over_rows <= {"rec", "ssa", "csa"}


# ---- the job


def command(*words, torchrun=0, timeout="300"):
    """The main job in processes of their own."""
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(torchrun)] if torchrun else []
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RECSYS_TIMEOUT": timeout}
    return subprocess.Popen(
        [sys.executable, *start, str(SCRIPT), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finished(process):
    said, wrong = process.communicate(timeout=300)
    return process.returncode, said, wrong


def alone(*words):
    assert run([str(word) for word in words], HybridAugmentation, SYSTEMS) == 0


def write(data, path):
    lines = (f"{user} {' '.join(map(str, row))}\n" for user, row in zip(data.users, data.rows, strict=True))
    path.write_text("".join(lines))
    return path


def log(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [
            {key: float(value) for key, value in row.items() if key not in SECONDS}
            for row in csv.DictReader(file)
        ]


def check_same(one, other, systems, *, rel=1e-6):
    """Two runs with the same numbers up to rounding."""
    for system in systems:
        found, wanted = (json.loads((folder / system / "result.json").read_text()) for folder in (one, other))
        for name in ("validation", "test"):
            assert found[name] == pytest.approx(wanted[name], rel=rel), system
        assert (found["epochs"], found["best_epoch"]) == (wanted["epochs"], wanted["best_epoch"])
        for row, expected in zip(log(one / system), log(other / system), strict=True):
            assert row == pytest.approx(expected, rel=max(rel, 1e-6))
        weights = [load_file(folder / system / "weights.safetensors") for folder in (one, other)]
        for name in weights[0]:
            torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_devices_equal_one_process(tmp_path):
    """What the processes draw and learn together included: views, their weights, a policy that learns, early stopping."""
    data = write(generate(users=203, items=150, families=30), tmp_path / "small.txt")
    options = [
        "--data", data, "--system", "rmhsaocl", "--policy", "adaptive", "--weighting", "batch_sum", "--epochs", 8, "--patience", 2,
        "--batch-size", 64, "--lr", 0.01, *EXACT,
    ]  # fmt: skip
    code, said, wrong = finished(
        command(*options, "--devices", 2, "--strategy", "ddp", "--out", tmp_path / "two")
    )
    assert code == 0 and wrong == "", wrong
    alone(*options, "--out", tmp_path / "one")
    systems = ("sasrec-ice", "rmhsaocl")
    check_same(tmp_path / "two", tmp_path / "one", systems)
    learned = [
        json.loads((tmp_path / run / "rmhsaocl" / "result.json").read_text()) for run in ("one", "two")
    ]
    for bucket, shares in learned[0]["operator_weights"].items():
        assert learned[1]["operator_weights"][bucket] == pytest.approx(shares, rel=1e-4)
    assert learned[1]["settings"]["devices"] == 2
    # one process speaks and writes
    epochs = [re.match(r"(\S+) epoch +(\d+)", line) for line in said.splitlines()]
    lines = [found.groups() for found in epochs if found]
    assert (
        len(lines)
        == len(set(lines))
        == sum(json.loads((tmp_path / "two" / s / "result.json").read_text())["epochs"] for s in systems)
    )
    assert said.count("Test, small") == 1
    names = [
        sorted(
            path.relative_to(tmp_path / run)
            for path in (tmp_path / run).rglob("*")
            if "events" not in path.name
        )
        for run in ("one", "two")
    ]
    assert names[0] == names[1]


@pytest.mark.slow
def test_torchrun_with_seven_users(tmp_path):
    """Three processes, batches of five: one is without a row at times, and without a user."""
    shop = generate(users=7, items=150, families=30)
    data = write(shop, tmp_path / "seven.txt")
    options = [
        "--data",
        data,
        "--system",
        "rmhsaocl",
        "--epochs",
        4,
        "--batch-size",
        5,
        "--threads",
        1,
        "--reduction",
        "token",
        *EXACT,
    ]
    code, said, wrong = finished(command(*options, "--out", tmp_path / "three", torchrun=3))
    assert code == 0, wrong
    alone(*options, "--out", tmp_path / "one")
    check_same(tmp_path / "three", tmp_path / "one", ("sasrec-ice", "rmhsaocl"))
    assert json.loads((tmp_path / "three" / "config.json").read_text())["systems"][0]["devices"] == 3


@pytest.mark.slow
def test_errors_of_several_processes_are_one_line(tmp_path):
    out = tmp_path / "run"
    code, said, wrong = finished(command("--rate", "0.7-0.2", "--devices", 2, "--out", out))
    assert (code, said) == (2, "") and wrong.startswith("error: ") and wrong.count("\n") == 1
    code, said, wrong = finished(command("--devices", 3, "--out", out, torchrun=2))
    assert (
        code == 1
        and said == ""
        and [line for line in wrong.splitlines() if line.startswith("error: ")]
        == ["error: expected --devices 2, one for each process that was started, got devices=3; leave it out"]
    )
    code, said, wrong = finished(command("--out", out, torchrun=2, timeout="soon"))
    assert code == 1 and said == "" and wrong.count("RECSYS_TIMEOUT") == 1 and "got 'soon'" in wrong
    assert not out.exists()


def children(process):
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def worker(launcher, rank):
    """The process id of a rank."""
    for child in children(launcher):
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in environment:
            return child
    raise AssertionError("no such rank")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
def test_a_killed_launcher_leaves_no_process(tmp_path):
    data = write(SHOP, tmp_path / "small.txt")
    process = command(
        "--data", data, "--system", "sasrec-ice", "--epochs", 10_000, "--patience", 10_000, "--devices", 2, "--out", tmp_path / "run", *EXACT
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("sasrec-ice epoch   2"):
            break
    workers = children(process.pid)
    process.kill()
    process.communicate()
    for _ in range(100):
        if not any(Path(f"/proc/{number}").exists() for number in workers):
            break
        time.sleep(0.1)
    assert len(workers) == 2 and not any(Path(f"/proc/{number}").exists() for number in workers)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
@pytest.mark.parametrize(
    ("rank", "torchrun"), [(1, 0), (0, 2)], ids=["rank 1, --devices", "rank 0, torchrun"]
)
def test_a_killed_rank_stops_the_job(rank, torchrun, tmp_path):
    """One clear error in bounded time; --resume ends with the numbers of an undisturbed run on one process."""
    if torchrun and hypothesis_settings().max_examples < 100:
        pytest.skip("one way of starting is enough outside of --hypothesis-profile=long")
    data = write(generate(users=203, items=150, families=30), tmp_path / "small.txt")
    options = ["--data", data, "--system", "rmhsaocl", "--epochs", 6, "--batch-size", 16, *EXACT]
    out = tmp_path / "broken"
    devices = [] if torchrun else ["--devices", 2]
    process = command(*options, *devices, "--out", out, torchrun=torchrun)
    for line in process.stdout:
        if line.startswith("rmhsaocl epoch   2"):
            break
    time.sleep(0.1)  # somewhere in the third epoch
    os.kill(worker(process.pid, rank), signal.SIGKILL)
    begin = time.monotonic()
    _, wrong = process.communicate(timeout=90)
    assert process.returncode == 1 and time.monotonic() - begin < 45
    if torchrun:
        assert "Signal 9 (SIGKILL) received by PID" in wrong
    else:
        assert wrong == (
            f"error: process {rank} of 2 was ended by SIGKILL, and the others were stopped; continue with --resume {out}\n"
        )
    assert (out / "rmhsaocl" / "checkpoints" / "last.ckpt").exists() and not (out / "report.txt").exists()
    code, _, wrong = finished(command("--resume", out, torchrun=torchrun))
    assert code == 0, wrong
    alone(*options, "--out", tmp_path / "whole")
    check_same(out, tmp_path / "whole", ("sasrec-ice", "rmhsaocl"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("torchrun", [0, 2], ids=["--devices", "torchrun"])
def test_a_rank_that_does_not_answer_stops_the_job(torchrun, tmp_path):
    """After the time that is set, with one clear error, and nothing is left running."""
    if torchrun and hypothesis_settings().max_examples < 100:
        pytest.skip("one way of starting is enough outside of --hypothesis-profile=long")
    data, out = write(SHOP, tmp_path / "small.txt"), tmp_path / "run"
    devices = [] if torchrun else ["--devices", 2]
    process = command(
        "--data", data, "--system", "sasrec-ice", "--epochs", 10_000, "--patience", 10_000, *devices, "--out", out, *EXACT,
        torchrun=torchrun, timeout="6",
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("sasrec-ice epoch   2"):
            break
    frozen = worker(process.pid, 1)
    os.kill(frozen, signal.SIGSTOP)
    _, wrong = process.communicate(timeout=120)
    assert process.returncode == 1
    said = [line for line in wrong.splitlines() if line.startswith("error: ")]
    assert said == [
        f"error: another process of the job has not answered for 6 seconds, and all were stopped; continue with --resume {out}, "
        "with a larger RECSYS_TIMEOUT if it was only slow"
    ]
    assert (wrong.count("\n") == 1) == (not torchrun)
    assert not Path(f"/proc/{frozen}").exists()
