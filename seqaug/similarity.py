"""ItemSimilarity: which items are alike, as a table of nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqaug._checks import check_choice, check_count, check_ids, check_number, check_tensor
from seqaug._cooccurrence import block_pairs, count_items, item_blocks
from seqaug._swing import swing_scores

_METHODS = ("itemcf-iuf", "itemcf", "swing")
_PAIRS_AT_ONCE = 1 << 22  # co-occurrences held at a time: some 80 bytes each
_SCORES_AT_ONCE = 1 << 24  # inner products held at a time: 4 bytes each


@dataclass(frozen=True, eq=False)
class ItemSimilarity:
    """The nearest neighbours of every item, by a score in which larger is nearer.

    Args:
        neighbours: (V + 2, K) int64 ids, nearest first, 0 = none. Row i is item i; pad (0) and mask (V + 1) have none.
        scores: (V + 2, K) float32, -inf where there is no neighbour.

    Raises:
        TypeError: ``neighbours`` hold no ids.
        ValueError: shapes that differ.

    Example:
        >>> import seqaug as sa
        >>> similarity = sa.ItemSimilarity.from_sequences(
        ...     [[1, 2], [1, 2, 3], [3, 1]], num_items=3, method="itemcf", k=1
        ... )
        >>> similarity.neighbours.squeeze(1)
        tensor([0, 2, 1, 1, 0])
    """

    neighbours: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        check_ids("neighbours", self.neighbours)
        check_tensor("scores", self.scores, "(V + 2, K)")
        if self.neighbours.ndim != 2 or self.scores.shape != self.neighbours.shape:
            raise ValueError(
                "neighbours and scores must both be (V + 2, K), "
                f"got neighbours.shape={tuple(self.neighbours.shape)}, scores.shape={tuple(self.scores.shape)}"
            )

    @classmethod
    def from_sequences(
        cls,
        rows: Iterable[Sequence[int] | Tensor],
        num_items: int,
        *,
        method: str = "itemcf-iuf",
        k: int = 10,
        alpha: float = 1.0,
    ) -> ItemSimilarity:
        """Count which items the same users have. Pass training items only, or the test set leaks into the augmentation.

        ``itemcf``: s(i, j) = N_ij / sqrt(N_i N_j), with N_i the users that have i and N_ij those that have both;
        ``itemcf-iuf``: a user u counts 1 / log(1 + \\|u\\|) in N_ij instead of 1, with \\|u\\| the number of distinct items of u.
        ``swing``: s(i, j) = sum over pairs of users that both have i and j of w_u w_v / (alpha + \\|I_u ∩ I_v\\|), w_u = 1 / sqrt(\\|I_u\\|), with
        I_u the items of u: users who share little else say more. It compares users, which takes longer than the others.
        Sparse throughout: memory grows with the interactions and with V * k, not with V * V.

        Args:
            rows: ids 1..V of each user; the pad id 0 is passed over, so a padded batch will do.
            num_items: V.
            method: ``"itemcf-iuf"``, ``"itemcf"`` or ``"swing"``.
            k: neighbours kept for each item.
            alpha: of Swing, at least 0; how little a large overlap of two users counts.

        Returns:
            An :class:`ItemSimilarity` on the CPU. Equal scores are ordered by id.

        Raises:
            TypeError: ids that are not whole numbers.
            ValueError: an unknown method, or an id outside 0..V.

        Source: Breese, Heckerman and Kadie, 1998, section 2.2.2 (inverse user frequency); Deshpande and Karypis, 2004;
        Yang et al., Large Scale Product Graph Construction for Recommendation in E-commerce, 2020, section 3.1 (Swing).
        """
        check_choice("method", method, _METHODS)
        check_count("num_items", num_items, 1)
        check_count("k", k, 1)
        check_number("alpha", alpha, 0.0, 1e9)
        user, item = _interactions(rows, num_items)
        neighbours = torch.zeros(num_items + 2, k, dtype=torch.int64)
        scores = torch.full((num_items + 2, k), -torch.inf, dtype=torch.float32)
        if method == "swing":
            user = torch.unique_consecutive(user, return_inverse=True)[1]  # numbered without gaps
            for left, right, total in swing_scores(user, item, num_items, float(alpha)):
                _keep_nearest(left, right, total, neighbours, scores)
            return cls(neighbours, scores)
        per_user = torch.bincount(user)
        per_item = torch.bincount(item, minlength=num_items + 2)
        weight = _user_weight(per_user, method)
        begin = torch.cat([torch.zeros(1, dtype=torch.int64), per_user.cumsum(0)])  # (users + 1,)
        by_item = torch.argsort(item, stable=True)
        item_begin = torch.cat([torch.zeros(1, dtype=torch.int64), per_item.cumsum(0)])  # (V + 3,)
        pairs = torch.zeros(num_items + 3, dtype=torch.int64)
        pairs[1:] = per_user[user[by_item]].cumsum(0)[(item_begin[1:] - 1).clamp(min=0)] if len(user) else 0
        pairs[1:] = torch.where(item_begin[1:] > 0, pairs[1:], 0)

        first = 1
        while first <= num_items:  # blocks of items whose co-occurrences fit
            last = int(torch.searchsorted(pairs, pairs[first] + _PAIRS_AT_ONCE, right=True)) - 1
            last = min(max(last, first + 1), num_items + 1)
            own = by_item[item_begin[first] : item_begin[last]]  # the interactions of the items of this block
            size = per_user[user[own]]
            left = torch.repeat_interleave(item[own], size)
            place = torch.arange(len(left)) - torch.repeat_interleave(size.cumsum(0) - size, size)
            right = item[torch.repeat_interleave(begin[user[own]], size) + place]
            value = torch.repeat_interleave(weight[user[own]], size)
            apart = left != right
            key = left[apart] * (num_items + 2) + right[apart]
            key, inverse = torch.unique(key, return_inverse=True)
            total = torch.zeros(len(key), dtype=torch.float64).scatter_add_(0, inverse, value[apart])
            left, right = key // (num_items + 2), key % (num_items + 2)
            total /= (per_item[left] * per_item[right]).double().sqrt()
            _keep_nearest(left, right, total, neighbours, scores)
            first = last
        return cls(neighbours, scores)

    @classmethod
    def from_batches(
        cls,
        batches: Callable[[], Iterable[Tensor]],
        num_items: int,
        *,
        method: str = "itemcf-iuf",
        k: int = 10,
        pairs_at_once: int = 1 << 24,
    ) -> ItemSimilarity:
        """The table of :meth:`from_sequences`, to the bit, of rows that never are in memory together.

        The items are taken in blocks, and for each block the data is read once more. Only the pairs of a block's items are held,
        each once: some 100 bytes per pair at most, while they are merged.

        Args:
            batches: called once per block and once before; each time the same padded batches (rows, slots) of ids 1..V, 0 =
                padding. All items of a user are in one row.
            num_items: V.
            method: ``"itemcf-iuf"`` or ``"itemcf"``; Swing compares users, and needs all of them.
            k: neighbours kept for each item.
            pairs_at_once: pairs of items held; fewer take less memory and read the data more often.

        Returns:
            An :class:`ItemSimilarity` on the CPU.

        Raises:
            ValueError: an unknown method, a batch that is not padded ids, or an id outside 0..V.

        Example:
            >>> import seqaug as sa
            >>> rows = [[1, 2], [1, 2, 3], [3, 1]]
            >>> batches = lambda: (sa.pad_sequences(rows[i : i + 2], length=3) for i in (0, 2))
            >>> sa.ItemSimilarity.from_batches(batches, 3, method="itemcf", k=1).neighbours.squeeze(1)
            tensor([0, 2, 1, 1, 0])
        """
        check_choice("method", method, _METHODS[:2])
        check_count("num_items", num_items, 1)
        check_count("k", k, 1)
        check_count("pairs_at_once", pairs_at_once, 1)
        neighbours = torch.zeros(num_items + 2, k, dtype=torch.int64)
        scores = torch.full((num_items + 2, k), -torch.inf, dtype=torch.float32)
        before: Iterable[Tensor] | None = None

        def new_batches() -> Iterable[Tensor]:
            nonlocal before
            found = batches()
            if found is before and iter(found) is found:
                raise ValueError(
                    f"batches must give new batches at each call, got the same {type(found).__name__} twice, which is "
                    "read only once: make it inside the callable"
                )
            before = found
            return found

        per_item, pairs = count_items(new_batches, num_items)
        for first, last in item_blocks(pairs, pairs_at_once):
            left, right, total = block_pairs(
                new_batches, num_items, first, last, lambda size: _user_weight(size, method)
            )
            total /= (per_item[left] * per_item[right]).double().sqrt()
            _keep_nearest(left, right, total, neighbours, scores)
        return cls(neighbours, scores)

    @classmethod
    def from_embeddings(cls, table: Tensor, *, k: int = 10) -> ItemSimilarity:
        """Compare the vectors of the items by inner product; a block of items at a time, on the table's device.

        Args:
            table: (V + 2, D) float; row i is item i, the first row is the pad's and the last the mask's.
            k: neighbours kept for each item, below V.

        Returns:
            An :class:`ItemSimilarity` on the table's device.

        Raises:
            TypeError: ``table`` is not a tensor of a floating dtype.
            ValueError: ``table`` has not two axes, fewer than k + 1 items, or vectors that are not finite.

        Example:
            >>> import torch, seqaug as sa
            >>> table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 0.0]])
            >>> sa.ItemSimilarity.from_embeddings(table, k=1).neighbours.squeeze(1)
            tensor([0, 2, 1, 2, 0])

        Source: CoSeRec (Liu et al., 2021), section 3.2.1.
        """
        check_count("k", k, 1)
        if not isinstance(table, Tensor):
            raise TypeError(
                f"table must be a tensor of vectors (V + 2, D), got {type(table).__name__}: pass embedding.weight"
            )
        if not table.is_floating_point():
            raise TypeError(f"table must be of a floating dtype, got table.dtype={table.dtype}")
        if table.ndim != 2 or len(table) < k + 3:
            raise ValueError(
                f"table must be (V + 2, D) with V above k={k}, got table.shape={tuple(table.shape)}"
            )
        catalog = table.detach()[1:-1]
        if catalog.dtype not in (torch.float32, torch.float64):
            catalog = catalog.float()  # products would be rounded to 16 bits
        finite = catalog.isfinite().all(1)
        if not finite.all():
            first = 1 + int((~finite).nonzero()[0])
            raise ValueError(
                f"table must be finite, got {int((~finite).sum())} items that are not, the first of them item {first}: "
                "has training diverged?"
            )
        items = len(catalog)
        neighbours = torch.zeros(len(table), k, dtype=torch.int64, device=table.device)
        scores = torch.full((len(table), k), -torch.inf, dtype=torch.float32, device=table.device)
        block = max(1, _SCORES_AT_ONCE // items)
        for begin in range(0, items, block):
            rows = torch.arange(begin, min(begin + block, items), device=table.device)
            with torch.autocast(table.device.type, enabled=False):
                product = (catalog[rows] @ catalog.T).float()
            product[rows - begin, rows] = -torch.inf
            best = product.topk(k, dim=1)
            neighbours[1 + rows] = 1 + best.indices
            scores[1 + rows] = best.values
        return cls(neighbours, scores)

    def hybrid(self, other: ItemSimilarity) -> ItemSimilarity:
        """Merge two measures: scores are scaled to [0, 1] over each table (min-max), and each item keeps the best of both.

        Args:
            other: neighbours of the same items.

        Returns:
            An :class:`ItemSimilarity` with as many neighbours per item as ``self``.

        Raises:
            TypeError: ``other`` is not an :class:`ItemSimilarity`.
            ValueError: the two have not the same number of items.

        Source: CoSeRec (Liu et al., 2021), section 3.2.1.
        """
        if not isinstance(other, ItemSimilarity):
            raise TypeError(f"other must be an ItemSimilarity, got {type(other).__name__}")
        if len(other.neighbours) != len(self.neighbours):
            raise ValueError(
                f"both must be of the same items, got {len(self.neighbours)} rows and {len(other.neighbours)} rows"
            )
        k = self.neighbours.shape[1]
        ids = torch.cat([self.neighbours, other.neighbours.to(self.neighbours.device)], 1)
        scores = torch.cat([_scaled(self.scores), _scaled(other.scores).to(self.scores.device)], 1)
        # Best first; of an item that both name only the better one stays.
        scores, by_score = scores.sort(dim=1, descending=True, stable=True)
        ids = ids.gather(1, by_score)
        grouped, by_id = ids.sort(dim=1, stable=True)
        again = torch.zeros_like(ids, dtype=torch.bool)
        again[:, 1:] = grouped[:, 1:] == grouped[:, :-1]
        again = torch.zeros_like(again).scatter(1, by_id, again)
        scores = scores.masked_fill(again | (ids == 0), -torch.inf)
        scores, by_score = scores.sort(dim=1, descending=True, stable=True)
        ids = ids.gather(1, by_score).masked_fill(scores == -torch.inf, 0)
        return ItemSimilarity(ids[:, :k].contiguous(), scores[:, :k].contiguous())

    def to(self, device: torch.device | str) -> ItemSimilarity:
        """The same similarity on another device."""
        return ItemSimilarity(self.neighbours.to(device), self.scores.to(device))


def _interactions(rows: Iterable[Sequence[int] | Tensor], num_items: int) -> tuple[Tensor, Tensor]:
    """(N,) users and (N,) items, each pair once, by user."""
    if not isinstance(rows, Iterable):
        raise TypeError(
            f"rows must be the ids of each user, a list of lists or tensors, got rows={rows!r:.60}"
        )
    tensors = [_ids_of(number, row) for number, row in enumerate(rows)]
    sizes = torch.tensor([len(row) for row in tensors], dtype=torch.int64)
    item = torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.int64)
    user = torch.repeat_interleave(torch.arange(len(tensors)), sizes)
    if len(item) and (int(item.min()) < 0 or int(item.max()) > num_items):
        came = int(item.min()) if int(item.min()) < 0 else int(item.max())
        raise ValueError(f"ids must be 1..{num_items} (num_items={num_items}) or the pad id 0, got {came}")
    key = torch.unique((user * (num_items + 1) + item)[item != 0])
    return key // (num_items + 1), key % (num_items + 1)


def _ids_of(number: int, row: Sequence[int] | Tensor) -> Tensor:
    """(n,) int64 on the CPU: the ids of one row, none of which may be cut to a whole number."""
    try:
        ids = torch.as_tensor(row)
    except (TypeError, ValueError, RuntimeError):
        ids = None
    if ids is None or ids.ndim != 1 or (len(ids) and (ids.is_floating_point() or ids.dtype == torch.bool)):
        raise TypeError(f"rows must be lists or tensors (n,) of whole ids, got {row!r:.60} in row {number}")
    return ids.to("cpu", torch.int64)


def _user_weight(size: Tensor, method: str) -> Tensor:
    """What a user with so many items counts."""
    size = size.double()
    return torch.log1p(size).reciprocal() if method == "itemcf-iuf" else torch.ones_like(size)


def _keep_nearest(left: Tensor, right: Tensor, value: Tensor, neighbours: Tensor, scores: Tensor) -> None:
    """Write the best of each item's candidates, which come ordered by item and id, into the two tables."""
    by_value = torch.argsort(value, descending=True, stable=True)
    order = by_value[torch.argsort(left[by_value], stable=True)]
    left, right, value = left[order], right[order], value[order]
    count = torch.bincount(left, minlength=len(neighbours))
    rank = torch.arange(len(left)) - (count.cumsum(0) - count)[left]
    kept = rank < neighbours.shape[1]
    neighbours[left[kept], rank[kept]] = right[kept]
    scores[left[kept], rank[kept]] = value[kept].float()


def _scaled(scores: Tensor) -> Tensor:
    """Scores stretched to [0, 1] over the whole table; -inf stays."""
    found = scores > -torch.inf
    low = torch.where(found, scores, torch.inf).min()
    high = torch.where(found, scores, -torch.inf).max()
    span = torch.where(high > low, high - low, 1.0)
    return torch.where(found, (scores - low) / span, -torch.inf)
