"""Stage 5: the last word. Small and distrustful: it reads Image and Proposal, never Estimate.

Anything may lower a cap. A raise needs fresh good data for the rack and every node above it, and room in every
row with each rack counted at the most it may still draw (CONTROL.md; rules G1-G8).
"""

from dataclasses import dataclass, replace

import numpy as np

from controller.frames import Bools, Codes, Floats, Image, Ints, Mode, Orders, Proposal, Reason
from controller.plan import Plan
from drivers.points import Quality

REST_TAU_S = 10.0  # gang swings of seconds must average out of what no rack accounts for
LIGHT_SHARE = 0.1  # of the nominal rating: below it a meter's utilisation says nothing
START_CYCLES = 5  # caps found are only renewed until every device has had the time to answer
WORST_VOLT, WORST_UNBALANCE = 0.95, 1.05
BALANCE_SHARE = 0.05  # children account for a node when they are within this of its meter


@dataclass(frozen=True)
class GuardState:
    """What the guard remembers: caps ordered, what no rack accounts for, the pace of the site's rise."""

    cap_w: Floats  # [R] NaN before the first order
    rest_w: Floats  # [N+1] load of each node, and of the site, beyond its racks
    samples: Floats  # [N+1]
    paced_w: float  # sum of caps that the ramp allows
    last_s: float
    cycles: int


def begin(plan: Plan, now_s: float) -> GuardState:
    """State before the first cycle."""
    nodes, racks = len(plan.parent), len(plan.max_w)
    return GuardState(np.full(racks, np.nan), np.full(nodes + 1, np.nan), np.zeros(nodes + 1), 0.0, now_s, 0)


def guard(plan: Plan, image: Image, proposal: Proposal, last: GuardState) -> tuple[Orders, GuardState]:
    """Image, Proposal -> Orders; arrays as in frames.Orders."""
    before_w = _before(plan, image, last)
    cap_w = np.where(np.isfinite(proposal.cap_w), proposal.cap_w, before_w)
    cap_w = np.clip(cap_w, plan.floor_w, plan.max_w)
    reason, row = proposal.reason.copy(), proposal.row.copy()
    room_w, state = _room(plan, image, proposal.envelope_w, last)
    if last.cycles >= START_CYCLES:  # before that the rest of a row's load is one reading's noise
        cap_w = _fit(plan, cap_w, room_w, reason)
    paced_w = _paced(plan, cap_w, before_w, image, last)
    cap_w = _raise(plan, image, cap_w, before_w, room_w, paced_w, proposal.mode, state.cycles, reason)
    orders = Orders(
        cap_w=cap_w,
        safe_cap_w=np.clip(proposal.safe_cap_w, plan.floor_w, plan.max_w),
        reason=reason,
        row=row,
        charge_w=image.charge_w,
        mode=proposal.mode,
    )
    return orders, replace(state, cap_w=cap_w, paced_w=paced_w, last_s=image.now_s, cycles=last.cycles + 1)


def _before(plan: Plan, image: Image, last: GuardState) -> Floats:
    """Caps ordered last; at start the caps found at the agents, of a silent agent its safe cap."""
    if last.cycles:
        unheard = image.quality[plan.agent_slot["cap_w"]] == Quality.NEVER
        found = _found(plan, image)
        first = ~np.isfinite(last.cap_w) | (unheard & (last.cycles < START_CYCLES))
        return np.where(first, found, last.cap_w)
    return _found(plan, image)


def _found(plan: Plan, image: Image) -> Floats:
    cap_w = image.value[plan.agent_slot["cap_w"]]
    return np.clip(np.where(np.isfinite(cap_w), cap_w, plan.safe_cap_w), plan.floor_w, plan.max_w)


