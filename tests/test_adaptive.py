"""What AdaptivePolicy learns: which operator helps rows of which length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import seqaug as sa


def policy(**options: object) -> sa.AdaptivePolicy:
    return sa.AdaptivePolicy(
        [sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99), sa.Reorder(0.5, 0.5)], buckets=(3,), **options
    )


def rows(*lengths: int) -> Tensor:
    return sa.pad_sequences([list(range(1, length + 1)) for length in lengths], length=8)


def test_each_bucket_learns_its_own_best_operator() -> None:
    learner, items = policy(warmup=0, floor=0.3), rows(*[2] * 128, *[7] * 128)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        edit = learner.sample(items, generator=generator)
        best = torch.where(sa.lengths(items) <= 3, 1, 2)
        noise = torch.randn(len(items), generator=generator)
        learner.update(edit, 5.0 + (edit.choice == best).float() + noise)
    weights = learner.weights
    assert weights.argmax(1).tolist() == [1, 2]
    assert torch.allclose(weights.sum(1), torch.ones(2))
    assert float(weights.min()) >= 0.3 / 3 - 1e-6


def test_draws_follow_the_weights() -> None:
    learner = policy(warmup=0, floor=0.0, temperature=1.0)
    learner.value.copy_(torch.tensor([[0.0, 1.0, 2.0], [2.0, 0.0, 0.0]]))
    items = rows(*[1] * 20_000, *[8] * 20_000)
    choice = learner.sample(items, generator=torch.Generator().manual_seed(0)).choice
    assert choice is not None
    for bucket, part in enumerate(choice.split(20_000)):
        share = torch.bincount(part, minlength=3) / 20_000
        assert torch.allclose(share, learner.weights[bucket], atol=0.02)


def test_a_bucket_met_late_starts_from_its_own_rewards() -> None:
    learner = policy(warmup=0)
    learner.update(learner.sample(rows(*[2] * 64)), torch.zeros(64))
    reward = torch.randn(256, generator=torch.Generator().manual_seed(0)) + 5.0
    learner.update(learner.sample(rows(*[7] * 256), generator=torch.Generator().manual_seed(0)), reward)
    assert learner.mean[1].item() == pytest.approx(reward.mean().item(), abs=1e-4)
    assert learner.deviation[1].item() == pytest.approx(
        (reward - reward.mean()).abs().mean().item(), abs=1e-3
    )
    assert learner.value[1].abs().max() < 0.1


def test_warm_up_is_uniform_and_rewards_that_are_no_numbers_are_passed_over() -> None:
    learner, items = policy(warmup=2), rows(*[2] * 64)
    edit = learner.sample(items)
    learner.update(edit, torch.where(edit.choice == 0, torch.inf, 1.0))
    assert torch.equal(learner.weights, torch.full((2, 3), 1 / 3))
    learner.update(edit, torch.full((64,), torch.nan))
    assert learner.weights.isfinite().all() and learner.value.isfinite().all()


def test_what_was_learned_is_saved_and_goes_with_the_edit() -> None:
    learner, items = policy(warmup=0), rows(2, 7)
    learner.update(learner.sample(items), torch.tensor([1.0, 0.0]))
    other = policy(warmup=0)
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.weights, learner.weights)
    moved = learner.sample(items).to("meta")
    assert moved.bucket is not None and moved.bucket.device.type == "meta"


def test_refuses_edits_of_others_and_rewards_of_another_length() -> None:
    learner, items = policy(), rows(2, 7)
    with pytest.raises(TypeError, match="got Edit"):
        learner.update(sa.Crop(0.5, 0.5).sample(items), torch.zeros(2))
    with pytest.raises(ValueError, match=r"reward.shape=\(3,\)"):
        learner.update(learner.sample(items), torch.zeros(3))


@pytest.mark.parametrize("base", [0.0, 0.3, 1000.0, -1e20])
def test_equal_rewards_favour_nothing(base: float) -> None:
    """Not even where sums of them are rounded."""
    learner = policy(warmup=0)
    for seed in range(30):
        edit = learner.sample(rows(*[2] * 63, 7), generator=torch.Generator().manual_seed(seed))
        learner.update(edit, torch.full((64,), base))
    torch.testing.assert_close(learner.weights, torch.full((2, 3), 1 / 3), rtol=0, atol=0.01)


def test_one_row_of_a_bucket_per_batch_says_little() -> None:
    """A bucket that has one row in each batch neither takes it for the truth nor never learns from it."""
    generator = torch.Generator().manual_seed(0)
    learner, helpful = policy(warmup=0), policy(warmup=0)
    for _ in range(300):
        edit = learner.sample(rows(*[2] * 63, 7), generator=generator)
        noise = torch.randn(64, generator=generator)
        learner.update(edit, noise)
        edit = helpful.sample(rows(*[2] * 63, 7), generator=generator)
        helpful.update(edit, 0.1 * noise + (edit.choice == 1))
    assert learner.value.abs().max() < 1.5
    assert helpful.weights[1].argmax() == 1 and helpful.weights[0, 1] > 0.8


def test_a_small_difference_on_large_rewards_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    for options in ({"enabled": False}, {"enabled": True, "dtype": torch.bfloat16}):
        learner = policy(warmup=0)
        with torch.autocast("cpu", **options):
            for _ in range(60):
                edit = learner.sample(rows(*[2] * 256), generator=generator)
                learner.update(
                    edit, 100 + 0.01 * (torch.randn(256, generator=generator) + 2 * (edit.choice == 1))
                )
        assert learner.weights[0, 1] > 0.8


def test_rewards_that_are_no_numbers_are_no_warm_up_and_no_end() -> None:
    learner = policy(warmup=1)
    edit = learner.sample(rows(*[2] * 64))
    for _ in range(3):
        learner.update(edit, torch.full((64,), torch.nan))
    assert learner.updates == 0
    learner.update(edit, torch.where(edit.choice == 0, 1e25, -1e25))
    assert learner.weights.isfinite().all() and learner.weights[0].argmax() == 0


def test_rewards_without_measure_do_no_harm() -> None:
    learner, items = policy(warmup=0), rows(*[2] * 64)
    for reward in (1e38, -1e38, 3e38):
        learner.update(learner.sample(items), torch.full((64,), reward))
        assert bool(learner.weights.isfinite().all())
    for seed in range(100):
        edit = learner.sample(items, generator=torch.Generator().manual_seed(seed))
        assert edit.choice is not None
        learner.update(edit, (edit.choice == 1).float())
    assert bool(learner.weights.isfinite().all())


def test_a_momentum_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum must be below 1, got momentum=1.0"):
        policy(momentum=1.0)


def test_an_edit_of_a_larger_policy_is_refused() -> None:
    small = sa.AdaptivePolicy([sa.Crop(0.1, 0.2)] * 2)
    other = sa.AdaptivePolicy([sa.Crop(0.1, 0.2)] * 4)
    edit = other.sample(torch.ones(400, 2, dtype=torch.long), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="this policy of 2 operators and 5 buckets"):
        small.update(edit, torch.ones(400))
    assert not small.seen.any()
