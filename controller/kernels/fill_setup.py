"""Arrays of one filling, and their preparation: curves, racks, gangs and the rows that can bind.

Per rack, power is a piecewise linear function of the gang's level: at its floor up to START, then along the
knots of its curve, at its demand from level 1 on. Only rows that would be over their limit with every gang at its
highest level can ever bind; the others are left out of the filling.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

FLOOR, DEMAND, OTHER, GPU, TOP, START, LINE, SLOPE = range(8)  # columns of Work.rack
BASE, GAIN, LIMIT, KEY = range(4)  # columns of Work.row
RISING, FROZEN = 0, 1
HEAP, ACTIVE, STEPS, ALIVE, SOURCES = range(5)  # entries of Work.tally
BUCKETS = 4096
AT_DEMAND = -1
OK, TOO_LONG = 0, 1
SAME = 1e-12  # relative: two loads that differ by rounding only
ALLOWED = 1e-9  # relative: excess that counts as a violation


class Work(NamedTuple):
    """Structure, inputs, scratch and answer of one filling; R racks, G gangs, K rows, C curves, N non-zeros."""

    gang_of: Ints  # [R]
    gang_start: Ints  # [G + 1] into gang_rack
    gang_rack: Ints  # [R]
    row_start: Ints  # [K + 1] into row_rack and coef
    row_rack: Ints  # [N]
    col_start: Ints  # [R + 1] into col_row and col_entry
    col_row: Ints  # [N]
    col_entry: Ints  # [N] place in coef
    knots: Floats  # [C + 1, P, 3] share, throughput, share per throughput up to the next knot; last curve is a line
    n_knots: Ints  # [C + 1]
    coef: Floats  # [N]
    rack_in: Floats  # [5, R] floor, demand, ceiling, other, GPU power [W]
    curve_of: Ints  # [R]
    limit_w: Floats  # [K]
    order: Ints  # [G] gangs by class
    rack: Floats  # [R, 8]
    curve: Ints  # [R]
    peak_w: Floats  # [R] power at the gang's highest level
    gang_floor: Floats  # [G]
    gang_cap: Floats  # [G] highest level its ceilings allow
    cap_rack: Ints  # [G] rack whose ceiling that is
    state: Ints  # [G]
    row: Floats  # [K, 4] rows that can bind
    row_id: Ints  # [K] their numbers
    place: Ints  # [K] place of a row in `row`, -1 when it can never bind
    heap: Ints  # [K]
    where: Ints  # [K]
    live_start: Ints  # [R + 1] into live_row and live_coef
    live_row: Ints  # [N]
    live_coef: Floats  # [N]
    raw_level: Floats  # [E]
    raw_what: Ints  # [E, 2]
    event_level: Floats  # [E]
    event_what: Ints  # [E, 2] rack and segment, or gang and -1
    bucket: Ints  # [BUCKETS + 2]
    tally: NDArray[np.int64]  # [5]
    power_w: Floats  # [R]
    level: Floats  # [G]
    binding: Ints  # [G]
    load_w: Floats  # [K]
    floor_load_w: Floats  # [K]
    tight: NDArray[np.bool_]  # [K]
    violated: NDArray[np.bool_]  # [K]
    over_ceiling: NDArray[np.bool_]  # [R]
    keep: Floats  # [R] share of the power above the floor that the last repair leaves


@njit(cache=False)
def segment(w: Work, c: int, value: float, column: int) -> int:
    """Segment of curve `c` whose first knot is the last at or below `value`."""
    j = 0
    while j < w.n_knots[c] - 2 and w.knots[c, j + 1, column] <= value:
        j += 1
    return j


@njit(cache=False)
def level_at(w: Work, r: int, power_w: float) -> float:
    """Level of rack `r` at a power [W] between other power and demand."""
    c = w.curve[r]
    share = max(0.0, power_w - w.rack[r, OTHER]) / w.rack[r, GPU]
    j = segment(w, c, share, 0)
    throughput = w.knots[c, j, 1] + (share - w.knots[c, j, 0]) / w.knots[c, j, 2]
    return float(throughput)


@njit(cache=False)
def power_at(w: Work, r: int, x: float) -> float:
    """Power of rack `r` [W] at level `x`: continuous and non-decreasing."""
    if x <= w.rack[r, START]:
        return float(w.rack[r, FLOOR])
    if x >= 1.0:
        return float(w.rack[r, DEMAND])
    c = w.curve[r]
    t = x * w.rack[r, TOP]
    j = segment(w, c, t, 1)
    share = w.knots[c, j, 0] + (t - w.knots[c, j, 1]) * w.knots[c, j, 2]
    power_w = w.rack[r, OTHER] + w.rack[r, GPU] * share
    return float(min(max(power_w, w.rack[r, FLOOR]), w.rack[r, DEMAND]))


@njit(cache=False)
def set_rack(w: Work, r: int) -> float:
    """Fill in rack `r`; the highest level its ceiling allows."""
    floor_w, demand_w, ceiling_w, other_w, gpu_w = w.rack_in[:, r]
    demand_w = max(demand_w, floor_w)
    w.curve[r] = w.curve_of[r]
    if gpu_w <= 0.0 or demand_w <= other_w:  # no GPU power to shape: level is the share of its demand
        other_w, gpu_w = 0.0, demand_w
        w.curve[r] = len(w.n_knots) - 1
    floor_w = max(floor_w, other_w)  # GPU power is never negative
    rack = w.rack[r]
    rack[FLOOR], rack[DEMAND], rack[OTHER], rack[GPU] = floor_w, demand_w, other_w, gpu_w
    rack[LINE], rack[SLOPE], rack[START], rack[TOP] = floor_w, 0.0, 1.0, 1.0
    w.over_ceiling[r] = ceiling_w < floor_w
    if floor_w >= demand_w:
        return 1.0
    rack[TOP] = level_at(w, r, demand_w)
    rack[START] = min(1.0, level_at(w, r, floor_w) / rack[TOP])
    if ceiling_w >= demand_w:
        return 1.0
    if ceiling_w <= floor_w:
        return float(rack[START])
    return float(min(1.0, max(rack[START], level_at(w, r, ceiling_w) / rack[TOP])))


@njit(cache=False)
def set_gangs(w: Work) -> None:
    """Racks, then per gang the level of its floor and the highest level its ceilings allow."""
    for g in range(len(w.level)):
        start, cap, cap_rack = 1.0, 1.0, -1
        for i in range(w.gang_start[g], w.gang_start[g + 1]):
            r = w.gang_rack[i]
            rack_cap = set_rack(w, r)
            start = min(start, w.rack[r, START])
            if rack_cap < cap:
                cap, cap_rack = rack_cap, r
        w.gang_floor[g], w.gang_cap[g], w.cap_rack[g] = start, cap, cap_rack
        w.level[g], w.binding[g], w.state[g] = start, AT_DEMAND, RISING
        for i in range(w.gang_start[g], w.gang_start[g + 1]):
            w.peak_w[w.gang_rack[i]] = power_at(w, w.gang_rack[i], cap)


@njit(cache=False)
def set_rows(w: Work) -> None:
    """Loads at the floors; keep only the rows that could bind with every gang at its highest level."""
    n = 0
    for k in range(len(w.limit_w)):
        low_w, high_w = 0.0, 0.0
        for e in range(w.row_start[k], w.row_start[k + 1]):
            r = w.row_rack[e]
            low_w += w.coef[e] * w.rack[r, FLOOR]
            high_w += w.coef[e] * w.peak_w[r]
        limit_w = w.limit_w[k]
        w.floor_load_w[k] = low_w
        w.violated[k] = low_w > limit_w + ALLOWED * max(abs(limit_w), low_w)
        w.place[k] = -1
        if high_w > low_w and high_w > limit_w * (1.0 - SAME):
            w.place[k], w.row_id[n] = n, k
            w.row[n, BASE], w.row[n, GAIN], w.row[n, LIMIT] = low_w, 0.0, limit_w
            full = low_w >= limit_w - SAME * max(abs(limit_w), low_w)
            w.row[n, KEY] = -1.0 if full else 1.0
            n += 1
    w.tally[ALIVE] = n


@njit(cache=False)
def set_columns(w: Work) -> None:
    """Columns of the kept rows, for racks that can rise at all."""
    n = 0
    for r in range(len(w.gang_of)):
        w.live_start[r] = n
        if w.peak_w[r] > w.rack[r, FLOOR]:
            for e in range(w.col_start[r], w.col_start[r + 1]):
                k = w.place[w.col_row[e]]
                a = w.coef[w.col_entry[e]]
                if k >= 0 and a > 0.0:
                    w.live_row[n], w.live_coef[n] = k, a
                    n += 1
    w.live_start[len(w.gang_of)] = n
