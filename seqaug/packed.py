"""Packed: rows of different lengths, one after the other, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from seqaug._checks import Side, can_look, check_count, check_fill, check_side, check_tensor
from seqaug.groups import Cells, Group, group_rows, spread

WHOLE_IN_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows of different lengths, one after the other: row b is ``values[offsets[b]:offsets[b + 1]]``, oldest first.

    It stands for a padded batch of ``length`` slots, and operators draw for it exactly what they draw for that batch.
    :func:`seqaug.pack` makes one out of whatever else holds such rows.

    Args:
        values: (T, ...); ids, or anything aligned with them: timestamps, categories, vectors.
        offsets: (B + 1,) int64, from 0 to T, ascending.
        length: L; no row has more items, and none grows past it.

    Raises:
        TypeError: ``offsets`` are not int64.
        ValueError: ``offsets`` have not one axis, or, on a CPU, do not ascend from 0 to T; ``length`` is below 1.

    Example:
        >>> import torch, seqaug as sa
        >>> packed = sa.Packed(torch.tensor([3, 7, 5, 2]), torch.tensor([0, 3, 3, 4]), length=4)
        >>> packed.pad()
        tensor([[0, 3, 7, 5],
                [0, 0, 0, 0],
                [0, 0, 0, 2]])
        >>> sa.Reorder(1.0, 1.0)(packed).lengths
        tensor([3, 0, 1])
    """

    values: Tensor
    offsets: Tensor
    length: int

    def __post_init__(self) -> None:
        if self.offsets.ndim != 1 or len(self.offsets) == 0:
            raise ValueError(f"offsets must be (rows + 1,), got offsets.shape={tuple(self.offsets.shape)}")
        if self.offsets.dtype != torch.int64:
            raise TypeError(
                f"offsets must be int64, got offsets.dtype={self.offsets.dtype}: use offsets.long()"
            )
        if self.values.ndim == 0:
            raise ValueError("values must be (T, ...), got a tensor without axes")
        check_count("length", self.length, 1)
        if can_look(self.offsets):
            check_offsets(self.offsets, len(self.values))

    @property
    def lengths(self) -> Tensor:
        """(B,) int64: number of items of each row."""
        return self.offsets.diff()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The rows sorted into a few groups of like length. Looks at the lengths, so the host waits for the device, once.

        Raises:
            ValueError: a row is longer than ``length``.
        """
        lengths = self.lengths.cpu()
        longest = int(lengths.max()) if len(lengths) else 0
        if longest > self.length:
            raise ValueError(
                f"rows must have at most length={self.length} items, got one of {longest}: "
                "seqaug.pack(..., length=...) keeps the newest"
            )
        device = self.offsets.device
        return tuple(replace(group, rows=group.rows.to(device)) for group in group_rows(lengths))

    def laid_out(self, widths: tuple[int, ...], side: Side) -> tuple[Cells, Tensor]:
        """The groups one after the other, and the cell (T,) of each value: found once for all operators and views.

        Args:
            widths: slots of each group.
            side: where the padding goes.
        """
        known = self._layouts
        if (widths, side) not in known:
            groups = self.groups
            if len(set(widths)) == 1:  # apart they would be as wide as together
                groups = (Group(torch.arange(len(self.offsets) - 1, device=self.offsets.device), widths[0]),)
            layout = Cells(groups, widths[: len(groups)], side)
            known[widths, side] = layout, layout.of_values(self.offsets, len(self.values))
        return known[widths, side]

    @cached_property
    def _layouts(self) -> dict[tuple[tuple[int, ...], Side], tuple[Cells, Tensor]]:
        return {}

    def like(self, values: Tensor) -> Packed:
        """Other values, (T, ...), of the same rows."""
        other = Packed(values, self.offsets, self.length)
        for found in ("groups", "_layouts"):
            if found in self.__dict__:
                other.__dict__[found] = self.__dict__[found]
        return other

    def pad(self, *, side: Side = "left", fill: float | int | bool = 0) -> Tensor:
        """The padded batch.

        Args:
            side: where the padding goes.
            fill: what padded slots hold.

        Returns:
            (B, L, ...) of the dtype of ``values``.
        """
        check_side(side)
        check_fill(fill, self.values.dtype)
        rows = len(self.offsets) - 1
        out = self.values.new_full((rows * self.length, *self.values.shape[1:]), fill)
        return out.index_copy(0, self.cells(side), self.values).view(
            rows, self.length, *self.values.shape[1:]
        )

    def cells(self, side: Side = "left") -> Tensor:
        """(T,) int64; where each value stands in the flattened padded batch."""
        lengths, total = self.lengths, len(self.values)
        first = self.length - lengths if side == "left" else torch.zeros_like(lengths)
        begin = self.length * torch.arange(len(lengths), device=lengths.device) + first - self.offsets[:-1]
        return torch.arange(total, device=lengths.device) + spread(begin, lengths, total)

    def nested(self) -> Tensor:
        """The same rows as a nested tensor of torch (jagged layout), which shares the values."""
        return torch.nested.nested_tensor_from_jagged(self.values, self.offsets)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Packed:
        """The same rows on another device. Groups that are known by then go along, and nothing has to wait for them later."""
        values = self.values.to(device, non_blocking=non_blocking)
        moved = Packed(values, self.offsets.to(device, non_blocking=non_blocking), self.length)
        if "groups" in self.__dict__:
            moved.__dict__["groups"] = tuple(
                replace(group, rows=group.rows.to(device, non_blocking=non_blocking)) for group in self.groups
            )
        return moved


def is_nested(x: object) -> bool:
    """Whether this is torch's nested tensor of jagged layout."""
    return isinstance(x, Tensor) and x.is_nested and x.layout == torch.jagged


