"""One step of training: what normalising the table once must not change."""

import pytest
import torch
from torch.nn.utils import parametrize

from recsys.recommender import Data, Recommender, build_encoder
from recsys.settings import resolve
from recsys.shop import generate
from rmhsaocl_full import HybridAugmentation
from systems import SYSTEMS

SHOP = generate(users=120, items=300, families=60)


@pytest.mark.parametrize("system", ["rmhsaocl", "duorec", "cl4srec-ice"])
def test_a_table_normalised_once_has_the_gradients_of_one_normalised_at_every_reading(system):
    settings = resolve(system, {"dropout": 0.0, "batch_size": 32, "dim": 16, "cosine": 0.1}, False, "Shop")
    kind = SYSTEMS.get(system.removesuffix("-ice"), HybridAugmentation)
    torch.manual_seed(0)
    module = Recommender(build_encoder(SHOP, settings), kind(SHOP, settings), settings, len(SHOP.rows))
    batch = next(iter(Data(SHOP, settings).train_dataloader()))
    readings = []
    table = module.encoder.item_embedding.parametrizations.weight[0]
    table.register_forward_hook(lambda *_: readings.append(1))

    module.generator = torch.Generator().manual_seed(1)
    module.training_step(batch, 0).backward()
    once = [weight.grad.clone() for weight in module.encoder.parameters()]
    assert len(readings) == 1 and not parametrize._cache

    module.zero_grad()
    losses = module.objective(module.encoder, batch, generator=torch.Generator().manual_seed(1))
    torch.stack(list(losses.values())).sum().backward()
    assert len(readings) > 2
    for got, weight in zip(once, module.encoder.parameters(), strict=True):
        torch.testing.assert_close(got, weight.grad)
