"""What type checkers make of calling a module: torch declares that it gives Any, whatever ``forward`` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Forward = TypeVar("Forward", bound=Callable[..., Any])


def calls(forward: Forward) -> Callable[[Callable[..., None]], Forward]:
    """Give the ``__call__`` below it the signature of ``forward``, overloads and all; for type checkers alone.

    ``__call__ = forward`` would do for mypy. pyright keeps to what torch declares unless ``__call__`` is a function.
    """
    return lambda _: forward
