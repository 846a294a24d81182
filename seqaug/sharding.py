"""Tables whose rows are spread over the ranks of a process group, and the sums that cross between the ranks.

Every rank of the group works on the same hidden states and ids. What it computes from its own rows is a part
of the result; `sum_over_ranks` adds the parts up. A gradient that comes back to a result is whole on every rank,
the one a rank computes for the hidden states is that of its own rows, and `copy_to_ranks` adds those up.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from seqaug._checks import can_look, no_such_row
from seqaug.sparse_table import SparseTable

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True, eq=False)
class ShardedTable:
    """A table (R, ...) of which each rank of a process group holds some consecutive rows.

    Losses, `functional.linear_logsumexp`, `top_items`, `target_ranks`, `Substitute` and `Insert` take it where
    they take a table, and a `DTensor` sharded by rows as well. **All ranks of the group pass the same hidden
    states, targets and negatives** and get the same value; hidden states get their whole gradient on every
    rank, and the rows of a rank theirs. Ranks with batches of their own bring them together with
    `gather_rows`. Ranks on CPUs compare their ids, and say where they differ.

    Args:
        local: (own rows, ...) the rows of this rank, possibly none.
        first: number of its first row in the whole table.
        rows: R.
        group: the process group; None for the default one.

    Raises:
        ValueError: the rows of this rank lie outside the table, or, in use on a CPU, ids that are no rows of the table or that
            are not the same on all ranks.

    Example:
        >>> import tempfile, torch, torch.distributed as dist, seqaug as sa
        >>> with tempfile.TemporaryDirectory() as folder:  # one rank holds everything
        ...     dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
        ...     table = sa.ShardedTable.from_local(torch.zeros(7, 4))
        ...     loss = sa.ICELoss(catalog=slice(1, 6))(torch.zeros(1, 2, 4), table, torch.tensor([[1, 2]]))
        ...     dist.destroy_process_group()
        >>> table.shape, round(loss.exp().item(), 4)
        (torch.Size([7, 4]), 5.0)

    Source: the vocabulary-parallel cross-entropy of Megatron-LM (2019), Section 3.
    """

    local: Tensor
    first: int
    rows: int
    group: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.first + len(self.local) <= self.rows:
            raise ValueError(
                f"the rows of a rank must be some of the table, got first={self.first} and {len(self.local)} rows "
                f"of rows={self.rows}: ShardedTable.from_local counts them"
            )

    @classmethod
    def from_local(cls, local: Tensor, group: dist.ProcessGroup | None = None) -> ShardedTable:
        """From each rank's own rows, in the order of the ranks; asks the others once how many they have.

        Raises:
            ValueError: no process group, or rows of another shape or dtype elsewhere.
        """
        check_group()
        check_alike("the rows of a table", local[:0], group)
        own = torch.tensor([len(local)], device=local.device)
        counts = all_gather(own, group).tolist()
        rank = dist.get_rank(group)
        return cls(local, sum(counts[:rank]), sum(counts), group)

    @classmethod
    def from_dtensor(cls, table: DTensor) -> ShardedTable:
        """From a DTensor sharded by rows over a mesh of one axis; gradients reach the DTensor.

        Raises:
            ValueError: another mesh or placement.
        """
        from torch.distributed.tensor import Shard

        if table.device_mesh.ndim != 1 or tuple(table.placements) != (Shard(0),):
            raise ValueError(
                "a table as DTensor must be sharded by rows over a mesh of one axis, [Shard(0)], got "
                f"placements={table.placements} on a mesh of {table.device_mesh.ndim}: "
                "use ShardedTable.from_local(local rows, mesh['axis'].get_group()) on others"
            )
        rows, ranks = table.shape[0], table.device_mesh.size()
        first = min(-(-rows // ranks) * table.device_mesh.get_local_rank(), rows)
        return cls(table.to_local(), first, rows, table.device_mesh.get_group())

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.rows, *self.local.shape[1:]))

    @property
    def ndim(self) -> int:
        return self.local.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self.local.dtype

    @property
    def device(self) -> torch.device:
        return self.local.device

    def is_floating_point(self) -> bool:
        return self.local.is_floating_point()

    def __len__(self) -> int:
        return self.rows

    def part(self, start: int, stop: int) -> tuple[int, int]:
        """Which local rows are among rows start..stop - 1 of the whole: (low, high), low = high for none."""
        low = min(max(start - self.first, 0), len(self.local))
        return low, max(low, min(stop - self.first, len(self.local)))

    def own(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (..., D) of those ids that are here, any row for the others; and which are: (...)."""
        if can_look(ids) and ids.numel():
            smallest, largest = ids.aminmax()
            if smallest < 0 or largest >= self.rows:
                raise no_such_row("ids", ids, self.rows)
        here = (ids >= self.first) & (ids < self.first + len(self.local))
        local = self.local
        if not len(local):  # a row to read, that nothing comes of
            local = torch.cat([local, local.new_zeros(1, *local.shape[1:])])
        place = torch.where(here, ids - self.first, 0).long()
        return (F.embedding(place, local) if local.ndim == 2 else local[place]), here

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows (..., D) of ids (...) that are the same on every rank; D numbers per id cross."""
        check_alike("ids", ids, self.group)
        found, here = self.own(ids)
        kept = rearrange(here, "... -> ... 1") if self.local.ndim == 2 else here
        return sum_over_ranks(torch.where(kept, found, torch.zeros_like(found)), self.group)

    def lookup_each(self, ids: Tensor) -> Tensor:
        """Rows of ids that each rank has its own of, of the same shape on all."""
        return split_rows(self.lookup(gather_rows(ids, self.group)), self.group)


Table: TypeAlias = Tensor | ShardedTable | SparseTable


def spread(table: Table) -> Table:
    """A DTensor as the ShardedTable it is; everything else as it came."""
    if not isinstance(table, Tensor) or type(table) in (Tensor, nn.Parameter):  # without importing DTensor
        return table
    from torch.distributed.tensor import DTensor

    return ShardedTable.from_dtensor(table) if isinstance(table, DTensor) else table


def check_group() -> None:
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "a sharded table needs a process group, got none: call torch.distributed.init_process_group first"
        )


def check_alike(name: str, x: Tensor, group: dist.ProcessGroup | None, *, same_ids: bool = True) -> None:
    """That all ranks have a tensor of one shape and dtype and, where it holds ids and they shall be the same, the same ids.

    Ranks that differ would wait for each other, or add up what does not belong together. Asked on CPUs alone: other devices would
    have to be waited for.
    """
    if not can_look(x):
        return
    form = torch.tensor(zlib.crc32(repr((tuple(x.shape), x.dtype)).encode()))
    content = torch.zeros((), dtype=torch.int64)
    if same_ids and not x.is_floating_point():
        content = (x.flatten().long() * torch.arange(1, x.numel() + 1)).sum()
    own = torch.stack([form, content])[None]
    everybody = all_gather(own, group)
    if (everybody != everybody[0]).any():
        other = "other ids" if (everybody[:, 0] == form).all() else "another shape or dtype"
        raise ValueError(
            f"{name} must be the same on all ranks, got {tuple(x.shape)} {x.dtype} here and {other} elsewhere: "
            "bring batches of the ranks' own, of one shape, together with seqaug.gather_rows"
        )


def all_gather(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """(ranks * n, ...) of everybody's (n, ...), which must have one shape."""
    out = x.new_empty(dist.get_world_size(group) * x.shape[0], *x.shape[1:])
    dist.all_gather_single(out, x.contiguous(), group=group)
    return out


