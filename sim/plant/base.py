"""What every part of the plant shares: its step, its one power factor, its error."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.points import Ints

Bools = NDArray[np.bool_]

DT_S = 0.25  # the plant's only step
POWER_FACTOR = 0.98  # of all loads: corrected power supplies and active front ends
UNCOUNTED: Any = {"_nrt": False}  # for njit: count no array references
VAR_PER_W = (1.0 / POWER_FACTOR**2 - 1.0) ** 0.5


class PlantError(Exception):
    """The plant broke a law of nature or was asked for something it does not have."""


def ints(values: Iterable[int]) -> Ints:
    """Positions as an array, also when there are none."""
    return np.array(list(values), dtype=np.int64)
