"""Which elements have been lost: voltage gone and power with it, or a cooling unit that says so.

Both must agree, so that one lying instrument loses nothing. The topmost dead element of a branch is the lost one. A
loss is latched until the element has carried its load again for a while: behind a tie its bus is alive without it.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats
from controller.plan import Plan

DEAD_VOLT_SHARE = 0.5  # of nominal: lower than any sag that a UPS or a power supply rides through
FALLEN_SHARE = 0.7  # of the load before: meters show means of a second, half a second after the loss half is left
LOADED_SHARE = 0.01  # of the rating: a node that carried less cannot be seen to be lost, and it matters little
BACK_SHARE = 0.1  # of the load before the loss: the element carries again ..
BACK_S = 10.0  # .. for so long
BEFORE_TAU_S = 5.0


@dataclass(frozen=True)
class LostState:
    """What each node carried while it was alive, and what is lost."""

    before_w: Floats  # [N] filtered load while alive, frozen when the voltage goes
    dead: Bools  # [N] without voltage and load now
    node: Bools  # [N] lost elements: the topmost of the dead, latched
    unit: Bools  # [U] cooling units that are not available
    back_s: Floats  # [N] how long a lost node has carried again
    last_s: float


def begin(plan: Plan, now_s: float) -> LostState:
    """Nothing is lost."""
    nothing = np.zeros(len(plan.parent), dtype=np.bool_)
    units = np.zeros(len(plan.unit_slot), dtype=np.bool_)
    return LostState(np.zeros(len(nothing)), nothing, nothing, units, np.zeros(len(nothing)), now_s)


def watch(plan: Plan, now_s: float, volt_v: Floats, power_w: Floats, available: Floats, last: LostState) -> LostState:
    """What is lost now, from line voltages [N, V], node loads [N, W] and what cooling units say [U]; NaN is unknown."""
    dt_s = max(now_s - last.last_s, 0.0)
    off = volt_v < DEAD_VOLT_SHARE * plan.volt_v
    dead = off & (last.before_w > LOADED_SHARE * plan.full_w) & (power_w < FALLEN_SHARE * last.before_w)
    dead |= off & last.dead
    below_dead = np.zeros(len(dead), dtype=np.bool_)
    inner = plan.parent >= 0
    below_dead[inner] = dead[plan.parent[inner]]
    carries = (power_w > BACK_SHARE * last.before_w) & ~dead
    back_s = np.where(last.node & carries, last.back_s + dt_s, 0.0)
    node = (last.node & (back_s < BACK_S)) | (dead & ~below_dead)
    alive = np.isfinite(power_w) & ~off & ~last.node
    gain = 1.0 - np.exp(-dt_s / BEFORE_TAU_S)
    # at once upward: a load just taken over from another feed is there to be lost again
    moved_w = np.maximum(power_w, last.before_w + (power_w - last.before_w) * gain)
    before_w = np.where(alive, moved_w, last.before_w)
    unit = np.where(np.isfinite(available), available < 0.5, last.unit)
    return LostState(before_w, dead, node, unit, back_s, now_s)
