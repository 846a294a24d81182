"""The final table, the paired t-tests and the curves."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqaug as sa
from recsys.evaluation import PROTOCOL, gains, hits, paired_t_test
from recsys.folder import write_atomic
from recsys.results import FIGURES


@dataclass(frozen=True)
class Tested:
    """One system, of one seed or several."""

    system: str
    data: str
    figures: dict[str, list[float]]  # test figures, one of each seed
    ranks: Tensor  # (seeds, users)
    epochs: str  # best/trained
    seconds: float


def by_system(results: list[dict[str, Any]]) -> list[Tested]:
    """Results (``result.json`` with ``ranks``) of the same system brought together."""
    systems: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        systems.setdefault(result["system"], []).append(result)
    return [
        Tested(
            system=name,
            data=same[0]["data"],
            figures={column: [one["test"][column] for one in same] for column in FIGURES},
            ranks=torch.stack([one["ranks"] for one in same]),
            epochs=" ".join(f"{one['best_epoch']}/{one['epochs']}" for one in same),
            seconds=sum(one["seconds"] for one in same),
        )
        for name, same in systems.items()
    ]


def table(systems: list[Tested]) -> str:
    """Test figures of every system, one line each; mean ± standard deviation of several seeds."""
    rows = [["system", *FIGURES, "best epoch", "seconds"]]
    for tested in systems:
        figures = [_figure(tested.figures[column]) for column in FIGURES]
        rows.append([tested.system, *figures, tested.epochs, f"{tested.seconds:.0f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return "\n".join([f"Test, {systems[0].data}: {PROTOCOL}; chosen on validation", *lines])


def _figure(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def compare(first: Tested, second: Tested) -> dict[str, Any]:
    """Paired t-tests over users of ``first`` − ``second``: mean difference and two-sided p of HR@10 and NDCG@10.

    With several seeds, a user's figure is its mean over them.
    """
    tests: dict[str, Any] = {"first": first.system, "second": second.system}
    for name, of in (("HR@10", hits), ("NDCG@10", gains)):
        difference, p = paired_t_test(of(first.ranks, 10).mean(0), of(second.ranks, 10).mean(0))
        tests[name] = {"difference": difference, "p": p}
    return tests


def comparison_line(test: dict[str, Any]) -> str:
    parts = [
        f"{name} {test[name]['difference']:+.4f} (p = {test[name]['p']:.2g})" for name in ("HR@10", "NDCG@10")
    ]
    return f"{test['first']} - {test['second']}: {', '.join(parts)}, paired t-test over users"


def operator_weights(policy: sa.AdaptivePolicy) -> dict[str, dict[str, float]]:
    """What a policy has learned: the probability of each operator for rows of each bucket of lengths."""
    edges = [1, *(bound + 1 for bound in policy.buckets)]
    ends = [*policy.buckets, None]
    buckets = [f"{low}-{high}" if high else f"{low} and more" for low, high in zip(edges, ends, strict=True)]
    names = [type(operator).__name__ for operator in policy.operators]
    return {
        bucket: dict(zip(names, row, strict=True))
        for bucket, row in zip(buckets, policy.weights.tolist(), strict=True)
    }


def operator_table(weights: dict[str, dict[str, float]]) -> str:
    lines = ["operators drawn for rows of so many items:"]
    for bucket, row in weights.items():
        shares = ", ".join(f"{name} {share:.2f}" for name, share in row.items())
        lines.append(f"  {bucket:12} {shares}")
    return "\n".join(lines)


def draw_operator_weights(path: Path, weights: dict[str, dict[str, float]]) -> None:
    """The same as a picture: one group of bars per bucket of lengths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    names = list(next(iter(weights.values())))
    for number, name in enumerate(names):
        places = [group + (number - (len(names) - 1) / 2) * 0.8 / len(names) for group in range(len(weights))]
        axes.bar(places, [row[name] for row in weights.values()], width=0.8 / len(names), label=name)
    axes.axhline(1 / len(names), color="0.5", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(weights)), list(weights))
    axes.set_xlabel("items of the row")
    axes.set_ylabel("probability of the operator")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, ncols=len(names), loc="outside upper center")
    write_atomic(path, lambda part: figure.savefig(part, dpi=150))
    pyplot.close(figure)


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