def _room(plan: Plan, image: Image, envelope_w: float, last: GuardState) -> tuple[Floats, GuardState]:
    """What each row leaves for racks: its continuous rating less what no rack accounts for [K, W]."""
    meter_w = _good(image, plan.node_slot.power)
    racks_w = plan.rows.dot(_rack_power(plan, image))
    site = np.append(meter_w, meter_w[plan.feeds].sum())
    of_racks = np.append(racks_w[plan.node_row], racks_w[plan.envelope_row])
    sample = site - of_racks
    gain = np.maximum(1.0 / (last.samples + 1.0), 1.0 - np.exp(-(image.now_s - last.last_s) / REST_TAU_S))
    rest_w = np.where(np.isnan(last.rest_w), sample, last.rest_w + (sample - last.rest_w) * gain)
    rest_w = np.where(np.isfinite(sample), rest_w, last.rest_w)
    state = replace(last, rest_w=rest_w, samples=last.samples + np.isfinite(sample))
    limit_w = np.full(len(plan.row_name), np.inf)
    limit_w[plan.node_row] = _rating(plan, image, meter_w)
    limit_w[plan.envelope_row] = min(envelope_w, plan.site.control.envelope_w)
    limit_w[plan.cdu_row], limit_w[plan.loop_row] = plan.cdu_cap_w, plan.loop_cap_w
    other_w = np.zeros(len(limit_w))
    other_w[plan.node_row] = np.maximum(np.nan_to_num(rest_w[:-1]), 0.0)
    other_w[plan.envelope_row] = np.nan_to_num(rest_w[-1])  # below zero where marginal cooling is in the coefficients
    return np.maximum(limit_w - other_w, 0.0), state


def _rating(plan: Plan, image: Image, meter_w: Floats) -> Floats:
    """Continuous rating of each node in W: measured power over measured utilisation, at light load the worst case."""
    slot = plan.node_slot
    amps = _good(image, slot.current)
    volt = _good(image, slot.volt) * slot.volt_scale
    apparent = np.fmax(_good(image, slot.apparent), plan.phase * volt * amps.mean(axis=1))
    worst_pf = plan.site.control.power_factor_worst
    worst = plan.phase * plan.volt_v * WORST_VOLT * plan.rating * worst_pf / WORST_UNBALANCE
    amps_unit, va_unit = plan.rating_unit == "A", plan.rating_unit == "VA"
    worst = np.where(amps_unit, worst, np.where(va_unit, plan.rating * worst_pf, plan.rating))
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where(amps_unit, amps.max(axis=1), np.where(va_unit, apparent, meter_w)) / plan.rating
        shown = meter_w / used
    return np.where(np.isfinite(shown) & (meter_w > LIGHT_SHARE * worst), shown, worst)


def _fit(plan: Plan, cap_w: Floats, room_w: Floats, reason: Codes) -> Floats:
    """Cut a proposal that does not fit a row by itself, evenly above the floors; the rows named must hold."""
    for _ in range(3):  # a cut only lowers: three passes bring nested rows within rounding
        load = plan.rows.dot(cap_w)
        over = load > room_w * (1.0 + 1e-6) + 1.0
        if not over.any():
            break
        floors = plan.rows.dot(plan.floor_w)
        with np.errstate(divide="ignore", invalid="ignore"):
            keep = np.where(over & (load > floors), (room_w - floors) / (load - floors), 1.0)
        share = np.clip(plan.rows.rack_min(keep, len(cap_w)), 0.0, 1.0)
        cut = share < 1.0
        cap_w = np.where(cut, plan.floor_w + (cap_w - plan.floor_w) * share, cap_w)
        reason[cut] = Reason.GUARD
    return cap_w


def _paced(plan: Plan, cap_w: Floats, before_w: Floats, image: Image, last: GuardState) -> float:
    """Sum of caps that the site's ramp allows: rises with time, never runs ahead of what is wanted."""
    start = last.paced_w if last.cycles else float(before_w.sum())
    risen = start + plan.site.control.ramp_up_w_per_s * (image.now_s - last.last_s)
    return min(risen, float(np.maximum(cap_w, 0.0).sum())) if last.cycles else start


