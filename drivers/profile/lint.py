"""What is wrong with a profile, in words."""

import re
from collections import Counter
from collections.abc import Iterator

from drivers.profile.lint_wire import lint_encoding, lint_registers
from drivers.profile.model import UNITS, Point, Profile

BOUNDS = {  # unit -> what can be at all
    "K": (0.0, 1e4),
    "C": (-273.15, 3000.0),
    "Hz": (-1000.0, 1000.0),
    "%": (-1000.0, 65535.0),
    "deg": (-360.0, 360.0),
    "V": (-1e6, 1e6),
    "A": (-1e6, 1e6),
    "W": (-1e10, 1e10),
    "VA": (-1e10, 1e10),
    "var": (-1e10, 1e10),
    "kPa": (-1e5, 1e5),
    "Pa": (-1e8, 1e8),
    "L/min": (-1e8, 1e8),
    "rpm": (-1e6, 1e6),
}
QUANTITIES = {"volt", "voltage", "current", "power", "temperature", "temp", "flow", "pressure", "energy", "speed"}
NUMBERS = {"factor", "factor10", "flags", "status", "state", "enable", "mode", "count"}  # these have no unit


def lint_profile(profile: Profile) -> list[str]:
    """Every problem of a profile in words, empty when it is good."""
    names = Counter(p.name for p in profile.points)
    problems = [f"point {name}: there are {count} of that name" for name, count in names.items() if count > 1]
    for point in profile.points:
        problems += [f"point {point.name}: {text}" for text in _lint_point(profile, point)]
    if not profile.source.strip():
        problems.append("it does not say where it is from: give the source")
    if profile.protocol == "modbus":
        problems += lint_registers(profile)
        problems += _lint_commands(profile)
    return problems


def _lint_commands(profile: Profile) -> Iterator[str]:
    points = {p.name: p for p in profile.points}
    for p in profile.points:
        revert = p.write.revert if p.write else None
        for name in (revert.value, revert.timer, *([revert.enable] if revert.enable else [])) if revert else ():
            if name not in points or points[name].write is None:
                yield f"point {p.name}: its revert names {name}, which is no writable point"
        if revert and revert.timer in points and points[revert.timer].unit != "s":
            yield f"point {p.name}: its revert timer {revert.timer} is not in s"
    taken = {a for p in profile.points if p.fc == 3 and not p.model for a in p.places}
    if profile.keys:
        if taken & {profile.keys.addr, profile.keys.addr + 1}:
            yield f"the keys' registers {profile.keys.addr}..{profile.keys.addr + 1} are a point's, too"
        if profile.keys.expect and profile.keys.shows not in points:
            yield f"the keys show on {profile.keys.shows or 'no point'}: name one of the profile's points"
        yield from (
            f"key {name} is expected but not declared" for name in profile.keys.expect.keys() - profile.keys.keys.keys()
        )
    for what, text in profile.identity.items():
        places = range(text.addr, text.addr + text.words)
        if not any(b.holds(text.fc, text.model, places) for b in profile.blocks):
            yield f"identity {what}: registers {places[0]}..{places[-1]} lie in no block"


def _lint_point(profile: Profile, p: Point) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", p.name):
        yield "a name is of lower-case letters, digits and _"
    yield from _lint_unit(p)
    yield from _lint_range(p)
    yield from _lint_words(p)
    if profile.protocol == "modbus":
        yield from lint_encoding(profile, p)
    elif p.poll and not p.topic:
        yield "a polled point needs its topic"


def _lint_unit(p: Point) -> Iterator[str]:
    ending = UNITS.get(p.unit)
    if p.unit and ending is None:
        yield f"unit {p.unit!r} is not one of {', '.join(UNITS)}"
    elif ending and not (p.name + "_").endswith(ending + "_"):
        yield f"a name in {p.unit} ends in {ending}"
    elif not p.unit and not p.bits and not p.states and p.type != "bit":
        parts = p.name.split("_")
        named = QUANTITIES & set(parts) and not NUMBERS & set(parts)
        if named or any(p.name.endswith(e) for e in UNITS.values()):
            yield "the unit is missing"


def _lint_range(p: Point) -> Iterator[str]:
    low, high = BOUNDS.get(p.unit, (float("-inf"), float("inf")))
    if p.min >= p.max:
        yield f"the range {p.min}..{p.max} is empty"
    elif max(p.min, low) >= min(p.max, high) or any(
        abs(end) != float("inf") and not low <= end <= high for end in (p.min, p.max)
    ):
        yield f"the range {p.min}..{p.max} {p.unit} cannot be: nothing lies outside {low:g}..{high:g}"
    if p.poll and p.unit and not (p.min > float("-inf") and p.max < float("inf")):
        yield "a polled point with a unit needs its range, min and max"
    if p.write and not p.min <= p.write.min < p.write.max <= p.max:
        yield f"the write limits {p.write.min}..{p.write.max} are not inside the range {p.min}..{p.max}"


def _lint_words(p: Point) -> Iterator[str]:
    """Names of bits and states: each once, and only where there are bits and states."""
    for what, named in (("bit", p.bits), ("state", p.states)):
        twice = sorted(name for name, count in Counter(named.values()).items() if count > 1)
        yield from (f"{what} name {name} is given twice" for name in twice)
        if named and (p.unit or p.scale != 1 or p.shift or p.scale_point or p.type[0] == "f" or p.type == "bit"):
            yield f"{what} names belong to a plain whole number without unit, scale and shift"
    yield from (f"state {value} is outside the range" for value in p.states if not p.min <= value <= p.max)
    if p.bits and p.states:
        yield "it has bits or states, not both"
