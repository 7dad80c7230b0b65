"""Ties between buses: they close when one side has lost its voltage, and open again when its own source is back.

A tie (normal open) closes once a bus has been dead for its transfer_s and the other side is live. The bus of a lost
substation or transformer is sound and is fed too; a lost switchboard, busway or UPS is a fault of the bus itself.
When the own source has been back for RETURN_S the tie opens, and the bus is dead for BREAK_S before its source takes
over: break before make, UPS below ride through it. A generator is the other side of a tie of its own, and
no further tie closes onto what it feeds. Bypasses and plain breakers stay as they are.
"""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.model import Site
from sim.plant.base import ALLOCATING, DT_S, KERNEL, Bools
from sim.plant.electrical import ElecState, energise
from sim.plant.gensets import Gensets, hang_on, run_gensets
from sim.plant.network import Tree

RETURN_S = 30.0  # a source that is back is trusted after this time
BREAK_S = 1.0
SOUND = ("substation", "transformer")  # kinds whose bus outlives them


class Ties(NamedTuple):
    """Normally open switches; side 0 and 1 of a tie are its two buses. The last three change in place."""

    bus: Ints  # [T, 2] node positions
    delay_s: Floats  # [T]
    sound: Bools  # [N] the bus outlives its own node
    gives: Bools  # [N] a generator: nothing is ever fed into it
    closed: Ints  # [T] the side that is fed through the tie, -1 while open
    dead_s: Floats  # [T, 2] how long each side has had no voltage
    back_s: Floats  # [T] how long the own source of the side that is fed has been back


def compile_ties(site: Site) -> Ties:
    """Ties and transfer switches that are open normally; KeyError on an unknown node."""
    found = [x for x in site.switches if x.kind in ("tie", "transfer") and x.normal == "open"]
    t = len(found)
    return Ties(
        bus=np.array([[site.node_index[x.a], site.node_index[x.b]] for x in found], dtype=np.int64).reshape(t, 2),
        delay_s=np.array([x.transfer_s for x in found], dtype=float),
        sound=np.array([n.kind in SOUND for n in site.nodes]),
        gives=np.array([n.kind == "generator" for n in site.nodes]),
        closed=np.full(t, -1),
        dead_s=np.zeros((t, 2)),
        back_s=np.zeros(t),
    )


@ALLOCATING
def supply(tree: Tree, ties: Ties, gensets: Gensets, s: ElecState) -> bool:
    """One step of generators and ties, and who has voltage after it; whether time alone may change it."""
    energise(tree, s)
    changed, busy = run_gensets(gensets, ties.bus, s)
    if changed:
        energise(tree, s)
    changed |= _switch(tree, ties, s)
    if changed:
        _reorder(tree, s)
        energise(tree, s)
    if changed or busy:
        hang_on(gensets, tree, s)
    return changed or busy or _restless(ties, s)


@KERNEL
def _switch(tree: Tree, ties: Ties, s: ElecState) -> bool:
    """Whether a tie opens or closes in this step."""
    changed = False
    for t in range(len(ties.delay_s)):
        if ties.closed[t] >= 0:
            changed |= _open(tree, ties, s, t)
        else:
            for side in range(2):
                if ties.closed[t] < 0 and _close(ties, s, t, side):
                    changed = True
    return changed


@KERNEL
def _restless(ties: Ties, s: ElecState) -> bool:
    """Whether a tie is closed or waits, a battery runs, a bus pauses, or a source sags."""
    for t in range(len(ties.delay_s)):
        if ties.closed[t] >= 0 or ties.dead_s[t, 0] > 0.0 or ties.dead_s[t, 1] > 0.0:
            return True
    moves = False
    for i in range(len(s.live)):
        moves = moves or s.on_battery[i] or s.gap_s[i] > 0.0 or s.source[i] < 1.0
    return moves


@KERNEL
def _close(ties: Ties, s: ElecState, t: int, side: int) -> bool:
    """Close tie `t` towards its `side` when that has been dead for long enough."""
    bus, source = ties.bus[t, side], ties.bus[t, 1 - side]
    if ties.gives[bus]:
        return False
    waiting = s.gap_s[bus] > 0.0
    s.gap_s[bus] = max(0.0, s.gap_s[bus] - DT_S)
    if s.live[bus] or waiting:
        ties.dead_s[t, side] = 0.0
        return False
    if s.root[source] >= 0 and source != s.root[source]:
        return False  # interlocked: a generator carries its own buses
    sound = s.in_service[bus] or ties.sound[bus]
    if ties.dead_s[t, side] >= ties.delay_s[t] and sound and s.live[source] and not _hangs_on(s, source, bus):
        ties.closed[t], ties.back_s[t] = side, 0.0
        s.via[bus] = source
        return True
    ties.dead_s[t, side] += DT_S
    return False


@KERNEL
def _open(tree: Tree, ties: Ties, s: ElecState, t: int) -> bool:
    """Open tie `t` when the own source of the side that it feeds is back, at once if the other side has died."""
    bus, source = ties.bus[t, ties.closed[t]], ties.bus[t, 1 - ties.closed[t]]
    own = s.in_service[bus] and (tree.is_feed[bus] or s.live[tree.parent[bus]])
    ties.back_s[t] = ties.back_s[t] + DT_S if own else 0.0
    if not own or (ties.back_s[t] <= RETURN_S and s.live[source]):
        return False
    ties.closed[t] = -1
    ties.dead_s[t, 0], ties.dead_s[t, 1] = 0.0, 0.0
    s.via[bus] = -1
    s.gap_s[bus] = BREAK_S - DT_S  # this step is part of it
    return True


@KERNEL
def _hangs_on(s: ElecState, node: int, above: int) -> bool:
    """Whether `node` gets its power from `above`."""
    while node >= 0:
        if node == above:
            return True
        node = s.above[node]
    return False


@ALLOCATING
def _reorder(tree: Tree, s: ElecState) -> None:
    """Who feeds whom now, and the order in which power is summed up: from the farthest to the feeds."""
    n = len(tree.parent)
    depth = np.zeros(n, dtype=np.int64)
    for i in range(n):
        s.above[i] = s.via[i] if s.via[i] >= 0 else tree.parent[i]
    for i in range(n):
        j = s.above[i]
        while j >= 0:
            depth[i] += 1
            j = s.above[j]
    k = 0
    for d in range(depth.max(), -1, -1):
        for i in range(n):
            if depth[i] == d:
                s.order[k] = i
                k += 1
