"""Make the tables and the picture of the losses' benchmark out of JSON, so that no figure is typed by hand.

    python docs/losses_table.py            # print the tables
    python docs/losses_table.py --write    # put them between the markers of docs/benchmarks.md and docs/losses.md

Times and memory come from benchmarks/results/losses*.json (benchmarks/losses.py), the quality on Beauty from
docs/results/beauty-sasrec-*.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

from benchmarks_table import RESULTS as MEASURED  # noqa: E402
from benchmarks_table import machine_line, replaced  # noqa: E402

PICTURE = DOCS / "pictures" / "benchmarks-losses.png"
ICE, FULL = "ICELoss chunked", "cross_entropy on full logits"
# The losses that can be trained with a million items, where their quality is, and when to take them.
CHOICE = {
    ICE: ("sasrec-ice-products", "one step over the whole catalog is affordable: exact, nothing to tune"),
    "SampledSoftmaxLoss 256": (
        "sasrec-sampled",
        "scoring the whole catalog takes too long: uniform negatives with log-Q",
    ),
    "SCELoss": ("sasrec-sce", "negatives near each hidden state are wanted, without a sampler"),
    "RECELoss": ("sasrec-rece", "the same, each item in reach counted once"),
}
Row = dict[str, Any]


def read(folder: Path = MEASURED) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("losses*.json"))]


def size_of(row: Row) -> tuple[int, int, int]:
    return row["tokens"], row["items"], row["features"]


def measured(files: list[dict[str, Any]]) -> list[Row]:
    """Rows with a figure, smaller problems first."""
    rows = [row for file in files for row in file["results"] if "seconds" in row]
    return sorted(
        rows, key=lambda row: (row["features"], row["items"], row["tokens"], row["dtype"] != "float32")
    )


def table(header: str, lines: list[list[str]]) -> str:
    names = header.split("|")
    rule = "|".join("---" if index == 0 else "---:" for index in range(len(names)))
    return "\n".join(
        [f"| {' | '.join(names)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def mebibytes(row: Row) -> str:
    return "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.0f}"


def milliseconds(row: Row) -> str:
    return f"{row['seconds'] * 1e3:,.0f}"


def exact(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        if row["loss"] in ("SCELoss", "RECELoss", "SampledSoftmaxLoss 256"):
            continue
        whole = [other for other in rows if same_problem(other, row) and other["loss"] == FULL]
        faster = f"{whole[0]['seconds'] / row['seconds']:.1f}" if whole else ""
        tokens, items, features = size_of(row)
        name = f"**{row['loss']}**" if row["loss"].startswith("ICELoss") else row["loss"]
        lines.append(
            [
                f"{tokens:,} × {items:,} × {features}",
                row["dtype"],
                name,
                milliseconds(row),
                f"{row['gflops']:,.0f}",
            ]
            + [f"{row['share']:.0%}", faster, mebibytes(row)]
        )
    head = "tokens × items × features|dtype|loss|ms|GF/s|of the product|times full logits|MiB"
    return table(head, lines)


def same_problem(one: Row, other: Row) -> bool:
    return size_of(one) == size_of(other) and one["dtype"] == other["dtype"]


def choice(rows: list[Row], quality: dict[str, Any]) -> str:
    """Step time and memory at the largest catalog of float32 with every loss, and what each reaches on Beauty."""
    largest = max((row for row in rows if row["loss"] in CHOICE), key=lambda row: row["items"])
    found = {row["loss"]: row for row in rows if same_problem(row, largest)}
    lines = []
    for name, (run_name, when) in CHOICE.items():
        row, run = found[name], quality.get(run_name)
        test = (
            [f"{run['test'][figure]:.4f}" for figure in ("HR@10", "NDCG@10")]
            if run
            else ["not run", "not run"]
        )
        times = f"{found[ICE]['seconds'] / row['seconds']:.1f}"
        lines.append([name.removesuffix(" chunked"), milliseconds(row), times, mebibytes(row), *test, when])
    tokens, items, features = size_of(largest)
    head = "loss|ms|times faster|MiB|Beauty HR@10|Beauty NDCG@10|take it when"
    note = (
        f"One step, forward and backward, {tokens:,} tokens × {items:,} items × {features} features, {largest['dtype']}; "
        "memory beyond table, gradients and inputs. Beauty: SASRec with products as scores, seed 0, same settings but the loss, "
        "and 256 negatives for each row instead of for the batch."
    )
    return f"{table(head, lines)}\n\n{note}"


def estimates(files: list[dict[str, Any]]) -> str:
    rows = {(size_of(row), row["backend"]): row for file in files for row in file["estimates"]}
    lines = [
        [f"{size[0]:,} × {size[1]:,} × {size[2]}", backend, f"{row['operations'] / 1e12:,.2f}"]
        + [f"{row['bytes'] / 1e9:,.1f}", f"{row['seconds'] * 1e3:,.2f}"]
        for (size, backend), row in sorted(rows.items(), key=lambda pair: pair[0][0])
        if size[1] > 10_000
    ]
    return table("tokens × items × features|backend|10¹² operations|GB moved|ms", lines)


def absent(files: list[dict[str, Any]]) -> list[str]:
    reasons = {row["loss"]: row["absent"] for file in files for row in file["results"] if "absent" in row}
    return [f"{name} did not run on this machine: `{reason}`." for name, reason in sorted(reasons.items())]


def machines(files: list[dict[str, Any]]) -> list[str]:
    return sorted({machine_line(file["machine"]) for file in files})


def draw(rows: list[Row], path: Path = PICTURE) -> None:
    """Time and memory against the size of the catalog, for the number of tokens with most catalogs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["dtype"] == "float32"]
    kinds = {(row["tokens"], row["features"]) for row in rows}
    tokens, features = max(
        kinds,
        key=lambda kind: len({row["items"] for row in rows if (row["tokens"], row["features"]) == kind}),
    )
    rows = [row for row in rows if (row["tokens"], row["features"]) == (tokens, features)]
    figure, (time, memory) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name in dict.fromkeys(row["loss"] for row in rows):
        own = sorted((row for row in rows if row["loss"] == name), key=lambda row: row["items"])
        style = {"marker": "o", "linewidth": 2.0 if name.startswith("ICELoss") else 1.0}
        items = [row["items"] for row in own]
        time.plot(items, [row["seconds"] for row in own], label=name, **style)
        # What the allocator had left over can serve a small call whole: draw it as 1 MiB, not as nothing.
        memory.plot(items, [max(1.0, (row["peak_bytes"] or 0) / 2**20) for row in own], label=name, **style)
    for axes, label in (
        (time, "seconds, forward and backward"),
        (memory, "MiB beyond table, gradients, inputs"),
    ):
        axes.set(xscale="log", yscale="log", xlabel="items", ylabel=label)
        axes.grid(alpha=0.3)
    time.set_title(f"{tokens:,} tokens x {features} features, float32", loc="left", fontsize=10)
    time.legend(fontsize=7)
    figure.savefig(path, dpi=120)