def is_packed(x: object) -> bool:
    """Whether these are rows without padding, packed or nested."""
    return isinstance(x, Packed) or is_nested(x)


def values_of(x: Any) -> Tensor:
    """(T, ...): the values of packed rows or of a nested tensor, bare values as they are."""
    if isinstance(x, Packed):
        return x.values
    return x.values() if is_nested(x) else x


def begins_elsewhere(x: Any, offsets: Tensor) -> bool:
    """Whether packed rows, or those of a nested tensor, are not the rows of ``offsets``; bare values are of any rows."""
    own = x.offsets if isinstance(x, Packed) else x.offsets() if is_nested(x) else offsets
    return own is not offsets and not torch.equal(own.to(offsets), offsets)


def pack(
    rows: Any,
    *,
    lengths: Tensor | None = None,
    offsets: Tensor | None = None,
    length: int | None = None,
    pad_id: int = 0,
) -> Packed:
    """Rows of different lengths without padding, out of any form they come in; of rows that are too long the newest items.

    Args:
        rows: one of

            * a list of rows, oldest first, each a list or a tensor (n, ...),
            * values (T, ...), with ``lengths`` (B,) or ``offsets`` (B + 1,),
            * a nested tensor of torch, jagged layout,
            * a JaggedTensor of TorchRec, or anything else with the methods ``values()`` and ``lengths()`` or ``offsets()``
              (of a KeyedJaggedTensor with several keys take one, ``keyed["item"]``),
            * a padded batch of ids (B, L), whose slots with ``pad_id`` are left out.
        lengths: of the rows.
        offsets: where the rows begin, and last T.
        length: L; ``None`` is the longest row, or the width of a padded batch.
        pad_id: of a padded batch.

    Returns:
        A :class:`Packed`; it shares the values unless rows were cut.

    Raises:
        TypeError: rows in another form.
        ValueError: lengths or offsets that do not fit the values, or lists of floats too large for float32.

    Example:
        >>> import torch, seqaug as sa
        >>> sa.pack([[1, 2], [3, 4, 5, 6]], length=3).values
        tensor([1, 2, 4, 5, 6])
        >>> nested = torch.nested.nested_tensor_from_jagged(torch.arange(1, 6), torch.tensor([0, 2, 5]))
        >>> sa.pack(nested).lengths
        tensor([2, 3])
    """
    if isinstance(rows, Packed):
        return rows if length is None else _newest(rows.values, rows.offsets, length)
    for name, given in (("lengths", lengths), ("offsets", offsets)):
        if given is not None:
            check_tensor(name, given, "of whole numbers")
    if lengths is not None or offsets is not None:
        if not isinstance(rows, Tensor) or rows.is_nested or (lengths is not None and offsets is not None):
            raise TypeError(
                "values (T, ...) need either lengths or offsets, and nothing else takes them, "
                f"got {type(rows).__name__}, lengths={lengths is not None}, offsets={offsets is not None}"
            )
        return _from_values(rows, offsets if lengths is None else _from_zero(lengths), length)
    if isinstance(rows, (list, tuple)):
        return _from_rows(rows, length)
    if is_nested(rows) or not isinstance(rows, Tensor):
        return _from_jagged(rows, length)
    if rows.ndim != 2 or rows.is_floating_point():
        raise TypeError(
            "rows must be a padded batch of ids (batch, slots), or values (T, ...) with their lengths= or offsets=, "
            f"got a tensor of shape={tuple(rows.shape)}, dtype={rows.dtype}"
        )
    real = rows != pad_id
    packed = Packed(rows[real], _from_zero(real.sum(1)), max(1, rows.shape[1]))
    return packed if length is None else _newest(packed.values, packed.offsets, length)


