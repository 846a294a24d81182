"""What is unique to a system: made-up items, diffusion, rows with the same target."""

import math

import pytest
import torch
from torch.nn import functional as F

import seqaug as sa
from recsys.batches import Batch
from recsys.datasets import Dataset, held_out, training_pairs
from recsys.encoders import SASRec
from recsys.next_item import NextItem, expected_targets, similar_items
from recsys.recommender import Data
from recsys.settings import Settings
from recsys.shop import generate
from systems import contrast
from systems.asrep import SHORT, earlier_items, reversed_rows
from systems.coserec import CoSeRec
from systems.diffuasr import GUIDE, MADE, around, nearest_items, train_diffusion, unit_variance
from systems.diffusion import STEPS, Diffusion
from systems.duorec import SameTarget
from systems.made_up import best_new, make_up

SHOP = generate(users=200, items=300, families=60)


def all_new(made, rows):
    return all(len({*new, *row}) == len(new) + len(set(row)) for new, row in zip(made, rows, strict=True))


def test_best_new_passes_over_what_is_taken():
    scores = torch.tensor([[5.0, 4.0, 3.0], [1.0, 2.0, 3.0]])
    assert best_new(scores, torch.tensor([[1, 0], [3, 2]])).tolist() == [2, 1]


def test_reversed_rows_end_with_the_earliest_item():
    data = Dataset("tiny", [[1, 2, 3, 4, 5, 6], [6, 5, 4]], 6, ["a", "b"], list("uvwxyz"))
    backwards = reversed_rows(data)
    assert backwards.rows == [[4, 3, 2, 1]] and backwards.users == ["a"]  # no validation or test item
    items, target = training_pairs(backwards, 4)
    assert items.tolist() == [[0, 0, 4, 3]] and target.tolist() == [[0, 0, 3, 2]]
    held = held_out(backwards, "validation", 4)
    assert held.items.tolist() == [[0, 4, 3, 2]] and held.target.tolist() == [1]


def test_earlier_items_never_repeat(tmp_path):
    torch.manual_seed(0)
    encoder = SASRec(SHOP.num_items, 16, 1, 1, 12).eval()
    rows = SHOP.training_rows()
    made = make_up(
        rows, lambda batch: earlier_items(encoder, batch, 15, 12), tmp_path / "made", shorter_than=SHORT
    )
    assert [len(new) for new in made] == [15 if len(row) < SHORT else 0 for row in rows]
    assert all_new(made, rows)
    again = make_up(rows, lambda batch: batch.new_tensor(math.nan), tmp_path / "made")  # not called
    assert again == made


def test_earlier_items_are_the_best_one_after_the_other():
    torch.manual_seed(0)
    encoder = SASRec(30, 16, 1, 1, 12).eval()
    row = [3, 7, 11]
    (made,) = earlier_items(encoder, torch.tensor([row + [0, 0]]), 4, 12).tolist()  # oldest first
    for number in range(len(made)):
        known = [*made[number + 1 :], *row]
        ids = torch.tensor([known[::-1]])
        state = encoder(encoder.item_embedding(ids), ids > 0)[0, -1]
        scores = encoder.item_embedding.weight[1:-1] @ state
        scores[torch.tensor(known) - 1] = -math.inf
        assert made[number] == 1 + int(scores.argmax())


@pytest.mark.parametrize("score_made", [False, True])
def test_made_up_items_are_read_but_not_seen_nor_asked_for(score_made):
    plain = Dataset("tiny", [[1, 2, 3, 4, 5], [6, 5, 4]], 9, ["a", "b"], list("abcdefghi"))
    data = plain.preceded_by([[7, 8], [9]], score_made=score_made)
    items, target = training_pairs(data, 6)
    if score_made:
        assert items.tolist() == [[0, 0, 7, 8, 1, 2], [0, 0, 0, 0, 0, 9]]
        assert target.tolist() == [[0, 0, 8, 1, 2, 3], [0, 0, 0, 0, 0, 6]]
    else:
        assert items.tolist() == [[0, 0, 7, 8, 1, 2]] and target.tolist() == [[0, 0, 0, 0, 2, 3]]
        assert target[target > 0].tolist() == [t for t in training_pairs(plain, 6)[1].flatten().tolist() if t]
        settings = Settings(batch_size=1, max_length=6)
        assert expected_targets(data, settings) == expected_targets(plain, settings) == 2
    held, before = held_out(data, "test", 6), held_out(plain, "test", 6)
    assert held.items.tolist() == [[7, 8, 1, 2, 3, 4], [0, 0, 0, 9, 6, 5]]
    assert torch.equal(held.seen, before.seen) and torch.equal(held.target, before.target)


