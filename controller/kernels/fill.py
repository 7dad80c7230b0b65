"""Exact lexicographic max-min progressive filling of racks under rows, class by class.

The level of a gang is its throughput divided by its throughput at demand. With s the share of GPU power,
s = (rack power - other power) / GPU power, a curve gives throughput(s) by straight lines through its points, below
the first point by the line to (0, 0), above the last by its last line. Hence

    power(level) = clip(other_w + gpu_w x curve^-1(level x curve(s at demand)), max(floor_w, other_w), demand_w)

is continuous and non-decreasing, which is all that filling needs. Rules:
- demand below floor is charged at the floor; a rack with floor = demand is a constant;
- a rack with no GPU power, or whose demand is not above its other power, has level = power / demand;
- a gang is at the level of its floor, the least over its racks, until the common level of its class reaches it;
- a tight row freezes exactly the gangs of which a rack in it would rise; later it freezes a gang at the level where
  the first such rack leaves its floor;
- a rack reaching its ceiling freezes its gang; a ceiling below the floor yields to the floor and is reported;
- a row that the floors alone exceed is reported as violated, and every gang that would raise it stays at its floor.

Rounding: the last step scales what the racks of a full row have above their floors, by about 1e-9 of it at most, so
that the row ends 1e-12 (relative) below its limit and holds in whatever order it is summed. Where that part is less
than a thousandth of the limit the margin shrinks with it; a row that its floors fill exactly can be over by rounding.
Equal inputs give bit-for-bit equal answers.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controller.kernels.fill_build import Curve, FillError, FillTopology, build_topology, by_class
from controller.kernels.fill_setup import BINDING, LEVEL, LOWEST
from controller.kernels.fill_solve import BAD_RACK, BAD_ROW, TOO_LONG, levels, solve

__all__ = ["Curve", "FillError", "FillInputs", "FillResult", "FillTopology", "build_topology", "fill", "level_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class FillInputs:
    """What changes every cycle, all powers in W, rack power including other power.

    floor_w, demand_w, ceiling_w (inf: none), other_w (rack power that is not GPU), gpu_w (GPU power at full) [R];
    curve_of [R], index of the rack's curve; limit_w [K], net of constants (inf: none). Optional, instead of the
    topology's: coef [N] in its CSR order, gang_class [G].
    """

    floor_w: Floats
    demand_w: Floats
    ceiling_w: Floats
    other_w: Floats
    gpu_w: Floats
    curve_of: Ints
    limit_w: Floats
    coef: Floats | None = None
    gang_class: Ints | None = None


@dataclass(frozen=True)
class FillResult:
    """Powers, levels and what binds them.

    power_w [R] [W]; level [G] in 0..1; binding_row [G]: the row that froze the gang, -1 at demand, -2 - r at the
    ceiling of rack r; at_floor [G]: the gang has not risen above the level of its floor; row_load_w [K] [W];
    tight [K]: load within 1e-9 of the limit or above; violated [K]: the floors alone exceed the limit by more than
    1e-9; over_ceiling [R]: the rack's floor lies above its ceiling.
    """

    power_w: Floats
    level: Floats
    binding_row: Ints
    at_floor: NDArray[np.bool_]
    row_load_w: Floats
    tight: NDArray[np.bool_]
    violated: NDArray[np.bool_]
    over_ceiling: NDArray[np.bool_]


def fill(topology: FillTopology, inputs: FillInputs) -> FillResult:
    """Exact progressive filling; FillError on arrays that do not fit, unknown values or too many steps."""
    racks, limit_w = _racks(topology, inputs), _ready(inputs.limit_w, np.float64)
    coef = topology.coef if inputs.coef is None else _ready(inputs.coef, np.float64)
    own = inputs.gang_class is None
    classes = topology.gang_class if own else np.asarray(inputs.gang_class, np.int32)
    for name, got, expected in (
        ("gang_class", classes, topology.gang_class),
        ("coef", coef, topology.coef),
        ("limit_w", limit_w, topology.row_start[1:]),
    ):
        if got.shape != expected.shape:
            raise FillError(f"{name} has shape {got.shape}, not {expected.shape}")
    order, bounds = topology.by_class if own else by_class(classes)
    with topology.lock:
        w = topology.work
        w.order[:] = order
        _raise(solve(w, *racks, limit_w, coef, bounds))
        return FillResult(
            power_w=_frozen(w.power_w),
            level=_frozen(w.gang[:, LEVEL]),
            binding_row=_frozen(w.gang[:, BINDING].astype(np.int32)),
            at_floor=_frozen(w.gang[:, LEVEL] <= w.gang[:, LOWEST]),
            row_load_w=_frozen(w.load_w),
            tight=_frozen(w.tight),
            violated=_frozen(w.violated),
            over_ceiling=_frozen(w.over_ceiling),
        )


def level_of(topology: FillTopology, inputs: FillInputs, power_w: ArrayLike) -> Floats:
    """Level [G] that caps power_w [R] [W] let each gang reach: that of its slowest rack.

    A rack at its floor counts with the level of its floor: where caps come from `fill` that is never the slowest
    unless the whole gang is at its floor.
    """
    racks = _racks(topology, replace(inputs, ceiling_w=np.full(len(topology.gang_of), np.inf)))
    with topology.lock:
        topology.work.power_w[:] = power_w
        _raise(levels(topology.work, *racks))
        return _frozen(topology.work.gang[:, LEVEL])


def _racks(topology: FillTopology, inputs: FillInputs) -> tuple[Floats, Floats, Floats, Floats, Floats, Ints]:
    """What is given per rack, as the kernel takes it; FillError unless the shapes fit."""
    i = inputs
    floor_w, demand_w, ceiling_w, other_w, gpu_w = (
        _ready(x, np.float64) for x in (i.floor_w, i.demand_w, i.ceiling_w, i.other_w, i.gpu_w)
    )
    racks = (floor_w, demand_w, ceiling_w, other_w, gpu_w, _ready(i.curve_of, np.int32))
    shapes = [x.shape for x in racks]
    if any(shape != topology.gang_of.shape for shape in shapes):
        raise FillError(f"inputs of shapes {shapes}: {topology.gang_of.shape} racks")
    return racks


def _ready(array: ArrayLike, dtype: type[T]) -> NDArray[T]:
    """The array itself where it is of the type, contiguous and writeable, so that nothing is compiled again."""
    if isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C", "A", "W"])


def _raise(code: int) -> None:
    """FillError for what the kernel complains of."""
    if code == TOO_LONG:
        raise FillError("filling did not end within its cap on steps")
    if code == BAD_RACK:
        raise FillError("a rack's power is unknown or negative, or its curve is not there")
    if code == BAD_ROW:
        raise FillError("a limit is unknown, or a coefficient is unknown or negative")


def _frozen(array: NDArray[T]) -> NDArray[T]:
    """A read-only copy."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy
