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
LESS_THAN_CHILDREN = 0.03  # a meter that shows this much less than its children and its racks is not believed
LATENCY = 3  # cycles until an order must show in an agent's report
LONGEST_CYCLE_S = 2.0  # a longer pause gives no more of the ramp
START_CYCLES = 5  # caps found are only renewed until every device has had the time to answer
WORST_VOLT, WORST_UNBALANCE = 0.95, 1.05
BEST_VOLT = 1.05
LEAST_SHARE, MOST_SHARE = 0.3, 1.2  # of worst and best case: a rating outside of these is a wrong meter's
BALANCE_SHARE = 0.05  # children account for a node when they are within this of its meter
SHORT_SHARE = 0.1  # a meter that shows less than its racks together by more than this is wrong


@dataclass(frozen=True)
class GuardState:
    """What the guard remembers: caps ordered, what no rack accounts for, the pace of the site's rise."""

    cap_w: Floats  # [R] NaN while the rack's agent has never been heard
    recent_w: Floats  # [LATENCY, R] orders of the last cycles, NaN before
    rest_w: Floats  # [N+1] load of each node, and of the site, beyond its racks
    samples: Floats  # [N+1]
    given_w: float  # taken from some racks and not yet given to others: that is no rise of the site
    last_s: float
    cycles: int
    sent: bool  # SHADOW's orders hold nowhere


def begin(plan: Plan, now_s: float) -> GuardState:
    """State before the first cycle."""
    nodes, racks = len(plan.parent), len(plan.max_w)
    nothing = np.full(racks, np.nan)
    recent = np.full((LATENCY, racks), np.nan)
    return GuardState(nothing, recent, np.full(nodes + 1, np.nan), np.zeros(nodes + 1), 0.0, now_s, 0, True)


def guard(plan: Plan, image: Image, proposal: Proposal, last: GuardState) -> tuple[Orders, GuardState]:
    """Image, Proposal -> Orders; arrays as in frames.Orders. Unknown caps stay as they are, unknown safe caps fall."""
    sends = proposal.mode != Mode.SHADOW
    if sends and not last.sent:
        last = replace(last, cap_w=np.full(len(plan.max_w), np.nan), recent_w=last.recent_w * np.nan, given_w=0.0)
    before_w = _before(plan, image, last, sends)
    cap_w = np.where(np.isfinite(proposal.cap_w), proposal.cap_w, before_w)
    cap_w = np.clip(cap_w, plan.floor_w, plan.max_w)
    reason, row = proposal.reason.copy(), proposal.row.copy()
    room_w, state = _room(plan, image, proposal.envelope_w, last)
    if last.cycles >= START_CYCLES:  # before that the rest of a row's load is one reading's noise
        cap_w = _fit(plan, image, cap_w, room_w, reason)
    base_w = np.minimum(cap_w, before_w)
    wanted_w = _wanted(plan, image, cap_w - base_w, proposal.mode, state, reason)
    since_s = min(image.now_s - last.last_s, LONGEST_CYCLE_S)
    ramp_w = plan.site.control.ramp_up_w_per_s * since_s  # what waited for room is not made up for
    given_w = last.given_w + float((before_w - base_w).sum())
    rise_w = _grant(plan, image, base_w, wanted_w, room_w, given_w + ramp_w, reason)
    unheard = image.quality[plan.agent_slot["cap_w"]] == Quality.NEVER
    safe_w = np.where(np.isfinite(proposal.safe_cap_w), proposal.safe_cap_w, plan.floor_w)
    orders = Orders(
        cap_w=np.clip(base_w + rise_w, plan.floor_w, plan.max_w),
        safe_cap_w=np.clip(safe_w, plan.floor_w, plan.max_w),
        reason=reason,
        row=row,
        charge_w=image.charge_w,
        unheeded=_unheeded(plan, image, last, sends),
        mode=proposal.mode,
    )
    return orders, replace(
        state,
        cap_w=np.where(unheard & ~np.isfinite(last.cap_w), np.nan, orders.cap_w),
        recent_w=np.vstack([last.recent_w[1:], orders.cap_w]),
        given_w=min(given_w - max(float(rise_w.sum()) - ramp_w, 0.0), float(wanted_w.sum())),
        last_s=image.now_s,
        cycles=last.cycles + 1,
        sent=sends,
    )


