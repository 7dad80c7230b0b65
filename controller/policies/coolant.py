"""Heat that each CDU and loop can carry now: m x cp x (hottest return - measured supply), at most its rating.

Flow is what the pumps could move, not what the valves let through now. Silence leaves the rating: ignorance alone
never sheds.
"""

import numpy as np

from controller.frames import Floats, Image, Ints
from controller.plan import Plan
from drivers.points import Quality

LEAST_DUTY_PCT = 20.0  # a pump's slowest; below it the flow says nothing of what it could move


def cdu_w(plan: Plan, image: Image) -> Floats:
    """Heat limit of each CDU [C, W] from its flow at full pump duty and its supply temperature."""
    supply = _good(image, plan.cdu_supply_slot)
    duty = np.maximum(np.nan_to_num(_good(image, plan.cdu_pump_slot), nan=100.0), LEAST_DUTY_PCT)
    flow = _good(image, plan.cdu_flow_slot) * 100.0 / duty
    carried = flow * plan.cdu_cp_w * np.maximum(plan.cdu_return_max_c - supply, 0.0)
    return np.where(np.isfinite(carried), np.minimum(carried, plan.cdu_cap_w), plan.cdu_cap_w)


def loop_w(plan: Plan, image: Image) -> Floats:
    """Heat limit of each loop [L, W] from its available pumps, standby included, and its supply temperature."""
    supply = _good(image, plan.loop_supply_slot)
    there = np.nan_to_num(_good(image, plan.pump_slot), nan=1.0) > 0.5
    flow = np.bincount(plan.pump_loop, plan.pump_lpm * there, minlength=len(plan.loop_lpm))
    flow = np.where(flow > 0.0, np.minimum(flow, plan.loop_lpm), 0.0)
    carried = flow * plan.loop_cp_w * np.maximum(plan.loop_return_max_c - supply, 0.0)
    return np.where(np.isfinite(carried), np.minimum(carried, plan.loop_cap_w), plan.loop_cap_w)


def _good(image: Image, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (image.quality[slots] == Quality.GOOD), image.value[slots], np.nan)
