"""Running what is missing: one process per run, several at a time, each after the control it starts from."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from recsys.errors import UsageError
from recsys.folder import write_atomic
from tables import runs as table_of_runs
from tables.runs import HERE, Run, control

MAIN_JOB = HERE.parent / "rmhsaocl_full.py"


def execute(runs: list[Run], every: list[Run], *, folder: Path, sources: dict[str, str], jobs: int) -> int:
    """Run what has no result yet.

    Args:
        runs: to be run, controls before what they control.
        every: all runs, to look controls up in.
        folder: where run folders are kept; a run that was stopped goes on there.
        sources: ``--data`` of each data set.
        jobs: runs at a time; the cores are shared out among them.

    Returns:
        How many failed.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = [run for run in runs if run.result() is None or lacks_weights(run, runs, every, folder)]
    running: dict[Future[int], Run] = {}
    failed: set[str] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            busy = {run.key for run in running.values()} | {run.key for run in waiting}
            for run in list(waiting):
                before = control(run, every)
                if before is not None and before.key in failed:
                    print(f"{run.key}: not run, since {before.key} failed", flush=True)
                    failed.add(run.key)
                    waiting.remove(run)
                elif len(running) < jobs and (before is None or before.key not in busy):
                    waiting.remove(run)
                    running[pool.submit(run_one, run, before, folder, sources[run.data], threads)] = run
            if not running:
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                if future.result() != 0:
                    failed.add(run.key)
    return len(failed)


def lacks_weights(run: Run, runs: list[Run], every: list[Run], folder: Path) -> bool:
    """Whether a run has a result, but another one that is to start from its weights finds none."""
    if (system_folder(run, folder) / "weights.safetensors").exists():
        return False
    return any(
        other.settings.needs_control and other.result() is None and control(other, every) == run
        for other in runs
    )


def system_folder(run: Run, folder: Path) -> Path:
    return folder / run.key / run.settings.system


def run_one(run: Run, before: Run | None, folder: Path, source: str, threads: int) -> int:
    """One run in a process of its own, from where it stopped; its result is copied when it has ended."""
    out = folder / run.key
    command = [sys.executable, str(MAIN_JOB), "--quiet"]
    if (out / "config.json").exists():
        command += ["--resume", str(out)]
    else:
        command += ["--data", source, "--seed", str(run.seed), *run.options, "--out", str(out)]
        if before is not None:
            command += ["--control", str(control_folder(before, folder))]
    command += ["--threads", str(threads)]
    log = folder / f"{run.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    print(f"{run.key}: started, log in {log}", flush=True)
    with open(log, "a", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    minutes = (time.perf_counter() - start) / 60
    if code != 0:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
        print(f"{run.key}: failed after {minutes:.0f} minutes: {last[0]}", flush=True)
        return code
    keep(run, system_folder(run, folder))
    print(f"{run.key}: done after {minutes:.0f} minutes", flush=True)
    return 0


def control_folder(before: Run, folder: Path) -> Path:
    """The run folder of a control; where only its committed result is left, one made of that, apart from those that are trained."""
    found = system_folder(before, folder)
    if not (found / "result.json").exists():
        found = system_folder(before, folder / "committed")
        found.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table_of_runs.RESULTS / f"{before.key}.npz", found / "ranks.npz")
        shutil.copyfile(table_of_runs.RESULTS / f"{before.key}.json", found / "result.json")
    return found


def keep(run: Run, found: Path) -> None:
    """Copy what a finished run found to where it is committed; the settings must be those of ``runs.txt``."""
    result = json.loads((found / "result.json").read_text(encoding="utf-8"))
    if result["system"] != run.settings.system or result["seed"] != run.seed:
        raise UsageError(f"expected {found} to hold {run.key}, got {result['system']}, seed {result['seed']}")
    for name, ending in (
        ("ranks.npz", "npz"),
        ("result.json", "json"),
    ):  # the JSON last: the sign that all is there
        write_atomic(
            table_of_runs.RESULTS / f"{run.key}.{ending}", functools.partial(shutil.copyfile, found / name)
        )
    run.result()
