"""The corrective set: caps for the state after a loss, inside continuous ratings, kept ready before it happens.

It may only lower, and only racks under a survivor that the caps in force would overload. Lower classes give first,
every rack by itself; the rest of a gang follows within the site's ramp. Pure functions of frozen frames.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from controller.aftermath import TOLERANCE, After, Kit, arrives_s, compile_kit, may_come, overloads, survivors, urgent
from controller.frames import Bools, Codes, Estimate, Floats, Ints, Limits, Rows, Shed
from controller.kernels.fill import FillInputs, build_topology, fill
from controller.kernels.trip import time_to_trip
from controller.shed import Shedding, ladder, shed_w
from controller.steps import whole

__all__ = [
    "Correction",
    "Kit",
    "Prepared",
    "compile_kit",
    "corrective",
    "overloads",
    "recheck",
    "solve_all",
    "solve_each",
]


@dataclass(frozen=True)
class Correction:
    """Caps after one loss: only those that are lowered, and racks to shed where floors do not fit."""

    case: int
    rack: Ints
    cap_w: Floats  # of these racks
    shed_rack: Ints
    shed_code: Codes
    said: tuple[str, ...]
    fits: bool  # every survivor holds with it

    def caps(self, cap_w: Floats) -> Floats:
        """The lower of the caps in force [R] and these."""
        out = cap_w.copy()
        out[self.rack] = np.minimum(out[self.rack], self.cap_w)
        return out

    def codes(self, codes: Codes) -> Codes:
        """The higher of the rungs in force [R] and these."""
        out = codes.copy()
        out[self.shed_rack] = np.maximum(out[self.shed_rack], self.shed_code)
        return out


@dataclass(frozen=True)
class Prepared:
    """The corrections of all losses that need one, by number of the case."""

    of_case: Mapping[int, Correction]


def corrective(
    kit: Kit,
    case: int,
    estimate: Estimate,
    limits: Limits,
    cap_w: Floats,
    codes: Codes | None = None,
    after: After | None = None,
    since_s: float = np.inf,
    alive: Bools | None = None,
) -> Correction:
    """The corrective set of one loss; `codes` [R] are rungs in force, `after` the overloads if they are known.

    `since_s` after the loss and with the nodes `alive` [N] now, some stages need no answer yet (aftermath.may_come).
    """
    after = after or overloads(kit, estimate, limits, cap_w, codes)
    losses = kit.plan.losses
    stages = may_come(kit, case, since_s, alive)
    cells = np.flatnonzero((losses.delta_case == case) & after.over)
    cells = cells[stages[losses.delta_stage[cells]]]
    heat = np.flatnonzero((kit.heat_case == case) & urgent(kit, after))
    heat = heat[stages[kit.heat_stage[heat]]]
    if not len(cells) and not len(heat):
        return nothing(case)
    rows, room_w, names = survivors(kit, estimate, after, cells, heat)
    codes = np.zeros(len(cap_w), dtype=np.uint8) if codes is None else codes
    fixed = np.isfinite(estimate.constant_w) | (codes > Shed.NONE)
    least = np.where(fixed, after.held_w, np.minimum(kit.plan.floor_w, cap_w))
    shedding = None
    if (rows.dot(least) > room_w * (1.0 + TOLERANCE)).any():
        reach = ~np.isfinite(estimate.constant_w)
        shedding = ladder(kit.plan, rows, room_w, least, names, codes, reach)
        shed = shed_w(kit.plan, shedding.codes)
        least = np.fmin(least, shed)
        fixed = fixed | (shedding.codes > codes)
    lean_w = np.maximum(_lean(kit, rows, room_w, after.held_w, least, fixed), rows.dot(least))
    power_w = _lower(kit, estimate, rows, lean_w, least, np.where(fixed, least, cap_w))
    power_w = _before_the_slow(kit, estimate, after, cells, rows, room_w, least, fixed, power_w)
    holds = bool((rows.dot(power_w) <= room_w * (1.0 + 1e-6) + 1.0).all())
    return _correction(kit, case, estimate, cap_w, codes, power_w, shedding, holds)


def solve_each(
    kit: Kit, estimate: Estimate, limits: Limits, cap_w: Floats, codes: Codes | None = None
) -> Generator[None, None, Prepared]:
    """Every loss's corrective set, one a step; losses that overload nothing cost one pass together."""
    after = overloads(kit, estimate, limits, cap_w, codes)
    yield
    out: dict[int, Correction] = {}
    for case in np.union1d(kit.plan.losses.delta_case[after.over], kit.heat_case[urgent(kit, after)]).tolist():
        out[case] = corrective(kit, case, estimate, limits, cap_w, codes, after, since_s=0.0)
        yield
    return Prepared(out)


def solve_all(kit: Kit, estimate: Estimate, limits: Limits, cap_w: Floats, codes: Codes | None = None) -> Prepared:
    """The same at once."""
    return whole(solve_each(kit, estimate, limits, cap_w, codes))


def recheck(
    kit: Kit,
    correction: Correction,
    estimate: Estimate,
    limits: Limits,
    cap_w: Floats,
    codes: Codes | None = None,
    since_s: float = 0.0,
    alive: Bools | None = None,
) -> Correction:
    """What to apply now: the prepared set, or that and what the present state asks beyond it."""
    now = np.zeros(len(cap_w), dtype=np.uint8) if codes is None else codes
    caps_w, rungs = correction.caps(cap_w), correction.codes(now)
    more = corrective(kit, correction.case, estimate, limits, caps_w, rungs, None, since_s, alive)
    caps_w, rungs = more.caps(caps_w), more.codes(rungs)
    rack, shed = np.flatnonzero(caps_w < cap_w), np.flatnonzero(rungs > now)
    said = tuple(dict.fromkeys(correction.said + more.said))
    return Correction(correction.case, rack, caps_w[rack], shed, rungs[shed], said, more.fits)


