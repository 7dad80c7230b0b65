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
APART_SHARE = 0.05  # .. while both cords together were this far, of nameplate, from what the agent saw


@dataclass(frozen=True)
class StillState:
    """Since when each cord's reading has stood still, and how far from the agent's it was in that time; [R, 2]."""

    value_w: Floats
    since_s: Floats
    apart_w: Floats


def watch(plan: Plan) -> StillState:
    """State before the first reading."""
    shape = plan.pdu_slot.shape
    return StillState(np.full(shape, np.nan), np.full(shape, np.inf), np.zeros(shape))


def stuck(plan: Plan, cord_w: Floats, agent_w: Floats, now_s: float, last: StillState) -> tuple[Bools, StillState]:
    """Cords whose meter stands still and contradicts the agent [R, 2]; a dead cord's zero contradicts nothing."""
    still = cord_w == last.value_w
    since_s = np.where(still, last.since_s, now_s)
    apart = np.abs(np.nan_to_num(cord_w.sum(axis=1) - agent_w))[:, None]
    apart_w = np.where(still, np.maximum(last.apart_w, apart), 0.0)
    contradicted = apart_w > APART_SHARE * plan.max_w[:, None]
    return still & contradicted & (now_s - since_s >= STUCK_S), StillState(cord_w, since_s, apart_w)
