"""Looks several times between two cycles whether something has just been lost, and calls for a cycle at once.

Cheap on purpose: the voltage of every node that may be lost and whether its cooling units are there. What it means is
decided in the cycle.
"""

import numpy as np

from controller.frames import Bools, Codes, Floats, Ints
from controller.plan import Plan
from controller.policies.lost import DEAD_VOLT_SHARE
from drivers.points import Quality


class Watch:
    """`changed` is true once for each element that goes or comes back between two looks."""

    def __init__(self, plan: Plan) -> None:
        # a generator stands without voltage; where it fails while it carries, its bus says so
        watched = np.array([n.kind not in ("pdu", "generator") for n in plan.site.nodes]) & (plan.node_slot.volt >= 0)
        units = plan.unit_slot[plan.unit_slot >= 0]
        self.slots: Ints = np.concatenate([plan.node_slot.volt[watched], units])
        least_v = DEAD_VOLT_SHARE * plan.volt_v[watched] / plan.node_slot.volt_scale[watched]
        self._least = np.concatenate([least_v, np.full(len(units), 0.5)])
        self._gone: Bools = np.zeros(len(self.slots), dtype=np.bool_)

    def changed(self, value: Floats, quality: Codes) -> bool:
        """Whether the readings of `slots` at this moment differ from the last look; a silent meter says nothing."""
        gone = np.where(quality == Quality.GOOD, value < self._least, self._gone)
        changed = bool((gone != self._gone).any())
        self._gone = gone
        return changed