def nothing(case: int) -> Correction:
    """The set of a loss that overloads nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Correction(case, none, np.zeros(0), none, np.zeros(0, dtype=np.uint8), (), True)


def _lean(kit: Kit, rows: Rows, room_w: Floats, held_w: Floats, least: Floats, fixed: Bools) -> Floats:
    """Room that leaves a margin for racks that do not obey: the site's share of the cut, the largest at least.

    A row with one such rack has none: nobody else is there to make up for it.
    """
    share = kit.plan.site.control.disobedient_share
    if share <= 0.0:
        return room_w
    able = np.where(fixed, 0.0, 1.0)
    now_w = rows.dot(held_w * able)
    fixed_w, obey = rows.dot(held_w * (1.0 - able)), max(1.0 - share, 1e-9)
    lean_w = (room_w - fixed_w - share * now_w) / obey + fixed_w
    largest = np.zeros(len(room_w))
    np.maximum.at(largest, rows.of_entry, rows.coeff * (able * np.maximum(held_w - least, 0.0))[rows.racks])
    several = np.bincount(rows.of_entry, able[rows.racks], minlength=len(room_w)) > 1.0
    return np.where(several, np.minimum(np.minimum(lean_w, room_w - largest), room_w), room_w)


def _lower(kit: Kit, estimate: Estimate, rows: Rows, room_w: Floats, least: Floats, most: Floats) -> Floats:
    """Powers up to `most` [R] under the rows: what the racks ask first, then what is left, class by class."""
    plan = kit.plan
    racks, local = np.unique(rows.racks, return_inverse=True)
    most = np.maximum(most, least)
    topology = build_topology(np.arange(len(racks)), kit.priority[racks], rows.indptr, local, rows.coeff, kit.curves)
    power_w = least[racks]
    for want_w in (np.clip(estimate.demand_w, least, most), most):
        inputs = FillInputs(
            floor_w=power_w,
            demand_w=np.maximum(want_w[racks], power_w),
            ceiling_w=np.full(len(racks), np.inf),
            other_w=np.minimum(plan.other_w[racks], power_w),
            gpu_w=plan.gpu_w[racks],
            curve_of=kit.curve_of[racks],
            limit_w=room_w,
        )
        power_w = fill(topology, inputs).power_w
    out = most.copy()
    out[racks] = np.minimum(power_w, most[racks])
    return out


def _before_the_slow(
    kit: Kit,
    estimate: Estimate,
    after: After,
    cells: Ints,
    rows: Rows,
    room_w: Floats,
    least: Floats,
    fixed: Bools,
    power_w: Floats,
) -> Floats:
    """Lower the fast racks further where a survivor would trip before the slow ones have acted."""
    losses = kit.plan.losses
    count, node = len(cells), losses.delta_node[cells]
    times = np.unique(losses.act_s[np.unique(rows.racks)])
    comes_s = np.array([arrives_s(kit, d) for d in cells.tolist()])
    table = replace(kit.table, curve_of=kit.table.curve_of[node])
    for begin_s, end_s in pairwise(times):
        slow = (losses.act_s > begin_s) & ~fixed
        load_w = after.limit_w[cells] - room_w[:count] + rows.dot(np.where(slow, after.held_w, power_w))[:count]
        left_s = time_to_trip(table, estimate.trip_used[node], load_w / estimate.rating_w[node])
        needed_s = end_s - np.maximum(comes_s, begin_s)
        short = (needed_s > 0.0) & (left_s < needed_s + kit.plan.site.control.trip_margin_s)
        if short.any():
            held_w = np.where(slow, after.held_w, least)
            limit_w = np.full(len(room_w), np.inf)
            limit_w[:count][short] = np.maximum(room_w, rows.dot(held_w))[:count][short]
            lower_w = _lower(kit, estimate, rows, limit_w, held_w, np.where(slow, after.held_w, power_w))
            power_w = np.where(slow, power_w, np.minimum(power_w, lower_w))
    return power_w


def _correction(
    kit: Kit,
    case: int,
    estimate: Estimate,
    cap_w: Floats,
    codes: Codes,
    power_w: Floats,
    shedding: Shedding | None,
    holds: bool,
) -> Correction:
    """Powers [R] as caps in whole steps, and what is shed beyond `codes`."""
    plan = kit.plan
    rungs = codes if shedding is None else shedding.codes
    steps = np.floor(power_w / plan.resolution_w + 1e-6) * plan.resolution_w
    caps_w = np.where(rungs > Shed.NONE, plan.floor_w, np.maximum(steps, np.minimum(plan.floor_w, power_w)))
    lowered = (power_w < cap_w * (1.0 - TOLERANCE)) & ~np.isfinite(estimate.constant_w)
    rack = np.flatnonzero(lowered & (caps_w < cap_w))
    shed = np.flatnonzero(rungs > codes)
    said = () if shedding is None else shedding.said
    return Correction(case, rack, caps_w[rack], shed, rungs[shed], said, holds)
