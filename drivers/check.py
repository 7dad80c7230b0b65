"""Every problem of a site in one run: names, figures, and whether its devices can be polled."""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path

from drivers.modbus.identity import declared
from drivers.modbus.plan import poll_s
from drivers.mqtt.sparkplug.topics import address
from drivers.profile import STANDS_AT, Profile, measured_kind
from drivers.site import links, sums, tenants
from drivers.site.load import find_site, read_draft
from drivers.site.model import Device, Site
from drivers.site.problems import Problem
from drivers.site.reference import SITES
from drivers.site.report import Report
from drivers.site.write import TABLES

GATEWAY_BUSY_MAX = 0.9  # of a gateway's time; the rest is for writes and for devices that answer late
SPARKPLUG_TOPIC = "Write GROUP/NODE, or GROUP/NODE/DEVICE for a device behind an edge node"


def _things(site: Site) -> dict[str, str]:
    """Everything a device can measure: id -> kind as in measured_kind."""
    things = {row.id: kind for kind in ("node", "rack", "cdu", "loop") for row in getattr(site, f"{kind}s")}
    things |= {row.id: "storage" for row in site.storage} | {row.id: "switch" for row in site.switches}
    return things | {row.id: row.kind for row in site.cooling}


def check_devices(report: Report, profiles: Mapping[str, Profile]) -> None:
    """Profile and measured thing exist and belong together; the address is complete and of its protocol."""
    things, gateways = _things(report.site), {g.id for g in report.site.gateways}
    for d in report.site.devices:
        at = ("devices", d.id)
        known = report.known(at, "measures", d.measures, things, "the site's tables")
        known_profile = report.known(at, "profile", d.profile, profiles, "the device profiles")
        if known_profile:
            profile = profiles[d.profile]
            if profile.protocol != ("modbus" if d.protocol == "modbus_tcp" else d.protocol):
                what = f"protocol is {d.protocol}, profile '{d.profile}' speaks {profile.protocol}"
                report.note(*at, what, "Use the profile's protocol or another profile")
            elif known:
                _check_measured(report, d, profile, things[d.measures])
        if d.gateway:
            report.known(at, "gateway", d.gateway, gateways, "gateways.csv")
        _check_address(report, d)
        _check_identity(report, d, profiles[d.profile] if known_profile else None)


def _check_measured(report: Report, d: Device, profile: Profile, thing: str) -> None:
    """A device measures, or stands at, a thing of its kind."""
    if thing in STANDS_AT.get(profile.role, (measured_kind(profile),)):
        return
    kind = measured_kind(profile)
    what = f"measures a {kind}" if kind else "polls no power_w, soc_pct, or flow_lpm with supply_c"
    if profile.role:
        what = f"is a {profile.role.replace('_', ' ')} and stands at a {' or '.join(STANDS_AT[profile.role])}"
    text = f"profile '{d.profile}' {what}, '{d.measures}' is a {thing}"
    report.note("devices", d.id, text, "Correct `measures` or `profile`")


def _check_address(report: Report, d: Device) -> None:
    at = ("devices", d.id)
    if d.protocol != "modbus_tcp":
        if not d.topic:
            fix = "Give its DSX tagPath" if d.protocol == "dsx" else SPARKPLUG_TOPIC
            report.note(*at, f"'{d.id}' has no topic", fix)
        elif d.protocol == "sparkplug" and address(d.topic) is None:
            report.note(*at, f"'{d.topic}' is no place of a Sparkplug device", SPARKPLUG_TOPIC)
        if d.gateway or d.host:
            report.note(*at, f"'{d.id}' is on MQTT but has a Modbus address", "Leave gateway, host and port empty")
    elif d.topic:
        report.note(*at, f"'{d.id}' is on Modbus but has a topic", "Leave topic empty")
    elif d.gateway and d.host:
        report.note(*at, f"'{d.id}' has a gateway and a host", "Keep one: behind a gateway, or a connection of its own")
    elif not d.gateway and not (d.host and d.port):
        report.note(*at, f"'{d.id}' has no address", "Give gateway and unit, or host and port")


