"""One table of all operators and policies, and the batches to try them on. Whatever is public must be in the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

import seqaug as sa

V = 20  # items of the catalog
K = 3  # neighbours of each


@dataclass(frozen=True)
class Layout:
    """A convention for padded rows: the pad id, its side, and which ids are then items."""

    pad_id: int = 0
    side: str = "left"

    @property
    def mask_id(self) -> int:
        return V + 1 if self.pad_id != V + 1 else 0

    @property
    def ids(self) -> list[int]:
        """V ids: 1..V, or with 0 among them where an id of 1..V is the pad."""
        return [i for i in range(0 if 1 <= self.pad_id <= V else 1, V + 1) if i != self.pad_id]

    @property
    def arguments(self) -> dict[str, int | str]:
        return {"pad_id": self.pad_id, "side": self.side}

    def neighbours(self) -> Tensor:
        """(V + 2, K): items with three neighbours, two, one, or none."""
        generator = torch.Generator().manual_seed(11)
        table = torch.randint(1, V + 1, (V + 2, K), generator=generator)
        table[torch.arange(V + 2)[:, None] % 4 + torch.arange(K) >= 4] = 0
        table[table == self.pad_id] = 0
        return table

    def similarity(self) -> sa.ItemSimilarity:
        """The same neighbours with scores, of which some are equal."""
        table = self.neighbours()
        scores = torch.randint(0, 4, table.shape, generator=torch.Generator().manual_seed(12)) / 2
        return sa.ItemSimilarity(
            table, scores.sort(dim=1, descending=True).values.masked_fill(table == 0, -torch.inf)
        )


# 0: everybody; 5: in the middle of the ids; V: RePlay, where 0 is an item; V + 1: gSASRec; -1: outside the table.
LAYOUTS = [Layout(pad_id, side) for pad_id in (0, 5, V, V + 1, -1) for side in ("left", "right")]

Build = Callable[[float, float, Layout], sa.Operator]

OPERATORS: dict[str, Build] = {
    "Crop": lambda low, high, to: sa.Crop(low, high, **to.arguments),
    "Mask": lambda low, high, to: sa.Mask(low, high, mask_id=to.mask_id, **to.arguments),
    "Reorder": lambda low, high, to: sa.Reorder(low, high, **to.arguments),
    "Substitute": lambda low, high, to: sa.Substitute(low, high, to.neighbours(), **to.arguments),
    "Substitute top": lambda low, high, to: sa.Substitute(low, high, to.neighbours(), top=2, **to.arguments),
    "Substitute strangers": lambda low, high, to: sa.Substitute(
        low, high, to.neighbours(), top=3, exclude_row=True, **to.arguments
    ),
    "Substitute warm": lambda low, high, to: sa.Substitute(
        low, high, to.similarity(), top=3, temperature=0.7, **to.arguments
    ),
    "Substitute warm strangers": lambda low, high, to: sa.Substitute(
        low, high, to.similarity(), top=2, temperature=0.7, exclude_row=True, **to.arguments
    ),
    "Insert": lambda low, high, to: sa.Insert(low, high, to.neighbours(), **to.arguments),
    "Insert strangers": lambda low, high, to: sa.Insert(
        low, high, to.neighbours(), top=2, exclude_row=True, **to.arguments
    ),
    "Delete": lambda low, high, to: sa.Delete(low, high, **to.arguments),
    "Swap": lambda low, high, to: sa.Swap(low, high, **to.arguments),
    "TimeCrop": lambda low, high, to: sa.TimeCrop(low, high, **to.arguments),
    "TimeMask": lambda low, high, to: sa.TimeMask(low, high, mask_id=to.mask_id, **to.arguments),
    "TimeMask smallest": lambda low, high, to: sa.TimeMask(
        low, high, mask_id=to.mask_id, gaps="smallest", **to.arguments
    ),
    "TimeReorder": lambda low, high, to: sa.TimeReorder(low, high, **to.arguments),
    "TimeSubstitute": lambda low, high, to: sa.TimeSubstitute(low, high, to.neighbours(), **to.arguments),
    "TimeInsert": lambda low, high, to: sa.TimeInsert(low, high, to.neighbours(), top=2, **to.arguments),
    "TimeInsert warm": lambda low, high, to: sa.TimeInsert(
        low, high, to.similarity(), top=2, temperature=0.7, **to.arguments
    ),
    "RepeatPad": lambda low, high, to: sa.RepeatPad(**to.arguments),
}


def members(to: Layout, *names: str) -> list[sa.Augmentation]:
    return [OPERATORS[name](0.2, 0.7, to) for name in names]


POLICIES: dict[str, Callable[[Layout], sa.Augmentation]] = {
    "Policy": lambda to: sa.Policy(members(to, "Crop", "Mask", "Reorder", "Substitute")),
    "Policy weights": lambda to: sa.Policy(members(to, "Crop", "Insert", "TimeMask"), weights=[1, 0, 2.5]),
    "Policy of one": lambda to: sa.Policy(members(to, "Delete")),
    "Compose": lambda to: sa.Compose(members(to, "Delete", "Insert", "Reorder", "TimeMask")),
    "SomeOf": lambda to: sa.SomeOf(2, members(to, "Crop", "Substitute top", "TimeInsert", "Mask")),
    "Maybe": lambda to: sa.Maybe(OPERATORS["Crop"](0.2, 0.7, to), p=0.5),
    "LengthPolicy": lambda to: sa.LengthPolicy(
        threshold=2, short=OPERATORS["Insert"](0.2, 0.7, to), long=OPERATORS["TimeCrop"](0.2, 0.7, to)
    ),
    "EachOnce": lambda to: sa.EachOnce(members(to, "Crop", "Mask", "Reorder", "Substitute")),
    "VariancePolicy": lambda to: sa.VariancePolicy(
        3.0, even=OPERATORS["TimeReorder"](0.2, 0.7, to), uneven=sa.Policy(members(to, "Insert", "TimeMask"))
    ),
    "AdaptivePolicy": lambda to: sa.AdaptivePolicy(
        members(to, "Crop", "Mask", "TimeReorder"), buckets=(2, 5), warmup=0
    ),
    "nested": lambda to: sa.Policy(
        [
            sa.Compose(
                [sa.Maybe(OPERATORS["Reorder"](0.5, 1.0, to), p=0.3), OPERATORS["Crop"](0.2, 0.7, to)]
            ),
            sa.SomeOf(1, members(to, "Mask", "Delete")),
            OPERATORS["RepeatPad"](0.0, 0.0, to),
        ]
    ),
}

EVERYTHING: dict[str, Callable[[Layout], sa.Augmentation]] = POLICIES | {
    name: (lambda to, build=build: build(0.2, 0.7, to)) for name, build in OPERATORS.items()
}


@dataclass(frozen=True)
class Batch:
    """Ids and times, and the same rows without padding."""

    layout: Layout
    items: Tensor
    timestamps: Tensor
    lengths: list[int]

    def slots(self, row: int) -> list[int]:
        """The real slots of a row, oldest item first."""
        slots, length = self.items.shape[1], self.lengths[row]
        return list(range(slots - length, slots)) if self.layout.side == "left" else list(range(length))


def make_batch(
    layout: Layout, lengths: list[int], slots: int, seed: int = 0, dtype: torch.dtype = torch.int64
) -> Batch:
    """Random items with repeats, at times that never go back and may stand still."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), slots)
    ids = torch.tensor(layout.ids)[torch.randint(0, V, shape, generator=generator)]
    times = torch.randint(0, 6, shape, generator=generator).cumsum(1) + 1000
    place = torch.arange(slots).expand(shape)
    if layout.side == "left":
        place = place.flip(1)
    real = place < torch.tensor(lengths, dtype=torch.int64)[:, None]
    items = torch.where(real, ids, layout.pad_id).to(dtype)
    return Batch(layout, items, torch.where(real, times, 0), lengths)


