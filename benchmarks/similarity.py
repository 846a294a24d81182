"""Time and memory of tables of similar items: from interactions, and from embeddings.

    python benchmarks/similarity.py                                   # 100,000 items, 500,000 users of 20 items each
    python benchmarks/similarity.py --items 12000 --users 22000       # about the size of Beauty

Items are drawn with probability proportional to 1 / (rank + 1000), so that the most popular ones have a hundred times the users of the
rarest. Seconds are of the processor, those of several threads added up. Memory is the most by which the process grows while the table is made, beyond the interactions themselves.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from common import machine, peak_memory, write_results
from torch import Tensor

import seqaug as sa


def interactions(users: int, items: int, length: int) -> Tensor:
    """(users, length) ids, some of them more popular than others; repeats count once."""
    share = 1.0 / (torch.arange(items, dtype=torch.float64) + 1000)
    upto = (share / share.sum()).cumsum(0)
    number = torch.searchsorted(upto, torch.rand(users * length, dtype=torch.float64)).clamp(max=items - 1)
    return (1 + torch.randperm(items)[number]).view(users, length)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=["itemcf-iuf", "itemcf", "embeddings", "swing"])
    parser.add_argument("--out", default="similarity", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    torch.manual_seed(0)
    rows = interactions(args.users, args.items, args.length)
    table = torch.randn(args.items + 2, args.features)
    found = []
    print(f"{args.items:,} items, {rows.numel():,} interactions of {args.users:,} users")
    for method in args.methods:
        taken: list[float] = []

        def build(method: str = method, taken: list[float] = taken) -> sa.ItemSimilarity:
            begin = time.process_time()
            if method == "embeddings":
                made = sa.ItemSimilarity.from_embeddings(table, k=args.neighbours)
            else:
                made = sa.ItemSimilarity.from_sequences(rows, args.items, method=method, k=args.neighbours)
            taken.append(time.process_time() - begin)
            return made

        call: Callable[[], object] = build
        peak = peak_memory(call)
        found.append({"method": method, "processor_seconds": taken[0], "peak_bytes": peak})
        grown = "-" if peak is None else f"{peak / 2**30:.2f} GiB"
        print(f"{method:12}{taken[0]:10.1f} s{grown:>12}", flush=True)
    setting = {
        name: getattr(args, name) for name in ("items", "users", "length", "features", "neighbours")
    } | {"interactions": rows.numel()}
    write_results(args.out, {"setting": setting, "machine": machine(), "results": found})


if __name__ == "__main__":
    main()
