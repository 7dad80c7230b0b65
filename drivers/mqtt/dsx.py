"""DSX Exchange: BMS points into the table, metadata first, and heartbeats both ways."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.mqtt.dsx_topics import HEARTBEAT_S, METADATA, REPUBLISH_S, VALUE, point_key, write_topic
from drivers.points import PointTable, Quality
from drivers.profile import Point
from drivers.wires import LinkHealth

MAX_BYTES = 65536  # a metadata message may list a thousand servesId
MAX_VALUE_BYTES = 1024
CLOCK_OFF_S = 600.0  # a source time this old is a wrong clock, not an old value
CLOCK_AHEAD_S = 2.0
BMS_LOST_S = 3.5 * HEARTBEAT_S
MAX_WRITABLE = 4096  # integration points that we note

# (engUnit on the bus, our unit) -> (factor, shift)
CONVERSIONS: dict[tuple[str, str], tuple[float, float]] = {
    ("W", "W"): (1.0, 0.0),
    ("kW", "W"): (1e3, 0.0),
    ("MW", "W"): (1e6, 0.0),
    ("VA", "VA"): (1.0, 0.0),
    ("kVA", "VA"): (1e3, 0.0),
    ("MVA", "VA"): (1e6, 0.0),
    ("C", "C"): (1.0, 0.0),
    ("F", "C"): (5.0 / 9.0, -160.0 / 9.0),
    ("LPM", "L/min"): (1.0, 0.0),
    ("GPM", "L/min"): (3.785411784, 0.0),
    ("%", "%"): (1.0, 0.0),
    ("RPM", "rpm"): (1.0, 0.0),
    ("kPa", "kPa"): (1.0, 0.0),
    ("psi", "kPa"): (6.894757, 0.0),
    ("A", "A"): (1.0, 0.0),
    ("V", "V"): (1.0, 0.0),
    ("Hz", "Hz"): (1.0, 0.0),
}

Publish = Callable[[str, bytes], bool]


@dataclass
class _Wanted:
    """One point that the site reads from the bus."""

    slot: int
    point: Point
    convert: tuple[float, float] | None = None  # None: no usable metadata yet
    early: tuple[tuple[float, int, bool], bool] | None = None  # a reading that came before its metadata


@dataclass
class _Heartbeat:
    """What was last seen and said of heartbeats."""

    bms_ms: int | None = None
    bms_heard_s: float = -math.inf
    echo_heard_s: float = -math.inf  # the BMS echoed a heartbeat of ours
    sent_ms: list[int] = field(default_factory=list)
    next_s: float = -math.inf


class DsxLink:
    """Maps the topics of the site's DSX devices to slots. `receive` is called for every message, `tick` each second."""

    def __init__(
        self, inventory: Inventory, table: PointTable, clock: Clock, publish: Publish, integration: str
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.writable: dict[str, str] = {}  # metadata topic -> where we publish that point's value
        self._table, self._clock, self._publish, self._integration = table, clock, publish, integration
        self._wanted: dict[str, _Wanted] = {}
        self._last_s: dict[str, float] = {}  # device -> last value
        self._device_of: dict[str, str] = {}
        self._heartbeat = _Heartbeat()
        self._rate_per_s, self._rated, self._rated_s = 0.0, 0, clock.now_s()
        types = set()
        for slab in inventory.slabs:
            if slab.profile is None or slab.profile.protocol != "dsx":
                continue
            types.add(slab.profile.object_type)
            for row, device in enumerate(slab.devices):
                self._last_s[device.id] = -math.inf
                for column, point in enumerate(slab.profile.polled()):
                    key = point_key(slab.profile.object_type, point, device.topic)
                    self._wanted[key] = _Wanted(slab.start + row * len(slab.points) + column, point)
                    self._device_of[key] = device.id
        self._types = sorted(types)

    @property
    def subscriptions(self) -> list[str]:
        """Metadata before values, only of the object types that the site reads."""
        types = [*self._types, "System"]
        return [f"{METADATA}{t}/#" for t in types] + [f"{VALUE}{t}/#" for t in types]

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message of the bus; what is foreign or malformed is counted and changes nothing."""
        if topic.startswith(METADATA):
            self._metadata(topic, payload)
        elif topic.startswith(VALUE + "System/"):
            self._system(topic.removeprefix(VALUE), payload, retained)
        elif topic.startswith(VALUE):
            self._value(topic.removeprefix(VALUE), payload, retained)
        else:
            self.counters["foreign"] += 1

    def _metadata(self, topic: str, payload: bytes) -> None:
        key = topic.removeprefix(METADATA)
        wanted = self._wanted.get(key)
        if wanted is None and not key.startswith("System/"):
            self.counters["metadata_unused"] += 1
            return
        body = _object(payload, MAX_BYTES)
        if body is None:
            self.counters["malformed"] += 1
            return
        self.counters["metadata"] += 1
        if body.get("integration") == self._integration and len(self.writable) < MAX_WRITABLE:
            self.writable[topic] = write_topic(topic, self._integration)
        if wanted is not None:
            wanted.convert = _conversion(body, wanted.point)
            if wanted.convert is None:
                self.counters["unit_unknown"] += 1
            elif wanted.early is not None:
                (reading, was_retained), wanted.early = wanted.early, None
                self._take(key, wanted, reading, was_retained)

    def _value(self, key: str, payload: bytes, retained: bool) -> None:
        wanted = self._wanted.get(key)
        if wanted is None:
            self.counters["unused"] += 1
            return
        body = _object(payload, MAX_VALUE_BYTES)
        parsed = _reading(body) if body is not None else None
        if parsed is None:
            self.counters["malformed"] += 1
            return
        if wanted.convert is None:
            self.counters["before_metadata"] += 1
            wanted.early = (parsed, retained)
            return
        self._take(key, wanted, parsed, retained)

    def _take(self, key: str, wanted: _Wanted, reading: tuple[float, int, bool], retained: bool) -> None:
        """Convert, judge and store; a retained value fills only what was never heard, and as STALE."""
        assert wanted.convert is not None
        raw, stamp_ms, good = reading
        value = raw * wanted.convert[0] + wanted.convert[1]
        time_s, quality = self._judge(stamp_ms, good and wanted.point.min <= value <= wanted.point.max)
        table, slot = self._table, wanted.slot
        if retained:
            self.counters["retained"] += 1
            if table.quality[slot] != Quality.NEVER:
                return
            quality = max(quality, Quality.STALE)
        else:
            self._last_s[self._device_of[key]] = self._clock.now_s()
        self.counters["values"] += 1
        table.value[slot] = value
        table.quality[slot] = max(quality, Quality.BAD) if math.isnan(value) else quality
        table.time_s[slot] = time_s

    def _judge(self, stamp_ms: int, good: bool) -> tuple[float, Quality]:
        """Monotonic time and quality: the source's own time, unless its clock cannot be right."""
        now_s = self._clock.now_s()
        age_s = (self._clock.wall_ms() - stamp_ms) / 1000.0
        if not -CLOCK_AHEAD_S <= age_s <= CLOCK_OFF_S:
            self.counters["clock_off"] += 1
            return now_s, Quality.SUSPECT if good else Quality.BAD
        return now_s - max(0.0, age_s), Quality.GOOD if good else Quality.BAD

    def _system(self, key: str, payload: bytes, retained: bool) -> None:
        body = _object(payload, MAX_VALUE_BYTES)
        parsed = _reading(body) if body is not None else None
        if parsed is None or retained or math.isnan(parsed[0]):
            self.counters["system_ignored"] += 1
            return
        beat = self._heartbeat
        if key.startswith("System/HeartbeatTimestampBms/"):
            beat.bms_ms, beat.bms_heard_s = int(parsed[0]), self._clock.now_s()
            self._say("HeartbeatEchoIntegration", beat.bms_ms)
        elif key.startswith("System/HeartbeatEchoBms/") and int(parsed[0]) in beat.sent_ms:
            beat.echo_heard_s = self._clock.now_s()

    def tick(self) -> None:
        """Count the rate, and publish our heartbeat when it is due and the BMS has told where; call once a second."""
        now_s, beat = self._clock.now_s(), self._heartbeat
        total = self.counters["values"]
        if now_s > self._rated_s:
            self._rate_per_s = (total - self._rated) / (now_s - self._rated_s)
            self._rated, self._rated_s = total, now_s
        if now_s < beat.next_s:
            return
        stamp_ms = self._clock.wall_ms()
        if self._say("HeartbeatTimestampIntegration", stamp_ms):
            beat.next_s = now_s + HEARTBEAT_S
            beat.sent_ms = [*beat.sent_ms[-3:], stamp_ms]

    def _say(self, kind: str, value: int) -> bool:
        payload = json.dumps({"value": value, "timestamp": self._clock.wall_ms(), "quality": 1}).encode()
        topics = [to for topic, to in self.writable.items() if topic.startswith(f"{METADATA}System/{kind}/")]
        taken = [self._publish(topic, payload) for topic in topics]
        return bool(taken) and all(taken)

    def health(self, up: bool, detail: str) -> LinkHealth:
        """Down when the broker or the BMS behind it is silent; a device is silent after two missed republications."""
        now_s = self._clock.now_s()
        beat = self._heartbeat
        if up and now_s - beat.bms_heard_s > BMS_LOST_S:
            up, detail = False, "no heartbeat from the BMS"
        elif up and now_s - beat.echo_heard_s > BMS_LOST_S:
            detail = "the BMS does not echo our heartbeat"
        limit_s = 2.5 * REPUBLISH_S
        silent = sum(now_s - last_s > limit_s for last_s in self._last_s.values())
        return LinkHealth("bms", up, len(self._last_s), silent, self._rate_per_s, detail)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _object(payload: bytes, limit: int) -> dict[str, Any] | None:
    """A JSON object, or None for whatever else."""
    if len(payload) > limit:
        return None
    try:
        body = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _reading(body: dict[str, Any]) -> tuple[float, int, bool] | None:
    """(value, source time in ms, good) of a value message, null as NaN; None when it is no value message."""
    value, stamp_ms, quality = body.get("value"), body.get("timestamp"), body.get("quality")
    if type(stamp_ms) is not int or type(quality) is not int or not 0 <= stamp_ms < 2**53:
        return None
    if value is None:
        return math.nan, stamp_ms, False
    if type(value) not in (int, float) or not -1e18 < value < 1e18:
        return None
    return float(value), stamp_ms, quality == 1


def _conversion(body: dict[str, Any], point: Point) -> tuple[float, float] | None:
    """Factor and shift from the unit that the metadata names to the point's; None when it cannot be that point."""
    unit = body.get("engUnit")
    if unit is None:
        return (1.0, 0.0) if not point.unit else None
    return CONVERSIONS.get((unit, point.unit)) if isinstance(unit, str) else None
