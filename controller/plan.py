"""Site -> index arrays and sparse rows. Compiled once; the cycle only indexes."""

from dataclasses import dataclass

import numpy as np

from controller import site_rows
from controller.contingency import Losses, compile_losses
from controller.frames import Bools, Floats, Ints, Rows
from drivers.inventory import Inventory
from drivers.profile import Profile, measured_kind
from drivers.site.cooling import COOLANTS
from drivers.site.model import Node, Site

RACK_RISE_K = 15.0  # warmest secondary return above the warmest supply (FACTS.md C.3: 25/45 C typical, 10 K design)


@dataclass(frozen=True)
class NodeSlots:
    """Point slots of each node's meter, [N]; -1 where the meter has no such point."""

    power: Ints
    volt: Ints
    volt_scale: Floats  # makes a phase voltage a line voltage
    current: Ints  # [N, 3]
    apparent: Ints


@dataclass(frozen=True)
class Plan:
    """The site as arrays. Rows are ordered: nodes (site order), CDUs, loops, tenants, envelope (last)."""

    site: Site
    rows: Rows
    joint: Rows  # [K + J] these rows, then those of the losses
    row_name: tuple[str, ...]
    row_kind: tuple[str, ...]  # node kind, "cdu", "loop", "tenant" or "envelope"
    node_row: slice
    cdu_row: slice
    loop_row: slice
    tenant_row: slice
    envelope_row: int
    shared_electrical: Ints  # rows of nodes and of the envelope that more than one rack loads
    single: np.ndarray  # [K] row touches one rack only: it is that rack's ceiling
    parent: Ints  # [N], -1 for a feed and a generator
    inner: Ints  # node positions with a parent
    inner_parent: Ints  # their parents
    children: Ints  # [N] how many each node has
    bottom_up: tuple[Ints, ...]  # node positions by depth, deepest first
    feeds: Ints  # node positions of the utility's
    efficiency: Floats  # [N]
    rating: Floats  # [N] derated, in its native unit
    rating_unit: np.ndarray  # [N] "A", "VA" or "W"
    in_amps: Bools  # [N]
    in_va: Bools  # [N]
    full_w: Floats  # [N] rating in W at power factor 1
    volt_v: Floats  # [N] nominal
    phase: Floats  # [N] sqrt(3) for three-phase, else 1
    unmanaged: np.ndarray  # [N] no rack below, no generator's either: its load is nobody's cap
    unmanaged_up: tuple[Ints, ...]  # the levels of bottom_up, of them such nodes and what is above one
    cooling_w_per_w: float
    rack_pdu: Ints  # [R, 2] node positions of cords A and B
    rack_busway: Ints  # [R, 2] node positions of what feeds them
    gang_of: Ints  # [R]
    gang_class: Ints  # [G]
    other_w: Floats  # [R] power that no GPU cap reaches
    gpu_w: Floats  # [R] GPU power at nameplate
    floor_w: Floats  # [R]
    max_w: Floats
    idle_w: Floats
    safe_cap_w: Floats
    resolution_w: Floats
    reaction_s: Floats  # latency + 3 settling times of the rack's actuator
    cdu_of: Ints  # [R]
    loop_of: Ints  # [R]
    design_other_w: Floats  # [K] load that no rack cap moves by the site file: house loads, pumps, cooling at design
    direct_w: Floats  # [N] part of it that hangs on the node itself
    share: Floats  # [R, 2] nominal cord shares
    storage_slot: Ints  # [storage] discharge [W]
    storage_node: Ints  # [storage]
    pdu_slot: Ints  # [R, 2] power of cords A and B
    measured: dict[tuple[str, str], int]  # (id of the thing measured, point) -> slot
    own_cdu_slot: Ints  # [R] power of the CDU that hangs on the rack's own PDUs, -1 if none does
    agent_slot: dict[str, Ints]  # column -> [R]
    gpu_slot: Ints  # [R, GPUs] power of each GPU, -1 where a rack has fewer; no column where the leaf is the rack
    node_slot: NodeSlots
    cdu_flow_slot: Ints  # [C], -1 if unmeasured
    cdu_supply_slot: Ints
    cdu_pump_slot: Ints  # pump duty [%]
    cdu_cap_w: Floats  # [C] rated heat
    cdu_return_max_c: Floats
    cdu_cp_w: Floats  # W/K per L/min
    loop_supply_slot: Ints  # [L]
    loop_flow_slot: Ints
    pump_name: tuple[str, ...]
    pump_slot: Ints  # [pumps] available (0 or 1)
    pump_loop: Ints  # [pumps]
    pump_lpm: Floats  # [pumps] flow at rating
    unit_slot: Ints  # [U] available (0 or 1), every cooling unit
    loop_lpm: Floats  # [L] design flow
    loop_cap_w: Floats  # [L] rated heat
    loop_design_c: Floats  # [L] design supply
    loop_return_max_c: Floats
    loop_cp_w: Floats
    tenant_guarantee_w: Floats  # [T] tenants that have one or a maximum
    tenant_max_w: Floats  # [T] inf: none
    losses: Losses
    case_of_node: Ints  # [N] the loss of this node, -1 if it is not on the list
    case_of_unit: Ints  # [U] the same of cooling units
    stops: dict[int, Bools]  # losses of nodes: cooling units [U] that stop with them
    refed: dict[int, Bools]  # losses after which ties close: nodes [N] that carry more then
    profile_of: dict[str, Profile]  # Modbus devices: what may be written to them


