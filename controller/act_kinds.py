"""What an act may say: the kinds, what each needs, and which racks it is about."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from controller.frames import Mode
from drivers.site.model import Site
from drivers.site.problems import did_you_mean
from drivers.wires import SetpointCommand

LONGEST_SHELF_S = 7 * 86400.0
TARGETS = ("rack", "job", "node")
LONGEST_NAME = 200
LONGEST_WITHIN_S = 86_400.0
LONGEST_MS = 31 * 86_400_000  # of a curtailment


class ActError(ValueError):
    """An act that cannot be taken; the message says what is wrong and what to do."""


def check(site: Site, act: dict[str, Any]) -> dict[str, Any]:
    """The act itself if the site can take it; ActError otherwise."""
    kind = act.get("act")
    checks = CHECKS.get(kind) if isinstance(kind, str) else None
    if checks is None:
        raise ActError(f"act {kind!r} is not known: give one of {', '.join(CHECKS)}")
    checks(site, act)
    return act


def setpoint_of(act: Mapping[str, Any]) -> SetpointCommand:
    """The set-point that an act asks for; ActError where it is none."""
    numbers = [act.get("value"), *(act.get("revert") or (0.0, 1.0))]
    if len(numbers) != 3 or any(type(x) not in (int, float) or not math.isfinite(x) for x in numbers):
        raise ActError(f"set-point {act.get('value')!r}, reverting to {act.get('revert')!r}: give numbers")
    value, *revert = map(float, numbers)
    names = [act.get(x) for x in ("device", "point")]
    if not all(isinstance(x, str) and x for x in names):
        raise ActError(f"set-point of {names[0]!r}.{names[1]!r}: give a device and a point")
    by, why, number = (printable(act.get(name, "")) for name in ("by", "why", "id"))
    device, point = map(str, names)
    fall_back = (revert[0], revert[1]) if act.get("revert") else None
    return SetpointCommand(device, point, value, fall_back, by, why, number)


def printable(value: object) -> str:
    """Somebody's text as one short line that does nothing to a terminal."""
    return "".join(c for c in str(value)[:80] if c.isprintable())


def racks_of(site: Site, act: Mapping[str, Any]) -> tuple[str, ...]:
    """The racks that an act is about: one, those of a job, or those with a cord below a node; ActError otherwise."""
    given = [key for key in TARGETS if key in act]
    if len(given) != 1:
        raise ActError(f"{act.get('act')}: give one of {', '.join(TARGETS)}")
    key, name = given[0], str(act[given[0]])
    if key == "rack":
        if name not in site.rack_index:
            raise ActError(f"rack {act[key]!r} is not in racks.csv: give an id from there")
        return (name,)
    if key == "job":
        racks = tuple(r.id for r in site.racks if r.job == name)
        if not racks:
            near = did_you_mean(name[:80], {r.job for r in site.racks if r.job}, "Give an id from jobs.csv.")
            raise ActError(f"job {name[:80]!r} has no racks here. {near}")
        return racks
    racks = below(site).get(name, ())
    if not racks:
        near = did_you_mean(name[:80], site.node_index, "Give an id from nodes.csv.")
        raise ActError(f"node {name[:80]!r} has no racks below it. {near}")
    return racks


def target_of(site: Site, name: str) -> dict[str, str]:
    """What a name means: {"rack"|"job"|"node": name}; ActError where nothing has it."""
    if name in site.rack_index:
        return {"rack": name}
    if any(rack.job == name for rack in site.racks):
        return {"job": name}
    if name in site.node_index:
        return {"node": name}
    raise ActError(f"{name!r} is no rack, job or node: give an id from racks.csv, jobs.csv or nodes.csv")


