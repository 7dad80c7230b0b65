"""Stage 5b, for sites whose leaf is the GPU: each rack's cap as caps of its GPUs, by what their use tells.

The rows hold whatever is done here: GPUs never get more than their rack's cap together, and agents keep to both.
"""

from dataclasses import dataclass, replace

import numpy as np

from controller import leaves
from controller.frames import Floats, Image, Ints, Mode, Orders
from controller.leaves import Leaves
from controller.plan import Plan
from drivers.lease import NO_GPU
from drivers.points import Quality


@dataclass(frozen=True)
class GpuState:
    """What each GPU was found to want, and the caps given last."""

    leaves: Leaves
    wish: Floats  # [L]
    sent_w: Ints  # [R, GPUs], NO_GPU before the first


def begin(plan: Plan) -> GpuState | None:
    """Nothing is known of any GPU; None where the leaf is the rack."""
    if plan.site.control.leaf == "rack":
        return None
    grown = leaves.expand(plan)
    return GpuState(grown, leaves.start_wishes(grown), np.full(grown.there.shape, NO_GPU, dtype=np.int64))


def divide(plan: Plan, image: Image, orders: Orders, last: GpuState | None) -> tuple[Orders, GpuState | None]:
    """Orders with caps of GPUs; as they are where the leaf is the rack or nothing is sent."""
    if last is None or orders.mode == Mode.SHADOW:
        return orders, last
    wish = last.wish
    if (last.sent_w != NO_GPU).any():  # what a predecessor sent is not known
        good = (plan.gpu_slot >= 0) & (image.quality[plan.gpu_slot] == Quality.GOOD)
        gpu_w = np.where(good, image.value[plan.gpu_slot], np.nan)
        cap_w = image.value[plan.agent_slot["cap_w"]]
        found_w = np.where(np.isfinite(cap_w), cap_w, orders.cap_w)
        wish = leaves.wishes(last.leaves, gpu_w, last.sent_w, found_w, wish)
    sent_w = leaves.split(last.leaves, orders.cap_w, wish, last.sent_w)
    return replace(orders, gpu_cap_w=sent_w), replace(last, wish=wish, sent_w=sent_w)
