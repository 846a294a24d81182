"""seqaug in RecBole: a subclass of its SASRec whose loss scores every step of a row and of a view of it.

python examples/integrations/with_recbole.py

RecBole makes one training row per prefix and scores its last step. A loss at every step needs only the last prefix of a user:
an epoch is a hundredth of the work, so that both take about as many steps here. It pads on the right, and its table has no
row for a mask.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from torch import Tensor

import seqaug as sa
from seqaug.integrations import next_item_view

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from integrations.movielens import DIM, DROPOUT, HEADS, LAYERS, LENGTH, LR, Trained, compare  # noqa: E402
from recsys.datasets import Dataset  # noqa: E402


# seqaug: begin
class SeqaugSASRec(SASRec):
    """RecBole's SASRec with the loss of every step, of the row and of a view of it."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        kinds = (sa.Crop, sa.Delete, sa.Reorder)
        self.policy = sa.Policy([kind(0.2, 0.6, side="right") for kind in kinds])
        self.ice = sa.ICELoss(catalog=slice(1, self.n_items))

    def gather_indexes(self, output: Tensor, index: Tensor) -> Tensor:
        return output if self.training else super().gather_indexes(output, index)  # all states in training

    def calculate_loss(self, interaction: Any) -> Tensor:
        items, last = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN].unsqueeze(1) - 1
        target = items.roll(-1, 1).scatter(1, last, interaction[self.POS_ITEM_ID].unsqueeze(1))
        view, view_target = next_item_view(self.policy, items, target)
        hidden = self.forward(torch.cat([items, view]), last)
        return self.ice(hidden, self.item_embedding.weight, torch.cat([target, view_target]))


def last_prefixes(rows: Any) -> Any:
    """The longest of each user's prefixes."""
    user = rows.inter_feat[rows.uid_field]
    return rows.copy(rows.inter_feat[torch.cat([user[1:] != user[:-1], torch.tensor([True])])])


# seqaug: end


def configuration(folder: Path, data: Dataset, epochs: int) -> Config:
    """RecBole reads a file with a header of names and types; order in time is the place in the row."""
    (folder / "ml").mkdir()
    lines = [
        f"{user}\t{item}\t{place}" for user, row in enumerate(data.rows) for place, item in enumerate(row)
    ]
    (folder / "ml" / "ml.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines])
    )
    settings = {
        "data_path": str(folder), "checkpoint_dir": str(folder), "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": LENGTH, "hidden_size": DIM, "n_layers": LAYERS,
        "n_heads": HEADS, "hidden_dropout_prob": DROPOUT, "attn_dropout_prob": DROPOUT, "learning_rate": LR,
        "train_batch_size": 256, "epochs": epochs, "state": "ERROR", "use_gpu": False, "seed": 0,
    }  # fmt: skip
    sys.argv = sys.argv[:1]  # RecBole reads the command line, too
    return Config(
        model="SASRec", dataset="ml", config_dict=settings
    )  # and so for a subclass, which has no defaults of its own


def train(data: Dataset, epochs: int, system: str) -> Trained:
    with_seqaug = "seqaug" in system
    kind = SeqaugSASRec if with_seqaug else SASRec
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where RecBole leaves its logs
        config = configuration(Path(folder), data, epochs)
        dataset = create_dataset(config)
        rows = dataset.build()[0]
        model = kind(config, rows)
        batches = TrainDataLoader(config, last_prefixes(rows) if with_seqaug else rows, None, shuffle=True)
        Trainer(config, model).fit(batches, saved=False, show_progress=False)
        os.chdir("/")
    model.eval()
    number = dataset.field2token_id["item_id"]
    own_id = torch.tensor([0] + [number[str(item)] for item in range(1, data.num_items + 1)])

    def encode(items: Tensor) -> Tensor:
        length = (items > 0).sum(1)
        slots = torch.arange(items.shape[1])
        start = repeat(items.shape[1] - length, "rows -> rows 1")
        right = own_id[items].gather(
            1, (slots + start) % items.shape[1]
        )  # padding from the left to the right
        return model(right, length)

    return Trained(encode, model.item_embedding.weight.detach()[own_id[1:]])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    compare(
        __doc__, "recbole", {"RecBole: CE, a row per prefix": 1, "seqaug: ICELoss, next_item_view": 94}, train
    )