NOTHING = "Not measured yet."


def pages() -> dict[Path, dict[str, str]]:
    """What belongs between which markers of which page."""
    files = read()
    rows = measured(files)
    runs = {name: DOCS / "results" / f"beauty-{name}-seed0.json" for name, _ in CHOICE.values()}
    quality = {
        name: json.loads(path.read_text(encoding="utf-8")) for name, path in runs.items() if path.exists()
    }
    whole, joint, paper = NOTHING, NOTHING, NOTHING
    if rows:
        # Two spaces at the end of a line are a line break.
        whole = "\n\n".join([exact(rows), "  \n".join(machines(files) + absent(files))])
        joint, paper = choice(rows, quality), estimates(files)
    return {
        DOCS / "benchmarks.md": {"losses": whole, "choice": joint, "estimates": paper},
        DOCS / "losses.md": {"choice": joint},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the tables and the picture of the losses' benchmark.")
    parser.add_argument("--write", action="store_true", help="put them into the pages")
    if not parser.parse_args().write:
        print("\n\n".join(pages()[DOCS / "benchmarks.md"].values()))
        return
    for page, parts in pages().items():
        text = page.read_text(encoding="utf-8")
        for name, part in parts.items():
            text = replaced(text, name, part)
        page.write_text(text, encoding="utf-8")
    rows = measured(read())
    if rows:
        draw(rows)


if __name__ == "__main__":
    main()
