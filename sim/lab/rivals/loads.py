"""What policies that set caps against a budget share: the load that no cap moves, and what racks ask for."""

import numpy as np

from controller.frames import Floats
from sim.lab.rivals.policy import Layout, Seen

METER_ERROR = 0.005  # class 0.5S (IEC 62053-22): caps are set so far below what the meters guard
OTHER_TAU_S = 30.0  # other load is slow; the swings of training must average out of it


class OtherLoad:
    """Load of each limit that is no rack's [K, W]: meter less racks, filtered; by design until it has been seen."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._other_w = layout.design_other_w.copy()
        self._seen = np.zeros(len(layout.limit_w), dtype=np.bool_)
        self._last_s = -np.inf

    def follow(self, seen: Seen) -> Floats:
        """The load after this cycle's readings; a limit whose meter says nothing keeps what it had."""
        layout, nodes = self._layout, len(seen.node_w)
        racks_w = layout.rows.dot(present_w(layout, seen))
        sample_w = np.full(len(racks_w), np.nan)
        sample_w[:nodes] = seen.node_w - racks_w[:nodes]
        sample_w[layout.envelope_row] = seen.site_w - racks_w[layout.envelope_row]
        known = np.isfinite(sample_w)
        gain = np.where(self._seen, 1.0 - np.exp(-(seen.now_s - self._last_s) / OTHER_TAU_S), 1.0)
        self._other_w = np.where(known, self._other_w + (sample_w - self._other_w) * gain, self._other_w)
        self._seen |= known
        self._last_s = seen.now_s
        return self._other_w


def present_w(layout: Layout, seen: Seen) -> Floats:
    """Present power of each rack [R, W]; one that nobody measures counts its cap, or its nameplate."""
    cap_w = np.where(np.isfinite(seen.cap_w), seen.cap_w, layout.max_w)
    return np.where(np.isfinite(seen.rack_w), seen.rack_w, np.minimum(cap_w, layout.max_w))


def room_w(layout: Layout, other_w: Floats, envelope_w: float) -> Floats:
    """What each limit leaves to the racks [K, W], a metering error below it; 0 where others take it all."""
    limit_w = layout.limit_w.copy()
    limit_w[layout.envelope_row] = envelope_w
    return np.maximum(limit_w * (1.0 - METER_ERROR) - other_w, 0.0)
