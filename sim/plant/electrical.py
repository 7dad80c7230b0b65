"""Who is energised, where the power flows and what is lost on the way. Ties: switches.py; trips: protection.py."""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from sim.plant.base import ALLOCATING, DT_S, KERNEL, VAR_PER_W, Bools
from sim.plant.hydraulics import Hydraulics
from sim.plant.network import Racks, Tree

UPS_LEAST = 0.85  # of nominal voltage: below it a UPS leaves its supply (usual window of double conversion, assumed)
ECO_LOSS = 0.33  # of the loss in double conversion: 99 % where that has 97 % (makers' usual figures, assumed)
UPS_RECHARGE_SHARE = 0.1  # of the rating, after a ride-through


class ElecState(NamedTuple):
    """Changes in place, step by step."""

    in_service: Bools  # [N] not tripped, not taken out
    tripped: Bools  # [N] opened by its own protection, at some time
    via: Ints  # [N] the bus that feeds a bus through a closed tie, -1 on its own source
    above: Ints  # [N] where power comes from: `via`, else the parent
    order: Ints  # [N] farthest from a feed first
    source: Floats  # [N] voltage of feeds, per unit; 1 but in a sag
    gap_s: Floats  # [N] left of the pause before a bus is back on its own source
    running: Bools  # [N] False for a generator that stands
    root: Ints  # [N] the generator that it hangs on, -1: none
    taken: Floats  # [N] share of a UPS's input that comes from its source, the rest from its battery
    live: Bools  # [N] has voltage at its output
    on_battery: Bools  # [N] UPS without input
    battery_j: Floats  # [N] left in each UPS
    battery_max_j: Floats
    out_w: Floats  # [N] at the node's output: what its meter shows
    loss_w: Floats  # [N]
    out_var: Floats  # [N] reactive power at its output
    volt2: Floats  # [N] square of the voltage at its output, per unit
    pull_w: Floats  # [N] power that its current, or its VA, would carry at nominal voltage and the loads' power factor
    heat: Floats  # [N] 0..1 of the way to a trip
    storage_ok: Bools  # [storage]
    storage_set_w: Floats  # [storage] + is discharge
    storage_w: Floats
    storage_j: Floats


class Paths(NamedTuple):
    """Where the power of racks, CDUs and cooling units goes at this moment."""

    on_a: Floats  # [R] share of each rack on cord A
    on_b: Floats
    cdu_share: Floats  # per entry of hydraulics.cdu_fed
    unit_share: Floats  # per entry of hydraulics.unit_fed
    rack_on: Bools  # [R], [C] and [U]: has voltage
    cdu_on: Bools
    unit_on: Bools
    inflow_w: Floats  # [N] what hangs on a node directly, then with what flows on to its children
    inflow_var: Floats  # [N] the same, reactive


class Flow(NamedTuple):
    """Totals of one step [W]."""

    site_w: float  # sum of the feeds
    generator_w: float
    loss_w: float
    load_w: float
    battery_w: float  # from UPS batteries, recharge negative
    residual: float  # relative imbalance


def start_electrical(tree: Tree, battery_s: float) -> ElecState:
    """Everything in service, UPS batteries full for `battery_s` [s] at rating, storage idle at half charge."""
    n, s = len(tree.parent), len(tree.storage_node)
    full = np.where(tree.is_ups, tree.rated_w * battery_s, 0.0)
    return ElecState(
        in_service=np.ones(n, dtype=bool),
        tripped=np.zeros(n, dtype=bool),
        via=np.full(n, -1),
        above=tree.parent.copy(),
        order=tree.up_order.copy(),
        source=np.ones(n),
        gap_s=np.zeros(n),
        running=(tree.parent >= 0) | tree.is_feed,
        root=np.full(n, -1),
        taken=np.ones(n),
        live=np.ones(n, dtype=bool),
        on_battery=np.zeros(n, dtype=bool),
        battery_j=full.copy(),
        battery_max_j=full,
        out_w=np.zeros(n),
        loss_w=np.zeros(n),
        out_var=np.zeros(n),
        volt2=np.ones(n),
        pull_w=np.zeros(n),
        heat=np.zeros(n),
        storage_ok=np.ones(s, dtype=bool),
        storage_set_w=np.zeros(s),
        storage_w=np.zeros(s),
        storage_j=0.5 * tree.storage_max_j,
    )


