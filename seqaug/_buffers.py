"""Buffers that a cast of the model must leave as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def move_without_casting(module: nn.Module, apply: Callable[..., Any], *args: Any) -> None:
    """Move a module, but let no buffer of its own change its dtype: odds and what was learned are not as coarse as weights may be.

    Args:
        module: whose buffers they are.
        apply: ``super()._apply``, by which modules are moved and cast.
        args: of it.
    """
    before = dict(module._buffers)
    apply(*args)
    for name, old in before.items():
        new = module._buffers[name]
        if old is not None and new is not None and new.dtype != old.dtype:
            module._buffers[name] = old.to(new.device)
