"""What each row leaves for racks, by the guard's own reading: it shares nothing with estimate and limits."""

from dataclasses import dataclass, replace

import numpy as np

from controller import breaker
from controller.frames import Floats, Image, Ints, zeroed
from controller.plan import Plan

REST_TAU_S = 10.0  # gang swings of seconds must average out of what no rack accounts for
LIGHT_SHARE = 0.1  # of the nominal rating: below it a meter's utilisation says nothing
LESS_THAN_CHILDREN = 0.03  # a meter that shows this much less than its children and its racks is not believed
WORST_VOLT, WORST_UNBALANCE = 0.95, 1.05
BEST_VOLT = 1.05
LEAST_SHARE, MOST_SHARE = 0.3, 1.2  # of worst and best case: a rating outside of these is a wrong meter's
SHORT_SHARE = 0.1  # a meter that shows less than its racks together by more than this is wrong


@dataclass(frozen=True)
class Rated:
    """Continuous ratings [N, W]."""

    best_w: Floats
    worst_w: Floats


@dataclass(frozen=True)
class RoomState:
    """What no rack accounts for, and how far the protections are on their way."""

    rest_w: Floats  # [N+1] load of each node, and of the site, beyond its racks
    samples: Floats  # [N+1]
    breakers: breaker.Breakers
    rated: Rated
    last_s: float


def begin(plan: Plan, now_s: float) -> RoomState:
    """State before the first cycle."""
    nodes = len(plan.parent)
    return RoomState(np.full(nodes + 1, np.nan), np.zeros(nodes + 1), breaker.begin(plan), _rated(plan), now_s)


def room_w(plan: Plan, image: Image, envelope_w: float, last: RoomState) -> tuple[Floats, RoomState]:
    """What each row leaves for racks [K, W]: its rating, or what its protection still permits, less all other load."""
    meter_w = good(image, plan.node_slot.power)
    drawn_w, most_w = rack_power_w(plan, image)
    rest_w, samples = _rest(plan, image, meter_w, drawn_w, most_w, last)
    top_w = plan.site.control.envelope_w
    limit_w = np.full(len(plan.row_name), np.inf)
    used = _used(plan, image, meter_w)
    breakers = breaker.follow(last.breakers, used, max(image.now_s - last.last_s, 0.0))
    limit_w[plan.node_row] = _rating(image, meter_w, used, last.rated) * breaker.permitted(plan, breakers)
    limit_w[plan.envelope_row] = min(envelope_w, top_w) if np.isfinite(envelope_w) else top_w
    limit_w[plan.cdu_row], limit_w[plan.loop_row] = plan.cdu_cap_w, plan.loop_cap_w
    limit_w[plan.tenant_row] = plan.tenant_max_w
    other_w = np.zeros(len(limit_w))
    design_w = plan.design_other_w
    node_rest_w, site_rest_w = rest_w[:-1], rest_w[-1]
    other_w[plan.node_row] = np.where(np.isnan(node_rest_w), design_w[plan.node_row], np.maximum(node_rest_w, 0.0))
    # below zero where marginal cooling is in the coefficients
    cooling_w = plan.cooling_w_per_w * float(drawn_w.sum())
    unlearnt_w = design_w[plan.envelope_row] - cooling_w
    other_w[plan.envelope_row] = site_rest_w if np.isfinite(site_rest_w) else unlearnt_w
    state = replace(last, rest_w=rest_w, samples=samples, breakers=breakers, last_s=image.now_s)
    return np.maximum(limit_w - other_w, 0.0), state


def _rest(
    plan: Plan, image: Image, meter_w: Floats, least_w: Floats, most_w: Floats, last: RoomState
) -> tuple[Floats, Floats]:
    """Filtered load beyond the racks of each node and of the site, and its number of samples [N+1].

    Racks draw between `least_w` and `most_w` [R]: a blind one something between nothing and its charge. The rest
    moves only when it must.
    """
    least_rows_w = image.rows.dot(least_w)
    most_rows_w = least_rows_w if np.array_equal(least_w, most_w) else image.rows.dot(most_w)
    drawn_w = least_rows_w[plan.node_row] + zeroed(last.rest_w[:-1])
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


def _used(plan: Plan, image: Image, meter_w: Floats) -> Floats:
    """Measured load as multiple of the derated rating, in its own unit [N]; NaN where unknown."""
    slot = plan.node_slot
    a, b, c = (good(image, slot.current[:, k]) for k in range(3))
    volt = good(image, slot.volt) * slot.volt_scale
    apparent = np.fmax(good(image, slot.apparent), plan.phase * volt * ((a + b + c) / 3.0))
    most_a = np.maximum(np.maximum(a, b), c)
    native = np.where(plan.in_amps, most_a, np.where(plan.in_va, apparent, meter_w))
    return np.asarray(native / plan.rating)


def _rated(plan: Plan) -> Rated:
    """Continuous ratings at the best and the worst case."""
    worst_pf = plan.site.control.power_factor_worst
    full = np.where(plan.in_amps, plan.phase * plan.volt_v * plan.rating, plan.rating)
    best = np.where(plan.in_amps, full * BEST_VOLT, full)
    worst = np.where(
        plan.in_amps, full * WORST_VOLT * worst_pf / WORST_UNBALANCE, np.where(plan.in_va, full * worst_pf, full)
    )
    return Rated(best, worst)


def _rating(image: Image, meter_w: Floats, used: Floats, rated: Rated) -> Floats:
    """Continuous rating of each node in W: measured power over measured utilisation, at light load the worst case."""
    best, worst = rated.best_w, rated.worst_w
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shown = meter_w / used
    sane = ~(image.below_w > meter_w * (1.0 + LESS_THAN_CHILDREN))  # its children deny it
    told = sane & (meter_w > LIGHT_SHARE * worst) & (shown > LEAST_SHARE * worst) & (shown < MOST_SHARE * best)
    return np.where(told, np.minimum(shown, best), worst)


def rack_power_w(plan: Plan, image: Image) -> tuple[Floats, Floats]:
    """Least and most that each rack draws now: by its PDUs or its agent, else anything up to its charge [R, W]."""
    agent = np.maximum(good(image, plan.agent_slot["power_w"]), 0.0)
    known = np.where(np.isfinite(image.metered_w), image.metered_w, agent)
    blind = np.isnan(known)
    return np.where(blind, 0.0, known), np.where(blind, charge_w(plan, image), known)


def charge_w(plan: Plan, image: Image) -> Floats:
    """What each rack may still draw; nameplate where the charge itself is unknown [R, W]."""
    return np.where(np.isfinite(image.charge_w), np.maximum(image.charge_w, 0.0), plan.max_w)


def good(image: Image, slots: Ints) -> Floats:
    """Values that are fresh and good; NaN elsewhere."""
    return image.sure[slots]
