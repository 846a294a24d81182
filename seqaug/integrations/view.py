"""A view of a row as a training example of its own, for models that take ids and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

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
    slots behind which a causal model has already seen something newer (Reorder), and slots that were given
    their own target (Substitute, Insert).

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
        TypeError, ValueError: as of ``policy.sample`` and of ``Edit.align``.

    Example:
        >>> import torch, seqaug as sa
        >>> from seqaug.integrations import next_item_view
        >>> items, target = torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([[0, 2, 3, 4, 5]])
        >>> next_item_view(sa.Crop(0.5, 0.5), items, target, generator=torch.Generator().manual_seed(1))
        (tensor([[0, 0, 0, 1, 2]]), tensor([[0, 0, 0, 2, 3]]))
        >>> next_item_view(sa.Reorder(1.0, 1.0), items, target, generator=torch.Generator().manual_seed(1))
        (tensor([[0, 4, 3, 1, 2]]), tensor([[0, 5, 0, 0, 0]]))
    """
    edit = policy.sample(items, timestamps=timestamps, generator=generator)
    kept = edit.align(target, fill=ignore_index)
    return edit(items), torch.where(fair_slots(edit, kept), kept, ignore_index)


def fair_slots(edit: Edit, target: Tensor) -> Tensor:
    """(B, L) bool: slots of an edit that cannot look up ``target``, which follows the edit.

    Args:
        edit: a draw.
        target: (B, L) ids, aligned by ``edit``.

    Returns:
        True where no earlier or own slot shows anything newer than the slot's own source, and the slot itself has not been
        given its target.
    """
    newest = edit.source.cummax(1).values
    return edit.valid & (edit.source >= newest) & (edit.replaced != target)
