"""Make the tables of results out of docs/results/*.json, so that no figure is typed by hand.

    python docs/results_table.py            # print both tables
    python docs/results_table.py --write    # put them between the markers of README.md and docs/results.md

A row is one line of examples/tables/runs.txt on one data set: mean ± standard deviation over its seeds. The README has
the main job and what it is compared with, docs/results.md every run. Published figures come from docs/published.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "examples")]

from benchmarks_table import replaced  # noqa: E402

from tables.page import DATA, Row, seeds_together  # noqa: E402
from tables.runs import Run, read_runs  # noqa: E402

README, PAGE = DOCS.parent / "README.md", DOCS / "results.md"
FIGURES = ("HR@5", "HR@10", "HR@20", "NDCG@5", "NDCG@10", "NDCG@20")
HEADLINE = ("sasrec", "sasrec-ice-dim64", "rmhsaocl-dim64", "sasrec-ice", "rmhsaocl")  # names of runs


def rows_of(runs: list[Run]) -> list[Row]:
    """What has been run, seeds together, by data set and then by NDCG@10; a leak is a comparison with published code alone."""
    rows = seeds_together([run for run in runs if not run.settings.leak])
    done = [row for row in rows if row.done]
    return sorted(done, key=lambda row: (DATA.index(row.first.data), row.mean("NDCG@10")))


def table(rows: list[Row], published: dict[str, Any]) -> str:
    """One line per row, the published figures of the same data set above ours."""
    if not rows:
        return "No run has been committed yet."
    lines = [
        "| data | system | " + " | ".join(FIGURES) + " | epochs | training minutes | seeds | options |",
        "|---|---|" + "---:|" * (len(FIGURES) + 3) + "---|",
    ]
    for data in dict.fromkeys(row.first.data for row in rows):
        for system, (hits, gain) in published["figures"].get(data, {}).items():
            shown = {"HR@10": f"{hits:.4f}", "NDCG@10": f"{gain:.4f}"}
            cells = [shown.get(name, "") for name in FIGURES]
            lines.append(f"| {data} | {system}, {published['label']} | " + " | ".join(cells) + " | | | | |")
        for row in rows:
            if row.first.data == data:
                lines.append(f"| {data} | **{row.first.shown}** | " + " | ".join(cells_of(row)) + " |")
    return "\n".join([*lines, "", *notes([result for row in rows for _, result in row.done])])


def cells_of(row: Row) -> list[str]:
    """Figures, epochs, minutes, seeds and options of a row."""
    results = [result for _, result in row.done]
    epochs = statistics.fmean(result["epochs"] for result in results)
    # By the median epoch: a run may have waited for others, or been stopped and continued.
    minutes = statistics.fmean(result["epochs"] * result["epoch_seconds"] for result in results) / 60
    seeds = ", ".join(str(run.seed) for run, _ in row.done)
    figures = [row.text(name) for name in FIGURES]
    return [*figures, f"{epochs:.0f}", f"{math.ceil(minutes)}", seeds, f"`{' '.join(row.first.options)}`"]


def notes(results: list[dict[str, Any]]) -> list[str]:
    protocols = sorted({result["protocol"] for result in results})
    machines = sorted({machine(result["machine"]) for result in results})
    commits = sorted({result["commit"][:10] for result in results})
    return [
        *(f"Protocol: {protocol}; the epoch is chosen on validation.  " for protocol in protocols),
        f"Machine: {'; '.join(machines)}.  ",
        "±: standard deviation over seeds. Epochs: trained, patience included. Training minutes: epochs times the median epoch, without",
        "first stages, on machines, threads and precisions that differ between rows.  ",
        f"Commit: {', '.join(commits)}. The settings of every run: `docs/results/`.",
    ]


def machine(facts: dict[str, Any]) -> str:
    parts = [str(facts.get("gpu") or facts.get("cpu", "unknown"))]
    if "threads" in facts:
        parts.append(f"{facts['threads']} thread{'s' if facts['threads'] != 1 else ''}")
    if "torch" in facts:
        parts.append(f"torch {facts['torch']}")
    return ", ".join(parts)


def pages() -> dict[Path, str]:
    """The table of each page."""
    published = json.loads((DOCS / "published.json").read_text(encoding="utf-8"))
    rows = rows_of(read_runs())
    headline = [row for row in rows if row.first.name in HEADLINE and row.first.data in published["figures"]]
    return {README: table(headline, published), PAGE: table(rows, published)}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Make the tables of results out of docs/results/*.json.")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into README.md and docs/results.md"
    )
    write = parser.parse_args(argv).write
    for path, text in pages().items():
        if write:
            path.write_text(replaced(path.read_text(encoding="utf-8"), "results", text), encoding="utf-8")
        else:
            print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
