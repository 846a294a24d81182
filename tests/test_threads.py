"""What does not depend on the number of threads: draws to the bit, losses and gradients but for the order of sums."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from catalogue import EVERYTHING, Layout, make_batch, sample
from torch import Tensor, nn

import seqaug as sa

LENGTHS = [number % 51 for number in range(1500)]  # enough slots for torch to share the work out
CATALOG = slice(1, 4001)
LOSSES = {
    "ice": sa.ICELoss(catalog=CATALOG),
    "ice, flash": sa.ICELoss(catalog=CATALOG, backend="flash"),
    "focal": sa.SoftmaxFocalLoss(catalog=CATALOG),
    "bce": sa.BCELoss(),
    "sampled": sa.SampledSoftmaxLoss(),
    "sce": sa.SCELoss(catalog=CATALOG),
    "rece": sa.RECELoss(catalog=CATALOG),
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", EVERYTHING)
def test_draws_are_the_same_to_the_bit(name: str) -> None:
    batch = make_batch(Layout(), LENGTHS, 50, seed=5)
    edits = []
    for count in (1, 3):
        torch.set_num_threads(count)
        edits.append(sample(EVERYTHING[name](batch.layout), batch, seed=2))
    one, other = edits
    for part in ("source", "replaced", "rate"):
        assert torch.equal(getattr(one, part), getattr(other, part)), part


@pytest.mark.parametrize("name", LOSSES)
def test_losses_differ_by_rounding_only(name: str) -> None:
    loss: nn.Module = LOSSES[name]
    g = torch.Generator().manual_seed(0)
    hidden, table = torch.randn(30, 20, 32, generator=g), 0.3 * torch.randn(4002, 32, generator=g)
    target = torch.randint(0, 4001, (30, 20), generator=g)
    drawn = {"negatives": torch.randint(1, 4001, (30, 20, 50), generator=g)} if loss.needs_negatives else {}

    def run(count: int) -> tuple[Tensor, ...]:
        torch.set_num_threads(count)
        torch.manual_seed(1)  # SCE and RECE draw directions
        leaves = hidden.clone().requires_grad_(), table.clone().requires_grad_()
        value = loss(*leaves, target, **drawn)
        return value.detach(), *torch.autograd.grad(value, leaves)

    for one, other in zip(run(1), run(3), strict=True):
        assert (one - other).norm() <= 1e-6 * one.norm()
