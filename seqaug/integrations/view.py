"""A view of a row as a training example of its own, for models that take ids and nothing else."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from seqaug._checks import check_items
from seqaug.edit import Edit
from seqaug.operator import Augmentation


def next_item_view(
    policy: Augmentation,
    items: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 0,
    timestamps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Augmented ids, and the target that each of their slots can fairly be asked for.

    Every slot keeps the target of the item it shows, so a cropped row predicts what came after each of its items. Left out are
    slots behind which a causal model has already seen something newer (Reorder), and slots whose target has been put in at the
    slot itself or before it (Substitute, Insert): they could copy it. An item that the row itself has twice is asked for as
    without augmentation. In evaluation mode rows and targets stay as they are, as in ``policy(items)``.

    Args:
        policy: an operator or a policy.
        items: (B, L) int64 or int32 ids. Not written to.
        target: (B, L) ids, the item after each slot, ``ignore_index`` where there is none.
        ignore_index: the id of padding among targets.
        timestamps: (B, L), for time-aware operators.
        generator: on the device of ``items``.

    Returns:
        (B, L) ids and (B, L) targets, of the dtypes of ``items`` and ``target``.

    Raises:
        TypeError: ``policy`` is not one, or ``items`` or ``target`` are not padded ids.
        ValueError: ``target`` is not aligned with ``items``; or as of ``policy.sample``.

    Example:
        >>> import torch, seqaug as sa
        >>> from seqaug.integrations import next_item_view
        >>> items, target = torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([[0, 2, 3, 4, 5]])
        >>> crop, g = sa.Crop(0.5, 0.5), torch.Generator()
        >>> next_item_view(crop, items, target, generator=g.manual_seed(1))
        (tensor([[0, 0, 0, 1, 2]]), tensor([[0, 0, 0, 2, 3]]))
        >>> next_item_view(sa.Reorder(1.0, 1.0), items, target, generator=g.manual_seed(1))
        (tensor([[0, 4, 3, 1, 2]]), tensor([[0, 5, 0, 0, 0]]))
        >>> next_item_view(crop.eval(), items, target)
        (tensor([[0, 1, 2, 3, 4]]), tensor([[0, 2, 3, 4, 5]]))
    """
    if not isinstance(policy, Augmentation):
        raise TypeError(
            f"policy must be a seqaug operator or policy, got policy={policy!r}: sa.Policy([...]) makes one of several"
        )
    check_items(items)
    check_target(target, items.shape)
    if not policy.training:
        return items, target
    edit = policy.sample(items, timestamps=timestamps, generator=generator)
    kept = edit.align(target, fill=ignore_index)
    return edit(items), torch.where(fair_slots(edit, kept), kept, ignore_index)


def check_target(target: object, shape: torch.Size) -> None:
    if not isinstance(target, Tensor) or target.dtype not in (torch.int32, torch.int64):
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target must be int32 or int64 ids, the item after each slot, got {kind}")
    if target.shape != shape:
        raise ValueError(
            f"target must be aligned with the items, {tuple(shape)}, got target.shape={tuple(target.shape)}: "
            "one per slot, the item after it"
        )


def fair_slots(edit: Edit, target: Tensor) -> Tensor:
    """(B, L) bool: slots of an edit that cannot look up ``target``, which follows the edit.

    Args:
        edit: a draw.
        target: (B, L) ids, aligned by ``edit``.

    Returns:
        True where no earlier or own slot shows anything newer than the slot's own source, or has been given the slot's target.
    """
    newest = edit.source.cummax(1).values
    given = rearrange(edit.replaced, "b seen -> b seen 1") == rearrange(target, "b asked -> b 1 asked")
    return edit.valid & (edit.source >= newest) & ~given.triu().any(1)
