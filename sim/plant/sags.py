"""Short falls of the utility's voltage: a UPS goes to its battery, motors on plain supplies drop out and come back.

A UPS takes its input for lost below UPS_LEAST (usual window of double conversion: 15 % down). Racks stand behind UPS;
a contactor or drive on the mains falls out when a sag is deeper and longer than SEMI F47-0706 has equipment bear
(0.5 of the voltage for 0.2 s, 0.7 for 0.5 s, 0.8 for 1 s), and starts again by itself some time after the voltage is
back: a pump or fan on a drive within seconds, a chiller when its refrigerant has settled. Motors of one board start one
after the other, as their controls have it, so that they do not start together.
"""

import numpy as np

from drivers.points import Floats, Ints
from sim.plant.base import DT_S, Bools

RIDES = ((0.5, 0.0), (0.7, 0.2), (0.8, 0.5), (0.9, 1.0))  # below this voltage it bears so many seconds
DRIVE_RESTART_S, CHILLER_RESTART_S, STAGGER_S = 3.0, 60.0, 1.0  # flying start; quick restart of a chiller; assumed


class Dropouts:
    """Motors [M], each on feeds fed[ptr[i]:ptr[i + 1]]; the best of its live feeds counts."""

    def __init__(self, ptr: Ints, fed: Ints, restart_s: Floats) -> None:
        self._ptr, self._fed = ptr, fed
        n = len(ptr) - 1
        self._low_s: Floats = np.zeros(n)  # into a sag
        self._wait_s: Floats = np.zeros(n)  # until it starts again
        self.any_out = False  # one of them is out, or in a sag
        first = np.array([int(fed[k]) if k < len(fed) else -1 for k in ptr[:-1]], dtype=np.int64)
        turn = np.array([int((first[:i] == first[i]).sum()) for i in range(n)])
        self._restart_s: Floats = restart_s + STAGGER_S * turn

    def step(self, volt: Floats, live: Bools) -> Bools:
        """Which of them run after one step at these voltages [N], per unit; a dead feed is nobody's [M]."""
        seen = np.append(np.where(live, volt, 0.0)[self._fed], 0.0)
        best = np.maximum.reduceat(seen, self._ptr[:-1]) if len(self._low_s) else self._low_s
        low = (best < RIDES[-1][0]) & (best > 0.0)
        self._low_s = np.where(low, self._low_s + DT_S, 0.0)
        bears_s = np.full(len(best), np.inf)
        for volts, seconds in reversed(RIDES):
            bears_s[best < volts] = seconds
        out = low & (self._low_s > bears_s)
        self._wait_s = np.where(out, self._restart_s, np.where(low, self._wait_s, np.maximum(self._wait_s - DT_S, 0.0)))
        running: Bools = self._wait_s <= 0.0
        self.any_out = bool(low.any()) or not running.all()
        return running
