"""Make the tables of docs/scaling.md out of benchmarks/results/scaling.json: what was measured, a model fitted to it, what it predicts.

python docs/scaling_table.py            # print them
python docs/scaling_table.py --write    # put them between their markers
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))
from benchmarks_table import machine_line, read, replaced  # noqa: E402

PAGE = DOCS / "scaling.md"
Row = dict[str, Any]
NAMES = {"sampled": "sampled softmax", "sce": "SCE", "ice": "ICE"}
# What the time of a step is made of, besides a constant.
TERMS = {
    "ice": {"T V": lambda row: row["tokens"] * row["items"]},
    "sce": {"T": lambda row: row["tokens"], "√T V": lambda row: row["tokens"] ** 0.5 * row["items"]},
    "sampled": {"T": lambda row: row["tokens"]},
}


class Device(NamedTuple):
    """What is assumed of one accelerator, and of the link that leaves it."""

    operations: float = 400e12  # per second in products of bfloat16: about 40% of an H100's peak
    memory: float = 2.5e12  # bytes per second read or written: about 75% of an H100's
    link: float = 40e9  # bytes per second, of 400 Gbit/s
    delay: float = 20e-6  # seconds per collective and rank of the group's logarithm
    features: int = 64
    tokens: int = 65_536  # of all ranks in a step
    negatives: int = 8_192  # shared by the batch


def table(header: str, rows: list[list[str]]) -> str:
    columns = header.split("|")
    return "\n".join(
        [
            "| " + " | ".join(name.strip() for name in columns) + " |",
            "|---" + "|---:" * (len(columns) - 1) + "|",
        ]
        + ["| " + " | ".join(row) + " |" for row in rows]
    )


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def size(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"


def steps_measured(found: Row) -> str:
    rows = [*found["results"]["catalog"], *found["results"]["tokens"]]
    rows = list({(row["loss"], row["items"], row["tokens"]): row for row in rows}.values())
    rows.sort(key=lambda row: (list(NAMES).index(row["loss"]), row["items"], row["tokens"]))
    return table(
        "loss | items | tokens | rows changed | step | peak memory of the process",
        [
            [
                NAMES[r["loss"]],
                f"{r['items']:,}",
                f"{r['tokens']:,}",
                f"{r['rows_changed']:,}",
                seconds(r["seconds"]),
                size(r["peak_bytes"]),
            ]
            for r in rows
        ],
    )


def others_measured(found: Row) -> str:
    results = found["results"]
    samplers = [
        [f"popular negatives, 65,536 of {row['items']:,} items", seconds(row["seconds"]), size(row["bytes"])]
        for row in results["samplers"]
    ]
    reading = [
        [f"reading {row['users']:,} rows from parquet", seconds(row["seconds"]), ""]
        for row in results["users"]
    ]
    return table("what | time | what it holds", samplers + reading)


def ranks_measured(found: Row) -> str:
    rows = found["results"]["ranks"]
    return table(
        "kind | ranks | items | tokens | step | bytes a rank sends | predicted | on the wire",
        [
            [
                r["kind"],
                str(r["ranks"]),
                f"{r['items']:,}",
                f"{r['tokens']:,}",
                seconds(r["seconds"]),
                f"{r['bytes']:,.0f}",
                f"{r['predicted_bytes']:,.0f}",
                f"{r['wire_bytes']:,.0f}",
            ]
            for r in rows
        ],
    )


def fit(found: Row) -> str:
    """Non-negative least squares of the relative error."""
    lines = []
    for loss, terms in TERMS.items():
        rows = [
            row for part in ("catalog", "tokens") for row in found["results"][part] if row["loss"] == loss
        ]
        measured = np.array([row["seconds"] for row in rows])
        columns = np.array([[1.0, *(term(row) for term in terms.values())] for row in rows])
        scale = columns.max(0)
        weights, _ = nnls(columns / scale / measured[:, None], np.ones(len(rows)))
        off = np.abs(columns / scale @ weights / measured - 1)
        parts = [seconds(weights[0])] + [
            f"{w / s * 1e9:.3g} ns × {name}" for w, s, name in zip(weights[1:], scale[1:], terms, strict=True)
        ]
        lines.append([NAMES[loss], " + ".join(parts), f"{np.median(off):.0%}", f"{off.max():.0%}"])
    return table("loss | seconds of a step, fitted | median error | largest", lines)


def predict(loss: str, items: float, ranks: int, device: Device) -> tuple[float, float, float]:
    """(seconds of a step, bytes that a rank sends, bytes that a rank holds); rows of the table are spread over the ranks."""
    d, t, own = device.features, device.tokens, items / ranks
    state = 2 * 4 if loss == "ice" else 4  # Adam has two numbers per entry; Adagrad one
    gradient = 4 * own * d if loss == "ice" else 0
    held = (4 + state) * own * d + gradient + 4 * t * d * 4
    gathered, summed = (
        t * (16 + 8 * d),
        t * 2 * d,
    )  # ids, targets, hidden states, gradients; vectors read, gradients
    if loss == "ice":
        summed += 3 * t
        work = 6 * t * own * d / device.operations + (4 + 2 * 8 + 2 * 4) * own * d / device.memory
    elif loss == "sce":
        buckets = width = 2 * t**0.5
        gathered += ranks * 256 * buckets * (4 + 8)  # the best items of every rank for each bucket
        gathered += 4 * buckets * d  # the buckets' directions, from the first rank
        summed += t + 2 * buckets * width
        work = 2 * buckets * own * d / device.operations + 4 * own * d / device.memory
        work += (
            6 * buckets * width * 256 * d / device.operations
            + 6 * 4 * (256 * buckets + t) * d / device.memory
        )
    else:
        summed += t + device.negatives * d
        work = (
            6 * t * device.negatives * d / device.operations
            + 6 * 4 * (device.negatives + t) * d / device.memory
        )
    sent = (ranks - 1) / ranks * (gathered + 2 * 4 * summed)
    calls = 8 * device.delay * max(1.0, np.log2(ranks))
    return work + sent / device.link + calls, sent, held


def prediction() -> str:
    device = Device()
    lines = []
    for loss in ("ice", "sce", "sampled"):
        for ranks in (8, 64, 512):
            step, sent, held = predict(loss, 1e8, ranks, device)
            epoch = 1e9 / device.tokens * step / 60
            lines.append([NAMES[loss], str(ranks), seconds(step), f"{epoch:.1f} min", size(sent), size(held)])
    return table(
        "loss | GPUs | step | epoch of 10⁹ tokens | bytes a rank sends in a step | bytes a rank holds", lines
    )


def sections() -> dict[str, str]:
    found = read("scaling")
    if found is None:
        return dict.fromkeys(("steps", "others", "ranks", "fit"), "Not measured yet.") | {
            "prediction": prediction()
        }
    return {
        "steps": steps_measured(found) + "\n\n" + machine_line(found["machine"]),
        "others": others_measured(found),
        "ranks": ranks_measured(found),
        "fit": fit(found),
        "prediction": prediction(),
    }


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Make the tables of docs/scaling.md.")
    parser.add_argument("--write", action="store_true", help="put them into the page")
    write = parser.parse_args(argv).write
    page = PAGE.read_text(encoding="utf-8")
    for section, text in sections().items():
        page = replaced(page, section, text) if write else page
        if not write:
            print(f"{section}\n{text}\n")
    if write:
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
