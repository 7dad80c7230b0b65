"""Point values with quality and time: the live table that readers fill, and its frozen snapshot."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Qualities = NDArray[np.uint8]


class Quality(IntEnum):
    """How far a value can be trusted; a larger number is worse."""

    GOOD = 0
    SUSPECT = 1  # present, but contradicted or stuck
    STALE = 2  # was good once, older than the point's longest age
    BAD = 3  # the device says so: sentinel, out of range, exception reply
    NEVER = 4  # nothing has ever arrived


@dataclass(frozen=True)
class Snapshot:
    """All points at one moment; arrays of shape [points], read-only."""

    now_s: float
    value: Floats
    quality: Qualities
    time_s: Floats  # monotonic time of arrival or source [s]; never rewritten


class PointTable:
    """Live value, quality and time of every point, shape [points].

    `max_age_s` [points] is the age at which a GOOD value becomes STALE by itself.
    """

    def __init__(self, max_age_s: Floats) -> None:
        n = len(max_age_s)
        self.max_age_s = max_age_s
        self._least_age_s = float(max_age_s.min(initial=np.inf))
        self.value: Floats = np.full(n, np.nan)
        self.quality: Qualities = np.full(n, Quality.NEVER, dtype=np.uint8)
        self.time_s: Floats = np.full(n, -np.inf)

    def put(self, slots: Ints | slice, value: Floats, quality: Qualities | int, time_s: Floats | float) -> None:
        """Store values; a NaN never counts as GOOD."""
        given, unknown = np.asarray(quality, dtype=np.uint8), np.isnan(value)
        self.value[slots] = value
        if unknown.any():
            given = np.where(unknown, np.maximum(given, np.uint8(Quality.BAD)), given)
        self.quality[slots] = given
        self.time_s[slots] = time_s

    def rows(self, start: int, stop: int, points: int) -> tuple[Floats, Qualities, Floats]:
        """Value, quality and time of the slots from `start` on as [rows, points], to be filled by whoever owns them.

        As in `put`, a NaN must not be left GOOD.
        """
        some, shape = slice(start, stop), (-1, points)
        return self.value[some].reshape(shape), self.quality[some].reshape(shape), self.time_s[some].reshape(shape)

    def snapshot(self, now_s: float) -> Snapshot:
        """Frozen copy at `now_s` [s]; quality decays with age, time stays what it was."""
        shot = Snapshot(now_s, self.value.copy(), self._aged(slice(None), now_s), self.time_s.copy())
        for array in (shot.value, shot.quality, shot.time_s):
            array.flags.writeable = False
        return shot

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """Values and qualities of a few points at `now_s` [s], as a snapshot would have them."""
        return self.value[slots], self._aged(slots, now_s)

    def _aged(self, slots: Ints | slice, now_s: float) -> Qualities:
        quality, time_s = self.quality[slots].copy(), self.time_s[slots]
        if now_s - time_s.min(initial=np.inf) <= self._least_age_s:
            return quality
        old = now_s - time_s > self.max_age_s[slots]
        if old.any():
            quality[old & (quality < Quality.STALE)] = Quality.STALE
        return quality
