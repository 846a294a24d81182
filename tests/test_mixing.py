"""MixupOp and CrossMixup: mixing weights, what is mixed with what, and what a loss makes of it."""

from __future__ import annotations

import copy
import math
import pickle
import statistics
from collections import Counter

import pytest
import torch
from catalogue import EVERYTHING, Batch, Layout, V, batches, make_batch, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import seqaug as sa
from seqaug.mixup import mix_weight
from seqaug.noise import draw_beta

P = 1e-3
DIM = 4
WEIGHTINGS = ("batch_sum", "row", "mean_one", "none")
alphas = st.sampled_from([0.01, 0.4, 1.0, 50.0])


def embedding(seed: int = 0) -> nn.Embedding:
    torch.manual_seed(seed)
    return nn.Embedding(V + 2, DIM)


def look_up(batch: Batch, table: nn.Embedding, ids: Tensor) -> Tensor:
    """Vectors also for pad ids that are not in the table."""
    return table(torch.where(ids == -1, 0, ids))


# ---- lambda


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.4, 1.0, 3.0, 1000.0])
def test_lam_is_beta_distributed(alpha: float) -> None:
    lam = draw_beta(alpha, (20_000,), torch.device("cpu"), torch.Generator().manual_seed(1)).double().numpy()
    assert ((lam >= 0) & (lam <= 1)).all()
    # float32 rounds what is closer to 0 than 1e-38 or to 1 than 6e-8, so the ends are compared as one piece.
    ends = [(lam < 1e-6).mean(), (lam > 1 - 1e-6).mean()]
    end = stats.beta.cdf(1e-6, alpha, alpha)
    for share in ends:
        assert abs(share - end) < 4 * math.sqrt(end * (1 - end) / len(lam)) + 1e-9
    middle = lam[(lam > 1e-6) & (lam < 1 - 1e-6)]

    def within(x: object) -> object:
        return (stats.beta.cdf(x, alpha, alpha) - end) / (1 - 2 * end)

    assert stats.kstest(middle, within).pvalue > P


@pytest.mark.parametrize("alpha", [1e-45, 1e-30, 1e-8, 1e8, 1e30])
def test_lam_is_never_nan(alpha: float) -> None:
    lam = draw_beta(alpha, (1000,), torch.device("cpu"), torch.Generator().manual_seed(0))
    assert bool(((lam >= 0) & (lam <= 1)).all())
    near_the_middle = ((lam > 0.4) & (lam < 0.6)).float().mean()
    assert near_the_middle == (1.0 if alpha > 1 else 0.0), "all mass in the middle, or all of it at the ends"


def test_lam_of_mixup_has_the_alpha_asked_for() -> None:
    batch = make_batch(Layout(), [3] * 5000, 4)
    for alpha in (0.4, 2.0):
        mix = sa.MixupOp(sa.Crop(0.2, 0.7), alpha=alpha).sample(
            batch.items, generator=torch.Generator().manual_seed(0)
        )
        assert stats.kstest(mix.lam.double().numpy(), "beta", (alpha, alpha)).pvalue > P
        assert abs(stats.spearmanr(mix.lam.numpy(), mix.edit.rate.numpy()).statistic) < 0.05


@pytest.mark.parametrize("over", ["position", "feature"])
def test_lam_of_cross_mixup_has_the_alpha_asked_for(over: str) -> None:
    for alpha in (0.4, 2.0):
        pair = sa.CrossMixup(alpha, over=over).sample(
            torch.zeros(50, 100, 100), generator=torch.Generator().manual_seed(0)
        )
        assert stats.kstest(pair.lam.flatten().double().numpy(), "beta", (alpha, alpha)).pvalue > P


