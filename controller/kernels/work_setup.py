"""What the most-work kernel works on: straight steps of every gang's level, and what each step adds to each row."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

MOST_STEPS = 24  # of a gang's level; racks whose corners lie between are taken at the chord, which is never too low
SAME = 1e-12  # relative: powers nearer than this are one
NEAR = 1e-9  # corners of levels nearer than this are one


@njit(cache=False)
def power_at(floor_w: Floats, at_w: Floats, per_w: Floats, r: int, level: float) -> float:
    """Power of rack `r` [W] at a level."""
    power_w = floor_w[r]
    for j in range(at_w.shape[1]):
        power_w = max(power_w, at_w[r, j] + per_w[r, j] * level)
    return float(power_w)


@njit(cache=False)
def list_corners(
    floor_w: Floats, at_w: Floats, per_w: Floats, r: int, lo: float, hi: float, n: int, corner: Floats
) -> int:
    """Append the levels between lo and hi where rack `r` bends; the new count."""
    for j in range(at_w.shape[1]):
        if per_w[r, j] <= 0.0:
            break
        at = (floor_w[r] - at_w[r, j]) / per_w[r, j]  # leaves its floor on the line that is highest there
        if lo + NEAR < at < hi - NEAR and power_at(floor_w, at_w, per_w, r, at) <= floor_w[r] * (1.0 + NEAR):
            corner[n] = at
            n += 1
        if j + 1 < at_w.shape[1] and per_w[r, j + 1] > per_w[r, j]:
            at = (at_w[r, j] - at_w[r, j + 1]) / (per_w[r, j + 1] - per_w[r, j])
            if lo + NEAR < at < hi - NEAR and at_w[r, j] + per_w[r, j] * at > floor_w[r]:
                corner[n] = at
                n += 1
    return n


@njit(cache=False)
def lay_knots(
    gang_start: Ints, gang_rack: Ints, floor_w: Floats, at_w: Floats, per_w: Floats, low: Floats, high: Floats
) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """Knots of each gang's level (low, corners of its racks, high) in CSR, and whether they had to be thinned out."""
    gangs, most = len(low), 2 * at_w.shape[1]
    largest = 0
    for g in range(gangs):
        largest = max(largest, gang_start[g + 1] - gang_start[g])
    start, knot = np.empty(gangs + 1, np.int32), np.empty((MOST_STEPS + 1) * gangs)
    thinned, corner = np.zeros(gangs, np.bool_), np.empty(most * largest)
    total = 0
    for g in range(gangs):
        start[g] = total
        knot[total] = low[g]
        total += 1
        if high[g] <= low[g]:
            continue
        n = 0
        for i in range(gang_start[g], gang_start[g + 1]):
            n = list_corners(floor_w, at_w, per_w, gang_rack[i], low[g], high[g], n, corner)
        inner = np.sort(corner[:n])
        kept = 0
        for i in range(n):
            if kept == 0 or inner[i] > inner[kept - 1] + NEAR:
                inner[kept] = inner[i]
                kept += 1
        taken = min(kept, MOST_STEPS - 1)
        thinned[g] = taken < kept
        for i in range(taken):
            knot[total] = inner[i if taken == kept else (2 * i + 1) * kept // (2 * taken)]
            total += 1
        knot[total] = high[g]
        total += 1
    start[gangs] = total
    return start, knot[:total].copy(), thinned


@njit(cache=False)
def lay_slopes(
    gang_start: Ints,
    gang_rack: Ints,
    floor_w: Floats,
    at_w: Floats,
    per_w: Floats,
    knot_start: Ints,
    knot: Floats,
) -> tuple[Longs, Floats, Floats]:
    """Slope of each rack over each step of its gang [W per level], from slope_start [R] on; its power at the top."""
    start, top_w = np.empty(len(floor_w), np.int64), floor_w.copy()
    total = 0
    for g in range(len(knot_start) - 1):
        total += (gang_start[g + 1] - gang_start[g]) * (knot_start[g + 1] - knot_start[g] - 1)
    slope = np.empty(total)
    at = 0
    for g in range(len(knot_start) - 1):
        for i in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[i]
            start[r] = at
            last_w = power_at(floor_w, at_w, per_w, r, knot[knot_start[g]])
            for m in range(knot_start[g] + 1, knot_start[g + 1]):
                next_w = power_at(floor_w, at_w, per_w, r, knot[m])
                rise_w = next_w - last_w if next_w > last_w * (1.0 + SAME) else 0.0
                slope[at] = rise_w / (knot[m] - knot[m - 1])
                at += 1
                last_w = next_w
            top_w[r] = last_w
    return start, slope, top_w


@njit(cache=False)
def rows_loads(row_start: Ints, row_rack: Ints, coef: Floats, power_w: Floats) -> Floats:
    """Load of each row [W]."""
    load_w = np.zeros(len(row_start) - 1)
    for k in range(len(load_w)):
        for e in range(row_start[k], row_start[k + 1]):
            load_w[k] += coef[e] * power_w[row_rack[e]]
    return load_w


@njit(cache=False)
def lay_pairs(
    row_start: Ints,
    row_rack: Ints,
    coef: Floats,
    rows: Ints,
    gang_of: Ints,
    rises: NDArray[np.bool_],
    knot_start: Ints,
    slope_start: Longs,
    slope: Floats,
) -> tuple[Ints, Ints, Longs, Floats]:
    """Gangs of each of `rows`, and from pair_at on what each step of them adds to its load [W per level]."""
    mark, slot = np.full(len(knot_start) - 1, -1, np.int32), np.empty(len(knot_start) - 1, np.int32)
    start = np.empty(len(rows) + 1, np.int32)
    pairs, total = 0, 0
    for i in range(len(rows)):
        start[i] = pairs
        for e in range(row_start[rows[i]], row_start[rows[i] + 1]):
            g = gang_of[row_rack[e]]
            if rises[row_rack[e]] and coef[e] > 0.0 and mark[g] != i:
                mark[g] = i
                pairs += 1
                total += knot_start[g + 1] - knot_start[g] - 1
    start[len(rows)] = pairs
    gang, at, gain = np.empty(pairs, np.int32), np.empty(pairs, np.int64), np.zeros(total)
    pairs, total = 0, 0
    mark[:] = -1
    for i in range(len(rows)):
        for e in range(row_start[rows[i]], row_start[rows[i] + 1]):
            r, a = row_rack[e], coef[e]
            g = gang_of[r]
            if not rises[r] or a <= 0.0:
                continue
            steps = knot_start[g + 1] - knot_start[g] - 1
            if mark[g] != i:
                mark[g], slot[g] = i, pairs
                gang[pairs], at[pairs] = g, total
                pairs += 1
                total += steps
            to, of = at[slot[g]], slope_start[r]
            for m in range(steps):
                gain[to + m] += a * slope[of + m]
    return start, gang, at, gain
