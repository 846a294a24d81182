"""Adapters keep to what frameworks hand over, and the examples to what the documentation says of them.

The frameworks themselves are not installed here: .ci/integrations runs the examples in environments of their own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seqaug as sa
from seqaug.integrations import next_item_view
from seqaug.integrations.replay import AugmentTransform, NextItemLoss
from seqaug.integrations.view import fair_slots

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "integrations"
NAMES = sorted(path.stem for path in (FOLDER / "requirements").glob("*.txt"))

V, L = 40, 9


def rows_of(side: str, pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Rows in which every item is followed by the next larger one, and their targets."""
    generator = torch.Generator().manual_seed(3)
    lengths = [0, 1, 2, *torch.randint(3, L + 1, (97,), generator=generator).tolist()]
    starts = torch.randint(1, V - L, (100,), generator=generator).tolist()
    rows = [list(range(start, start + length)) for start, length in zip(starts, lengths, strict=True)]
    items = sa.pad_sequences(rows, length=L, side=side, pad_id=pad_id)
    target = sa.pad_sequences([[item + 1 for item in row] for row in rows], length=L, side=side)
    return items, target


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", [sa.Crop, sa.Delete, sa.Reorder, sa.Mask, sa.Insert, sa.Substitute])
def test_a_view_is_asked_for_what_follows_and_cannot_look_it_up(kind: type[sa.Operator], side: str) -> None:
    items, target = rows_of(side)
    similar = torch.zeros(V + 2, 1, dtype=torch.long)
    similar[1 : V + 1, 0] = torch.arange(1, V + 1).roll(
        -1
    )  # the nearest item is the very next: the worst case
    extra = {"mask_id": V + 1} if kind is sa.Mask else {}
    if kind in (sa.Insert, sa.Substitute):
        extra = {"neighbours": similar}
    before = items.clone(), target.clone()
    operator = kind(0.3, 0.9, side=side, **extra)
    edit = operator.sample(items, generator=torch.Generator().manual_seed(1))
    view, asked = next_item_view(operator, items, target, generator=torch.Generator().manual_seed(1))
    assert torch.equal(items, before[0]) and torch.equal(target, before[1])
    assert torch.equal(view, edit(items))
    scored = asked > 0
    own = edit.align(items)
    assert (asked[scored] == own[scored] + 1).all()  # the item after the one the slot stands for
    assert scored.float().sum() > 0.3 * (view > 0).float().sum()
    for slot in range(L):
        seen = view[:, : slot + 1] == asked[:, slot, None]
        assert not seen[scored[:, slot]].any()


def test_a_view_is_not_asked_for_what_was_put_in_before() -> None:
    """Neighbours two items ahead: a slot's target may have been put in at the slot before."""
    items, target = torch.tensor([[1, 2, 3, 4, 5, 1]]), torch.tensor([[2, 3, 4, 5, 1, 2]])
    edit = sa.Edit(
        source=torch.arange(6)[None],
        replaced=torch.tensor([[-1, -1, 5, -1, -1, -1]]),  # of item 3, and 5 is the target of slot 3
        rate=torch.ones(1),
    )
    assert edit(items).tolist() == [[1, 2, 5, 4, 5, 1]]
    # Slots 4 and 5 have targets that the row itself has twice: these are asked for.
    assert fair_slots(edit, edit.align(target)).tolist() == [[True, True, True, False, True, True]]


def test_a_view_is_the_row_itself_in_evaluation_mode() -> None:
    items, target = rows_of("left")
    policy = sa.Policy([sa.Mask(0.5, 0.5, mask_id=V + 1), sa.Crop(0.5, 0.5)])
    view, asked = next_item_view(policy, items, target)
    assert not torch.equal(view, items)
    view, asked = next_item_view(policy.eval(), items, target)
    assert torch.equal(view, items) and torch.equal(asked, target)


