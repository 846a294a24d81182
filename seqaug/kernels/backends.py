"""Which kernel does the work."""

from __future__ import annotations

import functools
import logging

from torch import Tensor

from seqaug._checks import check_choice
from seqaug.kernels import chunked, flash
from seqaug.kernels.chunked import Gradients, Slope

BACKENDS = ("auto", "chunked", "flash", "naive")

log = logging.getLogger("seqaug")


def check_backend(backend: object) -> None:
    check_choice("backend", backend, BACKENDS)


def softmax_gradients(
    backend: str, hidden: Tensor, table: Tensor, slope: Slope | None, *, need_hidden: bool, need_table: bool
) -> Gradients:
    """`seqaug.kernels.chunked.softmax_gradients` by the backend of this name, "naive" apart."""
    chosen = backend
    if backend == "auto":
        chosen = choose(hidden.device.type, str(hidden.dtype), hidden.shape[1], len(table))
    sweep = flash.softmax_gradients if chosen == "flash" else chunked.softmax_gradients
    return sweep(hidden, table, slope, need_hidden=need_hidden, need_table=need_table)


def pick(device: str, dtype: str, features: int, items: int) -> str:
    """The faster backend.

    Blocks win on a CPU at every size and dtype measured on an idle machine (benchmarks/losses.py), in bfloat16
    by a factor of nearly two, and run wherever torch does. Flash has not been measured on a GPU yet and has to
    be asked for by name.
    """
    return "chunked"


@functools.cache
def choose(device: str, dtype: str, features: int, items: int) -> str:
    """`pick`, logged once per kind of input."""
    chosen = pick(device, dtype, features, items)
    log.debug("catalog softmax on %s, %s, %d features, %d items: %s", device, dtype, features, items, chosen)
    return chosen
