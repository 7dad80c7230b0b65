"""Leaf gpu: the question that is put to the kernel GPU by GPU. The same rows, the same kernel, caps for single GPUs.

A leaf is a GPU, its power what its rack draws beyond `other_w`, shared out over the rack's GPUs. The rack's other
power becomes a constant of every row; what its rack may take (nameplate, hold, rows it loads alone) becomes a row
over its GPUs. A training job's GPUs are one gang, any other GPU is a gang of its own.

How much more than its neighbours a GPU wants is its `wish` (mean 1 in each rack), learnt from what it draws under its
cap: all that a GPU asks, may take and does is in proportion to it. R racks, L leaves, k rows kept, G gangs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.frames import Bools, Floats, Ints, Rows
from controller.kernels.fill import Curve, FillInputs, FillTopology, build_topology
from controller.plan import Plan
from drivers.lease import MAX_GPU_W, NO_GPU
from drivers.site.catalog import GPUS

MOST_SHARE = 1.25  # of its share of nameplate: no single GPU is given more
WISH_GAIN = 0.5  # of the difference in use, per report: slower than any actuator
WISH_LEAST, WISH_MOST = 0.5, 1.5
BUSY_SHARE = 0.8  # of its caps: a rack that draws less says nothing of its GPUs (communication, checkpoint, pause)
HOLD_SHARE = 0.004  # of its share of nameplate: a GPU's cap moves only for more than this, unless its rack's must fall


@dataclass(frozen=True)
class Leaves:
    """What changes only with the site."""

    start: Ints  # [R + 1] leaves of rack r are start[r] to start[r + 1]
    rack: Ints  # [L]
    gpus: Ints  # [R]
    there: Bools  # [R, most] a rack's GPUs among as many as the largest has
    gang_of: Ints  # [L]
    gang_class: Ints  # [G]
    kept: Ints  # [k] rows of the plan; row k + r of the kernel is what rack r may take
    row_start: Ints  # [k + R + 1] CSR over leaves
    row_leaf: Ints  # [n]
    entry: Ints  # [n - L] the plan's entry of each; the last L are the racks' own rows, coefficient 1
    other_w: Floats  # [R]
    full_w: Floats  # [R] nameplate of one GPU: its share of what its rack draws beyond other_w
    least_w: Ints  # [R] least cap that a GPU obeys


@dataclass(frozen=True)
class LeafBounds:
    """What each GPU may draw by itself, W, and what goes with its rack."""

    floor_w: Floats  # [L]
    demand_w: Floats  # [L]
    most_w: Floats  # [L]
    gpu_w: Floats  # [L] power of the GPU at full, as the curves count it
    rack_w: Floats  # [R] what its GPUs may take together
    other_w: Floats  # [R] the rest of what the rack is charged


def expand(plan: Plan, rows: Rows, kept: Ints) -> Leaves:
    """The leaves of a site and its rows `kept` over them, each with its rack's coefficients."""
    gpus = np.array([r.gpus for r in plan.site.racks], dtype=np.int64)
    start = np.concatenate(([0], np.cumsum(gpus)))
    rack = np.repeat(np.arange(len(gpus)), gpus)
    gang_of, gang_class = _gangs(plan, rack)
    kept_entry = np.concatenate([np.arange(rows.indptr[k], rows.indptr[k + 1]) for k in kept] or [np.empty(0, int)])
    racks = rows.racks[kept_entry]
    entry = np.repeat(kept_entry, gpus[racks])
    first = np.repeat(np.cumsum(gpus[racks]) - gpus[racks], gpus[racks])
    leaf = np.repeat(start[racks], gpus[racks]) + np.arange(len(entry)) - first
    size = np.bincount(rows.of_entry[entry], minlength=len(rows.indptr) - 1)[kept]
    most = np.arange(gpus.max())
    return Leaves(
        start=start,
        rack=rack,
        gpus=gpus,
        there=most < gpus[:, None],
        gang_of=gang_of,
        gang_class=gang_class,
        kept=kept,
        row_start=np.concatenate(([0], np.cumsum(np.concatenate((size, gpus))))),
        row_leaf=np.concatenate((leaf, np.arange(len(rack)))),
        entry=entry,
        other_w=plan.other_w,
        full_w=plan.gpu_w / gpus,
        least_w=np.array([int(np.ceil(GPUS[r.gpu_model].min_cap_w)) for r in plan.site.racks], dtype=np.int64),
    )


