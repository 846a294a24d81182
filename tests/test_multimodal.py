"""The example of rows that are more than ids: what it shows is what the library does, and it trains."""

from pathlib import Path

import torch

import multimodal
import seqaug as sa
from recsys.shop import generate

ROOT = Path(__file__).parent.parent


def test_the_page_shows_what_one_edit_does(capsys):
    multimodal.show_one_edit(generate(users=1500, items=1500, families=multimodal.FAMILIES))
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 5
    assert (ROOT / "docs" / "multimodal.txt").read_text().startswith(shown)


def test_pictures_and_views_train_together():
    data = generate(users=200, items=200, families=multimodal.FAMILIES)
    pictures = multimodal.pictures(data)
    before = pictures.clone()
    torch.manual_seed(0)
    model = multimodal.Shopper(data, pictures)
    projected = model.project.weight.detach().clone()
    popular = torch.bincount(torch.tensor([i for row in data.training_rows() for i in row]), minlength=202)
    multimodal.train(model, data, sa.MixupOp(sa.Crop(0.2, 0.7), weighting="none"), epochs=6)
    assert torch.equal(pictures, before)  # frozen
    assert not torch.equal(model.project.weight, projected)
    held = multimodal.held_out(data, "test", multimodal.LENGTH)
    ones = torch.ones(len(held.target), 1)
    least = multimodal.metrics(multimodal.ranks(ones, popular[:, None].float(), held.target, held.seen))
    assert multimodal.measure(model, data)["NDCG@10"] > least["NDCG@10"]
