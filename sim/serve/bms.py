"""The plant's BMS on the DSX Exchange bus: which points it shows, when each is due, heartbeats."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.clock import Clock
from drivers.mqtt.dsx_topics import HEARTBEAT_S, METADATA, VALUE, write_topic
from drivers.profile import Profile
from drivers.site.model import Site
from sim.serve.bms_objects import BmsPoint, Group, bms_groups, system_points
from sim.serve.bms_requests import OnRequest, Requests

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Publish = Callable[[str, bytes, bool], bool]

FACILITY_PER_S = 80.0  # changes of facility points, beside the racks' 170 a second for 17,000 points
RACK_PER_S = 190.0
BURST_PER_S = 800.0  # facility points that a newcomer waits for
METADATA_PER_S = 600.0
FACILITY_GAP_S = 0.9  # shortest time between two values of a point
RACK_GAP_S = 20.0
FACILITY_REPUBLISH_S = 30.0
RACK_REPUBLISH_S = 95.0
NEWCOMER_S = 3 * HEARTBEAT_S
DEADBANDS = {"W": 0.005, "VA": 0.005, "L/min": 0.005, "C": 0.1, "%": 0.5, "": 0.5}  # W, VA and L/min: of the value
RELATIVE = ("W", "VA", "L/min")


@dataclass
class Pace:
    """A budget of messages: so many a second, at most one second's worth saved up."""

    per_s: float
    saved: float = 0.0

    def grant(self, passed_s: float) -> int:
        """Messages allowed now."""
        self.saved = min(self.saved + self.per_s * passed_s, max(1.0, self.per_s))
        return int(self.saved)

    def spend(self, number: int) -> None:
        """Take from the budget."""
        self.saved -= number


