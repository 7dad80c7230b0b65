"""Stage 5: the last word. Small and distrustful: it reads Image and Proposal, never Estimate.

Anything may lower a cap. A raise needs fresh good data for the rack and every node above it, and room in every
row with each rack counted at the most it may still draw (CONTROL.md; rules G1-G8).
"""

from dataclasses import dataclass, replace

import numpy as np

from controller import guard_room, guard_setpoint
from controller.frames import Bools, Codes, Floats, Image, Ints, Mode, Orders, Proposal, Reason, Shed
from controller.guard_room import charge_w, good, rack_power_w
from controller.plan import Plan
from drivers.points import Quality

LATENCY = 3  # cycles until an order must show in an agent's report
LONGEST_CYCLE_S = 2.0  # a longer pause gives no more of the ramp
GIVEN_TAU_S = 5.0  # what was taken and not given on is soon the site's own rise
START_CYCLES = 5  # caps found are only renewed until every device has had the time to answer
BALANCE_SHARE = 0.05  # children account for a node when they are within this of its meter


@dataclass(frozen=True)
class GuardState:
    """What the guard remembers: caps and rungs ordered, what no rack accounts for, the pace of the site's rise."""

    cap_w: Floats  # [R] NaN while the rack's agent has never been heard
    recent_w: Floats  # [LATENCY, R] orders of the last cycles, NaN before
    shed: Codes  # [R] rungs in force
    room: guard_room.RoomState
    given_w: float  # taken from some racks and not yet given to others: that is no rise of the site
    saved_w: float  # of the ramp, for the next shed rack: it wakes with its whole floor or not at all
    last_s: float
    cycles: int
    sent: bool  # SHADOW's orders hold nowhere


def begin(plan: Plan, now_s: float) -> GuardState:
    """State before the first cycle."""
    racks = len(plan.max_w)
    nothing, recent = np.full(racks, np.nan), np.full((LATENCY, racks), np.nan)
    nobody = np.zeros(racks, dtype=np.uint8)
    return GuardState(nothing, recent, nobody, guard_room.begin(plan, now_s), 0.0, 0.0, now_s, 0, True)


def guard(plan: Plan, image: Image, proposal: Proposal, last: GuardState) -> tuple[Orders, GuardState]:
    """Image, Proposal -> Orders; arrays as in frames.Orders. Unknown caps stay as they are, unknown safe caps fall."""
    sends = proposal.mode != Mode.SHADOW
    if sends and not last.sent:
        last = replace(last, cap_w=np.full(len(plan.max_w), np.nan), recent_w=last.recent_w * np.nan, given_w=0.0)
    last = replace(last, shed=_shed_found(plan, image, last))
    shed = _rungs(plan, proposal)
    before_w = _before(plan, image, last, sends)
    least_w = np.where(shed > 0, 0.0, plan.floor_w)
    cap_w = np.where(np.isfinite(proposal.cap_w), proposal.cap_w, before_w)
    cap_w = np.clip(cap_w, least_w, plan.max_w)
    reason, row = proposal.reason.copy(), proposal.row.copy()
    room_w, room = guard_room.room_w(plan, image, proposal.envelope_w, last.room)
    if last.cycles >= START_CYCLES:  # before that the rest of a row's load is one reading's noise
        cap_w = _fit(image, cap_w, np.minimum(cap_w, plan.floor_w), room_w, reason)
    base_w = np.minimum(cap_w, before_w)
    known = np.isfinite(room.rest_w[-1])  # the site's own meters have once been read
    wanted_w = _wanted(plan, image, cap_w - base_w, proposal.mode, last.cycles, bool(known), reason)
    since_s = min(image.now_s - last.last_s, LONGEST_CYCLE_S)
    ramp_w = plan.site.control.ramp_up_w_per_s * since_s  # what waited for room is not made up for
    given_w = last.given_w + float((before_w - base_w).sum())
    asks_w = np.where((last.shed > 0) & (shed < last.shed), np.where(shed > 0, cap_w, plan.floor_w) - base_w, 0.0)
    free_w = given_w + ramp_w + last.saved_w
    rise_w, saved_w = _grant(plan, image, base_w, wanted_w, room_w, asks_w, free_w, reason)
    shed = np.where((asks_w > 0.0) & (rise_w < asks_w), last.shed, shed)
    unheard = image.quality[plan.agent_slot["cap_w"]] == Quality.NEVER
    safe_w = np.where(np.isfinite(proposal.safe_cap_w), proposal.safe_cap_w, plan.floor_w)
    setpoints, refused = guard_setpoint.check(plan, proposal.setpoints, proposal.mode)
    orders = Orders(
        cap_w=np.clip(base_w + rise_w, np.where(shed > 0, 0.0, plan.floor_w), plan.max_w),
        safe_cap_w=np.clip(safe_w, plan.floor_w, plan.max_w),
        reason=reason,
        row=row,
        charge_w=image.charge_w,
        unheeded=_unheeded(plan, image, last, sends),
        mode=proposal.mode,
        shed=shed if shed.any() else None,
        setpoints=setpoints,
        refused=refused,
    )
    return orders, replace(
        last,
        cap_w=np.where(unheard & ~np.isfinite(last.cap_w), np.nan, orders.cap_w),
        recent_w=np.vstack([last.recent_w[1:], orders.cap_w]),
        given_w=min(given_w - max(float(rise_w.sum()) - ramp_w - last.saved_w, 0.0), float(wanted_w.sum()))
        * float(np.exp(-since_s / GIVEN_TAU_S)),
        saved_w=saved_w,
        shed=shed,
        room=room,
        last_s=image.now_s,
        cycles=last.cycles + 1,
        sent=sends,
    )


