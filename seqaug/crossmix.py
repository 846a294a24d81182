"""CrossMixup: rows of a batch mixed with one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from einops import rearrange
from torch import Tensor, nn

from seqaug._calls import calls
from seqaug._checks import Side, check_alpha, check_choice, check_ids, check_side, check_tensor
from seqaug._random import permutation
from seqaug.groups import spread
from seqaug.noise import draw_beta
from seqaug.packed import Packed, is_packed, pack
from seqaug.packed_mix import PackedPair, same_slot
from seqaug.soft_target import SoftTarget


@dataclass(frozen=True, eq=False)
class Pair:
    """One draw of a :class:`CrossMixup`.

    Args:
        partner: (B,) int64; a permutation of the batch.
        lam: (B, L, 1) or (B, 1, D) float32 in [0, 1]; share of the row itself.
        mixed: (B, L) bool; where row and partner are both real. Elsewhere the row stays as it is.
        over: ``"position"`` or ``"feature"``; what ``lam`` has an axis of.

    Example:
        >>> import torch, seqaug as sa
        >>> pair = sa.Pair(
        ...     torch.tensor([1, 0]), torch.full((2, 1, 1), 0.75), torch.tensor([[False], [True]]), "position"
        ... )
        >>> pair(torch.tensor([[[0.0]], [[4.0]]])).flatten()  # the second row is mixed with the first
        tensor([0., 3.])
    """

    partner: Tensor
    lam: Tensor
    mixed: Tensor
    over: str

    def __call__(self, x: Tensor) -> Tensor:
        """lam * x + (1 - lam) * x[partner] where both are real, ``x`` elsewhere.

        Args:
            x: (B, L, D) float; hidden states or vectors of targets.

        Returns:
            (B, L, D) of the same dtype.

        Raises:
            ValueError: ``x`` is not aligned with the batch.
        """
        if x.ndim != 3 or x.shape[:2] != self.mixed.shape or self.lam.shape[-1] not in (1, x.shape[-1]):
            raise ValueError(
                f"expected vectors (batch, slots, features) on the batch {tuple(self.mixed.shape)} "
                f"for lam.shape={tuple(self.lam.shape)}, got shape={tuple(x.shape)}"
            )
        return torch.where(self.mixed[..., None], torch.lerp(x[self.partner], x, self.lam.to(x.dtype)), x)

    def targets(self, target: Tensor) -> SoftTarget:
        """The targets of position mixing: a loss is lam * loss(own target) + (1 - lam) * loss(partner's target).

        Args:
            target: (B, L) ids.

        Returns:
            A :class:`~seqaug.SoftTarget`.

        Raises:
            TypeError: the mix is over features, where every feature has a weight of its own and no pair of ids says it, or
                ``target`` holds no ids.
            ValueError: ``target`` is not aligned with the batch.
        """
        if self.over == "feature":
            raise TypeError(
                "feature mixing has no pair of target ids, since each feature has its own lam, "
                f"got lam.shape={tuple(self.lam.shape)}: mix the target vectors, pair(table[target])"
            )
        check_ids("target", target)
        if target.shape != self.mixed.shape:
            raise ValueError(
                f"target must be aligned with the batch {tuple(self.mixed.shape)}, got target.shape={tuple(target.shape)}"
            )
        second = torch.where(self.mixed, target[self.partner], target)
        return SoftTarget(target, second, rearrange(self.lam, "b l 1 -> b l"))


def checked_valid(hidden: Tensor, valid: Tensor | None) -> Tensor:
    """(B, L) bool: the real slots of vectors, all of them for ``None``."""
    if check_tensor("hidden", hidden, "(batch, slots, features)").ndim != 3:
        raise ValueError(f"hidden must be (batch, slots, features), got hidden.shape={tuple(hidden.shape)}")
    rows, slots = hidden.shape[:2]
    if valid is None:
        return torch.ones(rows, slots, dtype=torch.bool, device=hidden.device)
    if check_tensor("valid", valid, "of bools").shape != (rows, slots) or valid.dtype != torch.bool:
        raise ValueError(
            f"valid must be a bool tensor {(rows, slots)}, got valid.shape={tuple(valid.shape)}, valid.dtype={valid.dtype}"
        )
    return valid


def _refuse_valid(valid: Tensor | None) -> None:
    """Packed rows have no padding to be told of."""
    if valid is not None:
        raise TypeError(
            "packed rows take no valid=, since all their values are real, "
            f"got valid of shape {tuple(valid.shape)}: leave it out, or pass padded hidden states (batch, slots, features)"
        )


class CrossMixup(nn.Module):
    """Mix each row with another one of the batch: lam * h + (1 - lam) * h[partner], lam ~ Beta(alpha, alpha).

    Args:
        alpha: of the Beta distribution, positive.
        over: ``"position"``: one lam per slot; ``"feature"``: one lam per feature.

    Raises:
        ValueError: an unknown ``over``, or an ``alpha`` that is not positive.

    Example:
        >>> import torch, seqaug as sa
        >>> hidden, target = torch.randn(4, 5, 8), torch.randint(1, 100, (4, 5))
        >>> pair = sa.CrossMixup(alpha=0.4).sample(hidden, valid=target != 0)
        >>> loss = sa.ICELoss(catalog=slice(1, 101))
        >>> loss(pair(hidden), torch.randn(102, 8), pair.targets(target)).shape
        torch.Size([])

    Source: BASRec (Dang et al., 2025), section "cross-sequence augmentation"; RM-HSAOCL (2025), eq. 13.
    """

    def __init__(self, alpha: float = 0.4, *, over: str = "position") -> None:
        super().__init__()
        check_alpha(alpha)
        check_choice("over", over, ("position", "feature"))
        self.alpha = float(alpha)
        self.over = over

    @overload
    def sample(
        self, hidden: Tensor, *, valid: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Pair: ...
    @overload
    def sample(
        self, hidden: Packed, *, generator: torch.Generator | None = None, side: Side = "left"
    ) -> PackedPair: ...
    def sample(
        self,
        hidden: Any,
        *,
        valid: Tensor | None = None,
        generator: torch.Generator | None = None,
        side: Side = "left",
    ) -> Any:
        """Draw partners, from the whole batch, and mixing weights.

        Args:
            hidden: (B, L, D) float, or a :class:`~seqaug.Packed` or nested tensor of (T, D); only shape and device are looked at.
            valid: (B, L) bool; the real slots, ``None`` for all.
            generator: on the device of ``hidden``; the global state is then left alone.
            side: of packed rows; where the batch that they stand for is padded.

        Returns:
            A :class:`Pair`, of packed rows a :class:`~seqaug.PackedPair`: the same draw.

        Raises:
            ValueError: ``hidden`` has not three axes, or ``valid`` is not aligned with it.
            TypeError: ``valid`` with packed rows, all of whose values are real.
        """
        if is_packed(hidden):
            _refuse_valid(valid)
            return self._sample_packed(pack(hidden), generator, side)
        valid = checked_valid(hidden, valid)
        rows, slots, features = hidden.shape
        partner = permutation(rows, hidden.device, generator)
        mixed = valid & valid[partner]
        if self.over == "feature":
            return Pair(
                partner,
                draw_beta(self.alpha, (rows, 1, features), hidden.device, generator),
                mixed,
                self.over,
            )
        lam = draw_beta(self.alpha, (rows, slots, 1), hidden.device, generator)
        return Pair(partner, torch.where(mixed[..., None], lam, 1.0), mixed, self.over)

    def _sample_packed(self, rows: Packed, generator: torch.Generator | None, side: Side) -> PackedPair:
        check_side(side)
        if rows.values.ndim != 2:
            raise ValueError(
                f"packed hidden states must be (values, features), got values.shape={tuple(rows.values.shape)}"
            )
        device = rows.offsets.device
        (total, features), count = rows.values.shape, len(rows.offsets) - 1
        partner = permutation(count, device, generator)
        place = same_slot(rows.offsets, rows.offsets, partner, total, side)
        mixed = place >= 0
        number = torch.arange(count, device=device)
        if self.over == "feature":
            lam = draw_beta(self.alpha, (count, 1, features), device, generator)
            lam = rearrange(lam, "b 1 d -> b d")[spread(number, rows.lengths, total)]
            return PackedPair(partner, lam, mixed, place, self.over)
        # For the padded slots as well, as on the padded batch.
        lam = draw_beta(self.alpha, (count, rows.length, 1), device, generator)
        lam = rearrange(lam, "b l 1 -> (b l) 1")[rows.cells(side)]
        return PackedPair(partner, torch.where(mixed[:, None], lam, 1.0), mixed, place, self.over)

    @overload
    def forward(
        self, hidden: Tensor, *, valid: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Pair: ...
    @overload
    def forward(
        self, hidden: Packed, *, generator: torch.Generator | None = None, side: Side = "left"
    ) -> PackedPair: ...
    def forward(
        self,
        hidden: Any,
        *,
        valid: Tensor | None = None,
        generator: torch.Generator | None = None,
        side: Side = "left",
    ) -> Any:
        """A fresh draw in training mode; in evaluation mode each row is its own partner and lam = 1. See :meth:`sample`."""
        if is_packed(hidden):
            _refuse_valid(valid)
            rows = pack(hidden)
            if self.training:
                return self._sample_packed(rows, generator, side)
            count, total, device = len(rows.offsets) - 1, len(rows.values), rows.offsets.device
            none = torch.zeros(total, dtype=torch.bool, device=device)
            own, place = torch.arange(count, device=device), torch.arange(total, device=device)
            return PackedPair(
                own, torch.ones(total, 1, dtype=torch.float32, device=device), none, place, self.over
            )
        if self.training:
            return self.sample(hidden, valid=valid, generator=generator)
        mixed = torch.zeros_like(checked_valid(hidden, valid))
        rows, slots, features = hidden.shape
        shape = (rows, 1, features) if self.over == "feature" else (rows, slots, 1)
        return Pair(
            torch.arange(rows, device=hidden.device),
            torch.ones(shape, dtype=torch.float32, device=hidden.device),
            mixed,
            self.over,
        )

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...

    def __repr__(self) -> str:
        return f"CrossMixup({self.alpha!r}, over={self.over!r})"
