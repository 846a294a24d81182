"""What the machine is and what it can do, so that seconds can be compared."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch


def describe() -> dict[str, Any]:
    """CPU, cores, threads, torch and the rate of a 3000 x 3000 float32 matrix product in 1e9 operations per second."""
    facts: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "mm_gflops": round(matmul_rate()),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def matmul_rate(size: int = 3000, repeats: int = 3) -> float:
    """Best of ``repeats`` products on the CPU, in 1e9 operations per second."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    best = 0.0
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