def _before(plan: Plan, image: Image, last: GuardState, sends: bool) -> Floats:
    """Caps that a raise starts from: those ordered last, unless the rack has fallen below them since [R, W].

    An agent that reports less than all orders of the last LATENCY cycles was restarted or its lease ran out. While
    it is silent no order reaches it: it refuses an echo older than its lease.
    """
    found_w = _found(plan, image)
    slot = plan.agent_slot["cap_w"]
    ordered_w = np.where(np.isfinite(last.cap_w), last.cap_w, found_w)
    if not sends:
        return ordered_w
    fallen = (image.quality[slot] == Quality.GOOD) & (found_w < last.recent_w.min(axis=0) - 1.0)
    return np.where(fallen, found_w, ordered_w)


def _unheeded(plan: Plan, image: Image, last: GuardState, sends: bool) -> Bools:
    """Agents that answer and hold a cap that none of the last LATENCY orders gave: refused, lapsed or forged [R]."""
    found_w = _good(image, plan.agent_slot["cap_w"])
    low_w, high_w = last.recent_w.min(axis=0), last.recent_w.max(axis=0)
    unheeded: Bools = (found_w < low_w - 1.0) | (found_w > high_w + 1.0)
    return unheeded & sends


def _found(plan: Plan, image: Image) -> Floats:
    """Caps found at the agents; of an agent that was never heard its safe cap."""
    cap_w = image.value[plan.agent_slot["cap_w"]]
    return np.clip(np.where(np.isfinite(cap_w), cap_w, plan.safe_cap_w), plan.floor_w, plan.max_w)


def _room(plan: Plan, image: Image, envelope_w: float, last: GuardState) -> tuple[Floats, GuardState]:
    """What each row leaves for racks: its continuous rating less what no rack accounts for [K, W]."""
    meter_w = _good(image, plan.node_slot.power)
    rest_w, samples = _rest(plan, image, meter_w, last)
    top_w = plan.site.control.envelope_w
    limit_w = np.full(len(plan.row_name), np.inf)
    limit_w[plan.node_row] = _rating(plan, image, meter_w)
    limit_w[plan.envelope_row] = min(envelope_w, top_w) if np.isfinite(envelope_w) else top_w
    limit_w[plan.cdu_row], limit_w[plan.loop_row] = plan.cdu_cap_w, plan.loop_cap_w
    limit_w[plan.tenant_row] = plan.tenant_max_w
    other_w = np.zeros(len(limit_w))
    design_w = plan.design_other_w
    node_rest_w, site_rest_w = rest_w[:-1], rest_w[-1]
    other_w[plan.node_row] = np.where(np.isnan(node_rest_w), design_w[plan.node_row], np.maximum(node_rest_w, 0.0))
    # below zero where marginal cooling is in the coefficients
    cooling_w = plan.cooling_w_per_w * float(_rack_power(plan, image)[0].sum())
    unlearnt_w = design_w[plan.envelope_row] - cooling_w
    other_w[plan.envelope_row] = site_rest_w if np.isfinite(site_rest_w) else unlearnt_w
    return np.maximum(limit_w - other_w, 0.0), replace(last, rest_w=rest_w, samples=samples)