class Bms:
    """Publishes the points of `groups` through `publish(topic, payload, retain)`.

    Metadata first, retained, again after every connection; values on change beyond a deadband, each point again
    within 100 s. NaN is published as null with quality 0.
    """

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        clock: Clock,
        publish: Publish,
        on_request: OnRequest = lambda _cdu, _supply_c: None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.groups: dict[str, Group] = bms_groups(site, profiles)
        self._clock, self._publish, self._integration = clock, publish, site.mqtt.integration
        self._system = system_points(site)
        self.requests = Requests(site, on_request)
        points = [point for group in self.groups.values() for point in group.points]
        self._topics = [VALUE + point.key for point in points]
        self._points = points
        n = len(points)
        self._value: Floats = np.full(n, np.nan)
        self._fresh: Bools = np.zeros(n, dtype=np.bool_)  # the plant has given a value, be it NaN
        self._sent: Floats = np.full(n, np.nan)
        self._sent_s: Floats = np.full(n, -np.inf)
        self._told: Bools = np.zeros(n, dtype=np.bool_)  # metadata is out: values may follow
        self._factor: Floats = np.array([point.factor for point in points])
        self._deadband: Floats = np.array([DEADBANDS.get(point.unit, 0.0) for point in points])
        self._relative: Bools = np.array([point.unit in RELATIVE for point in points], dtype=np.bool_)
        self._state: Bools = np.array([not point.unit for point in points], dtype=np.bool_)
        self._rack: Bools = np.array([point.slow for point in points], dtype=np.bool_)
        self._gap_s: Floats = np.where(self._rack, RACK_GAP_S, FACILITY_GAP_S)
        self._again_s: Floats = np.where(self._rack, RACK_REPUBLISH_S, FACILITY_REPUBLISH_S)
        self._paces = {False: Pace(FACILITY_PER_S), True: Pace(RACK_PER_S)}
        self._metadata_pace = Pace(METADATA_PER_S)
        self._burst = Pace(BURST_PER_S)
        self._metadata: Iterator[tuple[int, BmsPoint]] = iter(())
        self._last_tick_s = clock.now_s()
        self._heartbeat_s = -math.inf
        self._integration_s = -math.inf  # last heartbeat of our integration

    @property
    def subscription(self) -> str:
        """What integrations say."""
        return f"BMS/v1/{self._integration}/Value/#"

    @property
    def integration_heard_s(self) -> float:
        """When the controller's last heartbeat came [s]; minus infinity if never."""
        return self._integration_s

    def update(self, values: Mapping[str, Floats]) -> None:
        """New truth: per group of `groups` an array [objects, points] in the profile's units.

        KeyError on an unknown group, ValueError on a wrong shape.
        """
        for name, array in values.items():
            group = self.groups[name]
            if array.shape != group.shape:
                raise ValueError(f"{name}: shape {array.shape}, expected {group.shape}")
            self._value[group.start : group.stop] = array.ravel()
            self._fresh[group.start : group.stop] = True

    def connected(self) -> None:
        """Begin again with the metadata: the broker may have lost it."""
        for point in (*self._system, *self.requests.points.values()):
            self._publish(METADATA + point.key, point.metadata, True)
        self._metadata = iter(enumerate(self._points))
        self._told[:] = False
        self._sent_s[:] = -np.inf
        self._heartbeat_s = -math.inf

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Hear an integration's heartbeat and echo it; a newcomer gets every facility point at once. Take requests."""
        if not retained and self.requests.take(topic, payload):
            return
        stamp_ms = heartbeat_value(payload)
        expected = write_topic(METADATA + self._system_key("HeartbeatTimestampIntegration"), self._integration)
        if retained or stamp_ms is None or topic != expected:
            self.counters["integration_echoes" if "/HeartbeatEchoIntegration/" in topic else "integration_other"] += 1
            return
        now_s = self._clock.now_s()
        if now_s - self._integration_s > NEWCOMER_S:
            self._sent_s[~self._rack] = -np.inf
        self._integration_s = now_s
        self._say(self._system_key("HeartbeatEchoBms"), stamp_ms)

    def tick(self) -> None:
        """Publish what is due and within the pace; call a few times a second."""
        now_s = self._clock.now_s()
        passed_s, self._last_tick_s = now_s - self._last_tick_s, now_s
        self._send_metadata(passed_s)
        if now_s - self._integration_s > NEWCOMER_S:
            self.requests.revert()
        if now_s - self._heartbeat_s >= HEARTBEAT_S:
            self._heartbeat_s = now_s
            self._say(self._system_key("HeartbeatTimestampBms"), self._clock.wall_ms())
        due = self._due(now_s)
        first = due & ~self._rack & ~np.isfinite(self._sent_s)
        self._send_values(np.flatnonzero(first), self._burst, passed_s, now_s)
        for rack, pace in self._paces.items():
            self._send_values(np.flatnonzero(due & ~first & (self._rack == rack)), pace, passed_s, now_s)

    def _due(self, now_s: float) -> Bools:
        """Points that have changed, or are silent for too long."""
        age_s = now_s - self._sent_s
        band = np.where(self._relative, self._deadband * np.maximum(np.abs(self._sent), 100.0), self._deadband)
        changed = (np.abs(self._value - self._sent) > band) | (np.isnan(self._value) != np.isnan(self._sent))
        due: Bools = self._told & self._fresh & ((changed & (age_s >= self._gap_s)) | (age_s >= self._again_s))
        return due

    def _send_values(self, due: NDArray[np.int64], pace: Pace, passed_s: float, now_s: float) -> None:
        """Send states first, then what waits longest, as far as the pace allows."""
        allowed = pace.grant(passed_s)
        if len(due) > allowed:
            due = due[np.lexsort((self._sent_s[due], ~self._state[due]))][:allowed]
        stamp_ms = self._clock.wall_ms()
        wire = self._value[due] * self._factor[due]
        for i, value in zip(due.tolist(), wire.tolist(), strict=True):
            self._publish(self._topics[i], value_payload(value, stamp_ms), False)
        self._sent[due] = self._value[due]
        self._sent_s[due] = now_s
        pace.spend(len(due))
        self.counters["values"] += len(due)

    def _send_metadata(self, passed_s: float) -> None:
        for _ in range(self._metadata_pace.grant(passed_s)):
            following = next(self._metadata, None)
            if following is None:
                return
            i, point = following
            self._publish(METADATA + point.key, point.metadata, True)
            self._told[i] = True
            self._metadata_pace.spend(1)
            self.counters["metadata"] += 1

    def _system_key(self, kind: str) -> str:
        return next(point.key for point in self._system if point.key.startswith(f"System/{kind}/"))

    def _say(self, key: str, value: int) -> None:
        stamp = {"value": value, "timestamp": self._clock.wall_ms(), "quality": 1}
        self._publish(VALUE + key, json.dumps(stamp, separators=(",", ":")).encode(), False)


def value_payload(value: float, stamp_ms: int) -> bytes:
    """A value message; NaN becomes null with quality 0."""
    if math.isnan(value):
        return b'{"value":null,"timestamp":%d,"quality":0}' % stamp_ms
    return b'{"value":%.7g,"timestamp":%d,"quality":1}' % (value, stamp_ms)


def heartbeat_value(payload: bytes) -> int | None:
    """The stamp of a heartbeat message in ms, None if it is none."""
    if len(payload) > 1024:
        return None
    try:
        body = json.loads(payload)
        value = body["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return int(value) if type(value) in (int, float) and 0 <= value < 2**53 else None
