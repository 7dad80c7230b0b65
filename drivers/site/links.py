"""Rules on a site's names and links: every name exists, every id is one thing, the nodes are trees below the feeds."""

from collections.abc import Callable, Iterable

from drivers.site.catalog import GPUS, TRIP_CURVES
from drivers.site.model import Node, Rack, Site
from drivers.site.report import Report

LEASE_GROUP_MAX = 64
MEASURABLE = ("nodes", "racks", "cdus", "loops", "cooling", "storage", "switches")
HEAT_REJECTION = ("chiller", "dry_cooler", "tower")
PIPES_MOST = 0.4  # of a loop's water in one pipe
SOURCES = {"utility_feed": "utility feed", "generator": "generator"}


def check_ids(report: Report) -> None:
    """An id stands for one row of its table, and for one thing that a device can measure."""
    owner: dict[str, str] = {}
    for table in (*MEASURABLE, "generators", "jobs", "tenants", "loads", "gateways", "devices"):
        seen: set[str] = set()
        for row in getattr(report.site, table):
            if row.id in seen:
                report.note(table, row.id, f"id '{row.id}' stands more than once", "Rename or remove one")
            seen.add(row.id)
        if table in MEASURABLE:
            for name in sorted(seen):
                if name in owner:
                    fix = f"Rename one: a device that measures '{name}' would be ambiguous"
                    report.note(table, name, f"id '{name}' stands also in {owner[name]}.csv", fix)
                owner.setdefault(name, table)


def check_forest(report: Report) -> None:
    """Utility feeds and generators, and only they, have no parent; following the parents ends at a feed."""
    nodes: dict[str, Node] = {n.id: n for n in report.site.nodes}
    for n in report.site.nodes:
        at = ("nodes", n.id)
        if n.kind in SOURCES:
            if n.parent:
                report.note(*at, f"{SOURCES[n.kind]} '{n.id}' has the parent '{n.parent}'", "Leave its parent empty")
        elif not n.parent:
            fix = "Name the node that feeds it: only feeds and generators have none"
            report.note(*at, f"{n.kind} '{n.id}' has no parent", fix)
        elif report.known(at, "parent", n.parent, nodes, "nodes.csv") and nodes[n.parent].kind == "pdu":
            fix = "A rack PDU feeds its rack only: name the busway or UPS"
            report.note(*at, f"{n.kind} '{n.id}' hangs on the PDU '{n.parent}'", fix)
        elif n.parent in nodes and nodes[n.parent].kind == "generator":
            fix = "A generator stands by: name the usual source, and join the generator to the bus in switches.csv"
            report.note(*at, f"{n.kind} '{n.id}' hangs on the generator '{n.parent}'", fix)
        if n.trip_curve and report.known(at, "trip curve", n.trip_curve, TRIP_CURVES, "the catalog of trip curves"):
            most = TRIP_CURVES[n.trip_curve].derating
            if n.derating > most:
                what = f"derating {n.derating:g} of '{n.id}' is above the {most:g} of its curve '{n.trip_curve}'"
                report.note(*at, what, f"Set derating to {most:g}: it carries no more for hours")
        if n.eco and n.kind != "ups":
            report.note(*at, f"{n.kind} '{n.id}' has eco, which is a UPS on its bypass", "Leave eco empty or false")
    for ring in cycles(nodes):
        fix = "Mend one of their parents: each node has one way up to a feed"
        report.note("nodes", ring[0], f"nodes feed each other in a ring: {' <- '.join((*ring, ring[0]))}", fix)


def check_generators(report: Report) -> None:
    """Each generator is a node and a row, and a tie or transfer switch, open as a rule, joins it to a bus."""
    site = report.site
    nodes = {n.id: n for n in site.nodes}
    rows = {g.id for g in site.generators}
    joined = {x for s in site.switches if s.kind in ("tie", "transfer") and s.normal == "open" for x in (s.a, s.b)}
    for g in site.generators:
        at = ("generators", g.id)
        if report.known(at, "node", g.id, nodes, "nodes.csv") and nodes[g.id].kind != "generator":
            fix = "Give the node the kind generator, or the row the id of one that is"
            report.note(*at, f"'{g.id}' is a {nodes[g.id].kind}", fix)
    for n in site.nodes:
        if n.kind != "generator":
            continue
        if n.id not in rows and n.id not in report.unread:
            fix = "Add it there, with the same id"
            report.note("nodes", n.id, f"generator '{n.id}' has no row in generators.csv", fix)
        if n.id not in joined:
            fix = "Join it to a bus by a switch of kind transfer, normally open"
            report.note("nodes", n.id, f"generator '{n.id}' can feed nothing", fix)


def cycles(nodes: dict[str, Node]) -> list[tuple[str, ...]]:
    """Rings of nodes that are each other's parents, each from its first node in table order."""
    done: set[str] = set()
    rings = []
    for start in nodes:
        path: list[str] = []
        at = start
        while at in nodes and at not in done:
            done.add(at)
            path.append(at)
            at = nodes[at].parent
        if at in path:
            rings.append(tuple(path[path.index(at) :]))
    return rings


def check_racks(report: Report) -> None:
    """A rack's PDUs, CDU, job, GPU model and actuator exist; each PDU carries one rack."""
    site = report.site
    nodes = {n.id: n for n in site.nodes}
    cdus, jobs = {c.id for c in site.cdus}, {j.id for j in site.jobs}
    carries: dict[str, str] = {}
    for rack in site.racks:
        at = ("racks", rack.id)
        for column in ("pdu_a", "pdu_b"):
            pdu = getattr(rack, column)
            if report.known(at, column, pdu, nodes, "nodes.csv"):
                _check_cord(report, rack, nodes[pdu], column, carries)
        report.known(at, "cdu", rack.cdu, cdus, "cdus.csv")
        report.known(at, "gpu_model", rack.gpu_model, GPUS, "the catalog of GPUs")
        report.known(at, "actuator", rack.actuator, site.actuators, "site.yaml")
        if rack.job:
            report.known(at, "job", rack.job, jobs, "jobs.csv")


