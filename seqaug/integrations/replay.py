"""RePlay (replay-rec 0.22): a policy as one of its batch transforms, a loss in its loss protocol.

RePlay pads on the left with the cardinality, and **0 is a real item**. Give the schema one id more than there are items and
that id serves as mask: items 0..V - 1, mask V, padding V + 1, ``cardinality=V + 1``. Then
``sa.Mask(..., mask_id=V, pad_id=V + 1)`` and ``sa.ICELoss(catalog=slice(0, V), ignore_index=V + 1)`` agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from seqaug._calls import calls
from seqaug.integrations.view import fair_slots
from seqaug.losses import ItemLoss
from seqaug.operator import Augmentation


class AugmentTransform(nn.Module):
    """Augment the batch of a ``ParquetModule``, labels and masks and all; right after ``NextTokenTransform``.

    Labels follow the items as in :func:`~seqaug.integrations.next_item_view`; what cannot fairly be asked for is False in the
    mask of the labels. In evaluation mode the batch stays as it is.

    Args:
        policy: an operator or a policy; its ``pad_id`` is the schema's ``padding_value``.
        items: name of the item ids.
        labels: name of the next items.
        features: other columns that are aligned with the items (times, categories), with their padding.
        mask_postfix: what RePlay adds to a name for its mask of real slots.

    Raises:
        KeyError: a column that the batch has not; the message lists those it has.

    Example:
        >>> import torch, seqaug as sa
        >>> from seqaug.integrations.replay import AugmentTransform
        >>> batch = {
        ...     "item_id": torch.tensor([[9, 0, 1, 2]]),
        ...     "item_id_mask": torch.tensor([[False, True, True, True]]),
        ...     "positive_labels": torch.tensor([[0, 1, 2, 3]]),
        ...     "positive_labels_mask": torch.tensor([[True, True, True, True]]),
        ... }
        >>> _ = torch.manual_seed(0)
        >>> out = AugmentTransform(sa.Crop(0.4, 0.4, pad_id=9))(batch)
        >>> out["item_id"], out["positive_labels_mask"], out["positive_labels"][:, -1]
        (tensor([[9, 9, 9, 2]]), tensor([[False, False, False,  True]]), tensor([3]))
    """

    def __init__(
        self,
        policy: Augmentation,
        *,
        items: str = "item_id",
        labels: str = "positive_labels",
        features: Mapping[str, float] | None = None,
        mask_postfix: str = "_mask",
    ) -> None:
        super().__init__()
        self.policy = policy
        self.items = items
        self.labels = labels
        self.features = dict(features or {})
        self.mask_postfix = mask_postfix

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.training:
            return batch
        mask, labels_mask = self.items + self.mask_postfix, self.labels + self.mask_postfix
        missing = [
            name for name in (self.items, self.labels, labels_mask, *self.features) if name not in batch
        ]
        if missing:
            raise KeyError(
                f"expected a batch with {missing[0]!r}, got {', '.join(batch)}: "
                "put AugmentTransform right after NextTokenTransform, before columns are renamed or grouped"
            )
        edit = self.policy.sample(batch[self.items])
        labels = edit.align(batch[self.labels])
        return batch | {
            self.items: edit(batch[self.items]),
            mask: edit.valid,
            self.labels: labels,
            labels_mask: edit.align(batch[labels_mask], fill=False) & fair_slots(edit, labels),
            **{name: edit.align(batch[name], fill=fill) for name, fill in self.features.items()},
        }

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...


class NextItemLoss(nn.Module):
    """A seqaug loss where RePlay's models want one: ``SasRec(body, loss=NextItemLoss(sa.ICELoss(...)))``.

    RePlay hands a loss hidden states and a function that makes logits; the item vectors come from the model that this function
    belongs to, and the logits are never made.

    Args:
        loss: ids of the schema, ``ignore_index`` its padding. One that needs negatives is given RePlay's ``negative_labels``.
        table: () -> item vectors, for models that do not keep them in ``body.embedder.get_item_weights``.

    Raises:
        TypeError: ``loss`` is not a loss of seqaug.
        ValueError: several positive labels per slot; or a model whose item vectors are not found.
    """

    def __init__(self, loss: ItemLoss, *, table: Callable[[], Tensor] | None = None) -> None:
        super().__init__()
        if not isinstance(loss, ItemLoss):
            raise TypeError(
                f"loss must be a loss of seqaug, such as sa.ICELoss(catalog=...), got loss={loss!r}"
            )
        self.loss = loss
        self._table = table
        self._logits_callback: Callable[..., Tensor] | None = None

    @property
    def logits_callback(self) -> Callable[..., Tensor]:
        """The model's function of logits, which RePlay sets; used for nothing but to find the model."""
        if self._logits_callback is None:
            raise RuntimeError("logits_callback is not set: pass this loss to a model of RePlay")
        return self._logits_callback

    @logits_callback.setter
    def logits_callback(self, function: Callable[..., Tensor] | None) -> None:
        self._logits_callback = function

    def table(self) -> Tensor:
        """(items, features): the model's item vectors, without the row of padding."""
        if self._table is not None:
            return self._table()
        model: Any = getattr(self.logits_callback, "__self__", None)
        weights = getattr(getattr(getattr(model, "body", None), "embedder", None), "get_item_weights", None)
        if weights is None:
            raise ValueError(
                f"expected a model with body.embedder.get_item_weights, got {type(model).__name__}; pass table="
            )
        return weights()

    def forward(
        self,
        model_embeddings: Tensor,
        feature_tensors: Any,
        positive_labels: Tensor,
        negative_labels: Tensor | None,
        padding_mask: Tensor,
        target_padding_mask: Tensor,
    ) -> Tensor:
        """The loss of one batch: hidden states (B, L, D), labels and their mask (B, L, 1)."""
        if positive_labels.shape[-1] != 1:
            raise ValueError(
                f"expected one positive label per slot, got positive_labels.shape={tuple(positive_labels.shape)}"
            )
        return self.loss(
            model_embeddings,
            self.table(),
            positive_labels[..., 0],
            negatives=negative_labels if self.loss.needs_negatives else None,
            valid=target_padding_mask[..., 0],
        )

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...
