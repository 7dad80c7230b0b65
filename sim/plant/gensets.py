"""Generators that stand by: they start when a bus that they may feed has lost its voltage, and take load as they can.

A set cranks for its `start_s` and may fail to start, three times before it is locked out; then its transfer switch
closes (switches.py). Motors and rooms come at once, a first step that it bears up to `block_share` of its rating
(ISO 8528-5 limits the step); a larger one stalls it. UPS walk in: each takes from the generator a share that grows so
that together they rise by `ramp_w_per_s`, the rest from its battery, and recharges none of it (usual programming of
UPS on a generator). When the bus has its own source back, the set runs on unloaded for the rest of its `min_run_s`,
which keeps wet stacking and thermal stress away. Fuel, governor and frequency are not modelled.
"""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.model import Site
from sim.plant.base import DT_S, KERNEL, Bools, PlantError, ints
from sim.plant.electrical import ElecState
from sim.plant.network import Tree, rated_w

ATTEMPTS = 3  # usual of starting controls; then somebody has to come
STOPPED = -1.0


class Gensets(NamedTuple):
    """K generators; from `fails` on they change in place."""

    node: Ints  # [K]
    start_s: Floats
    ramp_w_s: Floats
    block_w: Floats  # largest step
    min_run_s: Floats
    failure: Floats  # of each attempt
    luck: Floats  # [K, ATTEMPTS] drawn once, uniform
    fails: Bools  # [K] a scenario's: it does not start
    crank_s: Floats  # [K] into an attempt
    tries: Ints  # [K] attempts that have failed
    run_s: Floats  # [K] since it runs, STOPPED while it stands
    walk: Floats  # [K] share of their input that UPS take from it
    seen_w: Floats  # [K] load of the last step


def compile_gensets(site: Site, rng: np.random.Generator) -> Gensets:
    """All generators, at rest; KeyError on a row without its node, PlantError on a node without its row."""
    rows = site.generators
    missing = {n.id for n in site.nodes if n.kind == "generator"} - {g.id for g in rows}
    if missing:
        raise PlantError(f"generator {min(missing)} has no row in generators.csv")
    k = len(rows)
    ratings_w = np.array([rated_w(site.nodes[site.node_index[g.id]]) for g in rows], dtype=float)
    return Gensets(
        node=ints(site.node_index[g.id] for g in rows),
        start_s=np.array([g.start_s for g in rows], dtype=float),
        ramp_w_s=np.array([g.ramp_w_per_s for g in rows], dtype=float),
        block_w=np.array([g.block_share for g in rows], dtype=float) * ratings_w,
        min_run_s=np.array([g.min_run_s for g in rows], dtype=float),
        failure=np.array([g.start_failure for g in rows], dtype=float),
        luck=rng.random((k, ATTEMPTS)),
        fails=np.zeros(k, dtype=bool),
        crank_s=np.zeros(k),
        tries=np.zeros(k, dtype=np.int64),
        run_s=np.full(k, STOPPED),
        walk=np.zeros(k),
        seen_w=np.zeros(k),
    )


@KERNEL
def _feeds(s: ElecState, node: int) -> bool:
    """Whether a bus hangs on this generator now."""
    found = False
    for i in range(len(s.via)):
        found = found or s.via[i] == node
    return found


@KERNEL
def _missed(bus: Ints, s: ElecState, node: int) -> bool:
    """Whether a bus that this generator may feed has no voltage; the pause before its own source takes over is none."""
    for t in range(len(bus)):
        for side in range(2):
            other = bus[t, 1 - side]
            if bus[t, side] == node and not s.live[other] and s.gap_s[other] <= 0.0:
                return True
    return False


@KERNEL
def run_gensets(g: Gensets, bus: Ints, s: ElecState) -> tuple[bool, bool]:
    """One step of all sets, `bus` [T, 2] of the ties: whether one came or went, and whether one runs or cranks."""
    changed, busy = False, False
    for k in range(len(g.node)):
        node = g.node[k]
        wanted = s.in_service[node] and (_feeds(s, node) or _missed(bus, s, node))
        if g.run_s[k] >= 0.0:
            g.run_s[k] += DT_S
            if not s.in_service[node] or (not wanted and g.run_s[k] >= g.min_run_s[k]):
                g.run_s[k], s.running[node], changed = STOPPED, False, True
        elif wanted and g.tries[k] < ATTEMPTS:
            g.crank_s[k] += DT_S
            if g.crank_s[k] >= g.start_s[k]:
                g.crank_s[k] = 0.0
                if g.fails[k] or g.luck[k, g.tries[k]] < g.failure[k]:
                    g.tries[k] += 1
                else:
                    g.run_s[k], g.walk[k], g.seen_w[k] = 0.0, 0.0, 0.0
                    s.running[node], changed = True, True
        else:
            g.crank_s[k] = 0.0
        busy = busy or g.run_s[k] >= 0.0 or g.crank_s[k] > 0.0
    return changed, busy


@KERNEL
def walk_in(g: Gensets, tree: Tree, s: ElecState) -> int:
    """After the power flow of a step: sets that a step of load has stalled, and how much UPS may take in the next."""
    stalled = 0
    for k in range(len(g.node)):
        node = g.node[k]
        if g.run_s[k] < 0.0:
            continue
        if s.out_w[node] - g.seen_w[k] > g.block_w[k]:
            s.in_service[node], s.tripped[node] = False, True
            stalled += 1
        g.seen_w[k] = s.out_w[node]
        g.walk[k] = _walked(g, tree, s, k) if _feeds(s, node) else 0.0
    return stalled


@KERNEL
def _walked(g: Gensets, tree: Tree, s: ElecState, k: int) -> float:
    """Next share of set `k`, by the load of its UPS."""
    ups_w = 0.0
    for i in range(len(s.via)):
        if tree.is_ups[i] and s.root[i] == g.node[k]:
            ups_w += s.out_w[i] + s.loss_w[i]
    return float(min(1.0, g.walk[k] + g.ramp_w_s[k] * DT_S / max(ups_w, 1.0)))


@KERNEL
def hang_on(g: Gensets, tree: Tree, s: ElecState) -> None:
    """Who hangs on a generator, and the share of its input that each UPS takes from its source."""
    for i in range(len(s.via)):
        s.root[i], s.taken[i] = -1, 1.0
    for k in range(len(g.node)):
        if g.run_s[k] < 0.0 or not _feeds(s, g.node[k]):
            continue
        for n in range(len(s.order) - 1, -1, -1):  # from the sources down
            i = s.order[n]
            if i == g.node[k] or (s.above[i] >= 0 and s.root[s.above[i]] == g.node[k]):
                s.root[i] = g.node[k]
                s.taken[i] = g.walk[k] if tree.is_ups[i] else 1.0
