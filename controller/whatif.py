"""The question of this cycle put to the kernels again, with one limit changed: prices, and the limit behind a limit.

Pure: it reads frames and the allocation's last state and touches neither.
"""

from dataclasses import dataclass, replace

import numpy as np

from controller import allocate, problem
from controller.frames import Estimate, Floats, Frames, Limits
from controller.kernels.fill import build_topology
from controller.kernels.work import throughput
from controller.objective import guarantee_stage
from controller.plan import Plan

STEP_W = 1000.0  # a price is what one kW more gains
SHARP, SHARP_ROUNDS = 1e-5, 200  # how near the bounds must be for prices to mean something, and the most it may take


@dataclass(frozen=True)
class Solved:
    """Levels and powers of all racks under some limits, before hysteresis and pace, and what that is worth."""

    bound: problem.Bounds
    served: problem.Served
    work: float  # weighted: racks' worth at full level


def solve(plan: Plan, known: Estimate, bounds: Limits, state: allocate.AllocateState) -> Solved:
    """The levels of the serving stage under `bounds`."""
    bound = _bound(plan, known, bounds, state)
    served = problem.serve(plan, state.structure, known.rows, bounds.room_w, bound)
    return Solved(bound, served, float(served.level @ state.structure.weight[plan.gang_of]))


def _bound(plan: Plan, known: Estimate, bounds: Limits, state: allocate.AllocateState) -> problem.Bounds:
    before_w = np.where(np.isfinite(state.cap_w), state.cap_w, plan.max_w)
    left_w, codes = state.response.cap_w, state.response.codes
    return problem.bounds(plan, state.structure, known, bounds, before_w, left_w, codes)


def widened(bounds: Limits, row: int, by_w: float) -> Limits:
    """The same limits with one row's room wider by `by_w` [W, inf: no limit]."""
    room_w = bounds.room_w.copy()
    room_w[row] += by_w
    return replace(bounds, room_w=room_w)


def price(plan: Plan, frames: Frames, state: allocate.AllocateState, base: Solved, row: int) -> float:
    """Weighted work gained when the limit of `row` rises by 1 kW and the same objective is solved again.

    One-sided; zero or negative where it is: fairness may spend the kW on a gang that gives less for it. Under
    `throughput` it is the dual of the linear program (CONTROL.md).
    """
    if plan.site.control.objective == "throughput":
        return float(duals(plan, frames, state, base)[row])
    more = widened(frames.limits, row, STEP_W)
    if state.structure.single[row]:  # a rack's own limit: with an equal one beside it nothing changes
        ceiling_w = _bound(plan, frames.estimate, more, state).ceiling_w
        if np.array_equal(ceiling_w, base.bound.ceiling_w):
            return 0.0
    return solve(plan, frames.estimate, more, state).work - base.work


def duals(plan: Plan, frames: Frames, state: allocate.AllocateState, base: Solved) -> Floats:
    """What one kW more in each row is worth to the most work [K + J].

    Of equal rows one may carry the price of all. What a gang that cannot reach its knee would gain is not in it.
    """
    structure, rows, room_w = state.structure, frames.estimate.rows, frames.limits.room_w
    given = problem.inputs(plan, structure, rows, room_w, base.bound)
    floor_w = guarantee_stage(structure.promised, structure.served, given)
    curves, _ = problem.rack_curves(plan)
    whole = build_topology(plan.gang_of, plan.gang_class, rows.indptr, rows.racks, rows.coeff, curves)
    ceiling_w = np.maximum(state.response.cap_w, floor_w)  # those of single racks stand as rows here
    given = replace(given, floor_w=floor_w, ceiling_w=ceiling_w, limit_w=room_w, coef=None)
    result = throughput(whole, given, structure.weight, near=SHARP, most_rounds=SHARP_ROUNDS)
    return STEP_W * result.price
