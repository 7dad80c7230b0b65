"""Continuous rating of each node in W, from native units and the measured electrical state.

A per phase: sqrt(3) U I pf / unbalance; VA: S pf; W as it stands. Unknown means worst case. Derating is the
site file's. The result follows a measured narrowing at once; a widening, and a narrowing out of ignorance, slowly.
"""

import numpy as np

from controller.frames import Floats, Image, Ints
from controller.plan import Plan
from drivers.points import Quality

VOLT_WORST = 0.95  # of nominal: lower edge of normal service (ANSI C84.1 range A)
UNBALANCE_WORST = 1.05  # worst phase over mean, three-phase power supplies evenly loaded
DENIED = 1.03
LIGHT_SHARE = 0.1  # below this load, measured power factor and unbalance say nothing
SLOW_PER_CYCLE = 0.02  # of the way


def nominal_w(plan: Plan) -> Floats:
    """Rating in W at worst voltage, power factor and unbalance [N]."""
    worst_pf = plan.site.control.power_factor_worst
    return _to_w(plan, VOLT_WORST, worst_pf, UNBALANCE_WORST)


def rating_w(plan: Plan, image: Image, base_w: Floats, last_w: Floats) -> Floats:
    """Rating in W at the measured state [N]; `base_w` is nominal_w, `last_w` the previous answer (inf: none)."""
    slot = plan.node_slot
    volt, amps = _good(image, slot.volt) * slot.volt_scale, _good(image, slot.current)
    power = _good(image, slot.power)
    mean, worst = amps.mean(axis=1), amps.max(axis=1)
    apparent = np.fmax(_good(image, slot.apparent), plan.phase * volt * mean)
    denied = image.below_w > power * DENIED  # its children show more: its power factor says nothing either
    loaded = (power > LIGHT_SHARE * base_w) & ~denied
    with np.errstate(divide="ignore", invalid="ignore"):
        pf = np.where(loaded & (apparent > 0), power / apparent, np.nan)
        unbalance = np.where(loaded & (mean > 0), worst / mean, np.nan)
    pf = np.where(np.isfinite(pf), np.clip(pf, 0.5, 1.0), plan.site.control.power_factor_worst)
    unbalance = np.where(np.isfinite(unbalance), np.clip(unbalance, 1.0, 3.0), UNBALANCE_WORST)
    ratio = np.where(np.isfinite(volt), np.clip(volt / plan.volt_v, 0.5, 1.05), VOLT_WORST)
    now = _to_w(plan, ratio, pf, unbalance)
    before = np.where(np.isfinite(last_w), last_w, now)
    slowly = before + (now - before) * SLOW_PER_CYCLE
    measured = np.isfinite(power) & np.isfinite(volt)
    return np.where(measured & (now <= before), now, slowly)


def _to_w(plan: Plan, volt_share: Floats | float, pf: Floats | float, unbalance: Floats | float) -> Floats:
    amps_w = plan.phase * plan.volt_v * volt_share * plan.rating * pf / unbalance
    return np.where(plan.rating_unit == "A", amps_w, np.where(plan.rating_unit == "VA", plan.rating * pf, plan.rating))


def _good(image: Image, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (image.quality[slots] == Quality.GOOD), image.value[slots], np.nan)
