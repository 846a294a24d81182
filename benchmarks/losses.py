"""Catalog losses against the machine's own matrix products and against torch, over tokens x items x features.

    python benchmarks/losses.py                                      # the sizes of the documentation
    python benchmarks/losses.py --quick                              # the small ones
    python benchmarks/losses.py --catalogs 4096 65536 1000000        # one number of tokens, several catalogs
    python benchmarks/losses.py --dtype float32 bfloat16 --out both  # benchmarks/results/both.json
    python benchmarks/losses.py --device cuda

Forward and backward are timed, in turn with one large product, and the share is of medians: 6 * tokens *
items * features operations, the three products that no exact gradient can do without, per second, over the
rate of the large product. Memory is the most by which one call grows the process beyond table, gradients
and inputs. What takes longer than ten seconds is timed once. Losses whose logits would not fit are left out,
and so is, with its reason, what cannot be imported or cannot run: cut-cross-entropy and Liger take part
where there is a GPU.

On CUDA events are timed, and beside the rate of products stands that of memory: the bytes of table, hidden
states and their gradients, each moved once, over a measured copy.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from functools import partial

import torch
from common import Call, copy_rate, machine, matmul, medians, peak_memory, seconds_of, write_results
from torch import Tensor, nn
from torch.nn import functional as F

import seqaug as sa

SIZES = [
    (1_770, 12_101, 64),
    (12_800, 12_101, 64),
    (4_096, 100_000, 64),
    (4_096, 100_000, 128),
    (2_048, 1_000_000, 64),
]
QUICK = [(1_770, 12_101, 64), (512, 100_000, 64)]
SWEEP_TOKENS, SWEEP_FEATURES = 2_048, 64
LOGITS_LIMIT = 2**29  # entries: 2 GiB of float32 logits, and as much again for their gradient
TORCH_LIMIT = 2**35  # multiply-adds of a product for torch's own chunks, which take minutes beyond
SLOW = 10.0  # seconds from which one call has to do
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
RIVALS = {"cut_cross_entropy": "cut_cross_entropy", "liger": "liger_kernel.transformers"}


def exact_losses(tokens: int, items: int, features: int, dtype: torch.dtype) -> dict[str, Loss]:
    """Losses with the same value: the target's softmax over all items."""
    catalog = slice(1, items + 1)
    found: dict[str, Loss] = {
        f"ICELoss {backend}": sa.ICELoss(catalog=catalog, backend=backend) for backend in ("chunked", "flash")
    }
    if tokens * items <= LOGITS_LIMIT:
        found["cross_entropy on full logits"] = lambda h, e, y: F.cross_entropy(h @ e[catalog].t(), y - 1)
        found["linear_cross_entropy"] = lambda h, e, y: F.linear_cross_entropy(h, e[catalog], y - 1)
    if tokens * items * features <= TORCH_LIMIT and dtype == torch.float32:  # in others it is slower still
        options = nn.LinearCrossEntropyOptions()
        found["linear_cross_entropy chunked"] = lambda h, e, y: F.linear_cross_entropy(
            h, e[catalog], y - 1, options=options
        )
    return found | {name: partial(rival, name, catalog) for name in RIVALS}


def rival(name: str, catalog: slice, hidden: Tensor, table: Tensor, target: Tensor) -> Tensor:
    """The same loss by another library; an ImportError where it is not there."""
    package = importlib.import_module(RIVALS[name])
    if name == "cut_cross_entropy":
        return package.linear_cross_entropy(hidden, table[catalog], target - 1)
    return package.LigerFusedLinearCrossEntropyLoss()(table[catalog], hidden, target - 1)


def sampling_losses(items: int) -> dict[str, Loss]:
    """Losses that look at part of the catalog; their share of the product is not that of the same work."""
    catalog = slice(1, items + 1)
    sampled, sampler = sa.SampledSoftmaxLoss(), sa.UniformNegatives(items, k=256, per="batch")
    return {
        "SCELoss": sa.SCELoss(catalog=catalog),
        "RECELoss": sa.RECELoss(catalog=catalog),
        "SampledSoftmaxLoss 256": lambda h, e, y: sampled(h, e, y, negatives=sampler.sample(y)),
    }


