"""Events of the filling in order of level, compiled."""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import Floats, Ints

BUCKETS = 1 << 16  # at most, of levels: events are sorted bucket by bucket, as far as the filling gets
PER_BUCKET = 4  # events, were they evenly spread
FEW = 48  # that many are sorted by insertion


@njit(cache=False)
def drop_in_buckets(n: int, raw_level: Floats, raw_what: Ints, level: Floats, what: Ints, bucket: Ints) -> None:
    """Put events into buckets of level, as listed; bucket b is bucket[b]:bucket[b + 1]."""
    buckets = min(BUCKETS, max(1, n // PER_BUCKET))
    low, high = 1.0, 0.0
    for i in range(n):
        low, high = min(low, raw_level[i]), max(high, raw_level[i])
    scale = (buckets - 1) / (high - low) if high > low else 0.0
    bucket[: buckets + 2] = 0
    for i in range(n):
        bucket[int((raw_level[i] - low) * scale) + 2] += 1
    for b in range(2, buckets + 2):
        bucket[b] += bucket[b - 1]
    for i in range(n):
        b = int((raw_level[i] - low) * scale) + 1
        at = bucket[b]
        bucket[b] = at + 1
        level[at], what[at, 0], what[at, 1] = raw_level[i], raw_what[i, 0], raw_what[i, 1]


@njit(cache=False)
def sort_bucket(level: Floats, what: Ints, lo: int, hi: int) -> None:
    """Order the events lo..hi by level, equal levels as listed."""
    if hi - lo > FEW:
        by = np.argsort(level[lo:hi], kind="mergesort")
        old_level, old_what = level[lo:hi].copy(), what[lo:hi].copy()
        for i in range(hi - lo):
            level[lo + i], what[lo + i, 0], what[lo + i, 1] = old_level[by[i]], old_what[by[i], 0], old_what[by[i], 1]
        return
    for i in range(lo + 1, hi):
        at, a, b = level[i], what[i, 0], what[i, 1]
        j = i
        while j > lo and level[j - 1] > at:
            level[j], what[j, 0], what[j, 1] = level[j - 1], what[j - 1, 0], what[j - 1, 1]
            j -= 1
        level[j], what[j, 0], what[j, 1] = at, a, b
