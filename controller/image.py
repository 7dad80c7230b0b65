"""Stage 1: the process image. Every point's value, quality and age, and what our own leases allow, frozen."""

from dataclasses import dataclass

import numpy as np

from controller import trust
from controller.frames import Bools, Codes, Floats, Image, Ints
from controller.plan import Plan
from controller.policies import lost
from drivers.lease import Ledger
from drivers.points import Quality, Snapshot

SHARE_BAND = 0.05  # a cord share this far from the site's is a fact, less is metering
LIGHT_SHARE = 0.1  # of nameplate: below it a share says nothing
RIDING_SHARE = 0.5  # a node delivers this little of what its children carry: they run on stored energy
RIDING_LEAST_W = 1e4


@dataclass(frozen=True)
class ImageState:
    """Since when meters stand still, and which elements are lost."""

    still: trust.StillState
    lost: lost.LostState
    rode_s: Floats  # [N] how long each node has looked as if what hangs on it ran on stored energy


def begin(plan: Plan, now_s: float) -> ImageState:
    """State before the first image."""
    return ImageState(trust.watch(len(plan.parent)), lost.begin(plan, now_s), np.zeros(len(plan.parent)))


def take(plan: Plan, shot: Snapshot, cycle: int, ledger: Ledger, last: ImageState) -> tuple[Image, ImageState]:
    """Freeze a snapshot into the image of `cycle`; the ledger enters the agents' reports. Age is never NaN.

    A meter that stands still while what hangs on it moves is SUSPECT from here on.
    """
    age_s = np.maximum(shot.now_s - shot.time_s, 0.0)
    heard = shot.quality[plan.agent_slot["beat"]] != Quality.NEVER
    report = {name: np.where(heard, shot.value[slots], np.nan) for name, slots in plan.agent_slot.items()}
    ledger.confirm(
        report["beat"], report["epoch"], report["seq"], report["cap_w"], shot.time_s[plan.agent_slot["beat"]]
    )
    quality, still = _doubt(plan, shot, report["power_w"], last.still)
    metered_w = _metered(plan, shot, quality, last.lost.dead)
    charge_w = ledger.charge_w(shot.now_s, metered_w, np.isfinite(metered_w))
    meter_w = _good(shot, quality, plan.node_slot.power)
    below_w = _below(plan, meter_w)
    summed_w = np.where(_complete(plan, meter_w), below_w + plan.direct_w, np.nan)
    drawn_w = np.nan_to_num(np.where(np.isfinite(metered_w), metered_w, report["power_w"]))
    witness_w = np.minimum(below_w, plan.rows.dot(drawn_w)[plan.node_row])
    gone = _lost(plan, shot, quality, meter_w, witness_w, last.lost)
    share = _shares(plan, shot, quality, gone.dead)
    rides = (meter_w < RIDING_SHARE * witness_w) & (witness_w > RIDING_LEAST_W)
    rode_s = np.where(rides, last.rode_s + (gone.last_s - last.lost.last_s), 0.0)
    riding = _riding(plan, shot, quality, rides & (rode_s <= trust.RODE_S), gone)
    for array in (quality, age_s, metered_w, charge_w, below_w, summed_w, riding, gone.node, gone.unit, gone.dead):
        array.flags.writeable = False
    image = Image(
        now_s=shot.now_s,
        cycle=cycle,
        value=shot.value,
        quality=quality,
        age_s=age_s,
        metered_w=metered_w,
        charge_w=charge_w,
        rows=plan.rows if share is plan.share else plan.rows.at_shares(share),
        share=share,
        below_w=below_w,
        summed_w=summed_w,
        riding=riding,
        lost_node=gone.node,
        lost_unit=gone.unit,
        dead=gone.dead,
    )
    return image, ImageState(still, gone, rode_s)


def _lost(
    plan: Plan, shot: Snapshot, quality: Codes, meter_w: Floats, witness_w: Floats, last: lost.LostState
) -> lost.LostState:
    volt_v = _good(shot, quality, plan.node_slot.volt) * plan.node_slot.volt_scale
    return lost.watch(plan, shot.now_s, volt_v, meter_w, witness_w, _good(shot, quality, plan.unit_slot), last)


