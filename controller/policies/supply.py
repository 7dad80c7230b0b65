"""Racks whose water is warmer than they accept: their CDU carries less than it did when that began, until it is not.

PI on each CDU's own supply, as a share of the heat it carried at the beginning: whatever is short, its loop's heat
rejection, its primary flow or its exchanger, less heat mends it. A sensor that lies costs its own racks alone. What
falls silent keeps its limit. Warm water alone pauses no job: no CDU is held below its racks' floors, and there their
silicon, which does not follow the water alone, has the last word.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, Image
from controller.plan import Plan
from drivers.points import Quality

NEAR_K = 0.5  # below the warmest supply that the racks accept: there it begins, and goes on to that supply
FREE_K = 1.5  # below it: there it ends
SHARE_PER_K, SHARE_PER_K_S = 0.1, 1.5e-3  # proportional, integral: a CDU follows within a minute, its loop in some
MOST = 0.6  # of the heat at the beginning


@dataclass(frozen=True)
class SupplyState:
    """Heat at the beginning, infinite where nothing is narrowed, and the integral, as a share of it."""

    base_w: Floats  # [C]
    taken: Floats  # [C]
    limit_w: Floats  # [C]
    last_s: float


def begin(plan: Plan) -> SupplyState:
    """Nothing is narrowed."""
    free = np.full(len(plan.cdu_cap_w), np.inf)
    return SupplyState(free, np.zeros(len(free)), free, np.inf)


def heat_w(plan: Plan, image: Image, carried_w: Floats, other_w: Floats, last: SupplyState) -> SupplyState:
    """The next state, whose limit_w [C, W] holds the CDUs.

    `carried_w` [C] is the heat that they carry now, `other_w` [C] the part of it that no cap moves.
    """
    slots = plan.cdu_supply_slot
    known = (slots >= 0) & (image.quality[slots] == Quality.GOOD)
    over_k = image.good[slots] - (plan.site.control.supply_max_c - NEAR_K)
    narrowed = np.isfinite(last.base_w)
    if not (narrowed.any() or (over_k > 0.0).any()):
        return SupplyState(last.base_w, last.taken, last.limit_w, image.now_s)
    step_s = min(max(image.now_s - last.last_s, 0.0), 1.0)
    begins: Bools = (over_k > 0.0) & ~narrowed
    beyond_k = np.nan_to_num(over_k - NEAR_K)
    taken = np.clip(last.taken + beyond_k * SHARE_PER_K_S * step_s * narrowed, 0.0, MOST)
    ends = narrowed & (over_k < NEAR_K - FREE_K) & (taken <= 0.0)
    base_w = np.where(begins, carried_w, np.where(ends, np.inf, last.base_w))
    share = np.clip(SHARE_PER_K * over_k + taken, 0.0, MOST)
    active = np.isfinite(base_w)
    least_w = plan.rows.dot(plan.floor_w)[plan.cdu_row] + other_w
    held_w = np.maximum(np.where(active, base_w, 0.0) * (1.0 - np.nan_to_num(share)), least_w)
    limit_w = np.where(active, held_w, np.inf)
    return SupplyState(base_w, taken, np.where(known, limit_w, last.limit_w), image.now_s)