def compile_plan(site: Site, inventory: Inventory) -> Plan:
    """Compile a checked site (drivers.check) and its inventory; KeyError where a link is broken."""
    rows, names, kinds = site_rows.rows_of(site)
    losses = compile_losses(site)
    gang_of, gang_class = site_rows.gangs(site)
    parent, bottom_up = _tree(site)
    n, c, loops = len(site.nodes), len(site.cdus), len(site.loops)
    tenants = site_rows.with_rows(site)
    touched = np.diff(rows.indptr)
    measured = _measured(inventory)
    unmanaged = (touched[:n] == 0) & [x.kind != "generator" for x in site.nodes]
    pdu = np.array([[site.node_index[r.pdu_a], site.node_index[r.pdu_b]] for r in site.racks])
    node_slot = _node_slots(site, measured)
    agent = next(s for s in inventory.slabs if s.name == "agent")
    pumps = [x for x in site.cooling if x.kind == "pump"]
    loop_index = {x.id: i for i, x in enumerate(site.loops)}
    cdu_index = {x.id: i for i, x in enumerate(site.cdus)}
    cdu_of = np.array([cdu_index[r.cdu] for r in site.racks], dtype=np.int64)
    design_other_w, direct_w = site_rows.design_other_w(site, len(names))
    actuator = [site.actuators[r.actuator] for r in site.racks]
    cdu_cp = np.array([COOLANTS[x.coolant].w_per_lpm_k for x in site.cdus])
    loop_cp = np.array([COOLANTS[x.coolant].w_per_lpm_k for x in site.loops])
    return Plan(
        site=site,
        rows=rows,
        joint=rows.joined(losses.rows),
        row_name=names,
        row_kind=kinds,
        node_row=slice(0, n),
        cdu_row=slice(n, n + c),
        loop_row=slice(n + c, n + c + loops),
        tenant_row=slice(n + c + loops, n + c + loops + len(tenants)),
        envelope_row=n + c + loops + len(tenants),
        shared_electrical=np.flatnonzero(np.isin(kinds, ("cdu", "loop", "tenant"), invert=True) & (touched != 1)),
        single=touched == 1,
        parent=parent,
        inner=np.flatnonzero(parent >= 0),
        inner_parent=parent[parent >= 0],
        children=np.bincount(parent[parent >= 0], minlength=n),
        bottom_up=bottom_up,
        feeds=np.flatnonzero([x.kind == "utility_feed" for x in site.nodes]),
        efficiency=np.array([x.efficiency for x in site.nodes]),
        rating=np.array([x.rating * x.derating for x in site.nodes]),
        rating_unit=np.array([x.rating_unit for x in site.nodes]),
        in_amps=np.array([x.rating_unit == "A" for x in site.nodes]),
        in_va=np.array([x.rating_unit == "VA" for x in site.nodes]),
        full_w=np.array([_full_w(x) for x in site.nodes]),
        volt_v=np.array([x.volt_v for x in site.nodes]),
        phase=np.where([x.phases == 3 for x in site.nodes], np.sqrt(3.0), 1.0),
        unmanaged=unmanaged,
        unmanaged_up=_over(unmanaged, parent, bottom_up),
        cooling_w_per_w=site_rows.marginal_cooling(site),
        rack_pdu=pdu,
        rack_busway=parent[pdu],
        gang_of=gang_of,
        gang_class=gang_class,
        other_w=np.array([r.other_w for r in site.racks]),
        gpu_w=np.array([r.max_w - r.other_w for r in site.racks]),
        floor_w=np.array([r.floor_w for r in site.racks]),
        max_w=np.array([r.max_w for r in site.racks]),
        idle_w=np.array([r.idle_w for r in site.racks]),
        safe_cap_w=np.array([r.safe_cap_w for r in site.racks]),
        resolution_w=np.array([a.resolution_w for a in actuator]),
        reaction_s=np.array([a.latency_s + 3.0 * a.settle_s for a in actuator]),
        cdu_of=cdu_of,
        loop_of=np.array([loop_index[site.cdus[i].loop] for i in cdu_of], dtype=np.int64),
        design_other_w=design_other_w,
        direct_w=direct_w,
        share=np.array([[r.share_a, 1.0 - r.share_a] for r in site.racks]),
        storage_slot=np.array([measured.get((x.id, "power_w"), -1) for x in site.storage], dtype=np.int64),
        storage_node=np.array([site.node_index[x.node] for x in site.storage], dtype=np.int64),
        pdu_slot=node_slot.power[pdu],
        measured=measured,
        own_cdu_slot=_own_cdus(site, measured),
        agent_slot={p: agent.slots(p) for p in agent.points},
        gpu_slot=_gpu_slots(site, inventory),
        node_slot=node_slot,
        cdu_flow_slot=np.array([measured.get((x.id, "flow_lpm"), -1) for x in site.cdus]),
        cdu_supply_slot=np.array([measured.get((x.id, "supply_c"), -1) for x in site.cdus]),
        cdu_pump_slot=np.array([measured.get((x.id, "pump_pct"), -1) for x in site.cdus]),
        cdu_cap_w=np.array([x.capacity_w for x in site.cdus]),
        cdu_return_max_c=np.full(c, site.control.supply_max_c) + RACK_RISE_K,
        cdu_cp_w=cdu_cp,
        loop_supply_slot=np.array([measured.get((x.id, "supply_c"), -1) for x in site.loops]),
        loop_flow_slot=np.array([measured.get((x.id, "flow_lpm"), -1) for x in site.loops]),
        pump_name=tuple(x.id for x in pumps),
        pump_slot=np.array([measured.get((x.id, "available"), -1) for x in pumps], dtype=np.int64),
        pump_loop=np.array([loop_index[x.loop] for x in pumps], dtype=np.int64),
        pump_lpm=np.array([x.capacity for x in pumps]),
        unit_slot=np.array([measured.get((x.id, "available"), -1) for x in site.cooling], dtype=np.int64),
        loop_lpm=np.array([x.flow_lpm for x in site.loops]),
        loop_cap_w=np.array([x.flow_lpm * (x.return_max_c - x.supply_c) for x in site.loops]) * loop_cp,
        loop_design_c=np.array([x.supply_c for x in site.loops]),
        loop_return_max_c=np.array([x.return_max_c for x in site.loops]),
        loop_cp_w=loop_cp,
        tenant_guarantee_w=np.array([x.guarantee_w for x in tenants]),
        tenant_max_w=np.array([np.inf if x.max_w is None else x.max_w for x in tenants]),
        losses=losses,
        case_of_node=_cases(losses, [x.id for x in site.nodes]),
        case_of_unit=_cases(losses, [x.id for x in site.cooling]),
        stops=_stops(losses, [(x.kind, x.id) for x in site.cooling]),
        refed=_refed(losses, n),
        profile_of={d.id: s.profile for s in inventory.slabs if s.profile and s.profile.blocks for d in s.devices},
    )


