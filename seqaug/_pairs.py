"""Comparing all pairs of two short rows: what compiled code does in place of a sort and a binary search."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

UNROLLED = 64  # numbers of a row up to which each comparison is a line of compiled code: four times as fast, and longer to compile
COMPARED = 128  # numbers of a row up to which comparing with all of them takes less time than a binary search
LARGEST = 1 << 30  # from here on `float_bits` would run into infinity
_LEAST = (
    1 << 23
)  # from here on the bits of an int32, read as a float32, are a normal number, in the same order


def worth_comparing(count: int, largest: int) -> bool:
    """Whether to compare all pairs: in compiled code, which never writes them to memory, and on short rows.

    Args:
        count: numbers of a row that each one is compared with.
        largest: the largest number among them.
    """
    return torch.compiler.is_compiling() and count <= COMPARED and largest < LARGEST


def float_bits(x: Tensor) -> Tensor:
    """float32 numbers, equal and ordered as the whole ones in [0, 2**30) are: compilers compare vectors of them."""
    return (x + _LEAST).to(torch.int32).view(torch.float32)


def written(x: Tensor) -> Tensor:
    """The same (M, N) numbers, in compiled code written to memory once, rather than made again by all that read them.

    as_strided is a view of memory, which the compiler cannot look through.
    """
    return x.contiguous().as_strided(x.shape, (x.shape[1], 1)) if torch.compiler.is_compiling() else x


def all_pairs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Every number of a row beside every other one of another row.

    Args:
        left: (B, M).
        right: (B, N).

    Returns:
        Two views (B, N, M). What is counted for each of the left is a sum over the middle axis: neighbours in memory are then
        counted side by side in one vector, and none has to be added up across.
    """
    (rows, wide), short = left.shape, right.shape[1]
    # as_strided, not a new axis: a view of memory, which must be written first. The compiler would otherwise make each number
    # again for every pair.
    one = left.contiguous().as_strided((rows, short, wide), (wide, 0, 1))
    other = right.contiguous().as_strided((rows, short, wide), (short, 1, 0))
    return one, other


def count_pairs(
    left: Tensor, right: Tensor, compare: Callable[[Tensor, Tensor, Tensor | int], Tensor]
) -> Tensor:
    """With how many numbers of another row each number of a row compares.

    Args:
        left: (B, M).
        right: (B, N).
        compare: of one of the left, one of the right and the place of the latter in its row, all to be broadcast.

    Returns:
        (B, M) float32, whole numbers.
    """
    if right.shape[1] > UNROLLED:
        one, other = all_pairs(left, right)
        place = torch.arange(right.shape[1], device=right.device)[:, None]
        return compare(one, other, place).float().sum(1)
    right = written(right)
    count = torch.zeros(left.shape, dtype=torch.float32, device=left.device)
    for number in range(right.shape[1]):
        count = count + compare(left, right[:, number : number + 1], number).float()
    return count
