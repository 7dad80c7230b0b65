"""Rules on a site's figures: floors and safe caps fit every rating, loop and the envelope; caps can be expressed."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

from drivers.lease.holder import FASTEST, SLOWEST
from drivers.lease.message import MAX_DECAY_S, MAX_TTL_S, MIN_TTL_S
from drivers.site.catalog import MEASURED, curve
from drivers.site.cooling import COOLANTS
from drivers.site.links import HEAT_REJECTION, cycles, duty
from drivers.site.model import Loop, Node, Rack, Site
from drivers.site.report import Report

RackPower = Callable[[Rack], float]
FALL = math.log(SLOWEST / FASTEST) / (SLOWEST - FASTEST)  # mean of 1 / share: racks draw their share of the decay
STEPS_MIN = 50  # steps that a cap register must have between floor and nameplate


def limit_w(node: Node, power_factor: float) -> float:
    """Continuous active power of a node at a power factor [W]."""
    per_unit = {
        "W": 1.0,
        "VA": power_factor,
        "A": power_factor * node.volt_v * (math.sqrt(3) if node.phases == 3 else 1),
    }
    return node.rating * node.derating * per_unit[node.rating_unit]


def node_loads(site: Site, rack_w: RackPower) -> dict[str, float]:
    """Load at every node's output [W]: racks by their cord shares, losses, other loads, all duty cooling at full power.

    Names that lead nowhere are left out, and so are nodes in a ring.
    """
    nodes = {n.id: n for n in site.nodes}
    own: dict[str, float] = defaultdict(float)
    for rack in site.racks:
        own[rack.pdu_a] += rack_w(rack) * rack.share_a
        own[rack.pdu_b] += rack_w(rack) * (1 - rack.share_a)
    for load in site.loads:
        own[load.node] += load.power_w
    draws = [(u.fed_from, u.power_w) for u in site.cooling if not u.standby]
    draws += [(c.fed_from, c.pump_w) for c in site.cdus if c.kind == "row"]
    for feeds, power_w in draws:
        for feed in feeds:
            own[feed] += power_w / len(feeds)
    ringed = {name for ring in cycles(nodes) for name in ring}
    total = {name: own[name] for name in nodes if name not in ringed}
    for name in sorted(total, key=lambda n: -_depth(nodes, n, ringed)):
        parent = nodes[name].parent
        if parent in total and nodes[name].kind != "utility_feed":
            total[parent] += total[name] / nodes[name].efficiency
    return total


def _depth(nodes: Mapping[str, Node], name: str, ringed: set[str]) -> int:
    depth = 0
    while name in nodes and name not in ringed:
        depth, name = depth + 1, nodes[name].parent
    return depth


def site_w(site: Site, rack_w: RackPower) -> float:
    """Power at the utility meters together [W] (see node_loads)."""
    loads = node_loads(site, rack_w)
    return sum(loads[n.id] for n in site.nodes if n.kind == "utility_feed" and n.id in loads)


def check_rack_powers(report: Report) -> None:
    """floor <= safe cap <= nameplate, idle and other power below them, and a register that can say it."""
    kinds = {j.id: j.kind for j in report.site.jobs}
    for r in report.site.racks:
        at = ("racks", r.id)
        if not r.floor_w <= r.safe_cap_w <= r.max_w:
            what = f"floor_w {r.floor_w:g}, safe_cap_w {r.safe_cap_w:g}, max_w {r.max_w:g} are out of order"
            report.note(*at, what, "Keep floor_w <= safe_cap_w <= max_w")
        if r.idle_w > r.max_w:
            report.note(*at, f"idle_w {r.idle_w:g} is above max_w {r.max_w:g}", "Idle power is below nameplate")
        if r.other_w >= r.floor_w:
            fix = "A floor must leave its GPUs power: raise floor_w or correct other_w"
            report.note(*at, f"other_w {r.other_w:g} takes all of floor_w {r.floor_w:g}", fix)
        elif (r.gpu_model, kinds.get(r.job, "inference")) in MEASURED and r.max_w > r.other_w:
            lowest = curve(r.gpu_model, kinds.get(r.job, "inference"))[0][0]
            least_w = r.other_w + lowest * (r.max_w - r.other_w)
            if r.floor_w < least_w * (1 - 1e-9):
                what = f"floor_w {r.floor_w:g} leaves the GPUs less than the lowest cap measured ({lowest:.0%})"
                report.note(
                    *at, what, f"Raise floor_w to {math.ceil(least_w)}: below it nothing is known of their work"
                )
        _check_register(report, r)


def _check_register(report: Report, r: Rack) -> None:
    actuator = report.site.actuators.get(r.actuator)
    if actuator is None:
        return
    at, step_w = ("racks", r.id), actuator.resolution_w
    if r.max_w > actuator.register_max_w:
        what = f"max_w {r.max_w:g} does not fit actuator '{r.actuator}', which ends at {actuator.register_max_w:g} W"
        report.note(*at, what, "Use an actuator with a larger register or scale")
    if step_w * STEPS_MIN > r.max_w - r.floor_w > 0:
        what = f"actuator '{r.actuator}' has steps of {step_w:g} W over {r.max_w - r.floor_w:g} W"
        report.note(*at, what, f"A cap needs at least {STEPS_MIN} steps between floor_w and max_w")
    if math.floor(r.safe_cap_w / step_w) * step_w < r.floor_w <= r.safe_cap_w:
        what = f"safe_cap_w {r.safe_cap_w:g}, rounded down to steps of {step_w:g} W, is below floor_w {r.floor_w:g}"
        report.note(*at, what, "Raise safe_cap_w by one step")


def check_fit(report: Report) -> None:
    """Floors and safe caps, with losses, loads and cooling, fit every node and the envelope; on one cord, too."""
    site = report.site
    pf = site.control.power_factor_worst
    for label, rack_w in _LEVELS:
        loads = node_loads(site, rack_w)
        alone = _one_cord(site, rack_w)
        for n in site.nodes:
            limit = limit_w(n, pf)
            fix = f"Raise the rating, or lower the {label} below it"
            if loads.get(n.id, 0.0) > limit:
                what = f"{label} below {n.kind} '{n.id}' need {watts(loads[n.id])}, it may carry {watts(limit)}"
                report.note("nodes", n.id, what, fix)
            elif alone.get(n.id, 0.0) > limit:
                what = f"{label} on {n.kind} '{n.id}' need {watts(alone[n.id])} when the other cords are lost"
                report.note("nodes", n.id, f"{what}, it may carry {watts(limit)}", fix)
        need = sum(loads.get(n.id, 0.0) for n in site.nodes if n.kind == "utility_feed")
        if need > site.control.envelope_w:
            what = f"{label} with losses, loads and cooling need {watts(need)}, the envelope is"
            fix = f"Raise the envelope or lower the {label}"
            report.note("site", "control.envelope_w", f"{what} {watts(site.control.envelope_w)}", fix)


def _one_cord(site: Site, rack_w: RackPower) -> dict[str, float]:
    """Load of PDUs and busways when all their racks have lost the other cord [W]."""
    nodes = {n.id: n for n in site.nodes}
    loads: dict[str, float] = defaultdict(float)
    for rack in site.racks:
        for pdu in {rack.pdu_a, rack.pdu_b} & nodes.keys():
            loads[pdu] += rack_w(rack)
            above = nodes.get(nodes[pdu].parent)
            if above is not None and above.kind == "busway":
                loads[above.id] += rack_w(rack) / nodes[pdu].efficiency
    return loads


def heat_loads(site: Site, rack_w: RackPower) -> tuple[dict[str, float], dict[str, float]]:
    """Heat into every CDU and into every loop [W]; rear doors bring the loop what the CDU does not take."""
    loop_of = {c.id: c.loop for c in site.cdus}
    by_cdu: dict[str, float] = defaultdict(float)
    by_loop: dict[str, float] = defaultdict(float)
    for r in site.racks:
        by_cdu[r.cdu] += rack_w(r) * r.liquid_share
        by_loop[loop_of.get(r.cdu, "")] += rack_w(r)
    return by_cdu, by_loop


def loop_able_w(site: Site, loop: Loop) -> tuple[float, float]:
    """Heat that a loop's flow carries and that its duty units reject [W]."""
    spread_k = loop.return_max_c - loop.supply_c
    return loop.flow_lpm * COOLANTS[loop.coolant].w_per_lpm_k * spread_k, duty(site, loop.id, HEAT_REJECTION)


