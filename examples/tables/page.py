"""The page of tables: the paper's figures, ours, the difference and how sure it is; Fig. 6 as a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys.datasets import Dataset
from recsys.evaluation import PROTOCOL, gains, hits, paired_t_test
from recsys.folder import write_atomic
from tables.runs import SAME_AS, Run, control

DATA = ("Beauty", "Sports", "Yelp", *SAME_AS)
FIGURES: dict[str, Callable[[Tensor, int], Tensor]] = {"HR@10": hits, "NDCG@10": gains}
# Rows of the paper's tables, by the name of the run.
PAPER_ROWS = {
    "table2": {"sasrec-paper": "SASRec", "basrec-paper": "BASRec", "rmhsaocl-paper": "RM-HSAOCL"},
    "table3": {
        "rmhsaocl-paper": "full", "rmhsaocl-paper-crop": "-Crop", "rmhsaocl-paper-mask": "-Mask",
        "rmhsaocl-paper-both": "-Crop-Mask",
    },
    "table4": {
        "rmhsaocl-paper": "ICE", "rmhsaocl-paper-bce": "BCE", "rmhsaocl-paper-ce": "CE", "rmhsaocl-paper-focal": "Focal",
    },
    "systems": {
        "sasrec": "SASRec", "asrep": "ASReP", "diffuasr": "DiffuASR", "cl4srec": "CL4SRec", "basrec": "BASRec",
        "rmhsaocl-dim64": "RM-HSAOCL",
    },
    "published": {
        "sasrec": "SASRec", "sasrec-random": "SASRec", "sasrec-leak": "SASRec", "cl4srec-random": "CL4SRec",
        "cl4srec-leak": "CL4SRec", "sasrec-paper": "SASRec", "basrec-paper": "BASRec",
        "cl4srec-paper": "CL4SRec", "asrep-paper": "ASReP", "diffuasr-paper": "DiffuASR",
    },
}  # fmt: skip


class Row:
    """All seeds of one row on one data set that have been run."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.done = [(run, result) for run in runs if (result := run.result()) is not None]

    @property
    def first(self) -> Run:
        return self.runs[0]

    def figures(self, name: str) -> list[float]:
        return [result["test"][name] for _, result in self.done]

    def per_user(self, of: Callable[[Tensor, int], Tensor]) -> Tensor | None:
        """(users,) mean over the seeds."""
        ranks = [run.ranks() for run, _ in self.done]
        found = [rank for rank in ranks if rank is not None]
        return (
            torch.stack([of(rank, 10) for rank in found]).mean(0)
            if found and len(found) == len(ranks)
            else None
        )

    def mean(self, name: str) -> float:
        return statistics.fmean(self.figures(name))

    def text(self, name: str) -> str:
        values, mean = self.figures(name), f"{self.mean(name):.4f}"
        return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def rows_of(runs: list[Run], table: str, data: str) -> list[Row]:
    """Rows of a table on one data set."""
    return seeds_together([run for run in runs if table in run.tables and run.data == data])


def seeds_together(runs: list[Run]) -> list[Row]:
    """One row for each name on each data set, in the order of ``runs.txt``."""
    lines: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        lines.setdefault((run.data, run.name), []).append(run)
    return [Row(same) for same in lines.values()]


def p_text(row: Row, other: Row | None, name: str) -> str:
    """Two-sided p of the paired t-test over users; empty where there is nothing to compare with."""
    if other is None or not other.done:
        return ""
    first, second = row.per_user(FIGURES[name]), other.per_user(FIGURES[name])
    return "" if first is None or second is None else f"{paired_t_test(first, second)[1]:.2g}"


def tested(row: Row, other: Row | None) -> list[str]:
    """Cells of both figures, each with its p."""
    return [cell for name in FIGURES for cell in (row.text(name), p_text(row, other, name))]


def verdict(row: Row, published: float, name: str) -> str:
    """Above or below, if our figure is more than two standard errors (over users) away, else equal."""
    ours, per_user = row.mean(name), row.per_user(FIGURES[name])
    if per_user is None:
        return "above" if ours > published else "below"
    error = per_user.std().item() / math.sqrt(len(per_user))
    return "equal" if abs(ours - published) <= 2 * error else "above" if ours > published else "below"


def table1(published: dict[str, Any], ours: dict[str, Dataset]) -> list[str]:
    """Statistics of the data sets."""
    lines = ["| data | | users | items | actions | mean length |", "|---|---|---:|---:|---:|---:|"]
    for name, paper in published["table1"].items():
        lines.append(
            f"| {name} | paper | {paper['users']:,} | {paper['items']:,} | {paper['actions']:,} | {paper['length']} |"
        )
        if name in ours:
            rows = ours[name].rows
            actions = sum(map(len, rows))
            lines.append(
                f"| | ours | {len(rows):,} | {ours[name].num_items:,} | {actions:,} | {actions / len(rows):.1f} |"
            )
    return lines


