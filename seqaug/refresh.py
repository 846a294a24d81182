"""RefreshNeighbours: tables of similar items renewed on a schedule, as the embeddings they come from move."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from seqaug._checks import check_count
from seqaug.operators.neighbours import Neighbours
from seqaug.similarity import ItemSimilarity


class RefreshNeighbours:
    """Give all operators in a module a new table of neighbours every so many steps. Call ``step`` once per step, or once per epoch.

    Args:
        module: an operator, a policy, a :class:`~seqaug.MixupOp`, or a model that has them inside.
        build: makes the table; called only when it is due.
        every: steps between two tables, at least 1.
        start: steps before the first one, as long as the embeddings say nothing yet.

    Raises:
        ValueError: nothing in ``module`` has neighbours, or a number out of range.

    Example:
        >>> import torch, seqaug as sa
        >>> embedding = torch.nn.Embedding(12, 4)
        >>> similar = lambda: sa.ItemSimilarity.from_embeddings(embedding.weight, k=3)
        >>> policy = sa.Policy([sa.Crop(0.2, 0.7), sa.Substitute(0.2, 0.7, similar(), top=3)])
        >>> refresh = sa.RefreshNeighbours(policy, similar, every=2, start=1)
        >>> [refresh.step() for _ in range(6)]  # once per epoch
        [False, True, False, True, False, True]

    Source: CoSeRec (Liu et al., 2021), section 3.2.1.
    """

    def __init__(
        self,
        module: nn.Module,
        build: Callable[[], ItemSimilarity | Tensor],
        *,
        every: int = 1,
        start: int = 0,
    ) -> None:
        check_count("every", every, 1)
        check_count("start", start, 0)
        self.tables = [part for part in module.modules() if isinstance(part, Neighbours)]
        if not self.tables:
            raise ValueError(
                f"module must hold an operator with neighbours, such as Substitute or Insert, got {type(module).__name__}"
            )
        self.build = build
        self.every = every
        self.start = start
        self.steps = 0

    def step(self) -> bool:
        """Count one step and renew the tables if they are due; whether they were."""
        due = self.steps >= self.start and (self.steps - self.start) % self.every == 0
        self.steps += 1
        if due:
            table = self.build()
            for part in self.tables:
                part.update(table)
        return due
