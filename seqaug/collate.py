"""Collate: rows of a data set to one batch, with draws of the worker's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from seqaug._checks import Side, check_count, check_ids, check_side
from seqaug.packed import Packed, pack

_APART = 0x9E3779B97F4A7C15  # between the seeds of two ranks; odd, also in the low 32 bits, which are all that CPUs seed with


def current_rank() -> int:
    """The rank of this process: of torch.distributed where that runs, else what a launcher says, else 0."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _times(row: Any) -> Any:
    """Floats of a list in float64; whatever else as it is."""
    floats = not isinstance(row, Tensor) and any(isinstance(time, float) for time in row)
    return torch.tensor(row, dtype=torch.float64) if floats else row


class Collate:
    """Make a batch out of rows of a data set: the ``collate_fn`` of a :class:`torch.utils.data.DataLoader`.

    A row is a list of ids, or a dictionary of what is aligned with them: ``{"items": ids, "timestamps": ..., "target": ...}``, each of
    it a list or tensor (n, ...), oldest first. Whatever has no axis is one number of the row, as the user's id.

    Without an operator the batch is ready to be moved to a device and augmented there. With one, each batch comes with draws
    made in the worker: ``batch["edits"]``, to be applied wherever they are wanted, ``edit(batch["items"])``. The generator of
    a worker is seeded by the one that torch gives each worker and by the rank of the process, so that two workers and two ranks
    differ, also where all ranks are seeded alike, and a rerun repeats. torch's global state is left alone.

    Args:
        length: L; of longer rows the newest items are kept. ``None``: as long as the longest row of the batch.
        operator: an operator or policy, or a :class:`~seqaug.MixupOp`: anything with ``sample``.
        views: how many draws of it.
        packed: rows as a :class:`~seqaug.Packed` instead of padded.
        fill: by name, what padded slots hold that is not 0; for ``"items"`` it is ``pad_id``.
        rank: of this process; ``None``: of torch.distributed, or the environment's ``RANK``.
        pad_id: the id of padding.
        side: where the padding goes.

    Raises:
        TypeError: ``operator`` has no ``sample``.
        ValueError: an operator with another pad id or side.

    Example:
        >>> import seqaug as sa
        >>> rows = [
        ...     {"items": [1, 2, 3], "timestamps": [10, 20, 30], "user": 7},
        ...     {"items": [4], "timestamps": [5], "user": 8},
        ... ]
        >>> batch = sa.Collate(length=4)(rows)
        >>> batch["items"], batch["user"]
        (tensor([[0, 1, 2, 3],
                [0, 0, 0, 4]]), tensor([7, 8]))
        >>> batch = sa.Collate(length=4, operator=sa.Crop(0.5, 0.5), views=2)(rows)
        >>> len(batch["edits"]), batch["edits"][0](batch["items"]).shape
        (2, torch.Size([2, 4]))
    """

    def __init__(
        self,
        *,
        length: int | None = None,
        operator: Any = None,
        views: int = 1,
        packed: bool = False,
        fill: Mapping[str, float] | None = None,
        rank: int | None = None,
        pad_id: int = 0,
        side: Side = "left",
    ) -> None:
        if length is not None:
            check_count("length", length, 1)
        check_count("views", views, 1)
        check_side(side)
        inner = getattr(operator, "operator", operator)  # of a MixupOp
        if operator is not None and not (hasattr(operator, "sample") and hasattr(inner, "pad_id")):
            raise TypeError(f"operator must be an operator, a policy or a MixupOp, got operator={operator!r}")
        if operator is not None and (inner.pad_id, inner.side) != (pad_id, side):
            raise ValueError(
                f"batches must be padded as the operator expects, got pad_id={pad_id}, side={side!r} for an operator with "
                f"pad_id={inner.pad_id}, side={inner.side!r}"
            )
        if rank is not None:
            check_count("rank", rank, 0)
        self.length = length
        self.operator = operator
        self.views = views
        self.packed = packed
        self.fill = {"items": pad_id, **(fill or {})}
        self.rank = rank
        self.pad_id = pad_id
        self.side: Side = side
        self._seed: int | None = None
        self._generator: torch.Generator | None = None

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """The batch of some rows.

        Args:
            rows: lists of ids or dictionaries, all with the same names.

        Returns:
            By name a tensor (B, L, ...), or a :class:`~seqaug.Packed`, or a tensor (B,) of what has no axis; with an operator
            ``"edits"``, a tuple of ``views`` draws.

        Raises:
            TypeError: items that are no whole ids.
            ValueError: rows with other names, parts of a row of different lengths, an item that is the pad id, or rows that
                have "edits" of their own, with an operator.
        """
        rows = [row if isinstance(row, Mapping) else {"items": row} for row in rows]
        names = list(rows[0]) if rows else ["items"]
        for number, row in enumerate(rows):
            if list(row) != names or "items" not in row:
                raise ValueError(
                    f'rows must have the same names, among them "items", got {list(row)} in row {number} after {names}'
                )
        if self.operator is not None and "edits" in names:
            raise ValueError(
                f'"edits" is what the operator draws, got rows with the names {names}: rename theirs'
            )
        columns = {name: [row[name] for row in rows] for name in names}
        items = pack(columns["items"], length=self.length)
        check_ids("items", items.values)
        if bool((items.values == self.pad_id).any()):
            raise ValueError(
                f"a row holds the pad id, got pad_id={self.pad_id}: renumber its items or pass another pad_id"
            )
        batch: dict[str, Any] = {
            name: self._column(name, column, columns["items"], items) for name, column in columns.items()
        }
        if self.operator is not None:
            batch["edits"] = self._draw(batch)
        return batch

    def _column(self, name: str, column: list[Any], ids: list[Any], items: Packed) -> Tensor | Packed:
        if column and (not hasattr(column[0], "__len__") or getattr(column[0], "ndim", 1) == 0):
            return torch.stack([torch.as_tensor(value) for value in column])
        for number, (part, whole) in enumerate(zip(column, ids, strict=True)):
            if len(part) != len(whole):
                raise ValueError(
                    f"row {number} must be as long in {name!r} as in 'items', got {len(part)} and {len(whole)}"
                )
        if name == "timestamps":  # seconds since 1970 are beyond what float32 tells apart
            column = [_times(part) for part in column]
        rows = items if name == "items" else items.like(pack(column, length=self.length).values)
        return rows if self.packed else rows.pad(side=self.side, fill=self.fill.get(name, 0))

    def _draw(self, batch: dict[str, Any]) -> tuple[Any, ...]:
        options = {"timestamps": batch.get("timestamps"), "generator": self.generator()}
        if hasattr(self.operator, "sample_views"):
            return tuple(self.operator.sample_views(batch["items"], self.views, **options))
        return tuple(self.operator.sample(batch["items"], **options) for _ in range(self.views))

    def generator(self) -> torch.Generator:
        """The generator of this process: one that goes on over the batches and epochs of a worker."""
        worker = get_worker_info()
        seed = torch.initial_seed() if worker is None else worker.seed
        if self._generator is None or seed != self._seed:  # another process, or another seed
            rank = current_rank() if self.rank is None else self.rank
            self._seed = seed
            self._generator = torch.Generator().manual_seed((seed + rank * _APART) % 2**63)
        return self._generator

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker is no member of the process group: what rank it works for it must be told. Generators stay behind.
        rank = current_rank() if self.rank is None else self.rank
        return self.__dict__ | {"rank": rank, "_seed": None, "_generator": None}