def _gangs(plan: Plan, rack: Ints) -> tuple[Ints, Ints]:
    """Gang of each leaf and class of each gang."""
    jobs = {j.id for j in plan.site.jobs if j.kind == "training"}
    training = np.array([r.job in jobs for r in plan.site.racks], dtype=np.bool_)[rack]
    keys = np.where(training, plan.gang_of[rack], len(plan.gang_class) + np.arange(len(rack)))
    _, first, gang_of = np.unique(keys, return_index=True, return_inverse=True)
    return gang_of.astype(np.int64), plan.gang_class[plan.gang_of[rack[first]]]


def topology(leaves: Leaves, rows: Rows, curves: list[Curve]) -> FillTopology:
    """The kernel's structure, gangs by class."""
    return build_topology(
        leaves.gang_of, leaves.gang_class, leaves.row_start, leaves.row_leaf, coefficients(leaves, rows), curves
    )


def coefficients(leaves: Leaves, rows: Rows) -> Floats:
    """Coefficients over leaves [n] of the rows in force."""
    return np.concatenate((rows.coeff[leaves.entry], np.ones(len(leaves.rack))))


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
    leaves: Leaves, rows: Rows, room_w: Floats, bound: LeafBounds, ceiling_w: Floats, curve_of: NDArray[np.int32]
) -> FillInputs:
    """What `fill` is given, up to each GPU's demand: `ceiling_w` [R] by the rows a rack loads alone, `curve_of` [R]."""
    n = len(leaves.rack)
    floors_w = np.bincount(leaves.rack, bound.floor_w, minlength=len(leaves.gpus))
    own_w = np.maximum(np.minimum(bound.rack_w, ceiling_w - bound.other_w), floors_w * (1.0 + 1e-9))
    return FillInputs(
        floor_w=bound.floor_w,
        demand_w=np.maximum(bound.demand_w, bound.floor_w),
        ceiling_w=np.full(n, np.inf),
        other_w=np.zeros(n),
        gpu_w=bound.gpu_w,
        curve_of=curve_of[leaves.rack],
        limit_w=np.concatenate((np.maximum(room_w - rows.dot(bound.other_w), 0.0)[leaves.kept], own_w)),
        coef=coefficients(leaves, rows),
    )


def row_of(leaves: Leaves, binding_row: NDArray[np.int32], ceiling_row: Ints) -> Ints:
    """The plan's row that binds each gang [G], -1 if none: `ceiling_row` [R] names the row of a rack's own ceiling."""
    bound = binding_row.astype(np.int64)
    shared, own = (bound >= 0) & (bound < len(leaves.kept)), bound >= len(leaves.kept)
    row = np.full(len(bound), -1, dtype=np.int64)
    row[shared] = leaves.kept[bound[shared]]
    row[own] = ceiling_row[bound[own] - len(leaves.kept)]
    return row


def gang_of_rack(leaves: Leaves, level: Floats) -> Ints:
    """The gang [R] that stands for a rack: that of its GPU with the lowest level (`level` [G])."""
    order = np.lexsort((level[leaves.gang_of], leaves.rack))
    return leaves.gang_of[order[leaves.start[:-1]]]


def collect(leaves: Leaves, power_w: Floats, other_w: Floats) -> tuple[Floats, Ints]:
    """Caps of racks [R, W] and of their GPUs [R, most, whole W] from the power of each leaf [L]."""
    cap_w = other_w + np.bincount(leaves.rack, power_w, minlength=len(leaves.gpus))
    gpu_cap_w = np.full(leaves.there.shape, NO_GPU, dtype=np.int64)
    gpu_cap_w[leaves.there] = np.floor(power_w + 1e-6).astype(np.int64)
    return cap_w, gpu_cap_w