# ---- MixupOp


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize(
    ("future", "pad_mix"), [("keep", "keep"), ("mix", "keep"), ("keep", "embedding"), ("mix", "embedding")]
)
@settings(max_examples=settings.default.max_examples // 5)
@given(batch=batches(), alpha=alphas, seed=seeds)
def test_mixing_slot_by_slot(
    name: str, future: str, pad_mix: str, batch: Batch, alpha: float, seed: int
) -> None:
    mixup = sa.MixupOp(EVERYTHING[name](batch.layout), alpha=alpha, future=future, pad_mix=pad_mix)
    mix = mixup.sample(
        batch.items, timestamps=batch.timestamps, generator=torch.Generator().manual_seed(seed)
    )
    table = embedding()
    with torch.no_grad():
        own = look_up(batch, table, batch.items)
        view = look_up(batch, table, mix.edit(batch.items))
    before = own.clone(), view.clone()
    mixed = mix(own, view)
    rows, slots = batch.items.shape
    assert mix.lam.shape == mix.weight.shape == (rows,)
    assert mix.lam.dtype == mix.weight.dtype == torch.float32
    assert bool(((mix.lam >= 0) & (mix.lam <= 1)).all())
    assert mixed.shape == (rows, slots, DIM) and mixed.dtype == own.dtype
    for row in range(rows):
        lam = float(mix.lam[row])
        for slot in range(slots):
            takes = slot in batch.slots(row)
            takes &= pad_mix == "embedding" or int(mix.edit.source[row, slot]) >= 0
            takes &= future == "mix" or int(mix.edit.source[row, slot]) <= slot
            expected = lam * own[row, slot] + (1 - lam) * view[row, slot] if takes else own[row, slot]
            assert bool(mix.mixed[row, slot]) == takes
            torch.testing.assert_close(mixed[row, slot], expected, rtol=1e-5, atol=1e-6)
            if not takes:
                assert torch.equal(mixed[row, slot], own[row, slot])
    assert torch.equal(own, before[0]) and torch.equal(view, before[1])


@given(batch=batches(), seed=seeds)
def test_forward_is_sample_and_mix(batch: Batch, seed: int) -> None:
    mixup = sa.MixupOp(EVERYTHING["nested"](batch.layout))
    table = embedding()
    state = torch.get_rng_state()
    draw = {"timestamps": batch.timestamps}
    mixed = mixup(
        batch.items,
        lambda ids: look_up(batch, table, ids),
        **draw,
        generator=torch.Generator().manual_seed(seed),
    )
    mix = mixup.sample(batch.items, **draw, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(mixed.lam, mix.lam) and torch.equal(mixed.weight, mix.weight)
    assert torch.equal(mixed.edit.source, mix.edit.source)
    own, view = look_up(batch, table, batch.items), look_up(batch, table, mix.edit(batch.items))
    assert torch.equal(mixed.embeddings, mix(own, view))
    assert torch.equal(torch.get_rng_state(), state), "the global state is left alone"


@given(batch=batches(), seed=seeds)
def test_evaluation_mode_gives_the_rows_themselves(batch: Batch, seed: int) -> None:
    mixup = sa.MixupOp(EVERYTHING["Policy"](batch.layout)).eval()
    table = embedding()
    state = torch.get_rng_state()
    mixed = mixup(batch.items, lambda ids: look_up(batch, table, ids))
    assert torch.equal(mixed.embeddings, look_up(batch, table, batch.items))
    assert mixed.lam.tolist() == mixed.weight.tolist() == [1.0] * len(batch.lengths)
    assert torch.equal(mixed.edit(batch.items), batch.items)
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(seed)
    assert mixup.sample(batch.items, generator=generator).lam.shape == (len(batch.lengths),), (
        "sample always draws"
    )


@given(batch=batches(least=1), data=st.data(), seed=seeds)
def test_lam_and_view_of_a_row_do_not_depend_on_other_rows(
    batch: Batch, data: st.DataObject, seed: int
) -> None:
    mixup = sa.MixupOp(EVERYTHING["Policy"](batch.layout))
    row = data.draw(st.integers(0, len(batch.lengths) - 1))
    items = batch.items.clone()
    items[row] = batch.layout.ids[data.draw(st.integers(0, V - 1))]
    one, two = (
        mixup.sample(ids, generator=torch.Generator().manual_seed(seed)) for ids in (batch.items, items)
    )
    kept = torch.arange(len(items)) != row
    assert torch.equal(one.lam, two.lam)
    assert torch.equal(one.edit.source[kept], two.edit.source[kept])
    assert torch.equal(one.mixed[kept], two.mixed[kept])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_mixing_keeps_the_dtype(dtype: torch.dtype) -> None:
    batch = make_batch(Layout(), [3, 6], 6)
    mix = sa.MixupOp(sa.Reorder(1, 1)).sample(batch.items)
    assert mix(torch.randn(2, 6, 3, dtype=dtype), torch.randn(2, 6, 3, dtype=dtype)).dtype == dtype
    pair = sa.CrossMixup().sample(torch.zeros(2, 6, 3))
    assert pair(torch.randn(2, 6, 3, dtype=dtype)).dtype == dtype


def test_gradients_flow_into_both_and_pads_poison_nothing() -> None:
    batch = make_batch(Layout(), [2, 5], 6)
    mix = sa.MixupOp(sa.Mask(1, 1, mask_id=V + 1), alpha=2.0).sample(
        batch.items, generator=torch.Generator().manual_seed(0)
    )
    real = batch.items != 0
    own = torch.randn(2, 6, 3).masked_fill(~real[..., None], float("nan")).requires_grad_()
    view = torch.randn(2, 6, 3).masked_fill(~mix.mixed[..., None], float("nan")).requires_grad_()
    mixed = mix(own, view)
    assert bool(mixed[real].isfinite().all())
    mixed[real].sum().backward()
    assert own.grad is not None and view.grad is not None
    lam = mix.lam[:, None, None].expand(2, 6, 3)
    torch.testing.assert_close(own.grad[mix.mixed], lam[mix.mixed])
    torch.testing.assert_close(view.grad[mix.mixed], 1 - lam[mix.mixed])
    assert bool((view.grad[~mix.mixed] == 0).all()) and bool((own.grad[~real] == 0).all())
    generator = torch.Generator().manual_seed(2)
    pair = sa.CrossMixup(2.0).sample(own.detach(), valid=real, generator=generator)
    hidden = own.detach().requires_grad_()
    pair(hidden)[real].sum().backward()
    assert hidden.grad is not None and bool(hidden.grad.isfinite().all())


def test_gradcheck() -> None:
    batch = make_batch(Layout(), [2, 4], 4)
    mix = sa.MixupOp(sa.Reorder(1, 1), alpha=2.0).sample(batch.items)
    own, view = (torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(mix, (own, view))
    for over in ("position", "feature"):
        pair = sa.CrossMixup(2.0, over=over).sample(own.detach(), valid=batch.items != 0)
        assert torch.autograd.gradcheck(pair, (own,))


# ---- weights


def plain_weights(lam: list[float], rate: list[float], weighting: str) -> list[float]:
    """The weights in plain Python."""
    if weighting == "none" or len(lam) < 2:
        return [1.0] * len(lam)
    omega = [1 / (max(one, 1e-12) * max(r, 1e-6)) for one, r in zip(lam, rate, strict=True)]
    low, high = min(omega), max(omega)
    if weighting == "mean_one":
        most = 10 * statistics.median_low(omega)
        clipped = [min(one, most) for one in omega]
        return [one / statistics.fmean(clipped) for one in clipped]
    if high == low:
        return [1.0] * len(lam)
    scaled = [(one - low) / (high - low) for one in omega]
    return [math.fsum(scaled)] * len(lam) if weighting == "batch_sum" else scaled


shares = st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 2.0**-126])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@given(rows=st.lists(st.tuples(shares, shares), max_size=8))
def test_weights(weighting: str, rows: list[tuple[float, float]]) -> None:
    lam, rate = ([row[i] for row in rows] for i in range(2))
    weight = mix_weight(torch.tensor(lam), torch.tensor(rate), weighting)
    assert weight.dtype == torch.float32 and weight.shape == (len(rows),)
    assert bool(weight.isfinite().all()) and bool((weight >= 0).all())
    expected = plain_weights(lam, rate, weighting)
    omega = [1 / (max(a, 1e-12) * max(b, 1e-6)) for a, b in rows]
    if weighting in ("row", "batch_sum") and rows and max(omega) < min(omega) * (1 + 1e-3):
        return  # the scale is the rounding of omega
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weight_of_equal_omega_one_row_and_no_row(weighting: str) -> None:
    for rows in (0, 1, 2, 5):
        weight = mix_weight(torch.full((rows,), 0.3), torch.full((rows,), 0.5), weighting)
        torch.testing.assert_close(weight, torch.ones(rows))
    for lam, rate in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0)):
        weight = mix_weight(torch.full((3,), lam), torch.full((3,), rate), weighting)
        torch.testing.assert_close(weight, torch.ones(3))
    for rows in (0, 1):
        mix = sa.MixupOp(sa.Crop(0.2, 0.7), weighting=weighting).sample(
            make_batch(Layout(), [3] * rows, 4).items
        )
        assert mix.weight.tolist() == [1.0] * rows


