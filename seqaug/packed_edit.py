"""PackedEdit: one draw on rows without padding, and how it is planned: in a few padded groups, by the operators as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from seqaug._checks import Side, check_tensor
from seqaug.edit import Edit
from seqaug.groups import Cells, spread
from seqaug.packed import Packed, begins_elsewhere, is_nested, is_packed, pack

Rows = TypeVar("Rows", Tensor, Packed)


@dataclass(frozen=True, eq=False)
class PackedEdit:
    """What happened to packed rows: an :class:`~seqaug.Edit` with one entry for each value instead of each slot.

    ``edit(items)`` writes ids; ``edit.align(x)`` makes anything else that is aligned with them follow the same draw. Both take a
    :class:`~seqaug.Packed`, a nested tensor or, ``align`` only, bare values (T, ...), and give back the same kind.

    Args:
        source: (T',) int64 in [0, T); the value read by each new value.
        replaced: (T',) ids; the new id, -1 where the one that is read stays.
        rate: (B,) float32 in [0, 1]; the drawn rate, 1 for a row left untouched.
        offsets: (B + 1,) int64; where the new rows begin.
        before: (B + 1,) int64; where the rows began that the edit was sampled on.
        size: T; number of values of those rows.
        length: L; slots of the padded batch that the rows stand for.
        pad_id: of the operator.
        side: of the operator: the end at which rows of different lengths are compared is the other one.
        choice: (B,) int64; which operator of the outermost policy made the row, -1 for none; ``None`` for a plain operator.
        bucket: (B,) int64; what an :class:`~seqaug.AdaptivePolicy` has to remember, ``None`` for all others.

    Example:
        >>> import torch, seqaug as sa
        >>> items = sa.pack([[1, 2, 3, 4], [5, 6]])
        >>> edit = sa.Crop(0.5, 0.5).sample(items, generator=torch.Generator().manual_seed(0))
        >>> edit(items).values, edit(items).lengths
        (tensor([1, 2, 5]), tensor([2, 1]))
        >>> edit.align(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
        tensor([0.1000, 0.2000, 0.5000])
    """

    source: Tensor
    replaced: Tensor
    rate: Tensor
    offsets: Tensor
    before: Tensor
    size: int
    length: int
    pad_id: int = 0
    side: Side = "left"
    choice: Tensor | None = None
    bucket: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """(B,) int64: number of items of each new row."""
        return self.offsets.diff()

    @property
    def future(self) -> Tensor:
        """(T',) bool: the values that stand where the row had something older, so that a causal model sees its target."""
        end = slice(1, None) if self.side == "left" else slice(-1)  # where all rows are aligned
        shift = spread(self.before[end] - self.offsets[end], self.lengths, len(self.source))
        return self.source > torch.arange(len(self.source), device=shift.device) + shift

    @overload
    def __call__(self, items: Packed) -> Packed: ...
    @overload
    def __call__(self, items: Tensor) -> Tensor: ...
    def __call__(self, items: Packed | Tensor) -> Packed | Tensor:
        """Apply the edit to the rows it was sampled on.

        Args:
            items: a :class:`~seqaug.Packed` of ids, or a nested tensor of them. Not written to.

        Returns:
            The augmented rows, in the same form.

        Raises:
            TypeError: ``items`` are bare values, or not ids.
            ValueError: ``items`` are not the edit's rows.
        """
        if not is_packed(items):
            raise TypeError(
                f"items must be packed or nested as when the edit was sampled, got {type(items).__name__}: "
                "align works on bare values, too"
            )
        values = self._values(items)
        read = values.index_select(0, self.source)
        return self._as(items, torch.where(self.replaced >= 0, self.replaced.to(values.dtype), read))

    def align(self, x: Rows) -> Rows:
        """Make something aligned with the rows follow the same draw. Values with a new id keep the features of their source.

        Args:
            x: values (T, ...), bare, packed or nested, of any dtype.

        Returns:
            Values (T', ...) in the same form.

        Raises:
            ValueError: ``x`` is not aligned with the edit's rows.
        """
        return self._as(x, self._values(x).index_select(0, self.source))

    def then(self, other: PackedEdit) -> PackedEdit:
        """This edit followed by one that was sampled on its result; see :meth:`seqaug.Edit.then`.

        Raises:
            TypeError: ``other`` is not an edit of packed rows.
            ValueError: ``other`` was sampled on other rows, or has another pad id or side.
        """
        if not isinstance(other, PackedEdit):
            raise TypeError(
                f"other must be an edit sampled on what this one makes of packed rows, got {type(other).__name__}"
            )
        if (len(other.before), other.size) != (len(self.offsets), len(self.source)) or (
            other.pad_id,
            other.side,
        ) != (self.pad_id, self.side):
            raise ValueError(
                "edits in a row must share their rows, pad id and side, "
                f"got {len(self.source)} values in {len(self.offsets) - 1} rows, pad_id={self.pad_id}, side={self.side!r} and "
                f"then {other.size} in {len(other.before) - 1}, pad_id={other.pad_id}, side={other.side!r}"
            )
        return replace(
            other,
            source=self.source[other.source],
            replaced=torch.where(other.replaced >= 0, other.replaced, self.replaced[other.source]),
            rate=(self.rate + other.rate) / 2,
            before=self.before,
            size=self.size,
            choice=None,
            bucket=None,
        )

    def pad(self) -> Edit:
        """The same edit on the padded batch, as the operator would have sampled it there, but for the bucket: ``update`` takes packed edits."""
        slots, old, new = self.length, self.before.diff(), self.lengths
        shift = (slots - old if self.side == "left" else torch.zeros_like(old)) - self.before[:-1]
        source = self.source + spread(shift, new, len(self.source))
        after = Packed(source, self.offsets, slots)
        return Edit(
            after.pad(side=self.side, fill=-1),
            after.like(self.replaced).pad(side=self.side, fill=-1),
            self.rate,
            self.pad_id,
            self.choice,
        )

    def describe(self, row: int, items: Packed | None = None) -> str:
        """What happened to one row, in words; see :func:`seqaug.inspect.describe`."""
        padded = (
            None if items is None else pack(items, length=self.length).pad(side=self.side, fill=self.pad_id)
        )
        return self.pad().describe(row, padded)

    def to(self, device: torch.device | str) -> PackedEdit:
        """The same edit on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def check_aligned(self, x: Any) -> None:
        """Raise a ValueError unless ``x`` has the rows that the edit was sampled on."""
        self._values(x)

    def _values(self, x: Any) -> Tensor:
        if isinstance(x, Packed):
            values, rows = x.values, len(x.offsets)
        elif is_nested(x) and x.lengths() is None:
            values, rows = x.values(), len(x.offsets())
        elif is_nested(x):
            raise ValueError("a narrowed nested tensor has values outside its rows: take seqaug.pack(x)")
        else:
            values, rows = check_tensor("x", x, "(T, ...), or packed or nested rows"), len(self.before)
        if values.ndim == 0 or rows != len(self.before) or len(values) != self.size:
            raise ValueError(
                f"the edit was sampled on {self.size} values in {len(self.before) - 1} rows, "
                f"got {tuple(values.shape)} in {rows - 1}: "
                "apply an edit only to what is aligned with the rows it was sampled on"
            )
        if begins_elsewhere(x, self.before):
            raise ValueError(
                "the edit was sampled on rows of other lengths, got as many values in rows that begin elsewhere: "
                "apply an edit only to what is aligned with the rows it was sampled on"
            )
        return values

    def _as(self, x: Packed | Tensor, values: Tensor) -> Any:
        if isinstance(x, Packed):
            return Packed(values, self.offsets, self.length)
        return torch.nested.nested_tensor_from_jagged(values, self.offsets) if is_nested(x) else values


def packed_identity(items: Packed, pad_id: int = 0, side: Side = "left") -> PackedEdit:
    """The edit that changes nothing: every value reads itself, at rate 1; see :func:`seqaug.edit.identity`."""
    number = torch.arange(len(items.values), device=items.offsets.device)
    return PackedEdit(
        source=number,
        replaced=torch.full_like(items.values, -1),
        rate=torch.ones(len(items.offsets) - 1, dtype=torch.float32, device=items.offsets.device),
        offsets=items.offsets,
        before=items.offsets,
        size=len(number),
        length=items.length,
        pad_id=pad_id,
        side=side,
    )


def plan_packed(
    plan: Callable[[Tensor, Any, Tensor | None], Edit],
    longest: Callable[[int, int], int],
    items: Packed,
    noise: Any,
    timestamps: Tensor | None,
    *,
    pad_id: int,
    side: Side,
) -> PackedEdit:
    """Plan a draw on packed rows: the rows sorted into padded groups, each with its rows' part of the noise.

    Args:
        plan: of an operator.
        longest: of the same operator; see :meth:`seqaug.Augmentation.longest`.
        items: ids.
        noise: of the padded batch.
        timestamps: (T,) or ``None``.
        pad_id: of the operator.
        side: of the operator.

    Returns:
        A :class:`PackedEdit`.

    Raises:
        ValueError: a row holds the pad id.
    """
    widths = tuple(min(items.length, longest(group.width, items.length)) for group in items.groups)
    layout, cells = items.laid_out(widths, side)
    ids = layout.fill(items.values, cells, pad_id)
    times = [None] * len(ids) if timestamps is None else layout.fill(timestamps, cells, 0)
    edits = []
    for own, part, when in zip(ids, layout.noise(noise, items.length), times, strict=True):
        edits.append(plan(own, part, when))

    new = layout.by_row([edit.valid.sum(1) for edit in edits])
    offsets = torch.nn.functional.pad(new.cumsum(0), (1, 0))
    # The host waits, once for both: nobody else knows how large the result is.
    total, padding = torch.stack([offsets[-1], (items.values == pad_id).sum()]).tolist()
    if padding:
        raise ValueError(
            f"packed rows must not hold the pad id, got pad_id={pad_id} among their values: take padding out with "
            "seqaug.pack, renumber the item, or give the operator another pad_id"
        )
    row = spread(torch.arange(len(new), device=new.device), new, total)
    cells = (layout.first_cell(new) - offsets[:-1]).index_select(0, row) + torch.arange(
        total, device=row.device
    )
    shift = items.offsets[:-1] - layout.first_slot(items.lengths)
    source = torch.cat([edit.source.flatten() for edit in edits]).index_select(0, cells)
    replaced = torch.cat([edit.replaced.flatten() for edit in edits]).index_select(0, cells)
    return PackedEdit(
        source=source + shift.index_select(0, row),
        replaced=replaced,
        rate=layout.by_row([edit.rate for edit in edits]),
        offsets=offsets,
        before=items.offsets,
        size=len(items.values),
        length=items.length,
        pad_id=pad_id,
        side=side,
        choice=_per_row(layout, [edit.choice for edit in edits]),
        bucket=_per_row(layout, [getattr(edit, "bucket", None) for edit in edits]),
    )


def _per_row(layout: Cells, parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return layout.by_row(known) if known else None
