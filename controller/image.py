"""Stage 1: the process image. Every point's value, quality and age, and what our own leases allow, frozen."""

from dataclasses import dataclass

import numpy as np

from controller import trust
from controller.frames import Bools, Codes, Floats, Image, fresh_values, zeroed
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
    age_s = shot.now_s - shot.time_s
    np.maximum(age_s, 0.0, out=age_s)
    agent_w = _enter(plan, shot, ledger)
    good = fresh_values(shot.value, shot.quality)
    meter_w = good[plan.node_slot.power]
    below_w = _below(plan, meter_w)
    quality, still = _doubt(plan, shot, good, meter_w, below_w, agent_w, last.still)
    if still.stuck:
        meter_w = good[plan.node_slot.power]
        below_w = _below(plan, meter_w)
    cord_w = good[plan.pdu_slot]
    metered_w = _metered(plan, good, cord_w, last.lost.dead)
    charge_w = ledger.charge_w(shot.now_s, metered_w, np.isfinite(metered_w))
    summed_w = np.where(_complete(plan, meter_w), below_w + plan.direct_w, np.nan)
    drawn_w = zeroed(np.where(np.isfinite(metered_w), metered_w, agent_w))
    witness_w = np.minimum(below_w, plan.rows.dot(drawn_w)[plan.node_row])
    gone = _lost(plan, shot.now_s, good, meter_w, witness_w, last.lost)
    share = _shares(plan, good, cord_w, gone.dead)
    rides = (meter_w < RIDING_SHARE * witness_w) & (witness_w > RIDING_LEAST_W)
    rode_s = np.where(rides, last.rode_s + (gone.last_s - last.lost.last_s), 0.0)
    riding = _riding(plan, good, rides & (rode_s <= trust.RODE_S), gone)
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
    good.flags.writeable = False
    vars(image)["good"] = good  # it is this already: nobody has to work it out again
    return image, ImageState(still, gone, rode_s)


def _enter(plan: Plan, shot: Snapshot, ledger: Ledger) -> Floats:
    """Enter the agents' reports into the ledger; the power that each shows, NaN where none was ever heard [R, W]."""
    slots = plan.agent_slot
    heard = shot.quality[slots["beat"]] != Quality.NEVER
    told = [shot.value[slots[name]] for name in ("beat", "epoch", "seq", "cap_w", "power_w")]
    if not heard.all():
        told = [np.where(heard, value, np.nan) for value in told]
    beat, epoch, seq, cap_w, power_w = told
    ledger.confirm(beat, epoch, seq, cap_w, shot.time_s[slots["beat"]])
    return power_w


def _lost(
    plan: Plan, now_s: float, good: Floats, meter_w: Floats, witness_w: Floats, last: lost.LostState
) -> lost.LostState:
    volt_v = good[plan.node_slot.volt] * plan.node_slot.volt_scale
    return lost.watch(plan, now_s, volt_v, meter_w, witness_w, good[plan.unit_slot], last)


def _doubt(
    plan: Plan, shot: Snapshot, good: Floats, meter_w: Floats, below_w: Floats, agent_w: Floats, last: trust.StillState
) -> tuple[Codes, trust.StillState]:
    """Quality [P] with stuck node meters SUSPECT, and no longer among the `good` [P + 1].

    A PDU's witness is its rack's agent, a node's are its children.
    """
    cords_w = meter_w[plan.rack_pdu[:, 0]] + meter_w[plan.rack_pdu[:, 1]]
    apart_w = np.where(below_w > 0.0, np.abs(below_w - meter_w), 0.0)
    apart_w[plan.rack_pdu] = np.abs(zeroed(cords_w - agent_w))[:, None]
    full_w = np.maximum(below_w, 1.0)
    full_w[plan.rack_pdu] = plan.max_w[:, None]
    lost = meter_w < RIDING_SHARE * below_w  # that is what a lost source looks like
    after_s = np.where(lost, trust.RODE_S, trust.STUCK_S)
    stuck, state = trust.stuck(meter_w, zeroed(apart_w), full_w, after_s, shot.now_s, last)
    quality = shot.quality.copy()
    if state.stuck:
        slots = plan.node_slot.power[stuck]
        quality[slots], good[slots] = Quality.SUSPECT, np.nan
    return quality, state


def _below(plan: Plan, meter_w: Floats) -> Floats:
    """What a node's children show together, with their losses [N, W]; a silent child shows nothing."""
    shown_w = zeroed(meter_w[plan.inner]) / plan.efficiency[plan.inner]
    return np.bincount(plan.inner_parent, shown_w, minlength=len(meter_w)).astype(np.float64, copy=False)


def _shares(plan: Plan, good: Floats, cord_w: Floats, dead: Bools) -> Floats:
    """Cord shares in force [R, 2]: the site's while the measured ones agree, the larger per cord where they do not.

    A cord whose busway is dead carries nothing, whatever its PDU showed last. `cord_w` [R, 2] are the PDUs' readings.
    """
    silent = np.isnan(cord_w)
    if silent.any():
        agent_w = good[plan.agent_slot["power_w"]]
        left_w = np.maximum(agent_w - np.nansum(cord_w, axis=1), 0.0)[:, None]
        lone = silent.sum(axis=1, keepdims=True) == 1  # a PDU that lost its feed falls silent with it
        cord_w = np.where(lone & silent, left_w, cord_w)
    off = dead[plan.rack_busway]
    lone = (off[:, 0] ^ off[:, 1])[:, None]
    total_w = cord_w[:, 0] + cord_w[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = cord_w / total_w[:, None]
    if off.any():
        measured = np.where(lone, ~off, measured)
    moved = np.abs(measured - plan.share) > SHARE_BAND
    loaded = (total_w > LIGHT_SHARE * plan.max_w)[:, None]
    moved &= loaded | lone
    if not moved.any():
        return plan.share
    worst = np.where(lone, measured, np.maximum(measured, plan.share))  # a dead cord carries nothing, that is known
    return np.where(moved, worst, plan.share)


def _complete(plan: Plan, meter_w: Floats) -> Bools:
    """Nodes with children, all of which show something [N]."""
    silent = ~np.isfinite(meter_w[plan.inner])
    if not silent.any():
        return plan.children > 0
    shown = plan.children - np.bincount(plan.inner_parent[silent], minlength=len(meter_w))
    return np.asarray((plan.children > 0) & (shown == plan.children), dtype=np.bool_)


def _riding(plan: Plan, good: Floats, rides: Bools, gone: lost.LostState) -> Bools:
    """Nodes that deliver far less than their children and their racks both show, or whose battery discharges [N].

    Not a lost one whose bus is alive: a tie feeds it.
    """
    riding: Bools = rides & ~(gone.node & ~gone.dead)
    discharging = good[plan.storage_slot] > RIDING_LEAST_W
    riding[plan.storage_node[discharging]] = True
    return riding


def _metered(plan: Plan, good: Floats, cord_w: Floats, dead: Bools) -> Floats:
    """Rack power by the PDUs of both cords less its own CDU's pumps [R, W]; NaN if not fresh.

    An instrument that is not the agent's own. A silent CDU counts as no pump power, so as more for the rack; a silent
    PDU behind a dead busway counts as none, as long as the other cord's speaks.
    """
    if dead.any():
        off = dead[plan.rack_busway]
        cord_w = np.where(off & np.isnan(cord_w) & (off.sum(axis=1, keepdims=True) == 1), 0.0, cord_w)
    cords = cord_w[:, 0] + cord_w[:, 1]
    return np.asarray(np.maximum(cords - zeroed(good[plan.own_cdu_slot]), 0.0))