def _raise(
    plan: Plan,
    image: Image,
    cap_w: Floats,
    before_w: Floats,
    room_w: Floats,
    paced_w: float,
    mode: Mode,
    cycles: int,
    reason: Codes,
) -> Floats:
    """Allow raises as far as data, mode, ramp and every row permit, gang by gang; the rest stays where it was."""
    up = cap_w > before_w
    wanted = np.where(up, cap_w - before_w, 0.0)
    base_w = np.minimum(cap_w, before_w)
    trusted = may_rise(plan, image)
    for mask, why in (
        (~trusted, Reason.STALE),
        (np.full(len(up), mode in (Mode.HOLD, Mode.OFF)), Reason.HOLD),
        (np.full(len(up), cycles < START_CYCLES), Reason.START),
    ):
        reason[up & mask & (wanted > 0.0)] = why
        wanted = np.where(mask, 0.0, wanted)
    counted_w = np.maximum(image.charge_w, base_w)
    extra = np.maximum(base_w + wanted - counted_w, 0.0)
    share = _share(plan, room_w - plan.rows.dot(counted_w), plan.rows.dot(extra), extra)
    reason[(extra > 0.0) & (share < 1.0)] = Reason.ROOM
    rise, allowed = float((wanted * share).sum()), max(paced_w - float(base_w.sum()), 0.0)
    if rise > allowed:
        reason[(wanted > 0.0) & (reason != Reason.ROOM)] = Reason.PACE
        share = share * (allowed / rise)
    return base_w + wanted * share


def _share(plan: Plan, left_w: Floats, asked_w: Floats, extra: Floats) -> Floats:
    """Part of each rack's raise that fits: the least over its rows, then the least over its gang [R]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(asked_w > 0.0, np.clip(left_w / asked_w, 0.0, 1.0), 1.0)
    share = np.where(extra > 0.0, plan.rows.rack_min(part, len(extra)), 1.0)
    gang = np.ones(len(plan.gang_class))
    np.minimum.at(gang, plan.gang_of, share)
    return gang[plan.gang_of]


def may_rise(plan: Plan, image: Image) -> Bools:
    """Racks with fresh good data for themselves and every node above them [R]."""
    meter = _good(image, plan.node_slot.power)
    good = np.isfinite(meter)
    for level in plan.bottom_up[1:]:  # a node is also good when all its children are
        has = np.bincount(plan.parent[plan.parent >= 0], minlength=len(good))
        bad = np.bincount(plan.parent[(plan.parent >= 0) & ~good], minlength=len(good))
        good[level] |= (has[level] > 0) & (bad[level] == 0)
    above = good.copy()
    for level in reversed(plan.bottom_up[:-1]):
        above[level] &= above[plan.parent[level]]
    agent = image.quality[plan.agent_slot["power_w"]] == Quality.GOOD
    cords = np.isfinite(image.metered_w)
    upstream = above[plan.parent[plan.rack_pdu]].all(axis=1)
    trusted: Bools = agent & upstream & (cords | _agrees(plan, image))
    return trusted


def _agrees(plan: Plan, image: Image) -> Bools:
    """Agents whose own reading, with their neighbours', accounts for the meters of the nodes above them [R]."""
    racks = plan.rows.dot(_rack_power(plan, image))[plan.node_row]
    meter = _good(image, plan.node_slot.power)
    with np.errstate(invalid="ignore"):
        fits = np.abs(racks - meter) <= BALANCE_SHARE * meter
    return np.asarray(fits[plan.parent[plan.rack_pdu]].all(axis=1))


def _rack_power(plan: Plan, image: Image) -> Floats:
    """Rack power by its PDUs, else by its agent, else what it may draw [R, W]."""
    agent = _good(image, plan.agent_slot["power_w"])
    other = np.where(np.isfinite(agent), agent, image.charge_w)
    return np.where(np.isfinite(image.metered_w), image.metered_w, other)


def _good(image: Image, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (image.quality[slots] == Quality.GOOD), image.value[slots], np.nan)
