"""The start of a class, compiled: its gangs jump to the highest step of a grid of levels at which every row holds.

Until a first row is tight nothing has to happen in order, so the racks' lines can be set at once. Powers and their
sums never fall with the level, to the last bit, so that step is the same wherever the search for it begins; it
begins at the step of the last filling.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_rows import ACTIVE, BASE, BEGIN, END, GAIN, KEY, LIMIT, can_rise
from controller.kernels.fill_setup import (
    ALLOWED,
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
    Flags,
    Floats,
    Indices,
    Ints,
    power_at,
    segment,
)

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


@njit(forceinline=True)
def add_two(
    row: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    touched: Ints,
    c: int,
    r: int,
    base: float,
    gain: float,
) -> None:
    """Add to BASE and GAIN of the rows of rack `r`, touched by class `c`."""
    for e in range(live[r, BEGIN], live[r, END]):
        k, a = live_row[e], live_coef[e]
        row[k, BASE] += a * base
        row[k, GAIN] += a * gain
        touched[k] = c


@njit(cache=False)
def row_over(row: Floats, alive: int, touched: Ints, c: int, column: int) -> int:
    """First of the rows that class `c` touches whose load, in a column, is over its limit, -1 if none is.

    Rows already tight do not count.
    """
    for n in range(alive):
        if row[n, column] > row[n, LIMIT] and touched[n] == c and row[n, KEY] >= 0.0:
            return n
    return -1


@njit(cache=False)
def place_of(number: Ints, alive: int, row: Floats, could: Flags, k: int) -> int:
    """Place in `row` of row `k` of all, -1 unless it could bind and is not tight yet."""
    if not 0 <= k < len(could) or not could[k]:
        return -1
    n = np.searchsorted(number[:alive], k)
    return int(n) if n < alive and number[n] == k and row[n, KEY] >= 0.0 else -1


@njit(cache=False)
def surely_over(
    rack: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_of: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    limit_w: Floats,
    power_w: Floats,
    k: int,
    step: int,
) -> bool:
    """Whether row `k` is over its limit at a step by more than rounding: in whatever order it is summed."""
    x, load_w = step / STEPS_OF_LEVEL, 0.0
    for e in range(row_start[k], row_start[k + 1]):
        r = row_rack[e]
        power = power_w[r]
        if gang[gang_of[r], STATE] != FROZEN:
            power = power_at(rack, curve, knots, r, min(x, gang[gang_of[r], STOP]))
        load_w += coef[e] * power
    return bool(load_w > limit_w[k] + ALLOWED * max(abs(limit_w[k]), load_w))


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
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    rest_w: Floats,
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
    step: int,
) -> tuple[int, int]:
    """Row over its limit with the gangs order[lo:hi] at a step or where they stop before, and at the next; -1: none.

    BASE and GAIN hold the two loads meanwhile.
    """
    x, above = step / STEPS_OF_LEVEL, (step + 1) / STEPS_OF_LEVEL
    for n in range(alive):
        row[n, BASE], row[n, GAIN] = rest_w[n], rest_w[n]
    for i in range(lo, hi):
        g = order[i]
        stop = gang[g, STOP]
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if can_rise(rack, live, r):
                more_w = power_at(rack, curve, knots, r, min(x, stop)) - rack[r, FLOOR]
                most_w = power_at(rack, curve, knots, r, min(above, stop)) - rack[r, FLOOR]
                add_two(row, live, live_row, live_coef, touched, c, r, more_w, most_w)
    return row_over(row, alive, touched, c, BASE), row_over(row, alive, touched, c, GAIN)


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
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    rest_w: Floats,
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
    last: int,
) -> tuple[int, int]:
    """Highest step of the grid at which every row holds, 0 if none, and a row that does not at the next (-1: none).

    Searched from the last one, both ways ever faster.
    """
    good, bad, test, stride, witness = 0, STEPS_OF_LEVEL + 1, last, 1, -1
    columns = (gang_start, gang_rack, alive, live, live_row, live_coef, rest_w, touched, c, order, lo, hi)
    while bad - good > 1:
        here, above = rows_hold(rack, curve, gang, row, knots, *columns, test)
        if here >= 0:
            bad, test, witness = test, test - stride, here
        elif above >= 0:
            good, bad, witness = test, test + 1, above
        else:
            good, test = test + 1, test + 1 + stride
        stride *= 2
        if not good < test < bad:
            test = (good + bad) // 2
    return min(good, STEPS_OF_LEVEL), witness


@njit(cache=False)
def land(
    rack: Floats,
    line: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    alive: int,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    rest_w: Floats,
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
    step: int,
) -> int:
    """Put the gangs order[lo:hi] at a step, or where they stop before; a row over its limit there, -1 if none is.

    Rows get their lines. It may be done again at another step.
    """
    x = step / STEPS_OF_LEVEL
    for n in range(alive):
        row[n, BASE], row[n, GAIN] = rest_w[n], 0.0
    for i in range(lo, hi):
        g = order[i]
        stop = gang[g, STOP]
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if not can_rise(rack, live, r):
                continue
            power_w = power_at(rack, curve, knots, r, min(x, stop))
            line_w, slope_w = power_w, 0.0
            if rack[r, START] < x < stop:
                q = curve[r]
                j = segment(knots, q, x * rack[r, TOP], THROUGHPUT)
                slope = knots[q, j, INVERSE]
                line_w = rack[r, OTHER] + rack[r, GPU] * (knots[q, j, SHARE] - knots[q, j, THROUGHPUT] * slope)
                slope_w = rack[r, GPU] * slope * rack[r, TOP]
            line[r, LINE], line[r, SLOPE] = line_w, slope_w
            add_two(row, live, live_row, live_coef, touched, c, r, power_w - rack[r, FLOOR], slope_w)
    over = row_over(row, alive, touched, c, BASE)
    for n in range(alive):
        row[n, BASE] -= row[n, GAIN] * x
    return over


@njit(cache=False)
def list_events(
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
            if (at < x and not knots[c, 2, SHARE] < np.inf) or not can_rise(rack, live, r):
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
