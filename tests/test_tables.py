"""The table of runs, what is run in which order, and the page drawn from it."""

import json

import numpy as np
import pytest
import torch

from recsys.errors import UsageError
from recsys.shop import generate
from tables import runs as table_of_runs
from tables.estimate import estimate
from tables.execute import control_folder, execute, keep, lacks_weights
from tables.page import Row, compared, page, ranking, rows_of, verdict
from tables.runs import choose, control, read_runs

PUBLISHED = json.loads((table_of_runs.RESULTS.parent / "published.json").read_text())
SMALL = "--epochs 1 --dim 8 --layers 1 --heads 1 --max-length 10"
LINES = f"""
table2        | Beauty | 0   | sasrec-ice-paper    | control    | --system sasrec-ice --paper {SMALL}
table2 table3 | Beauty | 0 1 | rmhsaocl-paper      | full       | --system rmhsaocl --paper {SMALL}
table3        | Beauty | 0   | rmhsaocl-paper-crop | no Crop    | --system rmhsaocl --paper --operators mask {SMALL}
table2        | Beauty | 1   | sasrec-ice-paper    | control    | --system sasrec-ice --paper {SMALL}
"""


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A short table of runs, with a folder of its own for results."""
    monkeypatch.setattr(table_of_runs, "RESULTS", tmp_path / "results")
    (tmp_path / "runs.txt").write_text(LINES)
    return read_runs(tmp_path / "runs.txt")


def commit(run, hits, users=4000):
    """A result as a run leaves it: a share ``hits`` of its users finds its item at the first place."""
    table_of_runs.RESULTS.mkdir(exist_ok=True)
    ranks = np.where(np.arange(users) < hits * users, 0, 99).astype(np.int32)
    np.savez_compressed(table_of_runs.RESULTS / f"{run.key}.npz", test=ranks)
    figures = {f"{name}@{k}": hits for name in ("HR", "NDCG") for k in (5, 10, 20)}
    result = {
        "system": run.settings.system, "data": run.data, "seed": run.seed, "settings": run.settings.to_json(), "test": figures,
        "validation": figures, "epochs": 30, "best_epoch": 20, "epoch_seconds": 20.0, "seconds": 600.0, "protocol": "full",
        "machine": {}, "commit": "c" * 40,
    }  # fmt: skip
    (table_of_runs.RESULTS / f"{run.key}.json").write_text(json.dumps(result))


def test_the_real_table():
    runs = read_runs()
    assert runs[0].key == "beauty-sasrec-paper-seed0"
    tables = {table for run in runs for table in run.tables}
    assert {"table2", "table3", "table4", "fig6", "recipe"} <= tables
    alphas = {run.settings.alpha for run in runs if "fig6" in run.tables and run.seed == 0}
    assert alphas == {0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}
    for run in runs:
        before = control(run, runs)
        assert (before is None) == (not run.settings.augmented)
        if before is not None:
            assert before.seed == run.seed and before.settings.loss == run.settings.loss
        if "--paper" in run.options and before is not None:
            assert run.settings.dropout == 0.1
            assert run.settings.stages == (2 if run.settings.hybrid else 1)
    yelp = next(run for run in runs if run.key == "yelp-rmhsaocl-paper-seed0")
    assert (yelp.settings.alpha, yelp.settings.rate) == (0.5, (0.2, 0.5))
    keys = {run.key for run in runs}  # a result of no line would be on no page
    assert {file.stem for file in table_of_runs.RESULTS.glob("*.*")} <= keys


def test_choosing(listed):
    assert [run.key for run in choose(listed, None)][0] == "beauty-sasrec-ice-paper-seed0"
    crop = choose(listed, "beauty-rmhsaocl-paper-crop-seed0")
    assert [run.name for run in crop] == [
        "sasrec-ice-paper",
        "rmhsaocl-paper-crop",
    ]  # with its control before it
    assert len(choose(listed, "table3/Beauty")) == 5 and len(choose(listed, "table3")) == 5
    with pytest.raises(UsageError, match="only=table9; tables: table2, table3"):
        choose(listed, "table9")


def test_errors_of_the_file(tmp_path):
    file = tmp_path / "runs.txt"
    file.write_text("table2 | Beauty | 0 | sasrec | --system sasrec\n")
    with pytest.raises(UsageError, match=r"runs.txt:1: expected tables .* got 5 columns"):
        read_runs(file)
    file.write_text("t | Beauty | 0 0 | sasrec | s | --system sasrec\n")
    with pytest.raises(UsageError, match="beauty-sasrec-seed0 again"):
        read_runs(file)
    file.write_text("t | Beauty | 0 | r | r | --system rmhsaocl\n")
    with pytest.raises(UsageError, match="expected a line for the control of beauty-r-seed0"):
        read_runs(file)


def test_a_result_of_other_settings_is_refused(listed):
    commit(listed[0], 0.1)
    file = table_of_runs.RESULTS / f"{listed[0].key}.json"
    file.write_text(file.read_text().replace('"dim": 8', '"dim": 16'))
    with pytest.raises(UsageError, match="expected .* to be of the settings of sasrec-ice-paper"):
        listed[0].result()


def test_an_incomplete_result_is_refused(listed):
    commit(listed[0], 0.1)
    file = table_of_runs.RESULTS / f"{listed[0].key}.json"
    whole = json.loads(file.read_text())
    for part in (*table_of_runs.COMMITTED, "HR@10"):
        short = {name: value for name, value in whole.items() if name != part}
        short["test"] = {name: value for name, value in short.get("test", {}).items() if name != part}
        file.write_text(json.dumps(short))
        lacks = "HR@5" if part == "test" else part
        said = f"{file.name} to be the result of a run, got something else .*{lacks}"
        with pytest.raises(UsageError, match=said):
            listed[0].result()


def test_running_what_is_missing(listed, tmp_path, capsys):
    shop = generate(users=300, items=200, families=40)
    data = tmp_path / "Beauty.txt"
    data.write_text(
        "".join(
            f"{user} {' '.join(map(str, row))}\n" for user, row in zip(shop.users, shop.rows, strict=True)
        )
    )
    folder, sources = tmp_path / "runs", {"Beauty": str(data)}
    chosen = choose(listed, "beauty-rmhsaocl-paper-seed0")
    assert execute(chosen, listed, folder=folder, sources=sources, jobs=2) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [run.key for run in chosen for _ in range(2)]
    full = chosen[-1].result()
    assert full["system"] == "rmhsaocl" and full["first_stage"]["system"] == "sasrec-ice"
    assert len(chosen[-1].ranks()) == 300
    assert execute(chosen, listed, folder=folder, sources=sources, jobs=1) == 0  # nothing is left to do
    assert capsys.readouterr().out == ""
    lines = compared(listed, "table2", PUBLISHED, None)
    assert sum("not run" in line for line in lines) == 0 and len(lines) == 4
    assert "| Beauty | full | 0.0880 |" in lines[3]

    # A control whose weights are gone is run again for a second stage, and only for that.
    crop = choose(listed, "beauty-rmhsaocl-paper-crop-seed0")
    assert not lacks_weights(crop[0], crop, listed, folder)
    assert lacks_weights(crop[0], crop, listed, tmp_path / "elsewhere")
    assert (control_folder(crop[0], tmp_path / "elsewhere") / "ranks.npz").exists()

    data.write_text("1 2 three\n")
    again = choose(listed, "beauty-rmhsaocl-paper-seed1")
    assert execute(again, listed, folder=tmp_path / "bad", sources=sources, jobs=1) == 2
    said = capsys.readouterr().out
    assert "failed after" in said and "got 'three'" in said
    assert "beauty-rmhsaocl-paper-seed1: not run, since beauty-sasrec-ice-paper-seed1 failed" in said


def test_a_run_is_kept_only_where_it_belongs(listed, tmp_path):
    commit(listed[0], 0.1)
    found = tmp_path / "found"
    found.mkdir()
    result = json.loads((table_of_runs.RESULTS / f"{listed[0].key}.json").read_text())
    (found / "result.json").write_text(json.dumps(result | {"seed": 7}))
    with pytest.raises(UsageError, match="expected .* to hold beauty-sasrec-ice-paper-seed0"):
        keep(listed[0], found)


def test_the_page(listed):
    text = page(listed, PUBLISHED, {}, None)
    assert "4 of 4 runs are not there yet" not in text and "5 of 5 runs are not there yet" in text
    by_key = {run.key: run for run in listed}
    commit(by_key["beauty-sasrec-ice-paper-seed0"], 0.08)
    commit(by_key["beauty-rmhsaocl-paper-seed0"], 0.10)
    commit(by_key["beauty-rmhsaocl-paper-crop-seed0"], 0.10)
    text = page(
        listed, PUBLISHED, {"Beauty": generate(users=300, items=200, families=40)}, "pictures/fig6.png"
    )
    row = next(line for line in text.splitlines() if line.startswith("| Beauty | full |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:5] == ["0.0880", "0.1000", "+0.0120"] and 0 < float(cells[5]) < 1e-5
    assert cells[-1] == "above"
    crop = next(line for line in text.splitlines() if line.startswith("| Beauty | no Crop |"))
    assert crop.count("| 1 |") == 2  # the same hits as the full system
    assert "python examples/paper_tables.py --only beauty-rmhsaocl-paper-seed1" in text
    assert "| | ours | 300 |" in text and "](pictures/fig6.png)" in text


def test_seeds_are_one_row(listed):
    by_key = {run.key: run for run in listed}
    commit(by_key["beauty-rmhsaocl-paper-seed0"], 0.09)
    commit(by_key["beauty-rmhsaocl-paper-seed1"], 0.10)
    row = next(row for row in rows_of(listed, "table2", "Beauty") if row.first.name == "rmhsaocl-paper")
    assert isinstance(row, Row) and row.text("HR@10") == "0.0950 ± 0.0071"
    share = row.per_user(lambda rank, k: (rank < k).double())
    assert share.mean().item() == pytest.approx(0.095) and set(share.tolist()) == {0.0, 0.5, 1.0}
    assert verdict(row, 0.095, "HR@10") == "equal"
    assert verdict(row, 0.05, "HR@10") == "above" and verdict(row, 0.15, "HR@10") == "below"


def test_ranking_takes_one_loss_and_the_best_first(tmp_path, monkeypatch):
    monkeypatch.setattr(table_of_runs, "RESULTS", tmp_path / "results")
    (tmp_path / "runs.txt").write_text(
        f"""
