"""What an encoder must not do: look ahead, see padding, or notice that a batch was trimmed."""

import pytest
import torch

from recsys.encoders import ENCODERS, item_table

LENGTHS = (1, 2, 5, 7, 3)


@pytest.fixture(params=sorted(ENCODERS))
def encoder(request):
    torch.manual_seed(0)
    return ENCODERS[request.param](num_items=31, dim=8, layers=2, heads=2, length=11).eval()


def batch(slots):
    items = torch.zeros(len(LENGTHS), slots, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        items[row, slots - length :] = torch.randint(
            1, 32, (length,), generator=torch.Generator().manual_seed(row)
        )
    return items


def states(encoder, items, vectors=None):
    return encoder(encoder.item_embedding(items) if vectors is None else vectors, items > 0)


def test_trimming_changes_nothing(encoder):
    whole, trimmed = batch(11), batch(7)
    torch.testing.assert_close(
        states(encoder, whole)[:, 4:][trimmed > 0], states(encoder, trimmed)[trimmed > 0]
    )


def test_other_rows_do_not_matter(encoder):
    items = batch(7)
    together = states(encoder, items)
    for row, length in enumerate(LENGTHS):
        alone = states(encoder, items[row : row + 1, 7 - length :])
        torch.testing.assert_close(together[row, 7 - length :], alone[0])


def test_no_slot_sees_a_later_one(encoder):
    items = batch(7)
    vectors = encoder.item_embedding(items).detach().requires_grad_()
    direction = torch.linspace(-1, 1, 8)  # not the sum, which a norm keeps constant
    for slot in range(7):
        hidden = states(encoder, items, vectors)
        (slope,) = torch.autograd.grad((hidden[:, slot][items[:, slot] > 0] @ direction).sum(), vectors)
        assert slope[:, slot + 1 :].abs().sum() == 0
        assert slope[3, : slot + 1].abs().sum(-1).gt(0).all()  # the full row: every earlier slot counts


def test_padding_is_not_seen(encoder):
    items = batch(7)
    vectors = encoder.item_embedding(items).detach()
    noisy = torch.where((items > 0)[..., None], vectors, torch.randn_like(vectors))
    torch.testing.assert_close(
        states(encoder, items, noisy)[items > 0], states(encoder, items, vectors)[items > 0]
    )


def test_gradients_are_finite_in_training(encoder):
    items = batch(11)
    states(encoder.train(), items)[items > 0].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in encoder.parameters())


def test_table_has_rows_for_padding_and_mask():
    table = item_table(31, 8)
    assert table.weight.shape == (33, 8)
    assert table.weight[0].eq(0).all() and table.weight[32].ne(0).any()
