"""The rows of a site: what of each rack's power counts in which limit, and which racks go together.

A row is a limit on a non-negative sum over racks: one for every electrical node (coefficient = share of the
rack's power on that node times the losses between them), one for every CDU and loop (heat), every tenant with
a guarantee or a maximum (at its racks' inputs), and the envelope (all feeds, plus the marginal cooling watt per watt).
"""

import numpy as np

from controller.frames import Floats, Ints, Rows
from drivers.site.model import Site, Tenant


def marginal_cooling(site: Site) -> float:
    """Extra electrical W of heat rejection per extra W of heat, near full load (from the site's own units).

    The average at design weather stands for it: on a milder day fans run slower (cube law, FACTS.md P.7) and the
    marginal watt is smaller. Pumps run at constant flow and count as base load.
    """
    rejected = [u for u in site.cooling if u.kind != "pump" and not u.standby]
    heat = sum(r.max_w for r in site.racks)
    return sum(u.power_w for u in rejected) / heat if heat else 0.0


def rows_of(site: Site) -> tuple[Rows, tuple[str, ...], tuple[str, ...]]:
    """The rows [K], their names and kinds: nodes, CDUs, loops, tenants, envelope."""
    n, c = len(site.nodes), len(site.cdus)
    cdu_index = {x.id: i for i, x in enumerate(site.cdus)}
    loop_index = {x.id: i for i, x in enumerate(site.loops)}
    tenants = n + c + len(site.loops)
    tenant_index = {x.id: i for i, x in enumerate(with_rows(site))}
    tenant_of = {j.id: tenant_index[j.tenant] for j in site.jobs if j.tenant in tenant_index}
    envelope = tenants + len(tenant_index)
    cooling = marginal_cooling(site)
    entries: dict[tuple[int, int], list[float]] = {}  # (row, rack) -> through cord A, through cord B, fixed

    def add(row: int, rack: int, part: int, coeff: float) -> None:
        entries.setdefault((row, rack), [0.0, 0.0, 0.0])[part] += coeff

    for i, rack in enumerate(site.racks):
        for cord, pdu in enumerate((rack.pdu_a, rack.pdu_b)):
            load = 1.0
            for node_id in site.ancestors(pdu):
                node = site.nodes[site.node_index[node_id]]
                add(site.node_index[node_id], i, cord, load)
                if not node.parent:
                    add(envelope, i, cord, load)
                load /= node.efficiency
        add(envelope, i, 2, cooling)
        add(n + cdu_index[rack.cdu], i, 2, rack.liquid_share)
        add(n + c + loop_index[site.cdus[cdu_index[rack.cdu]].loop], i, 2, 1.0)
        if rack.job in tenant_of:
            add(tenants + tenant_of[rack.job], i, 2, 1.0)
    order = sorted(entries)
    row = np.array([k for k, _ in order], dtype=np.int64)
    indptr = np.searchsorted(row, np.arange(envelope + 2)).astype(np.int64)
    racks = np.array([r for _, r in order], dtype=np.int64)
    parts = np.array([entries[e] for e in order])
    share = np.array([[r.share_a, 1.0 - r.share_a] for r in site.racks])
    tables = (("", site.nodes), ("cdu", site.cdus), ("loop", site.loops), ("tenant", with_rows(site)))
    names = (*(x.id for _, table in tables for x in table), "envelope")
    kinds = (*(x.kind for x in site.nodes), *(kind for kind, table in tables[1:] for _ in table), "envelope")
    rows = Rows(indptr, racks, parts[:, 2], row, fixed=parts[:, 2], cords=parts[:, :2])
    return rows.at_shares(share), names, kinds


def with_rows(site: Site) -> tuple[Tenant, ...]:
    """Tenants that have a row."""
    return tuple(x for x in site.tenants if x.guarantee_w > 0.0 or x.max_w is not None)


def design_other_w(site: Site, rows: int) -> tuple[Floats, Floats]:
    """Loads, coolant pumps and cooling units at rated power: up each path with its losses [K], at the node [N], W."""
    other, direct = np.zeros(rows), np.zeros(len(site.nodes))
    parts: list[tuple[float, tuple[str, ...]]] = [(x.power_w, (x.node,)) for x in site.loads]
    parts += [(x.power_w, x.fed_from) for x in site.cooling if not x.standby]
    parts += [(x.pump_w, x.fed_from) for x in site.cdus]
    for power_w, nodes in parts:
        for node_id in nodes:
            load = power_w / len(nodes)
            direct[site.node_index[node_id]] += load
            for above_id in site.ancestors(node_id):
                node = site.nodes[site.node_index[above_id]]
                other[site.node_index[above_id]] += load
                other[-1] += 0.0 if node.parent else load
                load /= node.efficiency
    return other, direct


def gangs(site: Site) -> tuple[Ints, Ints]:
    """A training job is one gang; every other rack is a gang of its own."""
    training = {j.id for j in site.jobs if j.kind == "training"}
    index: dict[str, int] = {}
    priority: list[int] = []
    gang_of = np.empty(len(site.racks), dtype=np.int64)
    for i, rack in enumerate(site.racks):
        name = rack.job if rack.job in training else rack.id
        if name not in index:
            index[name] = len(index)
            priority.append(rack.priority)
        gang_of[i] = index[name]
    return gang_of, np.array(priority, dtype=np.int64)
