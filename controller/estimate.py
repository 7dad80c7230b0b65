"""Stage 2: power, demand, other load. Pessimistic where blind, by the charges of CONTROL.md."""

from dataclasses import dataclass, replace

import numpy as np

from controller import trust
from controller.frames import Bools, Codes, Estimate, Floats, Image, Rows, Shed, zeroed
from controller.plan import Plan, above
from controller.policies import overload, rating

COVER_S = 5.0  # a device that has not answered by then is absent, not late
DEMAND_WINDOW_S = 60.0  # longest pause of a training gang between two plateaus that still counts as running
BUCKETS = 6
CENSORED_SHARE = 0.95  # of the cap: a rack drawing more may want more (CONTROL.md)
PROBE = 1.25  # a rack that uses up all it was thought to want is next thought to want this much more
PROBE_SCARCE = 1.02  # while its cap is below that anyway, using it up tells little
SPARE = 1.02  # an uncensored rack may want this much more than its peak
OTHER_TAU_S = 30.0  # other load is slow; gang swings of seconds must average out of it
HEAT_TAU_S = 20.0  # cooling follows heat with the loops' lag
STALE_AGENT_S = 3.5  # three reports missed: no cap can be counted on to arrive
LESS_THAN_CHILDREN = 0.03  # a meter that shows this much less than its children and its racks is not believed
BLIND_SHARE = 0.002  # of a row's load unknown: its remainder is not learnt from


@dataclass(frozen=True)
class EstimateState:
    """What the estimate remembers between cycles."""

    started_s: float
    last_s: float
    bucket: int
    peaks_w: Floats  # [BUCKETS, R] highest demand seen in each part of the window
    peak_w: Floats  # [R] highest of them
    rest_w: Floats  # [K] filtered remainder of each row, NaN until learnt
    samples: Floats  # [K] readings it was learnt from
    heat_w: float  # filtered rack power, for marginal cooling
    node_w: Floats  # [N] last good meter reading
    found_w: Floats  # [R] caps in force a cycle ago
    over_s: Floats  # [R] how long each rack has drawn more than its cap
    base_w: Floats  # [N] rating at worst case
    rating_w: Floats  # [N] last rating, inf before the first: a widening is slow
    protections: overload.Protections
    trip: overload.TripState


def begin(plan: Plan, now_s: float) -> EstimateState:
    """State before the first cycle."""
    racks, rows, nodes = len(plan.max_w), len(plan.row_name), len(plan.parent)
    return EstimateState(
        started_s=now_s,
        last_s=now_s,
        bucket=-1,
        peaks_w=np.zeros((BUCKETS, racks)),
        peak_w=np.zeros(racks),
        rest_w=np.full(rows, np.nan),
        samples=np.zeros(rows),
        heat_w=np.nan,
        node_w=np.full(nodes, np.nan),
        found_w=np.full(racks, np.nan),
        over_s=np.zeros(racks),
        base_w=rating.nominal_w(plan),
        rating_w=np.full(nodes, np.inf),
        protections=overload.compile_protections(plan),
        trip=overload.begin(plan),
    )


def estimate(plan: Plan, image: Image, last: EstimateState) -> tuple[Estimate, EstimateState]:
    """Image -> Estimate; arrays as in frames.Estimate."""
    power_w, known = rack_power(plan, image)
    cap_w = image.good[plan.agent_slot["cap_w"]]
    demand_w, state = _demand(plan, image, power_w, cap_w, last)
    since_s = image.now_s - last.last_s
    load_w, other_w, state = _rows(plan, image, power_w, known, cap_w, state)
    rating_w = rating.rating_w(plan, image, last.base_w, last.rating_w)
    trip = overload.follow(plan, last.protections, image, load_w, other_w, rating_w, last.trip, since_s)
    over_s = trust.over_cap_s(plan, power_w, cap_w, last.found_w, last.over_s, since_s)
    disobedient = over_s > plan.reaction_s + trust.DISOBEYED_S
    constant_w = _constants(plan, image, power_w, disobedient)
    covered = bool(image.now_s - state.started_s >= COVER_S) or bool(known.all() and np.isfinite(load_w).all())
    estimate = Estimate(
        rack_power_w=power_w,
        rack_known=known,
        demand_w=demand_w,
        cap_found_w=cap_w,
        constant_w=constant_w,
        disobedient=disobedient,
        rows=_joint(plan, image),
        load_w=load_w,
        other_w=other_w,
        rating_w=rating_w,
        trip_used=trip.trip_used,
        lost=_lost(plan, image),
        alive=~image.dead,
        share=image.share,
        shed_found=_shed(plan, image),
        covered=covered,
    )
    return estimate, replace(state, found_w=cap_w, over_s=over_s, rating_w=rating_w, trip=trip)


