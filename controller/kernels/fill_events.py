"""Events of the filling, compiled: levels at which a rack enters a segment of its curve or meets its ceiling."""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import (
    CURVE,
    FLOOR,
    GPU,
    HIGHEST,
    OTHER,
    SHARE,
    START,
    THROUGHPUT,
    TOP,
    Floats,
    Ints,
    segment,
)

BUCKETS = 4096  # of levels 0..1: events are sorted bucket by bucket, as far as the filling gets


@njit(cache=False)
def list_raw(
    rack: Floats,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Ints,
    live_start: Ints,
    order: Ints,
    lo: int,
    hi: int,
    raw_level: Floats,
    raw_what: Ints,
) -> int:
    """Events of the gangs order[lo:hi]: rack and segment at its first knot, or gang and -1 at its ceiling."""
    n = 0
    for i in range(lo, hi):
        g = order[i]
        highest = gang[g, HIGHEST]
        if highest < 1.0:
            raw_level[n], raw_what[n, 0], raw_what[n, 1] = highest, g, -1
            n += 1
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if live_start[r] == live_start[r + 1]:
                continue
            c, level = int(rack[r, CURVE]), rack[r, START]
            j = segment(knots, c, max(0.0, rack[r, FLOOR] - rack[r, OTHER]) / rack[r, GPU], SHARE)
            while level < highest:
                raw_level[n], raw_what[n, 0], raw_what[n, 1] = level, r, j
                n += 1
                j += 1
                if knots[c, j + 1, SHARE] == np.inf:
                    break
                level = max(level, knots[c, j, THROUGHPUT] / rack[r, TOP])
    return n


@njit(cache=False)
def drop_in_buckets(n: int, raw_level: Floats, raw_what: Ints, level: Floats, what: Ints, bucket: Ints) -> None:
    """Put events into buckets of level, as listed; bucket b is bucket[b]:bucket[b + 1]."""
    bucket[:] = 0
    for i in range(n):
        bucket[int(raw_level[i] * (BUCKETS - 1)) + 2] += 1
    for b in range(2, BUCKETS + 2):
        bucket[b] += bucket[b - 1]
    for i in range(n):
        b = int(raw_level[i] * (BUCKETS - 1)) + 1
        at = bucket[b]
        bucket[b] = at + 1
        level[at], what[at, 0], what[at, 1] = raw_level[i], raw_what[i, 0], raw_what[i, 1]


@njit(cache=False)
def sort_bucket(level: Floats, what: Ints, lo: int, hi: int) -> None:
    """Order the events lo..hi by level, equal levels as listed."""
    if hi - lo > 48:
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
