"""Rules on tenants: their names exist, their guarantees fit their maxima, their racks, and all limits together."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from drivers.site.model import Rack, Site, Tenant
from drivers.site.report import Report
from drivers.site.sums import heat_loads, limit_w, loop_able_w, node_loads, watts

ROUNDING = 1e-9  # relative: the proof's own sums


def racks_of(site: Site) -> dict[str, list[Rack]]:
    """Racks of each tenant, by their jobs; a rack without a job is nobody's."""
    tenant = {j.id: j.tenant for j in site.jobs}
    found: dict[str, list[Rack]] = defaultdict(list)
    for rack in site.racks:
        found[tenant.get(rack.job, "")].append(rack)
    return found


def check_tenants(report: Report) -> None:
    """Jobs name tenants of the table; guarantee <= maximum and nameplate of the racks, whose floors fit the maximum."""
    site = report.site
    names = {t.id for t in site.tenants}
    named = [j for j in site.jobs if j.tenant]
    sound = [report.known(("jobs", j.id), "tenant", j.tenant, names, "tenants.csv") for j in named]
    if report.unread or not all(sound):
        return  # the rack or job that could not be read, or named amiss, may be the one
    racks = racks_of(site)
    for t in site.tenants:
        nameplate_w = sum(r.max_w for r in racks[t.id])
        floors_w = sum(r.floor_w for r in racks[t.id])
        mine = f"its {len(racks[t.id])} racks" if racks[t.id] else "none of whose jobs has a rack,"
        if t.guarantee_w > nameplate_w * (1 + ROUNDING):
            what = f"guarantee_w of tenant '{t.id}' is {watts(t.guarantee_w)}, {mine} take {watts(nameplate_w)} at most"
            report.note("tenants", t.id, what, "Lower the guarantee or give its jobs more racks")
        if t.max_w is not None and t.guarantee_w > t.max_w:
            what = f"guarantee_w of tenant '{t.id}' is {watts(t.guarantee_w)}, above its max_w of {watts(t.max_w)}"
            report.note("tenants", t.id, what, "Keep guarantee_w <= max_w")
        if t.max_w is not None and floors_w > t.max_w:
            what = f"max_w of tenant '{t.id}' is {watts(t.max_w)}, the floors of {mine} need {watts(floors_w)}"
            report.note("tenants", t.id, what, "Raise max_w or give its jobs fewer racks")


def guaranteed_w(site: Site) -> dict[str, float]:
    """Power of each rack when every guarantee is drawn in full, and nothing else is [W].

    A tenant's racks rise from their floors, class by class, by one common share of what lies above; others stay.
    """
    power_w = {r.id: r.floor_w for r in site.racks}
    racks = racks_of(site)
    for t in site.tenants:
        left_w = t.guarantee_w - sum(r.floor_w for r in racks[t.id])
        for priority in sorted({r.priority for r in racks[t.id]}):
            members = [r for r in racks[t.id] if r.priority == priority]
            room_w = sum(r.max_w - r.floor_w for r in members)
            share = min(max(left_w, 0.0) / room_w, 1.0) if room_w > 0 else 0.0
            power_w |= {r.id: r.floor_w + share * (r.max_w - r.floor_w) for r in members}
            left_w -= share * room_w
    return power_w


def _limits(site: Site, power_w: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    """Every limit as (what it is, load with these rack powers, what it may carry) [W]."""

    def rack_w(r: Rack) -> float:
        return power_w[r.id]

    loads = node_loads(site, rack_w)
    pf = site.control.power_factor_worst
    yield from ((f"{n.kind} '{n.id}'", loads.get(n.id, 0.0), limit_w(n, pf)) for n in site.nodes)
    by_cdu, by_loop = heat_loads(site, rack_w)
    yield from ((f"CDU '{c.id}'", by_cdu[c.id], c.capacity_w) for c in site.cdus)
    yield from ((f"loop '{x.id}'", by_loop[x.id], min(loop_able_w(site, x))) for x in site.loops)
    meters_w = sum(loads.get(n.id, 0.0) for n in site.nodes if n.kind == "utility_feed")
    yield "the envelope", meters_w, site.control.envelope_w


def check_guarantees(report: Report) -> None:
    """All guarantees can be drawn at once, everybody else at the floors, within every rating, loop and the envelope.

    A limit that the floors alone exceed is not the guarantees' fault: check_fit and check_heat name it.
    """
    site = report.site
    asked: list[Tenant] = [t for t in site.tenants if t.guarantee_w > 0]
    if not asked or report.problems or report.unread:
        return  # the proof needs sound names and figures
    for name, need_w, able_w in _limits(site, guaranteed_w(site)):
        if need_w > able_w * (1 + ROUNDING):
            what = f"the guarantees of all tenants load {name} with {watts(need_w)}, it may carry {watts(able_w)}"
            fix = f"Lower them by {watts(need_w - able_w)} there, or raise the limit"
            report.note("tenants", asked[0].id, f"{what}: {watts(need_w - able_w)} too much", fix)


RULES: tuple[Callable[[Report], None], ...] = (check_tenants, check_guarantees)