def _check_cord(report: Report, rack: Rack, node: Node, column: str, carries: dict[str, str]) -> None:
    if node.kind != "pdu":
        fix = "A rack hangs on rack PDUs: name one, or give the node kind pdu"
        report.note("racks", rack.id, f"{column} '{node.id}' is a {node.kind}", fix)
    if node.id in carries:
        fix = "Give each rack its own two PDUs: their meters are the rack's meter"
        report.note("racks", rack.id, f"{column} '{node.id}' carries rack '{carries[node.id]}' already", fix)
    carries.setdefault(node.id, rack.id)


def check_groups(report: Report) -> None:
    """A training job has one priority; a lease group is at most 64 racks of one hall."""
    site = report.site
    training = {j.id for j in site.jobs if j.kind == "training"}
    first: dict[str, Rack] = {}
    for rack in site.racks:
        lead = first.setdefault(rack.job, rack)
        if rack.job in training and lead.priority != rack.priority:
            what = f"priority {rack.priority} in job '{rack.job}', whose rack '{lead.id}' has {lead.priority}"
            report.note("racks", rack.id, what, "Give a gang one priority: it runs at the pace of its slowest rack")
    for group, members in site.lease_groups.items():
        lead = site.racks[members[0]]
        if len(members) > LEASE_GROUP_MAX:
            fix = f"Split it: one message carries at most {LEASE_GROUP_MAX} racks"
            report.note("racks", lead.id, f"lease group '{group}' has {len(members)} racks", fix)
        for other in (site.racks[i] for i in members):
            if other.hall != lead.hall:
                what = f"lease group '{group}' is in hall '{lead.hall}', this rack in '{other.hall}'"
                report.note("racks", other.id, what, "Keep a group in one hall: each hall has its own connection")


def check_feeds(report: Report) -> None:
    """Every pump, CDU, gateway, meter, battery, load, switch and controller names existing nodes that feed it."""
    site, nodes = report.site, report.site.node_index
    of = "nodes.csv"
    for table in ("cdus", "cooling", "gateways", "devices"):
        for row in getattr(site, table):
            report.known_all((table, row.id), "fed_from", row.fed_from, nodes, of)
            if not row.fed_from and table != "devices":
                fix = "Name the node it takes its power from: its loss must be foreseen"
                report.note(table, row.id, f"'{row.id}' names no feed", fix)
    report.known_all(("site", "control.fed_from"), "control: fed_from", site.control.fed_from, nodes, of)
    report.known_all(("site", "mqtt.fed_from"), "mqtt: fed_from", site.mqtt.fed_from, nodes, of)
    if not site.control.fed_from:
        report.note("site", "control", "control names no feed", "Name the nodes that feed the controllers in fed_from")
    for load in site.loads:
        report.known(("loads", load.id), "node", load.node, nodes, of)
    for battery in site.storage:
        report.known(("storage", battery.id), "node", battery.node, nodes, of)
    for switch in site.switches:
        report.known_all(("switches", switch.id), "node", (switch.a, switch.b), nodes, of)
        if switch.a == switch.b:
            report.note("switches", switch.id, f"'{switch.id}' joins '{switch.a}' to itself", "Name two nodes")


def check_loops(report: Report) -> None:
    """CDUs and cooling units are on existing loops; temperatures rise along the heat's way."""
    site = report.site
    loops = {loop.id: loop for loop in site.loops}
    for unit in site.cooling:
        report.known(("cooling", unit.id), "loop", unit.loop, loops, "loops.csv")
    for cdu in site.cdus:
        at = ("cdus", cdu.id)
        if report.known(at, "loop", cdu.loop, loops, "loops.csv") and cdu.supply_c <= loops[cdu.loop].supply_c:
            what = f"supply_c is {cdu.supply_c:g} C, not above the {loops[cdu.loop].supply_c:g} C of its loop"
            report.note(*at, what, "A CDU supplies warmer than its loop, by its approach")
        if cdu.supply_c > site.control.supply_max_c:
            what = f"supply_c is {cdu.supply_c:g} C, the racks accept {site.control.supply_max_c:g} C"
            report.note(*at, what, "Lower it or raise control.supply_max_c")
    for loop in site.loops:
        if loop.pipe_l > PIPES_MOST * loop.volume_l:
            what = f"pipe_l is {loop.pipe_l:g} L each way of volume_l {loop.volume_l:g} L in all"
            report.note("loops", loop.id, what, f"Leave {1.0 - 2.0 * PIPES_MOST:.0%} of it outside the pipes")
        if loop.return_max_c <= loop.supply_c:
            what = f"return_max_c is {loop.return_max_c:g} C, supply_c {loop.supply_c:g} C"
            report.note("loops", loop.id, what, "The return must be allowed to be warmer than the supply")


RULES: tuple[Callable[[Report], None], ...] = (
    check_ids,
    check_forest,
    check_generators,
    check_racks,
    check_groups,
    check_feeds,
    check_loops,
)


def duty(site: Site, loop: str, kinds: Iterable[str]) -> float:
    """Capacity of a loop's units of some kinds without the standby ones [W, or L/min for pumps]."""
    return sum(u.capacity for u in site.cooling if u.loop == loop and u.kind in kinds and not u.standby)