def _from_zero(lengths: Tensor) -> Tensor:
    """(B + 1,) int64 offsets of rows of these lengths."""
    return torch.nn.functional.pad(lengths.to(torch.int64).cumsum(0), (1, 0))


def _from_values(values: Tensor, offsets: Any, length: int | None) -> Packed:
    offsets = offsets.to(torch.int64)
    check_offsets(offsets, len(values))
    return _newest(values, offsets, length)


def check_offsets(offsets: Tensor, total: int) -> None:
    """Looks at the values."""
    ends = offsets.cpu()
    if ends.ndim != 1 or len(ends) == 0 or ends[0] != 0 or ends[-1] != total or bool((ends.diff() < 0).any()):
        raise ValueError(
            f"offsets must ascend from 0 to the number of values ({total}), got offsets={ends.tolist()!s:.60}: "
            "take the values of these rows alone"
        )


def _newest(values: Tensor, offsets: Tensor, length: int | None) -> Packed:
    """At most the newest ``length`` items of each row."""
    counts = offsets.diff()
    longest = int(counts.max()) if len(counts) else 0
    if length is None:
        return Packed(values, offsets, max(1, longest))
    check_count("length", length, 1)
    if longest > length:
        place = torch.arange(len(values), device=offsets.device)
        values = values[spread(offsets[1:], counts, len(values)) - place <= length]
        offsets = _from_zero(counts.clamp(max=length))
    return Packed(values, offsets, length)


def _from_rows(rows: Sequence[Any], length: int | None) -> Packed:
    try:
        tensors = [row if isinstance(row, Tensor) else torch.tensor(row) for row in rows]
        counts = torch.tensor([len(row) for row in tensors], dtype=torch.int64)
        # An empty list has no dtype to tell.
        filled = [row for row in tensors if len(row)] or tensors[:1] or [torch.empty(0)]
        values = torch.cat(filled)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"rows must be lists of numbers or tensors (n, ...), got {list(rows)!r:.60}"
        ) from error
    if values.dtype == torch.float32:
        for row, tensor in zip(rows, tensors, strict=True):
            _check_kept(row, tensor)
    return _newest(values if len(values) else values.long(), _from_zero(counts), length)


def _check_kept(row: Any, tensor: Tensor) -> None:
    """A list of floats becomes float32, which does not tell seconds since 1970 apart."""
    if isinstance(row, Tensor) or not len(tensor) or tensor.abs().max() < WHOLE_IN_FLOAT32:
        return
    given = torch.tensor(row, dtype=torch.float64)
    if bool(((given != tensor) & (tensor.abs() >= WHOLE_IN_FLOAT32) & given.isfinite()).any()):
        raise ValueError(
            f"floats in a list become float32, which holds whole numbers up to {WHOLE_IN_FLOAT32}, got {row!r:.60}: give whole "
            "numbers, or a tensor of float64"
        )


def _from_jagged(jagged: Any, length: int | None) -> Packed:
    """Nested tensors and the classes of TorchRec, by the methods they share."""
    methods = [name for name in ("values", "lengths", "offsets") if callable(getattr(jagged, name, None))]
    if "values" not in methods or len(methods) < 2:
        raise TypeError(
            "rows must be a list, a tensor with lengths= or offsets=, a nested tensor, or have methods values() and "
            f"lengths(), got {type(jagged).__name__}"
        )
    keys = getattr(jagged, "keys", None)
    if callable(keys) and len(list(keys())) > 1:
        raise TypeError(
            f"rows must be those of one key, got a {type(jagged).__name__} of keys {list(keys())}: pass one, as keyed[key]"
        )
    lengths = jagged.lengths() if "lengths" in methods else None
    if (
        is_nested(jagged) and lengths is not None
    ):  # a narrowed nested tensor: values between its rows belong to none
        begins, total = jagged.offsets()[:-1], int(lengths.sum())
        kept = _from_zero(lengths)
        index = torch.arange(total, device=kept.device) + spread(begins - kept[:-1], lengths, total)
        return _newest(jagged.values()[index], kept, length)
    return _from_values(jagged.values(), jagged.offsets() if lengths is None else _from_zero(lengths), length)
