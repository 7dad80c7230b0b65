"""DSX Exchange: BMS points into the table, metadata first, and heartbeats both ways."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.mqtt.bms_values import BmsValues, exact, json_object
from drivers.mqtt.dsx_paths import PathBook, metadata_subscriptions
from drivers.mqtt.dsx_requests import DsxRequests
from drivers.mqtt.dsx_topics import HEARTBEAT_S, METADATA, VALUE
from drivers.mqtt.dsx_units import conversion
from drivers.points import PointTable
from drivers.wires import LinkHealth

MAX_TOPIC = 512
MAX_BYTES = 65536  # a metadata message may list a thousand servesId
BMS_LOST_S = 3.5 * HEARTBEAT_S

Publish = Callable[[str, bytes], bool]


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
        self.values = BmsValues(inventory, table, clock)
        self.counters: Counter[str] = self.values.counters
        self.requests = DsxRequests(clock, publish, integration)
        self.paths = PathBook(inventory.site, clock)
        self._clock = clock
        self._heartbeat = _Heartbeat()
        self._rate_per_s, self._rated, self._rated_s = 0.0, 0, clock.now_s()

    @property
    def subscriptions(self) -> list[str]:
        """Metadata of the types that the site reads and of all that tell paths, and heartbeats; values: `values`."""
        return [*metadata_subscriptions(self.values.types), f"{VALUE}System/#"]

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message of the bus; what is foreign or malformed is counted and changes nothing."""
        if topic.startswith(METADATA):
            self._metadata(topic, payload)
        elif topic.startswith(VALUE + "System/"):
            self._system(topic.removeprefix(VALUE), payload, retained)
        elif topic.startswith(VALUE):
            self.values.take([(topic.encode(), payload, retained)])
        else:
            self.counters["foreign"] += 1

    def _metadata(self, topic: str, payload: bytes) -> None:
        key = topic.removeprefix(METADATA)
        wanted = self.values.wanted.get(key)
        body = json_object(payload, MAX_BYTES) if payload else None
        if len(topic) > MAX_TOPIC or (payload and body is None):
            self.counters["malformed"] += 1
            return
        self.counters["metadata" if body is not None else "metadata_withdrawn"] += 1
        self.requests.enter(topic, body)
        self.paths.enter(topic, body, wanted.measures if wanted is not None else "")
        if wanted is not None and body is not None:
            found = conversion(body.get("engUnit"), wanted.point.unit)
            self.counters["unit_unknown"] += found is None
            self.values.convert(key, found)

    def _system(self, key: str, payload: bytes, retained: bool) -> None:
        parsed = exact(payload)
        if parsed is None or retained or math.isnan(parsed[0]):
            self.counters["system_ignored"] += 1
            return
        beat = self._heartbeat
        if key.startswith("System/HeartbeatTimestampBms/"):
            beat.bms_ms, beat.bms_heard_s = int(parsed[0]), self._clock.now_s()
            self.requests.say("HeartbeatEchoIntegration", beat.bms_ms)
        elif key.startswith("System/HeartbeatEchoBms/") and int(parsed[0]) in beat.sent_ms:
            beat.echo_heard_s = self._clock.now_s()

    def tick(self) -> None:
        """Rate, paths, and our heartbeat when it is due and the BMS has told where; call once a second."""
        now_s, beat = self._clock.now_s(), self._heartbeat
        self.paths.tick()
        total = self.counters["values"]
        if now_s > self._rated_s:
            self._rate_per_s = (total - self._rated) / (now_s - self._rated_s)
            self._rated, self._rated_s = total, now_s
        if now_s < beat.next_s:
            return
        stamp_ms = self._clock.wall_ms()
        if self.requests.say("HeartbeatTimestampIntegration", stamp_ms):
            beat.next_s = now_s + HEARTBEAT_S
            beat.sent_ms = [*beat.sent_ms[-3:], stamp_ms]

    def health(self, up: bool, detail: str) -> LinkHealth:
        """Down when the broker or the BMS behind it is silent; a device is silent after two missed republications."""
        now_s = self._clock.now_s()
        beat = self._heartbeat
        if up and now_s - beat.bms_heard_s > BMS_LOST_S:
            up, detail = False, "no heartbeat from the BMS"
        elif up and now_s - beat.echo_heard_s > BMS_LOST_S:
            detail = "the BMS does not echo our heartbeat"
        devices, silent = self.values.silent()
        return LinkHealth("bms", up, devices, silent, self._rate_per_s, detail, self.paths.note())
