"""Prices of rows: the level that each gang chooses under them, and the price at which one row is just full.

A gang chooses the level that is worth most: weight x level less the price of its load, less a small square of the
distance to its last level, so that the choice moves steadily with the prices. Step m of gang g costs cost[m] a level.
"""

import numpy as np
from numba import njit

from controller.kernels.work_setup import Floats, Ints, Longs

HAIR = 1e-9  # relative: a price goes this far beyond the one at which a gang begins to move
FULL = 1e-6  # a row is full when its load is this near its room


@njit(cache=False)
def choose(knot_start: Ints, knot: Floats, cost: Floats, want: Floats, stiff: Floats, level: Floats) -> None:
    """Level of every gang at these costs; want = weight + stiff x last level."""
    for g in range(len(level)):
        level[g] = knot[knot_start[g]]
        for m in range(knot_start[g], knot_start[g + 1] - 1):
            x = (want[g] - cost[m]) / stiff[g]
            if x <= knot[m]:
                break
            level[g] = min(x, knot[m + 1])
            if x < knot[m + 1]:
                break


@njit(cache=False)
def part_at(p: int, level: float, g: int, pair_at: Longs, gain: Floats, knot_start: Ints, knot: Floats) -> float:
    """What gang g, of pair p, adds to the row of the pair [W] at a level."""
    load_w, b = 0.0, pair_at[p] - knot_start[g]
    for m in range(knot_start[g], knot_start[g + 1] - 1):
        if level <= knot[m]:
            break
        load_w += gain[b + m] * (min(level, knot[m + 1]) - knot[m])
    return load_w


@njit(cache=False)
def load_at(
    k: int,
    level: Floats,
    pair_start: Ints,
    pair_gang: Ints,
    pair_at: Longs,
    gain: Floats,
    knot_start: Ints,
    knot: Floats,
) -> float:
    """Load of a row above its base [W] at levels."""
    load_w = 0.0
    for p in range(pair_start[k], pair_start[k + 1]):
        load_w += part_at(p, level[pair_gang[p]], pair_gang[p], pair_at, gain, knot_start, knot)
    return load_w


@njit(cache=False)
def load_under(
    k: int,
    more: float,
    pair_start: Ints,
    pair_gang: Ints,
    pair_at: Longs,
    gain: Floats,
    knot_start: Ints,
    knot: Floats,
    cost: Floats,
    want: Floats,
    stiff: Floats,
) -> tuple[float, float, float, float]:
    """Load of a row above its base at a price higher by `more`, and how fast it falls with it.

    Then how much the price must still rise before a gang that stands at a corner falls, and fall before one rises.
    """
    load_w, fall, to_fall, to_rise = 0.0, 0.0, np.inf, np.inf
    for p in range(pair_start[k], pair_start[k + 1]):
        g = pair_gang[p]
        first, last = knot_start[g], knot_start[g + 1] - 1
        b = pair_at[p] - first
        slack = np.inf
        for m in range(first, last):
            per = gain[b + m]
            pull = want[g] - cost[m] - more * per - stiff[g] * knot[m]
            if pull <= 0.0:
                if per > 0.0:
                    to_rise = min(to_rise, max(-pull, HAIR * stiff[g] * (knot[m + 1] - knot[m])) / per)
                break
            step = knot[m + 1] - knot[m]
            if pull < stiff[g] * step:
                load_w += per * pull / stiff[g]
                fall += per * per / stiff[g]
                slack = np.inf
                break
            load_w += per * step
            slack = max(pull - stiff[g] * step, HAIR * stiff[g] * step) / per if per > 0.0 else np.inf
        to_fall = min(to_fall, slack)
    return load_w, fall, to_fall, to_rise


@njit(cache=False)
def clear(
    k: int,
    price: Floats,
    room: Floats,
    tries: int,
    pair_start: Ints,
    pair_gang: Ints,
    pair_at: Longs,
    gain: Floats,
    knot_start: Ints,
    knot: Floats,
    cost: Floats,
    want: Floats,
    stiff: Floats,
) -> None:
    """Set the price of row k so that it is just full, or 0 if it is not; Newton's method within a bracket."""
    old = price[k]
    t, low, high = old, -np.inf, np.inf  # prices found too low and too high
    for _ in range(tries):
        load_w, fall, to_fall, to_rise = load_under(
            k, t - old, pair_start, pair_gang, pair_at, gain, knot_start, knot, cost, want, stiff
        )
        over_w = load_w - room[k]
        if abs(over_w) <= FULL * room[k] or (over_w < 0.0 and t <= 0.0):
            break
        if over_w > 0.0:
            low = t
            new = t + over_w / fall if fall > 0.0 else t + to_fall + HAIR * (t + to_fall)
            if not new < high:
                new = 0.5 * (low + high)
        else:
            high = t
            new = t + over_w / fall if fall > 0.0 else t - to_rise - HAIR * (t + to_rise)
            if new <= low:
                new = 0.5 * (low + high)
            new = max(new, 0.0)
        if new == t or not np.isfinite(new):
            break
        t = new
    if t != old:
        price[k] = t
        for p in range(pair_start[k], pair_start[k + 1]):
            g = pair_gang[p]
            b = pair_at[p] - knot_start[g]
            for m in range(knot_start[g], knot_start[g + 1] - 1):
                cost[m] += (t - old) * gain[b + m]
