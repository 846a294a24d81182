"""Operator: what all of them share. A new one writes ``plan``; drawing, applying, checks and repr are here."""

from __future__ import annotations

from abc import abstractmethod
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from seqaug._checks import Side, check_count, check_items, check_rates, check_side
from seqaug.edit import Edit
from seqaug.noise import Noise, draw_noise


def _own_code(function: FunctionType, owner: str) -> FunctionType:
    """The same function with a code object of its own."""
    copy = FunctionType(
        function.__code__.replace(co_name=f"{owner}_{function.__name__}"),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = function.__annotations__
    copy.__doc__ = function.__doc__
    copy.__qualname__ = f"{owner}.{function.__name__}"
    return copy


def check_batch_and_times(items: Tensor, timestamps: Tensor | None) -> None:
    """A batch of ids and, where there are any, times aligned with it."""
    check_items(items)
    if timestamps is not None and timestamps.shape != items.shape:
        raise ValueError(
            f"timestamps must be aligned with the items, got timestamps.shape={tuple(timestamps.shape)} "
            f"for items.shape={tuple(items.shape)}"
        )


class Augmentation(nn.Module):
    """Anything that turns a batch into an :class:`~seqaug.Edit`: operators and, since they nest, policies of operators.

    Args:
        pad_id: the id of padding.
        side: where the padding is.
    """

    def __init__(self, *, pad_id: int = 0, side: Side = "left") -> None:
        super().__init__()
        if isinstance(pad_id, bool) or not isinstance(pad_id, int):
            raise TypeError(f"pad_id must be a whole number, got pad_id={pad_id!r}")
        check_side(side)
        self.pad_id = pad_id
        self.side: Side = side

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # torch.compile keeps its versions of a function beside the function's code and gives up after eight of them:
        # classes that inherited one `forward` would share these eight.
        for name in ("forward", "sample", "sample_views"):
            if name not in vars(cls):
                setattr(cls, name, _own_code(getattr(cls, name), cls.__name__))

    @abstractmethod
    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> Any:
        """The noise of one batch, drawn without a look at the ids."""

    def draw_views(self, items: Tensor, views: int, generator: torch.Generator | None = None) -> list[Any]:
        """The noise of several views of one batch: independent draws, unless a policy has its views depend on each other."""
        return [self.draw(items, generator) for _ in range(views)]

    @abstractmethod
    def plan(self, items: Tensor, noise: Any, timestamps: Tensor | None = None) -> Edit:
        """The edit that ``noise`` means for ``items``: no randomness of its own."""

    def sample(
        self, items: Tensor, *, timestamps: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Edit:
        """Draw an edit for each row, in training and in evaluation mode alike.

        Args:
            items: (B, L) int64 or int32 ids. Not written to.
            timestamps: (B, L), needed by time-aware operators, ignored by the others.
            generator: on the device of ``items``; the global state is then left alone. ``None`` is torch's default one.

        Returns:
            An :class:`~seqaug.Edit`.

        Raises:
            TypeError: ``items`` is not a tensor of ids.
            ValueError: ``items`` has not two axes, or ``timestamps`` are missing or of another shape.
        """
        check_batch_and_times(items, timestamps)
        return self.plan(items, self.draw(items, generator), timestamps)

    def sample_views(
        self,
        items: Tensor,
        views: int,
        *,
        timestamps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Edit]:
        """Draw several edits of one batch. Independent ones, except of :class:`~seqaug.EachOnce`.

        Args:
            items: (B, L) int64 or int32 ids. Not written to.
            views: how many, at least 1.
            timestamps: as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            A list of ``views`` edits.

        Raises:
            TypeError, ValueError: as in :meth:`sample`, or ``views`` is not a number of at least 1.
        """
        check_batch_and_times(items, timestamps)
        check_count("views", views, 1)
        return [self.plan(items, noise, timestamps) for noise in self.draw_views(items, views, generator)]

    def forward(
        self, items: Tensor, *, timestamps: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The augmented batch in training mode, ``items`` itself in evaluation mode.

        Args:
            items: (B, L) int64 or int32 ids. Not written to.
            timestamps: as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            (B, L) ids of the same dtype.
        """
        if not self.training:
            return items
        return self.sample(items, timestamps=timestamps, generator=generator)(items)

    def _layout(self) -> list[str]:
        """The arguments of the repr that are not at their defaults."""
        pad = [] if self.pad_id == 0 else [f"pad_id={self.pad_id}"]
        return pad + ([] if self.side == "left" else [f"side={self.side!r}"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class Operator(Augmentation):
    """An operator with a rate, drawn once per row from Uniform(low, high).

    Subclasses write ``plan(items, noise, timestamps) -> Edit``, a pure function, and nothing else.

    Args:
        low: smallest rate, in [0, 1].
        high: largest rate, in [low, 1].
        pad_id: the id of padding.
        side: where the padding is.

    Raises:
        ValueError: not 0 <= low <= high <= 1, or an unknown side.
    """

    def __init__(self, low: float, high: float, *, pad_id: int = 0, side: Side = "left") -> None:
        super().__init__(pad_id=pad_id, side=side)
        check_rates(low, high)
        self.low = float(low)
        self.high = float(high)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> Noise:
        """The noise of one batch; see :func:`seqaug.noise.draw_noise`."""
        return draw_noise(items, self.side, generator)

    def rate(self, noise: Noise) -> Tensor:
        """(B,) float32 in [low, high]."""
        return (self.low + (self.high - self.low) * noise.rate).clamp(self.low, self.high)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.low), repr(self.high), *self._layout()])
