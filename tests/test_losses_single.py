"""What losses lose in float32, bfloat16 and float16: against the formula in float64, and against torch's cross-entropy."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqaug.losses import ICELoss, InfoNCELoss, RECELoss, SCELoss
from seqaug.losses._base import ItemLoss
from seqaug.soft_target import SoftTarget

ROWS, STEPS, FEATURES, ITEMS = 5, 7, 11, 131
CATALOG = slice(1, ITEMS + 1)
KINDS = ("ids", "soft", "vectors")


class Case:
    """A padded batch in some dtype; formulas read the same rounded numbers in float64."""

    def __init__(self, dtype: torch.dtype) -> None:
        g = torch.Generator().manual_seed(7)
        self.hidden = torch.randn(ROWS, STEPS, FEATURES, generator=g).to(dtype)
        self.table = torch.randn(ITEMS + 2, FEATURES, generator=g).to(dtype)
        self.vectors = torch.randn(ROWS, STEPS, FEATURES, generator=g).to(dtype)
        self.lam = torch.rand(ROWS, 1, generator=g)
        self.real = torch.arange(STEPS) >= STEPS - torch.tensor([0, 1, 3, 6, 7])[:, None]
        self.ids, self.other = (
            torch.randint(1, ITEMS + 1, (ROWS, STEPS), generator=g) * self.real for _ in range(2)
        )

    def target(self, kind: str) -> Tensor | SoftTarget:
        soft = SoftTarget(self.ids, self.other, self.lam)
        return {"ids": self.ids, "soft": soft, "vectors": self.vectors}[kind]


def over_kinds(case: Case, kind: str, near: list[list[dict[int, float]]]) -> Tensor:
    """Loss of each real token in float64: the largest, over its groups of items with their counts, of the softmax."""
    states, table = case.hidden[case.real].double(), case.table.double()

    def one(token: int, score: Tensor, own: int | None) -> Tensor:
        values = [score.new_zeros(())]
        for group in near[token]:
            logits = [
                table[item] @ states[token] - math.log(count) for item, count in group.items() if item != own
            ]
            values.append(torch.stack([score, *logits]).logsumexp(0) - score)
        return torch.stack(values).max()

    def of_ids(ids: Tensor) -> Tensor:
        own = ids[case.real].tolist()
        return torch.stack([one(t, table[i] @ states[t], i) for t, i in enumerate(own)])

    if kind == "vectors":
        vectors = case.vectors[case.real].double()
        return torch.stack([one(t, vectors[t] @ states[t], None) for t in range(len(states))])
    if kind == "ids":
        return of_ids(case.ids)
    lam = case.lam.expand(ROWS, STEPS)[case.real].double()
    return lam * of_ids(case.ids) + (1 - lam) * of_ids(case.other)


def close(found: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    """Within 1e-6 of the largest value in float32, 1e-12 in float64."""
    limit = 1e-6 if dtype == torch.float32 else 1e-12
    assert found.dtype == dtype and want.abs().max() > 0
    assert (found.double() - want).abs().max() <= limit * want.abs().max()


def check_reductions(make: type[ItemLoss], case: Case, kind: str, want: Tensor, **settings: object) -> None:
    """`want` is drawn anew by the same seed for each reduction."""
    lengths = case.real.sum(1)
    whole = torch.zeros(ROWS, STEPS, dtype=torch.float64).masked_scatter(case.real, want)
    right = {
        "none": whole,
        "sum": want.sum(),
        "token": want.mean(),
        "row": (whole.sum(1) / lengths.clamp_min(1)).sum() / (lengths > 0).sum(),
    }
    for reduction, value in right.items():
        torch.manual_seed(3)
        loss = make(reduction=reduction, **settings)
        found = loss(case.hidden, case.table, case.target(kind), valid=case.real)
        close(found, value, case.hidden.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mix", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_sce_is_its_formula(kind: str, mix: bool, dtype: torch.dtype) -> None:
    case = Case(dtype)
    states = case.hidden[case.real]
    torch.manual_seed(3)
    directions = (
        torch.randn(6, len(states), dtype=dtype) @ states if mix else torch.randn(6, FEATURES, dtype=dtype)
    )
    near: list[list[dict[int, float]]] = [[] for _ in states]
    for direction in directions:
        items = (case.table[CATALOG] @ direction).argsort(descending=True)[:9] + 1
        for token in (states @ direction).argsort(descending=True)[:5].tolist():
            near[token].append(dict.fromkeys(items.tolist(), 1.0))
    assert 0 < sum(not groups for groups in near) < len(near)  # tokens in no bucket, too
    settings = {"catalog": CATALOG, "buckets": 6, "tokens_per_bucket": 5, "items_per_bucket": 9, "mix": mix}
    check_reductions(SCELoss, case, kind, over_kinds(case, kind, near), **settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("chunks", "neighbours", "rounds"), [(7, 1, 1), (7, 1, 3), (5, 0, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_rece_is_its_formula(
    kind: str, chunks: int, neighbours: int, rounds: int, dtype: torch.dtype
) -> None:
    case = Case(dtype)
    states, items = case.hidden[case.real], case.table[CATALOG]
    torch.manual_seed(3)
    seen: list[dict[int, float]] = [{} for _ in states]
    for _ in range(rounds):
        directions = torch.randn(FEATURES, chunks, dtype=dtype)
        places = []
        for vectors in (states, items):
            buckets_of = (vectors @ directions).argmax(1).tolist()
            order = sorted(range(len(vectors)), key=lambda i, b=buckets_of: (b[i], i))
            size = math.ceil(len(vectors) / chunks)
            places.append({entry: rank // size for rank, entry in enumerate(order)})
        for token in range(len(states)):
            for item in range(ITEMS):
                gap = (places[1][item] - places[0][token]) % chunks
                if min(gap, chunks - gap) <= neighbours:
                    seen[token][item + 1] = seen[token].get(item + 1, 0.0) + 1.0
    # An item seen n times counts exp(s) / n each time: once in all.
    near = [[dict.fromkeys(items_seen, 1.0)] for items_seen in seen]
    if rounds > 1:
        assert any(count > 1 for items_seen in seen for count in items_seen.values())
    settings = {"catalog": CATALOG, "chunks": chunks, "neighbours": neighbours, "rounds": rounds}
    check_reductions(RECELoss, case, kind, over_kinds(case, kind, near), **settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_info_nce_is_its_formula(temperature: float, dtype: torch.dtype) -> None:
    """Vectors are the only kind of target two views have."""
    case = Case(dtype)
    both = torch.cat([case.hidden[case.real], case.vectors[case.real]]).double()
    logits = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    pairs = len(both) // 2
    nll = logits.logsumexp(1) - logits.roll(-pairs, 1).diagonal()
    check_reductions(InfoNCELoss, case, "vectors", nll.reshape(2, pairs).mean(0), temperature=temperature)


@pytest.mark.parametrize("backend", ["chunked", "flash"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("hidden_scale", "table_scale"), [(0.3, 0.3), (1.0, 0.5), (3.0, 1.0)])
def test_low_precision_is_no_worse_than_cross_entropy(
    hidden_scale: float, table_scale: float, dtype: torch.dtype, autocast: bool, backend: str
) -> None:
    """Value and gradients, over five draws: our error from float64 against that of whole logits in the same dtype."""
    errors: dict[str, list[list[float]]] = {"ours": [], "torch's": []}
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        hidden = hidden_scale * torch.randn(257, 32, generator=g)
        table = table_scale * torch.randn(1531, 32, generator=g)
        ids = torch.randint(1, 1530, (257,), generator=g)
        exact = [x.to(dtype).double().requires_grad_() for x in (hidden, table)]
        want = F.cross_entropy(exact[0] @ exact[1].T, ids)
        right = torch.autograd.grad(want, exact)
        # Under autocast the leaves are float32 and hold the same rounded numbers.
        leaves = [
            x.to(dtype).to(torch.float32 if autocast else dtype).requires_grad_() for x in (hidden, table)
        ]
        losses = {
            "ours": ICELoss(catalog=slice(0, 1531), backend=backend),
            "torch's": lambda h, e, y: F.cross_entropy(h @ e.t(), y),
        }
        for name, loss in losses.items():
            with torch.autocast("cpu", dtype=dtype) if autocast else nullcontext():
                value = loss(*leaves, ids)
            grads = torch.autograd.grad(value, leaves)
            found = [(value.double() - want).abs().item()]
            found += [(one.double() - two).norm().item() for one, two in zip(grads, right, strict=True)]
            errors[name].append(found)
    for ours, usual in zip(
        zip(*errors["ours"], strict=True), zip(*errors["torch's"], strict=True), strict=True
    ):
        assert sum(ours) <= sum(usual)