def _lost(plan: Plan, image: Image) -> tuple[int, ...]:
    """Losses of the list that have happened; a cooling unit that stopped with its feed is part of that loss."""
    nodes = plan.case_of_node[image.lost_node]
    alone = image.lost_unit.copy()
    for case in nodes.tolist():
        if case in plan.stops:
            alone &= ~plan.stops[case]
    cases = np.concatenate([nodes, plan.case_of_unit[alone]])
    return tuple(sorted(cases[cases >= 0].tolist()))


def _shed(plan: Plan, image: Image) -> Codes:
    """Rungs that the agents report with a cap below the floor, as a shed rack's is [R]."""
    rung, cap_w = image.value[plan.agent_slot["shed"]], image.value[plan.agent_slot["cap_w"]]
    told = cap_w < plan.floor_w
    if not told.any():
        return np.zeros(len(cap_w), dtype=np.uint8)
    return np.where(told & np.isin(rung, list(Shed)), rung, 0.0).astype(np.uint8)


def _joint(plan: Plan, image: Image) -> Rows:
    """Rows of the present state and of the losses at the cord shares in force."""
    if image.share is plan.share:
        return plan.joint
    return plan.joint.at_shares(image.share)


def rack_power(plan: Plan, image: Image) -> tuple[Floats, Bools]:
    """The PDUs' reading, else the agent's own (used, yet not trusted for a raise) [W]."""
    known = np.isfinite(image.metered_w)
    return np.where(known, image.metered_w, image.good[plan.agent_slot["power_w"]]), known


def _constants(plan: Plan, image: Image, power_w: Floats, disobedient: Bools) -> Floats:
    """Racks that no cap moves now: a silent agent counts what its leases allow, a disobedient one what it draws."""
    silent = image.age_s[plan.agent_slot["cap_w"]] > STALE_AGENT_S
    return np.where(silent, image.charge_w, np.where(disobedient, np.fmax(power_w, plan.floor_w), np.nan))


