"""The processes that share the batches of a job: which one this is, what they tell each other, how they are started.

A job on several devices is one process per device, all running the same script: torchrun starts them, or `launch`
does what torchrun does. Only the first one, the lead, reads input, prints and writes files.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recsys.errors import UsageError

T = TypeVar("T")
TIMEOUT = (
    "RECSYS_TIMEOUT"  # sets how many seconds a rank may take to answer; one that ends is noticed at once
)
SECONDS = "300"
WORK_OF_THE_LEAD = timedelta(days=7)  # the others wait for it as long as it lives
SILENT = 3  # exit code of a rank that has waited for another one in vain
LAUNCHED = "RECSYS_LAUNCHED"  # set by `launch`, which says itself what became of its processes

_waiting: dist.ProcessGroup | None = None


def started() -> int:
    """How many processes a launcher has started for this job, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_launcher() -> None:
    """A launcher tells each process which one it is and where the others are."""
    given = os.environ.get("WORLD_SIZE", "1")
    if given == "1":
        return
    counts = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")}
    wrong = [f"{name}={value!r}" for name, value in counts.items() if not value.isdecimal()]
    if not os.environ.get("MASTER_ADDR"):
        wrong.append("no MASTER_ADDR")
    if not wrong and not int(counts["RANK"]) < int(given):
        wrong.append(f"RANK={counts['RANK']} of WORLD_SIZE={given}")
    if wrong:
        raise UsageError(
            f"expected WORLD_SIZE={given} with what torchrun sets beside it, got {', '.join(wrong)}; start the job with "
            "torchrun or --devices, or unset WORLD_SIZE"
        )


@contextmanager
def joined() -> Iterator[None]:
    """The group of the processes that were started together, for as long as the block lasts."""
    global _waiting
    if started() == 1:
        yield
        return
    if LAUNCHED in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=patience())
    _waiting = dist.new_group(backend="gloo", timeout=WORK_OF_THE_LEAD)
    try:
        yield
    finally:
        _waiting = None
        dist.destroy_process_group()


def patience() -> timedelta:
    """How long the ranks wait for one that does not answer; what the environment sets, or five minutes."""
    given = os.environ.get(TIMEOUT, SECONDS)
    if not given.isdecimal() or not 1 <= int(given) <= 10**6:
        raise UsageError(f"expected {TIMEOUT} to be seconds, a whole number of 1 to 1000000, got {given!r}")
    return timedelta(seconds=int(given))


def _end_with(launcher: int) -> None:
    """A launcher that was killed cannot stop its processes, and whoever continues the job would meet them."""
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)


def world() -> int:
    """How many processes share the batches."""
    return dist.get_world_size() if _waiting is not None else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if _waiting is not None else 0


def lead() -> bool:
    """Whether this is the process that prints and writes files."""
    return rank() == 0


def from_lead(make: Callable[[], T]) -> T:
    """What ``make`` gives the lead, on every rank; an error of the lead's is everybody's. The others wait for it."""
    if _waiting is None:
        return make()
    told: list[Any] = [None, None]
    if lead():
        try:
            told[0] = make()
        except Exception as error:
            told[1] = error
    dist.broadcast_object_list(told, src=0, group=_waiting)
    if told[1] is not None:
        raise told[1]
    return told[0]


def add_up(x: Tensor) -> Tensor:
    """The sum of everybody's tensor of one shape, on every rank; ``x`` itself where there is one process."""
    if _waiting is None:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def trainer_options() -> dict[str, Any]:
    """How Lightning shares the work: gradients are averaged over the ranks."""
    if _waiting is None:
        return {"devices": 1}
    from lightning.pytorch.strategies import DDPStrategy

    local = int(os.environ.get("LOCAL_WORLD_SIZE", world()))
    # Buffers are the same on all ranks by construction: all draw for the whole batch, and what they learn is added up.
    return {
        "devices": local,
        "num_nodes": world() // local,
        "strategy": DDPStrategy(broadcast_buffers=False, timeout=patience()),
    }


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another rank has gone."""
    text = str(error)
    gone = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, dist.DistError) or any(words in text for words in gone)


def is_silent(error: BaseException) -> bool:
    """Whether an error says that another rank is there and does not answer."""
    return "Timed out waiting" in str(error)


def launch(script: str, argv: Sequence[str], devices: int, out: object) -> int:
    """Run a script in one process per device, as ``torchrun --nproc-per-node`` does, until all of them have ended.

    Args:
        script: that is run.
        argv: its arguments.
        devices: how many.
        out: the run folder, for the error.

    Returns:
        The exit code. When a process ends with an error, the others are stopped.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    threads = str(max(1, (os.cpu_count() or 1) // devices))
    os.environ.setdefault("OMP_NUM_THREADS", threads)
    os.environ[LAUNCHED] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the error below says it all
    try:
        elastic_launch(config, sys.executable)(script, *argv)
    except SignalException:
        print(f"\nstopped; continue with --resume {out}", file=sys.stderr)
        return 130
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode in (2, 130):  # it has said why
            return failure.exitcode
        if failure.exitcode == SILENT:
            print(f"error: {_silence(out)}", file=sys.stderr)
            return 1
        how = (
            f"was ended by {failure.signal_name()}"
            if failure.exitcode < 0
            else f"ended with exit code {failure.exitcode}"
        )
        print(
            f"error: process {number} of {devices} {how}, and the others were stopped; continue with --resume {out}",
            file=sys.stderr,
        )
        return 1
    finally:
        del os.environ[LAUNCHED]
    return 0


def speaks() -> bool:
    """Whether this process is the one to tell a person that the job has stopped."""
    return lead() and LAUNCHED not in os.environ


def _silence(out: object) -> str:
    return (
        f"another process of the job has not answered for {patience().total_seconds():.0f} seconds, and all were "
        f"stopped; continue with --resume {out}, with a larger {TIMEOUT} if it was only slow"
    )


def fail_alone(out: object, error: BaseException) -> int:
    """Say that another process has gone or does not answer; the exit code."""
    if is_silent(error):
        if LAUNCHED not in os.environ:
            print(f"error: {_silence(out)}", file=sys.stderr)
        return SILENT
    if speaks():
        print(
            f"error: lost another process of the job after its last checkpoint; continue with --resume {out}",
            file=sys.stderr,
        )
    return 1


def fail(error: UsageError) -> int:
    """Say what was wrong, once; exit code 2."""
    if started() == 1 or os.environ["RANK"] == "0":  # the lead, whether or not it has met the others
        print(f"error: {error}", file=sys.stderr)
    else:
        time.sleep(1)  # a launcher ends all processes after the first: not before the lead has spoken
    return 2