def test_weight_of_a_mix_is_that_of_its_lam_and_rate() -> None:
    batch = make_batch(Layout(), [4] * 64, 5)
    for weighting in WEIGHTINGS:
        mix = sa.MixupOp(sa.Crop(0.2, 0.7), weighting=weighting).sample(
            batch.items, generator=torch.Generator().manual_seed(0)
        )
        expected = plain_weights(mix.lam.tolist(), mix.edit.rate.tolist(), weighting)
        torch.testing.assert_close(mix.weight, torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_weights_known_by_hand() -> None:
    lam, rate = torch.tensor([1.0, 0.5, 0.25]), torch.tensor([0.5, 0.5, 0.5])  # omega 2, 4, 8
    assert mix_weight(lam, rate, "row").tolist() == pytest.approx([0, 1 / 3, 1])
    assert mix_weight(lam, rate, "batch_sum").tolist() == pytest.approx([4 / 3] * 3)
    assert mix_weight(lam, rate, "mean_one").tolist() == pytest.approx([3 / 7, 6 / 7, 12 / 7])
    assert mix_weight(lam, rate, "none").tolist() == [1, 1, 1]


# ---- CrossMixup


def draw_pair(
    over: str, rows: int, slots: int, seed: int, alpha: float = 0.4
) -> tuple[sa.Pair, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, slots, DIM, generator=generator)
    valid = torch.rand(rows, slots, generator=generator) < 0.7
    pair = sa.CrossMixup(alpha, over=over).sample(hidden, valid=valid, generator=generator)
    return pair, hidden, valid


@pytest.mark.parametrize("over", ["position", "feature"])
@given(rows=st.integers(0, 6), slots=st.integers(1, 5), seed=seeds, alpha=alphas)
def test_cross_mixing_slot_by_slot(over: str, rows: int, slots: int, seed: int, alpha: float) -> None:
    state = torch.get_rng_state()
    pair, hidden, valid = draw_pair(over, rows, slots, seed, alpha)
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(pair.partner.tolist()) == list(range(rows))
    assert pair.lam.shape == ((rows, slots, 1) if over == "position" else (rows, 1, DIM))
    assert pair.lam.dtype == torch.float32 and bool(((pair.lam >= 0) & (pair.lam <= 1)).all())
    before = hidden.clone()
    mixed = pair(hidden)
    lam = pair.lam.expand(rows, slots, DIM)
    for row in range(rows):
        partner = int(pair.partner[row])
        for slot in range(slots):
            both = bool(valid[row, slot]) and bool(valid[partner, slot])
            share = lam[row, slot] if both else torch.ones(DIM)
            expected = share * hidden[row, slot] + (1 - share) * hidden[partner, slot]
            torch.testing.assert_close(mixed[row, slot], expected, rtol=1e-5, atol=1e-6)
            if not both:
                assert torch.equal(mixed[row, slot], hidden[row, slot])
                assert over == "feature" or pair.lam[row, slot] == 1
    assert torch.equal(hidden, before)
    again, _, _ = draw_pair(over, rows, slots, seed, alpha)
    assert torch.equal(again.partner, pair.partner) and torch.equal(again.lam, pair.lam)


def test_every_permutation_of_the_batch_is_as_likely() -> None:
    """Also with rows that are all padding: partners are not drawn among some of the rows only."""
    cross = sa.CrossMixup()
    generator = torch.Generator().manual_seed(3)
    valid = torch.tensor([[True], [False], [True], [False]])
    drawn = Counter(
        tuple(cross.sample(torch.zeros(4, 1, 1), valid=valid, generator=generator).partner.tolist())
        for _ in range(4800)
    )
    assert len(drawn) == 24
    assert stats.chisquare(list(drawn.values())).pvalue > P


@given(rows=st.integers(0, 6), slots=st.integers(1, 5), seed=seeds)
def test_soft_targets_of_position_mixing(rows: int, slots: int, seed: int) -> None:
    pair, _, valid = draw_pair("position", rows, slots, seed)
    target = torch.randint(1, V + 1, (rows, slots)) * valid
    soft = pair.targets(target)
    assert isinstance(soft, sa.SoftTarget)
    assert torch.equal(soft.first, target)
    assert soft.lam.shape == (rows, slots)
    for row in range(rows):
        for slot in range(slots):
            both = bool(valid[row, slot]) and bool(valid[pair.partner[row], slot])
            if both:
                assert soft.second[row, slot] == target[pair.partner[row], slot]
                assert soft.lam[row, slot] == pair.lam[row, slot, 0]
            else:
                assert soft.lam[row, slot] == 1


def test_position_mixing_of_a_softmax_loss_is_the_mix_of_two_losses() -> None:
    pair, hidden, valid = draw_pair("position", 6, 5, 1)
    target = torch.randint(1, V + 1, (6, 5)) * valid
    table = torch.randn(V + 2, DIM)
    loss = sa.ICELoss(catalog=slice(1, V + 1), reduction="none")
    mixed = pair(hidden)
    soft = pair.targets(target)
    expected = soft.lam * loss(mixed, table, soft.first) + (1 - soft.lam) * loss(mixed, table, soft.second)
    torch.testing.assert_close(loss(mixed, table, soft)[valid], expected[valid])


def test_feature_mixing_mixes_vectors_of_targets() -> None:
    pair, hidden, valid = draw_pair("feature", 4, 3, 2)
    target = torch.randint(1, V + 1, (4, 3)) * valid
    table = torch.randn(V + 2, DIM)
    vectors = pair(table[target])
    assert vectors.shape == (4, 3, DIM)
    value = sa.ICELoss(catalog=slice(1, V + 1))(pair(hidden), table, vectors, valid=valid)
    assert bool(value.isfinite()) and float(value) >= 0
    with pytest.raises(TypeError, match=r"lam.shape=\(4, 1, 4\).*pair\(table\[target\]\)"):
        pair.targets(target)


def test_valid_defaults_to_all() -> None:
    pair = sa.CrossMixup().sample(torch.zeros(3, 4, 5))
    assert bool(pair.mixed.all())


@pytest.mark.parametrize("over", ["position", "feature"])
def test_cross_mixup_as_a_module(over: str) -> None:
    cross = sa.CrossMixup(0.4, over=over)
    hidden = torch.randn(5, 4, DIM)
    valid = torch.rand(5, 4) < 0.7
    drawn = cross(hidden, valid=valid, generator=torch.Generator().manual_seed(0))
    sampled = cross.sample(hidden, valid=valid, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.partner, sampled.partner) and torch.equal(drawn.lam, sampled.lam)
    cross.eval()
    state = torch.get_rng_state()
    pair = cross(hidden, valid=valid)
    assert torch.equal(torch.get_rng_state(), state), "evaluation draws nothing"
    assert pair.partner.tolist() == list(range(5))
    assert pair.lam.shape == sampled.lam.shape and bool((pair.lam == 1).all())
    assert torch.equal(pair(hidden), hidden)
    if over == "position":
        soft = pair.targets(torch.ones(5, 4, dtype=torch.int64))
        assert bool((soft.lam == 1).all())
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(cross.sample(hidden, valid=valid, generator=generator).lam, sampled.lam), (
        "sample always draws"
    )


# ---- modules


MODULES: list[nn.Module] = [
    sa.MixupOp(sa.Crop(0.2, 0.7)),
    sa.MixupOp(
        sa.Policy([sa.Crop(0.2, 0.7, pad_id=5), sa.Delete(0.1, 0.2, pad_id=5)], weights=[1, 2]),
        alpha=0.3,
        weighting="mean_one",
        future="mix",
        pad_mix="embedding",
    ),
    sa.CrossMixup(),
    sa.CrossMixup(0.1, over="feature"),
]


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_repr_pickle_copy_and_state(module: nn.Module) -> None:
    for other in (eval(repr(module), vars(sa)), pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert repr(other) == repr(module)
        drawn = []
        for one in (module, other):
            generator = torch.Generator().manual_seed(0)
            argument = (
                torch.ones(3, 4, dtype=torch.int64) if isinstance(one, sa.MixupOp) else torch.ones(3, 4, 2)
            )
            drawn.append(one.sample(argument, generator=generator).lam)
        assert torch.equal(*drawn)
    assert module.state_dict() == {}


def test_errors_of_mixup() -> None:
    crop = sa.Crop(0.2, 0.7)
    with pytest.raises(TypeError, match="operator='crop'"):
        sa.MixupOp("crop")  # type: ignore[arg-type]
    for alpha, error in ((0, ValueError), (-1.0, ValueError), (math.nan, ValueError), (math.inf, ValueError)):
        with pytest.raises(error, match=f"alpha={alpha}"):
            sa.MixupOp(crop, alpha=alpha)
        with pytest.raises(error, match=f"alpha={alpha}"):
            sa.CrossMixup(alpha)
    with pytest.raises(TypeError, match="alpha='0.4'"):
        sa.MixupOp(crop, alpha="0.4")  # type: ignore[arg-type]
    for option in ("weighting", "future", "pad_mix"):
        with pytest.raises(ValueError, match=f"{option}='sum'"):
            sa.MixupOp(crop, **{option: "sum"})  # type: ignore[arg-type]
    mix = sa.MixupOp(crop).sample(torch.ones(2, 3, dtype=torch.int64))
    for own, view in [
        ((2, 3, 4), (2, 3, 5)),
        ((2, 4, 4), (2, 4, 4)),
        ((2, 3), (2, 3)),
        ((2, 3, 4), (3, 3, 4)),
    ]:
        with pytest.raises(ValueError, match=r"own.shape=.*view.shape="):
            mix(torch.zeros(own), torch.zeros(view))
    with pytest.raises(TypeError, match="items.dtype=torch.float32"):
        sa.MixupOp(crop)(torch.zeros(2, 3), embedding())


def test_errors_of_cross_mixup() -> None:
    with pytest.raises(ValueError, match="over='both'"):
        sa.CrossMixup(over="both")
    cross = sa.CrossMixup()
    with pytest.raises(ValueError, match=r"hidden.shape=\(2, 3\)"):
        cross.sample(torch.zeros(2, 3))
    for valid in (torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 3)):
        with pytest.raises(ValueError, match=r"valid.shape=.*valid.dtype="):
            cross.sample(torch.zeros(2, 3, 4), valid=valid)
    pair = cross.sample(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"shape=\(2, 4, 4\)"):
        pair(torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match=r"target.shape=\(2, 4\)"):
        pair.targets(torch.ones(2, 4, dtype=torch.int64))
    feature = sa.CrossMixup(over="feature").sample(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"lam.shape=\(2, 1, 4\), got shape=\(2, 3, 5\)"):
        feature(torch.zeros(2, 3, 5))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)])