def measure(
    size: tuple[int, int, int], dtype: torch.dtype, device: str, repeats: int
) -> list[dict[str, object]]:
    """One row per loss; a row of a loss that cannot run says why instead."""
    tokens, items, features = size
    hidden = (0.5 * torch.randn(tokens, features, device=device)).to(dtype).requires_grad_()
    table = (0.3 * torch.randn(items + 2, features, device=device)).to(dtype).requires_grad_()
    target = torch.randint(1, items + 1, (tokens,), device=device)
    product, product_operations = matmul(device)
    operations = 6.0 * tokens * items * features
    least_bytes = (
        2.0 * (hidden.numel() + table.numel()) * hidden.element_size()
    )  # read, and gradients written
    copied = copy_rate(device) if torch.device(device).type == "cuda" else None
    place = {"tokens": tokens, "items": items, "features": features, "dtype": str(dtype)[6:]}
    rows: list[dict[str, object]] = []
    print(
        f"{tokens:,} tokens x {items:,} items x {features} features, {place['dtype']} on {device}", flush=True
    )
    for name, loss in (exact_losses(*size, dtype) | sampling_losses(items)).items():
        row: dict[str, object] = {**place, "loss": name}
        rows.append(row)
        try:
            row |= timed(loss, hidden, table, target, product, repeats, device)
        except (ImportError, RuntimeError, NotImplementedError) as error:
            row["absent"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            print(f"  {name:32} {row['absent'][:90]}", flush=True)
            continue
        rate, limit = operations / row["seconds"], product_operations / row["product_seconds"]
        row |= {"gflops": rate / 1e9, "product_gflops": limit / 1e9, "share": rate / limit}
        if copied is not None:
            row |= {"bytes_per_second": least_bytes / row["seconds"], "copy_bytes_per_second": copied}
        print(line(row), flush=True)
    return rows


def timed(
    loss: Loss, hidden: Tensor, table: Tensor, target: Tensor, product: Call, repeats: int, device: str
) -> dict[str, object]:
    """Value, median seconds of forward and backward, and the memory of one call."""

    def step() -> None:
        hidden.grad = table.grad = None
        backward()

    def backward() -> None:
        value = loss(hidden, table, target)
        value.backward()
        values.append(value.detach())

    def measured() -> None:
        taken.append(seconds_of(backward, torch.device(device)))

    values: list[Tensor] = []
    taken: list[float] = []
    hidden.grad, table.grad = torch.zeros_like(hidden), torch.zeros_like(table)
    memory = peak_memory(measured, device)
    times = {"step": taken[0]}
    if taken[0] < SLOW:
        repeats = max(1, min(repeats, int(SLOW / taken[0])))
        times = medians({"product": product, "step": step}, repeats=repeats, device=device)
        hidden.grad, table.grad = torch.zeros_like(hidden), torch.zeros_like(table)
        memory = peak_memory(backward, device)
    else:
        repeats = 1
        times |= medians({"product": product}, repeats=3, device=device)
    return {
        "value": values[0].item(),
        "seconds": times["step"],
        "product_seconds": times["product"],
        "repeats": repeats,
        "peak_bytes": memory,
    }


def line(row: dict[str, object]) -> str:
    memory = row["peak_bytes"]
    used = "-" if memory is None else f"{memory / 2**20:,.0f} MiB"
    return f"  {row['loss']:32}{row['seconds'] * 1e3:10,.1f} ms{row['gflops']:9.0f} GF/s{row['share']:7.2f}{used:>12}   {row['value']:.5f}"


def estimate(tokens: int, items: int, features: int) -> list[dict[str, object]]:
    """One H100 by arithmetic alone, not measured: 990 TFLOP/s of bfloat16 products, 3.35 TB/s, both at 0.5."""
    products, bandwidth = 0.5 * 990e12, 0.5 * 3.35e12
    logits = float(tokens * items)
    plans = {  # products per logit, times 2 operations per feature; bytes per logit through memory
        "flash": (4, 0.0),
        "chunked": (3, 24.0),  # logits written and read, exponentials written and read twice, in float32
        "full logits": (3, 36.0),
    }
    return [
        {
            "tokens": tokens,
            "items": items,
            "features": features,
            "device": "one H100, estimated on paper, not measured",
            "backend": name,
            "operations": 2 * factor * features * logits,
            "bytes": size * logits,
            "seconds": max(2 * factor * features * logits / products, size * logits / bandwidth),
        }
        for name, (factor, size) in plans.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument(
        "--sizes", nargs="+", metavar="TOKENSxITEMSxFEATURES", help="instead of the built-in ones"
    )
    parser.add_argument(
        "--catalogs",
        nargs="+",
        type=int,
        metavar="ITEMS",
        help=f"catalogs for {SWEEP_TOKENS} tokens x {SWEEP_FEATURES} features, instead of the built-in sizes",
    )
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default="losses", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    torch.manual_seed(0)
    sizes = QUICK if args.quick else SIZES
    if args.catalogs:
        sizes = [(SWEEP_TOKENS, items, SWEEP_FEATURES) for items in args.catalogs]
    if args.sizes:
        sizes = [tuple(int(part) for part in text.split("x")) for text in args.sizes]
    wrong = [size for size in sizes if len(size) != 3 or min(size) <= 0]
    if wrong:
        parser.error(f"sizes must be TOKENSxITEMSxFEATURES, such as 1770x12101x64, got {wrong[0]}")
    facts = machine(args.device)
    measured: list[dict[str, object]] = []
    for size in sizes:
        for dtype in args.dtype:
            measured += measure(size, getattr(torch, dtype), args.device, args.repeats)
        content = {
            "setting": {"dtype": args.dtype, "repeats": args.repeats, "sizes": sizes},
            "machine": facts,
            "results": measured,
            "estimates": [row for size in sizes for row in estimate(*size)],
        }
        write_results(args.out, content)  # after each size: a run that is cut short keeps what it has


if __name__ == "__main__":
    main()