def test_view_names_what_it_cannot_use() -> None:
    items, target = rows_of("left")
    crop = sa.Crop(0.2, 0.7)
    with pytest.raises(TypeError, match=r"policy must be a seqaug operator or policy, got policy=\[Crop"):
        next_item_view([crop], items, target)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="items must be a tensor of ids .batch, slots., got Packed"):
        next_item_view(crop, sa.pack([[1, 2]]), torch.tensor([2, 3]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"target must be aligned .* got target.shape=\(100, 8\)"):
        next_item_view(crop, items, target[:, 1:])
    with pytest.raises(TypeError, match="target must be int32 or int64 ids.* got torch.float32"):
        next_item_view(crop, items, target.float())


def test_lightning_example_leaves_validation_batches_alone() -> None:
    from integrations.with_lightning import Augmented

    module = Augmented(SimpleNamespace(num_items=V))  # type: ignore[arg-type]
    batch = rows_of("left")
    grown = module.train().on_after_batch_transfer(batch, 0)
    assert [len(part) for part in grown] == [200, 200]
    assert module.eval().on_after_batch_transfer(batch, 0) is batch


class ModuleOfRecTools(nn.Module):
    """What the example needs of RecTools' Lightning module, which is not installed here."""

    def __init__(self) -> None:
        super().__init__()
        self.item_external_ids, self.item_extra_tokens = range(V + 1), ["PAD"]
        self.item_embs = torch.randn(V + 1, 8)
        self.torch_model = SimpleNamespace(
            item_model=SimpleNamespace(get_all_embeddings=lambda: self.item_embs),
            encode_sessions=lambda batch, table: table[batch["x"]],
        )


def test_rectools_example_has_a_loss_for_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = SimpleNamespace(TransformerLightningModule=ModuleOfRecTools)
    absent = {
        "pandas": SimpleNamespace(),
        "rectools": SimpleNamespace(Columns=None),
        "rectools.dataset": SimpleNamespace(Dataset=None),
        "rectools.models": SimpleNamespace(SASRecModel=None),
        "rectools.models.nn.transformers.lightning": lightning,
    }
    for name, module in absent.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "integrations.with_rectools", raising=False)
    from integrations.with_rectools import SeqaugModule

    module, (items, target) = SeqaugModule(), rows_of("left")
    assert module._calc_custom_loss({"x": items, "y": target}, 0) > 0
    # A validation batch has one target per row, after its newest item.
    last = target[:, -1:]
    out = module.eval()._calc_custom_loss_outputs({"x": items, "y": last}, 0)
    table, newest = module.item_embs, module.item_embs[items[:, -1]]
    expected = F.cross_entropy(newest @ table[1:].T, last[:, 0] - 1, ignore_index=-1)
    torch.testing.assert_close(out["loss"], expected)
    torch.testing.assert_close(out["logits"], newest @ table.T)


def batch_of_replay() -> dict[str, Tensor]:
    """A batch after RePlay's NextTokenTransform: ids from 0, padded on the left with V."""
    items, _ = rows_of("left")
    ids = torch.where(items > 0, items - 1, V)
    mask = items > 0
    return {
        "user_id": torch.arange(len(ids)),
        "item_id": ids[:, :-1],
        "item_id_mask": mask[:, :-1],
        "hour": 100.0 + ids[:, :-1],
        "positive_labels": ids[:, 1:],
        "positive_labels_mask": mask[:, 1:],
    }


def test_transform_of_replay_moves_items_labels_masks_and_features_together() -> None:
    batch = batch_of_replay()
    before = {name: value.clone() for name, value in batch.items()}
    policy = sa.Policy([sa.Crop(0.3, 0.6, pad_id=V), sa.Reorder(0.5, 1.0, pad_id=V)])
    transform = AugmentTransform(policy, features={"hour": -1.0})
    out = transform(batch)
    assert all(torch.equal(batch[name], before[name]) for name in batch)
    assert out["user_id"] is batch["user_id"]
    real = out["item_id"] != V
    assert torch.equal(out["item_id_mask"], real)
    assert torch.equal(out["hour"], torch.where(real, 100.0 + out["item_id"], -1.0))
    asked = out["positive_labels_mask"]
    assert not (asked & ~real).any() and asked.sum() > 100
    assert (out["positive_labels"][asked] == out["item_id"][asked] + 1).all()
    assert (out["item_id"] != batch["item_id"]).any()
    assert transform.eval()(batch) is batch


def test_transform_of_replay_names_a_missing_column() -> None:
    with pytest.raises(
        KeyError, match="expected a batch with 'positive_labels', got item_id: put AugmentTransform"
    ):
        AugmentTransform(sa.Crop(0.3, 0.6, pad_id=V))({"item_id": torch.zeros(2, 3, dtype=torch.long)})


class Model(nn.Module):
    """What a loss sees of a model of RePlay."""

    def __init__(self, loss: NextItemLoss) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.embedder = nn.Module()
        self.body.embedder.weight = nn.Parameter(torch.randn(V + 1, 8))
        self.body.embedder.get_item_weights = lambda: self.body.embedder.weight[:V]
        self.loss = loss
        self.loss.logits_callback = self.get_logits

    def get_logits(self, hidden: Tensor, candidates: Tensor | None = None) -> Tensor:
        raise AssertionError("logits are never made")


def call(model: Model, hidden: Tensor, negatives: Tensor | None = None) -> Tensor:
    batch = batch_of_replay()
    return model.loss(
        model_embeddings=hidden,
        feature_tensors={},
        positive_labels=batch["positive_labels"][..., None],
        negative_labels=negatives,
        padding_mask=batch["item_id_mask"],
        target_padding_mask=batch["positive_labels_mask"][..., None],
    )


