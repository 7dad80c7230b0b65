"""Thunderbolt: two thresholds, multiplicative decrease, randomised recovery."""

import numpy as np

from controller.frames import Bools, Floats
from sim.lab.rivals.loads import present_w
from sim.lab.rivals.policy import Layout, Seen

HIGH, LOW = 0.98, 0.96  # of a domain's limit
HARD, SOFT = 0.01, 0.75  # what a throttled rack keeps of the power that it uses
ARMED_S = 60.0
RECOVER_S = (1.0, 10.0)
BLIND_S = 5.0
HISTORY_S = 600.0
JAILED = 0.2


class Thunderbolt:
    """Racks of training jobs give way; those that serve requests are spared.

    Li et al., Thunderbolt: Throughput-Optimized, Quality-of-Service-Aware Power Capping at Scale, OSDI 2020
    (usenix.org/conference/osdi20/presentation/li-shaohong), reactive capping: a meter is read every second; above
    98 % of a domain's limit every throughput-oriented task under it keeps 0.01 of what it uses, between 96 % and 98 %
    0.75 while that is armed; each machine recovers by itself after a random 1-10 s. Proactive capping: with the meter
    lost and a history near the limit, a fifth of every machine is jailed.

    Choices: a domain is the envelope or a node above several racks. What a rack uses is its power above idle, and no
    cap goes below its floor, so 0.01 is the floor. The low threshold stays armed for 60 s after the high one fired;
    a meter is lost after 5 s; the history is the highest load of the last ten minutes; jailed is a cap at 0.8 of what
    a rack may use.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        self._layout = layout
        self._rng = np.random.default_rng(seed)
        racks = len(layout.max_w)
        nodes = np.arange(len(layout.limit_w)) < len(layout.parent)
        self._domain: Bools = nodes & (np.diff(layout.rows.indptr) > 1)
        self._domain[layout.envelope_row] = True
        self._armed_s = np.full(len(layout.limit_w), -np.inf)
        self._free_s = np.full(racks, -np.inf)  # when a throttled rack recovers
        self._cap_w = layout.max_w.copy()
        self._seen_s: float | None = None
        self._near: list[tuple[float, float]] = []  # (time, load of the envelope as a share of it), falling

    def caps_w(self, seen: Seen) -> Floats:
        """Caps of throttled racks, nameplate for the others [R, W]."""
        layout, now_s = self._layout, seen.now_s
        load = self._load(seen)
        hot = self._domain & (load > HIGH)
        self._armed_s[hot] = now_s + ARMED_S
        warm = self._domain & (load > LOW) & (now_s <= self._armed_s)
        power_w = present_w(layout, seen)
        used_w = np.maximum(np.minimum(power_w, self._cap_w) - layout.idle_w, 0.0)
        hard, soft = (layout.training & self._under(d) for d in (hot, warm))
        throttled = hard | soft
        self._cap_w = np.where(now_s >= self._free_s, layout.max_w, self._cap_w)
        self._cap_w = np.where(throttled, layout.idle_w + np.where(hard, HARD, SOFT) * used_w, self._cap_w)
        self._cap_w = np.maximum(self._cap_w, layout.floor_w)
        wait_s = self._rng.uniform(*RECOVER_S, len(power_w))
        self._free_s = np.where(throttled, now_s + wait_s, self._free_s)
        if self._jails(now_s, float(load[layout.envelope_row])):
            return np.minimum(self._cap_w, layout.idle_w + (1.0 - JAILED) * (layout.max_w - layout.idle_w))
        return self._cap_w

    def _load(self, seen: Seen) -> Floats:
        """Load of each limit as a share of it [K], NaN where its meter says nothing."""
        load = np.full(len(self._layout.limit_w), np.nan)
        load[: len(seen.node_w)] = seen.node_w / self._layout.limit_w[: len(seen.node_w)]
        load[self._layout.envelope_row] = seen.site_w / seen.envelope_w
        return load

    def _under(self, domains: Bools) -> Bools:
        """Racks under one of these domains [R]."""
        rows = self._layout.rows
        hit = np.bincount(rows.racks, domains[rows.of_entry] & (rows.coeff > 0.0), minlength=len(self._layout.max_w))
        return np.asarray(hit > 0.0, dtype=np.bool_)

    def _jails(self, now_s: float, load: float) -> bool:
        """Whether the site's meter is lost at a risk: the load before that was near the envelope."""
        self._seen_s = now_s if self._seen_s is None or np.isfinite(load) else self._seen_s
        if np.isfinite(load):
            while self._near and self._near[-1][1] <= load:
                self._near.pop()
            self._near.append((now_s, load))
            self._near = [x for x in self._near if x[0] >= now_s - HISTORY_S]
        return now_s - self._seen_s > BLIND_S and bool(self._near) and self._near[0][1] > LOW
