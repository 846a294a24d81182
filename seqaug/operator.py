"""Operator: what all of them share. A new one writes ``plan``; drawing, applying, checks and repr are here."""

from __future__ import annotations

from abc import abstractmethod
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, cast, overload

import torch
from torch import Tensor, nn
from typing_extensions import Self

from seqaug._buffers import move_without_casting
from seqaug._calls import calls
from seqaug._checks import (
    Side,
    check_count,
    check_ids,
    check_items,
    check_pad_id,
    check_rates,
    check_side,
    check_times,
)
from seqaug.edit import Edit
from seqaug.noise import Noise, draw_noise
from seqaug.packed import Packed, begins_elsewhere, is_packed, pack, values_of
from seqaug.packed_edit import PackedEdit, plan_packed
from seqaug.slots import at_least_one


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


def check_batch_and_times(items: Tensor, timestamps: Tensor | None, pad_id: int = 0) -> None:
    """A batch of ids that can hold the padding and, where there are any, times aligned with it."""
    check_items(items)
    check_pad_id(pad_id, items.dtype)
    if timestamps is None:
        return
    check_times(timestamps)
    if timestamps.shape != items.shape:
        raise ValueError(
            f"timestamps must be aligned with the items, got timestamps.shape={tuple(timestamps.shape)} "
            f"for items.shape={tuple(items.shape)}"
        )


def packed_and_times(items: Any, timestamps: Any) -> tuple[Packed, Tensor | None, Tensor]:
    """Packed ids, their times (T,), and something of the shape of the padded batch, which is all that drawing looks at."""
    rows = pack(items)
    check_ids("items", rows.values)
    times = None if timestamps is None else values_of(timestamps)
    if times is not None:
        check_times(times)
    if times is not None and times.shape != rows.values.shape:
        raise ValueError(
            f"timestamps must be aligned with the items, got {tuple(times.shape)} of them "
            f"for {tuple(rows.values.shape)} items"
        )
    if begins_elsewhere(timestamps, rows.offsets):
        raise ValueError(
            "timestamps must be aligned with the items, got as many of them in rows that begin elsewhere: pack the times "
            "of the same rows"
        )
    # One value, repeated without being copied.
    return rows, times, rows.values.new_empty(()).expand(len(rows.offsets) - 1, rows.length)


