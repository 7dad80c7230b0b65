"""One whole filling, compiled: preparation, class after class, and the answer with its rounding taken out.

`solve` and `levels` are all that is called from Python, and all that is cached. Numba looks for changes only in the
file of a cached function, so a digest of the other two is in their closure, which is part of the cache's key.
"""

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controller.kernels.fill_rise import rise
from controller.kernels.fill_setup import (
    ALLOWED,
    DEMAND,
    FLOOR,
    OK,
    SAME,
    SOURCES,
    START,
    STEPS,
    TOO_LONG,
    TOP,
    Work,
    level_at,
    power_at,
    set_columns,
    set_gangs,
    set_rows,
)


@njit(cache=False)
def sum_rows(w: Work) -> bool:
    """Loads of the answer; whether a row that is not violated by its floors is nearer its limit than rounding."""
    near = False
    for k in range(len(w.limit_w)):
        load_w = 0.0
        for e in range(w.row_start[k], w.row_start[k + 1]):
            load_w += w.coef[e] * w.power_w[w.row_rack[e]]
        w.load_w[k] = load_w
        limit_w = w.limit_w[k]
        near |= load_w > limit_w - SAME * abs(limit_w) and load_w > w.floor_load_w[k]
        w.tight[k] = load_w >= limit_w - ALLOWED * max(abs(limit_w), load_w)
    return near


@njit(cache=False)
def repair(w: Work) -> None:
    """Take the rounding out: scale what racks have above their floors so that rows hold in any order of summation."""
    w.keep[:] = 1.0
    for k in range(len(w.limit_w)):
        target_w = w.limit_w[k] - SAME * abs(w.limit_w[k])
        above_w = w.load_w[k] - w.floor_load_w[k]
        if w.load_w[k] <= target_w or above_w <= 0.0:
            continue
        share = max(0.0, 1.0 - (w.load_w[k] - target_w) / above_w)
        for e in range(w.row_start[k], w.row_start[k + 1]):
            if w.coef[e] > 0.0:
                w.keep[w.row_rack[e]] = min(w.keep[w.row_rack[e]], share)
    for r in range(len(w.power_w)):
        if w.keep[r] < 1.0:
            floor_w = w.rack[r, FLOOR]
            w.power_w[r] = floor_w + (w.power_w[r] - floor_w) * w.keep[r]


@njit(cache=False)
def fill_classes(w: Work, class_start: NDArray[np.int32]) -> int:
    """Fill class after class and write the answer; OK, or TOO_LONG past the cap on steps."""
    set_gangs(w)
    set_rows(w)
    set_columns(w)
    w.tally[STEPS] = 0
    most_steps = 1000 + 20 * (len(w.raw_level) + len(w.limit_w)) + 4 * len(w.coef)
    for c in range(len(class_start) - 1):
        rise(w, class_start[c], class_start[c + 1], most_steps)
    for r in range(len(w.power_w)):
        highest_w = max(w.rack_in[2, r], w.rack[r, FLOOR])
        w.power_w[r] = min(power_at(w, r, w.level[w.gang_of[r]]), highest_w)
    if sum_rows(w):
        repair(w)
        sum_rows(w)
    return OK if w.tally[STEPS] < most_steps else TOO_LONG


@njit(cache=False)
def find_levels(w: Work) -> None:
    """Per gang the level that the powers in `w.power_w` let it reach: that of its slowest rack."""
    set_gangs(w)
    for g in range(len(w.level)):
        w.level[g] = 1.0
        for i in range(w.gang_start[g], w.gang_start[g + 1]):
            r = w.gang_rack[i]
            start, p = w.rack[r, START], w.power_w[r]
            if start < 1.0 and p < w.rack[r, DEMAND]:
                at = start if p <= w.rack[r, FLOOR] else level_at(w, r, p) / w.rack[r, TOP]
                w.level[g] = min(w.level[g], max(at, start))


def _entries(digest: int) -> tuple[Callable[[Work, NDArray[np.int32]], int], Callable[[Work], None]]:
    """The two functions called from Python; `digest` is that of the sources they call into."""

    @njit(cache=True)
    def solve(w: Work, class_start: NDArray[np.int32]) -> int:
        w.tally[SOURCES] = digest
        return fill_classes(w, class_start)

    @njit(cache=True)
    def levels(w: Work) -> None:
        w.tally[SOURCES] = digest
        find_levels(w)

    return solve, levels


SOURCE_FILES = [Path(__file__).with_name(name) for name in ("fill_rise.py", "fill_setup.py")]
solve, levels = _entries(crc32(b"".join(file.read_bytes() for file in SOURCE_FILES)))
