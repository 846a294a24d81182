"""What rows without padding save: every operator and policy on packed rows against the same draw on the padded batch.

    python benchmarks/packed.py --data PATH/Beauty.txt              # the lengths of a real data set
    python benchmarks/packed.py                                     # rows of 1..50 items, as many of each length

All are timed in turn, eager with eager and compiled with compiled, and the ratio is of medians of one run. Compiled, packed rows take
two graphs, since the host has to learn how many items are left before it can make room for them. Packed rows know their groups, as they do when a
data loader's worker has made them; what grouping takes is timed by itself.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import torch
from common import machine, medians, write_results
from operators import ITEMS, build, file_rows, uniform_rows

import seqaug as sa


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
    parser.add_argument("--out", default="packed", help="name of the JSON in benchmarks/results/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="leave compiled code out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    random.seed(0)
    torch.manual_seed(0)
    device = torch.device(args.device)

    rows = file_rows(args.data, args.rows) if args.data else uniform_rows(args.rows, args.slots)
    rows = [row[-args.slots :] for row in rows]
    items = sa.pad_sequences(rows, length=args.slots).to(device)
    packed = sa.pack(rows, length=args.slots)
    known = len(packed.groups)
    packed = packed.to(device)
    times = torch.rand(items.shape, device=device).cumsum(1)
    packed_times = times[items > 0]
    similar = torch.randint(1, ITEMS + 1, (ITEMS + 2, 10), device=device)

    def group() -> object:
        return sa.Packed(packed.values, packed.offsets, packed.length).groups

    grouping = medians({"groups": group}, repeats=args.repeats, device=device)["groups"]
    filled = len(packed.values) / items.numel()
    print(f"{args.rows:,} rows x {args.slots} slots, {filled:.0%} of them filled, on {device}")
    print(f"{known} groups of like length, found in {grouping * 1e3:.2f} ms")
    print(f"{'':24}" + f"{'padded':>15}{'packed':>10}{'x faster':>10}" * (1 if args.eager else 2))
    setting = {
        "rows": args.rows,
        "slots": args.slots,
        "items": len(packed.values),
        "data": args.data and args.data.stem,
        "groups": known,
        "grouping_seconds": grouping,
    }
    about = {"setting": setting, "machine": machine(device)}
    found = []
    for name, operator in build(0.2, 0.7, similar).items():
        if args.only and name not in args.only:
            continue
        operator = operator.to(device)
        torch.compiler.reset()  # all operators share the second graph, of which only eight versions are kept
        kinds = {"": operator} if args.eager else {"": operator, "compiled ": torch.compile(operator)}
        calls: dict[str, Callable[[], object]] = {}
        for kind, call in kinds.items():
            calls[kind + "padded"] = lambda call=call: call(items, timestamps=times)
            calls[kind + "packed"] = lambda call=call: call(packed, timestamps=packed_times)
        for (
            once
        ) in calls.values():  # a second call finds that the number of items left varies, and compiles for all
            once()
        seconds = medians(calls, repeats=args.repeats, device=device)
        faster = {kind: seconds[f"{kind}padded"] / seconds[f"{kind}packed"] for kind in kinds}
        found.append({"operator": name, "seconds": seconds, "faster": faster})
        write_results(args.out, about | {"results": found})  # as it goes: compiling takes minutes
        shown = [
            f"{seconds[f'{kind}padded'] * 1e3:13.2f}ms{seconds[f'{kind}packed'] * 1e3:8.2f}ms{faster[kind]:10.1f}"
            for kind in kinds
        ]
        print(f"{name:24}{''.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
