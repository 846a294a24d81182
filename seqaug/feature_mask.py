"""FeatureMask: features of item vectors are dropped, and the view that keeps just these is its complement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from seqaug._calls import calls
from seqaug._checks import check_choice, check_count, check_rates, check_tensor
from seqaug._random import integers, uniform
from seqaug.slots import at_least_one


@dataclass(frozen=True, eq=False)
class DroppedFeatures:
    """One draw of a :class:`FeatureMask`.

    Args:
        dropped: (B, 1, D) or (B, L, D) bool; the features that become 0.
        rate: (B,) float32 in [0, 1]; the drawn rate.
        rescale: multiply what is kept, so that the sum over features stays the same on average.

    Example:
        >>> import torch, seqaug as sa
        >>> view = sa.DroppedFeatures(torch.tensor([[[True, False, False]]]), torch.tensor([0.3]))
        >>> view(torch.ones(1, 2, 3))
        tensor([[[0., 1., 1.],
                 [0., 1., 1.]]])
    """

    dropped: Tensor
    rate: Tensor
    rescale: bool = False

    @property
    def complement(self) -> DroppedFeatures:
        """The other half of the pair: it drops what this one keeps."""
        return replace(self, dropped=~self.dropped)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Apply the draw.

        Args:
            vectors: (B, L, D) float. Not written to.

        Returns:
            (B, L, D) of the same dtype.

        Raises:
            TypeError: ``vectors`` is not a tensor.
            ValueError: ``vectors`` are not aligned with the draw.
        """
        check_tensor("vectors", vectors, "(batch, slots, features)")
        rows, slots, features = self.dropped.shape
        if vectors.ndim != 3 or vectors.shape[::2] != (rows, features) or slots not in (1, vectors.shape[1]):
            raise ValueError(
                f"vectors must be (batch, slots, features) for dropped.shape={tuple(self.dropped.shape)}, "
                f"got vectors.shape={tuple(vectors.shape)}"
            )
        out = vectors.masked_fill(self.dropped, 0.0)
        if self.rescale:
            kept = (~self.dropped).sum(2, keepdim=True).clamp(min=1)
            out = out * (features / kept).to(out.dtype)
        return out


class FeatureMask(nn.Module):
    """Drop max(1, floor(rate * F)) distinct features of item vectors, chosen uniformly, but never all F of them.

    Two views of which one keeps what the other drops are the pair for a contrastive loss on items.

    Args:
        low: smallest rate, in [0, 1]; the rate is drawn once per row.
        high: largest rate, in [low, 1].
        fields: the vector is so many equally wide fields one after the other (category, brand, text, ...), dropped as a whole;
            ``None``: every component is a feature of its own.
        per: ``"row"``: all items of a row lose the same features; ``"slot"``: each item its own.
        rescale: multiply what is kept by F / kept, as dropout does.

    Raises:
        ValueError: not 0 <= low <= high <= 1, an unknown ``per``, or ``fields`` below 1.

    Example:
        >>> import torch, seqaug as sa
        >>> mask = sa.FeatureMask(0.5, 0.5, fields=2)
        >>> vectors = torch.ones(1, 2, 6)
        >>> view = mask.sample(vectors, generator=torch.Generator().manual_seed(0))
        >>> view(vectors)[0, 0], view.complement(vectors)[0, 0]
        (tensor([0., 0., 0., 1., 1., 1.]), tensor([1., 1., 1., 0., 0., 0.]))

    Source: Yao et al., Self-supervised Learning for Large-scale Item Recommendations, 2021, section 3.2.
    """

    def __init__(
        self, low: float, high: float, *, fields: int | None = None, per: str = "row", rescale: bool = False
    ) -> None:
        super().__init__()
        check_rates(low, high)
        if fields is not None:
            check_count("fields", fields, 1)
        check_choice("per", per, ("row", "slot"))
        self.low = float(low)
        self.high = float(high)
        self.fields = fields
        self.per = per
        self.rescale = rescale

    def sample(self, vectors: Tensor, *, generator: torch.Generator | None = None) -> DroppedFeatures:
        """Draw which features are dropped, in training and in evaluation mode alike.

        Args:
            vectors: (B, L, D) float; only shape and device are looked at.
            generator: on the device of ``vectors``; the global state is then left alone.

        Returns:
            A :class:`DroppedFeatures`.

        Raises:
            TypeError: ``vectors`` is not a tensor.
            ValueError: ``vectors`` have not three axes, or D is not a multiple of ``fields``.
        """
        check_tensor("vectors", vectors, "(batch, slots, features)")
        if vectors.ndim != 3:
            raise ValueError(
                f"vectors must be (batch, slots, features), got vectors.shape={tuple(vectors.shape)}"
            )
        rows, slots, width = vectors.shape
        features = width if self.fields is None else self.fields
        if features == 0 or width % features:
            raise ValueError(
                f"vectors must be of fields={self.fields} equally wide fields, got {width} components"
            )
        rate = self.low + (self.high - self.low) * uniform((rows,), vectors.device, generator)
        rate = rate.clamp(self.low, self.high)
        count = at_least_one(rate, torch.full_like(rate, features, dtype=torch.int64)).clamp(max=features - 1)
        shape = (rows, slots if self.per == "slot" else 1, features)
        # The number of the feature in the last place makes the keys distinct: exactly `count` are below the border.
        number = torch.arange(features, device=vectors.device)
        keys = integers(2**40, shape, vectors.device, generator) * features + number
        border = keys.sort(2).values.gather(2, rearrange(count, "b -> b 1 1").expand(*shape[:2], 1))
        dropped = repeat(keys < border, "b l f -> b l (f w)", w=width // features)
        return DroppedFeatures(dropped, rate, self.rescale)

    def forward(self, vectors: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The vectors without the dropped features in training mode, ``vectors`` itself in evaluation mode. See :meth:`sample`."""
        if not self.training:
            return vectors
        return self.sample(vectors, generator=generator)(vectors)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...

    def __repr__(self) -> str:
        defaults = {"fields": None, "per": "row", "rescale": False}
        options = "".join(
            f", {name}={getattr(self, name)!r}"
            for name, value in defaults.items()
            if getattr(self, name) != value
        )
        return f"FeatureMask({self.low!r}, {self.high!r}{options})"
