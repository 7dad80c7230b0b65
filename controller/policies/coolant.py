"""Heat that each CDU and loop can carry now: m x cp x (hottest return - measured supply), at most its rating.

Flow is what the pumps could move, not what the valves let through now. What falls silent keeps its last figure:
ignorance alone neither sheds nor frees.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, Image, Ints
from controller.plan import Plan

LEAST_DUTY_PCT = 20.0  # a pump's slowest; below it the flow says nothing of what it could move


@dataclass(frozen=True)
class CoolantState:
    """Last figures of what may fall silent; ratings and design values before the first."""

    cdu_w: Floats  # [C]
    supply_c: Floats  # [L]
    pump_there: Bools  # [pumps]


def begin(plan: Plan) -> CoolantState:
    """State before the first reading."""
    return CoolantState(plan.cdu_cap_w, plan.loop_design_c, np.ones(len(plan.pump_slot), dtype=np.bool_))


def heat_w(plan: Plan, image: Image, last: CoolantState) -> tuple[Floats, Floats, CoolantState]:
    """Heat limits of CDUs [C, W] and loops [L, W]."""
    duty = np.maximum(_or_full(_good(image, plan.cdu_pump_slot)), LEAST_DUTY_PCT)
    flow = _good(image, plan.cdu_flow_slot) * 100.0 / duty
    spread = np.maximum(plan.cdu_return_max_c - _good(image, plan.cdu_supply_slot), 0.0)
    carried = flow * plan.cdu_cp_w * spread
    cdu_w = np.where(np.isfinite(carried), np.minimum(carried, plan.cdu_cap_w), last.cdu_w)
    measured_c, told = _good(image, plan.loop_supply_slot), _good(image, plan.pump_slot)
    supply_c = np.where(np.isfinite(measured_c), measured_c, last.supply_c)
    there = np.where(np.isfinite(told), told > 0.5, last.pump_there)
    lpm = np.minimum(np.bincount(plan.pump_loop, plan.pump_lpm * there, minlength=len(plan.loop_lpm)), plan.loop_lpm)
    loop_w = np.minimum(lpm * plan.loop_cp_w * np.maximum(plan.loop_return_max_c - supply_c, 0.0), plan.loop_cap_w)
    return cdu_w, loop_w, CoolantState(cdu_w, supply_c, there)


def _good(image: Image, slots: Ints) -> Floats:
    return image.good[slots]


def _or_full(duty: Floats) -> Floats:
    """A duty that is not known is taken to be full [%]."""
    return duty if np.isfinite(duty).all() else np.nan_to_num(duty, nan=100.0)
