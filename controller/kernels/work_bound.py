"""Upper bounds of the weighted work at given prices: no answer that fits has more."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controller.kernels.work_setup import SAME, Floats, Ints


@njit(cache=False)
def upper_bound(price: Floats, room: Floats, weight: Floats, cost: Floats, knot_start: Ints, knot: Floats) -> float:
    """Most weighted work above the lowest levels at these prices, rooms paid for: never below the optimum."""
    bound = 0.0
    for k in range(len(price)):
        bound += price[k] * room[k]
    for g in range(len(weight)):
        for m in range(knot_start[g], knot_start[g + 1] - 1):
            if cost[m] >= weight[g]:
                break
            bound += (weight[g] - cost[m]) * (knot[m + 1] - knot[m])
    return bound


@njit(cache=False)
def lines_at(
    g: int, level: float, gang_start: Ints, gang_rack: Ints, floor_w: Floats, at_w: Floats, per_w: Floats,
    rack_price: Floats,
) -> tuple[float, float, float]:  # fmt: skip
    """Price of what a gang draws above its floors at a level, and how fast it grows with it, downward and upward."""
    paid, down, up = 0.0, 0.0, 0.0
    for i in range(gang_start[g], gang_start[g + 1]):
        r = gang_rack[i]
        q = rack_price[r]
        if q <= 0.0:
            continue
        power_w, slope_down, slope_up = floor_w[r], 0.0, 0.0
        for j in range(at_w.shape[1]):
            line_w = at_w[r, j] + per_w[r, j] * level
            if line_w > power_w * (1.0 + SAME):
                power_w, slope_down, slope_up = line_w, per_w[r, j], per_w[r, j]
            elif line_w >= power_w * (1.0 - SAME):
                slope_down, slope_up = min(slope_down, per_w[r, j]), max(slope_up, per_w[r, j])
        paid += q * (power_w - floor_w[r])
        down += q * slope_down
        up += q * slope_up
    return paid, down, up


@njit(cache=False)
def most_worth(
    g: int, gang_start: Ints, gang_rack: Ints, floor_w: Floats, at_w: Floats, per_w: Floats, rack_price: Floats,
    weight: float, thinned: bool, knot_start: Ints, knot: Floats,
) -> float:  # fmt: skip
    """Upper bound of weight x rise of level less the price of the power drawn; exact at the knots.

    Between two knots of a gang whose corners were thinned out: where the tangents of the two ends meet.
    """
    low = knot[knot_start[g]]
    best, before, slope_before, at_before = 0.0, 0.0, 0.0, low
    for m in range(knot_start[g], knot_start[g + 1]):
        paid, down, up = lines_at(g, knot[m], gang_start, gang_rack, floor_w, at_w, per_w, rack_price)
        value = weight * (knot[m] - low) - paid
        if thinned and m > knot_start[g] and slope_before > weight - down:
            meet = (value - before + slope_before * at_before - (weight - down) * knot[m]) / (
                slope_before - (weight - down)
            )
            meet = min(max(meet, at_before), knot[m])
            best = max(best, before + slope_before * (meet - at_before))
        best = max(best, value)
        before, slope_before, at_before = value, weight - up, knot[m]
    return best


@njit(cache=False)
def worths(
    gang_start: Ints, gang_rack: Ints, row_start: Ints, row_rack: Ints, coef: Floats, floor_w: Floats, at_w: Floats,
    per_w: Floats, weight: Floats, price_w: Floats, rows: Ints, thinned: NDArray[np.bool_], knot_start: Ints,
    knot: Floats,
) -> Floats:  # fmt: skip
    """What each gang adds to the upper bound at the rows' prices, by the true power of its racks [G]."""
    rack_price = np.zeros(len(floor_w))
    for k in rows:
        for e in range(row_start[k], row_start[k + 1]):
            rack_price[row_rack[e]] += price_w[k] * coef[e]
    worth = np.zeros(len(weight))
    for g in range(len(weight)):
        worth[g] = most_worth(
            g, gang_start, gang_rack, floor_w, at_w, per_w, rack_price, weight[g], thinned[g], knot_start, knot
        )
    return worth
