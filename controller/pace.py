"""How caps move: what is near its target stays, reductions stay within the site's ramp unless a limit presses."""

import numpy as np

from controller.frames import Bools, Floats, Rows
from controller.plan import Plan

FEW = 50  # rows that are sooner looked at one by one than all entries of all rows
HOLD_SHARE = 0.004  # of nameplate: a cap moves only for more than this, unless a limit needs it


def settle(plan: Plan, rows: Rows, room_w: Floats, before_w: Floats, target_w: Floats, least_w: Floats) -> Floats:
    """Keep a cap that is near its target wherever the rows hold with it; whole steps, at least `least_w` [R]."""
    steps = np.floor(target_w / plan.resolution_w + 1e-6)  # filling ends a hair below: that must not cost a step
    rounded = np.maximum(steps * plan.resolution_w, least_w)
    near = np.abs(rounded - before_w) <= HOLD_SHARE * plan.max_w
    wanted = np.where(near, before_w, rounded)
    forced = under(rows, rows.dot_kept(wanted) > room_w * (1.0 + 1e-9), len(wanted))
    return np.where(forced, np.minimum(wanted, rounded), wanted)


def ramped(plan: Plan, pressed: Bools, before_w: Floats, cap_w: Floats, since_s: float) -> Floats:
    """Together the caps go down no faster than the site's ramp, but for racks [R] under a row that is too full.

    `since_s` is the time since the last cycle: events bring some of their own.
    """
    change = np.where(pressed, 0.0, cap_w - before_w)
    down, up = -float(change[change < 0.0].sum()), float(change[change > 0.0].sum())
    allowed = up + plan.site.control.ramp_down_w_per_s * since_s
    if down <= allowed:
        return cap_w
    return np.where(change < 0.0, before_w + change * (allowed / down), cap_w)


def gently(overloaded: Bools, before_w: Floats, cap_w: Floats, step: float) -> Floats:
    """Take over without a bump: by at most `step` of each cap, unless a measured overload [R] forces more."""
    gentle = np.clip(cap_w, before_w * (1.0 - step), before_w * (1.0 + step))
    return np.where(overloaded, np.minimum(gentle, cap_w), gentle)


def leave(plan: Plan, before_w: Floats, safe_cap_w: Floats, since_s: float) -> Floats:
    """One cycle of the way to the safe caps, together within the site's down-ramp of `since_s`."""
    above = np.maximum(before_w - safe_cap_w, 0.0)
    part = min(1.0, plan.site.control.ramp_down_w_per_s * since_s / max(float(above.sum()), 1.0))
    down: Floats = before_w - above * part
    return down


def under(rows: Rows, marked: Bools, racks: int) -> Bools:
    """Racks under any of the marked rows [R]."""
    out = np.zeros(racks, dtype=np.bool_)
    hit = np.flatnonzero(marked)
    if len(hit) > FEW:
        out[rows.racks[marked[rows.of_entry]]] = True
        return out
    for row in hit.tolist():
        out[rows.racks[rows.indptr[row] : rows.indptr[row + 1]]] = True
    return out