@st.composite
def batches(draw: st.DrawFn, least: int = 0, longest: int = 13) -> Batch:
    """Batches of every layout, with rows of length 0, 1, 2 and L more often than chance has it."""
    layout = draw(st.sampled_from(LAYOUTS))
    slots = draw(st.sampled_from([slots for slots in (1, 2, 3, 5, 7, 13) if slots <= longest]))
    length = st.sampled_from([0, 1, 2, slots]) | st.integers(0, slots)
    lengths = draw(st.lists(length.map(lambda n: min(n, slots)), min_size=least, max_size=6))
    dtype = draw(st.sampled_from([torch.int64, torch.int32]))
    return make_batch(layout, lengths, slots, draw(st.integers(0, 2**20)), dtype)


seeds = st.integers(0, 2**40)


def sample(operator: sa.Augmentation, batch: Batch, seed: int = 0) -> sa.Edit:
    return operator.sample(
        batch.items, timestamps=batch.timestamps, generator=torch.Generator().manual_seed(seed)
    )


def same(one: sa.Edit, other: sa.Edit) -> bool:
    """Whether two edits are the same, bit for bit."""
    fields = ("source", "replaced", "rate", "choice")
    pairs = [(getattr(one, field), getattr(other, field)) for field in fields]
    return one.pad_id == other.pad_id and all(
        (a is None and b is None)
        or (a is not None and b is not None and a.dtype == b.dtype and torch.equal(a, b))
        for a, b in pairs
    )
