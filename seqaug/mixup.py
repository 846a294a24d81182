"""MixupOp: an augmented view mixed into the vectors of the row it was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, overload

import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import TypeVar

from seqaug._calls import calls
from seqaug._checks import check_alpha, check_choice, check_items
from seqaug.edit import Edit, identity
from seqaug.noise import draw_beta
from seqaug.operator import Augmentation
from seqaug.packed import Packed, is_packed, pack
from seqaug.packed_edit import PackedEdit, packed_identity
from seqaug.packed_mix import PackedMix, in_form_of, same_slot

_WEIGHTINGS = ("batch_sum", "row", "mean_one", "none")
_LEAST_LAM, _LEAST_RATE = 1e-12, 1e-6
_CLIP = 10.0  # in "mean_one", no weight counts more than so many times the batch's median


@dataclass(frozen=True, eq=False)
class Mix:
    """One draw of a :class:`MixupOp`.

    Args:
        edit: the view.
        lam: (B,) float32 in [0, 1]; share of the row's own vectors.
        weight: (B,) float32, at least 0; weight of the row's loss on the mixed vectors.
        mixed: (B, L) bool; the slots that are mixed, elsewhere the original stays.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.tensor([[0, 1, 2, 3, 4]])
        >>> mix = sa.MixupOp(sa.Crop(0.5, 0.5)).sample(items, generator=torch.Generator().manual_seed(0))
        >>> mix.edit(items), mix.mixed
        (tensor([[0, 0, 0, 3, 4]]), tensor([[False, False, False,  True,  True]]))
        >>> own, view = torch.ones(1, 5, 2), torch.zeros(1, 5, 2)
        >>> mix(own, view)[0, :, 0] == mix.lam  # 1 where the row's own vector stays
        tensor([False, False, False,  True,  True])
    """

    edit: Edit
    lam: Tensor
    weight: Tensor
    mixed: Tensor

    def of_rows(self, rows: Tensor) -> Mix:
        """What the draw is for some rows of the batch, with the weights they have in the whole of it.

        Processes that share a batch draw for all of it with equal generators and take their rows: the draw, and weights that are
        scaled over the batch, do not depend on who has which row.

        Args:
            rows: (R,) int64, on the draw's device.

        Returns:
            The mix of ``items[rows]``.

        Example:
            >>> import torch, seqaug as sa
            >>> mixup, items = sa.MixupOp(sa.Crop(0.2, 0.7)), torch.arange(1, 33).view(8, 4)
            >>> whole = mixup.sample(items, generator=torch.Generator().manual_seed(0))
            >>> own = torch.tensor([1, 3, 5, 7])
            >>> part = whole.of_rows(own)
            >>> torch.equal(part.edit(items[own]), whole.edit(items)[own])
            True
        """
        return Mix(self.edit.of_rows(rows), self.lam[rows], self.weight[rows], self.mixed[rows])

    def __call__(self, own: Tensor, view: Tensor) -> Tensor:
        """lam * own + (1 - lam) * view where the slot is mixed, ``own`` elsewhere.

        Args:
            own: (B, L, D) float; vectors of the items.
            view: (B, L, D) float; vectors of ``edit(items)``.

        Returns:
            (B, L, D) of the dtype of ``own``.

        Raises:
            TypeError: dtypes that differ.
            ValueError: shapes that differ or are not aligned with the batch.
        """
        if own.shape != view.shape or own.shape[:2] != self.mixed.shape or own.ndim != 3:
            raise ValueError(
                f"vectors must be (batch, slots, features) on the batch {tuple(self.mixed.shape)}, "
                f"got own.shape={tuple(own.shape)} and view.shape={tuple(view.shape)}"
            )
        if own.dtype != view.dtype:
            raise TypeError(
                f"vectors of row and view must be of one dtype, got own.dtype={own.dtype}, view.dtype={view.dtype}"
            )
        lam = rearrange(self.lam, "b -> b 1 1").to(own.dtype)
        return torch.where(rearrange(self.mixed, "b l -> b l 1"), torch.lerp(view, own, lam), own)


Vectors = TypeVar("Vectors", Tensor, Packed, default=Tensor)
Draw = TypeVar("Draw", Edit, PackedEdit, default=Edit)


@dataclass(frozen=True, eq=False)
class Mixed(Generic[Vectors, Draw]):
    """What a :class:`MixupOp` hands to an encoder. ``Mixed`` is of padded rows, ``Mixed[Packed, PackedEdit]`` of packed ones.

    Args:
        embeddings: (B, L, D) float; the mixed vectors. Of packed rows (T, D), packed or nested as the rows were.
        weight: (B,) float32; weight of the row's loss on them.
        lam: (B,) float32; share of the row's own vectors.
        edit: the view.

    Example:
        >>> import torch, seqaug as sa
        >>> mixup, embedding = sa.MixupOp(sa.Crop(0.5, 0.5)), torch.nn.Embedding(7, 3)
        >>> mixed = mixup(torch.tensor([[0, 1, 2, 3, 4]]), embedding)
        >>> mixed.embeddings.shape, mixed.weight  # of one row the weight is 1
        (torch.Size([1, 5, 3]), tensor([1.]))
    """

    embeddings: Vectors
    weight: Tensor
    lam: Tensor
    edit: Draw


class MixupOp(nn.Module):
    """Mix an augmented view into the vectors of its row: lam * E(items) + (1 - lam) * E(view), lam ~ Beta(alpha, alpha) per row.

    Attention mask, targets and negatives stay those of the row. Where the view is padded and the row is not, the row's own
    vector stays. The loss on the mixed vectors is weighted by omega = 1 / (lam * rate), min-max scaled over the batch:

    * ``"row"``: omega as the papers write it. lam is heavy-tailed, so one row of a batch gets 1 and the others next to nothing.
    * ``"batch_sum"``: the sum of omega over the batch, one number for all its rows. What the published figures come from.
    * ``"mean_one"``: 1 / (lam * rate), clipped at ten times its median and scaled to mean 1.
    * ``"none"``: 1.

    A batch of one row, or of equal omega, has weight 1.

    Args:
        operator: an operator or policy; ``MixupOp(Crop(a, b))`` is M-Crop.
        alpha: of the Beta distribution, positive.
        weighting: ``"batch_sum"``, ``"row"``, ``"mean_one"`` or ``"none"``.
        future: what happens in slots where the view shows something newer than the row had there: ``"keep"`` the row's own
            vector, or ``"mix"`` all the same, as the papers do, so that the model sees some of its targets.
        pad_mix: what happens where the view is padded and the row is not: ``"keep"`` the row's own vector, or mix with the
            ``"embedding"`` of the pad id, as BASRec's code does.

    Raises:
        TypeError: ``operator`` is not one.
        ValueError: an unknown option, or an ``alpha`` that is not positive.

    Example:
        >>> import torch, seqaug as sa
        >>> embedding = torch.nn.Embedding(101, 8, padding_idx=0)
        >>> mixup = sa.MixupOp(sa.Crop(0.2, 0.7), alpha=0.4)
        >>> mixed = mixup(torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]), embedding)
        >>> mixed.embeddings.shape, mixed.weight.shape
        (torch.Size([2, 4, 8]), torch.Size([2]))

    Source: BASRec (Dang et al., 2025), eqs. 4-8; RM-HSAOCL (2025), eqs. 2-5 and 12.
    """

    def __init__(
        self,
        operator: Augmentation,
        alpha: float = 0.4,
        *,
        weighting: str = "batch_sum",
        future: str = "keep",
        pad_mix: str = "keep",
    ) -> None:
        super().__init__()
        if not isinstance(operator, Augmentation):
            raise TypeError(f"operator must be a seqaug operator or policy, got operator={operator!r}")
        check_alpha(alpha)
        check_choice("weighting", weighting, _WEIGHTINGS)
        check_choice("future", future, ("keep", "mix"))
        check_choice("pad_mix", pad_mix, ("keep", "embedding"))
        self.operator = operator
        self.alpha = float(alpha)
        self.weighting = weighting
        self.future = future
        self.pad_mix = pad_mix

    @overload
    def sample(
        self, items: Tensor, *, timestamps: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Mix: ...
    @overload
    def sample(
        self,
        items: Packed,
        *,
        timestamps: Packed | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PackedMix: ...
    def sample(self, items: Any, *, timestamps: Any = None, generator: torch.Generator | None = None) -> Any:
        """Draw a view and its mixing weights, in training and in evaluation mode alike.

        Args:
            items: (B, L) int64 or int32 ids, or a :class:`~seqaug.Packed` or nested tensor of them. Not written to.
            timestamps: aligned with ``items``, needed by time-aware operators.
            generator: on the device of ``items``; the global state is then left alone.

        Returns:
            A :class:`Mix`, of packed rows a :class:`~seqaug.PackedMix`: the same draw.
        """
        return self._mix_of(
            self.operator.sample(items, timestamps=timestamps, generator=generator), items, generator
        )

    @overload
    def sample_views(
        self,
        items: Tensor,
        views: int,
        *,
        timestamps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Mix]: ...
    @overload
    def sample_views(
        self,
        items: Packed,
        views: int,
        *,
        timestamps: Packed | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[PackedMix]: ...
    def sample_views(
        self, items: Any, views: int, *, timestamps: Any = None, generator: torch.Generator | None = None
    ) -> Any:
        """Draw several views of one batch, each with mixing weights of its own; with :class:`~seqaug.EachOnce` inside, of each
        operator once per row.

        Args:
            items: as in :meth:`sample`.
            views: how many, at least 1.
            timestamps: as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            A list of ``views`` mixes.
        """
        edits = self.operator.sample_views(items, views, timestamps=timestamps, generator=generator)
        return [self._mix_of(edit, items, generator) for edit in edits]

    @overload
    def mix_of(self, edit: Edit, items: Tensor, generator: torch.Generator | None = None) -> Mix: ...
    @overload
    def mix_of(
        self, edit: PackedEdit, items: Packed, generator: torch.Generator | None = None
    ) -> PackedMix: ...
    def mix_of(self, edit: Any, items: Any, generator: torch.Generator | None = None) -> Any:
        """A mix with a given view: only lam is drawn.

        Args:
            edit: sampled on ``items``.
            items: ids, as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            A :class:`Mix`, of packed rows a :class:`~seqaug.PackedMix`.

        Raises:
            ValueError: ``items`` are not aligned with ``edit``.
        """
        edit.check_aligned(pack(items) if is_packed(items) else items)
        return self._mix_of(edit, items, generator)

    def _mix_of(self, edit: Any, items: Any, generator: torch.Generator | None) -> Any:
        lam = draw_beta(self.alpha, edit.rate.shape, edit.rate.device, generator)
        weight = mix_weight(lam, edit.rate, self.weighting)
        if isinstance(edit, PackedEdit):
            place = same_slot(edit.before, edit.offsets, None, edit.size, edit.side)
            mixed = place >= 0 if self.pad_mix == "keep" else torch.ones_like(place, dtype=torch.bool)
            if self.future == "keep":
                mixed = mixed & ~((place >= 0) & edit.future[place.clamp(min=0)])
            return PackedMix(edit, lam, weight, mixed, place)
        mixed = items != self.operator.pad_id
        if self.pad_mix == "keep":
            mixed = mixed & edit.valid
        if self.future == "keep":
            mixed = mixed & ~edit.future
        return Mix(edit, lam, weight, mixed)

    @overload
    def forward(
        self,
        items: Tensor,
        embedding: Callable[[Tensor], Tensor],
        *,
        timestamps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Mixed: ...
    @overload
    def forward(
        self,
        items: Packed,
        embedding: Callable[[Tensor], Tensor],
        *,
        timestamps: Packed | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Mixed[Packed, PackedEdit]: ...
    def forward(
        self,
        items: Any,
        embedding: Callable[[Tensor], Tensor],
        *,
        timestamps: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Mix the vectors of a batch with those of a fresh view; in evaluation mode the batch's own vectors, lam = weight = 1.

        Args:
            items: as in :meth:`sample`.
            embedding: ids (B, L) to vectors (B, L, D), of packed rows (T,) to (T, D), as ``model.item_embedding``.
            timestamps: as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            A :class:`Mixed`.

        Raises:
            TypeError: ``embedding`` cannot be called.
            ValueError: on a CPU, an id of the view that ``embedding`` has no row for.
        """
        if not callable(embedding):
            raise TypeError(
                f"embedding must turn ids into vectors, got {type(embedding).__name__}: "
                "pass model.item_embedding, or lambda ids: table[ids]"
            )
        if is_packed(items):
            return self._mix_packed(items, embedding, timestamps, generator)
        if not self.training:
            check_items(items)
            ones = torch.ones(items.shape[0], dtype=torch.float32, device=items.device)
            return Mixed(embedding(items), ones, ones, identity(items, self.operator.pad_id))
        mix = self.sample(items, timestamps=timestamps, generator=generator)
        own, view = embedding(items), vectors_of_view(embedding, mix.edit(items))
        return Mixed(mix(own, view), mix.weight, mix.lam, mix.edit)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...

    def _mix_packed(
        self,
        items: Any,
        embedding: Callable[[Tensor], Tensor],
        timestamps: Any,
        generator: torch.Generator | None,
    ) -> Mixed[Any, PackedEdit]:
        rows = pack(items)
        own = embedding(rows.values)
        if not self.training:
            ones = torch.ones(len(rows.offsets) - 1, dtype=torch.float32, device=rows.values.device)
            edit = packed_identity(rows, self.operator.pad_id, self.operator.side)
            return Mixed(in_form_of(items, own), ones, ones, edit)
        mix = self.sample(rows, timestamps=timestamps, generator=generator)
        padding = None
        if self.pad_mix == "embedding":
            padding = embedding(torch.full_like(rows.values[:1], self.operator.pad_id))
        mixed = mix(own, vectors_of_view(embedding, mix.edit(rows).values), padding)
        return Mixed(in_form_of(items, mixed), mix.weight, mix.lam, mix.edit)

    def __repr__(self) -> str:
        defaults = {"weighting": "batch_sum", "future": "keep", "pad_mix": "keep"}
        options = "".join(
            f", {name}={getattr(self, name)!r}"
            for name, value in defaults.items()
            if getattr(self, name) != value
        )
        return f"MixupOp({self.operator!r}, alpha={self.alpha!r}{options})"