def test_loss_of_replay_is_its_cross_entropy() -> None:
    torch.manual_seed(0)
    model = Model(NextItemLoss(sa.ICELoss(catalog=slice(0, V), ignore_index=V)))
    batch = batch_of_replay()
    hidden = torch.randn(*batch["item_id"].shape, 8, requires_grad=True)
    ours = call(model, hidden)
    labels = batch["positive_labels"].masked_fill(~batch["positive_labels_mask"], -100)
    weight = model.body.embedder.weight
    theirs = F.cross_entropy((hidden @ weight[:V].T).flatten(0, 1), labels.flatten())
    torch.testing.assert_close(ours, theirs)
    got = torch.autograd.grad(ours, [hidden, weight])
    for one, other in zip(got, torch.autograd.grad(theirs, [hidden, weight]), strict=True):
        torch.testing.assert_close(one, other)


def test_loss_of_replay_takes_its_negatives_only_where_needed() -> None:
    torch.manual_seed(0)
    hidden, negatives = torch.randn(100, L - 1, 8), torch.tensor([3, 7])
    sampled = Model(NextItemLoss(sa.BCELoss(ignore_index=V)))
    batch = batch_of_replay()
    direct = sa.BCELoss(ignore_index=V)(
        hidden,
        sampled.body.embedder.weight[:V],
        batch["positive_labels"],
        negatives=negatives,
        valid=batch["positive_labels_mask"],
    )
    torch.testing.assert_close(call(sampled, hidden, negatives), direct)
    full = Model(NextItemLoss(sa.ICELoss(catalog=slice(0, V), ignore_index=V)))
    assert torch.equal(call(full, hidden, negatives), call(full, hidden))


def test_loss_of_replay_refuses_what_it_cannot_do() -> None:
    with pytest.raises(TypeError, match="loss must be a loss of seqaug"):
        NextItemLoss(nn.CrossEntropyLoss())  # type: ignore[arg-type]
    loss = NextItemLoss(sa.ICELoss(catalog=slice(0, V), ignore_index=V))
    with pytest.raises(RuntimeError, match="logits_callback is not set"):
        loss.table()
    loss.logits_callback = lambda hidden: hidden
    with pytest.raises(ValueError, match="expected a model with body.embedder.get_item_weights"):
        loss.table()
    labels = torch.zeros(2, 3, 2, dtype=torch.long)
    with pytest.raises(
        ValueError, match=r"one positive label per slot, got positive_labels.shape=\(2, 3, 2\)"
    ):
        loss(torch.randn(2, 3, 8), {}, labels, None, labels[..., 0] > 0, labels > 0)
    table = torch.randn(V, 8)
    assert NextItemLoss(loss.loss, table=lambda: table).table() is table


@pytest.mark.parametrize("name", NAMES)
def test_seqaug_takes_at_most_25_lines_of_an_example(name: str) -> None:
    text = (FOLDER / f"with_{name}.py").read_text(encoding="utf-8")
    parts = re.findall(r"^# seqaug: begin\n(.+?)^# seqaug: end$", text, re.MULTILINE | re.DOTALL)
    assert len(parts) == 1
    lines = [line for line in parts[0].splitlines() if line.strip()]
    assert 3 < len(lines) <= 25


@pytest.mark.parametrize("name", sorted(path.stem for path in (FOLDER / "output").glob("*.txt")))
def test_output_of_an_example_is_of_that_example_and_shown(name: str) -> None:
    output = (FOLDER / "output" / f"{name}.txt").read_text(encoding="utf-8")
    systems = re.findall(r"^(\S.*?)\s+(\d+)\s+(\d+\.\d)\s+(0\.\d{4})\s+(0\.\d{4})$", output, re.MULTILINE)
    assert len(systems) == 2 and systems[1][0].startswith("seqaug: ")
    script = (FOLDER / f"with_{name}.py").read_text(encoding="utf-8")
    assert all(f'"{title}"' in script for title, *_ in systems)
    assert output.rstrip().endswith("one seed")
    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    assert f"integrations/with_{name}.py" in page and f"integrations/output/{name}.txt" in page


def test_script_of_all_examples_knows_them_all() -> None:
    script = (ROOT / ".ci" / "integrations").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\[ \$# -gt 0 \] \|\| set -- (.+)$", script, re.MULTILINE)
    assert sorted(line.split()) == NAMES
    for name in ("environment", "integrations"):
        assert (ROOT / ".ci" / name).stat().st_mode & 0o111
        subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)
    unknown = subprocess.run([ROOT / ".ci" / "environment", "keras"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "expected one of accelerate" in unknown.stderr
