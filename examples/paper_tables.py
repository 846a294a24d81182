"""Tables I-IV and Fig. 6 of the RM-HSAOCL paper, and what goes beyond them.

    python examples/paper_tables.py --dry-run               # what is missing, and how long it will take
    python examples/paper_tables.py --only table3/Beauty    # run the missing rows of one table on one data set
    python examples/paper_tables.py --draw                  # draw docs/tables.md from what is there

The runs stand in ``tables/runs.txt``. Each leaves one JSON and the ranks of its users in ``docs/results/``, so that a
stopped batch goes on where it was: with the runs that have no result, and within a run at its last epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from recsys.datasets import Dataset
from recsys.errors import UsageError
from recsys.sources import load
from tables.estimate import estimate
from tables.execute import execute
from tables.page import DATA, draw_fig6, page
from tables.runs import RESULTS, choose, read_runs

DOCS = RESULTS.parent


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--only", metavar="TABLE[/DATA]", help="a table, a table on one data set, or one run by name"
    )
    p.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1); they share the cores")
    p.add_argument("--dry-run", action="store_true", help="say what would be run and how long it would take")
    p.add_argument("--draw", action="store_true", help="draw the page from what is there, run nothing")
    p.add_argument(
        "--data", metavar="FOLDER", type=Path, help="where the data files are (default: downloaded)"
    )
    p.add_argument(
        "--runs", metavar="FOLDER", type=Path, default=Path("runs/tables"), help="for the run folders"
    )
    return p


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    try:
        if args.jobs < 1:
            raise UsageError(f"expected --jobs of at least 1, got jobs={args.jobs}")
        every = read_runs()
        chosen = choose(every, args.only)
        published = json.loads((DOCS / "published.json").read_text(encoding="utf-8"))
        sources = {name: source_of(name, args.data) for name in DATA}
        if args.dry_run:
            hours = estimate(chosen, every, published)
            for run in chosen:
                state = "there" if run.result() else f"about {hours[run.key]:.1f} h on one core"
                print(f"{run.key:36} {state:28} {' '.join(run.options)}")
            missing = sum(hours[run.key] for run in chosen if not run.result())
            print(
                f"missing: about {missing:.0f} core hours, {missing / args.jobs:.0f} h with --jobs {args.jobs}"
            )
            return 0
        failed = 0
        if not args.draw:
            failed = execute(chosen, every, folder=args.runs, sources=sources, jobs=args.jobs)
        drawn = draw_fig6(every, DOCS / "pictures" / "fig6.png")
        plain = [name for name in DATA if name in published["table1"]]
        ours = {name: found for name in plain if (found := _load(sources[name])) is not None}
        (DOCS / "tables.md").write_text(
            page(every, published, ours, "pictures/fig6.png" if drawn else None), encoding="utf-8"
        )
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def source_of(name: str, folder: Path | None) -> str:
    """``--data`` of the main job: a file of ``folder``, or the name, which is downloaded."""
    if folder is None:
        return name
    from recsys.download import PUBLISHED

    file = PUBLISHED[name].file if name in PUBLISHED else f"{name}.csv"
    return str(folder / Path(file).name)


def _load(source: str) -> Dataset | None:
    """The data, or a word about why its line of Table I is missing."""
    try:
        return load(source, quiet=True)
    except UsageError as error:
        print(f"Table I without {source}: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
