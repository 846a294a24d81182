"""What an encoder must not do: look ahead, see padding, or notice that a batch was trimmed."""

import copy

import pytest
import torch

from recsys import encoders
from recsys.average import Average
from recsys.encoders import ENCODERS, Cosine, SASRec, item_table, item_vectors

LENGTHS = (1, 2, 5, 7, 3)


@pytest.fixture(params=[*sorted(ENCODERS), "cosine"])
def encoder(request):
    torch.manual_seed(0)
    plain = ENCODERS.get(request.param, SASRec)(num_items=31, dim=8, layers=2, heads=2, length=11)
    return (Cosine(plain, 0.1) if request.param == "cosine" else plain).eval()


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


@pytest.mark.parametrize("newest", [None, 1, 3])
def test_rows_of_like_length_are_encoded_together(encoder, newest, monkeypatch):
    """However many groups they make, and with rows that are empty among them: the same states of real slots."""
    items = torch.nn.functional.pad(batch(11), (0, 0, 1, 0))
    vectors = encoder.item_embedding(items)
    seen = []
    plain = encoder.encoder if isinstance(encoder, Cosine) else encoder
    encode = plain._encode
    monkeypatch.setattr(plain, "_encode", lambda x, valid, n: seen.append(x.shape[:2]) or encode(x, valid, n))
    found = []
    for cost in (0, 10**9):
        monkeypatch.setattr(encoders, "COST_OF_A_GROUP", cost)
        found.append(encoder(vectors, items > 0, newest))
    assert len(seen) > 2 and max(seen) != seen[0] and seen[-1] == (6, 7)
    slots = slice(None) if newest is None else slice(-newest, None)
    real = items[:, slots] > 0
    torch.testing.assert_close(found[0][real], found[1][real])
    assert found[0].shape == found[1].shape == (*items[:, slots].shape, 8)


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


@pytest.mark.parametrize("newest", [1, 3, 7, 20])
def test_the_newest_states_are_those_of_the_whole_row(encoder, newest):
    items = batch(7)
    vectors = encoder.item_embedding(items).detach().requires_grad_()
    found = encoder(vectors, items > 0, newest=newest)
    wanted = states(encoder, items, vectors)[:, -newest:]
    direction, slopes = torch.linspace(-1, 1, 8), []
    for hidden in (found, wanted):
        torch.testing.assert_close(hidden, wanted)
        slopes += torch.autograd.grad((hidden[:, -1] @ direction).sum(), vectors)
    torch.testing.assert_close(slopes[0], slopes[1])


def test_the_average_is_of_all_weights_so_far(encoder):
    average = Average(encoder, decay=0.5)
    first, second, third = (torch.full((8,), value) for value in (1.0, 5.0, 7.0))
    name, weight = next(iter(encoder.named_parameters()))
    mean = average.encoder.get_parameter(name)
    with torch.no_grad():
        before = mean.clone()
        weight.copy_(first.expand_as(weight))
        average.update(encoder)  # decay 2 / 11, then 3 / 12, then 4 / 13
        torch.testing.assert_close(mean, 2 / 11 * before + 9 / 11 * weight)
        one = mean.clone()
        weight.copy_(second.expand_as(weight))
        average.update(encoder)
        torch.testing.assert_close(mean, 0.25 * one + 0.75 * weight)
        average.steps.fill_(1000)
        two = mean.clone()
        weight.copy_(third.expand_as(weight))
        average.update(encoder)
        torch.testing.assert_close(mean, 0.5 * two + 0.5 * weight)
    assert not any(weight.requires_grad for weight in average.parameters())


def test_gradients_are_finite_in_training(encoder):
    items = batch(11)
    states(encoder.train(), items)[items > 0].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in encoder.parameters())


def test_scores_are_cosines_over_the_temperature():
    torch.manual_seed(0)
    plain = SASRec(num_items=31, dim=8, layers=1, heads=2, length=7).eval()
    encoder, items = Cosine(copy.deepcopy(plain), 0.2), batch(7)
    scores = states(encoder, items)[:, -1] @ encoder.item_embedding.weight.T
    directions = torch.nn.functional.normalize(plain.item_embedding.weight, dim=-1)
    hidden = plain(directions[items], items > 0)[:, -1]
    wanted = torch.cosine_similarity(hidden[:, None], plain.item_embedding.weight[None], dim=-1) / 0.2
    torch.testing.assert_close(scores, wanted)
    assert scores[:, 0].eq(0).all()  # padding has no direction


def test_table_has_rows_for_padding_and_mask():
    table = item_table(31, 8)
    assert table.weight.shape == (33, 8)
    assert table.weight[0].eq(0).all() and table.weight[32].ne(0).any()


def test_item_vectors_are_found_among_the_weights(encoder):
    assert torch.equal(item_vectors(encoder.state_dict()), encoder.item_embedding.weight)