def absent(published: dict[str, Any], runs: list[Run]) -> list[str]:
    """Which data sets of the paper no run is on."""
    names = set(published["table1"]) - {run.published_as for run in runs}
    return [f"There are no runs on {', '.join(sorted(names))}.", ""] if names else []


def compared(runs: list[Run], table: str, published: dict[str, Any], against: str | None) -> list[str]:
    """One table: the paper's figure and ours, the difference, and p against a row or, without one, each row's control."""
    lines = [
        "| data | row | HR@10 paper | ours | difference | p | NDCG@10 paper | ours | difference | p | |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    theirs_of = published.get("table2" if table in ("systems", "published") else table, {})
    for data in DATA:
        rows = rows_of(runs, table, data)
        for row in rows:
            paper = theirs_of.get(row.first.published_as, {}).get(
                PAPER_ROWS.get(table, {}).get(row.first.name, "")
            )
            other = reference(row, rows, runs, against)
            cells, words = [], []
            for number, name in enumerate(FIGURES):
                theirs = None if paper is None else paper[number]
                cells.append("" if theirs is None else f"{theirs:.4f}")
                if not row.done:
                    cells += ["not run", "", ""]
                    continue
                cells.append(row.text(name))
                ours = row.mean(name)
                cells.append("" if theirs is None else f"{ours - theirs:+.4f}")
                cells.append(p_text(row, other, name))
                if theirs is not None:
                    words.append(verdict(row, theirs, name))
            said = " / ".join(words) if len(set(words)) > 1 else "".join(words[:1])
            lines.append(f"| {data} | {row.first.shown} | " + " | ".join(cells) + f" | {said} |")
    return lines


def ablation(runs: list[Run]) -> list[str]:
    """What was chosen among on validation, and what it is worth on test."""
    lines = [
        "| Beauty | best epoch | validation NDCG@10 | HR@10 | p | NDCG@10 | p |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows = rows_of(runs, "ablation", "Beauty")
    for row in rows:
        if not row.done:
            lines.append(f"| {row.first.shown} | not run | | | | | |")
            continue
        other = reference(row, rows, runs, None)
        epochs = [result["best_epoch"] for _, result in row.done]
        chosen = statistics.fmean(result["validation"]["NDCG@10"] for _, result in row.done)
        cells = [f"{statistics.fmean(epochs):.0f}", f"{chosen:.4f}", *tested(row, other)]
        lines.append(f"| {row.first.shown} | " + " | ".join(cells) + " |")
    return lines


def ranking(runs: list[Run], loss: str) -> list[str]:
    """The systems that were trained with one loss on Beauty, best NDCG@10 first; those that have not been run last."""
    rows = [row for row in rows_of(runs, "systems", "Beauty") if row.first.settings.loss == loss]
    done = [row for row in rows if row.done]
    done.sort(key=lambda row: row.mean("NDCG@10"), reverse=True)
    lines = ["| | system | seeds | HR@10 | p | NDCG@10 | p |", "|---:|---|---:|---:|---:|---:|---:|"]
    for place, row in enumerate(done, start=1):
        cells = [str(len(row.done)), *tested(row, reference(row, rows, runs, None))]
        lines.append(f"| {place} | {row.first.shown} | " + " | ".join(cells) + " |")
    lines += [f"| | {row.first.shown} | not run | | | | |" for row in rows if not row.done]
    return lines


def reference(row: Row, rows: list[Row], runs: list[Run], against: str | None) -> Row | None:
    """The row that a p-value compares with."""
    if against is not None:
        return next((other for other in rows if other.first.name == against and other is not row), None)
    before = control(row.first, runs)
    if before is None:
        return None
    seeds = [run.seed for run, _ in row.done]
    return Row(
        [run for run in runs if run.name == before.name and run.data == before.data and run.seed in seeds]
    )


def not_run(runs: list[Run]) -> list[str]:
    """What has not been run yet, each with its command."""
    waiting = [run for run in runs if run.result() is None]
    if not waiting:
        return ["Every run of `examples/tables/runs.txt` is there."]
    return [
        f"{len(waiting)} of {len(runs)} runs are not there yet; each is resumable:",
        "",
        *(f"* `python examples/paper_tables.py --only {run.key}`" for run in waiting),
    ]


def draw_fig6(runs: list[Run], path: Path) -> bool:
    """Fig. 6: figures over alpha, with the standard error over users, or over seeds where there are several."""
    rows = [row for row in rows_of(runs, "fig6", "Beauty") if row.done]
    if len(rows) < 2:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows.sort(key=lambda row: row.first.settings.alpha)
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, (name, of) in zip(axes, FIGURES.items(), strict=True):
        errors = []
        for row in rows:
            values, users = row.figures(name), row.per_user(of)
            by_users = 0.0 if users is None else users.std().item() / math.sqrt(len(users))
            errors.append(statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else by_users)
        axis.errorbar(
            [row.first.settings.alpha for row in rows],
            [row.mean(name) for row in rows],
            yerr=errors, marker="o", capsize=3,
        )  # fmt: skip
        axis.set_xlabel("alpha")
        axis.set_ylabel(f"test {name}")
        axis.spines[["top", "right"]].set_visible(False)
    write_atomic(path, lambda part: figure.savefig(part, dpi=150))
    pyplot.close(figure)
    return True


def page(runs: list[Run], published: dict[str, Any], ours: dict[str, Dataset], picture: str | None) -> str:
    """The whole page as Markdown."""
    picture_lines = [f"![Test figures over alpha]({picture})"] if picture else ["Not run yet."]
    best = [
        f"* {data}: {found['figures'][0]:.4f} / {found['figures'][1]:.4f} ({found['system']})"
        for data, found in published["elsewhere"].items()
    ]
    parts = [
        "# The paper's tables",
        "",
        "Made by `python examples/paper_tables.py --draw` out of `docs/results/*.json` and the runs named in",
        "`examples/tables/runs.txt`. Without `--draw` the same command runs what is missing first.",
        "",
        f"Protocol: leave-one-out; {PROTOCOL}; the epoch is chosen on validation. Figures are HR@10 and NDCG@10 on test.",
        "*p* is the two-sided p-value of a paired t-test over users (means over seeds where there are several).",
        "The last column says where we are: *equal* is within two standard errors over users.",
        "",
        "## Table I: the data",
        "",
        *table1(published, ours),
        "",
        *absent(published, runs),
        "## Table II: systems, with the paper's settings",
        "",
        "*p* is against the row's control: the same encoder, loss and schedule without augmentation.",
        "",
        *compared(runs, "table2", published, None),
        "",
        "**Random rows.** The code that the paper builds on, BASRec's, shuffles all rows, and so does `--paper`. Batches of rows of like length",
        "(the recipe's, since they are less work) do not go with the paper's mean over the targets of a batch: a target in a batch of short rows",
        "then counts several times one in a batch of long rows. The same settings with such batches:",
        "",
        *compared(runs, "length", published, None),
        "",
        "## The recipe, and its control",
        "",
        "*p* is against the control. Best published elsewhere on the same files, ids only:",
        "",
        *best,
        "",
        *compared(runs, "recipe", published, None),
        "",
        "The best published figures are those of other encoders (WEARec: wavelets; TV-Rec: filters that vary with time), with 64 features.",
        "Here the encoder is a plain SASRec, with 256 in the recipe and in its control. The next table says what each choice is worth.",
        "",
        "## The recipe, choice by choice",
        "",
        "Chosen by NDCG@10 on validation. *p* is against the control with the same choices and the same seeds: seed 0, but in the rows with ±.",
        "",
        *ablation(runs),
        "",
        "## Every system, with its own loss and with ICE",
        "",
        "The encoder and schedule of the recipe with 64 features as the papers have, rows as they are; beside them the figures of Table II.",
        "*p* is against the control of equal loss, in the seeds of the row. Systems with BCE have products as scores, the last weights and a patience of 40.",
        "",
        *compared(runs, "systems", published, None),
        "",
        "## With the settings of published code, on Beauty",
        "",
        "Batches of random rows instead of like length; *the leak*: negatives that are never an item that the user has later, held-out ones",
        "included, as much published code draws them (`--leak`); *the paper's settings*: random rows, dropout 0.1, and for BASRec a second",
        "stage that begins from the weights of SASRec. *p* is against the control with the same batches, negatives and settings.",
        "",
        *compared(runs, "published", published, None),
        "",
        "## The systems ranked at equal loss, on Beauty",
        "",
        "The same runs. All with ICE; *p* is against the control with the row's seeds:",
        "",
        *ranking(runs, "ice"),
        "",
        "All with BCE and one negative:",
        "",
        *ranking(runs, "bce"),
        "",
        "## Table III: operators taken away",
        "",
        "*p* is against the full system.",
        "",
        *compared(runs, "table3", published, "rmhsaocl-paper"),
        "",
        "## Table IV: other losses",
        "",
        "*p* is against ICE.",
        "",
        *compared(runs, "table4", published, "rmhsaocl-paper"),
        "",
        "## Fig. 6: alpha, on Beauty",
        "",
        *picture_lines,
        "",
        "## Losses without augmentation, on Beauty",
        "",
        "The encoder and schedule of the recipe with 64 features and products as scores; only the loss differs, and the patience of BCE (40 epochs instead of 10).",
        "",
        *compared(runs, "losses", published, None),
        "",
        "## Not run yet",
        "",
        *not_run(runs),
        "",
    ]
    return "\n".join(parts)
