"""How far each protection is on its way to a trip, and what it still allows: staircase curves, compiled.

State h in [0, 1] per node: it rises by dt / T(multiple) above the continuous multiple and falls by dt / cool_s below.
T is the lower edge of the maker's band (drivers.site.catalog): a load in (points[i-1], points[i]] trips after the
seconds of point i, above the last point at once. Multiples count from the derated rating. A curve without credit
promises no time: it keeps no state, and nothing above its rating is allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from drivers.site.catalog import TRIP_CURVES, TripCurve
from drivers.site.model import Site

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_CREDIT = TripCurve((), False, "no curve named")


@dataclass(frozen=True)
class TripTable:
    """Curves of all nodes; C curves of at most P points. Curve 0 has no credit."""

    curve_of: Ints  # [N]
    steps: Ints  # [C] number of points, 0 without credit
    multiple: Floats  # [C, P]
    seconds: Floats  # [C, P]
    continuous: Floats  # [C] multiple that is held for ever
    cool_s: Floats  # [C] from the brink of a trip to cold


def compile_trip(site: Site) -> TripTable:
    """Curves of a checked site's nodes; KeyError on a name that the catalog does not have."""
    return compile_curves([TRIP_CURVES[n.trip_curve] if n.trip_curve else NO_CREDIT for n in site.nodes])


def compile_curves(of_node: Sequence[TripCurve]) -> TripTable:
    """Table of the curve of each node [N]; only the lower edges of curves with credit are kept."""
    curves = [NO_CREDIT, *dict.fromkeys(c for c in of_node if c.credit)]
    number = {c: i for i, c in enumerate(curves)}
    widest = max(1, *(len(c.points) for c in curves))
    multiple, seconds = np.zeros((len(curves), widest)), np.zeros((len(curves), widest))
    for c, curve in enumerate(curves):
        for p, (load, time_s) in enumerate(curve.points):
            multiple[c, p], seconds[c, p] = load, time_s
    return TripTable(
        curve_of=np.array([number[c] if c.credit else 0 for c in of_node], dtype=np.int64),
        steps=np.array([len(c.points) for c in curves], dtype=np.int64),
        multiple=multiple,
        seconds=seconds,
        continuous=np.array([c.continuous if c.credit else 1.0 for c in curves]),
        cool_s=np.array([c.cool_s for c in curves]),
    )


def advance(table: TripTable, h: Floats, multiple: Floats, dt_s: float) -> Floats:
    """State of every node after `dt_s` [s] at `multiple` of its rating [N]; an unknown multiple trips."""
    return np.asarray(_advance(*_arrays(table), table.continuous, table.cool_s, h, multiple, float(dt_s)))


def time_to_trip(table: TripTable, h: Floats, multiple: Floats) -> Floats:
    """How long every node carries `multiple` of its rating from state `h` [N, s]; inf at a continuous load."""
    return np.asarray(_time_to_trip(*_arrays(table), table.continuous, h, multiple))


def allowed(table: TripTable, node: Ints, h: Floats, hold_s: Floats, share: Floats) -> Floats:
    """Largest multiple that node[j] carries for hold_s[j] on less than share[j] of what is left to its trip [J].

    `h` [N]; the others [J]. Never below the continuous multiple, exactly 1 without credit.
    """
    return np.asarray(_allowed(*_arrays(table), table.continuous, node, h, hold_s, share))


def _arrays(table: TripTable) -> tuple[Ints, Ints, Floats, Floats]:
    return table.curve_of, table.steps, table.multiple, table.seconds


@njit(cache=True)
def _hold_s(steps: Ints, multiple: Floats, seconds: Floats, c: int, load: float) -> float:
    """Shortest time to a trip from cold at an overload [s]; 0 above the last point or when it is not a number."""
    for p in range(steps[c]):
        if load <= multiple[c, p]:
            return float(seconds[c, p])
    return 0.0


@njit(cache=True)
def _advance(
    curve_of: Ints, steps: Ints, multiple: Floats, seconds: Floats, continuous: Floats, cool_s: Floats,
    h: Floats, load: Floats, dt_s: float,
) -> Floats:  # fmt: skip
    out = np.zeros(len(h))
    for i in range(len(h)):
        c = curve_of[i]
        if steps[c] == 0:
            continue
        if load[i] <= continuous[c]:
            out[i] = max(0.0, h[i] - dt_s / cool_s[c])
            continue
        hold_s = _hold_s(steps, multiple, seconds, c, load[i])
        if hold_s > 0.0:
            out[i] = min(1.0, h[i] + dt_s / hold_s)
        else:
            out[i] = 1.0 if dt_s > 0.0 else h[i]
    return out


@njit(cache=True)
def _time_to_trip(
    curve_of: Ints, steps: Ints, multiple: Floats, seconds: Floats, continuous: Floats, h: Floats, load: Floats
) -> Floats:
    out = np.full(len(h), np.inf)
    for i in range(len(h)):
        c = curve_of[i]
        if not load[i] <= continuous[c]:
            out[i] = max(0.0, 1.0 - h[i]) * _hold_s(steps, multiple, seconds, c, load[i])
    return out


@njit(cache=True)
def _allowed(
    curve_of: Ints, steps: Ints, multiple: Floats, seconds: Floats, continuous: Floats,
    node: Ints, h: Floats, hold_s: Floats, share: Floats,
) -> Floats:  # fmt: skip
    out = np.empty(len(node))
    for j in range(len(node)):
        c = curve_of[node[j]]
        left = (1.0 - h[node[j]]) * share[j]
        out[j] = continuous[c]
        for p in range(steps[c]):  # times fall with the load: the last step that holds is the largest
            if left > 0.0 and hold_s[j] < seconds[c, p] * left:
                out[j] = multiple[c, p]
    return out