def start_paths(tree: Tree, racks: Racks, hyd: Hydraulics) -> Paths:
    """All zero until the first step."""
    n, r = len(tree.parent), len(racks.cdu)
    return Paths(
        on_a=np.zeros(r),
        on_b=np.zeros(r),
        cdu_share=np.zeros(len(hyd.cdu_fed)),
        unit_share=np.zeros(len(hyd.unit_fed)),
        rack_on=np.zeros(r, dtype=bool),
        cdu_on=np.zeros(len(hyd.cdu_loop), dtype=bool),
        unit_on=np.zeros(len(hyd.unit_kind), dtype=bool),
        inflow_w=np.zeros(n),
        inflow_var=np.zeros(n),
    )


@KERNEL
def energise(tree: Tree, s: ElecState) -> None:
    """Voltage from the feeds down; a double-conversion UPS carries on while its battery lasts."""
    for k in range(len(s.order) - 1, -1, -1):
        i = s.order[k]
        if s.via[i] >= 0:
            s.on_battery[i], s.live[i] = False, s.live[s.via[i]]
            continue
        fed = s.running[i] if tree.parent[i] < 0 else s.live[tree.parent[i]]
        if tree.is_ups[i] and s.volt2[tree.parent[i]] < UPS_LEAST**2:
            fed = False
        s.on_battery[i] = tree.is_ups[i] and s.in_service[i] and not fed and s.battery_j[i] > 0.0
        s.live[i] = s.in_service[i] and (fed or s.on_battery[i]) and s.gap_s[i] <= 0.0


@KERNEL
def route(racks: Racks, hyd: Hydraulics, live: Bools, paths: Paths) -> None:
    """Shares of the moment: a dead side of a rack moves to the other cord, with both dead it is zero; who has power."""
    for r in range(len(racks.pdu_a)):
        a, b = live[racks.pdu_a[r]], live[racks.pdu_b[r]]
        if a and b:
            paths.on_a[r], paths.on_b[r] = racks.share_a[r], 1.0 - racks.share_a[r]
        else:
            paths.on_a[r], paths.on_b[r] = (1.0 if a else 0.0), (1.0 if b else 0.0)
        paths.rack_on[r] = a or b
    live_shares(hyd.cdu_fed_ptr, hyd.cdu_fed, live, paths.cdu_share, paths.cdu_on)
    live_shares(hyd.unit_fed_ptr, hyd.unit_fed, live, paths.unit_share, paths.unit_on)


@KERNEL
def live_shares(ptr: Ints, fed: Ints, live: Bools, share: Floats, on: Bools) -> None:
    """Share of a unit's power on each of its feeds, equal over the live ones, zero when none is; who has one."""
    for i in range(len(ptr) - 1):
        n = 0
        for k in range(ptr[i], ptr[i + 1]):
            n += live[fed[k]]
        for k in range(ptr[i], ptr[i + 1]):
            share[k] = 1.0 / n if live[fed[k]] else 0.0
        on[i] = n > 0


@KERNEL
def _storage(tree: Tree, s: ElecState, own_w: Floats) -> float:
    """Storage within power, charge and voltage; returns the energy balance error over the step [J]."""
    error = 0.0
    for k in range(len(tree.storage_node)):
        node, eff = tree.storage_node[k], tree.storage_one_way[k]
        w = min(max(s.storage_set_w[k], -tree.storage_max_w[k]), tree.storage_max_w[k])
        if not (s.live[node] and s.storage_ok[k]):
            w = 0.0
        if w > 0.0:
            w = min(w, s.storage_j[k] * eff / DT_S)
            drawn = w / eff
        else:
            w = max(w, -(tree.storage_max_j[k] - s.storage_j[k]) / (eff * DT_S))
            drawn = w * eff
        s.storage_w[k] = w
        before = s.storage_j[k]
        s.storage_j[k] = min(max(before - drawn * DT_S, 0.0), tree.storage_max_j[k])
        error += abs(before - s.storage_j[k] - drawn * DT_S)
        own_w[node] -= w
    return error


