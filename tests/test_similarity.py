"""ItemSimilarity against dictionaries and dense matrices."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import seqaug as sa
from seqaug import _cooccurrence
from seqaug import _pair_sums as pair_sums
from seqaug import _swing as swing
from seqaug import similarity as module

V = 9
METHODS = ("itemcf", "itemcf-iuf", "swing")
sequences = st.lists(st.lists(st.integers(1, V), max_size=6), max_size=8)


def plain_item_cf(rows: Sequence[Sequence[int]], method: str) -> dict[int, dict[int, float]]:
    """s(i, j) = sum over users with both of w(u) / sqrt(N_i N_j), in plain Python."""
    users: dict[int, int] = defaultdict(int)
    scores: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        items = set(row) - {0}
        for i in items:
            users[i] += 1
            for j in items - {i}:
                scores[i][j] += 1 if method == "itemcf" else 1 / math.log(1 + len(items))
    return {
        i: {j: score / math.sqrt(users[i] * users[j]) for j, score in near.items()}
        for i, near in scores.items()
    }


def plain_swing(rows: Sequence[Sequence[int]], alpha: float) -> dict[int, dict[int, float]]:
    """s(i, j) = sum over pairs of users with both of w(u) w(v) / (alpha + items in common), in plain Python."""
    scores: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for one, other in combinations([set(row) - {0} for row in rows], 2):
        both = one & other
        for i in both:
            for j in both - {i}:
                scores[i][j] += 1 / math.sqrt(len(one) * len(other)) / (alpha + len(both))
    return scores


def plain(rows: Sequence[Sequence[int]], method: str) -> dict[int, dict[int, float]]:
    return plain_swing(rows, 1.0) if method == "swing" else plain_item_cf(rows, method)


def nearest(scores: dict[int, float], k: int) -> list[tuple[int, float]]:
    """The best k; equal scores by id."""
    return sorted(scores.items(), key=lambda pair: (-round(pair[1], 9), pair[0]))[:k]


def assert_table(
    similarity: sa.ItemSimilarity, expected: dict[int, dict[int, float]], k: int, rows: int
) -> None:
    assert similarity.neighbours.shape == similarity.scores.shape == (rows, k)
    assert similarity.neighbours.dtype == torch.int64 and similarity.scores.dtype == torch.float32
    for item in range(rows):
        best = nearest(expected.get(item, {}), k)
        scores = similarity.scores[item].tolist()
        assert scores[: len(best)] == pytest.approx([score for _, score in best], rel=1e-5)
        assert similarity.neighbours[item].tolist() == [i for i, _ in best] + [0] * (k - len(best))
        assert scores[len(best) :] == [-math.inf] * (k - len(best))


@pytest.mark.parametrize("method", METHODS)
@given(rows=sequences, k=st.integers(1, V + 2))
def test_counted_similarity_is_that_of_dictionaries(method: str, rows: list[list[int]], k: int) -> None:
    similarity = sa.ItemSimilarity.from_sequences(rows, V, method=method, k=k)
    assert_table(similarity, plain(rows, method), k, V + 2)


@pytest.mark.parametrize("method", METHODS)
@given(rows=sequences, at_once=st.sampled_from([1, 3, 10]))
def test_blocks_of_items_change_nothing(method: str, rows: list[list[int]], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PAIRS_AT_ONCE", at_once)
        patch.setattr(swing, "_PAIRS_AT_ONCE", at_once)
        patch.setattr(pair_sums, "_WAITING", at_once)
        similarity = sa.ItemSimilarity.from_sequences(rows, V, method=method, k=3)
    assert_table(similarity, plain(rows, method), 3, V + 2)


@given(rows=sequences, alpha=st.sampled_from([0.0, 0.5, 3.0]))
def test_alpha_of_swing(rows: list[list[int]], alpha: float) -> None:
    found = sa.ItemSimilarity.from_sequences(rows, V, method="swing", k=4, alpha=alpha)
    assert_table(found, plain_swing(rows, alpha), 4, V + 2)


def test_swing_by_hand() -> None:
    """Two users with 1 and 2 and nothing else count more than two who share 1, 3 and 4."""
    rows = [[1, 2], [2, 1], [1, 3, 4, 5], [1, 3, 4, 6]]
    found = sa.ItemSimilarity.from_sequences(rows, 6, method="swing", k=3)
    assert found.neighbours[1].tolist() == [2, 3, 4]
    assert found.scores[1].tolist() == pytest.approx([0.5 / 3, 0.25 / 4, 0.25 / 4])


def test_known_by_hand() -> None:
    rows = [[1, 2], [1, 2, 3], [1, 3, 3, 3]]
    plain = sa.ItemSimilarity.from_sequences(rows, 3, method="itemcf", k=2)
    assert plain.scores[1].tolist() == pytest.approx([2 / math.sqrt(6)] * 2)
    assert plain.neighbours[1].tolist() == [2, 3], "equal scores are ordered by id"
    weighted = sa.ItemSimilarity.from_sequences(rows, 3, k=2)
    pair, triple = 1 / math.log(3), 1 / math.log(4)
    assert weighted.scores[1].tolist() == pytest.approx([(pair + triple) / math.sqrt(6)] * 2)
    assert weighted.scores[2, 1].item() == pytest.approx(triple / 2)


def test_equal_scores_of_many_items_are_ordered_by_id() -> None:
    similarity = sa.ItemSimilarity.from_sequences([range(1, 51)], 50, k=20)
    for item in range(1, 51):
        assert similarity.neighbours[item].tolist() == [i for i in range(1, 51) if i != item][:20]


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_users_and_of_items_does_not_matter(method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, V + 1, (n,), generator=generator).tolist() for n in (1, 2, 3, 4, 5, 6, 7, 8)]
    one = sa.ItemSimilarity.from_sequences(rows, V, method=method, k=V)
    two = sa.ItemSimilarity.from_sequences([row[::-1] for row in rows[::-1]], V, method=method, k=V)
    assert torch.equal(one.neighbours, two.neighbours)
    torch.testing.assert_close(one.scores, two.scores)


def test_rows_may_be_lists_tensors_a_generator_or_a_padded_batch() -> None:
    rows = [[1, 2, 3], [2, 3], [3, 4, 1]]
    expected = sa.ItemSimilarity.from_sequences(rows, V)
    for other in (
        [torch.tensor(row) for row in rows],
        (tuple(row) for row in rows),
        sa.pad_sequences(rows),
        sa.pad_sequences(rows, side="right").int(),
    ):
        found = sa.ItemSimilarity.from_sequences(other, V)
        assert torch.equal(found.neighbours, expected.neighbours) and torch.equal(
            found.scores, expected.scores
        )


@pytest.mark.parametrize("rows", [[], [[]], [[1]], [[0, 0]], [[2], [3]]], ids=str)
def test_without_pairs_there_are_no_neighbours(rows: list[list[int]]) -> None:
    similarity = sa.ItemSimilarity.from_sequences(rows, V, k=2)
    assert bool((similarity.neighbours == 0).all()) and bool((similarity.scores == -math.inf).all())
    substitute = sa.Substitute(0.2, 0.7, similarity)
    assert bool((substitute(torch.tensor([[1, 2, 3]])) > 0).all())


def dense(table: Tensor) -> dict[int, dict[int, float]]:
    product = (table.double() @ table.double().T).tolist()
    items = range(1, len(table) - 1)
    return {i: {j: product[i][j] for j in items if j != i} for i in items}


@pytest.mark.parametrize("at_once", [1, 20, 1 << 24])
@given(items=st.integers(2, 12), data=st.data())
def test_embeddings_are_compared_by_inner_product(at_once: int, items: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, items - 1))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    table = torch.randn(items + 2, 5, generator=generator, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SCORES_AT_ONCE", at_once)
        similarity = sa.ItemSimilarity.from_embeddings(table, k=k)
    assert_table(similarity, dense(table), k, items + 2)


def test_embeddings_take_a_parameter_and_keep_it_out_of_the_graph() -> None:
    table = torch.nn.Embedding(12, 4).weight
    similarity = sa.ItemSimilarity.from_embeddings(table, k=3)
    assert not similarity.scores.requires_grad
    assert sa.ItemSimilarity.from_embeddings(table.bfloat16(), k=3).scores.dtype == torch.float32


def scaled(table: dict[int, dict[int, float]]) -> dict[int, dict[int, float]]:
    values = [score for near in table.values() for score in near.values()]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    span = high - low or 1.0
    return {i: {j: (score - low) / span for j, score in near.items()} for i, near in table.items()}


def as_dictionary(similarity: sa.ItemSimilarity) -> dict[int, dict[int, float]]:
    pairs = zip(similarity.neighbours.tolist(), similarity.scores.tolist(), strict=True)
    return {
        i: {j: score for j, score in zip(ids, scores, strict=True) if j}
        for i, (ids, scores) in enumerate(pairs)
    }


@given(one=sequences, two=sequences, k=st.integers(1, 5), other_k=st.integers(1, 5))
def test_hybrid_keeps_the_better_of_two_scaled_scores(
    one: list[list[int]], two: list[list[int]], k: int, other_k: int
) -> None:
    first = sa.ItemSimilarity.from_sequences(one, V, k=k)
    second = sa.ItemSimilarity.from_sequences(two, V, k=other_k, method="itemcf")
    hybrid = first.hybrid(second)
    assert hybrid.neighbours.shape == hybrid.scores.shape == (V + 2, k)
    a, b = scaled(as_dictionary(first)), scaled(as_dictionary(second))
    for item in range(V + 2):
        best = {j: max(a[item].get(j, -1), b[item].get(j, -1)) for j in {*a[item], *b[item]}}
        count = min(k, len(best))
        ids, scores = hybrid.neighbours[item].tolist(), hybrid.scores[item].tolist()
        assert scores[:count] == pytest.approx(sorted(best.values(), reverse=True)[:count], abs=1e-6)
        assert ids[count:] == [0] * (k - count) and scores[count:] == [-math.inf] * (k - count)
        assert len(set(ids[:count])) == count, "no item twice"
        for j, score in zip(ids[:count], scores[:count], strict=True):
            assert score == pytest.approx(best[j], abs=1e-6)


def test_hybrid_of_one_and_itself_is_its_order() -> None:
    similarity = sa.ItemSimilarity.from_embeddings(torch.randn(12, 4), k=4)
    assert torch.equal(similarity.hybrid(similarity).neighbours, similarity.neighbours)


def test_moving() -> None:
    similarity = sa.ItemSimilarity.from_sequences([[1, 2]], V)
    assert similarity.to("meta").scores.device.type == "meta"
    assert similarity.to("cpu").neighbours.tolist() == similarity.neighbours.tolist()


def test_neighbours_can_be_renewed() -> None:
    substitute = sa.Substitute(1, 1, sa.ItemSimilarity.from_sequences([[1, 2]], 3, k=1))
    assert substitute(torch.tensor([[1, 2]])).tolist() == [[2, 1]]
    substitute.neighbours.update(sa.ItemSimilarity.from_sequences([[1, 3], [2, 3]], 3, k=1))
    assert substitute(torch.tensor([[1, 2]])).tolist() == [[3, 3]]
    with pytest.raises(ValueError, match="5 rows.*got 6 rows"):
        substitute.neighbours.update(torch.ones(6, 1, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_vectors_of_16_bits_are_compared_in_float32(dtype: torch.dtype) -> None:
    table = (40 * torch.randn(102, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    expected = sa.ItemSimilarity.from_embeddings(table.float(), k=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sa.ItemSimilarity.from_embeddings(table, k=4)
    assert torch.equal(found.neighbours, expected.neighbours) and torch.equal(found.scores, expected.scores)


def test_errors() -> None:
    build = sa.ItemSimilarity.from_sequences
    with pytest.raises(ValueError, match="method='cosine'"):
        build([[1, 2]], V, method="cosine")
    with pytest.raises(ValueError, match=f"got {V + 1}"):
        build([[1, V + 1]], V)
    with pytest.raises(ValueError, match="got -2"):
        build([[1, -2]], V)
    for row in ([1.5, 2.0], ["a", "b"], [[1, 2]], torch.tensor([True, False])):
        with pytest.raises(TypeError, match=r"whole ids, got .* in row 1"):
            sa.ItemSimilarity.from_sequences([[1, 2], row], V)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="got NoneType"):
        sa.ItemSimilarity.from_sequences([[1, 2]], V).hybrid(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_items=0"):
        build([[1, 2]], 0)
    with pytest.raises(ValueError, match="k=0"):
        build([[1, 2]], V, k=0)
    with pytest.raises(ValueError, match="alpha=-1"):
        build([[1, 2]], V, method="swing", alpha=-1)
    with pytest.raises(TypeError, match="k=1.5"):
        build([[1, 2]], V, k=1.5)  # type: ignore[arg-type]
    table = sa.ItemSimilarity.from_embeddings
    with pytest.raises(TypeError, match="table.dtype=torch.int64"):
        table(torch.ones(5, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"k=3, got table.shape=\(5, 2\)"):
        table(torch.ones(5, 2), k=3)
    with pytest.raises(ValueError, match=r"table.shape=\(5,\)"):
        table(torch.ones(5), k=1)
    with pytest.raises(ValueError, match="11 rows and 12 rows"):
        build([[1, 2]], V).hybrid(build([[1, 2]], V + 1))


def test_tables_are_renewed_when_due() -> None:
    built: list[int] = []

    def build() -> sa.ItemSimilarity:
        built.append(1 + len(built))
        return sa.ItemSimilarity.from_sequences([[1, 1 + len(built)], [2, 1 + len(built)]], 6, k=1)

    mixup = sa.MixupOp(
        sa.Policy([sa.Substitute(1, 1, build()), sa.LengthPolicy(0, sa.Crop(1, 1), sa.Insert(1, 1, build()))])
    )
    refresh = sa.RefreshNeighbours(mixup, build, every=3, start=2)
    assert len(refresh.tables) == 2
    assert [refresh.step() for _ in range(9)] == [False, False, True, False, False, True, False, False, True]
    assert len(built) == 5
    for table in refresh.tables:
        assert table.ids[1].tolist() == [6], "the fifth table"


def test_refreshing_what_has_no_table() -> None:
    with pytest.raises(ValueError, match="got Policy"):
        sa.RefreshNeighbours(sa.Policy([sa.Crop(0.2, 0.7)]), lambda: torch.ones(4, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="every=0"):
        sa.RefreshNeighbours(
            sa.Substitute(0.2, 0.7, torch.ones(4, 1, dtype=torch.int64)), lambda: torch.ones(1), every=0
        )


@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize(("pairs", "merged"), [(1, 1), (40, 3), (500, 70), (1 << 24, 1 << 20)])
def test_of_batches_to_the_bit(method: str, pairs: int, merged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks of items, the batches of rows and when sums are merged."""
    monkeypatch.setattr(_cooccurrence, "_LEAST_MERGED", merged)
    g = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 61, (int(n),), generator=g) for n in torch.randint(0, 30, (211,), generator=g)]
    read = 0

    def batches() -> Iterator[Tensor]:
        nonlocal read
        read += 1
        for begin in range(0, len(rows), 17):
            yield sa.pad_sequences([row[row > 0] for row in rows[begin : begin + 17]], length=30)

    found = sa.ItemSimilarity.from_batches(batches, 60, method=method, k=9, pairs_at_once=pairs)
    wanted = sa.ItemSimilarity.from_sequences(rows, 60, method=method, k=9)
    assert torch.equal(found.neighbours, wanted.neighbours) and torch.equal(found.scores, wanted.scores)
    assert read == (61 if pairs == 1 else read) and (read == 2) == (pairs == 1 << 24)


