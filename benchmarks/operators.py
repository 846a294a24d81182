"""Throughput of every operator and policy against the machine's own limit, per-row Python and RecBole's batch transforms.

    python benchmarks/operators.py                                  # rows of 1..50 items, as many of each length
    python benchmarks/operators.py --data PATH/Beauty.txt           # the lengths of a real data set

The limit is one `torch.rand(B, L)` and one gather of ids: an augmentation cannot read less noise or move fewer ids. Every
operator is timed in turn with it, eager with eager and compiled with compiled, and the ratio is of medians of one run.
Every operator is also timed on Python lists, one row at a time, as published code works and without its copies (rows.py). The
transforms of RecBole, where it can be imported, are given the same batch as it stands, padded on the right.
On CUDA events are timed, and a measured copy says what share of the memory's speed is reached.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from common import machine, medians, write_results
from rows import Rows, sorted_each_time, stacked
from torch import Tensor

import seqaug as sa

ITEMS = 12_101
POLICY = ["Crop", "Mask", "Reorder", "Substitute"]
ONE_OF_FOUR = ("Policy of four", "EachOnce of four", "AdaptivePolicy of four")


def uniform_rows(count: int, slots: int) -> list[list[int]]:
    """Rows of 1..slots items, each length as often."""
    return [[random.randint(1, ITEMS) for _ in range(1 + number % slots)] for number in range(count)]


def file_rows(path: Path, count: int) -> list[list[int]]:
    """Training rows of a text file, `user item item ...`, without the last three items."""
    rows = [[int(item) for item in line.split()[1:-3]] for line in path.read_text().splitlines()]
    random.shuffle(rows)
    return rows[:count]


def build(low: float, high: float, similar: Tensor) -> dict[str, sa.Augmentation]:
    plain: dict[str, sa.Augmentation] = {
        "Crop": sa.Crop(low, high),
        "Mask": sa.Mask(low, high, mask_id=ITEMS + 1),
        "Reorder": sa.Reorder(low, high),
        "Substitute": sa.Substitute(low, high, similar),
        "Insert": sa.Insert(low, high, similar),
        "Delete": sa.Delete(low, high),
        "Swap": sa.Swap(low, high),
        "TimeCrop": sa.TimeCrop(low, high),
        "TimeMask": sa.TimeMask(low, high, mask_id=ITEMS + 1),
        "TimeReorder": sa.TimeReorder(low, high),
        "TimeSubstitute": sa.TimeSubstitute(low, high, similar),
        "TimeInsert": sa.TimeInsert(low, high, similar),
        "RepeatPad": sa.RepeatPad(),
    }
    four = [plain[name] for name in POLICY]
    return plain | {
        "Substitute top 10": sa.Substitute(low, high, similar, top=10),
        "Substitute exclude_row": sa.Substitute(low, high, similar, exclude_row=True),
        "Policy of four": sa.Policy(four),
        "Compose of four": sa.Compose(four),
        "SomeOf 2 of four": sa.SomeOf(2, four),
        "EachOnce of four": sa.EachOnce(four),
        "AdaptivePolicy of four": sa.AdaptivePolicy(four),
    }


def recbole_transforms(items: Tensor) -> dict[str, Callable[[], object]]:
    """RecBole's crop, mask and reorder of this batch as one call each; none where it cannot be imported."""
    try:
        transform = importlib.import_module("recbole.data.transform")
        interaction = importlib.import_module("recbole.data.interaction").Interaction
    except ImportError:
        return {}
    count = sa.lengths(items)
    batch = {
        "item_list": sa.pad_sequences([row[row > 0] for row in items], length=items.shape[1], side="right")
    }
    batch["length"] = count
    config = {
        "ITEM_ID_FIELD": "item", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "length", "mask_ratio": 0.45,
        "MAX_ITEM_LIST_LENGTH": items.shape[1], "eta": 0.45, "beta": 0.45,
    }  # fmt: skip
    dataset = SimpleNamespace(num=lambda field: ITEMS + 1)
    made = {
        "Crop": transform.CropItemSequence(config),
        "Mask": transform.MaskItemSequence(config),
        "Reorder": transform.ReorderItemSequence(config),
    }
    return {name: (lambda call=call: call(dataset, interaction(dict(batch)))) for name, call in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--slots", type=int, default=50)
    parser.add_argument("--data", type=Path, help="take the rows from this text file")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="operators by name, as in the table")
    parser.add_argument("--out", default="operators", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    device = torch.device(args.device)

    rows = file_rows(args.data, args.rows) if args.data else uniform_rows(args.rows, args.slots)
    rows = [row[-args.slots :] for row in rows]
    items = sa.pad_sequences(rows, length=args.slots).to(device)
    timestamps = torch.rand(items.shape, device=device).cumsum(1)
    index = torch.randint(0, args.slots, items.shape, device=device)
    similar = torch.randint(1, ITEMS + 1, (ITEMS + 2, 10), device=device)
    near = similar.tolist()
    published = Rows(ITEMS + 1, sorted_each_time(near), args.slots)
    lean = Rows(ITEMS + 1, near.__getitem__, args.slots)
    clock = [row[len(row) - len(own) :] for own, row in zip(rows, timestamps.tolist(), strict=True)]
    recbole = recbole_transforms(items)

    def limit() -> tuple[Tensor, Tensor]:
        return torch.rand(items.shape, device=device), items.gather(1, index)

    compiled_limit = torch.compile(limit, fullgraph=True)
    moved = 3 * items.numel() * items.element_size()  # ids read, indices read, ids written
    found = []
    print(f"{args.rows:,} rows x {args.slots} slots, {sum(map(len, rows)):,} items on {device}")
    print(
        f"{'':24}{'eager':>9}{'x limit':>9}{'compiled':>10}{'x limit':>9}{'sequences/s':>14}{'GB/s':>7}{'x rows':>9}{'x lean':>9}"
    )
    rest = (clock, args.slots, 0.2, 0.7)
    for name, operator in build(0.2, 0.7, similar).items():
        if args.only and name not in args.only:
            continue
        operator = operator.to(device)
        compiled = torch.compile(operator, fullgraph=True)
        calls: dict[str, Callable[[], object]] = {
            "limit": limit,
            "eager": lambda operator=operator: operator(items, timestamps=timestamps),
            "compiled limit": compiled_limit,
            "compiled": lambda compiled=compiled: compiled(items, timestamps=timestamps),
        }
        names = POLICY if name in ONE_OF_FOUR else [name] if name in lean.operators else []
        if names:
            calls["rows as published"] = lambda names=names: stacked(
                published.augment(names, map(copy.deepcopy, rows), *rest)
            )
            calls["lean rows"] = lambda names=names: torch.tensor(list(lean.augment(names, rows, *rest)))
        seconds = medians(calls, repeats=args.repeats, device=device)
        if name in recbole:  # seconds, not milliseconds: three calls are enough
            seconds |= medians({"recbole": recbole[name]}, repeats=3, device=device)
        row = {
            "operator": name,
            "seconds": seconds,
            "eager_over_limit": seconds["eager"] / seconds["limit"],
            "compiled_over_limit": seconds["compiled"] / seconds["compiled limit"],
            "sequences_per_second": args.rows / seconds["compiled"],
            "gigabytes_per_second": moved / seconds["compiled"] / 1e9,
            "published_over_compiled": seconds["rows as published"] / seconds["compiled"] if names else None,
            "published_over_eager": seconds["rows as published"] / seconds["eager"] if names else None,
            "lean_over_compiled": seconds["lean rows"] / seconds["compiled"] if names else None,
            "lean_over_eager": seconds["lean rows"] / seconds["eager"] if names else None,
            "recbole_over_compiled": seconds["recbole"] / seconds["compiled"] if name in recbole else None,
        }
        found.append(row)
        times = [f"{row[f'{kind}_over_compiled']:.0f}" if names else "-" for kind in ("published", "lean")]
        print(
            f"{name:24}{seconds['eager'] * 1e3:7.2f}ms{row['eager_over_limit']:9.1f}{seconds['compiled'] * 1e3:8.2f}ms"
            f"{row['compiled_over_limit']:9.1f}{row['sequences_per_second']:14,.0f}{row['gigabytes_per_second']:7.2f}{times[0]:>9}{times[1]:>9}",
            flush=True,
        )
    setting = {
        "rows": args.rows,
        "slots": args.slots,
        "items": sum(map(len, rows)),
        "data": args.data and args.data.stem,
    }
    write_results(args.out, {"setting": setting, "machine": machine(device), "results": found})


if __name__ == "__main__":
    main()
