"""The guard's own idea of the protections: how far each is on its way to a trip, and what that still permits.

It shares nothing with the limits' kernel and policy: NumPy, straight from the catalog's lower edges. Where the site
file plans no overload, the continuous rating is all that it permits.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Floats, Ints
from controller.plan import Plan
from drivers.site.catalog import TRIP_CURVES, TripCurve

AHEAD_S = 5.0  # cycles until a smaller limit is in force; the racks' reaction comes on top


@dataclass(frozen=True)
class Group:
    """The nodes of a curve with credit; its loads, and how long each is held, next to nothing beyond the last."""

    curve: TripCurve
    nodes: Ints
    loads: Floats
    hold_s: Floats


@dataclass(frozen=True)
class Breakers:
    """State of the protections: used [N], 0 cold and 1 tripped, and the load last seen as multiple of the rating."""

    groups: tuple[Group, ...]
    used: Floats
    multiple: Floats


def begin(plan: Plan) -> Breakers:
    """Before the first cycle: a predecessor may have used what was planned."""
    names = np.array([n.trip_curve for n in plan.site.nodes])
    found = [(TRIP_CURVES[name], np.flatnonzero(names == name)) for name in sorted(set(names) - {""})]
    n = len(names)
    groups = tuple(_group(curve, nodes) for curve, nodes in found if curve.credit)
    return Breakers(groups, np.full(n, plan.site.control.planned_overload), np.full(n, np.nan))


def _group(curve: TripCurve, nodes: Ints) -> Group:
    loads, times_s = np.array(curve.points).T
    return Group(curve, nodes, loads, np.append(times_s, 1e-9))


def follow(last: Breakers, multiple: Floats, dt_s: float) -> Breakers:
    """State after `dt_s` [s] at the larger of the last two loads [N]; an unknown load (NaN) stays what it was.

    What was never known neither heats nor cools.
    """
    now = np.where(np.isnan(multiple), last.multiple, multiple)
    load = np.fmax(now, last.multiple)
    used = last.used.copy()
    for group in last.groups:
        at, curve = load[group.nodes], group.curve
        hold_s = group.hold_s[np.searchsorted(group.loads, at)]
        change = np.where(at > curve.continuous, dt_s / hold_s, -dt_s / curve.cool_s)
        moved = used[group.nodes] + np.where(np.isnan(at), 0.0, change)
        used[group.nodes] = np.minimum(np.maximum(moved, 0.0), 1.0)
    return Breakers(last.groups, used, now)


def permitted(plan: Plan, state: Breakers) -> Floats:
    """Largest multiple of the continuous rating from which the way back still leaves the site's margin [N]."""
    out = np.ones(len(state.used))
    if plan.site.control.planned_overload <= 0.0:
        return out
    need_s = AHEAD_S + float(plan.reaction_s.max()) + plan.site.control.trip_margin_s
    for group in state.groups:
        nodes = group.nodes
        for load, hold_s in group.curve.points:
            out[nodes] = np.where((1.0 - state.used[nodes]) * hold_s > need_s, np.maximum(out[nodes], load), out[nodes])
    return out