def _before(plan: Plan, image: Image, last: GuardState, sends: bool) -> Floats:
    """Caps that a raise starts from: those ordered last, unless the rack has fallen below them since [R, W].

    An agent that reports less than all orders of the last LATENCY cycles was restarted or its lease ran out. While
    it is silent no order reaches it: it refuses an echo older than its lease.
    """
    found_w = _found(plan, image, last.shed)
    slot = plan.agent_slot["cap_w"]
    ordered_w = np.where(np.isfinite(last.cap_w), last.cap_w, found_w)
    if not sends:
        return ordered_w
    fallen = (image.quality[slot] == Quality.GOOD) & (found_w < last.recent_w.min(axis=0) - 1.0)
    return np.where(fallen, found_w, ordered_w)


def _unheeded(plan: Plan, image: Image, last: GuardState, sends: bool) -> Bools:
    """Agents that answer and hold a cap that none of the last LATENCY orders gave: refused, lapsed or forged [R]."""
    found_w = good(image, plan.agent_slot["cap_w"])
    low_w, high_w = last.recent_w.min(axis=0), last.recent_w.max(axis=0)
    unheeded: Bools = (found_w < low_w - 1.0) | (found_w > high_w + 1.0)
    return unheeded & sends


def _found(plan: Plan, image: Image, shed: Codes) -> Floats:
    """Caps found at the agents; of an agent that was never heard its safe cap."""
    cap_w = image.value[plan.agent_slot["cap_w"]]
    least_w = np.where(shed > 0, 0.0, plan.floor_w)
    return np.clip(np.where(np.isfinite(cap_w), cap_w, plan.safe_cap_w), least_w, plan.max_w)


def _shed_found(plan: Plan, image: Image, last: GuardState) -> Codes:
    """Rungs of agents that have no order of ours yet: what is shed stays so until a raise is granted [R]."""
    rung, cap_w = image.value[plan.agent_slot["shed"]], image.value[plan.agent_slot["cap_w"]]
    told = (cap_w < plan.floor_w) & (np.isnan(last.cap_w) | (last.cycles < START_CYCLES))
    if not told.any():
        return last.shed
    told &= np.isin(rung, list(Shed))
    return np.where(told, np.where(told, rung, 0.0).astype(np.uint8), last.shed)


def _rungs(plan: Plan, proposal: Proposal) -> Codes:
    return np.zeros(len(plan.max_w), dtype=np.uint8) if proposal.shed is None else proposal.shed


def _fit(image: Image, cap_w: Floats, least_w: Floats, room_w: Floats, reason: Codes) -> Floats:
    """Cut a proposal that does not fit a row by itself, evenly above what each rack needs; the rows named must hold."""
    for _ in range(3):  # a cut only lowers: three passes bring nested rows within rounding
        load = image.rows.dot(cap_w)
        over = load > room_w * (1.0 + 1e-6) + 1.0
        if not over.any():
            break
        floors = image.rows.dot(least_w)
        with np.errstate(divide="ignore", invalid="ignore"):
            keep = np.where(over & (load > floors), (room_w - floors) / (load - floors), 1.0)
        share = np.clip(image.rows.rack_min(keep, len(cap_w)), 0.0, 1.0)
        cut = share < 1.0
        cap_w = np.where(cut, least_w + (cap_w - least_w) * share, cap_w)
        reason[cut] = Reason.GUARD
    return cap_w


def _wanted(plan: Plan, image: Image, wanted_w: Floats, mode: Mode, cycles: int, known: bool, reason: Codes) -> Floats:
    """The raises that data, mode and start permit [R, W]; of the others the reason is said."""
    asked = wanted_w > 0.0
    trusted = may_rise(plan, image) & known
    everybody = (
        (bool(image.riding.any()), Reason.RIDING),
        (mode in (Mode.HOLD, Mode.OFF), Reason.HOLD),
        (cycles < START_CYCLES, Reason.START),
    )
    why = next((why for holds, why in everybody if holds), None)
    if why is not None:
        reason[asked] = why
        return np.zeros(len(asked))
    reason[asked & ~trusted] = Reason.STALE
    return np.where(trusted, wanted_w, 0.0)