def test_of_batches_refuses() -> None:
    with pytest.raises(ValueError, match="swing"):
        sa.ItemSimilarity.from_batches(lambda: [], 3, method="swing")
    with pytest.raises(ValueError, match="got 4"):
        sa.ItemSimilarity.from_batches(lambda: [torch.tensor([[1, 4]])], 3)
    with pytest.raises(ValueError, match="padded ids"):
        sa.ItemSimilarity.from_batches(lambda: [torch.tensor([1, 2])], 3)
    assert not sa.ItemSimilarity.from_batches(lambda: [], 3).neighbours.any()


@pytest.mark.parametrize("count", [0, -1])
def test_a_catalog_has_items(count: int) -> None:
    with pytest.raises(ValueError, match=f"num_items={count}"):
        sa.ItemSimilarity.from_batches(lambda: iter([torch.tensor([[1, 2]])]), count)


def test_embeddings_are_compared_by_their_tensor() -> None:
    with pytest.raises(TypeError, match="got Embedding: pass embedding.weight"):
        sa.ItemSimilarity.from_embeddings(torch.nn.Embedding(5, 3), k=2)  # type: ignore[arg-type]


def test_vectors_that_are_no_numbers_are_refused() -> None:
    table = torch.randn(6, 3)
    table[3, 1] = torch.nan
    with pytest.raises(ValueError, match="got 1 items that are not, the first of them item 3"):
        sa.ItemSimilarity.from_embeddings(table, k=1)


def test_batches_that_are_read_only_once_are_refused() -> None:
    batches = iter([sa.pad_sequences([[1, 2], [1, 2]])])
    with pytest.raises(ValueError, match="must give new batches at each call, got the same list_iterator"):
        sa.ItemSimilarity.from_batches(lambda: batches, 2, k=1)


def test_tables_and_rows_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"got neighbours.shape=\(3, 2\), scores.shape=\(3, 1\)"):
        sa.ItemSimilarity(torch.ones(3, 2, dtype=torch.int64), torch.ones(3, 1))
    with pytest.raises(TypeError, match="got neighbours.dtype=torch.float32"):
        sa.ItemSimilarity(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(TypeError, match="rows must be the ids of each user.*got rows=5"):
        sa.ItemSimilarity.from_sequences(5, 3)
