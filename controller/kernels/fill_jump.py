"""The start of a class, compiled: its gangs jump to the highest step of a grid of levels at which every row holds.

Until a first row is tight nothing has to happen in order, so the racks' lines can be set at once. Powers and their
sums never fall with the level, to the last bit, so that step is the same wherever the search for it begins; it
begins at the step of the last filling.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_rows import ACTIVE, BASE, BEGIN, END, GAIN, KEY, LIMIT
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
    live: Ints,
    live_row: Indices,
    blocked: Ints,
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
) -> None:
    """Level at which a ceiling, or a rack that leaves its floor under a tight row, stops each gang of order[lo:hi].

    The rows that these gangs load are marked as touched by class `c`.
    """
    for i in range(lo, hi):
        g = order[i]
        stop, by = gang[g, HIGHEST], AT_DEMAND
        if stop < 1.0:
            by = -2.0 - gang[g, CAP_RACK]
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if blocked[r] >= 0 and rack[r, START] < stop and rack[r, FLOOR] < rack[r, MOST]:
                stop, by = rack[r, START], float(blocked[r])
            for e in range(live[r, BEGIN], live[r, END]):
                touched[live_row[e]] = c
        gang[g, STOP], gang[g, STOP_BY] = stop, by


@njit(cache=False)
def row_holds(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    gang_of: Ints,
    alive: int,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    touched: Ints,
    c: int,
    power_w: Floats,
    x: float,
    k: int,
) -> bool:
    """Whether row `k` holds as in `row_over`, summed alone to the same bits; true if it does not count there."""
    n = np.searchsorted(number[:alive], k)
    if k < 0 or n == alive or number[n] != k or touched[n] != c or row[n, KEY] < 0.0:
        return True
    a, b = 0.0, 0.0
    for e in range(row_start[k], row_start[k + 1]):
        r = row_rack[e]
        power = power_w[r]
        if gang[gang_of[r], STATE] != FROZEN:
            power = power_at(rack, curve, knots, r, min(x, gang[gang_of[r], STOP]))
        if (e - row_start[k]) % 2 == 0:
            a += coef[e] * power
        else:
            b += coef[e] * power
    return bool(a + b <= row[n, LIMIT])


@njit(cache=False)
def row_over(
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
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
    power_w: Floats,
    x: float,
) -> int:
    """Row over its limit with the gangs order[lo:hi] of class `c` at level `x`, or where they stop; -1 if none is.

    Rows already tight do not count.
    """
    for i in range(lo, hi):
        g = order[i]
        level = min(x, gang[g, STOP])
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if live[r, BEGIN] < live[r, END]:
                power_w[r] = power_at(rack, curve, knots, r, level)
    for n in range(alive):
        if row[n, KEY] < 0.0 or touched[n] != c:
            continue
        a, b = 0.0, 0.0
        first, end = row_start[number[n]], row_start[number[n] + 1]
        even = first + (end - first) // 2 * 2
        for e in range(first, even, 2):
            a += coef[e] * power_w[row_rack[e]]
            b += coef[e + 1] * power_w[row_rack[e + 1]]
        if even < end:
            a += coef[even] * power_w[row_rack[even]]
        if a + b > row[n, LIMIT]:
            return int(number[n])
    return -1


@njit(cache=False)
def find_step(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    gang_of: Ints,
    gang_start: Ints,
    gang_rack: Indices,
    alive: int,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    live: Ints,
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
    power_w: Floats,
    step: Ints,
    witness: Ints,
) -> None:
    """Highest step of the grid at which every row holds, 0 if none, into step[c].

    Searched from the last one, both ways ever faster; the row that stopped it last is asked first.
    """
    good, bad, test, stride = 0, STEPS_OF_LEVEL + 1, step[c], 1
    while bad - good > 1:
        x = test / STEPS_OF_LEVEL
        over = witness[c]
        if row_holds(
            rack,
            curve,
            gang,
            row,
            knots,
            gang_of,
            alive,
            number,
            row_start,
            row_rack,
            coef,
            touched,
            c,
            power_w,
            x,
            over,
        ):
            over = row_over(
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
                touched,
                c,
                order,
                lo,
                hi,
                power_w,
                x,
            )
        if over < 0:
            good, test = test, test + stride
        else:
            bad, test, witness[c] = test, test - stride, over
        stride *= 2
        if not good < test < bad:
            test = (good + bad) // 2
    step[c] = good


@njit(inline="always")
def add_line(
    row: Floats, live: Ints, live_row: Indices, live_coef: Floats, r: int, line_w: float, slope: float
) -> None:
    """Put a line into the rows of rack `r`."""
    for e in range(live[r, BEGIN], live[r, END]):
        row[live_row[e], BASE] += live_coef[e] * line_w
        row[live_row[e], GAIN] += live_coef[e] * slope


@njit(cache=False)
def land(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    order: Ints,
    lo: int,
    hi: int,
    tally: Ints,
    x: float,
    level: Floats,
    what: Ints,
) -> int:
    """Put the gangs order[lo:hi] at level `x`, or freeze them where they stop before; list what happens above it.

    Rows hold what they carry with these gangs at their floors, and get their lines.
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
                add_line(row, live, live_row, live_coef, r, rack[r, LINE] - rack[r, FLOOR], 0.0)
                continue
            c, at = curve[r], rack[r, START]
            if at < x:
                j = segment(knots, c, x * rack[r, TOP], THROUGHPUT)
                slope = knots[c, j, INVERSE]
                rack[r, LINE] = rack[r, OTHER] + rack[r, GPU] * (knots[c, j, SHARE] - knots[c, j, THROUGHPUT] * slope)
                rack[r, SLOPE] = rack[r, GPU] * slope * rack[r, TOP]
                add_line(row, live, live_row, live_coef, r, rack[r, LINE] - rack[r, FLOOR], rack[r, SLOPE])
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
