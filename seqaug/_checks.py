"""Checks that cost nothing on the device: shapes, dtypes and plain numbers. Whoever needs the values looks in padding.check_batch."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import Parameter

Side = Literal["left", "right"]


def can_look(x: Tensor) -> bool:
    """Whether values can be asked for: on a CPU, outside compiled code. Other devices would have to be waited for, and tensors of other
    classes, as those that are traced, may have none."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and type(x) in (Tensor, Parameter)


def check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {name}={value!r}")


def check_side(side: object) -> None:
    check_choice("side", side, get_args(Side))


def _hint(value: object) -> str:
    """What to do about a number that NumPy or a tensor holds."""
    return ": use its .item()" if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else ""


def check_number(name: str, value: object, low: float, high: float) -> None:
    """A real number in [low, high]; a tensor or a NaN is refused, since neither can be checked without looking later."""
    span = f"of at least {low}, and finite" if high == float("inf") else f"in [{low}, {high}]"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number {span}, got {name}={value!r}{_hint(value)}")
    if not low <= value <= high or value == float("inf"):
        raise ValueError(f"{name} must be {span}, got {name}={value!r}")


def check_count(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{name} must be a whole number of at least {low}, got {name}={value!r}{_hint(value)}"
        )
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {name}={value!r}")


def check_rates(low: object, high: object) -> None:
    check_number("low", low, 0.0, 1.0)
    check_number("high", high, 0.0, 1.0)
    if low > high:  # type: ignore[operator]  # both are numbers by now
        raise ValueError(f"low must not be above high, got low={low!r}, high={high!r}: swap them")


def check_alpha(alpha: object) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise TypeError(f"alpha must be a positive number, got alpha={alpha!r}")
    if not 0.0 < alpha < float("inf"):
        raise ValueError(f"alpha must be positive and finite (Beta(alpha, alpha)), got alpha={alpha!r}")


def check_tensor(name: str, value: object, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor {what}, got {type(value).__name__}")
    return value


def check_items(items: object) -> None:
    """A batch of ids: two axes, whole numbers."""
    if not isinstance(items, Tensor):
        raise TypeError(
            f"items must be a tensor of ids (batch, slots), got {type(items).__name__}: "
            "seqaug.pad_sequences makes one out of rows of different lengths"
        )
    check_ids("items", items)
    if items.ndim != 2 or items.shape[1] == 0:
        raise ValueError(
            f"items must be (batch, slots) with at least one slot, got items.shape={tuple(items.shape)}"
        )


def check_ids(name: str, ids: object) -> None:
    dtype = check_tensor(name, ids, "of ids").dtype
    if dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be int64 or int32 ids, got {name}.dtype={dtype}: use {name}.long()")


def check_fits(name: str, value: int, dtype: torch.dtype) -> None:
    """An id that the dtype of the items can hold: it would come out as another one."""
    if not torch.iinfo(dtype).min <= value <= torch.iinfo(dtype).max:
        hint = ": use items.long()" if dtype == torch.int32 else ""
        raise ValueError(f"{name} must fit into ids of {dtype}, got {name}={value}{hint}")


def check_pad_id(pad_id: object, dtype: torch.dtype = torch.int64) -> None:
    if isinstance(pad_id, bool) or not isinstance(pad_id, int):
        raise TypeError(f"pad_id must be a whole number, got pad_id={pad_id!r}{_hint(pad_id)}")
    check_fits("pad_id", pad_id, dtype)


def check_fill(fill: float | int | bool, dtype: torch.dtype) -> None:
    """What padded slots hold: a number that the dtype can hold, which would come out as another one."""
    if dtype == torch.bool:
        fits = fill in (0, 1)
    elif dtype.is_floating_point or dtype.is_complex:
        return
    else:
        fits = float(fill).is_integer() and torch.iinfo(dtype).min <= fill <= torch.iinfo(dtype).max
    if not fits:
        raise ValueError(
            f"fill must be a value of {dtype}, got fill={fill!r}: pass another, or another dtype"
        )


def check_times(timestamps: object) -> None:
    """Times that can be subtracted and compared."""
    dtype = check_tensor("timestamps", timestamps, "aligned with the items").dtype
    if dtype == torch.bool or dtype.is_complex:
        raise TypeError(
            f"timestamps must be whole or real numbers, got timestamps.dtype={dtype}: use seconds or days"
        )


def no_such_row(name: str, ids: Tensor, rows: int) -> ValueError:
    """What to raise after a CPU has found ids outside a table; other devices find out too late to say it."""
    found = ids.reshape(-1)
    return ValueError(
        f"{name} must be rows of a table of {rows}, 0..{rows - 1}, got {name} from {int(found.min())} to {int(found.max())}: "
        "seqaug.check_batch finds where"
    )


def check_catalog(catalog: object) -> None:
    """What can be said of a catalog before there is a table."""
    if not isinstance(catalog, slice):
        raise TypeError(
            f"catalog must be a slice of table rows, got catalog={catalog!r}: slice(1, num_items + 1)"
        )
    if catalog.step not in (None, 1):
        raise ValueError(
            f"catalog must be a slice of consecutive table rows, got catalog={catalog!r}: slice(1, num_items + 1)"
        )


def catalog_bounds(rows: int, catalog: slice) -> tuple[int, int]:
    """First row of the catalog and one past its last; a slice that leaves a table of so many rows is an error."""
    check_catalog(catalog)
    start, stop, _ = catalog.indices(rows)
    beyond = any(edge is not None and not -rows <= edge <= rows for edge in (catalog.start, catalog.stop))
    if beyond or stop <= start:
        raise ValueError(
            f"catalog must be a slice of consecutive rows of a table of {rows} rows, at least one, got "
            f"catalog={catalog!r}: slice(1, num_items + 1) where row 0 is padding"
        )
    return start, stop
