"""Neighbours: the similar item that Substitute and Insert put in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from seqaug._checks import can_look, check_count, check_number, no_such_row
from seqaug._pairs import all_pairs, float_bits, worth_comparing
from seqaug._random import uniform_excluding
from seqaug.noise import Noise, pick, unit
from seqaug.operators.alias import alias_table, pick_alias
from seqaug.sharding import ShardedTable
from seqaug.similarity import ItemSimilarity
from seqaug.slots import choose, look_up


def is_in_row(ids: Tensor, row: Tensor, largest: int) -> Tensor:
    """Which ids stand in the row, without waiting for the device: by all pairs in compiled code, else by a sort and a binary search.

    Args:
        ids: (B, L, K) int64 in 0..largest.
        row: (B, L) int64 in 0..largest.
        largest: the largest id there is.

    Returns:
        (B, L, K) bool.
    """
    wanted = rearrange(ids, "b l k -> b (l k)")
    if worth_comparing(row.shape[1], largest):
        one, other = all_pairs(float_bits(wanted), float_bits(row))
        return rearrange((one == other).float().sum(1) > 0, "b (l k) -> b l k", l=ids.shape[1])
    ordered = row.sort(1).values.contiguous()
    place = torch.searchsorted(ordered, wanted).clamp(max=row.shape[1] - 1)
    return rearrange(ordered.gather(1, place) == wanted, "b (l k) -> b l k", l=ids.shape[1])


def first_not_in_row(ids: Tensor, at: Tensor, row: Tensor, most: int) -> Tensor:
    """The first few ids of each line that its row does not have, one column after the other until every line has enough.

    Waits for the device once per column; in sessions of like items few lines need more than the first few.

    Args:
        ids: (N, K) int64 of at least 0; the first 0 ends the line.
        at: (N,) int64; the row of each line.
        row: (B, L) int64 of at least 0.
        most: how many of a line are wanted.

    Returns:
        (N, K) bool, at most ``most`` of each line.
    """
    # Each item leaves its slot where the low bits of its id say: the id found there is the one looked for, or there is none,
    # or it is another one with the same bits, and the whole row is looked through.
    slots = row.shape[1]
    places = 1 << (4 * slots).bit_length()
    narrow = torch.int8 if slots < 128 else torch.int32
    slot = torch.arange(slots, dtype=narrow, device=row.device)
    there = torch.full((len(row), places), -1, dtype=narrow, device=row.device)
    there = there.scatter_(1, row & (places - 1), slot.expand(row.shape)).flatten()
    flat = row.flatten()
    absent = torch.zeros_like(ids, dtype=torch.bool)
    line, left = torch.arange(len(ids), device=ids.device), torch.full_like(at, most)
    for column in range(ids.shape[1]):
        if line.numel() == 0:
            break
        wanted, of_row = ids[line, column], at[line]
        found = there[of_row * places + (wanted & (places - 1))].long()
        other = flat[of_row * slots + found.clamp(min=0)] != wanted
        unsure = (other & (found >= 0)).nonzero().squeeze(1)
        other[unsure] = (row[of_row[unsure]] != wanted[unsure, None]).all(1)
        new = other & (wanted > 0)
        absent[line, column] = new
        left[line] -= new.long()
        line = line[(left[line] > 0) & (wanted > 0)]
    return absent


@torch.library.custom_op("seqaug::absent_neighbours", mutates_args=())
def absent_neighbours(table: Tensor, row: Tensor, chosen: Tensor, most: int) -> Tensor:
    """Of the neighbours of the chosen items the first few that their row does not have, on a CPU: not for compilers to look into.

    Args:
        table: (N, K) int64 neighbours, 0 for none, which comes last.
        row: (B, L) int64 rows of the table.
        chosen: (B, L) bool.
        most: how many are wanted.

    Returns:
        (B, L, K) bool; nothing where it is not chosen.
    """
    at = chosen.flatten().nonzero().squeeze(1)
    near = look_up(table, look_up(row.flatten(), at))
    absent = torch.zeros((*row.shape, table.shape[1]), dtype=torch.bool, device=row.device)
    absent.flatten(0, 1).index_copy_(0, at, first_not_in_row(near, at // row.shape[1], row, most))
    return absent


@absent_neighbours.register_fake
def _(table: Tensor, row: Tensor, chosen: Tensor, most: int) -> Tensor:
    return torch.empty((*row.shape, table.shape[1]), dtype=torch.bool, device=row.device)


class Neighbours(nn.Module):
    """A table of similar items and the way to choose from it. Its ids move with ``.to()`` and stay out of the ``state_dict``.

    Args:
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none; or such ids as a
            :class:`~seqaug.ShardedTable`. Each rank then looks up its own batch, of the same shape on all ranks.
        top: how many of the nearest to choose from, in 1..K.
        temperature: the nearest are drawn by softmax(score / temperature), for which the table must have scores;
            ``None``: each as likely.
        exclude_row: never choose an item that the row already has.
        pad_id: the id of padding, never chosen. Where it is one of 1..V, the V items are 0..V without it.
    """

    ids: Tensor
    scores: Tensor  # divided by the temperature; of those that cannot be chosen -inf
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
        self.shards = neighbours if isinstance(neighbours, ShardedTable) else None
        for name, table in self._tables(neighbours).items():
            self.register_buffer(name, table, persistent=False)

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
        row = items if self.pad_id == 0 else torch.where(real, items, 0)
        if not can_look(items) or self.shards is not None:
            found = self._found(row, lambda: noise.bits, lambda near: self._absent(near, row.long(), chosen))
            found = torch.where(found > 0, found, self._stranger(items, real, noise))
            if into is not None:
                found, chosen = found.gather(1, into[0].clamp(min=0)), into[1]
            return choose(chosen, found.to(items.dtype), -1, items.dtype)
        # A CPU can be asked where the chosen slots are without waiting for it, and looks up theirs alone.
        smallest, largest = torch.aminmax(row) if row.numel() else (0, 0)
        if smallest < 0 or largest >= self.rows:
            raise no_such_row("items", row, self.rows)
        at = (chosen if into is None else into[1]).flatten().nonzero().squeeze(1)
        number = at // row.shape[1]  # of the row
        of = at if into is None else number * row.shape[1] + look_up(into[0].flatten(), at)
        found = self._found(
            look_up(row.flatten(), of),
            lambda: look_up(noise.bits.flatten(), of),
            lambda near: first_not_in_row(near, number, row.long(), self.top),
        )
        lonely = found == 0
        if lonely.any():
            found = torch.where(lonely, look_up(self._stranger(items, real, noise).flatten(), of), found)
        similar = torch.full_like(items, -1).flatten()
        return similar.index_copy_(0, at, found.to(items.dtype)).view(items.shape)

    def _absent(self, near: Tensor, row: Tensor, chosen: Tensor) -> Tensor:
        """(B, L, K) bool: the neighbours that the row has not; see :meth:`_found`."""
        if near.device.type == "cpu" and self.shards is None:
            return absent_neighbours(self.ids, row, chosen, self.top)
        return ~is_in_row(near, row, self.rows - 1)

    def _found(self, ids: Tensor, bits: Callable[[], Tensor], absent: Callable[[Tensor], Tensor]) -> Tensor:
        """A neighbour of each of the ids, 0 where there is none.

        Args:
            ids: int64 or int32 of any shape; real ones, or 0.
            bits: makes those of that shape, where they are needed; see :attr:`Noise.bits`.
            absent: which of the neighbours (..., K) of the ids their rows do not have. Where the first ``top`` of them are found it
                may say of all others that they are there.

        Returns:
            int64 of that shape.
        """
        if self.exclude_row:
            return self._allowed(ids.long(), bits, absent)
        if self.shards is not None:
            near = self.nearest(ids)  # what is none comes last
            place = pick(bits(), (near > 0).sum(-1).clamp(min=1))
            return rearrange(near.gather(-1, place[..., None]), "... 1 -> ...")
        if self.top == 1:
            return look_up(self.ids[:, 0], ids)
        return look_up(self.ids.flatten(), pick_alias(ids.long(), bits(), self.keep, self.alias))

    def _allowed(self, ids: Tensor, bits: Callable[[], Tensor], absent: Callable[[Tensor], Tensor]) -> Tensor:
        """One of the nearest that the row has not, 0 where it has them all."""
        found = self.nearest(ids)  # (..., K)
        allowed = (found > 0) & absent(found)
        if self.top == 1:  # whatever the temperature: the first that is allowed
            first = allowed.to(torch.uint8).argmax(-1, keepdim=True)  # of several largest values the first
            return rearrange(found.gather(-1, first) * allowed.gather(-1, first), "... 1 -> ...")
        rank = allowed.cumsum(-1)  # the how-manieth allowed neighbour this is
        if self.temperature is None:
            count = rank[..., -1].clamp(max=self.top)
            wanted = 1 + pick(bits(), count.clamp(min=1))
            picked = (allowed & (rank == wanted[..., None])).long().argmax(-1, keepdim=True)
        else:
            scores = self.scores[ids].masked_fill(~allowed | (rank > self.top), -torch.inf)
            weight = (scores - scores.amax(-1, keepdim=True)).exp().nan_to_num(nan=0.0).cumsum(-1)
            wanted = unit(bits()) * weight[..., -1]
            picked = (weight <= wanted[..., None]).sum(-1, keepdim=True).clamp(max=found.shape[-1] - 1)
        neighbour = rearrange(found.gather(-1, picked), "... 1 -> ...")
        return torch.where(rank[..., -1] > 0, neighbour, 0)

    def _stranger(self, items: Tensor, real: Tensor, noise: Noise) -> Tensor:
        """(B, L) any item, each as likely, for those without a neighbour."""
        num_items = self.rows - 2
        # The items below a pad id in 1..V move up by one to be numbered 1..V, and the drawn number moves back.
        pad_inside = 1 <= self.pad_id <= num_items
        if self.exclude_row:
            row = items.long()
            numbered = row + (row < self.pad_id) if pad_inside else row
            stranger, _ = uniform_excluding(noise.uniform(), num_items, torch.where(real, numbered, 0))
        else:
            stranger = 1 + noise.pick(num_items)
        return stranger - (stranger <= self.pad_id).long() if pad_inside else stranger

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
            return {"ids": ids} if self.temperature is None else {"ids": ids, "scores": scores.float()}
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
