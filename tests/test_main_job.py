"""The main job from the command line to the run folder."""

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

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import seqaug as sa
from recsys import machine
from recsys.cli import parser, run
from recsys.encoders import item_vectors
from recsys.progress import Progress
from recsys.recommender import rank_batch
from recsys.shop import generate
from rmhsaocl_full import HybridAugmentation
from systems import SYSTEMS

SCRIPT = Path(__file__).parent.parent / "examples" / "rmhsaocl_full.py"
SMALL = ["--dim", "16", "--threads", "1", "--max-length", "12", "--batch-size", "64", "--device", "cpu"]
FIGURES = {f"{name}@{k}" for name in ("HR", "NDCG") for k in (5, 10, 20)}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small shop as a file of sequences."""
    shop = generate(users=400, items=300, families=60)
    path = tmp_path_factory.mktemp("data") / "small.txt"
    path.write_text(
        "".join(
            f"{user} {' '.join(map(str, row))}\n" for user, row in zip(shop.users, shop.rows, strict=True)
        )
    )
    return path


@pytest.fixture(autouse=True)
def known_rate(monkeypatch):
    """Measuring the machine takes a second each time; the run that is killed does it for real."""
    monkeypatch.setattr(machine, "matmul_rate", lambda: 123.4)


def job(*words):
    return run([str(word) for word in words], HybridAugmentation, SYSTEMS)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_and_what_it_leaves(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        job("--data", data, "--system", "rmhsaocl", "--mixes", "1+1", "--epochs", 2, "--out", out, *SMALL)
        == 0
    )
    said = capsys.readouterr().out
    assert "400 users, 299 items" in said and "seen items masked" in said and "torch.mm" in said
    assert re.search(r"sasrec-ice: .* [\d,]+ parameters", said)
    assert len(re.findall(r"epoch +\d+ \| loss .* validation HR@10", said)) == 4
    assert "rmhsaocl - sasrec-ice: HR@10" in said and "p = " in said  # the control is always there
    assert said.index("\nsasrec-ice") < said.index("\nrmhsaocl")

    assert not [path for path in out.rglob(".*")]  # no temporary file stays
    config = json.loads((out / "config.json").read_text())
    assert [system["system"] for system in config["systems"]] == ["sasrec-ice", "rmhsaocl"]
    assert (out / "users.txt").read_text().split() == [str(user) for user in range(1, 401)]
    assert len((out / "items.txt").read_text().split()) == 299
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "report.txt").read_text().strip() in said
    for system in ("sasrec-ice", "rmhsaocl"):
        found = result(out / system)
        assert found["system"] == system and found["data"] == "small" and found["seed"] == 0
        assert set(found["validation"]) == set(found["test"]) == FIGURES
        assert found["epochs"] == 2 and found["seconds"] > 0 and len(found["commit"]) >= 7
        assert found["machine"]["mm_gflops"] == 123 and found["settings"]["views"] == (system == "rmhsaocl")
        with np.load(out / system / "ranks.npz") as ranks:
            assert ranks["test"].shape == ranks["validation"].shape == (400,)
            assert (ranks["test"] < 10).mean() == pytest.approx(found["test"]["HR@10"])
            assert np.where(ranks["test"] < 5, 1 / np.log2(ranks["test"] + 2.0), 0).mean() == pytest.approx(
                found["test"]["NDCG@5"]
            )
        rows = list(csv.DictReader((out / system / "metrics.csv").open()))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        best = max(rows, key=lambda row: float(row["NDCG@20"]))
        assert int(best["epoch"]) == found["best_epoch"]
        assert float(best["NDCG@20"]) == pytest.approx(found["validation"]["NDCG@20"], rel=1e-5)
        weights = load_file(out / system / "weights.safetensors")
        assert item_vectors(weights).shape == (301, 16)
        assert found["parameters"] == sum(weight.numel() for weight in weights.values())

    assert job("--data", data, "--out", out) == 2  # not over a run
    assert "--resume" in capsys.readouterr().err


def test_a_policy_that_learns(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        job(
            "--data",
            data,
            "--policy",
            "adaptive",
            "--system",
            "rmhsaocl",
            "--epochs",
            3,
            "--out",
            out,
            *SMALL,
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "operators drawn for rows of so many items:" in said
    weights = result(out / "rmhsaocl")["operator_weights"]
    assert list(weights) == ["1-3", "4-6", "7-12", "13-24", "25 and more"]
    for shares in weights.values():
        assert list(shares) == ["Crop", "Mask", "Reorder", "Substitute"]
        assert sum(shares.values()) == pytest.approx(1)
    assert (out / "rmhsaocl" / "operators.png").read_bytes().startswith(b"\x89PNG")


def test_each_operator_once_per_row(data, tmp_path, monkeypatch):
    drawn = []
    sample_views = sa.MixupOp.sample_views

    def recorded(*args, **options):
        drawn.append(sample_views(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(sa.MixupOp, "sample_views", recorded)
    options = ["--policy", "each-once", "--views", 4, "--system", "rmhsaocl", "--epochs", 1, *SMALL]
    assert job("--data", data, "--out", tmp_path / "run", *options) == 0
    assert drawn
    for mixes in drawn:
        choices = torch.stack([mix.edit.choice for mix in mixes])  # (views, rows)
        assert torch.equal(choices.sort(0).values, torch.arange(4)[:, None].expand_as(choices))


def test_rewards_come_one_visit_late():
    policy = sa.AdaptivePolicy([sa.Mask(0.5, 0.5, mask_id=9), sa.Crop(0.5, 0.5)], buckets=(), warmup=0)
    progress, rows = Progress(policy, rows=3, views=1), torch.tensor([2, 0])
    items = torch.tensor([[1, 2], [3, 4]])
    first = policy.sample(items)
    first = dataclasses.replace(first, choice=torch.tensor([0, 1]))
    progress.update(rows, torch.tensor([5.0, 5.0]), [first])
    assert torch.equal(policy.value, torch.zeros(1, 2))  # nothing to compare with yet
    progress.update(rows, torch.tensor([1.0, 4.0]), [dataclasses.replace(first, choice=torch.tensor([1, 0]))])
    assert policy.value[0, 0] > 0 > policy.value[0, 1]  # the mask made the loss fall by 4, the crop by 1
    assert progress.loss.isnan().tolist() == [False, True, False]
    assert progress.choice.tolist() == [[0, 0, 1]]


def test_a_killed_run_ends_with_the_same_numbers(data, tmp_path):
    options = [
        "--data",
        data,
        "--system",
        "rmhsaocl",
        "--mixes",
        "1+1",
        "--epochs",
        5,
        "--patience",
        3,
        *SMALL,
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", str(SCRIPT.parent.parent)])}
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    command = [sys.executable, str(SCRIPT), *map(str, options), "--out", str(broken)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("rmhsaocl epoch   2"):
                break
        time.sleep(0.15)  # somewhere in the third epoch
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (broken / "rmhsaocl" / "checkpoints" / "last.ckpt").exists()
    assert not (broken / "rmhsaocl" / "result.json").exists()

    assert job(*options, "--out", whole) == 0
    assert job("--resume", broken) == 0
    for system in ("sasrec-ice", "rmhsaocl"):
        one, other = result(whole / system), result(broken / system)
        assert {name: one[name] for name in ("validation", "test", "epochs", "best_epoch", "settings")} == {
            name: other[name] for name in ("validation", "test", "epochs", "best_epoch", "settings")
        }
        weights, others = (load_file(run / system / "weights.safetensors") for run in (whole, broken))
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    seconds = {"train_seconds", "seconds"}
    logs = [list(csv.DictReader((run / "rmhsaocl" / "metrics.csv").open())) for run in (whole, broken)]
    assert [{k: v for k, v in row.items() if k not in seconds} for row in logs[0]] == [
        {k: v for k, v in row.items() if k not in seconds} for row in logs[1]
    ]


def test_more_epochs_for_a_finished_run(data, tmp_path):
    options = ["--data", data, "--system", "sasrec-ice", *SMALL]
    assert job(*options, "--epochs", 1, "--out", tmp_path / "a") == 0
    assert job("--out", tmp_path / "a", "--resume", "--epochs", 3) == 0
    assert job(*options, "--epochs", 3, "--out", tmp_path / "b") == 0
    one, other = result(tmp_path / "a" / "sasrec-ice"), result(tmp_path / "b" / "sasrec-ice")
    assert one["epochs"] == 3 and one["test"] == other["test"] and one["settings"] == other["settings"]


def test_more_patience_for_a_finished_run(data, tmp_path):
    options = ["--data", data, "--system", "sasrec-ice", "--lr", 0.03, "--average", 0, *SMALL]
    assert job(*options, "--patience", 1, "--out", tmp_path / "a") == 0
    before = result(tmp_path / "a" / "sasrec-ice")["epochs"]
    assert job("--out", tmp_path / "a", "--resume", "--patience", 4) == 0
    assert job(*options, "--patience", 4, "--out", tmp_path / "b") == 0
    one, other = result(tmp_path / "a" / "sasrec-ice"), result(tmp_path / "b" / "sasrec-ice")
    assert one["epochs"] == other["epochs"] > before + 1 and one["best_epoch"] == other["best_epoch"]
    assert one["test"] == other["test"]


def test_a_moved_folder_remembers_its_best_epoch(data, tmp_path):
    options = [
        "--data",
        data,
        "--system",
        "sasrec-ice",
        "--lr",
        0.06,
        "--average",
        0,
        "--patience",
        9,
        *SMALL,
    ]
    assert job(*options, "--epochs", 6, "--out", tmp_path / "whole") == 0
    wanted = result(tmp_path / "whole" / "sasrec-ice")
    assert job(*options, "--epochs", wanted["best_epoch"], "--out", tmp_path / "a") == 0
    (tmp_path / "a").rename(tmp_path / "moved")
    assert job("--resume", tmp_path / "moved", "--epochs", 6) == 0
    found = result(tmp_path / "moved" / "sasrec-ice")
    assert wanted["best_epoch"] < 6 == found["epochs"] and found["best_epoch"] == wanted["best_epoch"]
    assert found["test"] == wanted["test"]


def test_seeds_differ_and_repeat(data, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):  # one process: nothing of a run reaches the next
        assert (
            job(
                "--data",
                data,
                "--system",
                "sasrec",
                "--epochs",
                1,
                "--seed",
                seed,
                "--out",
                tmp_path / name,
                *SMALL,
            )
            == 0
        )
    a, b, c = (load_file(tmp_path / name / "sasrec" / "weights.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["item_embedding.weight"], c["item_embedding.weight"])


def test_several_seeds(data, tmp_path):
    out = tmp_path / "run"
    assert (
        job(
            "--data", data, "--system", "sasrec,sasrec-ice", "--epochs", 1, "--seeds", 2, "--out", out, *SMALL
        )
        == 0
    )
    folders = ["sasrec-ice-seed0", "sasrec-ice-seed1", "sasrec-seed0", "sasrec-seed1"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == folders
    figures = [result(out / name)["test"]["HR@10"] for name in folders[:2]]
    mean, deviation = np.mean(figures), np.std(figures, ddof=1)
    assert f"{mean:.4f} ± {deviation:.4f}" in (out / "report.txt").read_text()
    (test,) = json.loads((out / "comparison.json").read_text())
    others = [result(out / name)["test"]["HR@10"] for name in folders[2:]]
    assert test["HR@10"]["difference"] == pytest.approx(mean - np.mean(others))


@pytest.mark.parametrize(
    "options",
    [
        ["--system", "basrec", "--views", "1", "--mixes", "1+1"],
        ["--system", "rmhsaocl", "--loss", "focal", "--operators", "crop,reorder", "--mixes", "1"],
        ["--system", "rmhsaocl", "--loss", "ce", "--encoder", "gru4rec", "--heads", "1", "--layers", "1"],
        ["--system", "rmhsaocl", "--paper", "--views", "1", "--mixes", "0+1", "--reduction", "row"],
        ["--system", "rmhsaocl", "--views", "0", "--swap-rows", "0.5"],
        ["--system", "rmhsaocl", "--precision", "bf16"],
        ["--system", "rmhsaocl", "--precision", "64", "--weighting", "mean_one"],
    ],
    ids=lambda options: " ".join(options[1:4]),
)
def test_other_systems_and_settings_train(data, tmp_path, options, capsys):
    out = tmp_path / "run"
    assert job("--data", data, "--epochs", 1, "--out", out, *SMALL, *options) == 0
    config = json.loads((out / "config.json").read_text())["systems"]
    control, system = (result(out / settings["system"]) for settings in config)
    assert control["settings"]["loss"] == system["settings"]["loss"] and control["settings"]["mixes"] == [
        0,
        0,
    ]
    assert all(0 <= value <= 1 for value in system["test"].values())
    assert ("first_stage" in system) == ("--paper" in options)
    assert np.isfinite(float(next(csv.DictReader((out / system["system"] / "metrics.csv").open()))["loss"]))


def test_products_are_rounded_in_training_and_never_in_ranking(data, tmp_path, monkeypatch):
    seen: dict[str, set[str]] = {"training": set(), "ranking": set()}

    def watched(name, function):
        def call(*args, **options):
            seen[name].add(torch.get_float32_matmul_precision())
            return function(*args, **options)

        return call

    monkeypatch.setattr(HybridAugmentation, "forward", watched("training", HybridAugmentation.forward))
    monkeypatch.setattr("recsys.recommender.rank_batch", watched("ranking", rank_batch))
    options = ["--system", "sasrec-ice", "--matmul", "medium", "--epochs", 2]
    assert job("--data", data, "--out", tmp_path / "run", *SMALL, *options) == 0
    assert seen == {"training": {"medium"}, "ranking": {"highest"}}
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_finished_control_serves_again(data, tmp_path):
    shared = ["--data", data, "--epochs", 1, *SMALL]
    assert job(*shared, "--system", "sasrec-ice", "--out", tmp_path / "a") == 0
    control = tmp_path / "a" / "sasrec-ice"
    assert job(*shared, "--system", "rmhsaocl", "--control", control, "--out", tmp_path / "b") == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir() if path.is_dir()) == ["rmhsaocl"]
    assert "rmhsaocl - sasrec-ice" in (tmp_path / "b" / "report.txt").read_text()
    # Its ranks are compared with; its weights are wanted by what starts from them alone.
    (control / "weights.safetensors").unlink()
    assert job(*shared, "--system", "rmhsaocl", "--control", control, "--out", tmp_path / "c") == 0
    two = ["--system", "rmhsaocl", "--stages", 2, "--control", control, "--out", tmp_path / "d"]
    assert job(*shared, *two) == 2


def test_the_loss_falls_and_ranking_beats_chance(data, tmp_path):
    assert (
        job(
            "--data",
            data,
            "--system",
            "sasrec-ice",
            "--epochs",
            15,
            "--lr",
            "0.01",
            "--out",
            tmp_path / "a",
            *SMALL,
        )
        == 0
    )
    losses = [
        float(row["loss"]) for row in csv.DictReader((tmp_path / "a" / "sasrec-ice" / "metrics.csv").open())
    ]
    assert losses[-1] < losses[0] - 0.5
    assert result(tmp_path / "a" / "sasrec-ice")["test"]["HR@10"] > 3 * 10 / 299


BAD = [
    (
        ["--operators", "crop,masc"],
        "one of crop, mask, reorder, substitute, got 'masc'; did you mean 'mask'?",
    ),
    (
        ["--data", "beauti"],
        "one of shop, Beauty, Sports, Yelp, Home, ml-100k or a file, got 'beauti'; did you mean 'Beauty'?",
    ),
    (["--system", "rmhsoacl"], "did you mean 'rmhsaocl'?"),
    (["--rate", "0.7-0.2"], "0 <= A <= B <= 1, got rate=0.7-0.2"),
    (["--rate", "0.2-1.5"], "got rate=0.2-1.5"),
    (["--rate", "wide"], "got 'wide'"),
    (["--alpha", "0"], "expected --alpha above 0 and finite, got alpha=0"),
    (["--dropout", "1"], "got dropout=1"),
    (["--views", "-1"], "got views=-1"),
    (["--views", "two"], "invalid int value: 'two'"),
    (["--mixes", "1+2+3"], "got '1+2+3'"),
    (["--epochs", "0"], "expected --epochs of at least 1, got epochs=0"),
    (["--dim", "10", "--heads", "3"], "got dim=10, heads=3"),
    (["--policy", "adaptative"], "did you mean 'adaptive'?"),
    (["--loss", "icee"], "did you mean 'ice'?"),
    (["--encoder", "bert"], "one of sasrec, gru4rec, got 'bert'"),
    (["--matmul", "low"], "one of highest, high, medium, got 'low'"),
    (["--precision", "8"], "one of 32, 64, bf16, 16, got '8'"),
    (["--device", "tpux"], "one of auto, cpu, gpu, cuda, mps, got 'tpux'"),
    (["--stages", "3"], "got stages=3"),
    (["--system", "sasrec", "--views", "2"], "use --system rmhsaocl"),
    (["--system", "rmhsaocl", "--views", "0"], "got none for rmhsaocl; that is sasrec-ice"),
    (["--system", "sasrec", "--loss", "ice"], "whose loss is in the name; use --system sasrec-ice"),
    (["--system", "sasrec-ice", "--negatives", "5"], "expected --negatives with a loss that samples"),
    (["--system", "sasrec-ice", "--leak"], "expected --leak with a loss that samples"),
    (["--batches", "sorted"], "one of length, random, got 'sorted'"),
    (["--rate=-0.1-0.5"], "0 <= A <= B <= 1, got rate=-0.1-0.5"),
    (["--rate", "0.1-0.2-0.3"], "with 0 <= A <= B <= 1, got '0.1-0.2-0.3'"),
    (["--colour", "red"], "--help"),
    (["--seeds", "0"], "got seeds=0"),
    (["--operators", ","], "got none"),
    (["--resume"], "got no folder"),
    (["--resume", "nowhere"], "which is no folder"),
    (["--control", "nowhere"], "no result.json"),
]


@pytest.mark.parametrize(
    ("options", "said"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_options_are_one_line_and_leave_nothing(options, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = [] if options[0] == "--resume" else ["--out", "run"]
    assert job(*options, *out) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and stderr.startswith("error: ") and stderr.count("\n") == 1 and said in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_needs_times_says_so_at_once(data, tmp_path, capsys):
    assert job("--data", data, "--system", "ticoserec", "--out", tmp_path / "run") == 2
    assert "expected times of the items for ticoserec, got small without" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_data_that_a_system_cannot_be_trained_on_is_refused_at_once(tmp_path, capsys):
    rows = tmp_path / "short.txt"
    rows.write_text(
        "".join(f"{user} {' '.join(str((user + n) % 40 + 1) for n in range(4))}\n" for user in range(60))
    )
    for system, said in (
        ("asrep", "at least 3 training items for asrep"),
        ("diffuasr", "for diffuasr, got 40"),
    ):
        wide = rows if system == "asrep" else tmp_path / "wide.txt"
        if system == "diffuasr":
            wide.write_text("".join(f"{user} {' '.join(map(str, range(1, 41)))}\n" for user in range(60)))
        assert job("--data", wide, "--system", system, "--out", tmp_path / "run", *SMALL) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_control_of_other_data_is_refused(data, tmp_path, capsys):
    """Other items under the same name, and as many of them."""
    shared = ["--epochs", 1, *SMALL]
    assert job("--data", data, "--system", "sasrec-ice", "--out", tmp_path / "a", *shared) == 0
    other = tmp_path / data.name
    lines = [line.split() for line in data.read_text().splitlines()]
    other.write_text("".join(f"{user} {' '.join(reversed(items))}\n" for user, *items in lines))
    control = tmp_path / "a" / "sasrec-ice"
    words = ["--data", other, "--system", "rmhsaocl", "--control", control, "--out", tmp_path / "b", *shared]
    assert job(*words) == 2
    assert "of the data small, got one of other users or items" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_later_stages_are_not_left_behind(data, tmp_path, capsys):
    """What a second stage has begun with cannot be trained longer afterwards."""
    out = tmp_path / "run"
    options = ["--data", data, "--system", "rmhsaocl", "--stages", 2, "--mixes", "1+1", *SMALL]
    assert job(*options, "--epochs", 1, "--out", out) == 0
    before = result(out / "rmhsaocl")
    for option, value in (("--epochs", 2), ("--patience", 3)):
        assert job("--resume", out, option, value) == 2
        assert "since rmhsaocl trains in stages" in capsys.readouterr().err
    assert job("--resume", out, "--epochs", 1) == 0 and result(out / "rmhsaocl") == before


def test_each_system_is_compared_with_its_own_control(data, tmp_path):
    out = tmp_path / "run"
    assert job("--data", data, "--system", "cl4srec,cl4srec-ice", "--epochs", 1, "--out", out, *SMALL) == 0
    pairs = [(test["first"], test["second"]) for test in json.loads((out / "comparison.json").read_text())]
    assert pairs == [
        ("cl4srec", "sasrec"), ("cl4srec-ice", "sasrec"), ("cl4srec-ice", "cl4srec"), ("cl4srec-ice", "sasrec-ice"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "got LOCAL_RANK='', MASTER_PORT='', no MASTER_ADDR"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_PORT": "29500"}, "got no MASTER_ADDR"),
        ({"WORLD_SIZE": "two"}, "got WORLD_SIZE='two', RANK=''"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_PORT": "29500", "MASTER_ADDR": "localhost"},
            "got RANK=2 of WORLD_SIZE=2",
        ),
    ],
)  # fmt: skip
def test_half_a_launcher_is_one_line(given, said, tmp_path, capsys, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert job("--out", tmp_path / "run") == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith(f"error: expected WORLD_SIZE={given['WORLD_SIZE']} ") and said in stderr
    assert stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_rates_may_be_written_with_exponents():
    assert parser().parse_args(["--rate", "1e-3-5e-1"]).rate == (0.001, 0.5)
    assert parser().parse_args(["--rate", "0.3"]).rate == (0.3, 0.3)


def test_ctrl_c_before_training(tmp_path, capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recsys.job.load", interrupted)
    assert job("--out", tmp_path / "run") == 130
    assert (
        capsys.readouterr().err == "\nstopped before anything was written\n"
        and list(tmp_path.iterdir()) == []
    )


def test_bad_files_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.txt"
    bad.write_text("1 2 3 4 5\n2 3 four 5\n")
    assert job("--data", "bad.txt", "--out", "run") == 2
    assert (
        capsys.readouterr().err
        == "error: bad.txt:2: expected `user item item ...` with integer items, got 'four'\n"
    )
    full = tmp_path / "full"
    full.mkdir()
    (full / "note").write_text("keep")
    assert job("--out", full) == 2 and job("--resume", full) == 2 and job("--out", "bad.txt") == 2
    assert "config.json" in capsys.readouterr().err
    (full / "config.json").write_text("{}")
    assert job("--resume", full) == 2
    assert "KeyError" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.txt", "config.json", "full", "note"]


def test_resume_refuses_other_options_and_other_data(data, tmp_path, capsys):
    copy = tmp_path / "copy.txt"
    copy.write_text(data.read_text())
    assert (
        job("--data", copy, "--system", "sasrec-ice", "--epochs", 1, "--out", tmp_path / "run", *SMALL) == 0
    )
    capsys.readouterr()
    assert job("--resume", tmp_path / "run", "--lr", "0.1") == 2
    assert "(no lr), got lr=0.1" in capsys.readouterr().err
    copy.write_text(data.read_text() + "extra 1 2 3 4 5\n")
    assert job("--resume", tmp_path / "run") == 2
    assert "start a new run" in capsys.readouterr().err
