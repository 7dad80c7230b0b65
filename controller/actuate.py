"""Stage 6: Orders -> Commands. Lower first; unchanged leases are renewed; nothing is ever retried."""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, Ints, Mode, Orders
from controller.plan import Plan
from drivers.lease import Group, Ledger, Shed, compile_groups
from drivers.wires import CapCommand, Command

RENEW_SHARE = 1.0 / 3.0  # of the time to live


@dataclass(frozen=True)
class ActuateState:
    """What was sent last, per rack and per group."""

    groups: tuple[Group, ...]
    group_of: Ints  # [R]
    cap_w: Floats  # [R] NaN before the first message
    safe_cap_w: Floats
    sent_s: Floats  # [groups]
    shed: Ints  # [R] rungs
    gpu_cap_w: Ints  # [R, GPUs], no column before the first message with per-GPU caps


def begin(plan: Plan) -> ActuateState:
    """State before the first message; LeaseError where a group cannot be sent."""
    racks = plan.site.racks
    groups = tuple(compile_groups(plan.site.lease_groups, [r.id for r in racks], [r.gpus for r in racks]).values())
    group_of = np.empty(len(plan.max_w), dtype=np.int64)
    for i, group in enumerate(groups):
        group_of[group.racks] = i
    nothing = np.full(len(plan.max_w), np.nan)
    none = np.zeros(len(racks), dtype=np.int64)
    return ActuateState(
        groups, group_of, nothing, nothing, np.full(len(groups), -np.inf), none, np.zeros((len(racks), 0), np.int64)
    )


def actuate(
    plan: Plan, orders: Orders, ledger: Ledger, now_s: float, last: ActuateState
) -> tuple[tuple[Command, ...], ActuateState]:
    """Messages for every group that changed or is due, groups with reductions first; then the set-points."""
    if orders.mode == Mode.SHADOW:
        return (), last
    least_w = np.ceil(plan.floor_w)  # whole watts, rounded down, yet never below what the device obeys
    cap_w, safe_w = (np.maximum(np.floor(x), least_w) for x in (orders.cap_w, orders.safe_cap_w))
    rungs = last.shed * 0 if orders.shed is None else orders.shed.astype(np.int64)
    cap_w = np.where(rungs > Shed.NONE, np.ceil(orders.cap_w), cap_w)  # below the floor, and what it really draws
    gpus_w = last.gpu_cap_w[:, :0] if orders.gpu_cap_w is None else orders.gpu_cap_w
    changed = (cap_w != last.cap_w) | (safe_w != last.safe_cap_w) | (rungs != last.shed) | _moved(gpus_w, last)
    fresh = np.bincount(last.group_of, weights=changed, minlength=len(last.groups)) > 0
    due = fresh | _renewal(plan, now_s, last)
    if orders.mode == Mode.OFF:  # confirmed at its safe cap, a group is left to itself
        left = ledger.confirmed_w <= safe_w
        due &= np.bincount(last.group_of, weights=~left, minlength=len(last.groups)) > 0
    lowered = np.bincount(last.group_of, weights=cap_w < last.cap_w, minlength=len(last.groups))
    order = [int(g) for g in np.argsort(-lowered, kind="stable") if due[g]]
    caps, safes = cap_w.astype(np.int64), safe_w.astype(np.int64)
    extra = {"shed": rungs, "gpu_cap_w": orders.gpu_cap_w}
    leases = map(CapCommand, ledger.leases([last.groups[g] for g in order], caps, safes, now_s, **extra))
    sent = due[last.group_of]
    state = ActuateState(
        last.groups,
        last.group_of,
        np.where(sent, cap_w, last.cap_w),
        np.where(sent, safe_w, last.safe_cap_w),
        np.where(due, now_s, last.sent_s),
        np.where(sent, rungs, last.shed),
        np.where(sent[:, None], gpus_w, last.gpu_cap_w) if gpus_w.shape == last.gpu_cap_w.shape else gpus_w,
    )
    return (*leases, *orders.setpoints), state


def _moved(gpu_cap_w: Ints, last: ActuateState) -> Bools:
    """Racks of which a GPU's cap changed [R]; all of them when per-GPU caps begin or end."""
    if gpu_cap_w.shape != last.gpu_cap_w.shape:
        return np.ones(len(gpu_cap_w), dtype=np.bool_)
    moved: Bools = (gpu_cap_w != last.gpu_cap_w).any(axis=1)
    return moved


def _renewal(plan: Plan, now_s: float, last: ActuateState) -> Bools:
    """Groups whose unchanged leases are due: every third of the time to live, a part of them each second [groups]."""
    period = max(1, int(RENEW_SHARE * plan.site.control.lease_ttl_s))
    turn = np.arange(len(last.groups)) % period == int(now_s) % period
    due: Bools = turn | (now_s - last.sent_s >= period)
    return due
