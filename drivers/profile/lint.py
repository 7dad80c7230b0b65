"""What is wrong with a profile, in words."""

from collections import Counter
from collections.abc import Iterator

from drivers.profile.model import RAW_RANGE, UNITS, WORDS, Point, Profile


def lint_profile(profile: Profile) -> list[str]:
    """Every problem of a profile in words, empty when it is good."""
    names = Counter(p.name for p in profile.points)
    problems = [f"point {name}: there are {count} of that name" for name, count in names.items() if count > 1]
    for point in profile.points:
        problems += [f"point {point.name}: {text}" for text in _lint_point(profile, point)]
    if profile.protocol == "modbus":
        problems += _lint_registers(profile)
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
    taken = {p.addr + k for p in profile.points if p.fc == 3 for k in range(WORDS[p.type])}
    if profile.keys:
        if taken & {profile.keys.addr, profile.keys.addr + 1}:
            yield f"the keys' registers {profile.keys.addr}..{profile.keys.addr + 1} are a point's, too"
        if profile.keys.expect and profile.keys.shows not in points:
            yield f"the keys show on {profile.keys.shows or 'no point'}: name one of the profile's points"
        yield from (
            f"key {name} is expected but not declared" for name in profile.keys.expect.keys() - profile.keys.keys.keys()
        )
    for what, text in profile.identity.items():
        last = text.addr + text.words - 1
        if not any(b.fc == text.fc and b.first <= text.addr and last <= b.last for b in profile.blocks):
            yield f"identity {what}: registers {text.addr}..{last} lie in no block"


def _lint_point(profile: Profile, p: Point) -> Iterator[str]:
    ending = UNITS.get(p.unit)
    if p.unit and ending is None:
        yield f"unit {p.unit!r} is not one of {', '.join(UNITS)}"
    elif ending and not (p.name + "_").endswith(ending + "_"):
        yield f"a name in {p.unit} ends in {ending}"
    elif not p.unit and any(p.name.endswith(e) for e in UNITS.values()):
        yield "the unit is missing"
    if p.min >= p.max:
        yield f"the range {p.min}..{p.max} is empty"
    if p.write and not p.min <= p.write.min < p.write.max <= p.max:
        yield f"the write limits {p.write.min}..{p.write.max} are not inside the range {p.min}..{p.max}"
    if profile.protocol == "modbus":
        yield from _lint_encoding(profile, p)
    elif p.poll and not p.topic:
        yield "a polled point needs its topic"


def _lint_encoding(profile: Profile, p: Point) -> Iterator[str]:
    width = 16 * WORDS[p.type]
    if p.scale == 0:
        yield "a scale of zero loses the value"
    if any(not 0 <= bit < width for bit in p.bits):
        yield f"a flag bit lies outside its {width} bits"
    if any(not 0 <= raw < 2**width for raw in p.missing):
        yield f"a missing-value word does not fit {width} bits"
    if p.write and p.write.fc == 6 and width != 16:
        yield "function 6 writes one register only"
    if p.write and not p.scale_point and p.scale:
        low, high = RAW_RANGE[p.type]
        raws = [(limit - p.shift) / p.scale for limit in (p.write.min, p.write.max)]
        if not all(low <= raw <= high for raw in raws):
            yield f"the write limits do not fit {p.type}"
    if p.scale_point:
        factor = next((q for q in profile.points if q.name == p.scale_point), None)
        if factor is None or factor.type != "s16" or factor.scale_point:
            yield f"its scale point {p.scale_point} must be a plain s16 point"


def _lint_registers(profile: Profile) -> Iterator[str]:
    if not profile.blocks:
        yield "a Modbus profile needs its blocks"
    for i, b in enumerate(profile.blocks):
        if not 0 <= b.first <= b.last <= 65535:
            yield f"block {b.first}..{b.last} is empty or out of reach"
        yield from (
            f"blocks {b.first}..{b.last} and {o.first}..{o.last} overlap"
            for o in profile.blocks[:i]
            if o.fc == b.fc and o.first <= b.last and b.first <= o.last
        )
    owner: dict[tuple[int, int], str] = {}
    for p in profile.points:
        last = p.addr + WORDS[p.type] - 1
        if not any(b.fc == p.fc and b.first <= p.addr and last <= b.last for b in profile.blocks):
            yield f"point {p.name}: registers {p.addr}..{last} lie in no block"
        if WORDS[p.type] > profile.max_registers:
            yield f"point {p.name}: wider than max_registers {profile.max_registers}"
        for addr in range(p.addr, last + 1):
            other = owner.setdefault((p.fc, addr), p.name)
            if other != p.name:
                yield f"points {other} and {p.name} overlap at {addr}"
                break
    for addr in profile.constants:
        if not any(b.fc == 3 and b.first <= addr <= b.last for b in profile.blocks):
            yield f"constant at {addr} lies in no block"
