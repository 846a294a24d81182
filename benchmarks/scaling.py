"""How the time and memory of a training step grow with the catalog, the tokens, the users and the processes.

    python benchmarks/scaling.py                          # all parts, about ten minutes; the largest step wants 6 GiB
    python benchmarks/scaling.py --parts catalog ranks    # some; the others stay as they are in the JSON

Each step is timed in a process of its own, whose peak memory is then the step's: reading item vectors, an encoder of one linear
layer, the loss, its gradients and the optimizer. The sampled softmax (512 popular negatives per row) and SCE change the rows of
the table that they have read (`SparseTable`, row-wise state), ICE all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from common import RESULTS, machine, write_results
from torch import nn

import seqaug as sa

ROOT = Path(__file__).resolve().parent.parent
DIM, SLOTS = 64, 16
NEGATIVES = 512
Row = dict[str, Any]


def train_step(loss: str, items: int, rows: int) -> tuple[Callable[[], float], nn.Embedding]:
    """One training step as a call that gives the loss, and its table."""
    torch.manual_seed(0)
    sparse = loss != "ice"
    table = nn.Embedding(items + 2, DIM, sparse=sparse, _weight=torch.empty(items + 2, DIM).normal_(std=0.02))
    encoder = nn.Linear(DIM, DIM)
    counts = torch.arange(items, 0, -1) if loss == "sampled" else None
    negatives = (
        None
        if counts is None
        else sa.PopularityNegatives(torch.cat([torch.zeros(1).long(), counts]), k=NEGATIVES, per="row")
    )
    optimizer = torch.optim.Adagrad([*table.parameters(), *encoder.parameters()], lr=0.05)
    catalog = slice(1, items + 1)
    loss_of = {
        "sampled": sa.SampledSoftmaxLoss(),
        "sce": sa.SCELoss(catalog=catalog),
        "ice": sa.ICELoss(catalog=catalog),
    }[loss]
    weight = sa.SparseTable(table.weight) if sparse else table.weight

    def step() -> float:
        ids = (items ** torch.rand(rows, SLOTS + 1, dtype=torch.float64)).long()
        hidden = encoder(table(ids[:, :-1]))
        drawn = {} if negatives is None else {"negatives": negatives.sample(ids[:, 1:])}
        value = loss_of(hidden, weight, ids[:, 1:], **drawn)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.item()

    return step, table


def rows_changed(table: nn.Embedding) -> int:
    """Rows of the table that the last step has changed: what a popular item is drawn for twice is changed once."""
    gradient = table.weight.grad
    assert gradient is not None
    return gradient.coalesce().indices().shape[1] if gradient.is_sparse else len(gradient)


def timed(step: Callable[[], object], repeats: int) -> float:
    """Median seconds after two calls to warm up."""
    taken = []
    for _ in range(repeats + 2):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[2:])


def step_alone(loss: str, items: int, rows: int, repeats: int) -> Row:
    """Seconds and peak memory of a step, found in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--step",
        loss,
        "--items",
        str(items),
        "--rows",
        str(rows),
        "--repeats",
        str(repeats),
    ]
    found: Row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(
        f"{loss:8} {items:12,} items {rows * SLOTS:6,} tokens {found['seconds'] * 1e3:9.1f} ms {found['peak_bytes'] / 2**30:6.2f} GiB",
        flush=True,
    )
    return {"loss": loss, "items": items, "tokens": rows * SLOTS} | found


def catalog(repeats: int) -> list[Row]:
    sizes = {"sampled": (10**5, 10**6, 10**7), "sce": (10**5, 10**6, 10**7), "ice": (10**4, 10**5, 10**6)}
    return [
        step_alone(loss, items, 128, repeats if items < 10**6 or loss == "sampled" else 3)
        for loss, each in sizes.items()
        for items in each
    ]


def tokens(repeats: int) -> list[Row]:
    return [
        step_alone(loss, 10**5, rows, repeats)
        for loss in ("sampled", "sce", "ice")
        for rows in (32, 64, 128, 256)
    ]


def samplers(repeats: int) -> list[Row]:
    """Drawing 65,536 popular items without those of the row, and what the tables of the sampler hold."""
    found = []
    for items in (10**5, 10**6, 10**7):
        counts = torch.arange(items + 1, 0, -1)
        sampler = sa.PopularityNegatives(counts, k=NEGATIVES, per="row")
        history = torch.randint(1, items + 1, (128, SLOTS))
        seconds = timed(
            lambda sampler=sampler, history=history: sampler.sample(history, history=history), repeats
        )
        size = sum(part.nbytes for part in vars(sampler).values() if isinstance(part, torch.Tensor))
        found.append({"items": items, "seconds": seconds, "bytes": size})
        print(f"sampler  {items:12,} items {seconds * 1e3:9.1f} ms {size / 2**20:8.1f} MiB", flush=True)
    return found


def users(repeats: int) -> list[Row]:
    """An epoch of reading: rows out of parquet, sorted, padded."""
    sys.path[:0] = [str(ROOT / "examples")]
    from large_catalog import make
    from recsys.streaming import RowStream

    found = []
    for count in (50_000, 100_000, 200_000):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "rows", count, 10**6)
            begin = time.perf_counter()
            batches = sum(1 for _ in RowStream(Path(folder) / "rows", 128, 20))
            seconds = time.perf_counter() - begin
        found.append({"users": count, "batches": batches, "seconds": seconds})
        print(f"reading  {count:12,} users {seconds:8.2f} s", flush=True)
    return found


