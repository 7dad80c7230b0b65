"""What an act would do, solved on the present cycle before anybody does it: power, levels, jobs, and what to know.

The levels are those after the ramp, before hysteresis; demand and limits are taken to stay as they are now.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from controller import acts, problem, whatif
from controller.act_kinds import racks_of
from controller.cycle import State
from controller.frames import Bools, Floats, Frames, Limits, Mode, Requests
from controller.jobs import with_jobs
from controller.plan import Plan
from controller.policies.grid import METER_ERROR
from controller.whatif import Solved
from controller.words import count, duration, power, row_text

MOVED_SHARE = 0.005  # of nameplate: a rack that changes by less is not counted
TOP = 6


def effect(plan: Plan, frames: Frames, state: State, asked: Requests, act: Mapping[str, Any]) -> dict[str, Any]:
    """The effect of a checked act (act_kinds.check); `lines` are plain words."""
    kind = act["act"]
    if kind == "mode":
        return _of_mode(plan, frames, str(act["mode"]))
    after = acts.apply(plan.site, asked, {**act, "id": "effect"})
    bounds, allocate = _limits(plan, frames.limits, after, act), state.allocate
    then_plan = plan
    if kind == "priority":
        then_plan = with_jobs(plan, after.jobs, dict(after.priority))
        allocate = replace(allocate, structure=problem.compile_structure(then_plan))
    now = whatif.solve(plan, frames.estimate, frames.limits, state.allocate)
    then = whatif.solve(then_plan, frames.estimate, bounds, allocate)
    return _told(plan, frames, bounds, now, then, act)


def _limits(plan: Plan, now: Limits, after: Requests, act: Mapping[str, Any]) -> Limits:
    """The limits when the act has come into force, its ramp over."""
    room_w, limit_w = now.room_w.copy(), now.limit_w.copy()
    if act["act"] in ("envelope", "curtail", "cancel"):
        site_w, row = plan.site.control.envelope_w, plan.envelope_row
        wanted = [x for x in (after.envelope_w, float(act["mw"]) * 1e6 if act["act"] == "curtail" else None) if x]
        to_w = min([site_w, *wanted]) * (1.0 - METER_ERROR)
        room_w[row] = max(room_w[row] + to_w - limit_w[row], 0.0)
        limit_w[row] = to_w
    parked = _marked(plan, after.parked)
    return replace(now, room_w=room_w, limit_w=limit_w, held=_marked(plan, after.held) | parked, parked=parked)


def _marked(plan: Plan, racks: frozenset[str]) -> Bools:
    out = np.zeros(len(plan.max_w), dtype=np.bool_)
    out[[plan.site.rack_index[r] for r in racks]] = True
    return out


def _of_mode(plan: Plan, frames: Frames, name: str) -> dict[str, Any]:
    """A change of mode moves caps only on the way to silence."""
    mode, orders = Mode[name.upper()], frames.orders
    fall_w = float(np.maximum(orders.cap_w - orders.safe_cap_w, 0.0).sum())
    ramp_s = fall_w / plan.site.control.ramp_down_w_per_s
    words = {
        Mode.LIVE: "Caps are written, up and down.",
        Mode.HOLD: "Caps are renewed and lowered only; nothing rises.",
        Mode.SHADOW: f"Nothing is written any more; first all caps go to the safe caps, {power(fall_w)} down in "
        f"{duration(ramp_s)}.",
        Mode.OFF: f"All caps go to the safe caps, {power(fall_w)} down in {duration(ramp_s)}; then nothing is written.",
    }
    if mode == orders.mode:
        return {"lines": [f"The mode is {name} already: nothing changes."], "change_w": 0.0}
    return {"lines": [words[mode]], "change_w": -fall_w if mode in (Mode.SHADOW, Mode.OFF) else 0.0}


def _told(
    plan: Plan, frames: Frames, bounds: Limits, now: Solved, then: Solved, act: Mapping[str, Any]
) -> dict[str, Any]:
    before_w, after_w = now.served.power_w, then.served.power_w
    change_w = float(after_w.sum() - before_w.sum())
    moved = np.abs(after_w - before_w) > MOVED_SHARE * plan.max_w
    lowered, raised = int((moved & (after_w < before_w)).sum()), int((moved & (after_w > before_w)).sum())
    jobs = _jobs(plan, now, then)
    lines = [*_first(plan, frames, act, before_w, after_w), _moved(lowered, raised)]
    lines += [f"  {x['job']}: {power(x['now_w'])} now, {power(x['then_w'])} then" for x in jobs]
    if then.served.violated.any():
        row = int(np.flatnonzero(then.served.violated)[0])
        lines.append(
            f"The racks' floors do not fit {row_text(plan, row)}: whole jobs would be paused, lowest class first."
        )
    return {
        "now_w": float(before_w.sum()),
        "then_w": float(after_w.sum()),
        "change_w": change_w,
        "racks_lowered": lowered,
        "racks_raised": raised,
        "envelope_w": float(bounds.limit_w[plan.envelope_row] / (1.0 - METER_ERROR)),
        "sheds": bool(then.served.violated.any()),
        "jobs": jobs,
        "lines": [x for x in lines if x],
    }


def _first(plan: Plan, frames: Frames, act: Mapping[str, Any], before_w: Floats, after_w: Floats) -> list[str]:
    """What the act is about, and the power of all racks before and after."""
    total = f"The racks would be given {power(float(after_w.sum()))}; now {power(float(before_w.sum()))}."
    change_w = float(after_w.sum() - before_w.sum())
    if abs(change_w) < 1e3:
        total = f"The racks are given {power(float(before_w.sum()))}, then as now."
    if act["act"] in ("hold", "release", "park", "unpark"):
        racks = racks_of(plan.site, act)
        at = [plan.site.rack_index[r] for r in racks]
        cap_w, safe_w = float(frames.orders.cap_w[at].sum()), float(plan.safe_cap_w[at].sum())
        words = {
            "hold": f"{count(len(racks), 'rack')} may not rise above {power(cap_w)} together.",
            "park": f"{count(len(racks), 'rack')} go to the safe caps, {power(safe_w)} together, and stay there.",
        }
        free = f"{count(len(racks), 'rack')} may rise again, from {power(cap_w)} together."
        return [words.get(act["act"], free), total]
    if change_w < 0.0 and act["act"] == "envelope" and "within_s" not in act:
        ramp_s = -change_w / plan.site.control.ramp_down_w_per_s
        return [total, f"By the site's ramp that takes about {duration(ramp_s)}."]
    return [total]


def _moved(lowered: int, raised: int) -> str:
    if not lowered and not raised:
        return "No rack's share changes now."
    return f"{count(lowered, 'rack')} would have less, {count(raised, 'rack')} more."


def _jobs(plan: Plan, now: Solved, then: Solved) -> list[dict[str, Any]]:
    """Jobs whose power changes, those that lose most first."""
    names = [rack.job or rack.id for rack in plan.site.racks]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    of = np.array([index[name] for name in names])
    now_w, then_w, most_w = (np.bincount(of, w) for w in (now.served.power_w, then.served.power_w, plan.max_w))
    change_w, ids = then_w - now_w, list(index)
    return [
        {"job": ids[i], "now_w": float(now_w[i]), "then_w": float(then_w[i])}
        for i in np.argsort(change_w, kind="stable")[:TOP]
        if abs(change_w[i]) > MOVED_SHARE * most_w[i]
    ]