def own_rows(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    size = x.shape[0] // dist.get_world_size(group)
    return x[dist.get_rank(group) * size :][:size].contiguous()


def all_sum(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    out = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(out, group=group)
    return out


def all_max(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    out = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(out, dist.ReduceOp.MAX, group=group)
    return out


def first_rank_says(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The first rank's tensor, on all."""
    out = x.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(out, group=group, group_src=0)
    return out


def _as_it_is(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return x.view_as(x)


Collective: TypeAlias = Callable[[Tensor, dist.ProcessGroup | None], Tensor]


class _ThereAndBack(torch.autograd.Function):
    """One collective for the values and another for their gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, there: Collective, back: Collective, group: dist.ProcessGroup | None
    ) -> Tensor:
        ctx.back, ctx.group = back, group
        return there(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.back(grad, ctx.group), None, None, None


def sum_over_ranks(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum of everybody's parts; its gradient is that of each part."""
    return _ThereAndBack.apply(x, all_sum, _as_it_is, group)  # type: ignore[no-untyped-call]


def copy_to_ranks(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """x, which all ranks have, for work on a rank's own rows: the gradients of all ranks are added up."""
    return _ThereAndBack.apply(x, _as_it_is, all_sum, group)  # type: ignore[no-untyped-call]


def logsumexp_over_ranks(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """log of the sum of everybody's exp(x); two numbers per entry cross."""
    top = all_max(x, group)
    return sum_over_ranks((x - top).exp(), group).log() + top


def gather_rows(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The batches of all ranks, one after the other, on every rank.

    For ranks that have batches of their own and a catalog in common: what is computed from the gathered batch
    is the same on every rank, and each rank gets the gradient of its own rows, of the whole value.

    Args:
        x: (B, ...), of one shape on all ranks: pad with targets that are ignored.
        group: the process group; None for the default one.

    Returns:
        (ranks * B, ...).

    Raises:
        ValueError: no process group, or, on CPUs, another shape or dtype elsewhere.
    """
    check_group()
    check_alike("x", x, group, same_ids=False)
    return _ThereAndBack.apply(x, all_gather, own_rows, group)  # type: ignore[no-untyped-call]


def split_rows(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """This rank's rows of a batch that all ranks have: the way back from `gather_rows`.

    Args:
        x: (ranks * B, ...), the same on all ranks.
        group: the process group; None for the default one.

    Returns:
        (B, ...), with the gradients of all ranks brought together.

    Raises:
        ValueError: no process group, or rows that cannot be split evenly.
    """
    check_group()
    if len(x) % dist.get_world_size(group):
        raise ValueError(
            f"the rows must be as many for every rank, got {len(x)} for {dist.get_world_size(group)} ranks"
        )
    return _ThereAndBack.apply(x, own_rows, all_gather, group)  # type: ignore[no-untyped-call]