class Augmentation(nn.Module):
    """Anything that turns a batch into an :class:`~seqaug.Edit`: operators and, since they nest, policies of operators.

    Args:
        pad_id: the id of padding.
        side: where the padding is.

    Example:
        >>> import torch, seqaug as sa
        >>> crop, policy = sa.Crop(0.2, 0.7), sa.Policy([sa.Delete(0.2, 0.5)])
        >>> [isinstance(one, sa.Augmentation) for one in (crop, policy)]
        [True, True]
        >>> items = torch.tensor([[0, 1, 2, 3, 4]])
        >>> edit = policy.sample(items)  # the draw, and what it makes of the batch
        >>> edit(items).shape == items.shape
        True
        >>> policy.eval()(items) is items
        True
    """

    def __init__(self, *, pad_id: int = 0, side: Side = "left") -> None:
        super().__init__()
        check_pad_id(pad_id)
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

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        move_without_casting(self, super()._apply, fn, recurse)
        return self

    @abstractmethod
    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> Any:
        """The noise of one batch, drawn without a look at the ids."""

    def draw_views(self, items: Tensor, views: int, generator: torch.Generator | None = None) -> list[Any]:
        """The noise of several views of one batch: independent draws, unless a policy has its views depend on each other."""
        return [self.draw(items, generator) for _ in range(views)]

    @abstractmethod
    def plan(self, items: Tensor, noise: Any, timestamps: Tensor | None = None) -> Edit:
        """The edit that ``noise`` means for ``items``: of each row from that row alone, and no randomness of its own."""

    def longest(self, count: int, slots: int) -> int:
        """Most items that a row of ``count`` items comes out with, in a batch of ``slots``: the width to plan packed rows at."""
        return slots

    @overload
    def sample(
        self, items: Tensor, *, timestamps: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Edit: ...
    @overload
    def sample(
        self,
        items: Packed,
        *,
        timestamps: Packed | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PackedEdit: ...
    def sample(
        self,
        items: Any,
        *,
        timestamps: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Draw an edit for each row, in training and in evaluation mode alike.

        Args:
            items: (B, L) int64 or int32 ids, or a :class:`~seqaug.Packed` or nested tensor of them. Not written to.
            timestamps: aligned with ``items``, needed by time-aware operators, ignored by the others.
            generator: on the device of ``items``; the global state is then left alone. ``None`` is torch's default one.

        Returns:
            An :class:`~seqaug.Edit`, of packed rows a :class:`~seqaug.PackedEdit`: the same draw.

        Raises:
            TypeError: ``items`` is not a tensor of ids.
            ValueError: ``items`` has not two axes, or ``timestamps`` are missing or of another shape.
        """
        if is_packed(items):
            rows, times, batch = packed_and_times(items, timestamps)
            return self._plan_packed(rows, self.draw(batch, generator), times)
        check_batch_and_times(items, timestamps, self.pad_id)
        return self.plan(items, self.draw(items, generator), timestamps)

    @overload
    def sample_views(
        self,
        items: Tensor,
        views: int,
        *,
        timestamps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Edit]: ...
    @overload
    def sample_views(
        self,
        items: Packed,
        views: int,
        *,
        timestamps: Packed | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[PackedEdit]: ...
    def sample_views(
        self,
        items: Any,
        views: int,
        *,
        timestamps: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Draw several edits of one batch. Independent ones, except of :class:`~seqaug.EachOnce`.

        Args:
            items: as in :meth:`sample`.
            views: how many, at least 1.
            timestamps: as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            A list of ``views`` edits.

        Raises:
            TypeError, ValueError: as in :meth:`sample`, or ``views`` is not a number of at least 1.
        """
        check_count("views", views, 1)
        if is_packed(items):
            rows, times, batch = packed_and_times(items, timestamps)
            drawn = self.draw_views(batch, views, generator)
            return [self._plan_packed(rows, noise, times) for noise in drawn]
        check_batch_and_times(items, timestamps, self.pad_id)
        drawn = self.draw_views(items, views, generator)
        return [self.plan(items, noise, timestamps) for noise in drawn]

    def _plan_packed(self, items: Packed, noise: Any, timestamps: Tensor | None) -> PackedEdit:
        return plan_packed(
            self.plan, self.longest, items, noise, timestamps, pad_id=self.pad_id, side=self.side
        )

    @overload
    def forward(
        self, items: Tensor, *, timestamps: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        items: Packed,
        *,
        timestamps: Packed | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Packed: ...
    def forward(
        self,
        items: Any,
        *,
        timestamps: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The augmented batch in training mode, ``items`` itself in evaluation mode.

        Args:
            items: (B, L) int64 or int32 ids, or a :class:`~seqaug.Packed` or nested tensor of them. Not written to.
            timestamps: as in :meth:`sample`.
            generator: as in :meth:`sample`.

        Returns:
            Ids in the same form and of the same dtype.
        """
        if not self.training:
            return items
        return self.sample(items, timestamps=timestamps, generator=generator)(items)

    if TYPE_CHECKING:

        @calls(forward)
        def __call__(self) -> None: ...

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

    Example:
        >>> import torch, seqaug as sa
        >>> class Blank(sa.Operator):
        ...     def plan(self, items, noise, timestamps=None):
        ...         chosen, real, rate = self.chosen(
        ...             items, noise
        ...         )  # max(1, floor(rate * n)) items of each row
        ...         slots = torch.arange(items.shape[1], device=items.device)
        ...         return sa.Edit(
        ...             torch.where(real, slots, -1), torch.where(chosen, 99, -1), rate, self.pad_id
        ...         )
        >>> Blank(0.5, 0.5)(torch.tensor([[0, 1, 2, 3, 4]])).eq(99).sum()
        tensor(2)
    """

    lengthens: ClassVar[bool] = True
    """Whether a row may come out with more items than it had; where none does, packed rows are planned without room for it."""

    def __init__(self, low: float, high: float, *, pad_id: int = 0, side: Side = "left") -> None:
        super().__init__(pad_id=pad_id, side=side)
        check_rates(low, high)
        self.low = float(low)
        self.high = float(high)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> Noise:
        """The noise of one batch; see :func:`seqaug.noise.draw_noise`."""
        return draw_noise(items, self.side, generator)

    def longest(self, count: int, slots: int) -> int:
        return slots if self.lengthens else count

    def rate(self, noise: Noise) -> Tensor:
        """(B,) float32 in [low, high]."""
        return (self.low + (self.high - self.low) * noise.rate).clamp(self.low, self.high)

    def chosen(self, items: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """The max(1, floor(rate * n)) items of each row that come first in the order drawn; made once for all members of a policy.

        Args:
            items: (B, L) ids.
            noise: of the batch.

        Returns:
            chosen (B, L) bool, real (B, L) bool and rate (B,).
        """
        # Compilers do not find out by themselves that two operators choose the same.
        known, key = noise.shared, (self.low, self.high, self.pad_id)
        if type(self).rate is not Operator.rate:  # a rate of its own is no one else's
            known = None
        if known is not None and key in known:
            return cast(tuple[Tensor, Tensor, Tensor], known[key])
        real, rate = items != self.pad_id, self.rate(noise)
        made = noise.first(at_least_one(rate, real.sum(1)), real), real, rate
        if known is not None:
            known[key] = made
        return made

    def extra_repr(self) -> str:
        return ", ".join([repr(self.low), repr(self.high), *self._layout()])
