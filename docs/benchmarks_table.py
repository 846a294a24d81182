"""Make the tables and plots of docs/benchmarks.md out of benchmarks/results/*.json, so that no figure is typed by hand.

    python docs/benchmarks_table.py            # print the tables
    python docs/benchmarks_table.py --write    # put them between their markers, and draw docs/pictures/benchmarks-*.png

Each section of the page names itself in its markers, `<!-- operators: begin -->` and `<!-- operators: end -->`; one function below makes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PAGE = DOCS / "benchmarks.md"
PICTURES = DOCS / "pictures"
Results = dict[str, Any]


def read(name: str) -> Results | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def machine_line(machine: Results) -> str:
    return (
        f"Machine: {machine['device']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}, torch {machine['torch']}; commit {machine['commit']}, "
        f"{machine['date'][:10]}."
    )


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def operators_table(name: str) -> str:
    found = read(name)
    if found is None:
        return "Not measured yet."
    setting = found["setting"]
    lengths = (
        "rows of 1 to 50 items, as many of each" if setting["data"] is None else f"rows of {setting['data']}"
    )
    lines = [
        f"{setting['rows']:,} rows × {setting['slots']} slots, {lengths}, {setting['items']:,} filled slots. {machine_line(found['machine'])}",
        "",
        "| | eager | × limit | compiled | × limit | compiled: sequences/s | GB/s | × faster than rows as published | than lean rows | than RecBole |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["results"]:
        seconds = row["seconds"]
        lines.append(
            f"| {row['operator']} | {seconds['eager'] * 1e3:.2f} ms | {times(row['eager_over_limit'])} "
            f"| {seconds['compiled'] * 1e3:.2f} ms | {times(row['compiled_over_limit'])} "
            f"| {row['sequences_per_second']:,.0f} | {row['gigabytes_per_second']:.1f} "
            f"| {times(row['published_over_compiled'])} | {times(row['lean_over_compiled'])} | {times(row.get('recbole_over_compiled'))} |"
        )
    return "\n".join(lines)


def operators() -> str:
    return "\n\n".join(operators_table(name) for name in ("operators", "operators-beauty"))


def packed() -> str:
    """Every operator on padded and on packed rows."""
    found = read("packed")
    if found is None:
        return "Not measured yet."
    setting = found["setting"]
    slots, kinds = setting["rows"] * setting["slots"], list(found["results"][0]["faster"])
    lines = [
        f"{setting['rows']:,} rows of {setting['data']}, {setting['items']:,} filled slots: {setting['items'] / slots:.0%} of "
        f"{setting['slots']} slots. {setting['groups']} groups, found in {setting['grouping_seconds'] * 1e3:.2f} ms. "
        f"{machine_line(found['machine'])}",
        "",
        "| | " + " | ".join(f"{kind}padded | packed | × faster" for kind in kinds) + " |",
        "|---|" + "---:|---:|---:|" * len(kinds),
    ]
    for row in found["results"]:
        cells = [row["operator"]]
        for kind in kinds:
            cells += [f"{row['seconds'][kind + rows] * 1e3:.2f} ms" for rows in ("padded", "packed")]
            cells.append(f"{row['faster'][kind]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def similarity() -> str:
    found = read("similarity")
    if found is None:
        return "Not measured yet."
    setting = found["setting"]
    lines = [
        f"{setting['items']:,} items, {setting['interactions']:,} interactions of {setting['users']:,} users, "
        f"{setting['neighbours']} neighbours of each item. {machine_line(found['machine'])}",
        "",
        "| | seconds of processor | most memory |",
        "|---|---:|---:|",
    ]
    for row in found["results"]:
        lines.append(
            f"| {row['method']} | {row['processor_seconds']:.0f} | {row['peak_bytes'] / 2**30:.2f} GiB |"
        )
    return "\n".join(lines)


def training() -> str:
    found = read("training")
    if found is None:
        return "Not measured yet."
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    from training import table

    return f"Rows of {found['setting']['data']}. {machine_line(found['machine'])}\n\n{table(found)}"


def draw_operators() -> None:
    """Compiled time of every operator over the limit of its run, and that of the same operator on Python lists."""
    found = read("operators")
    if found is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = found["results"]
    names = [row["operator"] for row in rows]
    limits = [row["seconds"]["compiled limit"] for row in rows]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(rows) + 1), layout="constrained")
    for call, color, label in (
        ("compiled", "#4c78a8", "compiled"),
        ("eager", "#9ecae1", "eager"),
        ("rows", "#f28e2b", "Python lists"),
        ("recbole", "#d62728", "RecBole"),
    ):
        shown = [
            (name, row["seconds"][call] / limit)
            for name, row, limit in zip(names, rows, limits, strict=True)
            if call in row["seconds"]
        ]
        if shown:
            axes.plot(
                [x for _, x in shown], [names.index(n) for n, _ in shown], "o", color=color, label=label
            )
    axes.axvline(1, color="#888888", linewidth=1)
    axes.axvline(3, color="#cccccc", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, size=8)
    axes.invert_yaxis()
    axes.set_xlabel("time over that of one torch.rand and one gather, compiled")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "benchmarks-operators.png", dpi=130, facecolor="white")


def step() -> str:
    """What drawing, editing and mixing cost in a step of the main job."""
    found = read("step")
    if found is None:
        return "Not measured yet."
    lines = [
        "| settings | views | mixes | seconds of all steps | without | share |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in found["results"]:
        positions, features = row["mixes"]
        lines.append(
            f"| {row['settings']} | {row['views']} | {positions} + {features} | {row['seconds']['with']:.2f} "
            f"| {row['seconds']['without']:.2f} | {row['share']:.1%} |"
        )
    return "\n".join([*lines, "", machine_line(found["machine"])])


SECTIONS: dict[str, Callable[[], str]] = {
    "operators": operators,
    "packed": packed,
    "similarity": similarity,
    "training": training,
    "step": step,
}
DRAWINGS: list[Callable[[], None]] = [draw_operators]


def replaced(page: str, section: str, text: str) -> str:
    """``page`` with ``text`` between the markers of one section."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"expected one {begin} and one {end} in the page")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Make the tables of docs/benchmarks.md.")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into the page and draw the plots"
    )
    if not parser.parse_args(argv).write:
        for section, make in SECTIONS.items():
            print(f"{section}\n{make()}\n")
        return
    page = PAGE.read_text(encoding="utf-8")
    for section, make in SECTIONS.items():
        page = replaced(page, section, make())
    PAGE.write_text(page, encoding="utf-8")
    for drawing in DRAWINGS:
        drawing()


if __name__ == "__main__":
    main(sys.argv[1:])
