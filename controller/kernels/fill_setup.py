"""Preparation of one filling, compiled: curves, racks and gangs.

Per rack, power is a piecewise linear function of the gang's level: at its floor up to START, then along the knots of
its curve, at its demand from level 1 on. Numba functions take arrays and scalars only; what belongs together is a
matrix with named columns, and what is touched together lies in one cache line. UNCOUNTED: array references
are not counted, which in a function this small costs ten times its work; such a function cannot allocate.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Indices = NDArray[np.uint32]  # without a sign they are read without a test for it
Flags = NDArray[np.bool_]

# Columns of `rack` [R, 6]: W at the floor, at the highest level of its gang, of other load, of the GPUs at full;
# throughput at demand; level at the floor.
FLOOR, MOST, OTHER, GPU, TOP, START = range(6)
# Columns of `gang` [G, 8]: level of its floor, highest level its ceilings allow and the rack whose ceiling that is,
# state, level, what froze it; level at which a ceiling or a row full before its class stops it, and which.
LOWEST, HIGHEST, CAP_RACK, STATE, LEVEL, BINDING, STOP, STOP_BY = range(8)
UNCOUNTED: Any = {"_nrt": False}  # for njit: count no array references
SHARE, THROUGHPUT, INVERSE, RATE = range(4)  # last axis of `knots` [C + 1, P, 4]; unused knots are infinite
RISING, FROZEN = 0.0, 1.0
AT_DEMAND = -1.0
SAME = 1e-12  # relative: two loads that differ by rounding only
ALLOWED = 1e-9  # relative: excess that counts as a violation


@njit(cache=False, **UNCOUNTED)
def segment(knots: Floats, c: int, value: float, column: int) -> int:
    """Segment of curve `c` whose first knot is the last at or below `value`; the last one has no end."""
    j = 0
    while knots[c, j + 1, column] <= value and knots[c, j + 2, column] < np.inf:
        j += 1
    return j


@njit(forceinline=True, **UNCOUNTED)
def throughput_at(knots: Floats, c: int, share: float) -> float:
    """Throughput of curve `c` at a share of GPU power."""
    j = segment(knots, c, share, SHARE)
    return float(knots[c, j, THROUGHPUT] + (share - knots[c, j, SHARE]) * knots[c, j, RATE])


@njit(cache=False, **UNCOUNTED)
def bent_share(knots: Floats, c: int, t: float) -> float:
    """Share of GPU power at which curve `c` gives throughput `t`."""
    j = segment(knots, c, t, THROUGHPUT)
    share = knots[c, j, SHARE] + (t - knots[c, j, THROUGHPUT]) * knots[c, j, INVERSE]
    if knots[c, j + 2, SHARE] < np.inf:  # rounding must not pass the next segment's begin
        share = min(share, knots[c, j + 1, SHARE])
    return float(share)


@njit(forceinline=True, **UNCOUNTED)
def power_at(rack: Floats, curve: Ints, knots: Floats, r: int, x: float) -> float:
    """Power of rack `r` [W] at level `x`: continuous, and to the last bit non-decreasing."""
    if x <= rack[r, START]:
        return float(rack[r, FLOOR])
    if x >= 1.0:
        return float(rack[r, MOST])
    c, t = curve[r], x * rack[r, TOP]
    if knots[c, 2, SHARE] < np.inf:
        power_w = rack[r, OTHER] + rack[r, GPU] * bent_share(knots, c, t)
        return float(min(max(power_w, rack[r, FLOOR]), rack[r, MOST]))
    power_w = rack[r, OTHER] + rack[r, GPU] * (t * knots[c, 0, INVERSE])
    return float(min(max(power_w, rack[r, FLOOR]), rack[r, MOST]))


@njit(forceinline=True, **UNCOUNTED)
def set_rack(
    rack: Floats,
    curve: Ints,
    knots: Floats,
    r: int,
    c: int,
    floor_w: float,
    demand_w: float,
    ceiling_w: float,
    other_w: float,
    gpu_w: float,
) -> float:
    """Fill in rack `r`, at its floor; the highest level its ceiling allows."""
    demand_w = max(demand_w, floor_w)
    if gpu_w <= 0.0 or demand_w <= other_w:  # no GPU power to shape: level is the share of its demand
        other_w, gpu_w, c = 0.0, demand_w, len(knots) - 1
    floor_w = max(floor_w, other_w)  # GPU power is never negative
    highest, start, top = 1.0, 1.0, 1.0
    if floor_w < demand_w:
        per_w = 1.0 / gpu_w
        top = throughput_at(knots, c, (demand_w - other_w) * per_w)
        start = min(1.0, throughput_at(knots, c, (floor_w - other_w) * per_w) / top)
        if ceiling_w < demand_w:
            level = throughput_at(knots, c, max(0.0, ceiling_w - other_w) * per_w) / top
            highest = min(1.0, max(start, level))
    curve[r] = c
    rack[r, FLOOR], rack[r, MOST], rack[r, OTHER], rack[r, GPU] = floor_w, demand_w, other_w, gpu_w
    rack[r, TOP], rack[r, START] = top, start
    return highest


@njit(cache=False)
def set_gangs(
    rack: Floats,
    line_w: Floats,
    slope_w: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    floor_w: Floats,
    demand_w: Floats,
    ceiling_w: Floats,
    other_w: Floats,
    gpu_w: Floats,
    curve_of: Ints,
    power_w: Floats,
    above_w: Floats,
    blocked: Ints,
) -> bool:
    """Racks, then per gang the level of its floor and the highest its ceilings allow; false on unknown values.

    Every gang is left at its floor, under no tight row; `above_w` [R] gets the power at its highest level.
    """
    for g in range(len(gang)):
        lowest, highest, cap_rack = 1.0, 1.0, -1.0
        for i in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[i]
            low, most, other, gpu, c = floor_w[r], demand_w[r], other_w[r], gpu_w[r], curve_of[r]
            known = min(low, most, other, gpu) >= 0.0 and low + most + other + gpu < np.inf
            if not known or not ceiling_w[r] >= 0.0 or not 0 <= c < len(knots) - 1:
                return False
            cap = set_rack(rack, curve, knots, r, c, low, most, ceiling_w[r], other, gpu)
            line_w[r], slope_w[r] = rack[r, FLOOR], 0.0
            power_w[r], above_w[r], blocked[r] = rack[r, FLOOR], rack[r, MOST], -1
            lowest = min(lowest, rack[r, START])
            if cap < highest:
                highest, cap_rack = cap, float(r)
        gang[g, LOWEST], gang[g, HIGHEST], gang[g, CAP_RACK] = lowest, highest, cap_rack
        gang[g, STATE], gang[g, LEVEL], gang[g, BINDING], gang[g, STOP] = RISING, lowest, AT_DEMAND, 0.0
        if highest < 1.0:
            for i in range(gang_start[g], gang_start[g + 1]):
                r = gang_rack[i]
                rack[r, MOST] = power_at(rack, curve, knots, r, highest)
                above_w[r] = rack[r, MOST]
    return True


@njit(cache=False)
def back_to_floors(
    rack: Floats, line_w: Floats, slope_w: Floats, gang: Floats, power_w: Floats, above_w: Floats, blocked: Ints
) -> None:
    """Every gang at its floor again, under no tight row, as `set_gangs` left it."""
    for g in range(len(gang)):
        gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = RISING, gang[g, LOWEST], AT_DEMAND
        gang[g, STOP] = 0.0
    for r in range(len(rack)):
        line_w[r], slope_w[r] = rack[r, FLOOR], 0.0
        power_w[r], above_w[r], blocked[r] = rack[r, FLOOR], rack[r, MOST], -1