def _doubt(plan: Plan, shot: Snapshot, agent_w: Floats, last: trust.StillState) -> tuple[Codes, trust.StillState]:
    """Quality [P] with stuck node meters SUSPECT: a PDU's witness is its rack's agent, a node's are its children."""
    slot = plan.node_slot.power
    meter_w = _good(shot, shot.quality, slot)
    below_w = _below(plan, meter_w)
    cords_w = meter_w[plan.rack_pdu].sum(axis=1)
    apart_w = np.where(below_w > 0.0, np.abs(below_w - meter_w), 0.0)
    apart_w[plan.rack_pdu] = np.abs(np.nan_to_num(cords_w - agent_w))[:, None]
    full_w = np.maximum(below_w, 1.0)
    full_w[plan.rack_pdu] = plan.max_w[:, None]
    lost = meter_w < RIDING_SHARE * below_w  # that is what a lost source looks like
    after_s = np.where(lost, trust.RODE_S, trust.STUCK_S)
    stuck, state = trust.stuck(meter_w, np.nan_to_num(apart_w), full_w, after_s, shot.now_s, last)
    quality = shot.quality.copy()
    quality[slot[stuck]] = Quality.SUSPECT
    return quality, state


def _below(plan: Plan, meter_w: Floats) -> Floats:
    """What a node's children show together, with their losses [N, W]; a silent child shows nothing."""
    below_w = np.zeros(len(meter_w))
    inner = plan.parent >= 0
    np.add.at(below_w, plan.parent[inner], np.nan_to_num(meter_w[inner]) / plan.efficiency[inner])
    return below_w


def _shares(plan: Plan, shot: Snapshot, quality: Codes, dead: Bools) -> Floats:
    """Cord shares in force [R, 2]: the site's while the measured ones agree, the larger per cord where they do not.

    A cord whose busway is dead carries nothing, whatever its PDU showed last.
    """
    cord_w = _good(shot, quality, plan.pdu_slot)
    agent_w = _good(shot, quality, plan.agent_slot["power_w"])
    left_w = np.maximum(agent_w - np.nansum(cord_w, axis=1), 0.0)[:, None]
    lone = np.isnan(cord_w).sum(axis=1, keepdims=True) == 1  # a PDU that lost its feed falls silent with it
    cord_w = np.where(lone & np.isnan(cord_w), left_w, cord_w)
    off = dead[plan.parent[plan.rack_pdu]]
    lone = off.sum(axis=1, keepdims=True) == 1
    total_w = cord_w.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = np.where(lone, ~off, cord_w / total_w[:, None])
    moved = np.abs(measured - plan.share) > SHARE_BAND
    loaded = (total_w > LIGHT_SHARE * plan.max_w)[:, None]
    moved &= loaded | lone
    worst = np.where(lone, measured, np.maximum(measured, plan.share))  # a dead cord carries nothing, that is known
    return np.where(moved, worst, plan.share) if moved.any() else plan.share


def _complete(plan: Plan, meter_w: Floats) -> Bools:
    """Nodes with children, all of which show something [N]."""
    inner = plan.parent >= 0
    children = np.bincount(plan.parent[inner], minlength=len(meter_w))
    shown = np.bincount(plan.parent[inner], np.isfinite(meter_w[inner]), minlength=len(meter_w))
    return np.asarray((children > 0) & (shown == children), dtype=np.bool_)


def _riding(plan: Plan, shot: Snapshot, quality: Codes, rides: Bools, gone: lost.LostState) -> Bools:
    """Nodes that deliver far less than their children and their racks both show, or whose battery discharges [N].

    Not a lost one whose bus is alive: a tie feeds it.
    """
    riding: Bools = rides & ~(gone.node & ~gone.dead)
    discharging = _good(shot, quality, plan.storage_slot) > RIDING_LEAST_W
    riding[plan.storage_node[discharging]] = True
    return riding


def _metered(plan: Plan, shot: Snapshot, quality: Codes, dead: Bools) -> Floats:
    """Rack power by the PDUs of both cords less its own CDU's pumps [R, W]; NaN if not fresh.

    An instrument that is not the agent's own. A silent CDU counts as no pump power, so as more for the rack; a silent
    PDU behind a dead busway counts as none, as long as the other cord's speaks.
    """
    cord_w = _good(shot, quality, plan.pdu_slot)
    off = dead[plan.parent[plan.rack_pdu]]
    cord_w = np.where(off & np.isnan(cord_w) & (off.sum(axis=1, keepdims=True) == 1), 0.0, cord_w)
    cords = cord_w.sum(axis=1)
    pumps = np.nan_to_num(_good(shot, quality, plan.own_cdu_slot))
    return np.asarray(np.maximum(cords - pumps, 0.0))


def _good(shot: Snapshot, quality: Codes, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (quality[slots] == Quality.GOOD), shot.value[slots], np.nan)
