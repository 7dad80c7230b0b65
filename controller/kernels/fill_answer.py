"""The answer of one filling, compiled: powers from levels, the rows' loads and flags, rounding taken out."""

import numpy as np
from numba import njit

from controller.kernels.fill_rows import BEGIN, END, can_rise
from controller.kernels.fill_setup import (
    ALLOWED,
    FLOOR,
    FROZEN,
    LEVEL,
    LINE,
    SAME,
    SLOPE,
    STATE,
    Flags,
    Floats,
    Indices,
    Ints,
    power_at,
)


@njit(cache=False)
def end_class(
    rack: Floats,
    line: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    rest_w: Floats,
    order: Ints,
    lo: int,
    hi: int,
    ceiling_w: Floats,
    power_w: Floats,
    over_ceiling: Flags,
    last: bool,
) -> None:
    """Gangs of order[lo:hi] still free are at their demand; powers, no higher than a ceiling unless the floor is.

    Unless it is the last class, its rows keep what they carry of it.
    """
    for i in range(lo, hi):
        g = order[i]
        if gang[g, STATE] != FROZEN:
            gang[g, STATE], gang[g, LEVEL] = FROZEN, 1.0
        level = gang[g, LEVEL]
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            most_w = max(ceiling_w[r], rack[r, FLOOR])
            power_w[r] = min(power_at(rack, curve, knots, r, level), most_w)
            over_ceiling[r] = ceiling_w[r] < rack[r, FLOOR]
            if last or not can_rise(rack, live, r):
                continue
            line[r, LINE], line[r, SLOPE] = power_w[r], 0.0
            for e in range(live[r, BEGIN], live[r, END]):
                rest_w[live_row[e]] += live_coef[e] * (power_w[r] - rack[r, FLOOR])


@njit(cache=False)
def sum_rows(
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    power_w: Floats,
    limit_w: Floats,
    guess: Flags,
    load_w: Floats,
) -> tuple[int, bool]:
    """Loads; how many rows outside the guess are full, which join it; whether every coefficient is known and >= 0.

    Four sums a row: one alone would wait for its own last addition.
    """
    missed, least, known = 0, 0.0, True
    for k in range(len(limit_w)):
        lo, hi = row_start[k], row_start[k + 1]
        even = lo + (hi - lo) // 4 * 4
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for e in range(lo, even, 4):
            a += coef[e] * power_w[row_rack[e]]
            b += coef[e + 1] * power_w[row_rack[e + 1]]
            c += coef[e + 2] * power_w[row_rack[e + 2]]
            d += coef[e + 3] * power_w[row_rack[e + 3]]
            least = min(least, coef[e], coef[e + 1], coef[e + 2], coef[e + 3])
        for e in range(even, hi):
            a += coef[e] * power_w[row_rack[e]]
            least = min(least, coef[e])
        total_w = (a + b) + (c + d)
        load_w[k] = total_w
        known &= total_w < np.inf
        if not guess[k] and total_w >= limit_w[k] - ALLOWED * max(abs(limit_w[k]), total_w):
            guess[k] = True
            missed += 1
    return missed, known and least >= 0.0


@njit(cache=False)
def flag_rows(limit_w: Floats, load_w: Floats, floor_load_w: Floats, tight: Flags, violated: Flags) -> bool:
    """Tight and violated rows; whether one that its floors leave room in is nearer its limit than rounding."""
    near = False
    for k in range(len(limit_w)):
        tight[k] = load_w[k] >= limit_w[k] - ALLOWED * max(abs(limit_w[k]), load_w[k])
        violated[k] = False
        if tight[k]:
            floor_w = floor_load_w[k]
            violated[k] = floor_w > limit_w[k] + ALLOWED * max(abs(limit_w[k]), floor_w)
            near |= load_w[k] > limit_w[k] - SAME * abs(limit_w[k]) and load_w[k] > floor_w
    return near


@njit(cache=False)
def repair(
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    limit_w: Floats,
    rack: Floats,
    load_w: Floats,
    floor_load_w: Floats,
    tight: Flags,
    keep: Floats,
    power_w: Floats,
) -> None:
    """Take the rounding out: scale what racks have above their floors so that rows hold in any order of summation."""
    keep[:] = 1.0
    for k in range(len(limit_w)):
        if not tight[k]:
            continue
        above_w = load_w[k] - floor_load_w[k]
        target_w = limit_w[k] - min(SAME * abs(limit_w[k]), ALLOWED * above_w)
        if not load_w[k] > target_w or above_w <= 0.0:
            continue
        share = max(0.0, 1.0 - (load_w[k] - target_w) / above_w)
        for e in range(row_start[k], row_start[k + 1]):
            if coef[e] > 0.0:
                keep[row_rack[e]] = min(keep[row_rack[e]], share)
    for r in range(len(power_w)):
        if keep[r] < 1.0:
            power_w[r] = rack[r, FLOOR] + (power_w[r] - rack[r, FLOOR]) * keep[r]
