"""Stage 4: Limits -> Proposal. Exact max-min levels, class by class; then what is left, as head room for peaks."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controller.frames import Bools, Codes, Estimate, Floats, Ints, Limits, Mode, Proposal, Reason, Rows
from controller.kernels.fill import Curve, FillInputs, FillResult, FillTopology, build_topology, fill
from controller.plan import Plan
from drivers.site import catalog

HOLD_SHARE = 0.004  # of nameplate: a cap moves only for more than this, unless a limit needs it
FOUND_S = 5.0  # after a start the caps found stay, and for TAKEOVER_S caps go gently: until other load is learnt,
TAKEOVER_S = 30.0  # only a measured overload lowers more
TAKEOVER_SHARE = 0.02
SAFE_SHARE = 0.97  # of each limit's room: the safe caps leave this margin for what changes while nobody watches
SAFE_WIDEN = 0.02  # safe caps follow a widening limit only by steps of this share


@dataclass(frozen=True)
class AllocateState:
    """Caps proposed last, and the safe caps with the room they were solved for."""

    served: FillTopology  # rows of more than one rack, gangs by class
    surplus: FillTopology  # the same rows, every rack its own gang, one class
    curve_of: NDArray[np.int32]  # [R]
    started_s: float
    cap_w: Floats  # [R] NaN until something is known
    safe_cap_w: Floats  # [R]
    safe_room_w: Floats  # [K]


def begin(plan: Plan, now_s: float) -> AllocateState:
    """Compile the kernel's structures; nothing is proposed yet."""
    nothing = np.full(len(plan.max_w), np.nan)
    return AllocateState(
        *_topologies(plan), now_s, nothing, plan.safe_cap_w.copy(), np.full(len(plan.row_name), np.nan)
    )


def _topologies(plan: Plan) -> tuple[FillTopology, FillTopology, NDArray[np.int32]]:
    """Structures of the kernel over the rows that more than one rack loads, and the curve of each rack."""
    rows, racks = plan.rows, plan.site.racks
    size = np.diff(rows.indptr)
    kept = np.flatnonzero(~plan.single)
    start = np.concatenate(([0], np.cumsum(size[kept])))
    entry = ~plan.single[rows.of_entry]
    kinds = {j.id: j.kind for j in plan.site.jobs}
    keys = [(r.gpu_model, kinds.get(r.job, "inference")) for r in racks]
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    curves: list[Curve] = [catalog.curve(model, kind) for model, kind in index]
    shared = (start, rows.racks[entry], rows.coeff[entry], curves)
    served = build_topology(plan.gang_of, plan.gang_class, *shared)
    surplus = build_topology(np.arange(len(racks)), np.zeros(len(racks)), *shared)
    return served, surplus, np.array([index[k] for k in keys], dtype=np.int32)


