"""Leaf gpu: a rack's cap as caps of its GPUs, that never add up to more, by what their use tells.

A leaf is a GPU, its power what its rack draws beyond `other_w`, shared out over the rack's GPUs. GPUs of a rack have
one curve and ask in proportion to their wishes, so filling every row leaf by leaf gives each rack what filling the
racks does, and each GPU its part of it: tests/controller/test_leaves.py asks the kernel so. The cycle need not.

How much more than its neighbours a GPU wants is its `wish` (mean 1 in each rack), learnt from what it draws under its
cap: all that a GPU asks, may take and does is in proportion to it. R racks, L leaves.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, Ints
from controller.plan import Plan
from drivers.lease import MAX_GPU_W, NO_GPU
from drivers.site.catalog import GPUS

WISH_GAIN = 0.5  # of the difference in use, per report: slower than any actuator
WISH_LEAST, WISH_MOST = 0.5, 1.5
BUSY_SHARE = 0.8  # of its caps: a rack that draws less says nothing of its GPUs (communication, checkpoint, pause)
HOLD_SHARE = 0.004  # of its share of nameplate: a GPU's cap moves only for more than this, unless its rack's must fall


@dataclass(frozen=True)
class Leaves:
    """What changes only with the site."""

    rack: Ints  # [L]
    gpus: Ints  # [R]
    there: Bools  # [R, most] a rack's GPUs among as many as the largest has
    other_w: Floats  # [R]
    full_w: Floats  # [R] nameplate of one GPU: its share of what its rack draws beyond other_w
    least_w: Ints  # [R] least cap that a GPU obeys


def expand(plan: Plan) -> Leaves:
    """The leaves of a site."""
    gpus = np.array([r.gpus for r in plan.site.racks], dtype=np.int64)
    return Leaves(
        rack=np.repeat(np.arange(len(gpus)), gpus),
        gpus=gpus,
        there=np.arange(gpus.max()) < gpus[:, None],
        other_w=plan.other_w,
        full_w=plan.gpu_w / gpus,
        least_w=np.array([int(np.ceil(GPUS[r.gpu_model].min_cap_w)) for r in plan.site.racks], dtype=np.int64),
    )


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
    """Caps of GPUs [R, most], whole W, of racks' caps [R, W] by wish [L]; `before_w` as in `rescale`."""
    share_w = np.maximum(rack_cap_w - leaves.other_w, 0.0) / leaves.gpus
    asked = np.zeros(leaves.there.shape, dtype=np.int64)
    asked[leaves.there] = np.rint(share_w[leaves.rack] * wish).astype(np.int64)
    return rescale(leaves, asked, rack_cap_w, before_w)
