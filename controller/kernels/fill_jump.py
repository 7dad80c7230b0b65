"""The start of a class, compiled: its gangs jump to the highest step of a grid of levels at which every row holds.

Until a first row is tight nothing has to happen in order, so the racks' lines can be set at once. Powers and their
sums never fall with the level, to the last bit, so that step is the same wherever the search for it begins; it
begins at the step of the last filling.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_rows import ACTIVE, BEGIN, END, KEY, LIMIT
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
    LINE,
    MOST,
    OTHER,
    SHARE,
    SLOPE,
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

STEPS_OF_LEVEL = 64


@njit(cache=False)
def set_stops(
    rack: Floats,
    gang: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    blocked: Ints,
    order: Ints,
    lo: int,
    hi: int,
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
def rows_hold(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    alive: int,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    live: Ints,
    order: Ints,
    lo: int,
    hi: int,
    power_w: Floats,
    x: float,
) -> bool:
    """Whether every row that is not tight holds with the gangs order[lo:hi] at level `x`, or where they stop."""
    for i in range(lo, hi):
        g = order[i]
        level = min(x, gang[g, STOP])
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if live[r, BEGIN] < live[r, END]:
                power_w[r] = power_at(rack, curve, knots, r, level)
    for k in range(alive - 1, -1, -1):  # the widest row comes last
        if row[k, KEY] < 0.0:
            continue
        a, b = 0.0, 0.0
        first, end = row_start[number[k]], row_start[number[k] + 1]
        even = first + (end - first) // 2 * 2
        for e in range(first, even, 2):
            a += coef[e] * power_w[row_rack[e]]
            b += coef[e + 1] * power_w[row_rack[e + 1]]
        if even < end:
            a += coef[even] * power_w[row_rack[even]]
        if a + b > row[k, LIMIT]:
            return False
    return True


@njit(cache=False)
def find_step(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    alive: int,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    live: Ints,
    order: Ints,
    lo: int,
    hi: int,
    power_w: Floats,
    guess: int,
) -> int:
    """Highest step of the grid at which every row holds, 0 if none; searched from `guess`, both ways ever faster."""
    good, bad, test, stride = 0, STEPS_OF_LEVEL + 1, guess, 1
    while bad - good > 1:
        x = test / STEPS_OF_LEVEL
        if rows_hold(
            rack,
            curve,
            gang,
            row,
            knots,
            gang_start,
            gang_rack,
            alive,
            number,
            row_start,
            row_rack,
            coef,
            live,
            order,
            lo,
            hi,
            power_w,
            x,
        ):
            good, test = test, test + stride
        else:
            bad, test = test, test - stride
        stride *= 2
        if not good < test < bad:
            test = (good + bad) // 2
    return good


@njit(cache=False)
def land(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    live: Ints,
    order: Ints,
    lo: int,
    hi: int,
    tally: Ints,
    x: float,
    level: Floats,
    what: Ints,
) -> int:
    """Put the gangs order[lo:hi] at level `x`, or freeze them where they stop before; list what happens above it.

    Events: a rack and the segment it enters, or a gang and -1 at its ceiling; how many there are.
    """
    n = 0
    tally[ACTIVE] = 0
    for i in range(lo, hi):
        g = order[i]
        if gang[g, STOP] <= x:
            gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = FROZEN, gang[g, STOP], gang[g, STOP_BY]
        else:
            tally[ACTIVE] += 1
            if gang[g, HIGHEST] < 1.0:
                level[n], what[n, 0], what[n, 1] = gang[g, HIGHEST], g, -1
                n += 1
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if live[r, BEGIN] == live[r, END]:
                continue
            if gang[g, STATE] == FROZEN:
                rack[r, LINE] = power_at(rack, curve, knots, r, gang[g, STOP])
                continue
            c, at = curve[r], rack[r, START]
            if at < x:
                j = segment(knots, c, x * rack[r, TOP], THROUGHPUT)
                slope = knots[c, j, INVERSE]
                rack[r, LINE] = rack[r, OTHER] + rack[r, GPU] * (knots[c, j, SHARE] - knots[c, j, THROUGHPUT] * slope)
                rack[r, SLOPE] = rack[r, GPU] * slope * rack[r, TOP]
            else:
                j = segment(knots, c, (rack[r, FLOOR] - rack[r, OTHER]) / rack[r, GPU], SHARE)
                if at < gang[g, HIGHEST]:
                    level[n], what[n, 0], what[n, 1] = at, r, j
                    n += 1
            while knots[c, j + 2, SHARE] < np.inf:
                j += 1
                at = max(x, rack[r, START], knots[c, j, THROUGHPUT] / rack[r, TOP])
                if at >= gang[g, HIGHEST]:
                    break
                level[n], what[n, 0], what[n, 1] = at, r, j
                n += 1
    return n
