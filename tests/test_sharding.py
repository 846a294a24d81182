"""A catalog whose rows are spread over 2 and 4 processes: values and gradients as on one, and what crosses."""

import contextlib
import json
import sys

import pytest
import sharded_cases
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from sharded_cases import CASES

import seqaug as sa

pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32", reason="needs torch.distributed with gloo"
)


@pytest.fixture(scope="module", params=[2, 4])
def reports(request, tmp_path_factory):
    """Every case on every rank, in one start of the processes."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    with contextlib.suppress(mp.ProcessExitedException, mp.ProcessRaisedException):  # the reports say more
        mp.spawn(sharded_cases.run, (request.param, str(folder)), nprocs=request.param)
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("name", CASES)
def test_sharded(reports, name):
    problems = [report.get(name, "not reached") for report in reports]
    assert problems and not any(problems), max(problems, key=len)


def test_no_group():
    with pytest.raises(ValueError, match="init_process_group"):
        sa.ShardedTable.from_local(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="init_process_group"):
        sa.gather_rows(torch.zeros(3, 2))


def test_top_items_in_blocks(monkeypatch):
    """Small blocks find what one block finds, also where a user has seen nearly everything."""
    g = torch.Generator().manual_seed(0)
    table, hidden = torch.randn(40, 3, generator=g), torch.randn(5, 3, generator=g)
    target = torch.tensor([1, 2, 38, 7, 7])
    seen = torch.stack([torch.randperm(38, generator=g)[:36] + 1 for _ in range(5)])
    options = {"catalog": slice(1, 39), "seen": seen}
    whole = sa.top_items(hidden, table, 4, **options), sa.target_ranks(hidden, table, target, **options)
    monkeypatch.setattr("seqaug.retrieval.SCORES_AT_ONCE", 35)
    parts = sa.top_items(hidden, table, 4, **options), sa.target_ranks(hidden, table, target, **options)
    assert torch.equal(whole[0][1], parts[0][1]) and torch.equal(whole[1], parts[1])
    torch.testing.assert_close(whole[0][0], parts[0][0])
    assert (whole[0][1] == -1).sum() == 10 and not (whole[0][1][:, :2] == -1).any()
    with pytest.raises(ValueError, match="k=39"):
        sa.top_items(hidden, table, 39, **options)