def _check_identity(report: Report, d: Device, profile: Profile | None) -> None:
    """What devices.csv says of who a device is can be asked of it."""
    named = declared(d)
    if named and d.protocol != "modbus_tcp":
        fix = "Leave vendor, model, firmware and serial empty"
        report.note("devices", d.id, f"'{d.id}' is on MQTT, where no device can be asked who it is", fix)
    elif profile is not None:
        told = profile.identity or ("vendor", "model", "firmware")  # the latter by function 43/14
        for name in named:
            if name not in told:
                fix = f"Leave {name} empty, or name its registers under `identity` in the profile"
                report.note("devices", d.id, f"profile '{d.profile}' cannot be asked for a {name}", fix)


def check_names(report: Report) -> None:
    """Names that end in paths and topics, and hosts, can be what they are used for."""
    site = report.site
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", site.name):
        what = f"'{site.name}' cannot name the state directory and topics"
        report.note("site", "name", what, "Use lower-case letters, digits, - and _")
    for group, members in site.lease_groups.items():
        if any(c in group for c in "#+ ") or "//" in group:
            what = f"lease group '{group}' cannot be part of an MQTT topic"
            report.note("racks", site.racks[members[0]].id, what, "Use no #, +, blank or //")
    for table, things in (("gateways", site.gateways), ("devices", site.devices)):
        for thing in things:
            if thing.host and not _is_host(thing.host):
                report.note(table, thing.id, f"host '{thing.host}' is neither an address nor a name", "Mend it")


def _is_host(text: str) -> bool:
    """An IP address, or a host name whose last label is not a number."""
    try:
        ip_address(text)
    except ValueError:
        labels = text.split(".")
        fits = all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", x) for x in labels)
        return fits and not labels[-1].isdigit()
    return True


def check_addresses(report: Report) -> None:
    """One gateway per host:port, one device per unit id there, one device per topic."""
    at_gateway: dict[str, tuple[str, int]] = {}
    taken: dict[object, str] = {}
    for g in report.site.gateways:
        at_gateway[g.id] = (g.host, g.port)
        first = taken.setdefault((g.host, g.port), g.id)
        if first != g.id:
            fix = "One connection per host:port: put all units behind one gateway"
            report.note("gateways", g.id, f"{g.host}:{g.port} is also gateway '{first}'", fix)
    for d in report.site.devices:
        place: tuple[object, ...] = (d.topic,)
        if d.protocol != "modbus_tcp":
            text = f"topic '{d.topic}'"
        else:
            host, port = at_gateway.get(d.gateway, (d.host, d.port))
            place, text = (host, port, d.unit), f"unit {d.unit} at {host}:{port}"
            if not d.gateway and (host, port) in taken:
                fix = f"Name gateway '{taken[host, port]}' instead of the host: it is one connection"
                report.note("devices", d.id, f"{host}:{port} is a gateway", fix)
        first = taken.setdefault(place, d.id) if place[0] else d.id
        if first != d.id:
            report.note("devices", d.id, f"{text} is also '{first}'", "Give each device a place of its own")


def check_polling(report: Report, profiles: Mapping[str, Profile]) -> None:
    """The polls of a gateway's units fit its time."""
    units: dict[str, list[Device]] = defaultdict(list)
    for d in report.site.devices:
        if d.gateway and d.profile in profiles:
            units[d.gateway].append(d)
    for g in report.site.gateways:
        took_s = {name: poll_s(profiles[name], g) for name in {d.profile for d in units[g.id]}}
        busy = sum(took_s[d.profile] / d.period_s for d in units[g.id])
        if busy > GATEWAY_BUSY_MAX:
            longer = busy / GATEWAY_BUSY_MAX
            speed = f"{g.service_ms:g} ms" + (f" and {g.baud} baud" if g.baud else "")
            what = f"the polls of its {len(units[g.id])} units take {busy:.2f} s of each second at {speed}"
            periods = {d.period_s for d in units[g.id]}
            to = f", to {math.ceil(10 * longer * max(periods)) / 10:g} s" if len(periods) == 1 else ""
            fix = f"Lengthen their period_s {longer:.2f} times{to}, or divide them over {math.ceil(longer)} gateways"
            report.note("gateways", g.id, what, fix)


