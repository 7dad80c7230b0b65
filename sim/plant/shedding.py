"""What a rack does on a rung of the shed ladder: what it draws, and how long it takes to go and to come back."""

from typing import NamedTuple

import numpy as np

from drivers.lease import Shed
from drivers.points import Floats, Ints
from sim.plant.base import DT_S, KERNEL, Bools
from sim.plant.jobs import JobState
from sim.plant.network import Racks

NONE, SLOW, DOWN, OFF = int(Shed.NONE), int(Shed.SLOW), int(Shed.DOWN), int(Shed.OFF)
SLOW_SHARE = 0.9  # of idle power, at the lowest clock
DOWN_SHARE = 0.05  # of idle power: management controllers and standby supplies
SHUTDOWN_S, START_S = 20.0, 60.0  # orderly, nodes and their software
QUIET_STEPS = round((SHUTDOWN_S + START_S) / DT_S) + 2  # and the actuators' latency: then all racks work again


class ShedState(NamedTuple):
    """Changes in place."""

    history: Ints  # [steps, R] rungs in force at the agents, a ring over the actuators' latency
    down_s: Floats  # [R] into a shutdown
    start_s: Floats  # [R] of start-up still to come before work goes on
    quiet: Ints  # [1] steps since a rack was asked to shed
    hold_w: Floats  # [R] what a shed or starting rack draws, infinity where work runs


def start_shedding(racks: Racks) -> ShedState:
    """No rack is shed."""
    n = len(racks.gang)
    history = np.zeros((int(racks.delay_steps.max(initial=0)) + 1, n), dtype=np.int64)
    return ShedState(history, np.zeros(n), np.zeros(n), np.zeros(1, dtype=np.int64), np.full(n, np.inf))


@KERNEL
def asks(rungs: Ints) -> bool:
    """Whether any rack [R] is to shed."""
    most = 0
    for r in range(len(rungs)):
        most = max(most, rungs[r])
    return most > NONE


@KERNEL
def shed(racks: Racks, s: ShedState, jobs: JobState, rungs: Ints, step: int, ignores: Bools) -> None:
    """Racks follow their rungs [R] after the actuator's latency; an open outlet acts at once, on any rack."""
    ring = len(s.history)
    s.quiet[0] = 0 if asks(rungs) else s.quiet[0] + 1
    for r in range(len(rungs)):
        s.history[step % ring, r] = rungs[r]
        rung = NONE if ignores[r] else s.history[(step - racks.delay_steps[r]) % ring, r]
        if rungs[r] == OFF or rung == OFF:
            s.down_s[r], s.start_s[r] = SHUTDOWN_S, START_S
            s.hold_w[r] = 0.0
        elif rung == DOWN:
            s.down_s[r] = min(s.down_s[r] + DT_S, SHUTDOWN_S)
            s.start_s[r] = START_S  # an ordered shutdown is gone through with
            s.hold_w[r] = racks.idle_w[r] * (DOWN_SHARE if s.down_s[r] >= SHUTDOWN_S else 1.0)
        else:
            s.down_s[r] = 0.0
            s.hold_w[r] = racks.idle_w[r] * (SLOW_SHARE if rung == SLOW else 1.0)
            if rung == NONE and s.start_s[r] <= 0.0:
                s.hold_w[r] = np.inf
            s.start_s[r] = max(s.start_s[r] - DT_S, 0.0)
        if s.hold_w[r] < np.inf:
            jobs.limit_w[r] = s.hold_w[r]  # from there the cap settles when work goes on
