"""The question that is put to the kernels: whose power may be what, under which rows.

One place for the stage, for what-if questions and for the price of a limit, so that all of them ask the same.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controller.frames import Bools, Codes, Estimate, Floats, Ints, Limits, Reason, Rows
from controller.kernels.fill import Curve, FillInputs, FillResult, FillTopology, build_topology, fill
from controller.objective import Guarantees, guarantees
from controller.objective import served as served_by
from controller.plan import Plan
from controller.shed import shed_w
from drivers.site import catalog


@dataclass(frozen=True)
class Structure:
    """What changes only with the site. Rows that one rack loads alone are that rack's ceiling, not rows here."""

    kept: Ints  # [k] the rows of the kernel among all rows
    single: Bools  # [K + J]
    entry: Bools  # [nnz] entries of the kept rows
    alone: Ints  # the other entries, a rack's own ceilings
    alone_rack: Ints  # their racks
    alone_row: Ints  # and rows
    served: FillTopology  # gangs by class
    surplus: FillTopology  # every rack its own gang, one class
    curve_of: NDArray[np.int32]  # [R]
    promised: Guarantees | None
    weight: Floats  # [G] worth of a rack at full level, for the most work: its GPUs' power, on average 1


@dataclass(frozen=True)
class Bounds:
    """What each rack may draw by itself [R, W], and the row that is its ceiling (-1: none)."""

    floor_w: Floats
    demand_w: Floats
    most_w: Floats
    ceiling_w: Floats
    ceiling_row: Ints
    other_w: Floats  # of it that no cap reaches


def compile_structure(plan: Plan) -> Structure:
    """Structures of the kernel over the rows that more than one rack loads."""
    rows = plan.joint
    size = np.diff(rows.indptr)
    single = size == 1
    kept = np.flatnonzero(~single)
    start = np.concatenate(([0], np.cumsum(size[kept])))
    entry = ~single[rows.of_entry]
    curves, curve_of = rack_curves(plan)
    shared = (start, rows.racks[entry], rows.coeff[entry], curves)
    served = build_topology(plan.gang_of, plan.gang_class, *shared)
    return Structure(
        kept=kept,
        single=single,
        entry=entry,
        alone=np.flatnonzero(~entry),
        alone_rack=rows.racks[~entry],
        alone_row=rows.of_entry[~entry],
        served=served,
        surplus=build_topology(np.arange(len(plan.max_w)), np.zeros(len(plan.max_w)), *shared),
        curve_of=curve_of,
        promised=guarantees(plan, kept, served),
        weight=_weights(plan),
    )


def _weights(plan: Plan) -> Floats:
    """Mean GPU power of each gang's racks over the site's mean [G]: a rack of twice the power does twice the work."""
    racks = np.maximum(np.bincount(plan.gang_of, minlength=len(plan.gang_class)), 1)
    mean_w = np.bincount(plan.gang_of, plan.gpu_w, minlength=len(racks)) / racks
    return np.asarray(mean_w / plan.gpu_w.mean())


def rack_curves(plan: Plan) -> tuple[list[Curve], NDArray[np.int32]]:
    """The curves of GPU models and kinds of work at this site, and the curve of each rack [R]."""
    kinds = {j.id: j.kind for j in plan.site.jobs}
    keys = [(r.gpu_model, kinds.get(r.job, "inference")) for r in plan.site.racks]
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return [catalog.curve(model, kind) for model, kind in index], np.array([index[k] for k in keys], dtype=np.int32)


def bounds(
    plan: Plan, structure: Structure, known: Estimate, limits: Limits, before_w: Floats, left_w: Floats, codes: Codes
) -> Bounds:
    """Bounds of each rack by its demand, hold, constant charge and the rows it loads alone.

    `left_w` [R] is the most that losses which have happened leave it (inf: all), `codes` [R] are rungs.
    """
    told = shed_w(plan, codes)
    told = np.where(np.isfinite(known.constant_w), known.constant_w, told)
    constant = np.isfinite(told)
    floor_w = np.where(constant, told, plan.floor_w)
    most_w = np.where(limits.held, np.maximum(before_w, floor_w), plan.max_w)
    most_w = np.where(limits.parked, np.minimum(most_w, np.maximum(plan.safe_cap_w, floor_w)), most_w)
    most_w = np.where(constant, floor_w, most_w)
    ceiling_w, ceiling_row = _ceilings(structure, known.rows, limits.room_w, len(floor_w))
    ceiling_row = np.where(left_w < ceiling_w, -1, ceiling_row)
    ceiling_w = np.minimum(ceiling_w, np.maximum(left_w, floor_w))
    demand_w = np.clip(known.demand_w, floor_w, most_w)
    return Bounds(floor_w, demand_w, most_w, ceiling_w, ceiling_row, np.minimum(plan.other_w, floor_w))


