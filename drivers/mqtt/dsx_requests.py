"""What we may ask of the BMS: points whose metadata names us. It guards them, and reverts when our heartbeat ends."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drivers.clock import Clock
from drivers.mqtt.dsx_topics import HEARTBEAT_S, METADATA, write_topic
from drivers.mqtt.dsx_units import conversion

Publish = Callable[[str, bytes], bool]
MAX_WRITABLE = 4096  # integration points that we note


@dataclass
class Writable:
    """A point that we publish, and what we published last."""

    topic: str  # of its values
    thing: str  # objectId, or rackLocationId
    point_type: str
    unit: str
    said: float | None = None
    said_s: float = -math.inf


class DsxRequests:
    """The integration's own points by discovery. `ask` sends on change, and again as often as heartbeats go."""

    def __init__(self, clock: Clock, publish: Publish, integration: str) -> None:
        self.points: dict[str, Writable] = {}  # metadata topic ->
        self._clock, self._publish, self._integration = clock, publish, integration

    def enter(self, topic: str, body: Mapping[str, Any] | None) -> None:
        """Metadata: note a point that names us, forget one that no longer does."""
        _, _, rest = topic.removeprefix(METADATA).partition("/")
        if body is None or body.get("integration") != self._integration or not rest:
            self.points.pop(topic, None)
            return
        thing, unit = body.get("objectId", body.get("rackLocationId")), body.get("engUnit", "")
        if topic in self.points or len(self.points) < MAX_WRITABLE:
            old, to = self.points.get(topic), write_topic(topic, self._integration)
            point = Writable(to, str(thing), rest.partition("/")[0], str(unit))
            if old is None or (old.thing, old.unit) != (point.thing, point.unit):
                self.points[topic] = point

    def ask(self, thing: str, point_type: str, value: float, unit: str) -> bool:
        """Ask for `value` [unit] at a thing; NaN takes the request back. Call it every cycle while it holds.

        False: the BMS has named no such point for us, names a unit that is not of this kind, or the link is down.
        """
        done = [
            self._ask(p, value, unit) for p in self.points.values() if (p.thing, p.point_type) == (thing, point_type)
        ]
        return bool(done) and all(done)

    def say(self, kind: str, stamp_ms: int) -> bool:
        """Publish a heartbeat at every point of this kind; False where there is none or the link is down."""
        prefix = f"{METADATA}System/{kind}/"
        done = [self._send(p, stamp_ms) for topic, p in self.points.items() if topic.startswith(prefix)]
        return bool(done) and all(done)

    def _ask(self, point: Writable, value: float, unit: str) -> bool:
        found = conversion(point.unit, unit)
        if found is None:
            return False
        factor, shift = found
        wire = None if math.isnan(value) else (value - shift) / factor
        if wire == point.said and self._clock.now_s() - point.said_s < HEARTBEAT_S:
            return True
        if not self._send(point, wire):
            return False
        point.said, point.said_s = wire, self._clock.now_s()
        return True

    def _send(self, point: Writable, value: float | None) -> bool:
        body = {"value": value, "timestamp": self._clock.wall_ms(), "quality": int(value is not None)}
        return self._publish(point.topic, json.dumps(body).encode())