def _cases(losses: Losses, ids: list[str]) -> Ints:
    number = {case.id: i for i, case in enumerate(losses.cases)}
    return np.array([number.get(name, -1) for name in ids], dtype=np.int64)


def _stops(losses: Losses, units: list[tuple[str, str]]) -> dict[int, Bools]:
    columns = np.array([losses.building.column[unit] for unit in units], dtype=np.int64)
    out: dict[int, Bools] = {}
    for i, case in enumerate(losses.cases):
        stopped = np.isin(columns, case.stages[0].stopped)
        if stopped.any():
            out[i] = stopped
    return out


def _refed(losses: Losses, nodes: int) -> dict[int, Bools]:
    out: dict[int, Bools] = {}
    stages = zip(losses.delta_case.tolist(), losses.delta_stage.tolist(), losses.delta_node.tolist(), strict=True)
    for case, stage, node in stages:
        if losses.cases[case].stages[stage].fed:
            out.setdefault(case, np.zeros(nodes, dtype=np.bool_))[node] = True
    return out


def _full_w(node: Node) -> float:
    """Derated rating at nominal voltage and power factor 1 [W]."""
    amps_w = node.volt_v * (3.0**0.5 if node.phases == 3 else 1.0)
    return node.rating * node.derating * (amps_w if node.rating_unit == "A" else 1.0)


