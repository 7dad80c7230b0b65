"""The filling of this cycle solved again, with one limit changed: prices of rows and the limit behind a limit.

Pure: it reads frames and the allocation's last state and touches neither.
"""

from dataclasses import dataclass, replace

import numpy as np

from controller import allocate
from controller.frames import Bools, Estimate, Floats, Frames, Ints, Limits
from controller.kernels.fill import FillInputs, FillResult, fill
from controller.plan import Plan
from drivers.site import catalog

STEP_W = 1000.0  # a price is what one kW more gains


@dataclass(frozen=True)
class Solved:
    """Levels and powers of all racks under some limits, before hysteresis and pace."""

    power_w: Floats  # [R]
    level: Floats  # [R] of the rack's gang
    row: Ints  # [R] row that binds the rack's gang, -1 where none does
    tight: Bools  # [K]
    work: float  # racks' worth of full-speed work


def solve(plan: Plan, known: Estimate, bounds: Limits, state: allocate.AllocateState) -> Solved:
    """The levels of the serving stage under `bounds`."""
    inputs, ceiling_row = _inputs(plan, known, bounds, state)
    result = fill(state.served, inputs)
    multi = np.flatnonzero(~plan.single)
    tight = np.zeros(len(plan.row_name), dtype=np.bool_)
    tight[multi] = result.tight
    row = _row(result, multi, ceiling_row)[plan.gang_of]
    own = row[row >= 0]
    tight[own[plan.single[own]]] = True
    level = result.level[plan.gang_of]
    return Solved(result.power_w, level, row, tight, float(level @ _full_work(plan, inputs)))


def widened(bounds: Limits, row: int, by_w: float) -> Limits:
    """The same limits with one row's room wider by `by_w` [W, inf: no limit]."""
    room_w = bounds.room_w.copy()
    room_w[row] += by_w
    return replace(bounds, room_w=room_w)


def price(plan: Plan, frames: Frames, state: allocate.AllocateState, base: Solved, row: int) -> float:
    """Work gained when the limit of `row` rises by 1 kW and the same objective is solved again [racks' worth]."""
    more = solve(plan, frames.estimate, widened(frames.limits, row, STEP_W), state)
    return more.work - base.work


def _inputs(plan: Plan, known: Estimate, bounds: Limits, state: allocate.AllocateState) -> tuple[FillInputs, Ints]:
    """What the serving stage is given, and the row that is each rack's ceiling [R]."""
    rows, room_w = known.rows, bounds.room_w
    ceiling_w, ceiling_row = allocate._ceilings(plan, rows, room_w)
    constant = np.isfinite(known.constant_w)
    floor_w = np.where(constant, known.constant_w, plan.floor_w)
    before_w = np.where(np.isfinite(state.cap_w), state.cap_w, plan.max_w)
    most_w = np.where(constant, floor_w, np.where(bounds.held, np.maximum(before_w, floor_w), plan.max_w))
    inputs = FillInputs(
        floor_w=floor_w,
        demand_w=np.maximum(np.clip(known.demand_w, floor_w, most_w), floor_w),
        ceiling_w=np.maximum(ceiling_w, floor_w),
        other_w=plan.other_w,
        gpu_w=plan.gpu_w,
        curve_of=state.curve_of,
        limit_w=room_w[~plan.single],
        coef=rows.coeff[~plan.single[rows.of_entry]],
    )
    return inputs, ceiling_row


def _row(result: FillResult, multi: Ints, ceiling_row: Ints) -> Ints:
    """The row that binds each gang [G], -1 where none does."""
    bound = result.binding_row
    shared, own = bound >= 0, bound <= -2
    row = np.full(len(bound), -1, dtype=np.int64)
    row[shared], row[own] = multi[bound[shared]], ceiling_row[-2 - bound[own]]
    return row


def _full_work(plan: Plan, inputs: FillInputs) -> Floats:
    """Work of each rack at its demand: its curve's throughput, 1 at nameplate [R]."""
    share = np.clip((inputs.demand_w - plan.other_w) / np.maximum(plan.gpu_w, 1.0), 0.0, None)
    kinds = {j.id: j.kind for j in plan.site.jobs}
    keys = [(r.gpu_model, kinds.get(r.job, "inference")) for r in plan.site.racks]
    work = np.zeros(len(share))
    for model, kind in dict.fromkeys(keys):
        mine = np.array([key == (model, kind) for key in keys])
        power, throughput = catalog.curve(model, kind)
        work[mine] = np.interp(share[mine], (0.0, *power), (0.0, *throughput))
    return work
