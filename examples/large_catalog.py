"""Next-item training on a catalog of millions of items, out of files that do not fit into memory.

    python examples/large_catalog.py --make 200000 --items 10000000 --data /tmp/rows --steps 200

What is different from ``rmhsaocl_full.py``: rows are streamed from parquet in parts (``recsys/streaming.py``), the loss
looks at the target and some popular items instead of all (``SampledSoftmaxLoss``, ``PopularityNegatives``), and a step
changes the rows of the table that it has read and no other (``SparseTable``, Adagrad), so that what it costs does
not depend on how many items there are.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import seqaug as sa
from recsys.batches import Batch
from recsys.encoders import SASRec
from recsys.errors import UsageError
from recsys.evaluation import gains, hits
from recsys.streaming import RowStream

HEADS = 2


def make(folder: Path, users: int, items: int, per_file: int = 100_000) -> None:
    """Rows in which every other item follows from the one before it, and the rest are drawn by popularity."""
    import polars as pl

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for number, first in enumerate(range(0, users, per_file)):
        some = min(per_file, users - first)
        drawn = (items ** torch.rand(some, 20, generator=generator, dtype=torch.float64)).long()
        follows = torch.rand(some, 20, generator=generator) < 0.5
        rows = drawn.clone()
        for slot in range(1, 20):
            rows[:, slot] = torch.where(follows[:, slot], rows[:, slot - 1] * 7 % items + 1, drawn[:, slot])
        lengths = torch.randint(5, 21, (some,), generator=generator).tolist()
        lists = [row[:length] for row, length in zip(rows.tolist(), lengths, strict=True)]
        pl.DataFrame({"items": lists}).write_parquet(folder / f"{number:04}.parquet", row_group_size=20_000)


def count(stream: RowStream, num_items: int) -> Tensor:
    """(V + 1,) how often each item occurs in training."""
    counts = torch.zeros(num_items + 1, dtype=torch.int64)
    for rows in stream.histories():
        counts += torch.bincount(rows.flatten(), minlength=num_items + 1)
    return counts


def epochs(stream: RowStream) -> Iterator[Batch]:
    """Batches without end."""
    while True:
        yield from stream
        stream.seed += 1


def test_ranks(encoder: SASRec, stream: RowStream, num_items: int, users: int) -> Tensor:
    """Ranks (users,) of the newest item of the first users of a part over the whole catalog, their own items left out."""
    read_parts = (stream.read(part) for part in stream.parts())
    long_enough = (rows.take((rows.lengths > 1).nonzero().squeeze(1)[:users]) for rows in read_parts)
    rows = next(rows for rows in long_enough if len(rows.number))
    history = rows.without_newest(1).padded()
    target = rows.padded()[:, -1]
    read = history[:, -stream.length :]
    states = encoder(encoder.item_embedding(read), read > 0)[:, -1]
    return sa.target_ranks(
        states, encoder.item_embedding.weight, target, catalog=slice(1, num_items + 1), seen=history
    )


def check(args: argparse.Namespace) -> None:
    """Refuse what no run can be made with."""
    for name in ("make", "items", "negatives", "dim", "length", "batch_size", "steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"expected --{name.replace('_', '-')} of at least 1, got {name}={value}")
    for name in ("lr", "table_lr"):
        value = getattr(args, name)
        if not 0 < value < math.inf:
            raise UsageError(f"expected --{name.replace('_', '-')} above 0 and finite, got {name}={value:g}")
    if args.dim % HEADS:
        raise UsageError(f"expected --dim divisible by {HEADS}, the heads of the encoder, got dim={args.dim}")
    if args.make and args.data.exists():
        raise UsageError(
            f"expected --data to be a new folder with --make, got {args.data}, which is there; leave out --make to train on it"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a parquet file or a folder of them")
    parser.add_argument("--make", type=int, metavar="USERS", help="make the data first")
    parser.add_argument("--items", type=int, required=True, help="V: ids are 1..V")
    parser.add_argument("--loss", choices=["sampled", "sce"], default="sampled")
    parser.add_argument("--negatives", type=int, default=512, help="of the sampled softmax, for each row")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=1e-3, help="of the encoder, by Adam")
    parser.add_argument("--table-lr", type=float, default=0.05, help="of the item vectors, by Adagrad")
    args = parser.parse_args()
    try:
        check(args)
        train(args)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train(args: argparse.Namespace) -> None:
    """Make the rows if they are to be made, train on them, and test."""
    if args.make:
        make(args.data, args.make, args.items)
    torch.manual_seed(0)
    stream = RowStream(args.data, args.batch_size, args.length, num_items=args.items)
    next(iter(stream))  # no need to count rows that cannot be trained on
    encoder = SASRec(args.items, args.dim, heads=HEADS, length=args.length, dropout=0.2)
    encoder.item_embedding.sparse = True
    weight = encoder.item_embedding.weight
    others = [parameter for parameter in encoder.parameters() if parameter is not weight]
    # One number of state per entry of the table, where Adam has two.
    optimizers = torch.optim.Adagrad([weight], lr=args.table_lr), torch.optim.Adam(others, lr=args.lr)
    table = sa.SparseTable(weight)
    negatives = sa.PopularityNegatives(count(stream, args.items), k=args.negatives, per="row", power=0.75)
    sampled = sa.SampledSoftmaxLoss()
    sce = sa.SCELoss(catalog=slice(1, args.items + 1))

    took: list[float] = []
    for step, batch in enumerate(epochs(stream)):
        begin = time.perf_counter()
        states = encoder(encoder.item_embedding(batch.items), batch.items > 0)
        if args.loss == "sce":
            loss = sce(states, table, batch.target)
        else:
            drawn = negatives.sample(batch.target, history=batch.items)
            loss = sampled(states, table, batch.target, negatives=drawn)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        took.append(time.perf_counter() - begin)
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
        if step + 1 >= args.steps:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"median step {1e3 * sorted(took)[len(took) // 2]:.0f} ms, at most {peak:.2f} GiB in all")
    encoder.eval()
    with torch.no_grad():
        ranks = test_ranks(encoder, stream, args.items, users=256)
    print(
        f"test, 256 users, all {args.items:,} items: HR@10 {hits(ranks, 10).mean():.4f}, NDCG@10 {gains(ranks, 10).mean():.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
