"""Sums over the racks of a row, compiled: first over each block, then over the blocks of each row.

A block is neighbouring racks that every row loads alike: one rack, or where the leaves are GPUs those of a rack. What
its racks sum up to is the same in every row, so it is summed once. Sums run in a fixed order, several at a time, as
one alone would wait for its own last addition; indices without a sign are read without a test for it.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import UNCOUNTED, Floats, Indices, Ints

ONE, TWO, THREE, FOUR = (np.uint64(i) for i in range(1, 5))


@njit(cache=False, **UNCOUNTED)
def block_sum(value: Floats, first: int, end: int) -> float:
    """Sum of value[first:end]."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    i, last = np.uint64(first), np.uint64(end)
    while i + FOUR <= last:
        a += value[i]
        b += value[i + ONE]
        c += value[i + TWO]
        d += value[i + THREE]
        i += FOUR
    while i < last:
        a += value[i]
        i += ONE
    return (a + b) + (c + d)


@njit(cache=False)
def sum_blocks(block_start: Ints, value: Floats, total: Floats) -> None:
    """Sums [B] of `value` [R] over blocks; where every rack is one, `total` is `value` and nothing is to do."""
    if len(total) == len(value):
        return
    for b in range(len(total)):
        total[b] = block_sum(value, block_start[b], block_start[b + 1])


@njit(cache=False, **UNCOUNTED)
def row_sum(row_block: Indices, coef: Floats, lo: int, hi: int, total: Floats) -> float:
    """Sum of coefficient x block's sum over the entries lo:hi of a row."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    e, last = np.uint64(lo), np.uint64(hi)
    while e + FOUR <= last:
        a += coef[e] * total[row_block[e]]
        b += coef[e + ONE] * total[row_block[e + ONE]]
        c += coef[e + TWO] * total[row_block[e + TWO]]
        d += coef[e + THREE] * total[row_block[e + THREE]]
        e += FOUR
    while e < last:
        a += coef[e] * total[row_block[e]]
        e += ONE
    return (a + b) + (c + d)
