"""Make the tables of results out of docs/results/*.json, so that no figure is typed by hand.

    python docs/results_table.py            # print the table
    python docs/results_table.py --write    # put it between the markers of README.md and docs/results.md

Runs of one system on one data set that differ in nothing but the seed are one row: mean ± standard deviation over seeds.
Published figures come from docs/published.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "examples")]

from benchmarks_table import replaced  # noqa: E402

from recsys.settings import Settings  # noqa: E402

PAGES = (DOCS.parent / "README.md", DOCS / "results.md")
FIGURES = ("HR@5", "HR@10", "HR@20", "NDCG@5", "NDCG@10", "NDCG@20")
KEYS = (
    "system", "data", "seed", "settings", "validation", "test", "epochs", "epoch_seconds", "seconds", "machine", "commit",
)  # fmt: skip
# What tells runs of one recipe apart without changing it.
NOT_RECIPE = ("seed", "threads", "device", "devices", "epochs", "patience")


def read_runs(folder: Path = DOCS / "results") -> list[dict[str, Any]]:
    """The runs committed in ``folder``; files of another kind and runs with a leak are passed over, incomplete ones refused."""
    runs = []
    for path in sorted(folder.rglob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(run, dict) or "system" not in run or "test" not in run:
            continue
        if run.get("settings", {}).get("leak"):  # a comparison with published code, in docs/tables.md alone
            continue
        missing = [key for key in KEYS if key not in run] + [
            name for name in FIGURES if name not in run["test"]
        ]
        if missing:
            raise ValueError(f"{path}: expected the result of a run, got none of {', '.join(missing)}")
        runs.append(run)
    return runs


def recipe(run: dict[str, Any]) -> dict[str, Any]:
    settings = Settings.from_json(run["settings"]).to_json()
    return {key: value for key, value in settings.items() if key not in NOT_RECIPE}


def figure(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def table(runs: list[dict[str, Any]], published: dict[str, Any]) -> str:
    """One row per data set, system and recipe, the published figures of the same data set above ours."""
    if not runs:
        return "No run has been committed yet."
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        groups[run["data"], run["system"], json.dumps(recipe(run), sort_keys=True)].append(run)
    lines = [
        "| data | system | " + " | ".join(FIGURES) + " | epochs | training minutes | seeds |",
        "|---|---|" + "---:|" * (len(FIGURES) + 3),
    ]
    for data in sorted({key[0] for key in groups}):
        for system, (hits, gain) in published["figures"].get(data, {}).items():
            shown = {"HR@10": f"{hits:.4f}", "NDCG@10": f"{gain:.4f}"}
            cells = [shown.get(name, "") for name in FIGURES]
            lines.append(
                f"| {data} | {system}, {published['label']} | " + " | ".join([*cells, "", "", ""]) + " |"
            )
        own = sorted((key for key in groups if key[0] == data), key=lambda key: best(groups[key]))
        for key in own:
            members = groups[key]
            same = [recipe(groups[other][0]) for other in own if other[1] == key[1]]
            cells = [figure([run["test"][name] for run in members]) for name in FIGURES]
            epochs = statistics.fmean(run["epochs"] for run in members)
            # By the median epoch: a run may have waited for others, or been stopped and continued.
            minutes = statistics.fmean(run["epochs"] * run["epoch_seconds"] for run in members) / 60
            seeds = ", ".join(str(run["seed"]) for run in sorted(members, key=lambda run: run["seed"]))
            name = key[1] + differing(recipe(members[0]), same)
            lines.append(
                f"| {data} | **{name}** | "
                + " | ".join([*cells, f"{epochs:.0f}", f"{math.ceil(minutes)}", seeds])
                + " |"
            )
    return "\n".join([*lines, "", *notes(runs)])


def best(runs: list[dict[str, Any]]) -> float:
    return statistics.fmean(run["test"]["NDCG@10"] for run in runs)


def differing(own: dict[str, Any], all_of_system: list[dict[str, Any]]) -> str:
    """The settings that tell this recipe of a system from the other recipes of it in the table."""
    names = sorted({name for other in all_of_system for name in other if other.get(name) != own.get(name)})
    return f" ({', '.join(f'{name} {_plain(own.get(name))}' for name in names)})" if names else ""


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def notes(runs: list[dict[str, Any]]) -> list[str]:
    protocols = sorted({run["protocol"] for run in runs if "protocol" in run})
    machines = sorted({machine(run["machine"]) for run in runs})
    commits = sorted({run["commit"][:10] for run in runs})
    return [
        *(f"Protocol: {protocol}; the epoch is chosen on validation.  " for protocol in protocols),
        f"Machine: {'; '.join(machines)}. Training minutes: epochs times the median epoch.  ",
        f"Commit: {', '.join(commits)}. Every run with all its settings: `docs/results/`.",
    ]


def machine(facts: Any) -> str:
    if not isinstance(facts, dict):
        return str(facts)
    parts = [str(facts.get("gpu") or facts.get("cpu", "unknown"))]
    if "threads" in facts:
        parts.append(f"{facts['threads']} thread{'s' if facts['threads'] != 1 else ''}")
    if "torch" in facts:
        parts.append(f"torch {facts['torch']}")
    return ", ".join(parts)


def current() -> str:
    published = json.loads((DOCS / "published.json").read_text(encoding="utf-8"))
    return table(read_runs(), published)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Make the tables of results out of docs/results/*.json.")
    parser.add_argument(
        "--write", action="store_true", help="put the table into README.md and docs/results.md"
    )
    text = current()
    if not parser.parse_args(argv).write:
        print(text)
        return
    for path in PAGES:
        path.write_text(replaced(path.read_text(encoding="utf-8"), "results", text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