def rescale(leaves: Leaves, gpu_cap_w: Ints, rack_cap_w: Floats, before_w: Ints | None = None) -> Ints:
    """Caps of GPUs [R, most], whole W, that with the racks' other power make their racks' caps [R] and no more.

    In proportion above the least cap that a GPU obeys. `before_w`, the caps sent last, stay where every GPU of a rack
    is near them and they still fit.
    """
    budget_w = np.floor(np.maximum(np.floor(rack_cap_w) - leaves.other_w, 0.0))
    least_w = np.minimum(leaves.least_w, np.floor(budget_w / leaves.gpus))[:, None]
    extra_w = np.where(leaves.there, np.maximum(gpu_cap_w - least_w, 0.0), 0.0)
    flat = extra_w.sum(axis=1) <= 0.0
    extra_w[flat] = leaves.there[flat]  # all at their least: alike
    room_w = budget_w - least_w[:, 0] * leaves.gpus
    fitted_w = np.floor(least_w + extra_w * (room_w * (1.0 - 1e-12) / extra_w.sum(axis=1))[:, None])
    left_w = budget_w - np.where(leaves.there, fitted_w, 0.0).sum(axis=1)  # by rounding, less than a W per GPU
    fitted_w += np.arange(fitted_w.shape[1]) < np.rint(left_w)[:, None]
    fitted = np.where(leaves.there, np.minimum(fitted_w, MAX_GPU_W - 1), NO_GPU).astype(np.int64)
    if before_w is None or before_w.shape != fitted.shape:
        return fitted
    near = (np.abs(fitted - before_w) <= HOLD_SHARE * leaves.full_w[:, None]).all(axis=1)
    fits = np.where(leaves.there, before_w, 0).sum(axis=1) <= budget_w
    return np.where((near & fits)[:, None], before_w, fitted)


def start_wishes(leaves: Leaves) -> Floats:
    """Before anything is known all GPUs of a rack want the same [L]."""
    return np.ones(len(leaves.rack))


def wishes(leaves: Leaves, gpu_w: Floats, gpu_cap_w: Ints, rack_cap_w: Floats, last: Floats) -> Floats:
    """Wishes [L] after one more report: `gpu_w` [R, most] powers, NaN unknown, under the caps in force.

    A GPU that uses less of its cap than its neighbours use of theirs waits for them or has less to do. Where
    `gpu_cap_w` [R, most] has none, its agent shares `rack_cap_w` [R] out equally. A gang is fastest when no GPU waits
    for another: there all of them use the same part of their caps, and the wishes rest.
    """
    share_w = np.maximum(rack_cap_w - leaves.other_w, 1.0) / leaves.gpus
    caps_w = np.where(gpu_cap_w >= 0, gpu_cap_w, share_w[:, None])
    drawn_w = np.where(leaves.there, gpu_w, 0.0).sum(axis=1)
    given_w = np.where(leaves.there, caps_w, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        # False where a power is unknown; a rack that is shed is not at work
        busy = (drawn_w >= BUSY_SHARE * given_w) & (drawn_w >= leaves.least_w * leaves.gpus)
    use = (gpu_w / np.maximum(caps_w, 1.0))[leaves.there]
    mean_use = np.bincount(leaves.rack, np.nan_to_num(use), minlength=len(leaves.gpus)) / leaves.gpus
    factor = (use / np.maximum(mean_use, 1e-9)[leaves.rack]) ** WISH_GAIN
    wish = np.clip(np.where(busy[leaves.rack], last * factor, last), WISH_LEAST, WISH_MOST)
    mean = np.bincount(leaves.rack, wish, minlength=len(leaves.gpus)) / leaves.gpus
    return wish / mean[leaves.rack]


def split(leaves: Leaves, rack_cap_w: Floats, wish: Floats, before_w: Ints | None = None) -> Ints:
    """Caps of GPUs [R, most] of racks' caps [R] by wish alone: what the filling leaf by leaf comes to.

    GPUs of a rack have one curve and ask in proportion to their wishes, so the filling of racks gives each rack what
    the filling of its GPUs does, and each GPU its part of it (tests/controller/test_leaves.py).
    """
    share_w = np.maximum(rack_cap_w - leaves.other_w, 0.0) / leaves.gpus
    asked = np.zeros(leaves.there.shape, dtype=np.int64)
    asked[leaves.there] = np.rint(share_w[leaves.rack] * wish).astype(np.int64)
    return rescale(leaves, asked, rack_cap_w, before_w)
