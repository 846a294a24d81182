"""Ranks and figures against a plain reading of the protocol."""

import math

import pytest
import torch
from scipy import stats

from recsys.evaluation import MISS, gains, hits, metrics, paired_t_test, ranks


def plain_rank(scores, target, seen):
    """Rank of one user's target, straight from the protocol; scores[i] is that of item i + 1."""
    if target in seen or not math.isfinite(scores[target - 1]):
        return MISS
    others = [item for item in range(1, len(scores) + 1) if item != target and item not in seen]
    ahead = sum(not scores[item - 1] < scores[target - 1] for item in others)
    return ahead + len({item for item in seen if item > 0 and not -math.inf < scores[target - 1]})


@pytest.mark.parametrize("seed", range(20))
def test_ranks_agree_with_the_protocol(seed):
    g = torch.Generator().manual_seed(seed)
    users, items, features = 13, 23, 2
    hidden = torch.randint(-1, 2, (users, features), generator=g).float()  # few values: many ties
    table = torch.randint(-1, 2, (items + 2, features), generator=g).float()
    target = torch.randint(1, items + 1, (users,), generator=g)
    seen = torch.randint(0, items + 1, (users, 7), generator=g)
    found = ranks(hidden, table, target, seen)
    scores = (hidden @ table[1:-1].T).tolist()
    expected = [
        plain_rank(s, t, set(x) - {0}) for s, t, x in zip(scores, target.tolist(), seen.tolist(), strict=True)
    ]
    assert found.tolist() == expected


def test_ties_count_against_the_target():
    assert (
        ranks(torch.zeros(1, 3), torch.randn(12, 3), torch.tensor([4]), torch.zeros(1, 1).long()).item() == 9
    )


def test_pad_and_mask_rows_are_not_ranked():
    table = torch.full((5, 1), 0.0)
    table[0] = table[4] = 100.0
    table[2] = 1.0
    assert ranks(torch.ones(1, 1), table, torch.tensor([2]), torch.zeros(1, 1).long()).item() == 0


def test_nan_is_a_miss():
    table = torch.randn(7, 2)
    hidden = torch.tensor([[math.nan, 0.0], [1.0, 0.0]])
    table[3] = math.nan
    target, seen = torch.tensor([1, 3]), torch.zeros(2, 1).long()
    assert ranks(hidden, table, target, seen).tolist() == [MISS, MISS]


def test_nan_of_another_item_counts_against_the_target():
    table = torch.tensor([[0.0], [3.0], [math.nan], [1.0], [0.0]])
    assert ranks(torch.ones(1, 1), table, torch.tensor([1]), torch.zeros(1, 1).long()).item() == 1


def test_a_target_seen_before_is_a_miss():
    seen = torch.tensor([[0, 2, 3]])
    assert ranks(torch.ones(1, 1), torch.arange(6.0)[:, None], torch.tensor([3]), seen).item() == MISS


def test_metrics_by_hand():
    found = metrics(torch.tensor([0, 4, 5, 19, 20, MISS]))
    assert found["HR@5"] == pytest.approx(2 / 6)
    assert found["HR@10"] == pytest.approx(3 / 6)
    assert found["HR@20"] == pytest.approx(4 / 6)
    assert found["NDCG@5"] == pytest.approx((1 + 1 / math.log2(6)) / 6)
    assert found["NDCG@20"] == pytest.approx(
        (1 + 1 / math.log2(6) + 1 / math.log2(7) + 1 / math.log2(21)) / 6
    )


def test_paired_t_test_is_scipys():
    g = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 40, (500,), generator=g) for _ in range(2))
    for of in (hits, gains):
        a, b = of(first, 10), of(second, 10)
        difference, p = paired_t_test(a, b)
        assert difference == pytest.approx((a.mean() - b.mean()).item())
        assert p == pytest.approx(stats.ttest_rel(a.numpy(), b.numpy()).pvalue)
    assert paired_t_test(a, a) == (0.0, 1.0)
