"""The best items and the ranks of targets: under autocast, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import seqaug as sa

HIDDEN = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
TABLE = torch.randn(2002, 64, generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(1, 2001, (64,), generator=torch.Generator().manual_seed(2))
CATALOG = slice(1, 2001)


def test_autocast_changes_neither_ranks_nor_scores() -> None:
    ranks = sa.target_ranks(HIDDEN, TABLE, TARGET, catalog=CATALOG)
    scores, ids = sa.top_items(HIDDEN, TABLE, 10, catalog=CATALOG)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sa.target_ranks(HIDDEN, TABLE, TARGET, catalog=CATALOG), ranks)
        scores_there, ids_there = sa.top_items(HIDDEN, TABLE, 10, catalog=CATALOG)
    assert scores_there.dtype == torch.float32
    assert torch.equal(scores_there, scores) and torch.equal(ids_there, ids)


def top(**changes: object) -> Callable[[], object]:
    return lambda: sa.top_items(**{"hidden": HIDDEN, "table": TABLE, "k": 3, "catalog": CATALOG} | changes)


def ranks(**changes: object) -> Callable[[], object]:
    return lambda: sa.target_ranks(
        **{"hidden": HIDDEN, "table": TABLE, "target": TARGET, "catalog": CATALOG} | changes
    )


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (top(seen=TARGET[None]), ValueError, r"seen must be \(64, ids\).*got seen.shape=\(1, 64\)"),
        (top(seen=[[1]]), TypeError, "seen must be a tensor of ids, got list"),
        (top(seen=TARGET[:, None].float()), TypeError, "got seen.dtype=torch.float32"),
        (top(hidden=HIDDEN[None]), ValueError, r"got hidden.shape=\(1, 64, 64\)"),
        (top(hidden=HIDDEN[:, :3]), ValueError, "must agree in features"),
        (top(catalog=range(3)), TypeError, r"catalog must be a slice of table rows, got catalog=range\(0, 3\)"),
        (top(k=0), ValueError, "k must be at least 1, got k=0"),
        (top(k=2001), ValueError, "got k=2001"),
        (ranks(target=TARGET[:, None]), ValueError, r"target must be \(64,\).*got target.shape=\(64, 1\)"),
        (ranks(target=TARGET.float()), TypeError, "got target.dtype=torch.float32"),
        (ranks(target=TARGET * 0), ValueError, r"target must be rows 1..2000 of the catalog, got target from 0"),
        (ranks(target=TARGET * 0 + 2001), ValueError, "got target from 2001 to 2001"),
        (ranks(seen=TARGET[:3, None]), ValueError, "seen must be"),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_clear_error(
    call: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        call()


def test_no_rows_have_no_ranks() -> None:
    assert sa.target_ranks(HIDDEN[:0], TABLE, TARGET[:0], catalog=CATALOG).shape == (0,)