def _rest(plan: Plan, image: Image, meter_w: Floats, last: GuardState) -> tuple[Floats, Floats]:
    """Filtered load beyond the racks of each node and of the site, and its number of samples [N+1].

    A blind rack draws something between nothing and its charge: the rest moves only when it must.
    """
    least_rows_w, most_rows_w = (image.rows.dot(x) for x in _rack_power(plan, image))
    drawn_w = least_rows_w[plan.node_row] + np.nan_to_num(last.rest_w[:-1])
    meter_w = np.where(np.isnan(meter_w), image.summed_w, meter_w)
    low = np.fmin(drawn_w, image.below_w) > meter_w * (1.0 + LESS_THAN_CHILDREN)
    meter_w = np.where(low, image.below_w, meter_w)
    shown_w = np.append(meter_w, meter_w[plan.feeds].sum())
    least_w, most_w = (np.append(x[plan.node_row], x[plan.envelope_row]) for x in (least_rows_w, most_rows_w))
    held_w = np.where(np.isnan(last.rest_w), shown_w - most_w, last.rest_w)
    toward_w = np.clip(held_w, shown_w - most_w, shown_w - least_w)
    short = np.full(len(shown_w), SHORT_SHARE)
    short[-1] += plan.cooling_w_per_w  # in the coefficients, and no part of the meter's reading on a cold day
    good = np.isfinite(shown_w) & (shown_w >= (1.0 - short) * least_w)
    gain = np.maximum(1.0 / (last.samples + 1.0), 1.0 - np.exp(-(image.now_s - last.last_s) / REST_TAU_S))
    return np.where(good, held_w + (toward_w - held_w) * gain, last.rest_w), last.samples + good


