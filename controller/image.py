"""Stage 1: the process image. Every point's value, quality and age, and what our own leases allow, frozen."""

import numpy as np

from controller.frames import Floats, Image
from controller.plan import Plan
from drivers.lease import Ledger
from drivers.points import Quality, Snapshot


def take(plan: Plan, shot: Snapshot, cycle: int, ledger: Ledger) -> Image:
    """Freeze a snapshot into the image of `cycle`; the ledger enters the agents' reports. Age is never NaN."""
    age_s = np.maximum(shot.now_s - shot.time_s, 0.0)
    heard = shot.quality[plan.agent_slot["beat"]] != Quality.NEVER
    report = {name: np.where(heard, shot.value[slots], np.nan) for name, slots in plan.agent_slot.items()}
    ledger.confirm(
        report["beat"], report["epoch"], report["seq"], report["cap_w"], shot.time_s[plan.agent_slot["beat"]]
    )
    metered_w = _metered(plan, shot)
    charge_w = ledger.charge_w(shot.now_s, metered_w, np.isfinite(metered_w))
    for array in (age_s, charge_w):
        array.flags.writeable = False
    return Image(shot.now_s, cycle, shot.value, shot.quality, age_s, charge_w)


def _metered(plan: Plan, shot: Snapshot) -> Floats:
    """Rack power by the PDUs of both cords, an instrument that is not the agent's own [R, W]; NaN if not fresh."""
    good = (plan.pdu_slot >= 0) & (shot.quality[plan.pdu_slot] == Quality.GOOD)
    power_w: Floats = np.where(good, shot.value[plan.pdu_slot], np.nan).sum(axis=1)
    return power_w
