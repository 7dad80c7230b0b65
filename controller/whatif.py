"""The filling of this cycle solved again, with one limit changed: prices of rows and the limit behind a limit.

Pure: it reads frames and the allocation's last state and touches neither.
"""

from dataclasses import dataclass, replace

import numpy as np

from controller import allocate, problem
from controller.frames import Estimate, Floats, Frames, Limits
from controller.plan import Plan
from drivers.site import catalog

STEP_W = 1000.0  # a price is what one kW more gains


@dataclass(frozen=True)
class Solved:
    """Levels and powers of all racks under some limits, before hysteresis and pace, and what that is worth."""

    served: problem.Served
    work: float  # racks' worth of full-speed work


def solve(plan: Plan, known: Estimate, bounds: Limits, state: allocate.AllocateState) -> Solved:
    """The levels of the serving stage under `bounds`."""
    before_w = np.where(np.isfinite(state.cap_w), state.cap_w, plan.max_w)
    bound = problem.bounds(plan, state.structure, known, bounds, before_w, state.response.cap_w, state.response.codes)
    served = problem.serve(plan, state.structure, known.rows, bounds.room_w, bound)
    return Solved(served, float(served.level @ _full_work(plan, state, bound.demand_w)))


def widened(bounds: Limits, row: int, by_w: float) -> Limits:
    """The same limits with one row's room wider by `by_w` [W, inf: no limit]."""
    room_w = bounds.room_w.copy()
    room_w[row] += by_w
    return replace(bounds, room_w=room_w)


def price(plan: Plan, frames: Frames, state: allocate.AllocateState, base: Solved, row: int) -> float:
    """Work gained when the limit of `row` rises by 1 kW and the same objective is solved again [racks' worth]."""
    more = solve(plan, frames.estimate, widened(frames.limits, row, STEP_W), state)
    return more.work - base.work


def _full_work(plan: Plan, state: allocate.AllocateState, demand_w: Floats) -> Floats:
    """Work of each rack at its demand: its curve's throughput, 1 at nameplate [R]."""
    share = np.clip((demand_w - plan.other_w) / np.maximum(plan.gpu_w, 1.0), 0.0, None)
    kinds = {j.id: j.kind for j in plan.site.jobs}
    curve_of = state.structure.curve_of
    work = np.zeros(len(share))
    for curve, first in zip(*np.unique(curve_of, return_index=True), strict=True):
        rack = plan.site.racks[first]
        power, throughput = catalog.curve(rack.gpu_model, kinds.get(rack.job, "inference"))
        mine = curve_of == curve
        work[mine] = np.interp(share[mine], (0.0, *power), (0.0, *throughput))
    return work
