"""Make the figures of docs/reliability.md out of docs/mutants.json and benchmarks/results/soak.json.

python docs/reliability_table.py            # print them
python docs/reliability_table.py --write    # put them between their markers, and draw docs/pictures/soak.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))
from benchmarks_table import machine_line, read, replaced  # noqa: E402

PAGE = DOCS / "reliability.md"
PICTURE = DOCS / "pictures" / "soak.png"


def mutants() -> str:
    found = json.loads((DOCS / "mutants.json").read_text(encoding="utf-8"))
    each: dict[str, dict[str, Any]] = found["mutants"]
    killed = sum(entry["outcome"] != "survived" for entry in each.values())
    alike = sum(entry["outcome"] == "survived" and entry["why"] is not None for entry in each.values())
    open_ = len(each) - killed - alike
    lines = [
        f"{len(each)} changes at random places out of {found['places']:,}: **{killed} killed ({killed / len(each):.1%})**, {alike} that change "
        f"nothing anybody could see, {open_} that live and should not.",
        "",
        "| survivor | change | why |",
        "|---|---|---|",
    ]
    for name, entry in each.items():
        if entry["outcome"] != "survived":
            continue
        changed = [line[1:].strip() for line in entry["change"].splitlines() if line.startswith("+")]
        code = " ".join(changed).replace("|", "\\|")
        lines.append(
            f"| `{name.split(':')[0].removeprefix('seqaug/')}` line {entry['line']} | `{code}` | {entry['why'] or '**no test**'} |"
        )
    return "\n".join(lines)


def soak() -> str:
    found = read("soak")
    if found is None:
        return "Not measured yet."
    rows, slopes = found["results"], found["slopes_per_hour"]
    names = {
        "resident_mib": "resident memory, MiB", "steps_per_own_second": "steps per second of the process's own time",
        "graphs": "graphs compiled",
    }  # fmt: skip
    settled = rows[len(rows) // 10 :]
    lines = ["| | mean | slope per hour |", "|---|---:|---:|"]
    for key, name in names.items():
        mean = sum(row[key] for row in settled) / len(settled)
        slope, error = slopes[key]
        lines.append(f"| {name} | {mean:,.1f} | {slope:+.2f} ± {error:.2f} |")
    return "\n".join(
        [
            f"{rows[-1]['seconds'] / 60:.0f} minutes, {rows[-1]['steps']:,.0f} steps. {machine_line(found['machine'])}",
            "",
            *lines,
        ]
    )


def draw() -> None:
    found = read("soak")
    if found is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = found["results"]
    minutes = [row["seconds"] / 60 for row in rows]
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    for axis, key, label in zip(
        axes,
        ("resident_mib", "steps_per_own_second", "graphs"),
        ("resident memory, MiB", "steps per own second", "graphs compiled"),
        strict=True,
    ):
        axis.plot(minutes, [row[key] for row in rows], color="#4c78a8", linewidth=1)
        axis.set_ylim(0, None)
        axis.set_xlabel("minutes")
        axis.set_title(label, size=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=130, facecolor="white")


def sections() -> dict[str, str]:
    return {"mutants": mutants(), "soak": soak()}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Make the figures of docs/reliability.md.")
    parser.add_argument("--write", action="store_true", help="put them into the page and draw the plot")
    write = parser.parse_args(argv).write
    page = PAGE.read_text(encoding="utf-8")
    for section, text in sections().items():
        page = replaced(page, section, text) if write else page
        if not write:
            print(f"{section}\n{text}\n")
    if write:
        PAGE.write_text(page, encoding="utf-8")
        draw()


if __name__ == "__main__":
    main(sys.argv[1:])
