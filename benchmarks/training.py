"""One epoch of the same SASRec with a softmax over all items, in seqaug, RePlay and RecTools; and one of RM-HSAOCL.

    python benchmarks/training.py --data Beauty                        # all of them, one after another, on an idle machine
    python benchmarks/training.py --data Beauty --system replay        # one; the others are kept from earlier runs
    python benchmarks/training.py --data Beauty --system sasrec-ice --epochs 3 --figures-only
    python benchmarks/training.py --table                              # what has been measured

d 64, 2 layers, 2 heads, length 50, batch 256, Adam 1e-3, dropout 0.2, float32. RePlay and RecTools get environments of their own,
made by .ci/environment. Each run also measures the machine's rate of large matrix products, before and after every epoch;
seconds are compared after scaling them to the rate of the first system. Validation figures are of a full ranking, seen items
left out, ties against the target, by the same code for all. --figures-only keeps the figures of more epochs from a run whose
times do not count, since the machine was busy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_results

HERE = Path(__file__).resolve().parent
# name in the table -> its environment (None: this one), its trainer
SYSTEMS = {
    "sasrec-ice": (None, "train_seqaug.py"),
    "replay": ("replay", "train_replay.py"),
    "rectools": ("rectools", "train_rectools.py"),
    "rmhsaocl": (None, "train_seqaug.py"),
}
TITLES = {
    "sasrec-ice": "seqaug: SASRec, `ICELoss`",
    "replay": "RePlay 0.22.0: `SasRec`, `CE`",
    "rectools": "RecTools 0.19.0: `SASRecModel`, `softmax`",
    "rmhsaocl": "seqaug: RM-HSAOCL, 4 views, 3 + 3 mixes",
}


def python_of(environment: str | None) -> str:
    if environment is None:
        return sys.executable
    made = subprocess.run(
        [HERE.parent / ".ci" / "environment", environment], stdout=subprocess.PIPE, text=True, check=True
    )
    return made.stdout.strip()


def run(system: str, data: str, epochs: int) -> list[dict[str, Any]]:
    """Train in the system's environment; one record per epoch."""
    environment, trainer = SYSTEMS[system]
    command = [python_of(environment), str(HERE / trainer), data, str(epochs), system]
    records = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            records.append(json.loads(line))
            print(f"{system:12}{summary(records[-1])}", flush=True)
    if process.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with {process.returncode}")
    return records


def summary(record: dict[str, Any]) -> str:
    return (
        f"epoch {record['epoch']}: {record['seconds']:.1f} s, {record['matmul_gflops']:.0f} GF/s of large products, "
        f"validation NDCG@10 {record['validation']['NDCG@10']:.4f}"
    )


def read() -> dict[str, Any]:
    path = RESULTS / "training.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(results: dict[str, Any]) -> str:
    """Seconds, how many times longer than the first system at the same matrix-product rate, figures per epoch."""
    timed = {
        name: results["systems"][name]["timed"]
        for name in SYSTEMS
        if "timed" in results["systems"].get(name, {})
    }
    lines = [
        "| system | seconds per epoch | large products, GF/s | times ours | NDCG@10 after epoch 1, 2, ... |",
        "|---|---:|---:|---:|---|",
    ]
    work = {
        name: statistics.median(r["seconds"] * r["matmul_gflops"] for r in runs)
        for name, runs in timed.items()
    }
    for name, runs in timed.items():
        figures = max(results["systems"][name].values(), key=len)
        ratio = f"{work[name] / work['sasrec-ice']:.1f}" if "sasrec-ice" in work else ""
        lines.append(
            f"| {TITLES[name]} | {statistics.median(r['seconds'] for r in runs):.1f} "
            f"| {statistics.median(r['matmul_gflops'] for r in runs):.0f} | {ratio} | "
            + ", ".join(f"{r['validation']['NDCG@10']:.4f}" for r in figures)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="Beauty", help="a known name or a file of sequences")
    parser.add_argument("--system", default=",".join(SYSTEMS), help="with commas; default: all")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--figures-only", action="store_true", help="keep the validation figures, not the times"
    )
    parser.add_argument("--table", action="store_true", help="print what has been measured and end")
    args = parser.parse_args()
    results = read()
    if args.table:
        if not results:
            parser.error("nothing has been measured yet")
        print(table(results))
        return
    unknown = [name for name in args.system.split(",") if name not in SYSTEMS]
    if unknown:
        parser.error(f"--system must be of {', '.join(SYSTEMS)}, got {unknown[0]}")
    systems = results.get("systems", {})
    for name in args.system.split(","):
        records = run(name, args.data, args.epochs)
        systems.setdefault(name, {})["figures" if args.figures_only else "timed"] = records
        results = {
            "setting": {
                "data": Path(args.data).stem,
                "d": 64,
                "layers": 2,
                "heads": 2,
                "length": 50,
                "batch": 256,
            },
            "machine": machine(),
            "systems": systems,
        }
        write_results("training", results)
    print(table(results))


if __name__ == "__main__":
    main()
