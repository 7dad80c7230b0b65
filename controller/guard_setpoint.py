"""The guard's word on set-points: in LIVE alone, only what the profile lets be written, no warmer than racks bear."""

import math

from controller.frames import Mode
from controller.plan import Plan
from drivers.wires import SetpointCommand

Refused = tuple[tuple[SetpointCommand, str], ...]


def check(plan: Plan, asked: tuple[SetpointCommand, ...], mode: Mode) -> tuple[tuple[SetpointCommand, ...], Refused]:
    """Those that may be written, and the others with the reason."""
    if not asked:
        return (), ()
    judged = [(one, refusal(plan, one, mode)) for one in asked]
    return tuple(one for one, why in judged if not why), tuple((one, why) for one, why in judged if why)


def refusal(plan: Plan, asked: SetpointCommand, mode: Mode) -> str:
    """Why a set-point may not be written, empty when it may."""
    if mode != Mode.LIVE:
        return f"mode is {mode.name}: nothing is written"
    profile = plan.profile_of.get(asked.device)
    if profile is None:
        return f"there is no device {asked.device} on Modbus"
    point = next((p for p in profile.points if p.name == asked.point), None)
    if point is None or point.write is None:
        return f"{profile.name} has no writable point {asked.point}"
    values = [("value", asked.value), *([("value it falls back to", asked.revert[0])] if asked.revert else [])]
    for what, value in values:
        low, high = max(point.write.min, point.min), min(point.write.max, point.max)
        if not (math.isfinite(value) and low <= value <= high):
            return f"{what} {value:g} is outside {low:g} to {high:g} {point.unit}".rstrip()
        warmest_c = plan.site.control.supply_max_c
        if point.unit == "C" and "supply" in point.name.split("_") and value > warmest_c:
            return f"{what} {value:g} C is warmer than the {warmest_c:g} C that the racks accept (control.supply_max_c)"
    if point.write.revert and (asked.revert is None or not asked.revert[1] > 0):
        return "say what it falls back to and after how many seconds: it would stay for ever"
    if asked.revert and not point.write.revert:
        return f"{profile.name} cannot fall back by itself: leave it out"
    return ""
