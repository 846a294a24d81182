"""What a strict type checker makes of the library in somebody else's code: checked by mypy, not run.

An expected error is marked with its code; mypy fails where one of them does not come.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import assert_type

import seqaug as sa


def operators(items: Tensor, timestamps: Tensor) -> None:
    crop = sa.Crop(0.2, 0.7)
    policy = sa.Policy([crop, sa.Mask(0.2, 0.7, mask_id=99), sa.Compose([sa.Delete(0.2, 0.5)])])
    edit = policy.sample(items, timestamps=timestamps, generator=torch.Generator())
    assert_type(edit, sa.Edit)
    assert_type(edit(items), Tensor)
    assert_type(edit.align(timestamps, fill=-1), Tensor)
    assert_type(edit.then(edit), sa.Edit)
    assert_type(edit.choice, Tensor | None)
    assert_type(policy(items, timestamps=timestamps), Tensor)
    rows = sa.pack([[1, 2, 3], [4]])
    assert_type(policy(rows), sa.Packed)
    assert_type(policy.sample(rows), sa.PackedEdit)
    policy([1, 2, 3])  # type: ignore[call-overload]
    sa.Crop("0.2", 0.7)  # type: ignore[arg-type]
    sa.Crop(0.2, 0.7, side="up")  # type: ignore[arg-type]
    sa.Mask(0.2, 0.7)  # type: ignore[call-arg]
    sa.Policy(crop)  # type: ignore[arg-type]


def mixing(items: Tensor, hidden: Tensor, embedding: torch.nn.Embedding) -> None:
    mix = sa.MixupOp(sa.Crop(0.2, 0.7)).sample(items)
    assert_type(mix, sa.Mix)
    assert_type(mix(hidden, hidden), Tensor)
    pair = sa.CrossMixup(0.4, over="position").sample(hidden, valid=items != 0)
    assert_type(pair(hidden), Tensor)
    assert_type(pair.targets(items), sa.SoftTarget)
    mixup = sa.MixupOp(sa.Crop(0.2, 0.7))
    mixed = mixup(items, embedding)
    assert_type(mixed, sa.Mixed)
    assert_type(mixed.embeddings, Tensor)
    assert_type(mixed.edit, sa.Edit)
    packed = mixup(sa.pack([[1, 2, 3], [4]]), embedding)
    assert_type(packed.embeddings, sa.Packed)
    assert_type(packed.edit, sa.PackedEdit)
    assert_type(sa.CrossMixup(0.4, over="position")(hidden), sa.Pair)
    sa.MixupOp("crop")  # type: ignore[arg-type]


def losses(hidden: Tensor, table: Tensor, target: Tensor, soft: sa.SoftTarget) -> None:
    ice = sa.ICELoss(catalog=slice(1, 11))
    assert_type(ice(hidden, table, target), Tensor)
    assert_type(ice(hidden, table, soft, weight=target, valid=target != 0), Tensor)
    assert_type(sa.BCELoss()(hidden, table, target, negatives=target), Tensor)
    assert_type(sa.UniformNegatives(10, k=2).sample(target, history=target), tuple[Tensor, Tensor])
    assert_type(sa.functional.linear_logsumexp(hidden, table), Tensor)
    sa.ICELoss()  # type: ignore[call-arg]
    ice(hidden, table, [1, 2])  # type: ignore[arg-type]


def around(rows: list[list[int]]) -> None:
    items = sa.pad_sequences(rows, length=5)
    assert_type(items, Tensor)
    assert_type(sa.ItemSimilarity.from_sequences(rows, num_items=9), sa.ItemSimilarity)
    sa.Substitute(0.2, 0.7, sa.ItemSimilarity.from_sequences(rows, num_items=9))
    sa.check_batch(items)  # type: ignore[call-arg]
