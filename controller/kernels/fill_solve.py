"""One whole filling, compiled: preparation, class after class, and the answer with its rounding taken out.

`solve` and `levels` are all that is called from Python, and all that is cached. Numba looks for changes only in the
file of a cached function, so a digest of the others is in their closure, which is part of the cache's key.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controller.kernels.fill_events import drop_in_buckets, list_raw
from controller.kernels.fill_rise import end_gangs, rise
from controller.kernels.fill_rows import ACTIVE, STEPS, start_class
from controller.kernels.fill_setup import (
    ALLOWED,
    CEILING,
    DEMAND,
    FLOOR,
    KEEP,
    LEVEL,
    SAME,
    START,
    Flags,
    Floats,
    Ints,
    level_at,
    power_at,
    set_columns,
    set_gangs,
    set_rows,
)

OK, TOO_LONG = 0, 1
SOURCES = 3  # entry of `tally`


class Work(NamedTuple):
    """Structure, inputs, scratch and answer of one filling; R racks, G gangs, K rows, N non-zeros, E events."""

    gang_of: Ints  # [R]
    gang_start: Ints  # [G + 1] into gang_rack
    gang_rack: Ints  # [R]
    row_start: Ints  # [K + 1] into row_rack and coef
    row_rack: Ints  # [N]
    col_start: Ints  # [R + 1] into col_row and col_entry
    col_row: Ints  # [N]
    col_entry: Ints  # [N] place in coef
    knots: Floats  # [C + 1, P, 3], the last curve is a straight line
    coef: Floats  # [N]
    rack_in: Floats  # [5, R] floor, demand, ceiling, other, GPU power [W]
    curve_of: Ints  # [R]
    limit_w: Floats  # [K]
    order: Ints  # [G] gangs by class
    rack: Floats  # [R, 12]
    gang: Floats  # [G, 6]
    row: Floats  # [K, 5]
    place: Ints  # [K] place of a row in `row`, -1 when it can never bind
    heap: Ints  # [2, K]
    live_start: Ints  # [R + 1] into live_row and live_coef
    live_row: Ints  # [N]
    live_coef: Floats  # [N]
    raw_level: Floats  # [E]
    raw_what: Ints  # [E, 2]
    event_level: Floats  # [E]
    event_what: Ints  # [E, 2]
    bucket: Ints  # [BUCKETS + 2]
    tally: Ints  # [4]
    power_w: Floats  # [R]
    load_w: Floats  # [K]
    floor_load_w: Floats  # [K]
    tight: Flags  # [K]
    violated: Flags  # [K]


@njit(cache=False)
def sum_rows(
    row_start: Ints,
    row_rack: Ints,
    coef: Floats,
    power_w: Floats,
    limit_w: Floats,
    floor_load_w: Floats,
    load_w: Floats,
    tight: Flags,
    violated: Flags,
) -> bool:
    """Loads of the answer; whether a row that its floors leave room in is nearer its limit than rounding."""
    near = False
    for k in range(len(limit_w)):
        total_w = 0.0
        for e in range(row_start[k], row_start[k + 1]):
            total_w += coef[e] * power_w[row_rack[e]]
        load_w[k] = total_w
        near |= total_w > limit_w[k] - SAME * abs(limit_w[k]) and total_w > floor_load_w[k]
        tight[k] = total_w >= limit_w[k] - ALLOWED * max(abs(limit_w[k]), total_w)
        violated[k] = floor_load_w[k] > limit_w[k] + ALLOWED * max(abs(limit_w[k]), floor_load_w[k])
    return near


@njit(cache=False)
def repair(
    rack: Floats,
    row_start: Ints,
    row_rack: Ints,
    coef: Floats,
    limit_w: Floats,
    floor_load_w: Floats,
    load_w: Floats,
    power_w: Floats,
) -> None:
    """Take the rounding out: scale what racks have above their floors so that rows hold in any order of summation."""
    for k in range(len(limit_w)):
        above_w = load_w[k] - floor_load_w[k]
        target_w = limit_w[k] - min(SAME * abs(limit_w[k]), ALLOWED * above_w)
        if not load_w[k] > target_w or above_w <= 0.0:
            continue
        share = max(0.0, 1.0 - (load_w[k] - target_w) / above_w)
        for e in range(row_start[k], row_start[k + 1]):
            if coef[e] > 0.0:
                rack[row_rack[e], KEEP] = min(rack[row_rack[e], KEEP], share)
    for r in range(len(power_w)):
        if rack[r, KEEP] < 1.0:
            power_w[r] = rack[r, FLOOR] + (power_w[r] - rack[r, FLOOR]) * rack[r, KEEP]


@njit(cache=False)
def fill_classes(w: Work, class_start: NDArray[np.int32], most_steps: int) -> None:
    """Class after class, those below at their floors meanwhile."""
    set_gangs(w.rack, w.gang, w.knots, w.gang_start, w.gang_rack, w.rack_in, w.curve_of)
    alive = set_rows(w.rack, w.row, w.row_start, w.row_rack, w.coef, w.limit_w, w.floor_load_w, w.place)
    set_columns(w.rack, w.coef, w.col_start, w.col_row, w.col_entry, w.place, w.live_start, w.live_row, w.live_coef)
    w.tally[STEPS] = 0
    for c in range(len(class_start) - 1):
        lo, hi = class_start[c], class_start[c + 1]
        start_class(w.row, alive, w.heap, w.tally)
        n = list_raw(
            w.rack, w.gang, w.knots, w.gang_start, w.gang_rack, w.live_start, w.order, lo, hi, w.raw_level, w.raw_what
        )
        drop_in_buckets(n, w.raw_level, w.raw_what, w.event_level, w.event_what, w.bucket)
        w.tally[ACTIVE] = hi - lo
        end_gangs(
            w.rack,
            w.gang,
            w.row,
            w.heap,
            w.tally,
            w.knots,
            w.gang_start,
            w.gang_rack,
            w.live_start,
            w.live_row,
            w.live_coef,
            w.order,
            lo,
            hi,
            1.0,
        )
        rise(
            w.rack,
            w.gang,
            w.row,
            w.heap,
            w.tally,
            w.knots,
            w.gang_of,
            w.gang_start,
            w.gang_rack,
            w.row_start,
            w.row_rack,
            w.coef,
            w.live_start,
            w.live_row,
            w.live_coef,
            n,
            w.event_level,
            w.event_what,
            w.bucket,
            most_steps,
        )
        end_gangs(
            w.rack,
            w.gang,
            w.row,
            w.heap,
            w.tally,
            w.knots,
            w.gang_start,
            w.gang_rack,
            w.live_start,
            w.live_row,
            w.live_coef,
            w.order,
            lo,
            hi,
            0.0,
        )


@njit(cache=False)
def answer(w: Work) -> None:
    """Powers from levels, loads, and the repair of rounding."""
    for r in range(len(w.power_w)):
        highest_w = max(w.rack[r, CEILING], w.rack[r, FLOOR])
        w.power_w[r] = min(power_at(w.rack, w.knots, r, w.gang[w.gang_of[r], LEVEL]), highest_w)
    for last in range(2):
        near = sum_rows(
            w.row_start, w.row_rack, w.coef, w.power_w, w.limit_w, w.floor_load_w, w.load_w, w.tight, w.violated
        )
        if last or not near:
            break
        repair(w.rack, w.row_start, w.row_rack, w.coef, w.limit_w, w.floor_load_w, w.load_w, w.power_w)


@njit(cache=False)
def find_levels(w: Work) -> None:
    """Per gang the level that the powers in `w.power_w` let it reach: that of its slowest rack."""
    set_gangs(w.rack, w.gang, w.knots, w.gang_start, w.gang_rack, w.rack_in, w.curve_of)
    for g in range(len(w.gang)):
        level = 1.0
        for i in range(w.gang_start[g], w.gang_start[g + 1]):
            r = w.gang_rack[i]
            start, p = w.rack[r, START], w.power_w[r]
            if start < 1.0 and p < w.rack[r, DEMAND]:
                at = start if p <= w.rack[r, FLOOR] else level_at(w.rack, w.knots, r, p)
                level = min(level, max(at, start))
        w.gang[g, LEVEL] = level


def _entries(digest: int) -> tuple[Callable[[Work, NDArray[np.int32]], int], Callable[[Work], None]]:
    """The two functions called from Python; `digest` is that of the sources they call into."""

    @njit(cache=True)
    def solve(w: Work, class_start: NDArray[np.int32]) -> int:
        """Fill and write the answer into `w`; OK, or TOO_LONG past the cap on steps."""
        w.tally[SOURCES] = digest
        most_steps = 1000 + 20 * (len(w.raw_level) + len(w.limit_w)) + 4 * len(w.coef)
        fill_classes(w, class_start, most_steps)
        answer(w)
        return OK if w.tally[STEPS] < most_steps else TOO_LONG

    @njit(cache=True)
    def levels(w: Work) -> None:
        """Write the levels that `w.power_w` allows into `w.gang`."""
        w.tally[SOURCES] = digest
        find_levels(w)

    return solve, levels


NAMES = ("fill_setup.py", "fill_rows.py", "fill_events.py", "fill_rise.py")
SOURCE_FILES = [Path(__file__).with_name(name) for name in NAMES]
solve, levels = _entries(crc32(b"".join(file.read_bytes() for file in SOURCE_FILES)) >> 1)
