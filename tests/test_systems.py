"""The systems around RM-HSAOCL: each learns something in two epochs, under its own loss and under ICE."""

import dataclasses
import functools
import json

import pytest
import torch
import torch.nn.functional as F

from recsys import machine, shop
from recsys.batches import Batch
from recsys.cli import run
from recsys.datasets import held_out
from recsys.evaluation import metrics, ranks
from recsys.recommender import build_encoder
from recsys.settings import OTHERS, PLAIN, SHOP, SYSTEMS, Settings, control_of, family, resolve
from rmhsaocl_full import HybridAugmentation
from systems import SYSTEMS as CLASSES
from systems import diffusion

small_shop = functools.partial(shop.generate, items=1500)
SHORT = [
    "--epochs",
    "2",
    "--lr",
    "0.005",
    "--batch-size",
    "64",
    "--dropout",
    "0.1",
    "--threads",
    "1",
    "--quiet",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(machine, "matmul_rate", lambda: 123.4)
    monkeypatch.setattr(diffusion, "SAMPLED_STEPS", 4)


def job(*words):
    assert run([str(word) for word in words], HybridAugmentation, CLASSES) == 0


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def fewer_products():
    """The shop with a third of its products: two epochs teach too little of more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop, "generate", small_shop)
        yield


@pytest.fixture(scope="module")
def popularity():
    """HR@10 and NDCG@10 of the most popular items of the shop."""
    data = small_shop()
    ids = torch.tensor([item for row in data.training_rows() for item in row])
    table = torch.bincount(ids, minlength=data.num_items + 2).float()[:, None]
    held = held_out(data, "test", 50)
    return metrics(ranks(torch.ones(len(data.rows), 1), table, held.target, held.seen))


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    out = tmp_path_factory.mktemp("controls")
    job("--system", "sasrec,sasrec-ice", "--out", out / "run", *SHORT)
    return out / "run"


def beats(found, popularity):
    return all(found["test"][name] > popularity[name] for name in ("HR@10", "NDCG@10"))


SLOW = ("asrep", "diffuasr")  # they train something else first, and read longer rows


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(name, marks=[pytest.mark.slow] if family(name) in SLOW else [])
        for name in sorted(SYSTEMS)
        if family(name) in CLASSES
    ],
)
def test_two_epochs_beat_popularity(system, controls, popularity, tmp_path):
    control = controls / ("sasrec-ice" if SYSTEMS[system]["loss"] == "ice" else "sasrec")
    job("--system", system, "--control", control, "--out", tmp_path / "run", *SHORT)
    found = result(tmp_path / "run" / system)
    assert found["system"] == system and found["settings"]["loss"] == SYSTEMS[system]["loss"]
    assert beats(found, popularity)
    assert f"{system} - {control.name}: HR@10" in (tmp_path / "run" / "report.txt").read_text()


GRU = ["--encoder", "gru4rec", "--layers", "1"]


@pytest.mark.parametrize(
    "options",
    [
        ["sasrec-sce"],
        ["basrec", *GRU, "--views", "1", "--mixes", "1+1", "--lr", "0.01", "--batch-size", "32"],
        ["rmhsaocl", *GRU],
        ["rmhsaocl", "--prefixes", "--average", "0.99", "--cosine", "0.1", "--mixes", "1+1"],
        pytest.param(["duorec", "--prefixes"], marks=pytest.mark.slow),
    ],
    ids=lambda options: " ".join(options[:2]),
)
def test_other_losses_and_another_encoder(options, popularity, tmp_path):
    job("--system", options[0], "--out", tmp_path / "run", *SHORT, *options[1:])
    assert beats(result(tmp_path / "run" / options[0]), popularity)


def test_gsasrec_learns_what_is_popular(popularity, tmp_path):
    """Its many negatives keep all scores down at first: two epochs do not bring it past popularity."""
    job("--system", "gsasrec", "--negatives", "8", "--out", tmp_path / "run", *SHORT)
    found = result(tmp_path / "run" / "gsasrec")["test"]
    assert found["HR@10"] > 0.8 * popularity["HR@10"] > 5 * 10 / 1500


def test_every_system_has_a_class_and_a_name_for_each_loss():
    assert set(OTHERS) == set(CLASSES)
    for name, values in OTHERS.items():
        own = resolve(name, {}, False, "Beauty")
        assert own.system == name and own.augmented and not own.hybrid
        assert control_of(own) == ("sasrec" if values["loss"] == "bce" else f"sasrec-{values['loss']}")
        other = resolve(name, {"loss": "focal"}, False, "Beauty")
        assert (other.system, other.loss, family(other.system)) == (f"{name}-focal", "focal", name)
        back = (
            resolve(other.system.replace("-focal", "-ice"), {"loss": values["loss"]}, False, "Beauty")
            if values["loss"] != "ice"
            else own
        )
        assert back == own
        assert resolve(name, {}, True, "Beauty").stages == 1  # the paper's stages are those of mixing


def test_a_binary_loss_is_waited_for_longer():
    """BCE rests on plateaus of more than ten epochs; whatever was given counts."""
    patience = {
        (system, *given.values()): resolve(system, given, False, data).patience
        for system, given, data in [
            ("sasrec", {}, "Beauty"),
            ("cl4srec", {}, "Beauty"),
            ("cl4srec", {"loss": "ice"}, "Beauty"),
            ("basrec", {"loss": "ice"}, "Beauty"),
            ("rmhsaocl", {"loss": "focal"}, "Beauty"),
            ("sasrec-ice", {"loss": "bce"}, "Beauty"),  # the loss of a plain system is its name
            ("gsasrec", {"patience": 3}, "Beauty"),
        ]
    }
    assert list(patience.values()) == [40, 40, 10, 10, 40, 10, 3]
    assert resolve("sasrec", {}, True, "Beauty").patience == 20  # the paper's
    assert resolve("sasrec", {}, False, "shop").patience == SHOP["patience"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--system", "sasrec", "--contrast", "0.2"],
            "expected a contrastive system with --contrast, got sasrec",
        ),
        (["--system", "duorec", "--contrast", "-1"], "got contrast=-1"),
        (["--system", "duorec", "--temperature", "0"], "got temperature=0"),
        (
            ["--system", "duorec", "--views", "2"],
            "expected an augmented system with --views, got sasrec-ice, duorec",
        ),
    ],
)
def test_options_that_fit_no_system(options, said, capsys, tmp_path):
    assert run([*options, "--out", str(tmp_path / "run")], HybridAugmentation, CLASSES) == 2
    assert said in capsys.readouterr().err


def test_plain_systems_ignore_the_contrast():
    plain = dataclasses.replace(Settings(), system="sasrec-ice", **PLAIN)
    assert not plain.augmented and not plain.hybrid


@pytest.mark.parametrize("reduction", ["token", "row"])
@pytest.mark.parametrize("over", ["position", "feature"])
def test_binary_losses_mix_the_vectors_of_targets_and_negatives(over, reduction):
    """H_out, A_out+ and A_out- of the paper: one draw mixes states, targets and negatives alike."""
    data = small_shop()
    given = {
        "views": 0,
        "mixes": (1, 0) if over == "position" else (0, 1),
        "dim": 8,
        "dropout": 0.0,
        "max_length": 12,
        "reduction": reduction,
    }
    torch.manual_seed(0)
    settings = resolve("basrec", given, False, "shop")
    objective, encoder = HybridAugmentation(data, settings), build_encoder(data, settings)
    slots = torch.arange(12) >= torch.arange(10, 2, -1)[:, None]  # rows of 2 to 9 items
    items, target, negatives = torch.randint(1, data.num_items + 1, (3, 8, 12)) * slots
    batch = Batch(torch.arange(8), items, target)
    objective.negatives.sample = lambda target, **_: (negatives[..., None], torch.zeros(*target.shape, 1))
    (mix,) = objective.mixes
    draw = torch.Generator().manual_seed(3)
    pair = mix.sample(torch.zeros(*batch.items.shape, 8), valid=batch.items > 0, generator=draw)

    table, real = encoder.item_embedding, batch.items > 0
    hidden = encoder(table(batch.items), real)
    both = real & real[pair.partner]
    assert 0 < both.sum() < real.sum()

    def mixed(x):
        return torch.where(both[..., None], pair.lam * x + (1 - pair.lam) * x[pair.partner], x)

    states = mixed(hidden)
    liked, disliked = ((states * mixed(table(ids))).sum(-1) for ids in (batch.target, negatives))
    share = 1 / real.sum() if reduction == "token" else 1 / real.sum(1, keepdim=True) / len(real)
    wanted = ((F.softplus(-liked) + F.softplus(disliked)) * real * share).sum()
    found = objective(encoder, batch, torch.Generator().manual_seed(3))["csa"]
    torch.testing.assert_close(found, wanted)
