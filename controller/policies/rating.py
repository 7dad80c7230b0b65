"""Continuous rating of each node in W, from native units and the measured electrical state.

A per phase: sqrt(3) U I pf / unbalance; VA: S pf; W as it stands. Unknown means worst case. Derating is the
site file's. The result follows a measured narrowing at once; a widening, and a narrowing out of ignorance, slowly.
"""

import numpy as np

from controller.frames import Floats, Image
from controller.kernels.rating import UNBALANCE_WORST, VOLT_WORST, at_measured
from controller.plan import Plan


def nominal_w(plan: Plan) -> Floats:
    """Rating in W at worst voltage, power factor and unbalance [N]."""
    pf = plan.site.control.power_factor_worst
    amps_w = plan.phase * plan.volt_v * VOLT_WORST * plan.rating * pf / UNBALANCE_WORST
    return np.where(plan.in_amps, amps_w, np.where(plan.in_va, plan.rating * pf, plan.rating))


def rating_w(plan: Plan, image: Image, base_w: Floats, last_w: Floats) -> Floats:
    """Rating in W at the measured state [N]; `base_w` is nominal_w, `last_w` the previous answer (inf: none)."""
    slot, good = plan.node_slot, image.good  # gathered arrays and a copy: for frozen ones it would be compiled again
    a, b, c = (good[slot.current[:, k]] for k in range(3))
    shown = (good[slot.volt] * slot.volt_scale, a, b, c, good[slot.power], good[slot.apparent], image.below_w.copy())
    volt, a, b, c, power, apparent_va, below_w = shown
    return np.asarray(
        at_measured(
            volt, a, b, c, power, apparent_va, below_w, plan.phase, plan.volt_v, plan.rating, plan.in_amps,
            plan.in_va, base_w, last_w, plan.site.control.power_factor_worst,
        )
    )  # fmt: skip
