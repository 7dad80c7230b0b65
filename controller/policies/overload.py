"""Time-current limits: the state of every protection, what it allows now, and short overloads that are paid back.

The state follows the pessimistic load: the larger of the last two samples, in the rating's own unit where it is
measured, and what their means of a second hide of swings, as far as the caps in force leave room for it. Planned
overloads need credit in the catalog and `control.planned_overload` in the site file: a node may use that share of its
curve, steps down as it is used up and then stays at its rating until a quarter of it is left.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Floats, Image, Ints
from controller.kernels.trip import TripTable, advance, allowed, compile_trip, time_to_trip
from controller.plan import Plan

DENIED = 1.03  # its children show more than this times its meter
PAID_BACK = 0.25  # of the budget: below it an overload may begin again
SWING = 0.05  # peak of a load over its mean of a second in which it moves by 10 % (FACTS P.3: 64 nodes in training)
LOOK_S = 4.0  # until a new limit is caps at the agents: two cycles, one of them lost, and a sample on either side


@dataclass(frozen=True)
class Protections:
    """What the site file says of each node's protection."""

    table: TripTable
    counted: Ints  # nodes whose curve has credit: the others keep no state
    ahead_s: Floats  # [N] from a new limit until the load below has followed it
    planned: Floats  # [N] largest overload that may ever be planned, 1 is none


@dataclass(frozen=True)
class TripState:
    """How far each protection is on its way, and the sample that it was last seen at."""

    trip_used: Floats  # [N] 0 cold, 1 tripped
    multiple: Floats  # [N] of the continuous rating, 0 where no state is kept


def compile_protections(plan: Plan) -> Protections:
    """Curves and reaction times of a compiled plan; KeyError on a curve that the catalog does not have."""
    control, n = plan.site.control, len(plan.parent)
    table = compile_trip(plan.site)
    reaction_s = np.zeros(len(plan.row_name))
    np.maximum.at(reaction_s, plan.rows.of_entry, plan.reaction_s[plan.rows.racks])
    ahead_s = LOOK_S + reaction_s[plan.node_row]
    budget = control.planned_overload
    nodes, full = np.arange(n), np.full(n, budget)
    # with its budget used up it is still the margin away from its trip, and a step is worth taking at all
    safe = allowed(table, nodes, full, ahead_s + control.trip_margin_s, np.ones(n))
    long_enough = allowed(table, nodes, PAID_BACK * full, 2.0 * ahead_s, _share(budget, PAID_BACK * full))
    planned = np.minimum(safe, long_enough)
    counted = np.flatnonzero(table.steps[table.curve_of] > 0)
    return Protections(table, counted, ahead_s, np.where(planned > table.continuous[table.curve_of], planned, 1.0))


def begin(plan: Plan) -> TripState:
    """Before the first cycle: a predecessor may have used all that was planned."""
    n = len(plan.parent)
    return TripState(np.full(n, plan.site.control.planned_overload), np.full(n, np.nan))


def follow(
    plan: Plan,
    protections: Protections,
    image: Image,
    load_w: Floats,
    other_w: Floats,
    rating_w: Floats,
    last: TripState,
    dt_s: float,
) -> TripState:
    """State after `dt_s` [s]; `load_w` and `other_w` [K] are the estimate's, `rating_w` [N] the continuous rating.

    A node without a fresh meter, or a complete sum of its children, counts the largest of its last sample, the load
    thought of and what the charges of its racks allow.
    """
    at = protections.counted
    shown = _native(plan, image, at)
    power_w = image.good[plan.node_slot.power[at]]
    thought = load_w[at] / rating_w[at]  # the rows of nodes come first
    denied = image.below_w[at] > power_w * DENIED
    now = np.where(denied, np.fmax(shown, thought), np.where(np.isfinite(shown), shown, thought))
    blind = ~(np.isfinite(shown) | np.isfinite(power_w) | np.isfinite(image.summed_w[at]))
    most_w = np.where(np.isfinite(image.charge_w), image.charge_w, plan.max_w)
    charged = (image.rows.dot(most_w)[at] + other_w[at]) / rating_w[at]
    if blind.any():
        now = np.where(blind, np.fmax(np.fmax(thought, charged), last.multiple[at]), now)
    multiple, peak = np.zeros(len(rating_w)), np.zeros(len(rating_w))
    multiple[at] = np.where(np.isnan(now), np.inf, now)
    load = np.fmax(multiple, last.multiple)
    peak[at] = np.minimum(np.maximum(charged, load[at]), load[at] * (1.0 + SWING))
    return TripState(advance(protections.table, last.trip_used, peak, max(dt_s, 0.0)), multiple)


def allowed_w(
    plan: Plan, protections: Protections, rating_w: Floats, trip_used: Floats, most: Floats
) -> tuple[Floats, Floats]:
    """Power that each node may carry now [N, W], and the largest multiple until it has paid back [N, inf: free].

    `rating_w` is continuous; `most` is the last answer's second part, infinite before the first.
    """
    budget = plan.site.control.planned_overload
    if budget <= 0.0:
        return rating_w, np.full(len(rating_w), np.inf)
    nodes, table = np.arange(len(rating_w)), protections.table
    step = allowed(table, nodes, trip_used, protections.ahead_s, _share(budget, trip_used))
    step = np.where(step > table.continuous[table.curve_of], np.minimum(step, protections.planned), 1.0)
    most = np.minimum(np.where(trip_used < PAID_BACK * budget, np.inf, most), step)
    return rating_w * most, np.where(trip_used < PAID_BACK * budget, np.inf, most)


def left_s(protections: Protections, state: TripState) -> Floats:
    """Time until each node trips at the load it was last seen at [N, s]; infinite where no state is kept."""
    return time_to_trip(protections.table, state.trip_used, state.multiple)


def loss_multiple(
    plan: Plan, protections: Protections, trip_used: Floats, node_of: Ints, hold_s: Floats, weight: Floats
) -> Floats:
    """Multiple of its rating that survivor `node_of` [J] carries for `hold_s` on `weight` of what is left [J].

    At the end of each interval it is still `control.trip_margin_s` away from its trip at that load.
    """
    return allowed(protections.table, node_of, trip_used, hold_s + plan.site.control.trip_margin_s, weight)


def _share(budget: float, used: Floats) -> Floats:
    """Part of what is left to the trip that the budget still gives."""
    return np.maximum(budget - used, 0.0) / np.maximum(1.0 - used, 1e-9)


def _native(plan: Plan, image: Image, at: Ints) -> Floats:
    """Measured load of nodes `at` as multiple of the derated rating, in its own unit; NaN where not measured."""
    slot = plan.node_slot
    a, b, c = (image.good[slot.current[at, k]] for k in range(3))
    volt = image.good[slot.volt[at]] * slot.volt_scale[at]
    apparent = np.fmax(image.good[slot.apparent[at]], plan.phase[at] * volt * ((a + b + c) / 3.0))
    worst_a, power = np.maximum(np.maximum(a, b), c), image.good[slot.power[at]]
    shown = np.where(plan.in_amps[at], worst_a, np.where(plan.in_va[at], apparent, power))
    return np.asarray(np.abs(shown) / plan.rating[at])