def _grant(
    plan: Plan,
    image: Image,
    base_w: Floats,
    wanted_w: Floats,
    room_w: Floats,
    asks_w: Floats,
    budget_w: float,
    reason: Codes,
) -> tuple[Floats, float]:
    """The part of the wanted raises that every row has room for and the ramp allows, gang by gang [R, W].

    Shed racks ask for `asks_w` [R] to wake: first, one after the other, each whole or not at all; and what of the ramp
    is saved for the next of them.
    """
    counted_w = np.maximum(charge_w(plan, image), base_w)
    extra = np.maximum(base_w + wanted_w - counted_w, 0.0)
    share = np.ones(len(extra))
    if (extra > 0.0).any():
        share = _share(plan, image, room_w - image.rows.dot(counted_w), image.rows.dot(extra), extra)
    reason[(wanted_w > 0.0) & (share < 1.0)] = Reason.ROOM
    rise_w = wanted_w * share
    sleeps = asks_w > 0.0
    able = np.flatnonzero(sleeps & (rise_w >= asks_w))
    woken = able[np.cumsum(asks_w[able]) <= budget_w]
    rise_w[sleeps] = 0.0
    left_w = budget_w - float(asks_w[woken].sum())
    next_w = float(asks_w[able[len(woken)]]) if len(woken) < len(able) else 0.0
    others_w, most_w = float(rise_w.sum()), max(left_w - next_w, 0.0)
    if others_w > most_w:
        reason[rise_w > 0.0] = Reason.PACE
        rise_w = rise_w * (most_w / others_w)
    rise_w[woken] = asks_w[woken]
    return rise_w, min(max(left_w - min(others_w, most_w), 0.0), next_w)


def _share(plan: Plan, image: Image, left_w: Floats, asked_w: Floats, extra: Floats) -> Floats:
    """Part of each rack's raise that fits: the least over its rows, then the least over its gang [R]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(asked_w > 0.0, np.clip(left_w / asked_w, 0.0, 1.0), 1.0)
    share = np.where(extra > 0.0, image.rows.rack_min(part, len(extra)), 1.0)
    gang = np.ones(len(plan.gang_class))
    np.minimum.at(gang, plan.gang_of, share)
    return gang[plan.gang_of]


def may_rise(plan: Plan, image: Image) -> Bools:
    """Racks with fresh good data for themselves and every node above them [R]."""
    meter = good(image, plan.node_slot.power)
    fine = np.isfinite(meter)
    for level in plan.bottom_up[1:]:  # a node is also good when all its children are
        if fine.all():
            break
        bad = np.bincount(plan.inner_parent[~fine[plan.inner]], minlength=len(fine))
        fine[level] |= (plan.children[level] > 0) & (bad[level] == 0)
    above = fine.copy()
    for level in reversed(plan.bottom_up[:-1]):
        if above.all():
            break
        above[level] &= above[plan.parent[level]]
    agent = np.isfinite(good(image, plan.agent_slot["power_w"]))
    cords = np.isfinite(image.metered_w)
    off = image.dead[plan.rack_busway]
    lone = (off[:, 0] ^ off[:, 1])[:, None]  # a dead cord has nothing to tell
    reached = above[plan.rack_busway] | (off & lone)
    upstream = reached[:, 0] & reached[:, 1]
    metered = cords if cords.all() else cords | _agrees(plan, image)
    trusted: Bools = agent & upstream & _cooled(plan, image) & metered
    return trusted


def _cooled(plan: Plan, image: Image) -> Bools:
    """Racks whose CDU and loop, where they are measured at all, have fresh good data [R]."""

    def sure_of(slots: Ints) -> Bools:
        return np.asarray((slots < 0) | (image.quality[slots] == Quality.GOOD), dtype=np.bool_)

    cdu = sure_of(plan.cdu_flow_slot) & sure_of(plan.cdu_supply_slot)
    sure = (plan.pump_slot < 0) | (sure_of(plan.pump_slot) & (image.value[plan.pump_slot] > 0.5))
    lpm = np.bincount(plan.pump_loop, plan.pump_lpm * sure, minlength=len(plan.loop_lpm))
    told = np.bincount(plan.pump_loop, ~sure_of(plan.pump_slot), minlength=len(plan.loop_lpm)) == 0
    loop = sure_of(plan.loop_supply_slot) & (told | (lpm >= plan.loop_lpm))  # a silent standby pump is no loss
    cooled: Bools = cdu[plan.cdu_of] & loop[plan.loop_of]
    return cooled


def _agrees(plan: Plan, image: Image) -> Bools:
    """Agents whose own reading, with their neighbours', accounts for the meters of the nodes above them [R]."""
    racks = image.rows.dot(rack_power_w(plan, image)[1])[plan.node_row]
    meter = good(image, plan.node_slot.power)
    with np.errstate(invalid="ignore"):
        fits = np.abs(racks - meter) <= BALANCE_SHARE * meter
    return np.asarray(fits[plan.parent[plan.rack_pdu]].all(axis=1))
