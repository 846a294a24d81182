"""The final table, the paired t-tests and the curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.evaluation import CUTOFFS, PROTOCOL, gains, hits, paired_t_test
from recsys.folder import write_atomic

COLUMNS = [f"{name}@{k}" for k in CUTOFFS for name in ("HR", "NDCG")]


def table(results: list[dict[str, Any]]) -> str:
    """Test figures of every system, one line each."""
    width = max(len("system"), *(len(result["system"]) for result in results))
    lines = [
        f"Test, {results[0]['data']}: {PROTOCOL}; chosen on validation",
        " | ".join([f"{'system':{width}}", *(f"{name:>7}" for name in COLUMNS), "best epoch", "seconds"]),
    ]
    lines.append("-+-".join("-" * len(part) for part in lines[-1].split(" | ")))
    for result in results:
        figures = [f"{result['test'][name]:7.4f}" for name in COLUMNS]
        epochs = f"{result['best_epoch']}/{result['epochs']}"
        lines.append(
            " | ".join(
                [f"{result['system']:{width}}", *figures, f"{epochs:>10}", f"{result['seconds']:7.0f}"]
            )
        )
    return "\n".join(lines)


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Paired t-tests over users of ``first`` − ``second``: mean difference and two-sided p of HR@10 and NDCG@10."""
    tests: dict[str, Any] = {"first": first["system"], "second": second["system"]}
    for name, of in (("HR@10", hits), ("NDCG@10", gains)):
        difference, p = paired_t_test(of(first["ranks"], 10), of(second["ranks"], 10))
        tests[name] = {"difference": difference, "p": p}
    return tests


def comparison_line(test: dict[str, Any]) -> str:
    parts = [
        f"{name} {test[name]['difference']:+.4f} (p = {test[name]['p']:.2g})" for name in ("HR@10", "NDCG@10")
    ]
    return f"{test['first']} - {test['second']}: {', '.join(parts)}, paired t-test over users"


def draw_curves(path: Path, histories: dict[str, list[dict[str, float]]]) -> None:
    """Training loss and validation NDCG@10 over epochs, one line per system."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, rows in histories.items():
        epochs = [row["epoch"] for row in rows]
        axes[0].plot(epochs, [row["loss"] for row in rows], label=name)
        axes[1].plot(epochs, [row["NDCG@10"] for row in rows], label=name)
    for axis, label in zip(axes, ("training loss", "validation NDCG@10"), strict=True):
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].legend(frameon=False)
    write_atomic(path, lambda part: figure.savefig(part, dpi=150))
    pyplot.close(figure)
