"""Catalog losses against the machine's own matrix products and against torch, over tokens x items x features.

    python benchmarks/losses.py                     # the sizes of the documentation, about twenty minutes
    python benchmarks/losses.py --quick             # the small ones
    python benchmarks/losses.py --dtype bfloat16
    python benchmarks/losses.py --device cuda

Forward and backward are timed, in turn with one large product, and the share is of medians: 6 * tokens *
items * features operations, the three products that no exact gradient can do without, per second, over the
rate of the large product. Memory is the most by which one call grows the process beyond table, gradients
and inputs. Rows whose full logits would not fit are left empty. cut-cross-entropy and Liger take part where
they can be imported.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable

import torch
from common import Call, machine, matmul, medians, peak_memory, write_results
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
LOGITS_LIMIT = 2**30  # entries: 4 GiB of float32 logits, and as much again for their gradient
TORCH_LIMIT = 2**29  # entries for torch's own chunks, which take minutes beyond
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def exact_losses(items: int, tokens: int) -> dict[str, Loss]:
    """Losses with the same value: the target's softmax over all items."""
    catalog = slice(1, items + 1)
    found: dict[str, Loss] = {
        f"ICELoss {backend}": sa.ICELoss(catalog=catalog, backend=backend) for backend in ("chunked", "flash")
    }
    if tokens * items <= LOGITS_LIMIT:
        found["cross_entropy on full logits"] = lambda h, e, y: F.cross_entropy(h @ e[catalog].t(), y - 1)
        found["linear_cross_entropy"] = lambda h, e, y: F.linear_cross_entropy(h, e[catalog], y - 1)
    if tokens * items <= TORCH_LIMIT:
        options = nn.LinearCrossEntropyOptions()
        found["linear_cross_entropy chunked"] = lambda h, e, y: F.linear_cross_entropy(
            h, e[catalog], y - 1, options=options
        )
    for module, attribute in (
        ("cut_cross_entropy", "linear_cross_entropy"),
        ("liger_kernel.transformers", None),
    ):
        try:
            package = importlib.import_module(module)
        except ImportError:
            continue
        if attribute:
            cut = getattr(package, attribute)
            found[module] = lambda h, e, y, cut=cut: cut(h, e[catalog], y - 1)
        else:
            fused = package.LigerFusedLinearCrossEntropyLoss()
            found["liger"] = lambda h, e, y, fused=fused: fused(e[catalog], h, y - 1)
    return found


def sampling_losses(items: int) -> dict[str, Loss]:
    """Losses that look at part of the catalog; their share of the product is not that of the same work."""
    catalog = slice(1, items + 1)
    sampled, sampler = sa.SampledSoftmaxLoss(), sa.UniformNegatives(items, k=256, per="batch")
    return {
        "SCELoss": sa.SCELoss(catalog=catalog),
        "RECELoss": sa.RECELoss(catalog=catalog),
        "SampledSoftmaxLoss 256": lambda h, e, y: sampled(h, e, y, negatives=sampler.sample(y)),
    }


def step(loss: Loss, hidden: Tensor, table: Tensor, target: Tensor) -> Call:
    """One forward and backward, gradients made anew."""

    def run() -> None:
        hidden.grad = table.grad = None
        loss(hidden, table, target).backward()

    return run


def measure(
    size: tuple[int, int, int], dtype: torch.dtype, device: str, repeats: int
) -> list[dict[str, object]]:
    tokens, items, features = size
    hidden = (0.5 * torch.randn(tokens, features, device=device)).to(dtype).requires_grad_()
    table = (0.3 * torch.randn(items + 2, features, device=device)).to(dtype).requires_grad_()
    target = torch.randint(1, items + 1, (tokens,), device=device)
    product, product_operations = matmul(device)
    operations = 6.0 * tokens * items * features
    losses = exact_losses(items, tokens) | sampling_losses(items)
    rows: list[dict[str, object]] = []
    print(
        f"{tokens:,} tokens x {items:,} items x {features} features, {str(dtype)[6:]} on {device}", flush=True
    )
    exact = None
    for name, loss in losses.items():
        run = step(loss, hidden, table, target)
        try:
            run()
            value = loss(hidden, table, target).item()
            times = medians({"product": product, "step": run}, repeats=repeats, device=device)
            hidden.grad, table.grad = torch.zeros_like(hidden), torch.zeros_like(table)
            memory = peak_memory(lambda loss=loss: loss(hidden, table, target).backward(), device)
        except (RuntimeError, NotImplementedError) as error:  # a rival that cannot run here
            print(f"  {name:32} {type(error).__name__}: {str(error).splitlines()[0][:70]}")
            continue
        exact = value if exact is None else exact
        rate, limit = operations / times["step"], product_operations / times["product"]
        row = {
            "tokens": tokens,
            "items": items,
            "features": features,
            "dtype": str(dtype)[6:],
            "loss": name,
            "value": value,
            "seconds": times["step"],
            "gflops": rate / 1e9,
            "product_gflops": limit / 1e9,
            "share": rate / limit,
            "peak_bytes": memory,
        }
        rows.append(row)
        used = "-" if memory is None else f"{memory / 2**20:,.0f} MiB"
        print(
            f"  {name:32}{times['step'] * 1e3:10,.1f} ms{rate / 1e9:9.0f} GF/s{rate / limit:7.2f}{used:>12}"
            f"   {value:.5f} ({value - exact:+.0e})",
            flush=True,
        )
    return rows


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
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default="losses", help="name of the JSON in benchmarks/results/")
    args = parser.parse_args()
    torch.manual_seed(0)
    sizes = QUICK if args.quick else SIZES
    if args.sizes:
        sizes = [tuple(int(part) for part in text.split("x")) for text in args.sizes]
        wrong = [size for size in sizes if len(size) != 3 or math.prod(size) <= 0]
        if wrong:
            parser.error(f"--sizes must be TOKENSxITEMSxFEATURES, such as 1770x12101x64, got {wrong[0]}")
    measured = [
        row for size in sizes for row in measure(size, getattr(torch, args.dtype), args.device, args.repeats)
    ]
    guessed = [row for size in sizes for row in estimate(*size)]
    setting = {"dtype": args.dtype, "repeats": args.repeats, "sizes": sizes}
    write_results(
        args.out,
        {"setting": setting, "machine": machine(args.device), "results": measured, "estimates": guessed},
    )


if __name__ == "__main__":
    main()