def _ceilings(structure: Structure, rows: Rows, room_w: Floats, racks: int) -> tuple[Floats, Ints]:
    """Rows that touch one rack only are that rack's ceiling: (W [R], row [R])."""
    ceiling_w, row = np.full(racks, np.inf), np.full(racks, -1, dtype=np.int64)
    coeff, rack, at = rows.coeff[structure.alone], structure.alone_rack, structure.alone_row
    if not (coeff > 0.0).all():
        loads = coeff > 0.0
        coeff, rack, at = coeff[loads], rack[loads], at[loads]
    bound = room_w[at] / coeff
    np.minimum.at(ceiling_w, rack, bound)
    lowest = bound <= ceiling_w[rack]
    row[rack[lowest]] = at[lowest]
    return ceiling_w, row


def inputs(plan: Plan, structure: Structure, rows: Rows, room_w: Floats, bound: Bounds) -> FillInputs:
    """What the filling is given: levels up to the demand."""
    return FillInputs(
        floor_w=bound.floor_w,
        demand_w=np.maximum(bound.demand_w, bound.floor_w),
        ceiling_w=np.maximum(bound.ceiling_w, bound.floor_w),
        other_w=bound.other_w,
        gpu_w=plan.gpu_w,
        curve_of=structure.curve_of,
        limit_w=room_w[structure.kept],
        coef=None if rows is plan.joint else rows.coeff[structure.entry],
    )


@dataclass(frozen=True)
class Served:
    """Powers and levels under the rows, and what binds them."""

    power_w: Floats  # [R]
    level: Floats  # [R] of the rack's gang
    reason: Codes  # [R] FREE, ROW, FLOOR or LOST
    row: Ints  # [R] the row that binds the rack's gang, -1 if none
    tight: Bools  # [K + J]
    violated: Bools  # [K + J] the floors alone exceed it


def serve(plan: Plan, structure: Structure, rows: Rows, room_w: Floats, bound: Bounds) -> Served:
    """The levels of the site's objective, up to every rack's demand: guarantees first, then fair or the most work."""
    given = inputs(plan, structure, rows, room_w, bound)
    result = served_by(plan.site.control.objective, structure.served, given, structure.weight, structure.promised)
    reason, row = _binding(structure, result, bound.ceiling_row)
    tight, violated = np.zeros(len(structure.single), dtype=np.bool_), np.zeros(len(structure.single), dtype=np.bool_)
    tight[structure.kept], violated[structure.kept] = result.tight, result.violated
    tight[row[row >= 0]] = True  # a rack's own ceiling that holds its gang
    return Served(result.power_w, result.level[plan.gang_of], reason[plan.gang_of], row[plan.gang_of], tight, violated)


def _binding(structure: Structure, result: FillResult, ceiling_row: Ints) -> tuple[Codes, Ints]:
    """Reason and row of each gang [G]: a shared row, a member's own ceiling, the floors."""
    bound = result.binding_row
    shared, own = bound >= 0, bound <= -2
    reason = np.where(shared | own, Reason.ROW, Reason.FREE).astype(np.uint8)
    row = np.full(len(bound), -1, dtype=np.int64)
    row[shared], row[own] = structure.kept[bound[shared]], ceiling_row[-2 - bound[own]]
    reason[own & (row < 0)] = Reason.LOST
    short = shared & result.at_floor
    reason[short] = np.where(result.violated[bound[short]], Reason.FLOOR, Reason.ROW)
    return reason, row


def surplus(plan: Plan, structure: Structure, rows: Rows, room_w: Floats, bound: Bounds, served: Served) -> Floats:
    """What is left after every demand is met, as head room for peaks: caps [R, W], rack by rack."""
    # every rack is in the envelope row: once that is tight nothing is left to hand out
    if served.tight[plan.envelope_row] or not (served.power_w < bound.most_w).any():
        return served.power_w
    more = replace(bound, floor_w=served.power_w, demand_w=bound.most_w)
    return fill(structure.surplus, inputs(plan, structure, rows, room_w, more)).power_w


def safest(plan: Plan, structure: Structure, rows: Rows, room_w: Floats, ceiling_w: Floats, most_w: Floats) -> Floats:
    """Caps up to `most_w` [R, W] that fit every row together, in whole steps of each actuator."""
    nobody = np.full(len(most_w), -1, dtype=np.int64)
    bound = Bounds(plan.floor_w, most_w, most_w, ceiling_w, nobody, plan.other_w)
    caps = fill(structure.surplus, inputs(plan, structure, rows, room_w, bound)).power_w
    return np.maximum(np.floor(caps / plan.resolution_w) * plan.resolution_w, plan.floor_w)
