"""Power and liquid paths as the BMS tells them (`servesId`), held against the site file: differences by name."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from drivers.clock import Clock
from drivers.mqtt.dsx_topics import METADATA
from drivers.site.model import Site

log = logging.getLogger(__name__)

QUIET_S = 3.0  # without news the metadata is complete: it comes retained, in one burst
AGAIN_S = 30.0  # between two comparisons: one takes 0.1 s for the first time at 300 MW
MAX_TOPICS, MAX_NAMES, MAX_NAME = 65_536, 200_000, 128  # what a hostile bus may make us keep
# Object types whose metadata may name what they serve (bms.yaml v1.0.0); racks serve nothing.
SERVING = (
    *("PowerMeter", "UPS", "ATS", "Breaker", "Shunt", "Generator", "BESS"),
    *("CDU", "HX", "CoolingTower", "Chiller", "CRAH", "CRAC", "AHU", "Tank", "Valve", "Pump", "Fan", "GenericObject"),
)


class SitePaths:
    """What feeds what by the site file, electrical and liquid. Ids of all tables are one name space."""

    def __init__(self, site: Site) -> None:
        self.children: dict[str, list[str]] = defaultdict(list)  # a BMS that describes the parent must name these
        self.allowed: dict[str, list[str]] = defaultdict(list)  # it may name these, too
        for node in site.nodes:
            self.children[node.parent].append(node.id)
        for rack in site.racks:
            for above in {rack.pdu_a, rack.pdu_b, rack.cdu}:
                self.children[above].append(rack.id)
        for cdu in site.cdus:
            self.children[cdu.loop].append(cdu.id)
        for unit in site.cooling:
            self.children[unit.id].append(unit.loop)
        feeds = [(above, row.id) for row in site.cdus for above in row.fed_from]
        feeds += [(above, row.id) for row in site.cooling for above in row.fed_from]
        feeds += [(row.node, row.id) for row in site.loads] + [(row.node, row.id) for row in site.storage]
        for above, name in feeds:
            self.allowed[above].append(name)
        for switch in site.switches:
            self.allowed[switch.a].append(switch.b)
            self.allowed[switch.b].append(switch.a)
        self.known = {name for below in (*self.children.values(), *self.allowed.values()) for name in below}
        self.known |= {name for name in (*self.children, *self.allowed) if name}
        self._below: dict[str, set[str]] = {}
        self.parents: dict[str, list[str]] = defaultdict(list)
        for above, below in self.children.items():
            for name in below:
                self.parents[name].append(above)

    def below(self, name: str) -> set[str]:
        """Everything that it may feed, however far down; through switches one step only."""
        if name in self._below:
            return self._below[name]
        found: set[str] = set()
        waiting = [*self.children.get(name, ()), *self.allowed.get(name, ())]
        while waiting:
            at = waiting.pop()
            if at not in found:
                found.add(at)
                waiting += self.children.get(at, ())
                waiting += [c for c in self.allowed.get(at, ()) if name not in self.allowed.get(c, ())]
        self._below[name] = found
        return found


class PathBook:
    """The paths that metadata tells, and what differs from the site file once the bus is quiet."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self.differences: tuple[str, ...] = ()
        self._site, self._clock = site, clock
        self._told: dict[str, tuple[str, frozenset[str]]] = {}  # topic -> object, what it serves
        self._names = 0  # served, in all of them
        self._alias: dict[str, str] = {}  # the BMS's id -> the site's
        self._news_s: float | None = None
        self._next_s = -math.inf
        self._paths: SitePaths | None = None

    def enter(self, topic: str, body: Mapping[str, Any] | None, measures: str = "") -> None:
        """One metadata message; None: it was withdrawn. `measures`: the site's id, where its topic is in the site."""
        before = self._told.get(topic)
        told = _told(body) if body is not None else None
        if told is not None and measures and len(self._alias) < MAX_TOPICS:
            self._alias[told[0]] = measures
        self._names -= len(before[1]) if before is not None else 0
        self._told.pop(topic, None)
        if told is not None and len(self._told) < MAX_TOPICS and self._names + len(told[1]) <= MAX_NAMES:
            self._told[topic] = told
            self._names += len(told[1])
        if self._told.get(topic) != before:
            self._news_s = self._clock.now_s()

    def tick(self) -> None:
        """Compare when the bus has been quiet for a while; every new difference is logged once."""
        now_s = self._clock.now_s()
        if self._news_s is None or now_s - self._news_s < QUIET_S or now_s < self._next_s:
            return
        self._news_s, self._next_s = None, now_s + AGAIN_S
        before, self.differences = set(self.differences), tuple(self._compare())
        for text in self.differences:
            if text not in before:
                log.warning("BMS: %s", text)

    def note(self) -> str:
        """The differences in a few words; empty when there are none."""
        if not self.differences:
            return ""
        more = f" (and {len(self.differences) - 1} more)" if len(self.differences) > 1 else ""
        return f"paths differ from the site file: {self.differences[0]}{more}"

    def _compare(self) -> Iterator[str]:
        paths = self._paths = self._paths or SitePaths(self._site)
        serves: dict[str, set[str]] = defaultdict(set)
        for name, served in self._told.values():
            if served:
                serves[self._alias.get(name, name)] |= {self._alias.get(s, s) for s in served}
        for name in sorted(serves):
            if name in paths.known:
                yield from self._of_one(name, _reached(name, serves, paths.known), paths)

    def _of_one(self, name: str, served: set[str], paths: SitePaths) -> Iterator[str]:
        below = paths.below(name)
        for other in sorted(served - below):
            if other not in paths.known:
                yield f"'{name}' serves '{other}', which is not in the site file"
            else:
                above = ", ".join(f"'{p}'" for p in sorted(paths.parents[other]) if p) or "nothing"
                yield f"'{name}' serves '{other}', which the site file feeds from {above}"

        @cache
        def covered(child: str) -> bool:
            below = paths.children.get(child)
            return child in served or (bool(below) and all(covered(c) for c in below or ()))

        for child in paths.children.get(name, ()):
            if not covered(child):
                yield f"'{name}' feeds '{child}' in the site file, the BMS does not say so"


def _told(body: Mapping[str, Any]) -> tuple[str, frozenset[str]] | None:
    """Object and what it serves; None where the metadata names no object of its own (associateId)."""
    name = body.get("objectId", body.get("rackLocationId"))
    served = body.get("servesId", [])
    if not _is_name(name) or not isinstance(served, list):
        return None
    return str(name), frozenset(s for s in served if _is_name(s))


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_NAME


def _reached(name: str, serves: Mapping[str, set[str]], known: set[str]) -> set[str]:
    """What an object serves, through objects that only the BMS knows; one that leads nowhere counts itself."""
    found: set[str] = set()
    waiting, seen = list(serves[name]), {name}
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        if at not in known and serves.get(at):
            waiting += serves[at]
        else:
            found.add(at)
    return found


def metadata_subscriptions(types: list[str]) -> list[str]:
    """Topics of all metadata that may tell paths, and of `types` besides."""
    return [f"{METADATA}{kind}/#" for kind in dict.fromkeys((*SERVING, *types, "System"))]