def vectors_of_view(embedding: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """``embedding(ids)``; a CPU finds out that a new id, such as the mask's, has no row there."""
    try:
        return embedding(ids)
    except IndexError as error:
        raise ValueError(
            f"embedding must have a row for every id of the view, got ids from {int(ids.min())} to {int(ids.max())}: "
            "with items 1..V and the mask V + 1 it has V + 2 rows"
        ) from error


def mix_weight(lam: Tensor, rate: Tensor, weighting: str) -> Tensor:
    """The weight of each row's loss on its mixed vectors; see :class:`MixupOp`.

    Args:
        lam: (B,) float32 in [0, 1].
        rate: (B,) float32 in [0, 1].
        weighting: ``"batch_sum"``, ``"row"``, ``"mean_one"`` or ``"none"``.

    Returns:
        (B,) float32.
    """
    if weighting == "none" or lam.shape[0] < 2:
        return torch.ones_like(lam)
    omega = 1.0 / (lam.clamp(min=_LEAST_LAM) * rate.clamp(min=_LEAST_RATE))
    if weighting == "mean_one":
        omega = omega.minimum(_CLIP * omega.median())
        return omega / omega.mean()
    low, high = omega.min(), omega.max()
    differ = high > low
    scaled = (omega - low) / torch.where(differ, high - low, 1.0)
    if weighting == "batch_sum":
        scaled = scaled.sum().expand_as(lam)
    return torch.where(differ, scaled, 1.0)