@KERNEL
def _gather(
    tree: Tree, hyd: Hydraulics, racks: Racks, s: ElecState, paths: Paths, rack_w: Floats, cdu_w: Floats, unit_w: Floats
) -> float:
    """Put everything that hangs directly on a node into the inflow; returns the loads that have voltage [W]."""
    own_w = paths.inflow_w
    for i in range(len(own_w)):
        own_w[i] = 0.0
    for r in range(len(rack_w)):
        own_w[racks.pdu_a[r]] += rack_w[r] * paths.on_a[r]
        own_w[racks.pdu_b[r]] += rack_w[r] * paths.on_b[r]
    for c in range(len(cdu_w)):
        for k in range(hyd.cdu_fed_ptr[c], hyd.cdu_fed_ptr[c + 1]):
            own_w[hyd.cdu_fed[k]] += cdu_w[c] * paths.cdu_share[k]
    for u in range(len(unit_w)):
        for k in range(hyd.unit_fed_ptr[u], hyd.unit_fed_ptr[u + 1]):
            own_w[hyd.unit_fed[k]] += unit_w[u] * paths.unit_share[k]
    load_w = 0.0
    for k in range(len(tree.load_node)):
        if s.live[tree.load_node[k]]:
            own_w[tree.load_node[k]] += tree.load_w[k]
            load_w += tree.load_w[k]
    return load_w


@ALLOCATING
def flow(
    tree: Tree, hyd: Hydraulics, racks: Racks, s: ElecState, paths: Paths, rack_w: Floats, cdu_w: Floats, unit_w: Floats
) -> Flow:
    """Sum racks [R], CDU pumps [C] and cooling units [U] up the tree with its losses, real and reactive.

    A UPS draws its input at the power factor of the other loads. Storage gives real power alone.
    """
    load_w = _gather(tree, hyd, racks, s, paths, rack_w, cdu_w, unit_w)
    own_w, own_var = paths.inflow_w, paths.inflow_var
    for i in range(len(own_w)):
        own_var[i] = VAR_PER_W * own_w[i]
    storage_error = _storage(tree, s, own_w)
    site_w, generator_w, loss_w, battery_w = 0.0, 0.0, 0.0, 0.0
    for i in s.order:
        out, var = own_w[i], own_var[i]
        if s.via[i] >= 0:  # through the tie: neither its meter nor its losses see it
            s.out_w[i], s.out_var[i], s.loss_w[i] = 0.0, 0.0, 0.0
            own_w[s.via[i]] += out
            own_var[s.via[i]] += var
            continue
        s.out_w[i], s.out_var[i] = out, var
        loss, into_var = 0.0, var
        if s.live[i] and tree.is_ups[i]:
            loss = tree.c0[i] + tree.c1[i] * abs(out) + tree.c2[i] * out * out
            if tree.eco[i] and not s.on_battery[i]:
                loss *= ECO_LOSS
        elif s.live[i]:
            amps2 = (out * out + var * var) / s.volt2[i]
            loss = tree.c0[i] * s.volt2[i] + tree.r[i] * amps2
            into_var += tree.x[i] * amps2
        s.loss_w[i] = loss
        loss_w += loss
        into = out + loss
        if tree.parent[i] < 0:
            site_w += into if tree.is_feed[i] else 0.0
            generator_w += 0.0 if tree.is_feed[i] else into
            continue
        if s.on_battery[i]:
            battery_w += into
            s.battery_j[i] = max(0.0, s.battery_j[i] - into * DT_S)
            continue
        if s.taken[i] < 1.0:
            helped = min((1.0 - s.taken[i]) * into, s.battery_j[i] / DT_S)
            battery_w += helped
            s.battery_j[i] -= helped * DT_S
            into -= helped
        missing = s.battery_max_j[i] - s.battery_j[i] if s.root[i] < 0 else 0.0
        if missing > 0.0 and s.live[i]:
            charge = min(UPS_RECHARGE_SHARE * tree.rated_w[i], missing / DT_S)
            s.battery_j[i] += charge * DT_S
            battery_w -= charge
            into += charge
        own_w[tree.parent[i]] += into
        own_var[tree.parent[i]] += VAR_PER_W * into if tree.is_ups[i] else into_var
    used = rack_w.sum() + cdu_w.sum() + unit_w.sum() + load_w + loss_w
    given = site_w + generator_w + battery_w + s.storage_w.sum()
    residual = (abs(given - used) + storage_error / DT_S) / max(used, 1e3)
    return Flow(site_w, generator_w, loss_w, load_w, battery_w, residual)
