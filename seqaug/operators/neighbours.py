"""Neighbours: the similar item that Substitute and Insert put in."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from seqaug._checks import check_count, check_number
from seqaug._random import uniform_excluding
from seqaug.noise import Noise
from seqaug.operators.alias import alias_table, pick_alias
from seqaug.similarity import ItemSimilarity


def is_in_row(ids: Tensor, row: Tensor) -> Tensor:
    """Which ids stand in the row: one sort and one binary search, rather than every pair.

    Args:
        ids: (B, L, K) int64.
        row: (B, L) int64.

    Returns:
        (B, L, K) bool.
    """
    ordered = row.sort(1).values.contiguous()
    wanted = rearrange(ids, "b l k -> b (l k)")
    place = torch.searchsorted(ordered, wanted).clamp(max=row.shape[1] - 1)
    return rearrange(ordered.gather(1, place) == wanted, "b (l k) -> b l k", l=ids.shape[1])


class Neighbours(nn.Module):
    """A table of similar items and the way to choose from it. Its ids move with ``.to()`` and stay out of the ``state_dict``.

    Args:
        neighbours: an :class:`~seqaug.ItemSimilarity`, or (V + 2, K) int64 ids, nearest first, 0 = none.
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
        neighbours: ItemSimilarity | Tensor,
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
        for name, table in self._tables(neighbours).items():
            self.register_buffer(name, table, persistent=False)

    def update(self, neighbours: ItemSimilarity | Tensor) -> None:
        """Take another table of as many items, as after an epoch in which the embeddings moved."""
        tables = self._tables(neighbours)
        if len(tables["ids"]) != len(self.ids):
            raise ValueError(
                f"the new table must have {len(self.ids)} rows as the old one, got {len(tables['ids'])} rows"
            )
        for name, table in tables.items():
            setattr(self, name, table.to(self.ids.device))

    def similar(self, items: Tensor, real: Tensor, noise: Noise) -> Tensor:
        """A similar item for every slot.

        Args:
            items: (B, L) ids below V + 2.
            real: (B, L) bool.
            noise: of the batch.

        Returns:
            (B, L) ids of the dtype of ``items``; anything in padded slots.
        """
        row = torch.where(real, items, 0)
        if self.exclude_row:
            found = self._allowed(row.long(), noise)
        elif self.top == 1:
            found = self.ids[:, 0][row]
        else:
            found = self.ids.flatten()[pick_alias(row.long(), noise.bits, self.keep, self.alias)]
        return torch.where(found > 0, found, self._stranger(items, real, noise)).to(items.dtype)

    def _allowed(self, row: Tensor, noise: Noise) -> Tensor:
        """(B, L) one of the nearest that the row has not, 0 where it has them all."""
        found = self.ids[row]  # (batch, slots, K)
        allowed = (found > 0) & ~is_in_row(found, row)
        rank = allowed.cumsum(-1)  # the how-manieth allowed neighbour this is
        if self.temperature is None:
            count = rank[..., -1].clamp(max=self.top)
            wanted = 1 + noise.pick(count.clamp(min=1))
            picked = (allowed & (rank == wanted[..., None])).long().argmax(-1, keepdim=True)
        else:
            scores = self.scores[row].masked_fill(~allowed | (rank > self.top), -torch.inf)
            weight = (scores - scores.amax(-1, keepdim=True)).exp().nan_to_num(nan=0.0).cumsum(-1)
            wanted = noise.uniform() * weight[..., -1]
            picked = (weight <= wanted[..., None]).sum(-1, keepdim=True).clamp(max=found.shape[-1] - 1)
        neighbour = rearrange(found.gather(-1, picked), "b l 1 -> b l")
        return torch.where(rank[..., -1] > 0, neighbour, 0)

    def _stranger(self, items: Tensor, real: Tensor, noise: Noise) -> Tensor:
        """(B, L) any item, each as likely, for those without a neighbour."""
        num_items = len(self.ids) - 2
        # The items below a pad id in 1..V move up by one to be numbered 1..V, and the drawn number moves back.
        pad_inside = 1 <= self.pad_id <= num_items
        if self.exclude_row:
            row = items.long()
            numbered = row + (row < self.pad_id) if pad_inside else row
            stranger, _ = uniform_excluding(noise.uniform(), num_items, torch.where(real, numbered, 0))
        else:
            stranger = 1 + noise.pick(num_items)
        return stranger - (stranger <= self.pad_id).long() if pad_inside else stranger

    def _tables(self, neighbours: ItemSimilarity | Tensor) -> dict[str, Tensor]:
        """The buffers: ids, and what a draw among several needs."""
        ids: object = neighbours.neighbours if isinstance(neighbours, ItemSimilarity) else neighbours
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
            came = str(ids.dtype) if isinstance(ids, Tensor) else type(ids).__name__
            raise TypeError(f"neighbours must be an ItemSimilarity or a tensor of int64 ids, got {came}")
        if ids.ndim != 2 or ids.shape[0] < 3 or ids.shape[1] < 1:
            raise ValueError(f"neighbours must be (V + 2, K) ids, got neighbours.shape={tuple(ids.shape)}")
        if self.top > ids.shape[1]:
            raise ValueError(
                f"top must be at most the number of neighbours, got top={self.top} for neighbours.shape={tuple(ids.shape)}"
            )
        largest, smallest = int(ids.max()), int(ids.min())
        if smallest < 0 or largest > len(ids) - 2:
            wrong = smallest if smallest < 0 else largest
            raise ValueError(f"neighbours must be ids in 1..{len(ids) - 2}, or 0 for none, got {wrong}")
        if self.pad_id > 0 and bool((ids == self.pad_id).any()):
            raise ValueError(f"neighbours must not name the pad id, got pad_id={self.pad_id} among them")
        scores = self._scores(neighbours, ids)
        last = (ids == 0).int().sort(dim=1, stable=True).indices  # what is none comes last
        ids, scores = ids.gather(1, last).long(), scores.gather(1, last)
        if self.exclude_row:
            return {"ids": ids} if self.temperature is None else {"ids": ids, "scores": scores.float()}
        # Where only the first few are ever read, the rest would only be carried through the cache.
        ids, scores = ids[:, : self.top].contiguous(), scores[:, : self.top]
        if self.top == 1:
            return {"ids": ids}
        weights = torch.where(ids > 0, (scores - scores.amax(1, keepdim=True)).exp(), 0.0)
        keep, alias = alias_table(weights)
        return {"ids": ids, "keep": keep, "alias": alias}

    def _scores(self, neighbours: ItemSimilarity | Tensor, ids: Tensor) -> Tensor:
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
        return f"neighbours=<{len(self.ids)} rows>{top}{warm}" + (
            ", exclude_row=True" if self.exclude_row else ""
        )