def ranks(repeats: int) -> list[Row]:
    """Weak scaling over processes of one thread each: as many rows for every process, and as many items where these are shared."""
    found = []
    for kind in ("data parallel", "sharded, ICE", "sharded, sampled", "sharded, SCE"):
        for world in (1, 2, 4):
            with tempfile.TemporaryDirectory() as folder:
                torch.multiprocessing.spawn(on_rank, (world, folder, kind, repeats), nprocs=world)
                row = json.loads((Path(folder) / "found.json").read_text())
            found.append({"kind": kind, "ranks": world} | row)
            print(
                f"{kind:16} {world} ranks {row['seconds'] * 1e3:8.1f} ms, {row['bytes']:,.0f} bytes sent, {row['wire_bytes']:,.0f} on the wire, {row['predicted_bytes']:,.0f} predicted",
                flush=True,
            )
    return found


def on_rank(rank: int, world: int, folder: str, kind: str, repeats: int) -> None:
    """What one process does; the first writes what it has found."""
    sys.path[:0] = [str(ROOT / "tests")]
    from sharded_cases import Traffic

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    rows, items = 32, 20_000
    torch.manual_seed(rank)
    encoder = nn.Linear(DIM, DIM)
    own = nn.Parameter(0.02 * torch.randn(items, DIM))
    gathered = reduced = 0.0
    if kind == "data parallel":
        table: Any = own
        total = items
        reduced += items * DIM
    else:
        table = sa.ShardedTable.from_local(own)
        total, tokens_of_all = items * world, rows * SLOTS * world
        # gathered: ids and targets, hidden states, gradients of the vectors read; added up: the vectors read and the gradient of the
        # hidden states
        gathered += tokens_of_all * (8 + 8 + 2 * 4 * DIM)
        reduced += tokens_of_all * 2 * DIM
    catalog, drawn = slice(1, total), {}
    if kind == "sharded, sampled":  # scores of targets, vectors of negatives
        loss_of: Any = sa.SampledSoftmaxLoss()
        drawn = {"negatives": 1 + torch.arange(NEGATIVES)}
        reduced += tokens_of_all + NEGATIVES * DIM
    elif (
        kind == "sharded, SCE"
    ):  # scores of targets, directions from the first rank, the best items of all and what they sum to
        loss_of = sa.SCELoss(catalog=catalog)
        buckets = height = int(2 * tokens_of_all**0.5)
        gathered += world * loss_of.items_per_bucket * buckets * (4 + 8) + 4 * buckets * DIM
        reduced += tokens_of_all + 2 * buckets * height
    else:  # scores of targets and two numbers of the denominators
        loss_of = sa.ICELoss(catalog=catalog)
        reduced += 0 if kind == "data parallel" else 3 * tokens_of_all
    predicted = ring(world, gathered, 4 * (reduced + DIM * DIM + DIM))
    parameters = [own, *encoder.parameters()]

    def step() -> None:
        ids = torch.randint(1, total, (rows, SLOTS + 1))
        x, y = ids[:, :-1], ids[:, 1:]
        if isinstance(table, sa.ShardedTable):
            hidden = sa.gather_rows(encoder(table.lookup_each(x)))
            loss_of(hidden, table, sa.gather_rows(y), **drawn).backward()
            reduced = list(encoder.parameters())
        else:
            loss_of(encoder(table[x]), table, y).backward()
            reduced = parameters
        for parameter in reduced:
            dist.all_reduce(parameter.grad)
        for parameter in parameters:
            parameter.grad = None

    step()
    dist.barrier()
    with Traffic(world) as seen:
        step()
    dist.barrier()
    before = sent_by_loopback()
    for _ in range(10):
        step()
    dist.barrier()
    wire = (sent_by_loopback() - before) / 10 / world
    seconds = timed(step, repeats)
    if rank == 0:
        row = {
            "seconds": seconds,
            "tokens": rows * SLOTS * world,
            "items": total,
            "bytes": seen.bytes,
            "wire_bytes": wire,
            "predicted_bytes": predicted,
        }
        (Path(folder) / "found.json").write_text(json.dumps(row))
    dist.barrier()
    os._exit(0)  # taking the group down aborts now and then, when another rank has gone before


def sent_by_loopback() -> int:
    """Bytes that this machine has sent to itself, with all headers and whoever else talks; 0 where Linux does not say it."""
    devices = Path("/proc/net/dev")
    lines = devices.read_text().splitlines() if devices.exists() else []
    return sum(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


def ring(world: int, gathered: float, reduced: float) -> float:
    """Bytes that a rank sends: (N - 1) / N of what is gathered, and twice that of what is added up."""
    return (world - 1) / world * (gathered + 2 * reduced)


PARTS: dict[str, Callable[[int], list[Row]]] = {
    "catalog": catalog, "tokens": tokens, "samplers": samplers, "users": users, "ranks": ranks,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--items", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", default="scaling", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    if args.step:
        step, table = train_step(args.step, args.items, args.rows)
        seconds = timed(step, args.repeats)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak, "rows_changed": rows_changed(table)}))
        return
    path = RESULTS / f"{args.out}.json"
    results: Row = json.loads(path.read_text())["results"] if path.exists() else {}
    for part in args.parts:
        results[part] = PARTS[part](args.repeats)
        write_results(
            args.out, {"setting": {"dim": DIM, "slots": SLOTS}, "machine": machine(), "results": results}
        )


if __name__ == "__main__":
    main()
