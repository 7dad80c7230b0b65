"""What needs a person now, rolled up: one line a cause, never one a device."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from controller.estimate import STALE_AGENT_S
from controller.frames import Frames, Mode, Reason, Shed
from controller.plan import Plan
from controller.shed import WORDS
from controller.words import count, some
from drivers.points import Quality
from drivers.wires import LinkHealth


def standing(
    plan: Plan, frames: Frames, links: Sequence[LinkHealth], outranked: int = 0, lapsed: Sequence[str] = ()
) -> list[str]:
    """Alarms of this cycle, gravest first; each says what is wrong and what it means.

    `outranked` is the number of racks that obey a higher epoch than ours, `lapsed` the losses that were secured once
    and are not any more.
    """
    image, orders = frames.image, frames.orders
    said = _shed(plan, frames) + _lost(plan, frames) + _exceeded(plan, frames)
    if lapsed:
        said.append(f"no longer secured against {count(len(lapsed), 'loss')}: {some(lapsed)}")
    if outranked:
        said.append(f"{outranked} racks obey another controller (higher epoch): our caps do not reach them")
    riding = np.flatnonzero(image.riding)
    if len(riding):
        names = ", ".join(plan.row_name[i] for i in riding[:3])
        said.append(f"on stored energy or a lying meter: {names}; nothing rises, its load will come back")
    said += _racks(plan, frames, outranked)
    said += _wires(links)
    there = (plan.pump_slot >= 0) & (image.quality[plan.pump_slot] == Quality.GOOD)
    lost = np.flatnonzero(there & (image.value[plan.pump_slot] < 0.5))
    if len(lost):
        names = ", ".join(plan.pump_name[i] for i in lost[:3])
        said.append(f"{len(lost)} of {len(there)} loop pumps not available: {names}")
    bad, doubted = (int((image.quality == q).sum()) for q in (Quality.BAD, Quality.SUSPECT))
    if bad:
        said.append(f"{bad} points report no valid value (sentinel, out of range or refused)")
    if doubted:
        said.append(f"{doubted} points doubted: stuck, contradicted by others, or their device is busy")
    if orders.mode != Mode.LIVE:
        said.append(f"mode is {orders.mode.name}")
    return said


def shed(plan: Plan, frames: Frames) -> dict[str, Any] | None:
    """What is shed now: racks, racks at each rung, the jobs, and for which limits in words; None where nothing is."""
    rungs = frames.orders.shed
    if rungs is None or not rungs.any():
        return None
    racks = np.flatnonzero(rungs)
    return {
        "racks": len(racks),
        "rungs": {WORDS[Shed(int(code))]: int((rungs == code).sum()) for code in np.unique(rungs[racks])},
        "jobs": list(dict.fromkeys(plan.site.racks[r].job or plan.site.racks[r].id for r in racks)),
        "why": list(frames.proposal.said),
    }


def _shed(plan: Plan, frames: Frames) -> list[str]:
    """One line for all that is shed."""
    found = shed(plan, frames)
    if found is None:
        return []
    rungs = ", ".join(f"{number} {rung}" for rung, number in found["rungs"].items())
    why = some(found["why"]) or "floors did not fit"
    return [f"CRITICAL: {count(found['racks'], 'rack')} shed ({rungs}), of {some(found['jobs'])}: {why}"]


def _lost(plan: Plan, frames: Frames) -> list[str]:
    """The elements that are lost; pumps have a line of their own."""
    cases = [plan.losses.cases[case] for case in frames.estimate.lost]
    names = [f"{case.kind.replace('_', ' ')} {case.id}" for case in cases if case.kind != "pump"]
    return [f"lost: {some(names)}; caps are kept to what is left of the building"] if names else []


def _exceeded(plan: Plan, frames: Frames) -> list[str]:
    """Limits that the load exceeds by more than metering error, the worst named."""
    load_w = frames.estimate.load_w
    limit_w = np.maximum(frames.limits.limit_w[: len(load_w)], 1.0)
    over = np.flatnonzero(load_w > limit_w * 1.005)
    if not len(over):
        return []
    worst = over[np.argmax(load_w[over] / limit_w[over])]
    figures = f"{load_w[worst] / 1e6:.2f} of {limit_w[worst] / 1e6:.2f} MW"
    return [f"{len(over)} limit(s) exceeded, worst {plan.row_name[worst]}: {figures}"]


def _racks(plan: Plan, frames: Frames, outranked: int) -> list[str]:
    """What is wrong with racks, a count and its meaning each."""
    orders, age_s = frames.orders, frames.image.age_s[plan.agent_slot["cap_w"]]
    unheeded = 0 if outranked else int(orders.unheeded.sum())
    counts = (
        (
            int((orders.reason == Reason.FLOOR).sum()),
            "at their floors and a limit still does not fit: shed load by hand",
        ),
        (unheeded, "hold a cap that was not ordered: their leases were refused, ran out or were forged"),
        (int(frames.estimate.disobedient.sum()), "draw more than their cap; their share is taken from the others"),
    )
    said = [f"{count} racks {meaning}" for count, meaning in counts if count]
    silent, cut = int((age_s > STALE_AGENT_S).sum()), int((orders.reason == Reason.GUARD).sum())
    if silent:
        said.append(f"{silent} of {len(plan.max_w)} rack agents silent: their caps expire to the safe caps")
    if cut:
        said.append(f"the guard cut the proposal of {cut} racks")
    return said


def _wires(links: Sequence[LinkHealth]) -> list[str]:
    """One line for all wires that are down, one for all silent devices on the others, the worst named; then notes."""
    down = [link for link in links if not link.up]
    ill = sorted((link for link in links if link.up and link.devices_silent), key=lambda link: -link.devices_silent)
    said = []
    if down:
        silent = sum(link.devices_silent for link in down)
        first = ", ".join(link.name for link in down[:3]) + (", .." if len(down) > 3 else "")
        said.append(f"{len(down)} wires down with {silent} devices: {first}; {down[0].detail or 'no answer'}")
    if ill:
        silent = sum(link.devices_silent for link in ill)
        said.append(f"{silent} devices silent on {len(ill)} wires, most on {ill[0].name} {ill[0].detail}".rstrip())
    said += [f"{link.name}: {link.note}" for link in links if link.note]
    return said
