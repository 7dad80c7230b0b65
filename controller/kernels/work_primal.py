"""Levels that hold every row from levels that nearly do: bring down, then use what is left, the best first."""

import numpy as np
from numba import njit

from controller.kernels.work_rows import load_at, part_at
from controller.kernels.work_setup import Floats, Ints, Longs


@njit(cache=False)
def lower(
    level: Floats,
    room: Floats,
    pair_start: Ints,
    pair_gang: Ints,
    pair_at: Longs,
    gain: Floats,
    knot_start: Ints,
    knot: Floats,
) -> None:
    """Bring gangs toward their lowest level until every row holds: loads are convex in the level."""
    keep = np.ones(len(level))
    for k in range(len(room)):
        load_w = load_at(k, level, pair_start, pair_gang, pair_at, gain, knot_start, knot)
        if load_w > room[k]:
            for p in range(pair_start[k], pair_start[k + 1]):
                g = pair_gang[p]
                if part_at(p, level[g], g, pair_at, gain, knot_start, knot) > 0.0:
                    keep[g] = min(keep[g], room[k] / load_w)
    for g in range(len(level)):
        if keep[g] < 1.0:
            level[g] = knot[knot_start[g]] + (level[g] - knot[knot_start[g]]) * keep[g]


@njit(cache=False)
def fit(
    g: int,
    m: int,
    step: float,
    left_w: Floats,
    col_start: Ints,
    col_pair: Ints,
    pair_row: Ints,
    pair_at: Longs,
    gain: Floats,
    first: int,
) -> float:
    """The part of a step up of gang g that all its rows have room for, taken from `left_w`."""
    for c in range(col_start[g], col_start[g + 1]):
        per = gain[pair_at[col_pair[c]] + m - first]
        if per > 0.0:
            left = left_w[pair_row[col_pair[c]]]
            if per * step > left:
                step = max(left, 0.0) / per
    if step > 0.0:
        for c in range(col_start[g], col_start[g + 1]):
            left_w[pair_row[col_pair[c]]] -= gain[pair_at[col_pair[c]] + m - first] * step
    return step


@njit(cache=False)
def climb(
    order: Longs,
    worth: bool,
    level: Floats,
    left_w: Floats,
    weight: Floats,
    cost: Floats,
    col_start: Ints,
    col_pair: Ints,
    pair_row: Ints,
    pair_at: Longs,
    gain: Floats,
    knot_start: Ints,
    knot: Floats,
) -> None:
    """Raise gangs in order as far as rows have room; `worth`: only on steps whose weight is at least their price."""
    for g in order:
        first, last = knot_start[g], knot_start[g + 1] - 1
        for m in range(first, last):
            if level[g] >= knot[m + 1]:
                continue
            if worth and cost[m] > weight[g]:
                break
            whole = knot[m + 1] - level[g]
            step = fit(g, m, whole, left_w, col_start, col_pair, pair_row, pair_at, gain, first)
            level[g] = knot[m + 1] if step == whole else level[g] + step
            if step < whole:
                break


@njit(cache=False)
def make_fit(
    level: Floats,
    room: Floats,
    weight: Floats,
    cost: Floats,
    pair_start: Ints,
    pair_gang: Ints,
    pair_row: Ints,
    pair_at: Longs,
    gain: Floats,
    col_start: Ints,
    col_pair: Ints,
    knot_start: Ints,
    knot: Floats,
) -> float:
    """Bring down, then climb; the weighted work above the lowest levels."""
    ratio, left_w = np.empty(len(level)), np.empty(len(room))
    for g in range(len(level)):
        at = knot_start[g]
        while at < knot_start[g + 1] - 2 and level[g] >= knot[at + 1]:
            at += 1
        ratio[g] = cost[at] / max(weight[g], 1e-300)
    order = np.argsort(ratio, kind="mergesort")
    lower(level, room, pair_start, pair_gang, pair_at, gain, knot_start, knot)
    for k in range(len(room)):
        left_w[k] = room[k] - load_at(k, level, pair_start, pair_gang, pair_at, gain, knot_start, knot)
    for worth in (True, False):
        climb(order, worth, level, left_w, weight, cost, col_start, col_pair, pair_row, pair_at, gain, knot_start, knot)
    work = 0.0
    for g in range(len(level)):
        work += weight[g] * (level[g] - knot[knot_start[g]])
    return work
