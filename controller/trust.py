"""Who is believed: a meter that stands still while its rack moves is stuck; a rack above its cap does not obey."""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats
from controller.plan import Plan

OVER_SHARE = 0.03  # above the cap: more than metering error and control ripple
FOUND_S = 3.0  # beyond the actuator's reaction; found within the 5 s that CONTROL.md allows


def over_cap_s(plan: Plan, power_w: Floats, cap_w: Floats, over_s: Floats, dt_s: float) -> Floats:
    """How long each rack has drawn more than its cap [R, s]; forgotten at once when it obeys."""
    over = np.isfinite(power_w) & np.isfinite(cap_w) & (power_w > np.maximum(cap_w, plan.floor_w) * (1.0 + OVER_SHARE))
    return np.where(over, over_s + dt_s, 0.0)


STUCK_S = 10.0  # a reading that repeats to the last bit for this long ..
MOVED_SHARE = 0.02  # .. while the rack's agent saw it move by this much of nameplate


@dataclass(frozen=True)
class StillState:
    """Since when each cord's reading has stood still, and what the agent saw in that time; [R, 2]."""

    value_w: Floats
    since_s: Floats
    low_w: Floats
    high_w: Floats


def watch(plan: Plan) -> StillState:
    """State before the first reading."""
    shape = plan.pdu_slot.shape
    return StillState(np.full(shape, np.nan), np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -np.inf))


def stuck(plan: Plan, cord_w: Floats, agent_w: Floats, now_s: float, last: StillState) -> tuple[Bools, StillState]:
    """Cords whose meter stands still while the agent's reading moves [R, 2]."""
    still = cord_w == last.value_w
    seen = np.broadcast_to(agent_w[:, None], cord_w.shape)
    since_s = np.where(still, last.since_s, now_s)
    low_w = np.fmin(np.where(still, last.low_w, np.inf), seen)
    high_w = np.fmax(np.where(still, last.high_w, -np.inf), seen)
    moved = high_w - low_w > MOVED_SHARE * plan.max_w[:, None]
    return still & moved & (now_s - since_s >= STUCK_S), StillState(cord_w, since_s, low_w, high_w)
