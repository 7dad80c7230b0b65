"""Stage 1: the process image. Every point's value, quality and age, and what our own leases allow, frozen."""

import numpy as np

from controller import trust
from controller.frames import Codes, Floats, Image, Ints
from controller.plan import Plan
from drivers.lease import Ledger
from drivers.points import Quality, Snapshot


def take(
    plan: Plan, shot: Snapshot, cycle: int, ledger: Ledger, last: trust.StillState
) -> tuple[Image, trust.StillState]:
    """Freeze a snapshot into the image of `cycle`; the ledger enters the agents' reports. Age is never NaN.

    A PDU reading that stands still while its rack moves is SUSPECT from here on.
    """
    age_s = np.maximum(shot.now_s - shot.time_s, 0.0)
    heard = shot.quality[plan.agent_slot["beat"]] != Quality.NEVER
    report = {name: np.where(heard, shot.value[slots], np.nan) for name, slots in plan.agent_slot.items()}
    ledger.confirm(
        report["beat"], report["epoch"], report["seq"], report["cap_w"], shot.time_s[plan.agent_slot["beat"]]
    )
    cord_w = _good(shot, shot.quality, plan.pdu_slot)
    stuck, state = trust.stuck(plan, cord_w, report["power_w"], shot.now_s, last)
    quality = shot.quality.copy()
    quality[plan.pdu_slot[stuck]] = Quality.SUSPECT
    metered_w = _metered(plan, shot, quality)
    charge_w = ledger.charge_w(shot.now_s, metered_w, np.isfinite(metered_w))
    for array in (quality, age_s, metered_w, charge_w):
        array.flags.writeable = False
    return Image(shot.now_s, cycle, shot.value, quality, age_s, metered_w, charge_w), state


def _metered(plan: Plan, shot: Snapshot, quality: Codes) -> Floats:
    """Rack power by the PDUs of both cords less its own CDU's pumps [R, W]; NaN if not fresh.

    An instrument that is not the agent's own. A silent CDU counts as no pump power, so as more for the rack.
    """
    cords = _good(shot, quality, plan.pdu_slot).sum(axis=1)
    pumps = np.nan_to_num(_good(shot, quality, plan.own_cdu_slot))
    return np.asarray(np.maximum(cords - pumps, 0.0))


def _good(shot: Snapshot, quality: Codes, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (quality[slots] == Quality.GOOD), shot.value[slots], np.nan)
