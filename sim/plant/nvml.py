"""What GPUs tell of their own power: means of a second, of which a quarter is looked at.

NVML looks at a window of 25 ms every 100 ms (Yang, Adamek, Armour, arXiv 2312.02741; FACTS C.5) and shows the mean of a
second. Ten such looks are the mean of a second that lies earlier or later by when the first of them began, SHIFT_S
drawn for each GPU and kept, as their clocks run free. Power that moves shows by so much too early or too late: up to
2 % of a training swing's plateau for one GPU, a fifth of that for a rack's 64. Within a step power is constant.
"""

import numpy as np

from drivers.points import Floats
from sim.plant.network import Racks

LOOK_S, EVERY_S = 0.025, 0.1
SHIFT_S = (-0.5 * (EVERY_S - LOOK_S), 0.5 * (EVERY_S + LOOK_S))  # by which the second looked at is over already


class Nvml:
    """Shifts of every GPU [T] and of the sum over each rack's [R], later is positive; s."""

    def __init__(self, racks: Racks, rng: np.random.Generator) -> None:
        starts = np.concatenate(([0], np.cumsum(racks.gpus)[:-1]))
        self.gpu_s: Floats = rng.uniform(*SHIFT_S, int(racks.gpus.sum()))
        self.rack_s: Floats = np.add.reduceat(self.gpu_s, starts) / racks.gpus


def seen_w(mean_w: Floats, newest_w: Floats, gone_w: Floats, late_s: Floats) -> Floats:
    """The mean of a second that ended `late_s` [s] ago: that of the last one, its newest step and the one before it."""
    seen: Floats = np.maximum(mean_w - late_s * (newest_w - gone_w), 0.0)
    return seen