def check_heat(report: Report) -> None:
    """The heat of floors and safe caps fits every CDU and loop; duty pumps carry the loop's flow."""
    site = report.site
    for label, rack_w in _LEVELS:
        by_cdu, by_loop = heat_loads(site, rack_w)
        for cdu in site.cdus:
            if by_cdu[cdu.id] > cdu.capacity_w:
                heat = f"{watts(by_cdu[cdu.id])} of heat"
                what = f"{label} give CDU '{cdu.id}' {heat}, its capacity is {watts(cdu.capacity_w)}"
                report.note("cdus", cdu.id, what, f"Move racks to another CDU or lower their {label}")
        for loop in site.loops:
            carry_w, reject_w = loop_able_w(site, loop)
            at_k = f"its flow carries at {loop.return_max_c - loop.supply_c:g} K"
            for able_w, how in ((carry_w, at_k), (reject_w, "its units reject")):
                if by_loop[loop.id] > able_w > 0 and not (report.unread and able_w == reject_w):
                    what = f"{label} give loop '{loop.id}' {watts(by_loop[loop.id])} of heat, {how} {watts(able_w)}"
                    report.note("loops", loop.id, what, f"Add cooling or lower the {label}")


def check_plant(report: Report) -> None:
    """Every loop has duty pumps for its flow and something that rejects heat."""
    site = report.site
    for loop in site.loops if not report.unread else ():
        pumps_lpm = duty(site, loop.id, ("pump",))
        if pumps_lpm < loop.flow_lpm:
            what = f"the duty pumps of loop '{loop.id}' move {pumps_lpm:g} L/min, its flow_lpm is {loop.flow_lpm:g}"
            report.note("loops", loop.id, what, "Add a pump to cooling.csv or lower flow_lpm")
        if duty(site, loop.id, HEAT_REJECTION) == 0:
            fix = "Add a chiller, dry cooler or tower to cooling.csv"
            report.note("loops", loop.id, f"nothing takes the heat out of loop '{loop.id}'", fix)


