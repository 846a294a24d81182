"""Edit: what one draw of an operator is, how it applies, and how two of them compose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from seqaug._checks import check_fill, check_items, check_tensor
from seqaug.slots import new_or_read


@dataclass(frozen=True, eq=False)
class Edit:
    """What happens to a batch: which slot each output slot reads, and which slots hold a new id.

    ``edit(items)`` writes ids; ``edit.align(x)`` makes anything else that is aligned with the batch follow the same draw.

    Args:
        source: (B, L) int64 in [-1, L); the slot read by each output slot, -1 for padding.
        replaced: (B, L) ids; the new id of a slot, -1 where it keeps the one it reads.
        rate: (B,) float32 in [0, 1]; the drawn rate, 1 for a row left untouched.
        pad_id: what padded output slots hold.
        choice: (B,) int64; which operator of the outermost policy made the row, -1 for none; ``None`` for a plain operator.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.tensor([[0, 0, 3, 7, 5]])
        >>> edit = sa.Edit(
        ...     source=torch.tensor([[-1, -1, 2, 4, 3]]), replaced=torch.full((1, 5), -1), rate=torch.ones(1)
        ... )
        >>> edit(items)
        tensor([[0, 0, 3, 5, 7]])
        >>> edit.align(torch.tensor([[0.0, 0.0, 0.3, 0.7, 0.5]]))
        tensor([[0.0000, 0.0000, 0.3000, 0.5000, 0.7000]])
        >>> edit.future  # slot 3 shows what the row only had in slot 4
        tensor([[False, False, False,  True, False]])
    """

    source: Tensor
    replaced: Tensor
    rate: Tensor
    pad_id: int = 0
    choice: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """(B, L) bool: the real output slots."""
        return self.source >= 0

    @property
    def future(self) -> Tensor:
        """(B, L) bool: the slots that show something newer than the row had there, so that a causal model sees its target."""
        return self.source > torch.arange(self.source.shape[1], device=self.source.device)

    def __call__(self, items: Tensor) -> Tensor:
        """Apply the edit to the batch it was sampled on.

        Args:
            items: (B, L) int64 or int32 ids. Not written to.

        Returns:
            (B, L) ids of the same dtype: the augmented batch.

        Raises:
            TypeError: ``items`` is not a tensor of ids.
            ValueError: ``items`` is not of the edit's shape.
        """
        check_items(items)
        self.check_aligned(items)
        read = items.gather(1, self.source.clamp(min=0))
        return new_or_read(self.replaced.to(items.dtype), read).masked_fill_(self.source < 0, self.pad_id)

    def align(self, x: Tensor, fill: float | int | bool = 0) -> Tensor:
        """Make something aligned with the batch follow the same draw. Slots with a new id keep the features of their source.

        Args:
            x: (B, L, ...) of any dtype: timestamps, categories, ratings, vectors.
            fill: what padded slots hold.

        Returns:
            A tensor of the shape and dtype of ``x``.

        Raises:
            TypeError: ``x`` is not a tensor.
            ValueError: the first two axes of ``x`` are not those of the edit, or its dtype cannot hold ``fill``.
        """
        self.check_aligned(x)
        check_fill(fill, x.dtype)
        trailing = (1,) * (x.ndim - 2)
        index = self.source.clamp(min=0).reshape(*self.source.shape, *trailing).expand_as(x)
        valid = self.valid.reshape(*self.source.shape, *trailing)
        return torch.where(valid, x.gather(1, index), torch.full((), fill, dtype=x.dtype, device=x.device))

    def then(self, other: Edit) -> Edit:
        """This edit followed by one that was sampled on its result: ``edit.then(other)(items) == other(edit(items))``.

        Args:
            other: an edit of the same shape, sampled on ``self(items)``.

        Returns:
            One edit; its rate is the mean of the two, its ``choice`` is ``None``.

        Raises:
            TypeError: ``other`` is not an edit of a padded batch.
            ValueError: shapes or pad ids differ.
        """
        if not isinstance(other, Edit):
            raise TypeError(
                f"other must be an edit sampled on what this one makes of a batch, got {type(other).__name__}"
            )
        other.check_aligned(self.source)
        if other.pad_id != self.pad_id:
            raise ValueError(
                f"edits in a row must share a pad id, got pad_id={self.pad_id} and then pad_id={other.pad_id}"
            )
        slot = other.source.clamp(min=0)
        source = torch.where(other.valid, self.source.gather(1, slot), -1)
        kept = self.replaced.gather(1, slot)
        replaced = new_or_read(other.replaced.to(kept.dtype), kept).masked_fill_(source < 0, -1)
        return Edit(source, replaced, (self.rate + other.rate) / 2, self.pad_id)

    def describe(self, row: int, items: Tensor | None = None) -> str:
        """What happened to one row, in words; see :func:`seqaug.inspect.describe`."""
        from seqaug.inspect import describe  # it looks at operators too, which are made of edits

        return describe(self, row, items)

    def of_rows(self, rows: Tensor) -> Self:
        """What the draw is for some rows of the batch: for a process that has only these.

        Args:
            rows: (R,) int64, on the edit's device.

        Returns:
            The edit of ``items[rows]``.
        """
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device | str) -> Self:
        """The same edit on another device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The edit with every tensor of it changed; of a subclass its own tensors as well."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(part) for name, part in parts.items() if isinstance(part, Tensor)}
        return replace(self, **(parts | changed))

    def check_aligned(self, x: Tensor) -> None:
        """Raise a ValueError unless ``x`` has the rows and slots of the batch."""
        check_tensor("x", x, "(batch, slots, ...)")
        if x.ndim < 2 or x.shape[:2] != self.source.shape:
            raise ValueError(
                f"the edit was sampled on (batch, slots) = {tuple(self.source.shape)}, got a tensor of shape={tuple(x.shape)}: "
                "apply an edit only to what is aligned with the batch it was sampled on"
            )


def identity(items: Tensor, pad_id: int = 0) -> Edit:
    """The edit that changes nothing: every real slot reads itself, at rate 1.

    Args:
        items: (B, L) ids.
        pad_id: the id of padding.

    Returns:
        An :class:`Edit` without ``choice``.
    """
    slots = torch.arange(items.shape[1], device=items.device)
    source = torch.where(items != pad_id, slots, -1)
    return Edit(
        source,
        torch.full_like(items, -1),
        torch.ones(items.shape[0], dtype=torch.float32, device=items.device),
        pad_id,
    )


def where(rows: Tensor, yes: Edit, no: Edit) -> Edit:
    """Row by row one of two edits of the same batch; ``choice`` is left to the caller.

    Args:
        rows: (B,) bool.
        yes: taken where ``rows`` is true.
        no: taken elsewhere.

    Returns:
        An :class:`Edit`.
    """
    return Edit(
        torch.where(rows[:, None], yes.source, no.source),
        torch.where(rows[:, None], yes.replaced, no.replaced),
        torch.where(rows, yes.rate, no.rate),
        yes.pad_id,
    )
