"""Live values of a few points: their devices are polled, or listened to on MQTT, and each change is a line."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from drivers.clock import Clock
from drivers.inventory import AGENT_POINTS
from drivers.listening import Listening
from drivers.points import Quality, Snapshot
from drivers.profile import Profile
from drivers.site.model import Site
from drivers.site.problems import did_you_mean

LOOK_S = 0.1
MOST = 2000  # points
GRACE_S = 3.0  # after so long a point that has never come is said to be so
HINTS = {
    "modbus": "its device does not answer",
    "dsx": "the BMS says it when it changes, or within 100 s",
    "agent": "its agent does not report",
}
AGENT_UNITS = {"power_w": "W", "cap_w": "W"}


class UnknownPointError(ValueError):
    """A pattern that no point of the site has, with the nearest name; or patterns that too many have."""


@dataclass(frozen=True)
class _Spot:
    """One watched point."""

    name: str
    unit: str
    slot: int
    hint: str  # what to know while nothing has come


def choose(
    site: Site, profiles: Mapping[str, Profile], patterns: Sequence[str]
) -> tuple[Site, dict[str, Profile], dict[str, str]]:
    """What must be read for the points that match: the site with their devices alone, their profiles with these
    points polled, and the points' names with their units. UnknownPointError names a pattern that matches nothing.
    """
    units: dict[str, str] = {}
    polled: dict[str, set[str]] = {}
    devices = []
    unmatched = set(patterns)

    def take(name: str, unit: str) -> bool:
        hits = {x for x in patterns if fnmatchcase(name, x)}
        unmatched.difference_update(hits)
        if hits:
            units[name] = unit
        return bool(hits)

    for device in site.devices:
        profile = profiles[device.profile]
        points = profile.points if device.protocol == "modbus_tcp" else profile.polled()
        names = {p.name for p in points if take(f"{device.id}.{p.name}", p.unit)}
        if names:
            devices.append(device)
            polled.setdefault(device.profile, set()).update(names)
    for rack in site.racks:
        for point in AGENT_POINTS:
            take(f"{rack.id}.{point}", AGENT_UNITS.get(point, ""))
    for pattern in sorted(unmatched):
        raise UnknownPointError(_unknown(site, profiles, pattern))
    if len(units) > MOST:
        raise UnknownPointError(f"{len(units)} points match, at most {MOST} can be watched: name fewer")
    return site.model_copy(update={"devices": tuple(devices)}), _polling(profiles, polled), units


def _unknown(site: Site, profiles: Mapping[str, Profile], pattern: str) -> str:
    device, _, point = pattern.partition(".")
    known = {d.id: profiles[d.profile] for d in site.devices}
    if device in known:
        hint = did_you_mean(point, [p.name for p in known[device].points], f"`headroom probe SITE {device}` lists them")
        return f"{device} has no point '{point}'. {hint}"
    hint = did_you_mean(device, [*known, *(r.id for r in site.racks)], "Give DEVICE.POINT, as probe names them")
    return f"no point is named '{pattern}'. {hint}"


def _polling(profiles: Mapping[str, Profile], polled: Mapping[str, set[str]]) -> dict[str, Profile]:
    chosen = {}
    for name, points in polled.items():
        marked = tuple(p.model_copy(update={"poll": p.name in points}) for p in profiles[name].points)
        chosen[name] = profiles[name].model_copy(update={"points": marked})
    return chosen


def _spots(listening: Listening, site: Site, units: Mapping[str, str]) -> list[_Spot]:
    """Slots of the watched points, in the order of the site."""
    spots = []
    for slab in listening.inventory.slabs:
        owners = [d.id for d in slab.devices] or [r.id for r in site.racks]
        protocol = slab.profile.protocol if slab.profile else "agent"
        for row, owner in enumerate(owners):
            for column, point in enumerate(slab.points):
                name = f"{owner}.{point}"
                if name in units:
                    slot = slab.start + row * len(slab.points) + column
                    spots.append(_Spot(name, units[name], slot, HINTS[protocol]))
    return spots


class _Screen:
    """Says a point when its value or quality has changed, at most once in `every_s` [s]."""

    def __init__(self, clock: Clock, say: Callable[[str], object], every_s: float, *, as_json: bool) -> None:
        self._clock, self._say, self._every_s, self._as_json = clock, say, every_s, as_json
        self._begin_s = clock.now_s()
        self._said: dict[str, tuple[float, str, float]] = {}  # value, quality, when it was said

    def show(self, spot: _Spot, shot: Snapshot) -> None:
        """One point, if there is news of it."""
        value, quality = float(shot.value[spot.slot]), Quality(int(shot.quality[spot.slot])).name.lower()
        before = self._said.get(spot.name)
        if before is None:
            if quality == "never" and shot.now_s < self._begin_s + GRACE_S:
                return
        elif (str(value), quality) == (str(before[0]), before[1]) or shot.now_s - before[2] < self._every_s:
            return
        self._said[spot.name] = value, quality, shot.now_s
        self._say(self._line(spot, value, quality, shot.now_s - float(shot.time_s[spot.slot])))

    def _line(self, spot: _Spot, value: float, quality: str, age_s: float) -> str:
        known, dated, wall_ms = math.isfinite(value), math.isfinite(age_s), self._clock.wall_ms()
        if self._as_json:
            body = {"at_ms": wall_ms, "point": spot.name, "value": value if known else None, "unit": spot.unit}
            return json.dumps(body | {"quality": quality, "age_s": round(age_s, 3) if dated else None})
        at = datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone()
        shown = f"{value:.9g} {spot.unit}".rstrip() if known else "-"
        age = f"{age_s:.1f} s old" if dated else spot.hint
        return f"{at:%H:%M:%S}  {spot.name:32} {shown:>20}  {quality:8} {age}".rstrip()


async def watch(
    site: Site,
    profiles: Mapping[str, Profile],
    patterns: Sequence[str],
    clock: Clock,
    say: Callable[[str], object],
    every_s: float,
    for_s: float,
    *,
    as_json: bool,
) -> None:
    """Say each point when its value or quality has changed, at most once in `every_s` [s], for `for_s` [s]."""
    chosen, used, units = choose(site, profiles, patterns)
    modbus = {f"{d.id}." for d in chosen.devices if d.protocol == "modbus_tcp"}
    mqtt = not all(name.startswith(tuple(modbus)) for name in units)
    listening = Listening(chosen, used, clock, mqtt=mqtt)
    spots = _spots(listening, site, units)
    screen = _Screen(clock, say, every_s, as_json=as_json)
    end_s = clock.now_s() + for_s
    await listening.start()
    try:
        while (now_s := clock.now_s()) < end_s:
            shot = listening.snapshot(now_s)
            for spot in spots:
                screen.show(spot, shot)
            await clock.sleep_until(now_s + LOOK_S)
    finally:
        await listening.stop()
