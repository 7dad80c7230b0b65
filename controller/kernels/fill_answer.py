"""The answer of one filling, compiled: powers from levels, the rows' loads and flags, rounding taken out."""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import (
    ALLOWED,
    FLOOR,
    FROZEN,
    LEVEL,
    SAME,
    STATE,
    Flags,
    Floats,
    Indices,
    Ints,
    power_at,
)
from controller.kernels.fill_sums import row_sum


@njit(cache=False)
def end_class(
    rack: Floats,
    line_w: Floats,
    slope_w: Floats,
    curve: Ints,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Indices,
    order: Ints,
    lo: int,
    hi: int,
    ceiling_w: Floats,
    power_w: Floats,
    above_w: Floats,
    over_ceiling: Flags,
) -> None:
    """Gangs of order[lo:hi] still free are at their demand; powers, no higher than a ceiling unless the floor is."""
    for i in range(lo, hi):
        g = order[i]
        if gang[g, STATE] != FROZEN:
            gang[g, STATE], gang[g, LEVEL] = FROZEN, 1.0
        level = gang[g, LEVEL]
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            over_ceiling[r] = ceiling_w[r] < rack[r, FLOOR]
            power = min(power_at(rack, curve, knots, r, level), max(ceiling_w[r], rack[r, FLOOR]))
            power_w[r], above_w[r], line_w[r], slope_w[r] = power, power, power, 0.0


@njit(cache=False)
def sum_rows(
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    power_w: Floats,
    limit_w: Floats,
    guess: Flags,
    load_w: Floats,
) -> tuple[int, bool]:
    """Loads from the blocks' powers [B]; how many rows outside the guess are full, which join it; whether every
    coefficient is known and >= 0."""
    missed, known = 0, not (coef < 0.0).any()
    for k in range(len(limit_w)):
        total_w = row_sum(row_block, coef, row_start[k], row_start[k + 1], power_w)
        load_w[k] = total_w
        known &= total_w < np.inf
        if not guess[k] and total_w >= limit_w[k] - ALLOWED * max(abs(limit_w[k]), total_w):
            guess[k] = True
            missed += 1
    return missed, known


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
    block_start: Ints,
    row_start: Ints,
    row_block: Indices,
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
                for r in range(block_start[row_block[e]], block_start[row_block[e] + 1]):
                    keep[r] = min(keep[r], share)
    for r in range(len(power_w)):
        if keep[r] < 1.0:
            power_w[r] = rack[r, FLOOR] + (power_w[r] - rack[r, FLOOR]) * keep[r]