def above(plan: Plan, marked: Bools) -> Bools:
    """Marked nodes and every node above one [N]."""
    out = marked.copy()
    if not out.any():
        return out
    for level in plan.bottom_up[:-1]:
        hit = level[out[level] & (plan.parent[level] >= 0)]
        out[plan.parent[hit]] = True
    return out


def _tree(site: Site) -> tuple[Ints, tuple[Ints, ...]]:
    parent = np.array([site.node_index[x.parent] if x.parent else -1 for x in site.nodes], dtype=np.int64)
    depth = np.array([len(site.ancestors(x.id)) for x in site.nodes])
    return parent, tuple(np.flatnonzero(depth == d) for d in range(depth.max(), 0, -1))


def _over(marked: Bools, parent: Ints, bottom_up: tuple[Ints, ...]) -> tuple[Ints, ...]:
    """Of each level the marked nodes and those above one; levels without any are left out."""
    out, levels = marked.copy(), []
    for level in bottom_up:
        hit = level[out[level]]
        out[parent[hit[parent[hit] >= 0]]] = True
        levels.append(hit)
    return tuple(level for level in levels if len(level))


def _measured(inventory: Inventory) -> dict[tuple[str, str], int]:
    """(id of the thing measured, point) -> slot; of devices that stand beside the instruments there is none."""
    slots: dict[tuple[str, str], int] = {}
    for slab in inventory.slabs:
        if slab.profile is not None and not measured_kind(slab.profile):
            continue
        for i, device in enumerate(slab.devices):
            for j, point in enumerate(slab.points):
                slots[device.measures, point] = slab.start + i * len(slab.points) + j
    return slots


def _gpu_slots(site: Site, inventory: Inventory) -> Ints:
    slab = inventory.slab("gpu")
    if slab is None:
        return np.empty((len(site.racks), 0), dtype=np.int64)
    slots = slab.start + np.arange(slab.size).reshape(slab.rows, len(slab.points))
    gpus = np.array([r.gpus for r in site.racks])
    return np.where(np.arange(len(slab.points)) < gpus[:, None], slots, -1)


def _own_cdus(site: Site, measured: dict[tuple[str, str], int]) -> Ints:
    """Power slot of each rack's CDU where its pumps hang on the rack's PDUs: no cap reaches them [R]."""
    fed = {c.id: set(c.fed_from) for c in site.cdus}
    return np.array(
        [measured.get((r.cdu, "power_w"), -1) if fed[r.cdu] & {r.pdu_a, r.pdu_b} else -1 for r in site.racks]
    )


def _node_slots(site: Site, measured: dict[tuple[str, str], int]) -> NodeSlots:
    def first(node: str, *points: str) -> int:
        return next((measured[node, p] for p in points if (node, p) in measured), -1)

    ids = [x.id for x in site.nodes]
    phase_volt = [x.phases == 3 and (x.id, "volt_l1_v") in measured for x in site.nodes]
    return NodeSlots(
        power=np.array([first(i, "power_w") for i in ids]),
        volt=np.array([first(i, "volt_l12_v", "volt_l1_v", "volt_v") for i in ids]),
        volt_scale=np.where(phase_volt, np.sqrt(3.0), 1.0),
        current=np.array([[first(i, f"current_l{k}_a", "current_a") for k in (1, 2, 3)] for i in ids]),
        apparent=np.array([first(i, "apparent_va") for i in ids]),
    )
