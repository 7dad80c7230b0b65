"""The reason of a cap in plain words: which meter is not fresh, how long the ramp takes, who holds it, what helps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from controller.allocate import TAKEOVER_S
from controller.cycle import State
from controller.estimate import STALE_AGENT_S
from controller.frames import Frames, Ints, Mode, Reason, Shed
from controller.plan import Plan
from controller.shed import WORDS
from controller.words import count, duration, power, row_kind, row_text, some
from drivers.points import Quality


@dataclass(frozen=True)
class Case:
    """One rack in one cycle; `said` gives who asked for what (Acts.said)."""

    plan: Plan
    frames: Frames
    state: State
    rack: int
    said: Mapping[str, str]


HELPS = {
    "envelope": "a higher envelope, or less power used by cooling and house loads",
    "cdu": "more flow or colder supply at this CDU, or a job with less heat on its racks",
    "loop": "another pump or colder supply in this loop, or work moved to racks on other loops",
    "tenant": "a higher maximum for this tenant",
    "loss": "less load on what survives that loss, or a higher rating of it",
    "pdu": "cords that share the rack's load more evenly, or a larger breaker",
}


def words(on: Case) -> str:
    """The sentence for the rack's reason; empty where the row's own sentences say all."""
    speak = SPEAK.get(Reason(int(on.frames.orders.reason[on.rack])))
    return speak(on) if speak else ""


def racks_of(frames: Frames, row: int) -> Ints:
    """The racks that load a row."""
    rows = frames.estimate.rows
    return rows.racks[rows.indptr[row] : rows.indptr[row + 1]]


def helps(plan: Plan, row: int, narrowed: str) -> str:
    """What an operator could do about a row."""
    kind = row_kind(plan, row)
    if row == plan.envelope_row and narrowed:
        return f"What would help: the end of the {narrowed}, or less power used by cooling and house loads."
    other = f"work moved to racks that hang on another {kind.replace('_', ' ')}"
    return f"What would help: {HELPS.get(kind, other)}."


def stale(plan: Plan, frames: Frames, rack: int) -> tuple[str, ...]:
    """What is not fresh and good for a rack: its agent, its PDUs, the nodes above, its CDU and loop, their pumps."""
    image = frames.image
    found: list[tuple[str, int]] = [("the rack's agent", int(plan.agent_slot["power_w"][rack]))]
    slot, seen = plan.node_slot.power, set[int]()
    for cord in plan.rack_pdu[rack]:
        node = int(cord)
        while node >= 0 and node not in seen:
            seen.add(node)
            found.append((f"the meter of {row_text(plan, node)}", int(slot[node])))
            node = int(plan.parent[node])
    cdu, loop = int(plan.cdu_of[rack]), int(plan.loop_of[rack])
    for name, slots, at in (
        (f"the flow of cdu {plan.site.cdus[cdu].id}", plan.cdu_flow_slot, cdu),
        (f"the supply temperature of cdu {plan.site.cdus[cdu].id}", plan.cdu_supply_slot, cdu),
        (f"the supply temperature of loop {plan.site.loops[loop].id}", plan.loop_supply_slot, loop),
    ):
        if slots[at] >= 0:
            found.append((name, int(slots[at])))
    found += [(f"pump {plan.pump_name[p]}", int(plan.pump_slot[p])) for p in np.flatnonzero(plan.pump_loop == loop)]
    return tuple(f"{name} ({_state(frames, at)})" for name, at in found if at < 0 or image.quality[at] != Quality.GOOD)


def _state(frames: Frames, slot: int) -> str:
    """What is wrong with a point."""
    if slot < 0:
        return "there is none"
    quality, age_s = Quality(int(frames.image.quality[slot])), float(frames.image.age_s[slot])
    if quality == Quality.NEVER or not np.isfinite(age_s):
        return "never heard"
    texts = {Quality.SUSPECT: "doubted", Quality.STALE: "silent", Quality.BAD: "reports no valid value"}
    return f"{texts.get(quality, 'good')}, last {duration(age_s)} ago"


def _stale(on: Case) -> str:
    missing = stale(on.plan, on.frames, on.rack)
    return (
        "It may not rise: not fresh and good: " + some(missing) + "."
        if missing
        else "It may not rise: the site's own meters have not been read yet."
    )


def _pace(on: Case) -> str:
    waits_w = np.maximum(on.frames.proposal.cap_w - on.frames.orders.cap_w, 0.0)
    ramp_w = on.plan.site.control.ramp_up_w_per_s
    target, whole = power(float(on.frames.proposal.cap_w[on.rack])), float(waits_w.sum())
    return (
        f"It rises towards {target}, within the site's ramp: all racks together still rise by {power(whole)},"
        f" at {power(ramp_w)} a second that takes about {duration(whole / ramp_w)}."
    )


def _room(on: Case) -> str:
    waiting = int((on.frames.orders.charge_w > on.frames.orders.cap_w + 1.0).sum())
    return (
        f"It rises towards {power(float(on.frames.proposal.cap_w[on.rack]))} as soon as others confirm: "
        f"{count(waiting, 'rack')} on the site may still draw more than the new cap."
    )


def _hold(on: Case) -> str:
    name = on.plan.site.racks[on.rack].id
    if on.frames.limits.held[on.rack]:
        release = f"headroom release {on.plan.site.name} {name}"
        return f"It is held, its cap may not rise{_by(on.said, name)}. Release it: {release}"
    if on.frames.orders.mode in (Mode.HOLD, Mode.OFF):
        return f"The mode is {on.frames.orders.mode.name}, nothing rises{_by(on.said, 'mode')}."
    return "It is held."


def _by(said: Mapping[str, str], key: str) -> str:
    return f" ({said[key]})" if said.get(key) else ""


def _start(on: Case) -> str:
    left_s = TAKEOVER_S - (on.frames.image.now_s - on.state.allocate.started_s)
    if left_s <= 0.0:
        return "The controller has just started: caps found are kept until every device has answered."
    return (
        f"The controller has just started and takes over gently from the cap it found, for another {duration(left_s)}."
    )


def _floor(on: Case) -> str:
    return (
        f"It is at its floor, {power(float(on.plan.floor_w[on.rack]))}: the floors alone fill the limit."
        " No cap can go lower; only less load can."
    )


def _guard(on: Case) -> str:
    rows = on.frames.estimate.rows
    mine = np.unique(rows.of_entry[rows.racks == on.rack])
    mine = mine[mine < len(on.frames.estimate.load_w)]  # a loss that has not happened loads nothing
    fill = on.frames.estimate.load_w[mine] / np.maximum(on.frames.limits.limit_w[mine], 1.0)
    fullest = int(mine[np.argmax(fill)])
    return (
        f"The guard, which judges by itself, cut the cap from {power(float(on.frames.proposal.cap_w[on.rack]))}."
        f" The fullest limit above the rack is {row_text(on.plan, fullest)}, at {float(fill.max()):.0%}."
    )


def _riding(on: Case) -> str:
    nodes = [row_text(on.plan, int(i)) for i in np.flatnonzero(on.frames.image.riding)]
    what = some(nodes) if nodes else "a UPS"
    return f"Nothing rises: what hangs on {what} runs on stored energy, and that load will come back."


def _lost(on: Case) -> str:
    names = [on.plan.losses.cases[case].id for case in on.frames.estimate.lost]
    return f"Lost: {some(names) or 'an element'}. What has taken over its load carries no more than this."


def _shed(on: Case) -> str:
    rungs = on.frames.orders.shed
    rung = WORDS.get(Shed(int(rungs[on.rack])), "not yet told") if rungs is not None else "not yet told"
    said = "; ".join(on.frames.proposal.said) or "floors did not fit"
    return f"It is shed ({rung}): {said}. It comes back by itself when its floor has fitted for a minute."


def _faulty(on: Case) -> str:
    age_s = float(on.frames.image.age_s[on.plan.agent_slot["cap_w"][on.rack]])
    counted = power(float(np.nan_to_num(on.frames.estimate.constant_w[on.rack])))
    if on.frames.estimate.disobedient[on.rack] and age_s <= STALE_AGENT_S:
        drawn = power(float(np.nan_to_num(on.frames.estimate.rack_power_w[on.rack])))
        found = power(float(np.nan_to_num(on.frames.estimate.cap_found_w[on.rack])))
        return f"It does not obey: it draws {drawn} under a cap of {found}. It is counted at {counted}."
    ago = f"last heard {duration(age_s)} ago" if np.isfinite(age_s) else "never heard"
    return f"Its agent is silent ({ago}): no cap reaches it. It is counted at {counted}, what it may still draw."


SPEAK: dict[Reason, Callable[[Case], str]] = {
    Reason.STALE: _stale,
    Reason.PACE: _pace,
    Reason.ROOM: _room,
    Reason.HOLD: _hold,
    Reason.START: _start,
    Reason.FLOOR: _floor,
    Reason.GUARD: _guard,
    Reason.RIDING: _riding,
    Reason.FAULTY: _faulty,
    Reason.LOST: _lost,
    Reason.SHED: _shed,
}
