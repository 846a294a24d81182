"""SparseTable: the losses and gradients of the plain table, on the rows that were read."""

import pytest
import torch
from torch import nn

import seqaug as sa
from seqaug import retrieval

V, D, B, L = 47, 5, 3, 7
G = torch.Generator().manual_seed(0)
TARGET = torch.randint(1, V + 1, (B, L), generator=G)
TARGET[0, :3] = 0
HIDDEN = torch.randn(B, L, D, generator=G)
WEIGHT = torch.randn(V + 2, D, generator=G)
SHARED, ROW, POSITION = (torch.randint(1, V + 1, shape, generator=G) for shape in ((4,), (B, 4), (B, L, 4)))
LOG_Q = torch.full((B, 4), -1.5)
CASES = {
    "bce": (sa.BCELoss(), {"negatives": POSITION}),
    "bpr": (sa.BPRLoss(), {"negatives": ROW}),
    "gbce": (sa.GBCELoss(num_items=V), {"negatives": SHARED}),
    "focal": (sa.FocalLoss(), {"negatives": POSITION}),
    "sampled": (sa.SampledSoftmaxLoss(), {"negatives": (ROW, LOG_Q)}),
    "sampled, row, weights": (
        sa.SampledSoftmaxLoss(reduction="row"),
        {"negatives": SHARED, "weight": torch.tensor([1.0, 2.0, 0.5])},
    ),
    "sce": (sa.SCELoss(catalog=slice(1, V + 1), buckets=2, tokens_per_bucket=6, items_per_bucket=4), {}),
}


def evaluate(loss, table, weight, options, target=TARGET):
    torch.manual_seed(3)  # SCE draws its directions
    hidden = HIDDEN.clone().requires_grad_()
    value = loss(hidden, table, target, **options)
    value.backward()
    return value.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("soft", [False, True])
def test_same_loss_and_gradients_on_the_rows_that_were_read(name, soft):
    loss, options = CASES[name]
    target = sa.SoftTarget(TARGET, TARGET.roll(1, 0), torch.tensor([[0.3], [1.0], [0.6]])) if soft else TARGET
    whole, part = WEIGHT.clone().requires_grad_(), nn.Parameter(WEIGHT.clone())
    value, states, rows = evaluate(loss, whole, whole, options, target)
    found, found_states, found_rows = evaluate(loss, sa.SparseTable(part), part, options, target)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(found_states, states)
    assert found_rows.is_sparse
    torch.testing.assert_close(found_rows.to_dense(), rows)
    if name == "sce":
        assert len(found_rows.coalesce().indices()[0]) < V


def test_a_step_of_sparse_adam_changes_no_other_row():
    table = nn.Embedding(V + 2, D, sparse=True)
    before = table.weight.detach().clone()
    optimizer = torch.optim.SparseAdam([table.weight], lr=0.1)
    items = torch.tensor([[0, 5, 6]])
    loss = sa.SampledSoftmaxLoss()(
        table(items),
        sa.SparseTable(table.weight),
        torch.tensor([[0, 6, 9]]),
        negatives=torch.tensor([11, 12]),
    )
    loss.backward()
    optimizer.step()
    changed = (table.weight.detach() != before).any(1).nonzero().flatten().tolist()
    assert changed == [5, 6, 9, 11, 12]


def test_the_whole_catalog_takes_none():
    table = sa.SparseTable(WEIGHT)
    for loss in (sa.CELoss, sa.ICELoss, sa.SoftmaxFocalLoss, sa.RECELoss):
        with pytest.raises(TypeError, match="SparseTable: pass its weight"):
            loss(catalog=slice(1, V + 1))(HIDDEN, table, TARGET)
    with pytest.raises(TypeError, match="SparseTable: pass its weight"):
        sa.functional.linear_logsumexp(HIDDEN, table)


def test_retrieval_takes_it():
    states, catalog = HIDDEN[:, -1], slice(1, V + 1)
    for one, other in zip(
        sa.top_items(states, WEIGHT, 3, catalog=catalog),
        sa.top_items(states, sa.SparseTable(WEIGHT), 3, catalog=catalog),
        strict=True,
    ):
        assert torch.equal(one, other)
    ranks = [
        sa.target_ranks(states, table, TARGET[:, -1], catalog=catalog)
        for table in (WEIGHT, sa.SparseTable(WEIGHT))
    ]
    assert torch.equal(*ranks)


@pytest.mark.parametrize("width", [1, 6, 45, 60])
def test_nearest_rows_in_blocks(width, monkeypatch):
    directions = torch.randn(4, D, generator=torch.Generator().manual_seed(1))
    whole = (directions @ WEIGHT[2:V].t()).topk(min(width, V - 2), dim=1)
    monkeypatch.setattr(retrieval, "SCORES_AT_ONCE", 4 * 10)
    values, ids = retrieval.nearest_rows(directions, WEIGHT, 2, V, width)
    torch.testing.assert_close(values, whole.values)
    assert torch.equal(ids, whole.indices + 2)


def test_a_catalog_of_ten_million_samples_by_popularity():
    """Exact counts to the last id, in bounded time and memory per draw."""
    items = 10_000_000
    counts = torch.ones(items + 1, dtype=torch.int64)
    counts[items] = items  # half of all draws
    counts[3] = 0
    sampler = sa.PopularityNegatives(counts, k=20_000, per="row")
    ids, log_q = sampler.sample(torch.tensor([[7]]), generator=torch.Generator().manual_seed(0))
    last = ids == items
    assert abs(last.float().mean().item() - 0.5) < 0.02 and not ((ids == 3) | (ids == 7)).any()
    assert ids.min() >= 1 and ids.max() == items and len(ids.unique()) > 9_000
    torch.testing.assert_close(log_q[last].exp(), torch.full_like(log_q[last], 0.5), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        log_q[~last].exp() * 2 * items, torch.ones_like(log_q[~last]), rtol=1e-3, atol=0
    )