def test_made_up_items_carry_no_loss():
    """Hidden states there get no gradient, whatever the loss."""
    data = SHOP.preceded_by([[1, 2, 3]] * 200)
    items, target = training_pairs(data, 50)
    for loss in ("ice", "bce", "ce", "gbce"):
        settings = Settings(loss=loss, max_length=50, dim=16)
        objective, encoder = NextItem(data, settings), SASRec(data.num_items, 16, 1, 1, 50)
        batch = next(iter(Data(data, settings).train_dataloader()))
        hidden = encoder(encoder.item_embedding(batch.items), batch.items > 0).detach().requires_grad_()
        objective.score(encoder, hidden, batch, None).backward()
        real = batch.items > 0
        position = real.cumsum(1)
        assert (hidden.grad[real & (position <= 3)] == 0).all()
        scored = (real & (position > 3)) if loss != "ce" else torch.zeros_like(real)
        scored[:, -1] = True
        assert (hidden.grad[scored].abs().sum(1) > 0).all()
    assert items.shape == target.shape


def test_the_forward_process_has_the_right_mean_and_variance():
    torch.manual_seed(0)
    model = Diffusion(10, 10, 8)
    betas = [1e-4 + (0.02 - 1e-4) * step / 999 for step in range(1000)]
    x = torch.full((20000, 10, 8), 3.0)
    for step in (0, 100, 500, 999):
        kept = math.prod(1 - beta for beta in betas[: step + 1])
        noisy = model.noisy(x, torch.full((len(x),), step), torch.randn_like(x))
        assert noisy.mean().item() == pytest.approx(3 * math.sqrt(kept), abs=5e-3)
        assert noisy.var().item() == pytest.approx(1 - kept, rel=5e-3)
    assert len(model.kept) == STEPS and model.kept[-1] < 1e-4  # nothing is left of x at the end


def test_one_step_of_noise_after_the_other_is_the_same():
    """q(x_t | x_0) is t steps of x <- sqrt(1 - beta) x + sqrt(beta) noise."""
    torch.manual_seed(0)
    model = Diffusion(2, 2, 8)
    x = torch.full((50000,), 2.0, dtype=torch.float64)
    for step in range(50):
        beta = 1e-4 + (0.02 - 1e-4) * step / 999
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * torch.randn_like(x)
    kept = model.kept[49].item()
    assert x.mean().item() == pytest.approx(2 * math.sqrt(kept), abs=3e-3)
    assert x.var().item() == pytest.approx(1 - kept, rel=0.03)


def test_a_network_that_names_the_noise_exactly_gives_back_the_vectors():
    """Sampling with the true noise of a single possible sample ends at that sample."""
    torch.manual_seed(0)
    model, truth = Diffusion(3, 2, 4), torch.randn(3, 4)

    def exact(x, real, step, guide, seen):
        kept = model.kept[step[0]]
        return (x - kept.sqrt() * truth) / (1 - kept).sqrt()

    model.forward = exact
    sampled = model.sample(torch.zeros(5, 2, 4), torch.ones(5, 2, dtype=torch.bool))
    assert torch.allclose(sampled, truth.expand(5, -1, -1), atol=1e-3)


def test_padded_slots_and_hidden_guides_change_nothing():
    torch.manual_seed(0)
    model = Diffusion(4, 3, 8).eval()
    x, guide = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
    real = torch.tensor([[False, False, True, True]] * 2)
    seen = torch.tensor([[True, False, False]] * 2)
    step = torch.tensor([10, 500])
    named = model(x, real, step, guide, seen)[real]
    x[~real], guide[~seen] = 100.0, -100.0
    assert torch.allclose(model(x, real, step, guide, seen)[real], named, atol=1e-5)


def test_around_a_place():
    items = torch.tensor([[1, 2, 3, 4, 0], [5, 6, 0, 0, 0]])
    before, after = around(items, torch.tensor([3, 1]))
    assert before.tolist() == [[0] * (MADE - 3) + [1, 2, 3], [0] * (MADE - 1) + [5]]
    assert after.tolist() == [[4] + [0] * (GUIDE - 1), [6] + [0] * (GUIDE - 1)]