def allocate(
    plan: Plan, now_s: float, estimate: Estimate, limits: Limits, last: AllocateState
) -> tuple[Proposal, AllocateState]:
    """Limits -> Proposal; arrays as in frames.Proposal."""
    rows, room_w = estimate.rows, limits.room_w
    ceiling_w, ceiling_row = _ceilings(plan, rows, room_w)
    before_w = np.where(np.isfinite(last.cap_w), last.cap_w, _found(plan, estimate))
    constant = np.isfinite(estimate.constant_w)
    floor_w = np.where(constant, estimate.constant_w, plan.floor_w)
    most_w = np.where(constant, floor_w, np.where(limits.held, np.maximum(before_w, floor_w), plan.max_w))
    demand_w = np.clip(estimate.demand_w, floor_w, most_w)
    served = _fill(plan, last, last.served, rows, room_w, floor_w, demand_w, ceiling_w)
    filled_w = served.power_w
    # every rack is in the envelope row: once that is tight nothing is left to hand out
    if not served.tight[-1] and (served.power_w < most_w).any():
        filled_w = _fill(plan, last, last.surplus, rows, room_w, served.power_w, most_w, ceiling_w).power_w
    reason, row = _reasons(plan, served, ceiling_row)
    cap_w = _settle(plan, rows, room_w, before_w, filled_w)
    cap_w = np.where(constant, np.minimum(cap_w, before_w), cap_w)  # what it is counted at is no cap for it
    pressed = _under(plan, rows.dot(before_w) > room_w)
    cap_w = _ramped(plan, pressed, before_w, cap_w)
    since_s = now_s - last.started_s
    if since_s < TAKEOVER_S:
        step = 0.0 if since_s < FOUND_S else TAKEOVER_SHARE
        cap_w = _gently(plan, estimate.load_w > limits.limit_w, before_w, cap_w, step)
        reason[(reason == Reason.FREE) & (cap_w < filled_w)] = Reason.START
    reason[limits.held] = Reason.HOLD
    reason[constant] = Reason.FAULTY
    # a rack that does not obey will draw as much when nobody watches
    beyond_w = np.where(estimate.disobedient, np.maximum(estimate.constant_w - plan.floor_w, 0.0), 0.0)
    safe_cap_w, safe_room_w = _safe_caps(plan, rows, np.maximum(room_w - rows.dot(beyond_w), 0.0), ceiling_w, last)
    if limits.mode == Mode.OFF:
        leave_w = _leave(plan, before_w, safe_cap_w)
        cap_w = np.where(pressed, np.minimum(cap_w, leave_w), leave_w)
    proposal = Proposal(
        cap_w=cap_w,
        safe_cap_w=safe_cap_w,
        level=served.level[plan.gang_of],
        reason=reason,
        row=row,
        envelope_w=limits.envelope_w,
        mode=limits.mode,
    )
    heard = np.isfinite(last.cap_w) | np.isfinite(estimate.cap_found_w)  # of the others the cap found is yet to come
    kept_w = np.where(heard, cap_w, np.nan)
    return proposal, replace(last, cap_w=kept_w, safe_cap_w=safe_cap_w, safe_room_w=safe_room_w)


def _fill(
    plan: Plan,
    state: AllocateState,
    topology: FillTopology,
    rows: Rows,
    room_w: Floats,
    floor_w: Floats,
    demand_w: Floats,
    ceiling_w: Floats,
) -> FillResult:
    inputs = FillInputs(
        floor_w=floor_w,
        demand_w=np.maximum(demand_w, floor_w),
        ceiling_w=np.maximum(ceiling_w, floor_w),
        other_w=plan.other_w,
        gpu_w=plan.gpu_w,
        curve_of=state.curve_of,
        limit_w=room_w[~plan.single],
        coef=rows.coeff[~plan.single[rows.of_entry]],
    )
    return fill(topology, inputs)


def _ceilings(plan: Plan, rows: Rows, room_w: Floats) -> tuple[Floats, Ints]:
    """Rows that touch one rack only are that rack's ceiling: (W [R], row [R])."""
    ceiling_w, row = np.full(len(plan.max_w), np.inf), np.full(len(plan.max_w), -1, dtype=np.int64)
    entry = np.flatnonzero(plan.single[rows.of_entry] & (rows.coeff > 0.0))
    rack, at = rows.racks[entry], rows.of_entry[entry]
    bound = room_w[at] / rows.coeff[entry]
    order = np.argsort(-bound, kind="stable")  # lowest bound is written last
    ceiling_w[rack[order]], row[rack[order]] = bound[order], at[order]
    return ceiling_w, row


def _found(plan: Plan, estimate: Estimate) -> Floats:
    """Caps in force by the agents' reports; an agent never heard is taken to be at its safe cap."""
    return np.where(np.isfinite(estimate.cap_found_w), estimate.cap_found_w, plan.safe_cap_w)


