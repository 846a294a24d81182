"""Mask: some items become the mask id."""

from __future__ import annotations

import torch
from torch import Tensor

from seqaug._checks import Side, check_count, check_fits
from seqaug.edit import Edit
from seqaug.noise import Noise
from seqaug.operator import Operator
from seqaug.slots import choose, slot_numbers


class Mask(Operator):
    """Put the mask id in place of max(1, floor(rate * n)) distinct items of the row, chosen uniformly.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        mask_id: the id of the mask, with a row of its own in the item table (by convention V + 1).
        pad_id: the id of padding; must not be the mask id, since a padded slot is cut out of attention.
        side: where the padding is.

    Raises:
        ValueError: ``mask_id`` is negative or the pad id, or does not fit into the dtype of the items.

    Example:
        >>> import torch, seqaug as sa
        >>> mask = sa.Mask(0.5, 0.5, mask_id=99)
        >>> mask(torch.tensor([[0, 1, 2, 3, 4]]), generator=torch.Generator().manual_seed(0))
        tensor([[ 0,  1, 99,  3, 99]])

    Source: CL4SRec (Xie et al., 2022), eq. 6; the rate interval is RM-HSAOCL (2025), eqs. 2 and 6.
    """

    lengthens = False

    def __init__(
        self, low: float, high: float, *, mask_id: int, pad_id: int = 0, side: Side = "left"
    ) -> None:
        super().__init__(low, high, pad_id=pad_id, side=side)
        check_count("mask_id", mask_id, 0)
        if mask_id == pad_id:
            raise ValueError(
                f"mask_id must differ from the pad id, got mask_id={mask_id} and pad_id={pad_id}: "
                "give the mask a row of its own in the item table, by convention V + 1"
            )
        self.mask_id = mask_id

    def plan(self, items: Tensor, noise: Noise, timestamps: Tensor | None = None) -> Edit:
        check_fits("mask_id", self.mask_id, items.dtype)
        chosen, real, rate = self.chosen(items, noise)
        source = torch.where(real, slot_numbers(items), -1)
        return Edit(source, choose(chosen, self.mask_id, -1, items.dtype), rate, self.pad_id)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.low), repr(self.high), f"mask_id={self.mask_id}", *self._layout()])
