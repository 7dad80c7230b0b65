"""What policies that set caps against a budget share: the load that no cap moves, and what racks ask for."""

import numpy as np

from controller.frames import Floats
from sim.lab.rivals.policy import Layout, Seen

METER_ERROR = 0.005  # class 0.5S (IEC 62053-22): caps are set so far below what the meters guard
OTHER_TAU_S = 30.0  # other load is slow; the swings of training must average out of it
STEP_SHARE = 0.05  # of a limit: a change this large is no swing, load has been switched
WINDOW_S, BUCKETS = 60.0, 6  # longest pause of a training job that still counts as running
HELD_SHARE = 0.95  # of its cap: a rack drawing more may want more


class OtherLoad:
    """Load of each limit that is no rack's [K, W]: metered branches without racks, and a filtered rest; by design
    until it has been seen.

    Cooling, which the coefficient of the envelope counts as the racks' own, is so taken off its rest.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout, self._branches = layout, Branches(layout)
        self._rest_w = layout.design_other_w.copy()
        self._rest_w -= self._branches.load_w(np.full(len(layout.parent), np.nan))
        self._seen = np.zeros(len(layout.limit_w), dtype=np.bool_)
        self._last_s = -np.inf

    def follow(self, seen: Seen) -> Floats:
        """The load after this cycle's readings; a limit whose meter says nothing keeps the rest it had."""
        layout, nodes = self._layout, len(seen.node_w)
        branch_w = self._branches.load_w(seen.node_w)
        known_w = layout.rows.dot(present_w(layout, seen)) + branch_w
        sample_w = np.full(len(known_w), np.nan)
        sample_w[:nodes] = seen.node_w - known_w[:nodes]
        sample_w[layout.envelope_row] = seen.site_w - known_w[layout.envelope_row]
        known = np.isfinite(sample_w)
        slowly = self._seen & (np.abs(sample_w - self._rest_w) <= STEP_SHARE * layout.limit_w)
        gain = np.where(slowly, 1.0 - np.exp(-(seen.now_s - self._last_s) / OTHER_TAU_S), 1.0)
        self._rest_w = np.where(known, self._rest_w + (sample_w - self._rest_w) * gain, self._rest_w)
        self._seen |= known
        self._last_s = seen.now_s
        return self._rest_w + branch_w


class Branches:
    """Nodes without a rack below, each the top of its branch: its meter is load of every node above at once."""

    def __init__(self, layout: Layout) -> None:
        bare = np.diff(layout.rows.indptr)[: len(layout.parent)] == 0
        self._node_w = layout.design_other_w[: len(layout.parent)].copy()  # last known
        top: list[int] = []
        row: list[int] = []
        part: list[float] = []
        for first in np.flatnonzero(bare & (layout.parent >= 0) & ~bare[layout.parent]).tolist():
            load, node = 1.0, first
            while node >= 0:
                above = int(layout.parent[node])
                for k in (node,) if above >= 0 else (node, layout.envelope_row):
                    top.append(first)
                    row.append(k)
                    part.append(load)
                load, node = load / float(layout.efficiency[node]), above
        self._top, self._row, self._part = np.array(top, dtype=np.int64), np.array(row, dtype=np.int64), np.array(part)
        self._rows = len(layout.limit_w)

    def load_w(self, node_w: Floats) -> Floats:
        """Load of the branches on each limit [K, W] from the meters [N, W]; a silent one counts what it last showed."""
        self._node_w = np.where(np.isfinite(node_w), node_w, self._node_w)
        load_w = np.bincount(self._row, self._part * self._node_w[self._top], minlength=self._rows)
        return load_w.astype(np.float64, copy=False)


def present_w(layout: Layout, seen: Seen) -> Floats:
    """Present power of each rack [R, W]; one that nobody measures counts its cap, or its nameplate."""
    cap_w = np.where(np.isfinite(seen.cap_w), seen.cap_w, layout.max_w)
    return np.where(np.isfinite(seen.rack_w), seen.rack_w, np.minimum(cap_w, layout.max_w))


def room_w(layout: Layout, other_w: Floats, envelope_w: float) -> Floats:
    """What each limit leaves to the racks [K, W], a metering error below it; 0 where others take it all."""
    limit_w = layout.limit_w.copy()
    limit_w[layout.envelope_row] = envelope_w
    return np.maximum(limit_w * (1.0 - METER_ERROR) - other_w, 0.0)


class Demand:
    """What each rack asks for [R, W]: its highest power of the last minute; its nameplate while its cap holds it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._peaks_w = np.zeros((BUCKETS, len(layout.max_w)))
        self._bucket = -1

    def follow(self, seen: Seen) -> Floats:
        """The demand after this cycle's readings, between floor and nameplate."""
        layout, power_w = self._layout, present_w(self._layout, seen)
        held = power_w >= HELD_SHARE * np.where(np.isfinite(seen.cap_w), seen.cap_w, np.inf)
        wish_w = np.where(held | ~np.isfinite(seen.rack_w), layout.max_w, power_w)
        bucket = int(seen.now_s // (WINDOW_S / BUCKETS)) % BUCKETS
        if bucket != self._bucket:
            self._bucket = bucket
            self._peaks_w[bucket] = 0.0
        self._peaks_w[bucket] = np.maximum(self._peaks_w[bucket], wish_w)
        demand_w: Floats = np.clip(self._peaks_w.max(axis=0), layout.floor_w, layout.max_w)
        return demand_w
