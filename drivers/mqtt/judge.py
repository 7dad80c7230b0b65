"""Time and quality of values that bring their source's own time."""

import numpy as np
from numpy.typing import NDArray

from drivers.clock import Clock
from drivers.points import Floats, Ints, Qualities, Quality

CLOCK_OFF_S = 600.0  # a source time this old is a wrong clock, not an old value
CLOCK_AHEAD_S = 2.0


def judge(clock: Clock, stamps_ms: Ints | Floats, fits: NDArray[np.bool_]) -> tuple[Floats, Qualities, int]:
    """Monotonic times [s] and qualities of values by their source time, unless its clock cannot be right.

    `fits`: the source calls the value good and it lies in its range. The third figure counts the clocks that are off.
    """
    now_s = clock.now_s()
    age_s = (clock.wall_ms() - stamps_ms) / 1000.0
    off = ~((age_s >= -CLOCK_AHEAD_S) & (age_s <= CLOCK_OFF_S))
    time_s = np.where(off, now_s, now_s - np.maximum(age_s, 0.0))
    good = np.where(off, np.uint8(Quality.SUSPECT), np.uint8(Quality.GOOD))
    return time_s, np.where(fits, good, np.uint8(Quality.BAD)), int(off.sum())
