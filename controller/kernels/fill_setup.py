"""Preparation of one filling, compiled: curves, racks, gangs and the rows that can bind.

Per rack, power is a piecewise linear function of the gang's level: at its floor up to START, then along the
knots of its curve, at its demand from level 1 on. Only rows that would be over their limit with every gang at its
highest level can ever bind; the others are left out of the filling. Numba functions take arrays and scalars only;
what belongs together is a matrix with named columns, whole numbers in it included.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]

# Columns of `rack` [R, 12]: W at the floor, at demand, of other load, of the GPUs at full; throughput at demand; level
# at the floor; its line power = LINE + SLOPE x level now; ceiling [W]; curve; highest power [W]; share left by repair.
FLOOR, DEMAND, OTHER, GPU, TOP, START, LINE, SLOPE, CEILING, CURVE, PEAK, KEEP = range(12)
# Columns of `gang` [G, 6]: level of its floor, highest level its ceilings allow and the rack whose ceiling that is,
# state, level, what froze it.
LOWEST, HIGHEST, CAP_RACK, STATE, LEVEL, BINDING = range(6)
# Columns of `row` [K, 5] of the rows that can bind: load = BASE + GAIN x level, limit, lower bound of the level at
# which it becomes tight (-1: is tight), its number among all rows.
BASE, GAIN, LIMIT, KEY, NUMBER = range(5)
SHARE, THROUGHPUT, INVERSE = range(3)  # last axis of `knots` [C + 1, P, 3]; unused knots are infinite
RISING, FROZEN = 0.0, 1.0
AT_DEMAND = -1.0
SAME = 1e-12  # relative: two loads that differ by rounding only
ALLOWED = 1e-9  # relative: excess that counts as a violation


@njit(cache=False)
def segment(knots: Floats, c: int, value: float, column: int) -> int:
    """Segment of curve `c` whose first knot is the last at or below `value`; the last one has no end."""
    j = 0
    while knots[c, j + 1, column] <= value and knots[c, j + 2, column] < np.inf:
        j += 1
    return j


@njit(cache=False)
def level_at(rack: Floats, knots: Floats, r: int, power_w: float) -> float:
    """Level of rack `r` at a power [W] between its other power and its demand."""
    c = int(rack[r, CURVE])
    share = max(0.0, power_w - rack[r, OTHER]) / rack[r, GPU]
    j = segment(knots, c, share, SHARE)
    throughput = knots[c, j, THROUGHPUT] + (share - knots[c, j, SHARE]) / knots[c, j, INVERSE]
    return float(throughput / rack[r, TOP])


@njit(cache=False)
def power_at(rack: Floats, knots: Floats, r: int, x: float) -> float:
    """Power of rack `r` [W] at level `x`: continuous and non-decreasing."""
    if x <= rack[r, START]:
        return float(rack[r, FLOOR])
    if x >= 1.0:
        return float(rack[r, DEMAND])
    c = int(rack[r, CURVE])
    t = x * rack[r, TOP]
    j = segment(knots, c, t, THROUGHPUT)
    share = knots[c, j, SHARE] + (t - knots[c, j, THROUGHPUT]) * knots[c, j, INVERSE]
    power_w = rack[r, OTHER] + rack[r, GPU] * share
    return float(min(max(power_w, rack[r, FLOOR]), rack[r, DEMAND]))


@njit(cache=False)
def set_rack(rack: Floats, knots: Floats, r: int, rack_in: Floats, curve_of: Ints) -> float:
    """Fill in rack `r`; the highest level its ceiling allows."""
    floor_w, demand_w, other_w, gpu_w = rack_in[0, r], rack_in[1, r], rack_in[3, r], rack_in[4, r]
    demand_w = max(demand_w, floor_w)
    rack[r, CURVE] = curve_of[r]
    if gpu_w <= 0.0 or demand_w <= other_w:  # no GPU power to shape: level is the share of its demand
        other_w, gpu_w = 0.0, demand_w
        rack[r, CURVE] = len(knots) - 1
    floor_w = max(floor_w, other_w)  # GPU power is never negative
    rack[r, FLOOR], rack[r, DEMAND], rack[r, OTHER], rack[r, GPU] = floor_w, demand_w, other_w, gpu_w
    rack[r, LINE], rack[r, SLOPE], rack[r, START], rack[r, TOP] = floor_w, 0.0, 1.0, 1.0
    rack[r, CEILING], rack[r, KEEP] = rack_in[2, r], 1.0
    if floor_w >= demand_w:
        return 1.0
    rack[r, TOP] = level_at(rack, knots, r, demand_w)
    rack[r, START] = min(1.0, level_at(rack, knots, r, floor_w))
    if rack[r, CEILING] >= demand_w:
        return 1.0
    if rack[r, CEILING] <= floor_w:
        return float(rack[r, START])
    return float(min(1.0, max(rack[r, START], level_at(rack, knots, r, rack[r, CEILING]))))


@njit(cache=False)
def set_gangs(
    rack: Floats, gang: Floats, knots: Floats, gang_start: Ints, gang_rack: Ints, rack_in: Floats, curve_of: Ints
) -> None:
    """Racks, then per gang the level of its floor and the highest level its ceilings allow."""
    for g in range(len(gang)):
        lowest, highest, cap_rack = 1.0, 1.0, -1
        for i in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[i]
            cap = set_rack(rack, knots, r, rack_in, curve_of)
            lowest = min(lowest, rack[r, START])
            if cap < highest:
                highest, cap_rack = cap, r
        gang[g, LOWEST], gang[g, HIGHEST], gang[g, CAP_RACK] = lowest, highest, cap_rack
        gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = RISING, lowest, AT_DEMAND
        for i in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[i]
            rack[r, PEAK] = power_at(rack, knots, r, highest)


@njit(cache=False)
def set_rows(
    rack: Floats,
    row: Floats,
    row_start: Ints,
    row_rack: Ints,
    coef: Floats,
    limit_w: Floats,
    floor_load_w: Floats,
    place: Ints,
) -> int:
    """Loads at the floors; number of rows that could bind with every gang at its highest level, put into `row`."""
    n = 0
    for k in range(len(limit_w)):
        low_w, high_w = 0.0, 0.0
        for e in range(row_start[k], row_start[k + 1]):
            r = row_rack[e]
            low_w += coef[e] * rack[r, FLOOR]
            high_w += coef[e] * rack[r, PEAK]
        floor_load_w[k] = low_w
        place[k] = -1
        if high_w > low_w and high_w > limit_w[k] - SAME * abs(limit_w[k]):
            place[k] = n
            row[n, BASE], row[n, GAIN], row[n, LIMIT], row[n, NUMBER] = low_w, 0.0, limit_w[k], k
            full = low_w >= limit_w[k] - SAME * max(abs(limit_w[k]), low_w)
            row[n, KEY] = -1.0 if full else 1.0
            n += 1
    return n


@njit(cache=False)
def set_columns(
    rack: Floats,
    coef: Floats,
    col_start: Ints,
    col_row: Ints,
    col_entry: Ints,
    place: Ints,
    live_start: Ints,
    live_row: Ints,
    live_coef: Floats,
) -> None:
    """Columns of the rows kept by `set_rows`, for racks that can rise at all."""
    n = 0
    for r in range(len(rack)):
        live_start[r] = n
        if rack[r, PEAK] > rack[r, FLOOR]:
            for e in range(col_start[r], col_start[r + 1]):
                k = place[col_row[e]]
                a = coef[col_entry[e]]
                if k >= 0 and a > 0.0:
                    live_row[n], live_coef[n] = k, a
                    n += 1
    live_start[len(rack)] = n
