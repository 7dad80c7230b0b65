"""Which node carries how much of each column at one state of the building."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from controller.contingency.building import Building
from controller.contingency.states import State
from controller.frames import Bools, Floats, Ints

CORD_A, CORD_B, FIXED = 0, 1, 2  # parts of a coefficient: times the share of cord A, of cord B, as it stands


@dataclass(frozen=True)
class Paths:
    """From every node to its source: nodes [N, S] (-1: none), and load there per W at the node's output [N, S]."""

    node: Ints
    coeff: Floats


@dataclass(frozen=True)
class Entries:
    """Load at nodes per W of a column: parallel arrays [E]."""

    node: Ints
    column: Ints
    part: Ints
    coeff: Floats

    def joined(self, other: "Entries") -> "Entries":
        """Both, one after the other."""
        pairs = ((self.node, other.node), (self.column, other.column), (self.part, other.part))
        node, column, part = (np.concatenate(pair) for pair in pairs)
        return Entries(node, column, part, np.concatenate((self.coeff, other.coeff)))


class Router:
    """Paths of a building, kept for the states of its ties met so far."""

    def __init__(self, b: Building) -> None:
        self.b = b
        self._known: dict[tuple[tuple[int, int], ...], Paths] = {}

    def paths(self, fed: tuple[tuple[int, int], ...]) -> Paths:
        """Paths with these ties closed."""
        if fed not in self._known:
            self._known[fed] = self._walk(fed)
        return self._known[fed]

    def _walk(self, fed: tuple[tuple[int, int], ...]) -> Paths:
        """Walk up from all nodes at once; a closed tie carries without loss, past a winding's own rating."""
        b = self.b
        up, loss = b.parent.copy(), b.efficiency.copy()
        past = np.zeros(len(up), dtype=bool)
        for bus, source in fed:
            up[bus], loss[bus], past[bus] = source, 1.0, b.winding[bus]
        at, coeff = np.arange(len(up)), np.ones(len(up))
        nodes, coeffs = [], []
        for _ in range(2 * len(up)):
            if not (at >= 0).any():
                break
            nodes.append(np.where(past[at], -1, at))  # at -1 the last node answers, and does no harm
            coeffs.append(coeff)
            coeff = coeff / loss[at]
            at = np.where(at >= 0, up[at], -1)
        return Paths(np.stack(nodes, axis=1), np.stack(coeffs, axis=1))

    def carried(self, state: State, columns: Ints, off: frozenset[int], on: frozenset[int]) -> Entries:
        """Load at every node from `columns`.

        `off`: columns that are lost or stopped themselves; `on`: standby units that run.
        """
        b = self.b
        count = b.feed_start[columns + 1] - b.feed_start[columns]
        of = np.repeat(np.arange(len(columns)), count)
        place = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
        feed = b.feed[b.feed_start[columns][of] + place]
        live = ~_mask(len(b.parent), state.dead)[feed]
        n_live = np.bincount(of, live, minlength=len(columns))
        running = b.running
        if on or off:
            size = len(running)
            running = (running | _mask(size, on)) & ~_mask(size, off)
        runs = running[columns]
        rack = columns < b.racks
        part = np.where(rack[of] & (n_live[of] == 2), place, FIXED)
        part_of = np.where(rack, 1.0, 1.0 / np.maximum(n_live, 1.0))
        keep = live & runs[of]
        return self._up(state, feed[keep], columns[of[keep]], part[keep], part_of[of[keep]])

    def onto(self, state: State, node: Ints, column: Ints) -> Entries:
        """Load at every node from columns that hang whole on given nodes."""
        return self._up(state, node, column, np.full(len(node), FIXED), np.ones(len(node)))

    def _up(self, state: State, feed: Ints, column: Ints, part: Ints, value: Floats) -> Entries:
        paths = self.paths(state.fed)
        node, coeff = paths.node[feed], paths.coeff[feed] * value[:, None]
        # nothing flows through a dead node; above it the load of a UPS on battery stays: it will come back
        keep = (node >= 0) & ~_mask(len(self.b.parent), state.dead)[node]
        steps = node.shape[1]
        wide = np.repeat(np.arange(len(feed)), steps).reshape(node.shape)[keep]
        return Entries(node[keep], column[wide], part[wide], coeff[keep])


def touched(b: Building, before: State, after: State) -> Ints:
    """Columns with a feed that died, came back or hangs elsewhere."""
    nodes = set(before.dead ^ after.dead)
    moved = {bus for bus, _ in set(before.fed) ^ set(after.fed)}
    stack = list(moved)
    while stack:
        node = stack.pop()
        nodes.add(node)
        stack += b.children[node]
    return _ints({c for node in nodes for c in b.attached[node]})


def standby(b: Building, stopped: Iterable[int]) -> frozenset[int]:
    """Standby units that start for stopped ones of their kind and loop."""
    gone = set(stopped)
    started: set[int] = set()
    for column in sorted(gone):
        if column in b.unit and b.running[column]:
            started.update([u for u in b.spares[column] if u not in gone and u not in started][:1])
    return frozenset(started)


def _ints(values: Iterable[int]) -> Ints:
    return np.array(sorted(values), dtype=np.int64)


def _mask(size: int, members: Iterable[int]) -> Bools:
    mask = np.zeros(size, dtype=bool)
    mask[list(members)] = True
    return mask
