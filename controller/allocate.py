"""Stage 4: Limits -> Proposal. Exact max-min levels, class by class; then what is left, as head room for peaks."""

from dataclasses import dataclass, replace

import numpy as np

from controller import blind, pace, problem, response
from controller.corrective import Kit, Prepared, compile_kit
from controller.frames import Estimate, Floats, Limits, Mode, Proposal, Reason, Shed
from controller.plan import Plan
from controller.shed import least_w

FOUND_S = 5.0  # after a start the caps found stay, and for TAKEOVER_S caps go gently: until other load is learnt,
TAKEOVER_S = 30.0  # only a measured overload lowers more
TAKEOVER_SHARE = 0.02
CYCLE_S = 1.0  # the first cycle's share of a ramp; a longer pause than this gives no more
SAFE_SHARE = 0.97  # of each limit's room: the safe caps leave this margin for what changes while nobody watches
SAFE_WIDEN = 0.02  # safe caps follow a widening limit only by steps of this share


@dataclass(frozen=True)
class AllocateState:
    """Caps proposed last, the response to losses, and the safe caps with the room they were solved for."""

    structure: problem.Structure
    kit: Kit
    response: response.Response
    started_s: float
    last_s: float
    cap_w: Floats  # [R] NaN until something is known
    most_safe_w: Floats  # [R] safe caps that bear the next loss with nobody there
    safe_cap_w: Floats  # [R]
    safe_room_w: Floats  # [K + J]


def begin(plan: Plan, now_s: float) -> AllocateState:
    """Compile the kernel's structures; nothing is proposed yet."""
    nothing = np.full(len(plan.max_w), np.nan)
    structure, most_safe_w = problem.compile_structure(plan), blind.most_w(plan)
    return AllocateState(
        structure=structure,
        kit=compile_kit(plan),
        response=response.begin(plan),
        started_s=now_s,
        last_s=now_s - CYCLE_S,
        cap_w=nothing,
        most_safe_w=most_safe_w,
        safe_cap_w=most_safe_w,
        safe_room_w=np.full(len(structure.single), np.nan),
    )


def allocate(
    plan: Plan, now_s: float, estimate: Estimate, limits: Limits, prepared: Prepared, last: AllocateState
) -> tuple[Proposal, AllocateState]:
    """Limits -> Proposal; arrays as in frames.Proposal. `prepared` are the corrective sets kept ready."""
    rows, room_w = estimate.rows, limits.room_w
    before_w = np.where(np.isfinite(last.cap_w), last.cap_w, _found(plan, estimate))
    since_s, step_s = now_s - last.started_s, min(max(now_s - last.last_s, 0.0), CYCLE_S)
    now = response.respond(last.kit, prepared, now_s, estimate, limits, before_w, last.response)
    ours = np.isfinite(last.cap_w) & (since_s >= FOUND_S) & (limits.mode != Mode.SHADOW)
    now = response.found(now, estimate, ~ours)
    bound = problem.bounds(plan, last.structure, estimate, limits, before_w, now.cap_w, now.codes)
    served = problem.serve(plan, last.structure, rows, room_w, bound)
    filled_w = problem.surplus(plan, last.structure, rows, room_w, bound, served)
    reason = served.reason.copy()
    constant = np.isfinite(estimate.constant_w)
    lowest_w = least_w(plan, now.codes, plan.floor_w)
    cap_w = pace.settle(plan, rows, room_w, before_w, filled_w, lowest_w)
    cap_w = np.where(constant, np.minimum(cap_w, before_w), cap_w)  # what it is counted at is no cap for it
    full = rows.dot_kept(before_w) > room_w
    full[len(plan.row_name) :] = False  # a loss that has not happened presses nobody: the ramp has the time
    pressed = pace.under(rows, full, len(cap_w))
    pressed |= (before_w > now.cap_w) | (now.codes > Shed.NONE)
    cap_w = pace.ramped(plan, pressed, before_w, cap_w, step_s)
    if since_s < TAKEOVER_S:
        step = 0.0 if since_s < FOUND_S else TAKEOVER_SHARE * step_s
        overloaded = pace.under(plan.rows, estimate.load_w > limits.limit_w[: len(estimate.load_w)], len(cap_w))
        cap_w = pace.gently(overloaded | pressed & (before_w > now.cap_w), before_w, cap_w, step)
        reason[(reason == Reason.FREE) & (cap_w < filled_w)] = Reason.START
    reason[limits.held] = Reason.HOLD
    reason[constant] = Reason.FAULTY
    reason[now.codes > Shed.NONE] = Reason.SHED
    safe_cap_w, safe_room_w = _safe_caps(plan, estimate, room_w, bound.ceiling_w, last)
    if limits.mode == Mode.OFF:
        leave_w = pace.leave(plan, before_w, safe_cap_w, step_s)
        cap_w = np.where(pressed, np.minimum(cap_w, leave_w), leave_w)
    proposal = Proposal(
        cap_w=cap_w,
        safe_cap_w=safe_cap_w,
        level=np.where(now.codes > Shed.NONE, 0.0, served.level),
        reason=reason,
        row=served.row,
        envelope_w=limits.envelope_w,
        mode=limits.mode,
        shed=now.codes,
        said=now.said,
        setpoints=limits.setpoints,
    )
    heard = np.isfinite(last.cap_w) | np.isfinite(estimate.cap_found_w)  # of the others the cap found is yet to come
    kept_w = np.where(heard, cap_w, np.nan)
    return proposal, replace(
        last, response=now, last_s=now_s, cap_w=kept_w, safe_cap_w=safe_cap_w, safe_room_w=safe_room_w
    )


def _found(plan: Plan, estimate: Estimate) -> Floats:
    """Caps in force by the agents' reports; an agent never heard is taken to be at its safe cap."""
    return np.where(np.isfinite(estimate.cap_found_w), estimate.cap_found_w, plan.safe_cap_w)


def _safe_caps(
    plan: Plan, estimate: Estimate, room_w: Floats, ceiling_w: Floats, last: AllocateState
) -> tuple[Floats, Floats]:
    """Safe caps that fit every row of the present state together; solved again when they no longer do."""
    rows = estimate.rows
    if estimate.disobedient.any():  # such a rack will draw as much when nobody watches
        beyond_w = np.where(estimate.disobedient, np.maximum(estimate.constant_w - plan.floor_w, 0.0), 0.0)
        room_w = np.maximum(room_w - rows.dot(beyond_w), 0.0)
    solved_w, load_w = last.safe_room_w, rows.dot_kept(last.safe_cap_w)
    fits = load_w <= room_w * (1.0 + 1e-9)
    if not fits.all():
        fits |= load_w <= rows.dot_kept(plan.floor_w) * (1.0 + 1e-9)
    spent = room_w * SAFE_SHARE <= solved_w * (1.0 + SAFE_WIDEN)
    if fits.all() and spent.all():
        return last.safe_cap_w, solved_w
    target_w = room_w * SAFE_SHARE
    return problem.safest(plan, last.structure, rows, target_w, ceiling_w, last.most_safe_w), target_w
