"""What the benchmarks share: the machine and its measured limits, fair timing, peak memory, results as JSON."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch

import seqaug

RESULTS = Path(__file__).parent / "results"
Call = Callable[[], object]


def machine(device: str | torch.device = "cpu") -> dict[str, object]:
    """Everything a number depends on besides the code that is timed."""
    device = torch.device(device)
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "seqaug": seqaug.__version__,
        "commit": commit.stdout.strip() or None,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "matmul_gflops": round(matmul_rate(device) / 1e9, 1),
        "copy_gigabytes_per_second": round(copy_rate(device) / 1e9, 1),
    }


def processor() -> str:
    """The processor's name as the system gives it."""
    table = Path("/proc/cpuinfo")
    names = (
        [line for line in table.read_text().splitlines() if line.startswith("model name")]
        if table.exists()
        else []
    )
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def seconds_of(call: Call, device: torch.device) -> float:
    """One call: events of the device on CUDA, elsewhere the wall clock, or on one thread the processor's own time.

    On one thread the two are the same, unless the machine does something else besides, which then does not count.
    """
    if device.type != "cuda":
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        call()
        return clock() - start
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    call()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1e3


def medians(calls: dict[str, Call], *, repeats: int, device: str | torch.device = "cpu") -> dict[str, float]:
    """Median seconds of each call, taken in turn so that all meet the same machine; one round to warm up."""
    device = torch.device(device)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds_of(call, device))
    return {name: statistics.median(times) for name, times in taken.items()}


def matmul(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Call, float]:
    """A product that runs at the machine's limit, and its number of operations."""
    size = 8192 if torch.device(device).type == "cuda" else 3000
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: torch.mm(left, right), 2.0 * size**3


def matmul_rate(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of one large product."""
    call, operations = matmul(device, dtype)
    return operations / medians({"product": call}, repeats=5, device=device)["product"]


def copy_rate(device: str | torch.device = "cpu") -> float:
    """Bytes per second, read and written, of one large copy."""
    source = torch.empty(2**28 if torch.device(device).type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    times = medians({"copy": lambda: target.copy_(source)}, repeats=5, device=device)
    return 2 * source.numel() * source.element_size() / times["copy"]


def peak_memory(call: Call, device: str | torch.device = "cpu") -> int | None:
    """Bytes by which memory grows at most during a call; None where the system does not tell."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None
    give_back_freed_memory()
    reset.write_text("5")  # the peak becomes what is used now
    before = kilobytes(status, "VmRSS")
    call()
    return max(0, kilobytes(status, "VmHWM") - before) * 1024


def give_back_freed_memory() -> None:
    """Else a call would find its memory among what earlier ones have freed, and seem to need none."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def kilobytes(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def write_results(name: str, content: dict[str, object]) -> Path:
    """benchmarks/results/NAME.json, written whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
    print(f"wrote {path}")
    return path