systems | Beauty | 0 1 | sasrec-ice  | control | --system sasrec-ice {SMALL}
systems | Beauty | 0   | cl4srec-ice | views   | --system cl4srec-ice {SMALL}
systems | Beauty | 0   | duorec      | targets | --system duorec {SMALL}
systems | Beauty | 0   | sasrec      | other   | --system sasrec {SMALL}
"""
    )
    runs = read_runs(tmp_path / "runs.txt")
    for run, hits in zip(runs, (0.2, 0.3, 0.4, None, 0.9), strict=True):
        if hits is not None:
            commit(run, hits)
    first, second, third = ranking(runs, "ice")[2:]
    assert first.startswith("| 1 | views | 1 | 0.4000 | ") and "e-" in first  # surely above the control
    assert second == "| 2 | control | 2 | 0.2500 ± 0.0707 |  | 0.2500 ± 0.0707 |  |"
    assert third == "| | targets | not run | | | | |"
    assert ranking(runs, "bce")[2:] == ["| 1 | other | 1 | 0.9000 |  | 0.9000 |  |"]


def test_estimates_grow_with_the_work(listed):
    by_key = {run.key: run for run in listed}
    commit(by_key["beauty-sasrec-ice-paper-seed0"], 0.08)
    hours = estimate(listed, listed, PUBLISHED)
    assert hours["beauty-sasrec-ice-paper-seed0"] == pytest.approx(30 * 20 / 3600)
    assert hours["beauty-rmhsaocl-paper-seed1"] == pytest.approx(11 * 30 * 20 / 3600)  # 4 views and 6 mixes
    assert torch.tensor(list(hours.values())).isfinite().all()