def _settle(plan: Plan, rows: Rows, room_w: Floats, before_w: Floats, target_w: Floats) -> Floats:
    """Keep a cap that is near its target wherever the rows hold with it."""
    steps = np.floor(target_w / plan.resolution_w + 1e-6)  # filling ends a hair below: that must not cost a step
    rounded = np.maximum(steps * plan.resolution_w, plan.floor_w)
    near = np.abs(rounded - before_w) <= HOLD_SHARE * plan.max_w
    wanted = np.where(near, before_w, rounded)
    forced = _under(plan, rows.dot(wanted) > room_w * (1.0 + 1e-9))
    return np.where(forced, np.minimum(wanted, rounded), wanted)


def _ramped(plan: Plan, pressed: Bools, before_w: Floats, cap_w: Floats) -> Floats:
    """Together the caps go down no faster than the site's ramp, but for racks [R] under a row that is too full."""
    change = np.where(pressed, 0.0, cap_w - before_w)
    down, up = -float(change[change < 0.0].sum()), float(change[change > 0.0].sum())
    allowed = up + plan.site.control.ramp_down_w_per_s
    if down <= allowed:
        return cap_w
    return np.where(change < 0.0, before_w + change * (allowed / down), cap_w)


def _gently(plan: Plan, overloaded: Bools, before_w: Floats, cap_w: Floats, step: float) -> Floats:
    """Take over without a bump: by at most `step` of each cap, unless a measured overload [K] forces more."""
    gentle = np.clip(cap_w, before_w * (1.0 - step), before_w * (1.0 + step))
    return np.where(_under(plan, overloaded), np.minimum(gentle, cap_w), gentle)


def _under(plan: Plan, marked: Bools) -> Bools:
    """Racks under any of the marked rows [R]."""
    racks = np.zeros(len(plan.max_w), dtype=bool)
    racks[plan.rows.racks[marked[plan.rows.of_entry]]] = True
    return racks


def _leave(plan: Plan, before_w: Floats, safe_cap_w: Floats) -> Floats:
    """One cycle of the way to the safe caps, together within the site's down-ramp of one second."""
    above = np.maximum(before_w - safe_cap_w, 0.0)
    part = min(1.0, plan.site.control.ramp_down_w_per_s / max(float(above.sum()), 1.0))
    down: Floats = before_w - above * part
    return down


def _reasons(plan: Plan, served: FillResult, ceiling_row: Ints) -> tuple[Codes, Ints]:
    """Reason and row of each rack from its gang's binding: a shared row, a member's own ceiling, the floors."""
    multi_row = np.flatnonzero(~plan.single)
    bound = served.binding_row
    shared, own = bound >= 0, bound <= -2
    reason = np.where(shared | own, Reason.ROW, Reason.FREE).astype(np.uint8)
    row = np.full(len(bound), -1, dtype=np.int64)
    row[shared], row[own] = multi_row[bound[shared]], ceiling_row[-2 - bound[own]]
    short = shared & served.at_floor
    reason[short] = np.where(served.violated[bound[short]], Reason.FLOOR, Reason.ROW)
    return reason[plan.gang_of], row[plan.gang_of]


def _safe_caps(plan: Plan, rows: Rows, room_w: Floats, ceiling_w: Floats, last: AllocateState) -> tuple[Floats, Floats]:
    """Safe caps that fit every row of the present state together; solved again when they no longer do."""
    solved_w = last.safe_room_w
    fits = rows.dot(last.safe_cap_w) <= np.maximum(room_w, rows.dot(plan.floor_w)) * (1.0 + 1e-9)
    spent = room_w * SAFE_SHARE <= solved_w * (1.0 + SAFE_WIDEN)
    if fits.all() and spent.all():
        return last.safe_cap_w, solved_w
    safe = _fill(plan, last, last.surplus, rows, room_w * SAFE_SHARE, plan.floor_w, plan.safe_cap_w, ceiling_w)
    down = np.maximum(np.floor(safe.power_w / plan.resolution_w) * plan.resolution_w, plan.floor_w)
    return down, room_w * SAFE_SHARE
