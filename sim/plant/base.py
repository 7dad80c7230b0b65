"""What every part of the plant shares: its step, its one power factor, its error."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from drivers.points import Ints

Bools = NDArray[np.bool_]

DT_S = 0.25  # the plant's only step
VOLT_DROP = 0.02  # at rated load
POWER_FACTOR = 0.98  # corrected power supplies and active front ends; one figure for the whole plant


class PlantError(Exception):
    """The plant broke a law of nature or was asked for something it does not have."""


def ints(values: Iterable[int]) -> Ints:
    """Positions as an array, also when there are none."""
    return np.array(list(values), dtype=np.int64)