def test_cross_mixup_wants_three_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="hidden must be"):
        sa.CrossMixup(0.4).sample(torch.zeros(shape))


def test_embedding_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="embedding must turn ids into vectors, got Parameter"):
        sa.MixupOp(sa.Crop(0.2, 0.7))(torch.tensor([[0, 1, 2]]), nn.Embedding(5, 3).weight)  # type: ignore[arg-type]


def test_a_new_id_without_a_vector_and_a_seed_for_a_generator_are_named() -> None:
    items, embedding = torch.tensor([[0, 1, 2, 3]]), nn.Embedding(5, 2)
    mixup = sa.MixupOp(sa.Mask(0.9, 0.9, mask_id=77))
    for rows in (items, sa.pack([[1, 2, 3]])):
        with pytest.raises(
            ValueError, match="a row for every id of the view, got ids from . to 77: .* V . 2 rows"
        ):
            mixup(rows, embedding)
    message = r"generator must be a torch.Generator or None, got generator=5: torch.Generator\(\)"
    with pytest.raises(TypeError, match=message):
        sa.Crop(0.2, 0.7)(items, generator=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=message):
        sa.CrossMixup()(torch.ones(2, 3, 4), generator=5)  # type: ignore[call-overload]


def test_a_mix_of_an_edit_of_other_items_is_refused() -> None:
    mixup, items = sa.MixupOp(sa.Crop(0.5, 0.5)), torch.arange(1, 13).view(3, 4)
    edit = mixup.operator.sample(items)
    with pytest.raises(ValueError, match="apply an edit only to what is aligned"):
        mixup.mix_of(edit, items[:1])
    with pytest.raises(TypeError, match="must be a tensor"):
        mixup.mix_of(edit, sa.pack(items))
    packed = sa.pack([[1, 2, 3], [4, 5]])
    edit = mixup.operator.sample(packed)
    with pytest.raises(ValueError, match="rows of other lengths"):
        mixup.mix_of(edit, sa.pack([[1, 2], [3, 4, 5]]))
    assert mixup.mix_of(edit, packed.nested()).mixed.shape == (5,)


