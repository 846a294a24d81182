"""Errors a person can mend: printed as one line, never as a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 900


class UsageError(ValueError):
    """What was expected, what came, and what to do about it, in one line; the middle of an endless one is left out."""

    def __str__(self) -> str:
        text = " ".join(super().__str__().split())
        half = LONGEST // 2
        return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


def choose(what: str, given: str, known: Iterable[str], also: str = "") -> str:
    """Return ``given`` if it is one of ``known``, else raise an error that lists them and the closest."""
    names = list(known)
    if given in names:
        return given
    close = difflib.get_close_matches(given.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    nearest = next((name for name in names if close and name.lower() == close[0]), None)
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    raise UsageError(f"expected {what}, one of {', '.join(names)}{also}, got {given!r}{hint}")
