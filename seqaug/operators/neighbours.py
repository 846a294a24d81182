"""Neighbours: the similar item that Substitute and Insert put in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import Self

from seqaug._buffers import move_without_casting
from seqaug._checks import can_look, check_count, check_number, no_such_row
from seqaug._pairs import worth_comparing, written
from seqaug.noise import Noise, pick
from seqaug.operators.alias import alias_table, pick_alias
from seqaug.operators.not_in_row import is_in_row, one_of, similar_at, similar_not_in_row, stranger
from seqaug.sharding import ShardedTable
from seqaug.similarity import ItemSimilarity
from seqaug.slots import choose, flags, look_up


class Neighbours(nn.Module):
    """A table of similar items and the way to choose from it. Its ids move with ``.to()`` and stay out of the ``state_dict``.

    Args:
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none; or such ids as a
            :class:`~seqaug.ShardedTable`. Each rank then looks up its own batch, of the same shape on all ranks.
        top: how many of the nearest to choose from, in 1..K.
        temperature: the nearest are drawn by softmax(score / temperature), for which the table must have scores;
            ``None``: each as likely.
        exclude_row: never choose an item that the row already has; of a row that has the whole catalog, one of its own.
        pad_id: the id of padding, never chosen. Where it is one of 1..V, the V items are 0..V without it.
    """

    ids: Tensor
    first: Tensor  # the first column of them, which is read most
    scores: (
        Tensor | None
    )  # divided by the temperature; of those that cannot be chosen -inf; None: each is as likely
    keep: Tensor
    alias: Tensor

    def __init__(
        self,
        neighbours: ItemSimilarity | Tensor | ShardedTable,
        *,
        top: int = 1,
        temperature: float | None = None,
        exclude_row: bool = False,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        check_count("top", top, 1)
        if temperature is not None:
            check_number("temperature", temperature, 1e-6, 1e6)
            temperature = float(temperature)
        if not isinstance(exclude_row, bool):
            raise TypeError(f"exclude_row must be True or False, got exclude_row={exclude_row!r}")
        self.top = top
        self.temperature = temperature
        self.exclude_row = exclude_row
        self.pad_id = pad_id
        self.register_buffer("scores", None, persistent=False)
        self.shards = neighbours if isinstance(neighbours, ShardedTable) else None
        for name, table in self._tables(neighbours).items():
            self.register_buffer(name, table, persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        move_without_casting(self, super()._apply, fn, recurse)
        return self

    @property
    def rows(self) -> int:
        """V + 2."""
        return len(self.ids) if self.shards is None else self.shards.rows

    def update(self, neighbours: ItemSimilarity | Tensor | ShardedTable) -> None:
        """Take another table of as many items, as after an epoch in which the embeddings moved."""
        if isinstance(neighbours, ShardedTable) != (self.shards is not None):
            raise TypeError(
                "the new table must be spread over ranks if and only if the old one is, "
                f"got {type(neighbours).__name__}"
            )
        tables = self._tables(neighbours)
        if len(tables["ids"]) != len(self.ids):
            raise ValueError(
                f"the new table must have {len(self.ids)} rows as the old one, got {len(tables['ids'])} rows"
            )
        for name, table in tables.items():
            setattr(self, name, table.to(self.ids.device))

    def nearest(self, items: Tensor) -> Tensor:
        """(B, L, K) neighbours of ids (B, L)."""
        if self.shards is None:
            return look_up(self.ids, items)
        return dataclasses.replace(self.shards, local=self.ids).lookup_each(items)

    def similar(
        self,
        items: Tensor,
        real: Tensor,
        chosen: Tensor,
        noise: Noise,
        into: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """An item similar to that of every chosen slot.

        Args:
            items: (B, L) ids below V + 2.
            real: (B, L) bool.
            chosen: (B, L) bool, within ``real``.
            noise: of the batch.
            into: which chosen slot each slot of the result is for, (B, L) int64, and which of them there are, (B, L) bool;
                ``None``: each chosen slot for itself.

        Returns:
            (B, L) ids of the dtype of ``items``; -1 in all other slots.
        """
        if not can_look(items) or self.shards is not None:
            if self.exclude_row:
                chosen = flags(chosen) > 0  # on both sides of a kernel of its own
            found = self._everywhere(items, real, chosen, noise)
            if into is not None:
                found, chosen = found.gather(1, into[0].clamp(min=0)), into[1]
            return choose(chosen, found.to(items.dtype), -1, items.dtype)
        # A CPU can be asked where the chosen slots are without waiting for it, and looks up theirs alone.
        row = items if self.pad_id == 0 else torch.where(real, items, 0)
        smallest, largest = torch.aminmax(row) if row.numel() else (0, 0)
        if smallest < 0 or largest >= self.rows:
            raise no_such_row("items", row, self.rows)
        at = of = (chosen if into is None else into[1]).flatten().nonzero().squeeze(1)
        if into is not None:
            of = (at // row.shape[1]).mul_(row.shape[1]).add_(look_up(into[0].flatten(), at))
        found = self._at(items, of, noise)
        similar = torch.full_like(items, -1).flatten()
        return similar.index_copy_(0, at, found.to(items.dtype)).view(items.shape)

    def _at(self, items: Tensor, at: Tensor, noise: Noise) -> Tensor:
        """(M,) a similar item of each of some slots, counted through the batch."""

        def bits() -> Tensor:
            return look_up(noise.bits.flatten(), at)

        if self.exclude_row:
            return similar_at(self.ids, self.scores, items, at, bits, self.top, self.pad_id)
        found = self._near(look_up(items.flatten(), at), bits)
        lonely = (found == 0).nonzero().squeeze(1)
        if lonely.numel() > 0:
            found[lonely] = stranger(bits()[lonely], self.rows - 2, self.pad_id)
        return found

    def _everywhere(self, items: Tensor, real: Tensor, chosen: Tensor, noise: Noise) -> Tensor:
        """(B, L) a similar item of each chosen slot, anything elsewhere, without looking at any."""
        row, num_items = torch.where(real, items, 0).long(), self.rows - 2
        if not self.exclude_row:
            found = self._near(row, lambda: noise.bits)
            return torch.where(found > 0, found, stranger(noise.bits, num_items, self.pad_id))
        if items.device.type == "cpu" and self.shards is None:
            return self._not_in_row(items, row, chosen, noise)
        near = self.nearest(row)
        allowed = (near > 0) & ~is_in_row(near, row, self.rows - 1)
        scores = None if self.scores is None else self.scores[row]
        found = one_of(near, allowed, scores, lambda: noise.bits, self.top)
        return torch.where(found > 0, found, stranger(noise.bits, num_items, self.pad_id, items))

    def _not_in_row(self, items: Tensor, row: Tensor, chosen: Tensor, noise: Noise) -> Tensor:
        """:meth:`_everywhere` with ``exclude_row``, for compiled code on a CPU: what takes looking is done by a kernel of its own."""

        def look(chosen: Tensor) -> Tensor:
            ids, scores, pad_id = self.ids, self.scores, self.pad_id
            return similar_not_in_row(
                ids, scores, items, chosen, noise.seeds, noise.distance, self.top, pad_id
            )

        if self.top > 1 or not worth_comparing(row.shape[1], self.rows):
            return look(chosen)
        # Most of the nearest are not in the row: whether they are, all pairs say in less time than the kernel needs to begin.
        nearest = written(look_up(self.first, row))
        taken = rearrange(is_in_row(rearrange(nearest, "b l -> b l 1"), row, self.rows), "b l 1 -> b l")
        found = look((chosen & (taken | (nearest == 0))).int())  # compiled code takes long to write bools
        return torch.where(found >= 0, found, nearest)

    def _near(self, ids: Tensor, bits: Callable[[], Tensor]) -> Tensor:
        """A neighbour of each of the ids, 0 where there is none.

        Args:
            ids: int64 or int32 of any shape.
            bits: makes those of that shape, where they are needed; see :attr:`Noise.bits`.

        Returns:
            int64 of that shape.
        """
        if self.shards is not None:
            near = self.nearest(ids)  # what is none comes last
            place = pick(bits(), (near > 0).sum(-1).clamp(min=1))
            return rearrange(near.gather(-1, place[..., None]), "... 1 -> ...")
        if self.top == 1:
            return look_up(self.ids[:, 0], ids)
        return look_up(self.ids.flatten(), pick_alias(ids.long(), bits(), self.keep, self.alias))

    def _tables(self, neighbours: ItemSimilarity | Tensor | ShardedTable) -> dict[str, Tensor]:
        """The buffers: ids, and what a draw among several needs."""
        ids: object = neighbours
        rows = 0
        if isinstance(neighbours, ItemSimilarity):
            ids = neighbours.neighbours
        elif isinstance(neighbours, ShardedTable):
            ids, rows = neighbours.local, neighbours.rows
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
            came = str(ids.dtype) if isinstance(ids, Tensor) else type(ids).__name__
            raise TypeError(f"neighbours must be an ItemSimilarity or a tensor of int64 ids, got {came}")
        rows = rows or len(ids)
        if ids.ndim != 2 or rows < 3 or ids.shape[1] < 1:
            raise ValueError(f"neighbours must be (V + 2, K) ids, got neighbours.shape={tuple(ids.shape)}")
        if self.top > ids.shape[1]:
            raise ValueError(
                f"top must be at most the number of neighbours, got top={self.top} for neighbours.shape={tuple(ids.shape)}"
            )
        largest, smallest = (int(ids.max()), int(ids.min())) if len(ids) else (0, 0)
        if smallest < 0 or largest > rows - 2:
            wrong = smallest if smallest < 0 else largest
            raise ValueError(f"neighbours must be ids in 1..{rows - 2}, or 0 for none, got {wrong}")
        if self.pad_id > 0 and bool((ids == self.pad_id).any()):
            raise ValueError(f"neighbours must not name the pad id, got pad_id={self.pad_id} among them")
        scores = self._scores(neighbours, ids)
        last = (ids == 0).int().sort(dim=1, stable=True).indices  # what is none comes last
        ids, scores = ids.gather(1, last).long(), scores.gather(1, last)
        if self.exclude_row:
            tables = {"ids": ids, "first": ids[:, 0].contiguous()}
            return tables if self.temperature is None else tables | {"scores": scores.float()}
        # Where only the first few are ever read, the rest would only be carried through the cache.
        ids, scores = ids[:, : self.top].contiguous(), scores[:, : self.top]
        if self.top == 1 or self.shards is not None:
            return {"ids": ids}
        weights = torch.where(ids > 0, (scores - scores.amax(1, keepdim=True)).exp(), 0.0)
        keep, alias = alias_table(weights)
        return {"ids": ids, "keep": keep, "alias": alias}

    def _scores(self, neighbours: ItemSimilarity | Tensor | ShardedTable, ids: Tensor) -> Tensor:
        """(V + 2, K) float64: what the softmax is of."""
        if self.temperature is None:
            return torch.zeros(ids.shape, dtype=torch.float64, device=ids.device)
        if not isinstance(neighbours, ItemSimilarity):
            raise ValueError(
                f"temperature={self.temperature!r} draws neighbours by their scores, got a table of ids, which has none: "
                "pass an ItemSimilarity, or leave temperature at None"
            )
        scores = neighbours.scores.to(ids.device, torch.float64) / self.temperature
        return torch.where(ids > 0, scores, -torch.inf)

    def extra_repr(self) -> str:
        top = "" if self.top == 1 else f", top={self.top}"
        warm = "" if self.temperature is None else f", temperature={self.temperature!r}"
        return f"neighbours=<{self.rows} rows>{top}{warm}" + (
            ", exclude_row=True" if self.exclude_row else ""
        )
