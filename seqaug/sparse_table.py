"""A table of which a step changes the rows it has read, and no other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seqaug._checks import no_such_row


@dataclass(frozen=True, eq=False)
class SparseTable:
    """A table (R, D) whose gradient holds the rows that were read: what a step costs does not grow with R.

    The losses that read some rows of the table take it where they take a table: `BCELoss`, `BPRLoss`, `GBCELoss`,
    `FocalLoss`, `SampledSoftmaxLoss` and `SCELoss`, which looks at all rows but has gradients for those in its
    buckets. The gradient is a sparse tensor, as of `nn.Embedding(sparse=True)`, for `torch.optim.SparseAdam` and other
    optimizers that take one. A loss with a denominator over the whole catalog has a gradient for every row: give it
    the weight itself.

    Args:
        weight: (R, D) float, as the weight of an `nn.Embedding`.

    Example:
        >>> import torch, seqaug as sa
        >>> items = torch.nn.Embedding(1002, 4, sparse=True)
        >>> target, negatives = torch.tensor([[0, 7]]), torch.tensor([3, 9])
        >>> table = sa.SparseTable(items.weight)
        >>> loss = sa.SampledSoftmaxLoss()(items(torch.tensor([[0, 5]])), table, target, negatives=negatives)
        >>> loss.backward()
        >>> items.weight.grad.coalesce().indices().tolist()
        [[0, 3, 5, 7, 9]]

    Source: the lazy updates of torch.optim.SparseAdam.
    """

    weight: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.weight.shape

    @property
    def ndim(self) -> int:
        return self.weight.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def is_floating_point(self) -> bool:
        return self.weight.is_floating_point()

    def __len__(self) -> int:
        return len(self.weight)


def read_rows(table: Tensor | SparseTable, ids: Tensor, name: str = "ids") -> Tensor:
    """Rows (..., D) of ids (...), called ``name`` in an error; a `SparseTable` gets a gradient for these rows alone.

    Raises:
        ValueError: on a CPU, ids that are no rows of the table. Other devices cannot tell in time: `check_batch` looks.
    """
    sparse = isinstance(table, SparseTable)
    try:
        return F.embedding(ids, table.weight if isinstance(table, SparseTable) else table, sparse=sparse)
    except IndexError as error:
        raise no_such_row(name, ids, len(table)) from error