def check_leases(report: Report) -> None:
    """Lease times fit their message; when every lease ends, the site falls to the safe caps inside its own ramp.

    It falls from the envelope at most: the caps in force fit it, also while they decay.
    """
    site, control = report.site, report.site.control
    times = (("lease_ttl_s", MIN_TTL_S, MAX_TTL_S), ("lease_decay_s", 0.0, MAX_DECAY_S))
    for name, least_s, most_s in times:
        if not least_s <= getattr(control, name) <= most_s:
            what = f"{name} is {getattr(control, name):g}, a lease message carries {least_s:g} to {most_s:g} s"
            report.note("site", _control(site, name), what, "Every agent would refuse it: choose a time within")
    top_w = min(site_w(site, lambda r: r.max_w), control.envelope_w)
    fall_w = FALL * (top_w - site_w(site, lambda r: r.safe_cap_w))
    if fall_w > control.lease_decay_s * control.ramp_down_w_per_s:
        what = f"when every lease ends the site falls by {watts(fall_w / control.lease_decay_s)} each second"
        least_s = math.ceil(fall_w / control.ramp_down_w_per_s)
        fix = f"Set control.lease_decay_s to at least {least_s}, or raise the ramp or the safe caps"
        at = _control(site, "lease_decay_s")
        report.note("site", at, f"{what}, its ramp_down_w_per_s is {watts(control.ramp_down_w_per_s)}", fix)


def _control(site: Site, name: str) -> str:
    """Where to show a problem of `control`: its key, or all of it where the key is left at its default."""
    return f"control.{name}" if f"site/control.{name}" in site.where else "control"


def watts(power_w: float) -> str:
    """A power for people, with enough digits to see the difference."""
    return f"{power_w / 1e6:.3f} MW" if power_w >= 1e6 else f"{power_w / 1e3:.2f} kW"


_LEVELS: tuple[tuple[str, RackPower], ...] = (
    ("floors", lambda r: r.floor_w),
    ("safe caps", lambda r: r.safe_cap_w),
)
RULES: tuple[Callable[[Report], None], ...] = (check_rack_powers, check_fit, check_heat, check_plant, check_leases)
