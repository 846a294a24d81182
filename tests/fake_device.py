"""Runs the library on an accelerator that does not exist. Started by test_fake_device.py in a process of its own.

A fake device knows shapes, dtypes and places, but no values. Whatever would wait for the device to learn a value raises;
so does whatever mixes devices. A tensor that is copied from or to another device raises too, since the host waits for it.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from catalogue import EVERYTHING, Layout, V, make_batch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import seqaug as sa

DEVICE = "pretended"


class NoCopies(TorchDispatchMode):
    """Refuses copies between devices and tensors that appear on another one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != DEVICE:
                raise RuntimeError(f"{func} touches {tensor.device}")
        return out


def run(check: Callable[[], None], mode: FakeTensorMode) -> str:
    try:
        with mode, NoCopies():
            check()
    except Exception:  # all of it goes into the report, and the report fails the test
        return traceback.format_exc(limit=-6)
    return ""


def to_device(module: torch.nn.Module, mode: FakeTensorMode) -> None:
    with mode:
        module._apply(lambda tensor: mode.from_tensor(tensor).to(DEVICE))


def operator_check(name: str, mode: FakeTensorMode) -> Callable[[], None]:
    layout = Layout()
    operator, batch = EVERYTHING[name](layout), make_batch(layout, [0, 1, 2, 6], 6)
    to_device(operator, mode)
    with mode:
        items, times = (mode.from_tensor(x).to(DEVICE) for x in (batch.items, batch.timestamps))
        features = torch.randn(4, 6, 3, device=DEVICE)

    def check() -> None:
        for ids in (items, items.int(), items[:0]):
            edit = operator.sample(ids, timestamps=times[: len(ids)])
            out = edit(ids)
            assert out.dtype == ids.dtype and out.shape == ids.shape
            assert edit.align(features[: len(ids)]).shape == features[: len(ids)].shape
            assert edit.valid.device.type == edit.future.device.type == DEVICE
            operator.sample_views(ids, 2, timestamps=times[: len(ids)])
            edit.then(operator.sample(out, timestamps=edit.align(times[: len(ids)])))
        operator.train()(items, timestamps=times)
        operator.eval()(items, timestamps=times)
        if isinstance(operator, sa.AdaptivePolicy):
            operator.update(edit, edit.rate)

    return check


def mixing_check(weighting: str, over: str, mode: FakeTensorMode) -> Callable[[], None]:
    mixup = sa.MixupOp(EVERYTHING["Policy"](Layout()), weighting=weighting)
    cross, table = sa.CrossMixup(over=over), torch.nn.Embedding(V + 2, 4)
    batch = make_batch(Layout(), [0, 1, 2, 6], 6)
    to_device(mixup, mode)
    to_device(table, mode)
    with mode:
        items = mode.from_tensor(batch.items).to(DEVICE)

    def check() -> None:
        mixed = mixup(items, table)
        pair = cross(mixed.embeddings, valid=items != 0)
        total = pair(mixed.embeddings).sum() + mixed.weight.sum()
        if over == "position":
            total = total + pair.targets(items).lam.sum()
        total.backward()
        for per in ("row", "slot"):
            dropped = sa.FeatureMask(0.2, 0.7, per=per).sample(mixed.embeddings)
            dropped.complement(dropped(mixed.embeddings))
        for parts in (sa.prefixes(items, most=3), sa.windows(items, 3, stride=2)):
            assert parts(items).device == parts.targets(items).device == parts.align(mixed.embeddings).device
        mixup.sample_views(items, 2)
        mixup.eval()(items, table)
        cross.eval()(mixed.embeddings)

    return check


def synchronises() -> None:
    torch.ones(3, device=DEVICE).sum().item()


def mixes() -> None:
    torch.ones(3, device=DEVICE) + torch.ones(3)


def copies() -> None:
    torch.tensor([1, 2, 3]).to(DEVICE)


def main() -> None:
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    mode = FakeTensorMode()
    checks: dict[str, Callable[[], None]] = {check.__name__: check for check in (synchronises, mixes, copies)}
    checks |= {name: operator_check(name, mode) for name in EVERYTHING}
    for weighting, over in [
        ("batch_sum", "position"),
        ("row", "feature"),
        ("mean_one", "position"),
        ("none", "feature"),
    ]:
        checks[f"mixing {weighting} {over}"] = mixing_check(weighting, over, mode)
    json.dump({name: run(check, mode) for name, check in checks.items()}, sys.stdout)


if __name__ == "__main__":
    main()
