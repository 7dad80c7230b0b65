"""Crashes of training jobs: what was done since the last checkpoint is lost, and a restart takes its time.

A synchronous job stops when one of its racks goes dark, by a fault, its own heat or an outlet that is opened; it
stands at idle power until all of them have power again, and then reads its last checkpoint. Its work counts from the
start of the plant: a job without checkpoints loses all of that. Racks that are paused, slowed or shut down in order
keep what they have.
"""

from drivers.points import Floats, Ints
from sim.plant.base import DT_S, KERNEL, Bools
from sim.plant.jobs import JobState
from sim.plant.network import Gangs, Racks


@KERNEL
def _undo(s: JobState, g: int) -> None:
    s.undone[g] += s.work[g] - s.saved[g]
    s.work[g] = s.saved[g]


def crash(s: JobState, which: Ints) -> None:
    """These jobs crash now [G positions]; one that stands already begins its restart again."""
    for g in which.tolist():
        _undo(s, g)
    s.down_s[which] = s.restart_s[which]


@KERNEL
def follow(racks: Racks, gangs: Gangs, s: JobState, powered: Bools, hold_w: Floats, t_s: float) -> None:
    """A step of checkpoints, crashes and restarts; `powered` [R] have voltage, `hold_w` [R] as jobs.draw has it."""
    for g in range(len(gangs.racks)):
        every = s.checkpoint_every_s[g]
        if every > 0.0 and s.down_s[g] <= 0.0:
            into = (t_s + s.checkpoint_at_s[g] * every) % every
            if s.checkpoint_s[g] < into <= s.checkpoint_s[g] + DT_S:
                s.saved[g] = s.work[g]
    for r in range(len(racks.gang)):
        g = racks.gang[r]
        if gangs.training[g] and (not powered[r] or s.dead[r] or hold_w[r] == 0.0):
            if s.work[g] > s.saved[g]:
                _undo(s, g)
            s.down_s[g] = s.restart_s[g]
