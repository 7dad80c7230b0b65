"""Heat that each CDU and loop can carry now: m x cp x (hottest return - measured supply), at most its rating."""

import numpy as np

from controller.frames import Floats, Image
from controller.plan import Plan
from drivers.points import Quality


def cdu_w(plan: Plan, image: Image) -> Floats:
    """Heat limit of each CDU [C, W]. A silent CDU keeps its rating: ignorance alone never sheds."""
    supply = _good(image, plan.cdu_supply_slot)
    flow = _good(image, plan.cdu_flow_slot)
    carried = flow * plan.cdu_cp_w * np.maximum(plan.cdu_return_max_c - supply, 0.0)
    return np.where(np.isfinite(carried), np.minimum(carried, plan.cdu_cap_w), plan.cdu_cap_w)


def loop_w(plan: Plan, image: Image) -> Floats:
    """Heat limit of each loop [L, W]; a silent loop keeps its rating."""
    supply = _good(image, plan.loop_supply_slot)
    flow = _good(image, plan.loop_flow_slot)
    carried = flow * plan.loop_cp_w * np.maximum(plan.loop_return_max_c - supply, 0.0)
    return np.where(np.isfinite(carried), np.minimum(carried, plan.loop_cap_w), plan.loop_cap_w)


def _good(image: Image, slots: np.ndarray) -> Floats:
    return np.where((slots >= 0) & (image.quality[slots] == Quality.GOOD), image.value[slots], np.nan)
