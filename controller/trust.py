"""Who is believed: a meter that stands still while its rack moves is stuck; a rack above its cap does not obey."""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats
from controller.plan import Plan

FALL_SHARE = 0.005  # of nameplate in one cycle
OVER_SHARE = 0.03  # above the cap: more than metering error and control ripple
DISOBEYED_S = 3.0  # beyond the actuator's reaction; found within the 5 s that CONTROL.md allows


def over_cap_s(plan: Plan, power_w: Floats, cap_w: Floats, before_w: Floats, over_s: Floats, dt_s: float) -> Floats:
    """How long each rack has drawn more than its cap [R, s]; forgotten when it obeys, and when the cap has fallen.

    A cap that still falls (`before_w` was the last one) gives a slow actuator its time again.
    """
    over = np.isfinite(power_w) & np.isfinite(cap_w) & (power_w > np.maximum(cap_w, plan.floor_w) * (1.0 + OVER_SHARE))
    falling = cap_w < before_w - FALL_SHARE * plan.max_w
    return np.where(over & ~falling, over_s + dt_s, 0.0)


RODE_S = 900.0  # no battery carries its load for longer: a meter still at nothing then is a meter that lies
STUCK_S = 10.0  # a reading that repeats to the last bit for this long ..
APART_SHARE = 0.05  # .. while it was this far, of full load, from what its witness saw


@dataclass(frozen=True)
class StillState:
    """Since when each meter's reading has stood still, and how far from its witness it was in that time."""

    value_w: Floats
    since_s: Floats
    apart_w: Floats
    stuck: bool = False  # some of them


def watch(meters: int) -> StillState:
    """State before the first reading."""
    return StillState(np.full(meters, np.nan), np.full(meters, np.inf), np.zeros(meters))


def stuck(
    value_w: Floats, apart_w: Floats, full_w: Floats, after_s: Floats, now_s: float, last: StillState
) -> tuple[Bools, StillState]:
    """Meters that stand still for `after_s` and contradict their witness by `apart_w`; a dead cord's zero does not."""
    still = value_w == last.value_w
    since_s = np.where(still, last.since_s, now_s)
    far_w = np.where(still, np.fmax(last.apart_w, apart_w), 0.0)
    stuck = still & (far_w > APART_SHARE * full_w) & (now_s - since_s >= after_s)
    return stuck, StillState(value_w, since_s, far_w, bool(stuck.any()))
