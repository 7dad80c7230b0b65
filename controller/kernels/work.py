"""The most weighted work under rows: sum over gangs of weight x racks x level, on curves' hulls above the knee.

Same rows, floors, demands, ceilings and gangs as `fill`, whose rules for racks hold here too; classes do not count.
- A rack runs at its floor or at its knee (see `hull_above_knee`), whichever is higher, as far as demand and ceiling
  allow. Where the rows do not hold with all of them, `fill` raises the gangs from their floors to their knees, class
  by class; a gang that does not get there stays where `fill` leaves it, and only the others are optimised.
- A row that the floors alone exceed counts as full.
- Above the knee a gang's level is that of the concave hull, so that its power is convex in the level and the whole a
  linear program; it is solved to a small gap, and the upper bound found is part of the answer.
Equal inputs give bit-for-bit equal answers. The number of rounds is bounded, and with it the time.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controller.kernels.fill import FillError, FillInputs, FillTopology, fill, level_of
from controller.kernels.work_hull import Racks, hull_above_knee, level_at, racks_of
from controller.kernels.work_solve import solve

__all__ = ["WorkResult", "hull_above_knee", "throughput"]

Floats = NDArray[np.float64]
NEAR = 5e-4  # of the work above the lowest levels: bounds this near end it
MOST_ROUNDS = 60
ALLOWED = 1e-12  # relative: rows end this far below their limits


@dataclass(frozen=True)
class WorkResult:
    """power_w [R]; level [G], on the hull; price [K], weighted work per W of each row, not negative.

    work: sum of weight x racks x level; bound: no answer has more; at_knee: every rack runs at its knee or above,
    as far as its demand and ceiling allow; rounds needed.
    """

    power_w: Floats
    level: Floats
    price: Floats
    work: float
    bound: float
    at_knee: bool
    rounds: int


def throughput(
    topology: FillTopology,
    inputs: FillInputs,
    weight: Floats,
    price: Floats | None = None,
    near: float = NEAR,
    most_rounds: int = MOST_ROUNDS,
) -> WorkResult:
    """The most work; weight [G] >= 0 per rack of each gang. `price` [K], of an earlier answer, saves rounds.

    It ends when the bounds are `near` (relative, above the lowest levels) or after `most_rounds`. FillError on arrays
    that do not fit or unknown values.
    """
    _check(topology, inputs, weight)
    coef = np.asarray(topology.coef if inputs.coef is None else inputs.coef, np.float64)
    racks, held = _from_knees(topology, inputs, racks_of(topology, inputs), coef)
    start = level_at(racks, racks.floor_w)
    room = racks.ceiling_w < racks.demand_w
    most = np.where(room, np.maximum(start, level_at(racks, racks.ceiling_w)), 1.0)
    gangs = len(topology.gang_class)
    low, high = np.ones(gangs), np.ones(gangs)
    np.minimum.at(low, topology.gang_of, start)
    np.minimum.at(high, topology.gang_of, most)
    high = np.where(held, low, np.maximum(low, high))
    full = np.bincount(topology.gang_of, minlength=gangs) * np.asarray(weight, np.float64)
    limit_w = np.maximum(inputs.limit_w, _loads(topology, coef, racks.floor_w))
    prices = np.zeros(len(limit_w)) if price is None else np.maximum(np.asarray(price, np.float64), 0.0)
    level, worth, rounds = solve(
        topology.gang_of, topology.gang_start, topology.gang_rack, topology.row_start, topology.row_block, coef,
        racks.floor_w, racks.at_w, racks.per_w, low, high, full, limit_w, prices, near, most_rounds,
    )  # fmt: skip
    power_w = _powers(topology, racks, coef, limit_w, level)
    paid = np.where(prices > 0.0, limit_w - _loads(topology, coef, racks.floor_w), 0.0) @ prices
    if held.any():
        true = level_of(topology, inputs, power_w)
        low, level = np.where(held, true, low), np.where(held, true, level)
    bound = float(full @ low + worth.sum() + paid)
    work = float(full @ level)
    return WorkResult(power_w, level, prices, work, max(bound, work), not held.any(), int(rounds))


def _check(topology: FillTopology, inputs: FillInputs, weight: Floats) -> None:
    """FillError on arrays that do not fit or unknown values, and on racks in blocks."""
    if len(topology.block_start) != len(topology.gang_of) + 1:
        raise FillError("throughput is filled rack by rack: every rack is a block of its own")
    fields = (inputs.floor_w, inputs.demand_w, inputs.other_w, inputs.gpu_w)
    shapes = [np.shape(x) for x in (*fields, inputs.ceiling_w, inputs.curve_of)]
    if any(shape != topology.gang_of.shape for shape in shapes):
        raise FillError(f"inputs of shapes {shapes}: {topology.gang_of.shape} racks")
    if np.shape(inputs.limit_w) != (len(topology.row_start) - 1,) or np.shape(weight) != topology.gang_class.shape:
        raise FillError(f"limits {np.shape(inputs.limit_w)} or weights {np.shape(weight)} do not fit")
    known = (*fields, weight) if inputs.coef is None else (*fields, weight, inputs.coef)
    if not all(np.isfinite(x).all() and (np.asarray(x) >= 0.0).all() for x in known):
        raise FillError("a power, a coefficient or a weight is unknown or negative")
    if np.isnan(inputs.ceiling_w).any() or not (np.asarray(inputs.limit_w) > -np.inf).all():
        raise FillError("a ceiling or a limit is unknown")


def _from_knees(
    topology: FillTopology, inputs: FillInputs, racks: Racks, coef: Floats
) -> tuple[Racks, NDArray[np.bool_]]:
    """Racks that begin at their knees where that fits; gangs [G] that stay below theirs, as constants."""
    held = np.zeros(len(topology.gang_class), dtype=np.bool_)
    limit_w = np.maximum(inputs.limit_w, _loads(topology, coef, racks.floor_w))
    if (_loads(topology, coef, racks.knee_w) <= limit_w).all():
        return racks._replace(floor_w=racks.knee_w), held
    filled_w = fill(topology, replace(inputs, floor_w=racks.floor_w, demand_w=racks.knee_w)).power_w
    held[topology.gang_of[filled_w < racks.knee_w * (1.0 - 1e-9)]] = True
    fixed = held[topology.gang_of]
    floor_w = np.where(fixed, filled_w, racks.knee_w)
    at_w, per_w = racks.at_w.copy(), racks.per_w.copy()
    at_w[fixed], per_w[fixed] = floor_w[fixed, None], 0.0
    return racks._replace(floor_w=floor_w, at_w=at_w, per_w=per_w), held


def _loads(topology: FillTopology, coef: Floats, power_w: Floats) -> Floats:
    """Load of each row [W]."""
    watts = np.append(coef * power_w[topology.row_block], 0.0)
    total = np.add.reduceat(watts, topology.row_start[:-1]) if len(topology.row_start) > 1 else np.zeros(0)
    return np.asarray(np.where(np.diff(topology.row_start) > 0, total, 0.0))


def _powers(topology: FillTopology, racks: Racks, coef: Floats, limit_w: Floats, level: Floats) -> Floats:
    """Powers at levels; what rounding puts over a limit is taken from what its racks have above their floors."""
    lines_w = (racks.at_w + racks.per_w * level[topology.gang_of, None]).max(axis=1)
    most_w = np.maximum(np.minimum(racks.demand_w, racks.ceiling_w), racks.floor_w)
    power_w: Floats = np.clip(lines_w, racks.floor_w, most_w)
    load_w, least_w = _loads(topology, coef, power_w), _loads(topology, coef, racks.floor_w)
    for k in np.flatnonzero((load_w > limit_w * (1.0 - ALLOWED)) & (load_w > least_w)):
        above_w = load_w[k] - least_w[k]
        target_w = limit_w[k] - min(ALLOWED * limit_w[k], 1e-9 * above_w)
        entries = slice(topology.row_start[k], topology.row_start[k + 1])
        mine = topology.row_block[entries][coef[entries] > 0.0]
        keep = min(max((target_w - least_w[k]) / above_w, 0.0), 1.0)
        power_w[mine] = racks.floor_w[mine] + (power_w[mine] - racks.floor_w[mine]) * keep
    power_w.flags.writeable = False
    return power_w