def test_arguments_of_mixing_that_are_no_tensors_or_of_another_dtype() -> None:
    mixup, cross = sa.MixupOp(sa.Crop(0.5, 0.5)), sa.CrossMixup()
    mix, pair = mixup.sample(torch.arange(1, 13).view(3, 4)), cross.sample(torch.randn(3, 4, 2))
    packed = sa.pack([[1, 2, 3], [4, 5]])
    packed_mix, packed_pair = mixup.sample(packed), cross.sample(packed.like(torch.randn(5, 2)))
    vectors = torch.randn(3, 4, 2)
    for call, says in (
        (lambda: mix(vectors, vectors.double()), "one dtype, got own.dtype=torch.float32, view.dtype=torch.float64"),
        (lambda: packed_mix(torch.randn(5, 2), torch.randn(len(packed_mix.edit.source), 2).double()), "one dtype"),
        (lambda: pair.targets([1]), "target must be a tensor of ids, got list"),
        (lambda: pair.targets(vectors[..., 0]), "got target.dtype=torch.float32"),
        (lambda: packed_pair.targets(torch.randn(5)), "got target.dtype=torch.float32"),
        (lambda: cross.sample([1]), "hidden must be a tensor"),
        (lambda: cross.sample(vectors, valid=[[True]]), "valid must be a tensor of bools, got list"),
        (lambda: mixup.eval()([[1]], torch.nn.Embedding(3, 2)), "items must be a tensor of ids"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=says):
            call()