class _Same:
    """A site that hashes by identity: a cache key that costs nothing."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.site is self.site

    def __hash__(self) -> int:
        return id(self.site)


def below(site: Site) -> Mapping[str, tuple[str, ...]]:
    """Racks with a cord below each node; found once."""
    return _below(_Same(site))


@lru_cache(maxsize=4)
def _below(same: _Same) -> dict[str, tuple[str, ...]]:
    """Racks with a cord below each node."""
    site = same.site
    out: dict[str, list[str]] = {}
    for rack in site.racks:
        for node in {*site.ancestors(rack.pdu_a), *site.ancestors(rack.pdu_b)}:
            out.setdefault(node, []).append(rack.id)
    return {node: tuple(racks) for node, racks in out.items()}


def _check_alarm(_: Site, act: Mapping[str, Any]) -> None:
    """An act on an alarm; whether there is such an alarm is known where they stand."""
    _check_name(act, "alarm")
    if "/" not in act["alarm"] and (act["alarm"], act["act"]) != ("all", "ack"):
        raise ActError(f"alarm {act['alarm']!r}: give CODE/ELEMENT as the list of alarms shows it")
    for_s = act.get("for_s", 0)
    if act["act"] == "shelve" and not (type(for_s) in (int, float) and 0 < for_s <= LONGEST_SHELF_S):
        raise ActError(f"shelve for {for_s!r} s: give seconds, more than 0 and at most {LONGEST_SHELF_S:.0f} (a week)")
    if type(act.get("since_ms", 0)) is not int or type(act.get("at_ms", 0)) is not int:
        raise ActError("since_ms and at_ms are whole milliseconds")


def _check_envelope(site: Site, act: Mapping[str, Any]) -> None:
    release = act["act"] == "envelope"
    mw, top = act.get("mw", "?"), site.control.envelope_w / 1e6
    if not (release and mw is None) and not (type(mw) in (int, float) and 0 < mw <= top):
        raise ActError(f"envelope {mw} MW: give more than 0 and at most {top:g} MW" + ", or `release`" * release)
    within_s = act.get("within_s")
    if within_s is not None and not (type(within_s) in (int, float) and 0 < within_s <= LONGEST_WITHIN_S):
        given, fix = str(within_s)[:20], f"give seconds, more than 0 and at most {LONGEST_WITHIN_S:.0f} (a day)"
        raise ActError(f"envelope within {given} s: {fix}, or leave it to the site's ramp")


def _check_curtailment(site: Site, act: Mapping[str, Any]) -> None:
    _check_envelope(site, act)
    begin, end = act.get("from_ms"), act.get("until_ms")
    if not (_is_time(begin) and _is_time(end)):
        raise ActError("curtail: give from_ms and until_ms, times in wall milliseconds")
    assert isinstance(begin, int)
    assert isinstance(end, int)
    if not 0 < end - begin <= LONGEST_MS:
        raise ActError("curtail: it ends after it begins, and lasts at most 31 days")


def _check_name(act: Mapping[str, Any], key: str) -> None:
    name = act.get(key)
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ActError(f"{act.get('act')}: give {key}, the id of one")


def _is_time(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 53


def _check_plan(_: Site, act: Mapping[str, Any]) -> None:
    _check_name(act, "plan")


def _check_mode(_: Site, act: Mapping[str, Any]) -> None:
    if str(act.get("mode")) not in {m.name.lower() for m in Mode}:
        raise ActError(f"mode {act.get('mode')!r}: give one of live, hold, shadow, off")


def _check_priority(site: Site, act: Mapping[str, Any]) -> None:
    if act.get("job") not in {j.id for j in site.jobs}:
        raise ActError(f"job {act.get('job')!r} is not in jobs.csv: give an id from there")
    told = act.get("priority", "?")
    if told is not None and not (type(told) is int and 0 <= told <= 9):
        raise ActError(f"priority {told!r}: give 0 (served first) to 9, or null for the site file's")


def _check_setpoint(site: Site, act: Mapping[str, Any]) -> None:
    setpoint_of(act)
    if act["device"] not in {d.id for d in site.devices}:
        raise ActError(f"device {act['device']!r} is not in devices.csv: give an id from there")


CHECKS: dict[str, Callable[[Site, Mapping[str, Any]], object]] = {
    "envelope": _check_envelope,
    "curtail": _check_curtailment,
    "cancel": _check_plan,
    "mode": _check_mode,
    **dict.fromkeys(("hold", "release", "park", "unpark"), racks_of),
    "priority": _check_priority,
    "setpoint": _check_setpoint,
    **dict.fromkeys(("ack", "shelve", "unshelve", "out_of_service", "in_service"), _check_alarm),
}
