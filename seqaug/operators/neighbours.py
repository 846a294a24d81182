"""Neighbours: the similar item that Substitute and Insert put in."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from seqaug._checks import check_count
from seqaug._random import uniform_excluding
from seqaug.noise import Noise
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
        top: how many of the nearest to choose from, each as likely, in 1..K.
        exclude_row: never choose an item that the row already has.
        pad_id: the id of padding, never chosen. Where it is one of 1..V, the V items are 0..V without it.
    """

    ids: Tensor

    def __init__(
        self,
        neighbours: ItemSimilarity | Tensor,
        *,
        top: int = 1,
        exclude_row: bool = False,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        check_count("top", top, 1)
        if not isinstance(exclude_row, bool):
            raise TypeError(f"exclude_row must be True or False, got exclude_row={exclude_row!r}")
        self.top = top
        self.exclude_row = exclude_row
        self.pad_id = pad_id
        self.register_buffer("ids", self._table(neighbours), persistent=False)

    def update(self, neighbours: ItemSimilarity | Tensor) -> None:
        """Take another table of as many items, as after an epoch in which the embeddings moved."""
        table = self._table(neighbours)
        if len(table) != len(self.ids):
            raise ValueError(
                f"the new table must have {len(self.ids)} rows as the old one, got {len(table)} rows"
            )
        self.ids = table.to(self.ids.device)

    def similar(self, items: Tensor, real: Tensor, noise: Noise) -> Tensor:
        """A similar item for every slot.

        Args:
            items: (B, L) ids below V + 2.
            real: (B, L) bool.
            noise: of the batch.

        Returns:
            (B, L) ids of the dtype of ``items``; anything in padded slots.
        """
        num_items = len(self.ids) - 2
        found = self.ids[torch.where(real, items, 0)]  # (batch, slots, K)
        allowed = found > 0
        # The items below a pad id in 1..V move up by one to be numbered 1..V, and the drawn number moves back.
        pad_inside = 1 <= self.pad_id <= num_items
        if self.exclude_row:
            row = items.long()
            allowed &= ~is_in_row(found, torch.where(real, row, 0))
            numbered = row + (row < self.pad_id) if pad_inside else row
            stranger, _ = uniform_excluding(noise.uniform(), num_items, torch.where(real, numbered, 0))
        else:
            stranger = 1 + noise.pick(torch.full_like(noise.keys, num_items))
        if pad_inside:
            stranger = stranger - (stranger <= self.pad_id).long()
        rank = allowed.cumsum(-1)  # the how-manieth allowed neighbour this is
        count = rank[..., -1].clamp(max=self.top)
        wanted = 1 + noise.pick(count.clamp(min=1))
        picked = (allowed & (rank == wanted[..., None])).long().argmax(-1, keepdim=True)
        neighbour = rearrange(found.gather(-1, picked), "b l 1 -> b l")
        return torch.where(count > 0, neighbour, stranger).to(items.dtype)

    def _table(self, neighbours: ItemSimilarity | Tensor) -> Tensor:
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
        ids = ids.gather(1, (ids == 0).int().sort(dim=1, stable=True).indices)  # what is none comes last
        # Where only the first few are ever read, the rest would only be carried through the cache.
        return (ids if self.exclude_row else ids[:, : self.top]).long().contiguous()

    def extra_repr(self) -> str:
        top = "" if self.top == 1 else f", top={self.top}"
        return f"neighbours=<{len(self.ids)} rows>{top}" + (", exclude_row=True" if self.exclude_row else "")
