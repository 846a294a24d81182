"""Mixing on rows without padding: the draws and the mixed vectors of the padded batch, for its real slots alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqaug._checks import Side, check_ids
from seqaug.groups import spread
from seqaug.packed import Packed, is_nested, values_of
from seqaug.packed_edit import PackedEdit
from seqaug.soft_target import SoftTarget


@dataclass(frozen=True, eq=False)
class PackedMix:
    """One draw of a :class:`MixupOp` on packed rows: a :class:`~seqaug.Mix` with one entry for each value instead of each slot.

    Args:
        edit: the view.
        lam: (B,) float32 in [0, 1]; share of the row's own vectors.
        weight: (B,) float32, at least 0; weight of the row's loss on the mixed vectors.
        mixed: (T,) bool; the values that are mixed, elsewhere the original stays.
        place: (T,) int64; the value of the view in the same slot, -1 where the view is padded.

    Example:
        >>> import torch, seqaug as sa
        >>> items, table = sa.pack([[1, 2, 3, 4], [5, 6]]), torch.randn(10, 8)
        >>> mix = sa.MixupOp(sa.Mask(0.5, 0.5, mask_id=9)).sample(items)
        >>> mix(table[items.values], table[mix.edit(items).values]).shape
        torch.Size([6, 8])
    """

    edit: PackedEdit
    lam: Tensor
    weight: Tensor
    mixed: Tensor
    place: Tensor

    def __call__(self, own: Any, view: Any, padding: Tensor | None = None) -> Any:
        """lam * own + (1 - lam) * view where a value is mixed, ``own`` elsewhere.

        Args:
            own: (T, D) float, bare, packed or nested; vectors of the items.
            view: (T', D) float, likewise; vectors of ``edit(items)``.
            padding: (D,); vector of the pad id, for a :class:`MixupOp` with ``pad_mix="embedding"``; ``None`` is zeros, which an
                embedding with ``padding_idx`` has there.

        Returns:
            Vectors (T, D) in the form and of the dtype of ``own``.

        Raises:
            TypeError: dtypes that differ.
            ValueError: shapes that are not those of the rows and of their view.
        """
        before, after = values_of(own), values_of(view)
        if (
            before.ndim != 2
            or after.shape != (len(self.edit.source), before.shape[1])
            or len(before) != len(self.mixed)
        ):
            raise ValueError(
                f"vectors must be ({len(self.mixed)}, features) of the rows and ({len(self.edit.source)}, features) of the view, "
                f"got own.shape={tuple(before.shape)} and view.shape={tuple(after.shape)}"
            )
        if before.dtype != after.dtype:
            raise TypeError(
                f"vectors of rows and view must be of one dtype, got own.dtype={before.dtype}, view.dtype={after.dtype}"
            )
        shown = after[self.place.clamp(min=0)]
        blank = torch.zeros_like(shown[:1]) if padding is None else padding
        shown = torch.where((self.place >= 0)[:, None], shown, blank)
        lam = spread(self.lam, self.edit.before.diff(), len(before))[:, None].to(before.dtype)
        return in_form_of(own, torch.where(self.mixed[:, None], torch.lerp(shown, before, lam), before))


@dataclass(frozen=True, eq=False)
class PackedPair:
    """One draw of a :class:`CrossMixup` on packed rows: a :class:`~seqaug.Pair` with one entry for each value instead of each slot.

    Args:
        partner: (B,) int64; a permutation of the batch.
        lam: (T, 1) or (T, D) float32 in [0, 1]; share of the row itself.
        mixed: (T,) bool; where row and partner are both real. Elsewhere the row stays as it is.
        place: (T,) int64; the partner's value in the same slot, -1 where the partner is padded.
        over: ``"position"`` or ``"feature"``.

    Example:
        >>> import torch, seqaug as sa
        >>> hidden = sa.pack([[1, 2, 3, 4], [5, 6]]).like(torch.randn(6, 8))
        >>> pair = sa.CrossMixup(alpha=0.4).sample(hidden)
        >>> pair(hidden.values).shape, pair.mixed.shape
        (torch.Size([6, 8]), torch.Size([6]))
    """

    partner: Tensor
    lam: Tensor
    mixed: Tensor
    place: Tensor
    over: str

    def __call__(self, x: Any) -> Any:
        """lam * x + (1 - lam) * x of the partner where both are real, ``x`` elsewhere.

        Args:
            x: (T, D) float, bare, packed or nested; hidden states or vectors of targets.

        Returns:
            Vectors (T, D) in the same form.

        Raises:
            ValueError: ``x`` is not aligned with the rows.
        """
        values = values_of(x)
        if (
            values.ndim != 2
            or len(values) != len(self.mixed)
            or self.lam.shape[1] not in (1, values.shape[1])
        ):
            raise ValueError(
                f"expected vectors (values, features) of the rows' {len(self.mixed)} values "
                f"for lam.shape={tuple(self.lam.shape)}, got shape={tuple(values.shape)}"
            )
        other = values[self.place.clamp(min=0)]
        mixed = torch.lerp(other, values, self.lam.to(values.dtype))
        return in_form_of(x, torch.where(self.mixed[:, None], mixed, values))

    def targets(self, target: Any) -> SoftTarget:
        """The targets of position mixing; see :meth:`seqaug.Pair.targets`.

        Args:
            target: (T,) ids, bare, packed or nested.

        Returns:
            A :class:`~seqaug.SoftTarget` of (T,) ids.

        Raises:
            TypeError: the mix is over features, or ``target`` holds no ids.
            ValueError: ``target`` is not aligned with the rows.
        """
        if self.over == "feature":
            raise TypeError(
                "feature mixing has no pair of target ids, since each feature has its own lam, "
                f"got lam.shape={tuple(self.lam.shape)}: mix the target vectors, pair(table[target])"
            )
        ids = values_of(target)
        check_ids("target", ids)
        if ids.shape != self.mixed.shape:
            raise ValueError(
                f"target must be aligned with the rows {tuple(self.mixed.shape)}, got target.shape={tuple(ids.shape)}"
            )
        second = torch.where(self.mixed, ids[self.place.clamp(min=0)], ids)
        return SoftTarget(ids, second, self.lam.squeeze(1))


def same_slot(rows: Tensor, others: Tensor, order: Tensor | None, total: int, side: Side) -> Tensor:
    """For each value of packed rows the value in the same slot of other rows.

    Args:
        rows: (B + 1,) int64 offsets.
        others: (B' + 1,) int64 offsets.
        order: (B,) int64; which of the other rows belongs to each row, ``None`` for the one of the same number.
        total: T, the number of values of ``rows``.
        side: where the batch is padded that the rows stand for: they are aligned at the other end.

    Returns:
        (T,) int64; -1 where the other row is padded.
    """
    begin, end = (part if order is None else part[order] for part in (others[:-1], others[1:]))
    shift = end - rows[1:] if side == "left" else begin - rows[:-1]
    lengths = rows.diff()
    place = torch.arange(total, device=rows.device) + spread(shift, lengths, total)
    inside = place >= spread(begin, lengths, total) if side == "left" else place < spread(end, lengths, total)
    return torch.where(inside, place, -1)


def in_form_of(x: Any, values: Tensor) -> Any:
    """New values of the same rows, bare, packed or nested as ``x`` is."""
    if isinstance(x, Packed):
        return x.like(values)
    return torch.nested.nested_tensor_from_jagged(values, x.offsets()) if is_nested(x) else values
