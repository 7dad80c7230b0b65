"""What the electrical tree carries and feeds: racks, loads, cooling, CDUs and all that dies with a node.

Each of them is a column with one or more feeds (node positions). Racks come first, in site order: two cords with
their shares. Everything else shares its power equally over its live feeds; columns without power (gateways, meters,
controllers, broker) are there because they die with their feeds.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, Ints
from drivers.site.model import Site


@dataclass(frozen=True)
class Building:
    """N nodes, R racks, C columns (R racks first), F feeds of columns."""

    site: Site
    parent: Ints  # [N], -1 for a feed and a generator
    efficiency: Floats  # [N] power out / power in
    is_ups: Bools  # [N]
    winding: Bools  # [N] substation or transformer: a tie behind it feeds its bus past its own rating
    rating_w: Floats  # [N] at worst power factor and nominal voltage, derated
    children: tuple[tuple[int, ...], ...]  # [N]
    attached: tuple[tuple[int, ...], ...]  # [N] columns with a feed there
    column: dict[tuple[str, str], int]  # (kind, id) -> column
    column_id: tuple[str, ...]  # [C]
    column_kind: tuple[str, ...]  # [C] "rack", "load", "cdu", "pump", ..., "gateway", "meter", "controller", "broker"
    column_w: Floats  # [C] power that nobody caps; 0 for a rack
    running: Bools  # [C] False for a standby unit
    feed_start: Ints  # [C+1]
    feed: Ints  # [F] node of each feed, by column
    share: Floats  # [F] of the column's power, as built; 0 for a standby unit
    racks: int
    ties: tuple[tuple[int, int, float, str], ...]  # (bus, bus, transfer_s, id), normally open, to a generator or not
    generators: frozenset[int]  # nodes: sources that carry once they run, their start is in their ties' times
    unit: dict[int, int]  # column -> cooling unit
    cooled: dict[int, tuple[int, ...]]  # column of a CDU -> its racks
    spares: dict[int, tuple[int, ...]]  # column of a cooling unit -> standby units of its kind and loop


def survey(site: Site) -> Building:
    """Compile the site's nodes and everything they feed; KeyError where a link is broken."""
    index = site.node_index
    parent = np.array([index[x.parent] if x.parent else -1 for x in site.nodes], dtype=np.int64)
    children: list[list[int]] = [[] for _ in site.nodes]
    for i, above in enumerate(parent):
        if above >= 0:
            children[above].append(i)
    columns = _columns(site)
    number = {(kind, name): i for i, (kind, name, _, _, _) in enumerate(columns)}
    start, feed, share = _feeds(site, columns)
    attached: list[list[int]] = [[] for _ in site.nodes]
    for c in range(len(columns)):
        for node in sorted(set(feed[start[c] : start[c + 1]].tolist())):
            attached[node].append(c)
    return Building(
        site=site,
        parent=parent,
        efficiency=np.array([x.efficiency for x in site.nodes]),
        is_ups=np.array([x.kind == "ups" for x in site.nodes]),
        winding=np.array([x.kind in ("substation", "transformer") for x in site.nodes]),
        rating_w=_rating_w(site),
        children=tuple(map(tuple, children)),
        attached=tuple(map(tuple, attached)),
        column=number,
        column_id=tuple(name for _, name, _, _, _ in columns),
        column_kind=tuple(kind for kind, _, _, _, _ in columns),
        column_w=np.array([w for _, _, w, _, _ in columns]),
        running=np.array([on for _, _, _, on, _ in columns]),
        feed_start=start,
        feed=feed,
        share=share,
        racks=len(site.racks),
        ties=_ties(site),
        generators=frozenset(index[x.id] for x in site.generators),
        unit={number[u.kind, u.id]: i for i, u in enumerate(site.cooling)},
        cooled=_cooled(site, number),
        spares=_spares(site, number),
    )


def _ties(site: Site) -> tuple[tuple[int, int, float, str], ...]:
    """Switches that may close for a bus; one to a generator not before that has started."""
    index, start_s = site.node_index, {x.id: x.start_s for x in site.generators}
    return tuple(
        (index[x.a], index[x.b], max(x.transfer_s, start_s.get(x.a, 0.0), start_s.get(x.b, 0.0)), x.id)
        for x in site.switches
        if x.kind in ("tie", "transfer") and x.normal == "open"
    )


def _cooled(site: Site, number: dict[tuple[str, str], int]) -> dict[int, tuple[int, ...]]:
    by_cdu: dict[str, list[int]] = {x.id: [] for x in site.cdus}
    for i, rack in enumerate(site.racks):
        by_cdu[rack.cdu].append(i)
    return {number["cdu", cdu]: tuple(racks) for cdu, racks in by_cdu.items()}


def _spares(site: Site, number: dict[tuple[str, str], int]) -> dict[int, tuple[int, ...]]:
    spare: dict[tuple[str, str], list[int]] = {}
    for unit in site.cooling:
        if unit.standby:
            spare.setdefault((unit.kind, unit.loop), []).append(number[unit.kind, unit.id])
    return {number[u.kind, u.id]: tuple(spare.get((u.kind, u.loop), ())) for u in site.cooling}


_Column = tuple[str, str, float, bool, tuple[str, ...]]  # kind, id, W, running, feeds


def _columns(site: Site) -> list[_Column]:
    """Racks, then everything else that hangs on a node; a device on a gateway or without feeds of its own lives
    with what carries or feeds it and is no column."""
    out: list[_Column] = [("rack", r.id, 0.0, True, (r.pdu_a, r.pdu_b)) for r in site.racks]
    out += [("load", x.id, x.power_w, True, (x.node,)) for x in site.loads]
    out += [("cdu", x.id, x.pump_w, True, x.fed_from) for x in site.cdus]
    out += [(x.kind, x.id, x.power_w, not x.standby, x.fed_from) for x in site.cooling]
    out += [("gateway", x.id, 0.0, True, x.fed_from) for x in site.gateways]
    out += [("meter", x.id, 0.0, True, x.fed_from) for x in site.devices if x.fed_from]
    if site.control.fed_from:
        out.append(("controller", "controllers", 0.0, True, site.control.fed_from))
    if site.mqtt.fed_from:
        out.append(("broker", "broker", 0.0, True, site.mqtt.fed_from))
    return out


def _feeds(site: Site, columns: list[_Column]) -> tuple[Ints, Ints, Floats]:
    """Feeds of all columns in CSR, and the share of each as built."""
    start = np.concatenate(([0], np.cumsum([len(feeds) for *_, feeds in columns]))).astype(np.int64)
    feed = np.array([site.node_index[f] for *_, feeds in columns for f in feeds], dtype=np.int64)
    share: list[float] = [s for r in site.racks for s in (r.share_a, 1.0 - r.share_a)]
    for *_, on, feeds in columns[len(site.racks) :]:
        share += [1.0 / len(feeds) if on else 0.0] * len(feeds)
    return start, feed, np.array(share)


def _rating_w(site: Site) -> Floats:
    """Rating of each node at nominal voltage and the site's worst power factor [N, W]."""
    pf = site.control.power_factor_worst
    watts = []
    for n in site.nodes:
        amps_w = n.rating * n.volt_v * (np.sqrt(3.0) if n.phases == 3 else 1.0) * pf
        watts.append(n.derating * {"A": amps_w, "VA": n.rating * pf, "W": n.rating}[n.rating_unit])
    return np.array(watts)
