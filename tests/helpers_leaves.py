"""The question that leaf gpu saves: the same rows put to the same kernel, but GPU by GPU. The oracle of `split`.

The rack's other power becomes a constant of every row; what its rack may take (nameplate, hold, rows it loads alone)
becomes a row over its GPUs. A training job's GPUs are one gang, any other GPU is a gang of its own. R racks, L leaves,
k rows kept, G gangs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.frames import Floats, Ints, Rows
from controller.kernels.fill import Curve, FillInputs, FillTopology, build_topology
from controller.leaves import Leaves, expand
from controller.plan import Plan
from drivers.lease import NO_GPU

MOST_SHARE = 1.25  # of its share of nameplate: no single GPU is given more


@dataclass(frozen=True)
class LeafRows:
    """The rows `kept` of a plan over its leaves, and the gangs of leaves."""

    leaves: Leaves
    start: Ints  # [R + 1] leaves of rack r are start[r] to start[r + 1]
    gang_of: Ints  # [L]
    gang_class: Ints  # [G]
    kept: Ints  # [k] rows of the plan; row k + r of the kernel is what rack r may take
    row_start: Ints  # [k + R + 1] CSR over leaves
    row_leaf: Ints  # [n]
    entry: Ints  # [n - L] the plan's entry of each; the last L are the racks' own rows, coefficient 1


@dataclass(frozen=True)
class LeafBounds:
    """What each GPU may draw by itself, W, and what goes with its rack."""

    floor_w: Floats  # [L]
    demand_w: Floats  # [L]
    most_w: Floats  # [L]
    gpu_w: Floats  # [L] power of the GPU at full, as the curves count it
    rack_w: Floats  # [R] what its GPUs may take together
    other_w: Floats  # [R] the rest of what the rack is charged


def leaf_rows(plan: Plan, rows: Rows, kept: Ints) -> LeafRows:
    """The leaves of a site and its rows `kept` over them, each with its rack's coefficients."""
    leaves = expand(plan)
    gpus, rack = leaves.gpus, leaves.rack
    start = np.concatenate(([0], np.cumsum(gpus)))
    gang_of, gang_class = _gangs(plan, rack)
    kept_entry = np.concatenate([np.arange(rows.indptr[k], rows.indptr[k + 1]) for k in kept] or [np.empty(0, int)])
    racks = rows.racks[kept_entry]
    entry = np.repeat(kept_entry, gpus[racks])
    first = np.repeat(np.cumsum(gpus[racks]) - gpus[racks], gpus[racks])
    leaf = np.repeat(start[racks], gpus[racks]) + np.arange(len(entry)) - first
    size = np.bincount(rows.of_entry[entry], minlength=len(rows.indptr) - 1)[kept]
    return LeafRows(
        leaves=leaves,
        start=start,
        gang_of=gang_of,
        gang_class=gang_class,
        kept=kept,
        row_start=np.concatenate(([0], np.cumsum(np.concatenate((size, gpus))))),
        row_leaf=np.concatenate((leaf, np.arange(len(rack)))),
        entry=entry,
    )


def _gangs(plan: Plan, rack: Ints) -> tuple[Ints, Ints]:
    """Gang of each leaf and class of each gang."""
    jobs = {j.id for j in plan.site.jobs if j.kind == "training"}
    training = np.array([r.job in jobs for r in plan.site.racks], dtype=np.bool_)[rack]
    keys = np.where(training, plan.gang_of[rack], len(plan.gang_class) + np.arange(len(rack)))
    _, first, gang_of = np.unique(keys, return_index=True, return_inverse=True)
    return gang_of.astype(np.int64), plan.gang_class[plan.gang_of[rack[first]]]


def topology(over: LeafRows, rows: Rows, curves: list[Curve]) -> FillTopology:
    """The kernel's structure, gangs by class."""
    return build_topology(
        over.gang_of, over.gang_class, over.row_start, over.row_leaf, coefficients(over, rows), curves
    )


def coefficients(over: LeafRows, rows: Rows) -> Floats:
    """Coefficients over leaves [n] of the rows in force."""
    return np.concatenate((rows.coeff[over.entry], np.ones(len(over.leaves.rack))))


def bounds(leaves: Leaves, floor_w: Floats, demand_w: Floats, most_w: Floats, wish: Floats) -> LeafBounds:
    """Bounds of each GPU from those of its rack [R, W] and its wish [L].

    A rack that is counted at a constant has floor = most, its GPUs have theirs.
    """
    other_w = np.minimum(leaves.other_w, floor_w)
    part = wish / leaves.gpus[leaves.rack]

    def shared(rack_w: Floats) -> Floats:
        share_w: Floats = np.maximum(rack_w - other_w, 0.0)[leaves.rack] * part
        return share_w

    low_w, gpu_w = shared(floor_w), leaves.full_w[leaves.rack] * wish
    constant = (most_w <= floor_w)[leaves.rack]
    top_w = np.where(constant, low_w, np.maximum(low_w, MOST_SHARE * leaves.full_w[leaves.rack]))
    want_w = np.clip(shared(demand_w), low_w, top_w)
    return LeafBounds(low_w, want_w, top_w, gpu_w, np.maximum(most_w, floor_w) - other_w, other_w)


def leaf_inputs(
    over: LeafRows, rows: Rows, room_w: Floats, bound: LeafBounds, ceiling_w: Floats, curve_of: NDArray[np.int32]
) -> FillInputs:
    """What `fill` is given, up to each GPU's demand: `ceiling_w` [R] by the rows a rack loads alone, `curve_of` [R]."""
    leaves = over.leaves
    floors_w = np.bincount(leaves.rack, bound.floor_w, minlength=len(leaves.gpus))
    own_w = np.maximum(np.minimum(bound.rack_w, ceiling_w - bound.other_w), floors_w * (1.0 + 1e-9))
    return FillInputs(
        floor_w=bound.floor_w,
        demand_w=np.maximum(bound.demand_w, bound.floor_w),
        ceiling_w=np.full(len(leaves.rack), np.inf),
        other_w=np.zeros(len(leaves.rack)),
        gpu_w=bound.gpu_w,
        curve_of=curve_of[leaves.rack],
        limit_w=np.concatenate((np.maximum(room_w - rows.dot(bound.other_w), 0.0)[over.kept], own_w)),
        coef=coefficients(over, rows),
    )


def gang_of_rack(over: LeafRows, level: Floats) -> Ints:
    """The gang [R] that stands for a rack: that of its GPU with the lowest level (`level` [G])."""
    order = np.lexsort((level[over.gang_of], over.leaves.rack))
    return over.gang_of[order[over.start[:-1]]]


def collect(leaves: Leaves, power_w: Floats, other_w: Floats) -> tuple[Floats, Ints]:
    """Caps of racks [R, W] and of their GPUs [R, most, whole W] from the power of each leaf [L]."""
    cap_w = other_w + np.bincount(leaves.rack, power_w, minlength=len(leaves.gpus))
    gpu_cap_w = np.full(leaves.there.shape, NO_GPU, dtype=np.int64)
    gpu_cap_w[leaves.there] = np.floor(power_w + 1e-6).astype(np.int64)
    return cap_w, gpu_cap_w
