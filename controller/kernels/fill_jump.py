"""The start of a class, compiled: its gangs jump to the highest step of a grid of levels at which every row holds.

Until a first row is tight nothing has to happen in order, so the racks' lines can be set at once. Powers and their
sums never fall with the level, to the last bit, so that step is the same wherever the search for it begins; it
begins at the step of the last filling and follows the rows' lines; a step and the next are looked at together.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_rows import ACTIVE, BASE, GAIN, KEY, LIMIT, can_rise
from controller.kernels.fill_setup import (
    AT_DEMAND,
    BINDING,
    CAP_RACK,
    FLOOR,
    FROZEN,
    GPU,
    HIGHEST,
    INVERSE,
    LEVEL,
    MOST,
    OTHER,
    SHARE,
    START,
    STATE,
    STOP,
    STOP_BY,
    THROUGHPUT,
    TOP,
    Floats,
    Indices,
    Ints,
    power_at,
    segment,
)
from controller.kernels.fill_sums import row_sum

STEPS_OF_LEVEL = 64


@njit(cache=False)
def set_stops(
    rack: Floats, gang: Floats, gang_start: Ints, gang_rack: Indices, blocked: Ints, order: Ints, lo: int, hi: int
) -> None:
    """Level at which a ceiling, or a rack that leaves its floor under a tight row, stops each gang of order[lo:hi]."""
    for i in range(lo, hi):
        g = order[i]
        stop, by = gang[g, HIGHEST], AT_DEMAND
        if stop < 1.0:
            by = -2.0 - gang[g, CAP_RACK]
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if blocked[r] >= 0 and rack[r, START] < stop and rack[r, FLOOR] < rack[r, MOST]:
                stop, by = rack[r, START], float(blocked[r])
        gang[g, STOP], gang[g, STOP_BY] = stop, by


@njit(cache=False)
def line_up(
    rack: Floats,
    line_w: Floats,
    slope_w: Floats,
    power_w: Floats,
    above_w: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    order: Ints,
    lo: int,
    hi: int,
    x: float,
    above: float,
) -> None:
    """Powers of the gangs order[lo:hi] at two levels, or where they stop before, and their lines at the first."""
    for i in range(lo, hi):
        g = order[i]
        stop = gang[g, STOP]
        here, there = min(x, stop), min(above, stop)
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            power = power_at(rack, curve, knots, r, here)
            power_w[r], above_w[r] = power, power_at(rack, curve, knots, r, there)
            if rack[r, START] < x < stop:
                c = curve[r]
                j = segment(knots, c, x * rack[r, TOP], THROUGHPUT)
                slope = knots[c, j, INVERSE]
                line_w[r] = rack[r, OTHER] + rack[r, GPU] * (knots[c, j, SHARE] - knots[c, j, THROUGHPUT] * slope)
                slope_w[r] = rack[r, GPU] * slope * rack[r, TOP]
            else:
                line_w[r], slope_w[r] = power, 0.0


@njit(cache=False)
def load_rows(
    row: Floats,
    number: Ints,
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    slope_w: Floats,
    power_w: Floats,
    above_w: Floats,
    touched: Ints,
    c: int,
    alive: int,
    x: float,
) -> tuple[bool, bool, float]:
    """Lines of the rows that class `c` touches; whether one is over its limit at the blocks' two powers [B]; and the
    level at which the first of them reaches its limit if all lines go on.

    Rows already tight do not count.
    """
    here, there, reach = False, False, 1.0
    for n in range(alive):
        if touched[n] != c or row[n, KEY] < 0.0:
            continue
        lo, hi, limit = row_start[number[n]], row_start[number[n] + 1], row[n, LIMIT]
        load_w = row_sum(row_block, coef, lo, hi, power_w)
        gain = row_sum(row_block, coef, lo, hi, slope_w)
        row[n, BASE], row[n, GAIN] = load_w - gain * x, gain
        here |= load_w > limit
        there = there or row_sum(row_block, coef, lo, hi, above_w) > limit
        if gain > 0.0:
            reach = min(reach, x + (limit - load_w) / gain)
    return here, there, reach


@njit(cache=False)
def list_events(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    block_of: Indices,
    live: Ints,
    order: Ints,
    lo: int,
    hi: int,
    tally: Ints,
    x: float,
    level: Floats,
    what: Ints,
) -> int:
    """Freeze the gangs order[lo:hi] that stop at level `x` or below; list what happens above it, and how many.

    Events: a rack and the segment it enters, or a gang and -1 at its ceiling.
    """
    n = 0
    tally[ACTIVE] = 0
    for i in range(lo, hi):
        g = order[i]
        if gang[g, STOP] <= x:
            gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = FROZEN, gang[g, STOP], gang[g, STOP_BY]
            continue
        tally[ACTIVE] += 1
        highest = gang[g, HIGHEST]
        if highest < 1.0:
            level[n], what[n, 0], what[n, 1] = highest, g, -1
            n += 1
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            at, c = rack[r, START], curve[r]
            if (at < x and not knots[c, 2, SHARE] < np.inf) or not can_rise(rack, block_of, live, r):
                continue
            if at < x:
                j = segment(knots, c, x * rack[r, TOP], THROUGHPUT)
            else:
                j = segment(knots, c, (rack[r, FLOOR] - rack[r, OTHER]) / rack[r, GPU], SHARE)
                if at < highest:
                    level[n], what[n, 0], what[n, 1] = at, r, j
                    n += 1
            while knots[c, j + 2, SHARE] < np.inf:
                j += 1
                at = max(x, rack[r, START], knots[c, j, THROUGHPUT] / rack[r, TOP])
                if at >= highest:
                    break
                level[n], what[n, 0], what[n, 1] = at, r, j
                n += 1
    return n
