"""The concave hull of a curve above its knee, and racks as the upper edge of straight lines over the level."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.kernels.fill import FillInputs, FillTopology
from controller.kernels.fill_build import Curve

Floats = NDArray[np.float64]
SAME = 1e-12  # relative: two slopes that differ by less are one


def hull_above_knee(curve: Curve) -> Curve:
    """The least concave curve that is nowhere below `curve` from its knee on; it begins at the knee.

    The knee is the lowest power share at which throughput per watt of GPU power is greatest, the curve being
    continued by a straight line to (0, 0) as `fill` does. A curve that is steepest from (0, 0) on has no knee: its
    hull begins at its own first point. ValueError unless the curve rises strictly.
    """
    x, y = (np.asarray(v, np.float64) for v in curve)
    hull, knee = _hull(x, y)
    first = max(knee, x[0])
    kept = hull[hull[:, 0] >= first * (1.0 - SAME)]
    if kept[0, 0] > first:
        kept = np.vstack(([first, np.interp(first, hull[:, 0], hull[:, 1])], kept))
    return tuple(kept[:, 0].tolist()), tuple(kept[:, 1].tolist())


def _hull(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Corners of the concave hull from (0, 0) on, [V, 2], and the power share of the knee (0: none)."""
    if x[0] > 0.0:
        x, y = np.append(0.0, x), np.append(0.0, y)
    if len(x) < 2 or not ((np.diff(x) > 0.0).all() and (np.diff(y) > 0.0).all()):
        raise ValueError("a curve must rise strictly")
    corners = [0]
    for i in range(1, len(x)):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            if (y[b] - y[a]) * (x[i] - x[b]) > (y[i] - y[b]) * (x[b] - x[a]) * (1.0 + SAME):
                break
            corners.pop()
        corners.append(i)
    per_watt = y[1:] / x[1:]
    best = per_watt >= per_watt.max() * (1.0 - SAME)
    knee = 0.0 if best[0] else float(x[1 + np.argmax(best)])
    return np.column_stack((x[corners], y[corners])), knee


class Hulls(NamedTuple):
    """Hulls of C curves as lines: throughput is the least rise + slope x share. The last line repeats."""

    rise: Floats  # [C, J]
    slope: Floats  # [C, J]
    knee: Floats  # [C] power share


def hulls(curves: Sequence[Curve]) -> Hulls:
    """Lines of the hulls of some curves."""
    found = [_hull(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in curves]
    most = max(len(corners) for corners, _ in found) - 1
    rise, slope = np.zeros((len(found), most)), np.zeros((len(found), most))
    for c, (corners, _) in enumerate(found):
        step = np.diff(corners, axis=0)
        slope[c, : len(step)] = step[:, 1] / step[:, 0]
        rise[c, : len(step)] = corners[:-1, 1] - corners[:-1, 0] * slope[c, : len(step)]
        slope[c, len(step) :], rise[c, len(step) :] = slope[c, len(step) - 1], rise[c, len(step) - 1]
    return Hulls(rise, slope, np.array([knee for _, knee in found]))


def topology_hulls(topology: FillTopology) -> Hulls:
    """Hulls of a topology's curves; the straight line of racks without GPU power comes last."""
    points = [k[np.isfinite(k[:, 0])] for k in topology.knots]
    return hulls([(k[:, 0].tolist(), k[:, 1].tolist()) for k in points])


class Racks(NamedTuple):
    """Power of each rack over its gang's level: max(floor, line by line `at + per x level`), at most the demand.

    Convex in the level. Powers in W; a constant rack stands at its floor.
    """

    floor_w: Floats  # [R]
    demand_w: Floats  # [R]
    knee_w: Floats  # [R] floor or knee, whichever is higher, as far as demand and ceiling allow
    ceiling_w: Floats  # [R]
    at_w: Floats  # [R, J]
    per_w: Floats  # [R, J] W for the whole way from level 0 to 1


def racks_of(topology: FillTopology, inputs: FillInputs) -> Racks:
    """Racks of some inputs; rules of demand, other power and floor as in `fill`."""
    hull = topology_hulls(topology)
    demand_w = np.maximum(inputs.demand_w, inputs.floor_w)
    plain = (inputs.gpu_w <= 0.0) | (demand_w <= inputs.other_w)  # no GPU power to shape: a line through nothing
    other_w, gpu_w = np.where(plain, 0.0, inputs.other_w), np.where(plain, demand_w, inputs.gpu_w)
    curve = np.where(plain, len(hull.knee) - 1, inputs.curve_of)
    floor_w = np.maximum(inputs.floor_w, other_w)
    rise, slope = hull.rise[curve], hull.slope[curve]
    fixed = floor_w >= demand_w
    gpu_w = np.where(fixed, 1.0, gpu_w)[:, None]
    top = (rise + slope * ((demand_w - other_w)[:, None] / gpu_w)).min(axis=1, keepdims=True)
    at_w, per_w = other_w[:, None] - gpu_w * rise / slope, gpu_w * top / slope
    at_w[fixed], per_w[fixed] = floor_w[fixed, None], 0.0
    demand_w = np.maximum(demand_w, floor_w)
    ceiling_w = np.maximum(inputs.ceiling_w, floor_w)
    knee_w = other_w + gpu_w[:, 0] * hull.knee[curve]
    knee_w = np.where(fixed, floor_w, np.maximum(floor_w, np.minimum(knee_w, np.minimum(demand_w, ceiling_w))))
    return Racks(floor_w, demand_w, knee_w, ceiling_w, at_w, per_w)


def level_at(racks: Racks, power_w: Floats) -> Floats:
    """Level at which each rack takes a power [R]; 1 for a constant and from the demand on."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = ((power_w[:, None] - racks.at_w) / racks.per_w).min(axis=1)
    free = (racks.per_w[:, 0] > 0.0) & (power_w < racks.demand_w)
    return np.where(free, np.clip(reached, 0.0, 1.0), 1.0)