def check_framing(report: Report) -> None:
    """One way of framing for each address; what only a serial line has is said of none other."""
    at: dict[tuple[str, int], Device] = {}
    for g in report.site.gateways:
        if g.framing == "rtu" and g.in_flight > 1:
            fix = "Leave in_flight empty: nothing tells its replies apart"
            report.note("gateways", g.id, f"'{g.id}' speaks RTU with {g.in_flight} requests in flight", fix)
        if g.framing != "rtu" and g.gap_ms:
            report.note("gateways", g.id, f"'{g.id}' has a gap_ms without framing rtu", "Leave gap_ms empty")
    for d in report.site.devices:
        if d.protocol != "modbus_tcp" or d.gateway:
            for name in ("framing", "in_flight"):
                if (value := getattr(d, name)) != Device.model_fields[name].default:
                    what = f"'{d.id}' has {name} {value} and no connection of its own"
                    report.note("devices", d.id, what, f"Leave it empty; a gateway's {name} stands in gateways.csv")
            continue
        first = at.setdefault((d.host, d.port), d)
        if d.framing == "rtu" and d.in_flight > 1:
            what = f"'{d.id}' speaks RTU with {d.in_flight} requests in flight"
            report.note("devices", d.id, what, "Leave in_flight empty: nothing tells its replies apart")
        if first.framing != d.framing:
            what = f"{d.host}:{d.port} has framing {first.framing} for '{first.id}' and {d.framing} for '{d.id}'"
            report.note("devices", d.id, what, "One address, one framing")


def check_meters(report: Report, profiles: Mapping[str, Profile]) -> None:
    """Each node above a rack has a meter or all its children have; CDUs, loops, units and batteries report."""
    site = report.site
    if report.unread:
        return  # a device that could not be read may be the one
    beside = {name for name in {d.profile for d in site.devices} if name in profiles and profiles[name].role}
    measured = {d.measures for d in site.devices if d.profile not in beside or measured_kind(profiles[d.profile])}
    children: dict[str, list[str]] = defaultdict(list)
    for n in site.nodes:
        children[n.parent].append(n.id)
    nodes = {n.id: n for n in site.nodes}
    above: set[str] = set()
    for rack in site.racks:
        for cord in (rack.pdu_a, rack.pdu_b):
            name = cord
            while name in nodes and name not in above:
                above.add(name)
                name = nodes[name].parent
    for n in site.nodes:
        below = children[n.id]
        if n.id in above and n.id not in measured and not (below and all(c in measured for c in below)):
            fix = "Add its meter to devices.csv, or meters of all its children"
            report.note("nodes", n.id, f"{n.kind} '{n.id}' carries racks and has no meter", fix)
    for table in ("cdus", "loops", "cooling", "storage"):
        for row in getattr(site, table):
            if row.id not in measured:
                report.note(table, row.id, f"nothing reports on '{row.id}'", "Add its device to devices.csv")


def check_site(site: Site, profiles: Mapping[str, Profile], unread: Collection[str] = ()) -> list[Problem]:
    """Every problem of a site, by file and line. `unread`: ids whose rows could not be read (Draft.unread)."""
    report = Report(site, unread)
    for rule in (*links.RULES, *sums.RULES, *tenants.RULES):
        rule(report)
    check_devices(report, profiles)
    check_names(report)
    check_addresses(report)
    check_framing(report)
    check_polling(report, profiles)
    check_meters(report, profiles)
    return in_order(report.problems)


def in_order(problems: list[Problem]) -> list[Problem]:
    """By file (site.yaml, then the tables) and line."""
    files = ["site", *TABLES]

    def key(problem: Problem) -> tuple[int, int]:
        stem = problem.file.partition(".")[0]
        return files.index(stem) if stem in files else len(files), problem.line

    return sorted(problems, key=key)


def check_path(name_or_path: str | Path, profiles: Mapping[str, Profile]) -> list[Problem]:
    """Every problem of the files of a site, or of a built-in one. SiteError if there is no such site."""
    path = find_site(name_or_path)
    if path is None:
        return check_site(SITES[str(name_or_path)](), profiles)
    draft = read_draft(path)
    more = check_site(draft.site, profiles, draft.unread) if draft.site else []
    return in_order(draft.problems + more)