def _demand(
    plan: Plan, image: Image, power_w: Floats, cap_w: Floats, last: EstimateState
) -> tuple[Floats, EstimateState]:
    """Highest draw over the window; where a cap hides it, a probe upward; where blind, the cap itself."""
    thought_w = last.peak_w
    seen = np.where(np.isfinite(power_w), power_w * SPARE, 0.0)
    censored = np.isfinite(power_w) & np.isfinite(cap_w) & (power_w >= CENSORED_SHARE * cap_w)
    probe = np.where(cap_w < thought_w / SPARE, PROBE_SCARCE, PROBE)
    seen = np.where(censored, np.maximum(seen, probe * np.maximum(thought_w, cap_w)), seen)
    first = image.now_s - last.started_s < DEMAND_WINDOW_S
    if first:  # not shedding out of ignorance: until a window has been seen, the cap found is wanted
        seen = np.fmax(seen, cap_w)
    seen = np.where(np.isfinite(power_w), seen, np.fmax(cap_w, plan.floor_w))
    seen = np.clip(seen, plan.floor_w, plan.max_w)
    bucket = int(image.now_s // (DEMAND_WINDOW_S / BUCKETS)) % BUCKETS
    peaks_w = last.peaks_w.copy()
    peaks_w[bucket] = seen if bucket != last.bucket else np.maximum(peaks_w[bucket], seen)
    peak_w = peaks_w.max(axis=0)
    return peak_w, replace(last, bucket=bucket, peaks_w=peaks_w, peak_w=peak_w)


def _rows(
    plan: Plan, image: Image, power_w: Floats, known: Bools, cap_w: Floats, last: EstimateState
) -> tuple[Floats, Floats, EstimateState]:
    """Load of each row and the part of it that no cap moves [W].

    Other load = metered branches without racks (at once) + a filtered remainder (losses, house load, meter
    error). Heat rows carry racks only.
    """
    assumed = np.where(np.isfinite(power_w), power_w, np.fmax(cap_w, plan.floor_w))
    of_racks = image.rows.dot(assumed)
    meter_w = image.good[plan.node_slot.power]
    meter_w = np.where(np.isnan(meter_w), image.summed_w, meter_w)
    node_w = np.where(np.isfinite(meter_w), meter_w, last.node_w)
    branch_w = unmanaged_branches(plan, node_w)
    least_w = np.fmin(of_racks[plan.node_row] + branch_w + zeroed(last.rest_w[plan.node_row]), image.below_w)
    meter_w = np.where(least_w > meter_w * (1.0 + LESS_THAN_CHILDREN), image.below_w, meter_w)
    meter, racks_w, electrical = (
        np.append(x, x[plan.feeds].sum()) for x in (meter_w, of_racks[plan.node_row], branch_w)
    )
    blind_w = np.zeros(len(meter))
    if not known.all():
        blind_w = _of_nodes(plan, image.rows.dot(np.where(known, 0.0, assumed)))
    disturbed = above(plan, image.riding) | _refed(plan, image)
    steady = ~np.append(disturbed, disturbed[plan.feeds].any())
    learn = np.isfinite(meter) & steady & (blind_w <= BLIND_SHARE * np.maximum(meter, 1.0))
    rest_w, state = _remainder(plan, last, meter - racks_w - electrical, learn, image.now_s)
    other_w, load_w = np.zeros(len(plan.row_name)), of_racks.copy()
    unlearnt = np.isnan(rest_w)
    nodes_w = np.maximum(electrical + zeroed(rest_w), 0.0)
    if unlearnt.any():
        nodes_w = np.where(unlearnt, np.fmax(electrical, _of_nodes(plan, plan.design_other_w)), nodes_w)
    _to_nodes(plan, other_w, nodes_w)
    _to_nodes(plan, load_w, np.fmax(meter, racks_w + nodes_w))
    # the envelope row's coefficients carry marginal cooling: what the meters show of it must not count twice,
    # so this row's other load may be negative
    heat_w = _follow(last.heat_w, float(assumed.sum()), image.now_s - last.last_s)
    other_w[plan.envelope_row] -= plan.cooling_w_per_w * heat_w
    return load_w, other_w, replace(state, last_s=image.now_s, heat_w=heat_w, node_w=node_w)


def _refed(plan: Plan, image: Image) -> Bools:
    """Nodes that a closed tie may have given load which their own racks do not account for [N]."""
    out = np.zeros(len(plan.parent), dtype=np.bool_)
    riding = plan.case_of_node[image.riding]  # before a loss is known its load may have come back through a tie
    for case in {*_lost(plan, image), *riding.tolist()}:
        out |= plan.refed.get(case, False)
    return out


def _of_nodes(plan: Plan, rows: Floats) -> Floats:
    """The nodes' rows and the envelope's [N + 1] of all rows [K]."""
    return np.append(rows[plan.node_row], rows[plan.envelope_row])


def _to_nodes(plan: Plan, rows: Floats, value: Floats) -> None:
    """Write the nodes' rows and the envelope's [N + 1] into `rows` [K]."""
    rows[plan.node_row], rows[plan.envelope_row] = value[:-1], value[-1]


def _remainder(
    plan: Plan, last: EstimateState, sample_w: Floats, learn: Bools, now_s: float
) -> tuple[Floats, EstimateState]:
    """Filtered remainder of the nodes' rows and the envelope's: a plain mean at first, then exponential."""
    held, count = _of_nodes(plan, last.rest_w), _of_nodes(plan, last.samples)
    gain = np.maximum(1.0 / (count + 1.0), 1.0 - np.exp(-(now_s - last.last_s) / OTHER_TAU_S))
    moved = np.where(np.isnan(held), sample_w, held + (sample_w - held) * gain)
    rest_w, samples, kept = last.rest_w.copy(), last.samples.copy(), np.where(learn, moved, held)
    _to_nodes(plan, rest_w, kept)
    _to_nodes(plan, samples, count + learn)
    return kept, replace(last, rest_w=rest_w, samples=samples)


def _follow(held: float, sample: float, dt_s: float) -> float:
    """First-order lag of the cooling behind its heat."""
    return sample if np.isnan(held) else held + (sample - held) * (1.0 - float(np.exp(-dt_s / HEAT_TAU_S)))


def unmanaged_branches(plan: Plan, node_w: Floats) -> Floats:
    """Load at each node from metered branches without racks below it, with losses on the way [N, W]."""
    total = np.zeros(len(plan.parent))
    for level in plan.unmanaged_up:
        metered = level[plan.unmanaged[level] & np.isfinite(node_w[level])]
        total[metered] = node_w[metered]
        inner = level[plan.parent[level] >= 0]
        np.add.at(total, plan.parent[inner], total[inner] / plan.efficiency[inner])
    return total
