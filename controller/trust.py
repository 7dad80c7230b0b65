"""Who is believed: a rack that draws more than its cap for longer than its actuator needs does not obey."""

import numpy as np

from controller.frames import Floats
from controller.plan import Plan

OVER_SHARE = 0.03  # above the cap: more than metering error and control ripple
FOUND_S = 3.0  # beyond the actuator's reaction; found within the 5 s that CONTROL.md allows


def over_cap_s(plan: Plan, power_w: Floats, cap_w: Floats, over_s: Floats, dt_s: float) -> Floats:
    """How long each rack has drawn more than its cap [R, s]; forgotten at once when it obeys."""
    over = np.isfinite(power_w) & np.isfinite(cap_w) & (power_w > np.maximum(cap_w, plan.floor_w) * (1.0 + OVER_SHARE))
    return np.where(over, over_s + dt_s, 0.0)
