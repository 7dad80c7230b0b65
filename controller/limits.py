"""Stage 3: what each row allows now. Policies may only narrow a bound, and each leaves its reason."""

from dataclasses import dataclass, replace

import numpy as np

from controller.frames import Bools, Estimate, Floats, Image, Limits, Requests
from controller.plan import Plan
from controller.policies import coolant, grid, overload, supply

KEEP_AGAIN = 0.98  # of a limit: a loss given up is taken up again only when its floors fit this


@dataclass(frozen=True)
class LimitsState:
    """What limits remember: overloads to pay back, the losses given up, the envelope on its way, silent coolers."""

    protections: overload.Protections
    paying: Floats  # [N] largest multiple of the rating until an overload has been paid back, inf: free
    borne: Bools  # [J] rows of losses that racks at their floors can keep
    envelope_w: float  # in force: a request lowers it within the site's down-ramp
    curtailed: bool  # the ramp has begun, from what the site could draw then
    last_s: float
    coolant: coolant.CoolantState
    supply: supply.SupplyState


def begin(plan: Plan) -> LimitsState:
    """State before the first cycle."""
    free = np.full(len(plan.parent), np.inf)
    protections = overload.compile_protections(plan)
    borne = np.ones(len(plan.losses.name), dtype=np.bool_)
    top_w = plan.site.control.envelope_w
    return LimitsState(protections, free, borne, top_w, False, np.inf, coolant.begin(plan), supply.begin(plan))


def narrow(
    plan: Plan, image: Image, estimate: Estimate, requests: Requests, last: LimitsState
) -> tuple[Limits, LimitsState]:
    """Image, Estimate, requests -> Limits; arrays as in frames.Limits."""
    allowed_w, paying = overload.allowed_w(plan, last.protections, estimate.rating_w, estimate.trip_used, last.paying)
    down_w = grid.down_w_per_s(plan.site, requests) * max(image.now_s - last.last_s, 0.0)
    from_w = last.envelope_w if last.curtailed else min(last.envelope_w, _reach_w(plan, estimate))
    envelope_w, by = grid.envelope_w(plan.site, requests, from_w - down_w)
    cdu_w, loop_w, cooling = coolant.heat_w(plan, image, last.coolant)
    warm = supply.heat_w(plan, image, estimate.load_w[plan.cdu_row], estimate.other_w[plan.cdu_row], last.supply)
    cdu_w = np.minimum(cdu_w, warm.limit_w)
    metered = 1.0 - grid.METER_ERROR
    node_w = (allowed_w - plan.losses.reserve_w) * metered
    limit_w = np.concatenate([node_w, cdu_w, loop_w, plan.tenant_max_w, [envelope_w * metered]])
    room_w = np.maximum(limit_w - estimate.other_w, 0.0)
    loss_w, loss_room_w, borne = _losses(plan, image, estimate, last, metered)
    limit_w, room_w = np.append(limit_w, loss_w), np.append(room_w, loss_room_w)
    narrowed = [""] * len(limit_w)
    narrowed[plan.envelope_row] = by
    for row in np.flatnonzero(limit_w[plan.loop_row] < plan.loop_cap_w):
        narrowed[plan.loop_row.start + row] = "flow and supply temperature"
    for row in np.flatnonzero(np.isfinite(warm.limit_w)):
        narrowed[plan.cdu_row.start + row] = "supply warmer than the racks accept"
    parked = _marked(plan, requests.parked)
    limits = Limits(
        limit_w=limit_w,
        room_w=room_w,
        narrowed_by=tuple(narrowed),
        held=_marked(plan, requests.held) | parked,
        parked=parked,
        envelope_w=envelope_w,
        mode=requests.mode,
        setpoints=requests.setpoints,
    )
    return limits, replace(
        last,
        paying=paying,
        borne=borne,
        coolant=cooling,
        supply=warm,
        envelope_w=envelope_w,
        curtailed=bool(by) and (last.curtailed or estimate.covered),
        last_s=image.now_s,
    )


def _marked(plan: Plan, racks: frozenset[str]) -> Bools:
    out = np.zeros(len(plan.max_w), dtype=np.bool_)
    out[[plan.site.rack_index[r] for r in racks]] = True
    return out


def _losses(
    plan: Plan, image: Image, estimate: Estimate, last: LimitsState, metered: float
) -> tuple[Floats, Floats, Bools]:
    """What each survivor may carry after a loss [J, W], what of it the slower racks may have, and the rows borne [J].

    A row that cannot hold with every rack at its floor holds nobody: that loss is not secured, and said so. Nothing
    moves onto a node through which no cord carries anything now: it has been lost itself.
    """
    losses, node = plan.losses, plan.losses.node_of
    multiple = overload.loss_multiple(
        plan, last.protections, estimate.trip_used, node, losses.hold_s - losses.begin_s, losses.weight
    )
    limit_w = estimate.rating_w[node] * metered * multiple
    room_w = limit_w - np.maximum(estimate.other_w[node], 0.0) - losses.moved_w - losses.fast_w
    borne = losses.floor_load_w <= room_w * np.where(last.borne, 1.0, KEEP_AGAIN)
    carries = image.rows.loaded[plan.node_row]
    return limit_w, np.where(borne & carries[node], room_w, np.inf), borne


def _reach_w(plan: Plan, estimate: Estimate) -> float:
    """What the site may draw with the caps in force: a curtailment starts there [W]; infinite if unknown."""
    drawn = np.fmin(estimate.demand_w, estimate.cap_found_w)
    reach = plan.rows.row_dot(plan.envelope_row, drawn) + estimate.other_w[plan.envelope_row]
    return float(reach) / (1.0 - grid.METER_ERROR) if estimate.covered else np.inf