def _rating(plan: Plan, image: Image, meter_w: Floats) -> Floats:
    """Continuous rating of each node in W: measured power over measured utilisation, at light load the worst case."""
    slot = plan.node_slot
    amps = _good(image, slot.current)
    volt = _good(image, slot.volt) * slot.volt_scale
    apparent = np.fmax(_good(image, slot.apparent), plan.phase * volt * amps.mean(axis=1))
    worst_pf = plan.site.control.power_factor_worst
    full = np.where(plan.rating_unit == "A", plan.phase * plan.volt_v * plan.rating, plan.rating)
    amps_unit, va_unit = plan.rating_unit == "A", plan.rating_unit == "VA"
    best = np.where(amps_unit, full * BEST_VOLT, full)
    worst = np.where(
        amps_unit, full * WORST_VOLT * worst_pf / WORST_UNBALANCE, np.where(va_unit, full * worst_pf, full)
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        used = np.where(amps_unit, amps.max(axis=1), np.where(va_unit, apparent, meter_w)) / plan.rating
        shown = meter_w / used
    sane = ~(image.below_w > meter_w * (1.0 + LESS_THAN_CHILDREN))  # its children deny it
    told = sane & (meter_w > LIGHT_SHARE * worst) & (shown > LEAST_SHARE * worst) & (shown < MOST_SHARE * best)
    return np.where(told, np.minimum(shown, best), worst)


def _fit(plan: Plan, image: Image, cap_w: Floats, room_w: Floats, reason: Codes) -> Floats:
    """Cut a proposal that does not fit a row by itself, evenly above the floors; the rows named must hold."""
    for _ in range(3):  # a cut only lowers: three passes bring nested rows within rounding
        load = image.rows.dot(cap_w)
        over = load > room_w * (1.0 + 1e-6) + 1.0
        if not over.any():
            break
        floors = image.rows.dot(plan.floor_w)
        with np.errstate(divide="ignore", invalid="ignore"):
            keep = np.where(over & (load > floors), (room_w - floors) / (load - floors), 1.0)
        share = np.clip(image.rows.rack_min(keep, len(cap_w)), 0.0, 1.0)
        cut = share < 1.0
        cap_w = np.where(cut, plan.floor_w + (cap_w - plan.floor_w) * share, cap_w)
        reason[cut] = Reason.GUARD
    return cap_w


def _wanted(plan: Plan, image: Image, wanted_w: Floats, mode: Mode, state: GuardState, reason: Codes) -> Floats:
    """The raises that data, mode and start permit [R, W]; of the others the reason is said."""
    asked = wanted_w > 0.0
    trusted = may_rise(plan, image) & np.isfinite(state.rest_w[-1])  # the site's own meters have once been read
    for mask, why in (
        (np.full(len(asked), image.riding.any()), Reason.RIDING),
        (np.full(len(asked), mode in (Mode.HOLD, Mode.OFF)), Reason.HOLD),
        (np.full(len(asked), state.cycles < START_CYCLES), Reason.START),
        (~trusted, Reason.STALE),
    ):
        reason[asked & mask & (wanted_w > 0.0)] = why
        wanted_w = np.where(mask, 0.0, wanted_w)
    return wanted_w


def _grant(
    plan: Plan, image: Image, base_w: Floats, wanted_w: Floats, room_w: Floats, budget_w: float, reason: Codes
) -> Floats:
    """The part of the wanted raises that every row has room for and the ramp allows, gang by gang [R, W]."""
    counted_w = np.maximum(_charge(plan, image), base_w)
    extra = np.maximum(base_w + wanted_w - counted_w, 0.0)
    share = _share(plan, image, room_w - image.rows.dot(counted_w), image.rows.dot(extra), extra)
    reason[(wanted_w > 0.0) & (share < 1.0)] = Reason.ROOM
    rise_w = wanted_w * share
    if rise_w.sum() > budget_w:
        reason[rise_w > 0.0] = Reason.PACE
        rise_w = rise_w * (budget_w / rise_w.sum())
    return rise_w


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
    meter = _good(image, plan.node_slot.power)
    good = np.isfinite(meter)
    for level in plan.bottom_up[1:]:  # a node is also good when all its children are
        has = np.bincount(plan.parent[plan.parent >= 0], minlength=len(good))
        bad = np.bincount(plan.parent[(plan.parent >= 0) & ~good], minlength=len(good))
        good[level] |= (has[level] > 0) & (bad[level] == 0)
    above = good.copy()
    for level in reversed(plan.bottom_up[:-1]):
        above[level] &= above[plan.parent[level]]
    agent = np.isfinite(_good(image, plan.agent_slot["power_w"]))
    cords = np.isfinite(image.metered_w)
    upstream = above[plan.parent[plan.rack_pdu]].all(axis=1)
    trusted: Bools = agent & upstream & _cooled(plan, image) & (cords | _agrees(plan, image))
    return trusted


def _cooled(plan: Plan, image: Image) -> Bools:
    """Racks whose CDU and loop, where they are measured at all, have fresh good data [R]."""

    def good(slots: Ints) -> Bools:
        return np.asarray((slots < 0) | (image.quality[slots] == Quality.GOOD), dtype=np.bool_)

    cdu = good(plan.cdu_flow_slot) & good(plan.cdu_supply_slot)
    sure = (plan.pump_slot < 0) | (good(plan.pump_slot) & (image.value[plan.pump_slot] > 0.5))
    lpm = np.bincount(plan.pump_loop, plan.pump_lpm * sure, minlength=len(plan.loop_lpm))
    told = np.bincount(plan.pump_loop, ~good(plan.pump_slot), minlength=len(plan.loop_lpm)) == 0
    loop = good(plan.loop_supply_slot) & (told | (lpm >= plan.loop_lpm))  # a silent standby pump is no loss
    cooled: Bools = cdu[plan.cdu_of] & loop[plan.loop_of]
    return cooled


def _agrees(plan: Plan, image: Image) -> Bools:
    """Agents whose own reading, with their neighbours', accounts for the meters of the nodes above them [R]."""
    racks = image.rows.dot(_rack_power(plan, image)[1])[plan.node_row]
    meter = _good(image, plan.node_slot.power)
    with np.errstate(invalid="ignore"):
        fits = np.abs(racks - meter) <= BALANCE_SHARE * meter
    return np.asarray(fits[plan.parent[plan.rack_pdu]].all(axis=1))


def _rack_power(plan: Plan, image: Image) -> tuple[Floats, Floats]:
    """Least and most that each rack draws now: by its PDUs or its agent, else anything up to its charge [R, W]."""
    agent = np.maximum(_good(image, plan.agent_slot["power_w"]), 0.0)
    known = np.where(np.isfinite(image.metered_w), image.metered_w, agent)
    blind = np.isnan(known)
    return np.where(blind, 0.0, known), np.where(blind, _charge(plan, image), known)


def _charge(plan: Plan, image: Image) -> Floats:
    """What each rack may still draw; nameplate where the charge itself is unknown [R, W]."""
    return np.where(np.isfinite(image.charge_w), np.maximum(image.charge_w, 0.0), plan.max_w)


def _good(image: Image, slots: Ints) -> Floats:
    value = image.value[slots]
    return np.where((slots >= 0) & (image.quality[slots] == Quality.GOOD) & np.isfinite(value), value, np.nan)