def test_rounding_takes_the_nearest_new_item(tmp_path):
    vectors = F.pad(torch.eye(5), (0, 0, 1, 1))  # items 1..5
    sampled = torch.stack([vectors[4] * 3, vectors[2] + 0.4 * vectors[3], vectors[2] * 0.1])[None]
    assert nearest_items(sampled, vectors, torch.tensor([[5, 0]])).tolist() == [[4, 3, 2]]
    assert nearest_items(sampled, vectors, torch.tensor([[2, 0]]))[0, :2].tolist() == [4, 3]
    torch.manual_seed(0)
    table = torch.randn(302, 8)
    rows = SHOP.training_rows()
    made = make_up(
        rows, lambda known: nearest_items(torch.randn(len(known), 10, 8), table, known), tmp_path / "made"
    )
    assert all_new(made, rows) and all(len(new) == 10 for new in made)


def test_the_diffusion_learns_and_continues(tmp_path):
    torch.manual_seed(0)
    vectors = unit_variance(torch.randn(SHOP.num_items + 2, 16))
    catalog = vectors[1:-1]
    assert torch.allclose(catalog.std(0), torch.ones(16), atol=1e-5) and vectors[0].abs().sum() == 0
    rows = SHOP.training_rows()
    _, first = train_diffusion(vectors, rows, Settings(epochs=1), tmp_path / "a.ckpt", quiet=True)
    model, last = train_diffusion(vectors, rows, Settings(epochs=30), tmp_path / "b.ckpt", quiet=True)
    assert last["loss"] < 0.9 * first["loss"] and last["epochs"] == 30
    finished = torch.load(tmp_path / "b.ckpt", weights_only=True)
    assert torch.equal(finished["model"]["into.weight"], model.state_dict()["into.weight"])
    again, facts = train_diffusion(vectors, rows, Settings(epochs=30), tmp_path / "b.ckpt", quiet=True)
    assert facts == last and torch.equal(again.into.weight, model.into.weight)


def test_same_target_pairs_share_the_target():
    items, target = training_pairs(SHOP, 50)
    same = SameTarget(items, target)
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(len(items)).repeat(20)
    luck = torch.rand(2, len(rows), generator=generator)
    back = (luck[0] * (target[rows] > 0).sum(1)).long()
    row, slot = same.partner(rows, back, luck[1])
    own = target[rows, 49 - back]
    assert (own > 0).all() and torch.equal(target[row, slot], own)
    alone = torch.bincount(target.flatten())[own] == 1
    itself = (row == rows) & (slot == 49 - back)
    assert torch.equal(itself, alone) and not alone.all()

    prefixes = same.sample(rows, back, luck[1])
    for number in range(0, len(rows), 97):
        until = items[row[number], : slot[number] + 1]
        assert prefixes[number][prefixes[number] > 0].tolist() == until[until > 0].tolist()
    assert (prefixes[:, -1] > 0).all()


def test_same_target_partners_are_each_as_likely():
    items = torch.tensor([[1, 2], [3, 2], [4, 2], [0, 5]])
    target = torch.tensor([[2, 9], [2, 8], [2, 7], [0, 2]])
    same = SameTarget(items, target)
    luck = torch.rand(3000, generator=torch.Generator().manual_seed(0))
    row, slot = same.partner(torch.ones(3000, dtype=torch.int64), torch.ones(3000, dtype=torch.int64), luck)
    assert set(zip(row.tolist(), slot.tolist(), strict=True)) == {(0, 0), (2, 0), (3, 1)}
    assert torch.bincount(row).tolist()[0] == pytest.approx(1000, abs=100)


def test_views_have_room_for_items_that_are_put_in(monkeypatch):
    """Batches are trimmed to their longest row: there every inserted item would push out the oldest."""
    settings = Settings(system="coserec", loss="bce", max_length=12, dim=16, cosine=0.0)
    objective = CoSeRec(SHOP, settings)
    encoder = SASRec(SHOP.num_items, 16, 1, 1, 12)
    items = torch.tensor([[3, 7], [5, 9], [11, 2]])
    read = []
    monkeypatch.setattr(contrast, "last_states", lambda encoder, ids: read.append(ids) or torch.randn(6, 16))
    objective.policy = sa.Insert(0.9, 0.9, similar_items(SHOP))
    objective(encoder, Batch(torch.arange(3), items, items.flip(1)))
    assert ((read[0] > 0).sum(1) == 3).all()
    kept = [
        set(before) <= set(after) for before, after in zip(items.tolist() * 2, read[0].tolist(), strict=True)
    ]
    assert all(kept)
