"""Sparkplug B 3.0 host application: metrics of the site's edge nodes into the point table."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.mqtt.judge import judge
from drivers.mqtt.sparkplug.node import MAX_HELD, Node
from drivers.mqtt.sparkplug.payload import (
    BD_SEQ,
    REBIRTH,
    DataType,
    Message,
    Metric,
    SparkplugError,
    decode,
    encode,
)
from drivers.mqtt.sparkplug.topics import NAMESPACE, Place, address, parse, state_topic
from drivers.points import PointTable, Quality
from drivers.profile import Point
from drivers.wires import LinkHealth

Publish = Callable[[str, bytes, bool, int], bool]  # topic, payload, retain, QoS
Key = tuple[str, str]  # group, node

REORDER_S = 2.0  # a missing message may still come for so long
GRACE_S = 5.0  # after we come online, nodes that watch our STATE give birth by themselves
REBIRTHS_PER_TICK = 50  # requests; a whole site is born again within a minute or so


class SparkplugHost:
    """Binds metrics to points: a device's `topic` is GROUP/NODE[/DEVICE], a point's the metric's name.

    Engineering value = metric * scale + shift. `receive` is called for every message, `tick` once a second,
    `will` before each connection, `connected` after it. The points of a node that is reported dead are STALE, their
    times unchanged.
    """

    def __init__(self, inventory: Inventory, table: PointTable, clock: Clock, publish: Publish, host: str) -> None:
        self.counters: Counter[str] = Counter()
        self._table, self._clock, self._publish, self._host = table, clock, publish, host
        self._bound: dict[tuple[str, str, str, str], tuple[int, Point]] = {}
        self._slots: dict[tuple[str, str, str], list[int]] = {}  # group, node, device -> slots
        self._nodes: dict[Key, Node] = {}
        self._stamp_ms = clock.wall_ms()  # of our STATE
        self._leaving = False
        self._rate_per_s, self._rated, self._rated_s = 0.0, 0, clock.now_s()
        for slab in inventory.slabs:
            if slab.profile is None or slab.profile.protocol != "sparkplug":
                continue
            for i, device in enumerate(slab.devices):
                place = address(device.topic)
                if place is None:
                    raise ValueError(
                        f"device {device.id}: topic {device.topic!r} is not GROUP/NODE or GROUP/NODE/DEVICE"
                    )
                group, node, name = place
                self._nodes.setdefault((group, node), Node(set())).devices.add(name)
                for column, point in enumerate(slab.profile.polled()):
                    slot = slab.start + i * len(slab.points) + column
                    self._bound[group, node, name, point.topic] = (slot, point)
                    self._slots.setdefault(place, []).append(slot)

    @property
    def wanted(self) -> bool:
        """Whether the site has Sparkplug devices at all."""
        return bool(self._nodes)

    @property
    def subscriptions(self) -> list[str]:
        """Every message of the site's groups, and our own STATE."""
        groups = dict.fromkeys(group for group, _ in self._nodes)
        return [state_topic(self._host), *(f"{NAMESPACE}/{group}/#" for group in groups)]

    def will(self) -> tuple[str, bytes]:
        """Topic and payload of the will (QoS 1, retained) for the next connection."""
        self._leaving, self._stamp_ms = False, self._clock.wall_ms()
        for node in self._nodes.values():  # what we miss meanwhile makes its state unknown
            node.online, node.rebirths = False, 0
        return state_topic(self._host), self._state(False)

    def connected(self) -> None:
        """Say that we are online; nodes that are not born by themselves will be asked to."""
        self._say_state(True)
        for node in self._nodes.values():
            if not node.online:
                node.rebirth_due_s = self._clock.now_s() + GRACE_S

    def leave(self) -> None:
        """Say that we are offline, before an orderly disconnection."""
        self._leaving, self._stamp_ms = True, self._clock.wall_ms()
        self._say_state(False)

    def _say_state(self, online: bool) -> bool:
        return self._publish(state_topic(self._host), self._state(online), True, 1)

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message; what is foreign or malformed is counted and changes nothing."""
        if topic == state_topic(self._host):
            self._own_state(payload)
            return
        place = parse(topic)
        node = self._nodes.get((place.group, place.node)) if place is not None else None
        if place is None or node is None or place.kind.endswith("CMD"):
            self.counters["unused"] += 1
        elif retained:  # births, deaths and data are never retained: this one is of the past
            self.counters["retained"] += 1
        else:
            try:
                self._take(place, node, payload)
            except SparkplugError:
                self.counters["malformed"] += 1

    def tick(self) -> None:
        """Give up waiting for missing messages, and ask for the rebirths that are due."""
        now_s, budget = self._clock.now_s(), REBIRTHS_PER_TICK
        if any(not node.online and node.rebirth_due_s <= now_s for node in self._nodes.values()):
            self._say_state(True)  # a node that has missed it waits for it, and hears no request before
        for (group, name), node in self._nodes.items():
            if now_s - node.gap_since_s > REORDER_S:
                self._give_up_gap(Place(group, "", name), node)
            if node.rebirth_due_s <= now_s and budget:
                budget -= 1
                if self._ask_rebirth(group, name):
                    node.asked(now_s)
        total = self.counters["values"]
        if now_s > self._rated_s:
            self._rate_per_s = (total - self._rated) / (now_s - self._rated_s)
            self._rated, self._rated_s = total, now_s

    def health(self, up: bool, detail: str) -> LinkHealth:
        """The broker's link; a device is silent while its node has not been born, or has died."""
        places = list(self._slots)
        silent = sum(self._silent(*place) for place in places)
        return LinkHealth("sparkplug", up, len(places), silent, self._rate_per_s, detail)

    def _silent(self, group: str, node: str, device: str) -> bool:
        known = self._nodes[group, node]
        return not known.online or device not in known.types

    def _take(self, place: Place, node: Node, payload: bytes) -> None:
        now_s = self._clock.now_s()
        if place.kind == "NDEATH":
            self._node_died(place, node, decode(payload))
        elif place.kind == "NBIRTH":
            message = decode(payload)
            if message.seq is None:
                raise SparkplugError("a birth without seq")
            if not node.online or message.value(BD_SEQ) != node.bd_seq:  # another connection: devices come after it
                for device in node.devices:
                    self._stale((place.group, place.node, device))
            node.born(message)
            self.counters["births"] += 1
            self._enter(place, node, message)
        elif not node.online:
            self.counters["before_birth"] += 1
            if math.isinf(node.rebirth_due_s):
                node.want_rebirth(now_s)
        else:
            self._in_order(place, node, payload)

    def _in_order(self, place: Place, node: Node, payload: bytes) -> None:
        """Apply a message if it is the next one; keep it for a while if one before it is missing."""
        message = decode(payload, node.types.get(place.device))
        if message.seq is None or not 0 <= message.seq <= 255:
            raise SparkplugError("no sequence number")
        if not node.is_next(message.seq):
            self.counters["out_of_order"] += 1
            if math.isinf(node.gap_since_s):
                node.gap_since_s = self._clock.now_s()
            node.held[message.seq] = (place.kind, place.device, payload)
            if len(node.held) > MAX_HELD:
                self._give_up_gap(place, node)
            return
        node.seq = message.seq
        self._apply(place, node, message)
        while node.held and (node.seq + 1) % 256 in node.held:
            node.seq = (node.seq + 1) % 256
            self._apply_held(place, node, node.held.pop(node.seq))
        if not node.held:
            node.gap_since_s = math.inf

    def _give_up_gap(self, place: Place, node: Node) -> None:
        """What was missing is lost: apply the rest, and have the node say everything again."""
        self.counters["gaps"] += 1
        held = sorted(node.held.items(), key=lambda item: (item[0] - node.seq) % 256)
        node.held, node.gap_since_s = {}, math.inf
        for seq, message in held:
            node.seq = seq
            self._apply_held(place, node, message)
        node.want_rebirth(self._clock.now_s())

    def _apply_held(self, place: Place, node: Node, held: tuple[str, str, bytes]) -> None:
        kind, device, payload = held
        try:
            message = decode(payload, node.types.get(device))
        except SparkplugError:  # it could be read when it was kept
            self.counters["malformed"] += 1
            return
        self._apply(Place(place.group, kind, place.node, device), node, message)

    def _apply(self, place: Place, node: Node, message: Message) -> None:
        if place.kind == "DDEATH":
            node.types.pop(place.device, None)
            self._stale((place.group, place.node, place.device))
            return
        if place.kind == "DBIRTH":
            if place.device not in node.devices:
                self.counters["unused"] += 1
                return
            node.learn(place.device, message)
        elif place.device not in node.types:
            if place.device in node.devices:  # data of a device whose birth we missed
                self.counters["before_birth"] += 1
                node.want_rebirth(self._clock.now_s())
            return
        self._enter(place, node, message)

    def _enter(self, place: Place, node: Node, message: Message) -> None:
        """The metrics of a birth or of data into the table."""
        slots: list[int] = []
        rows: list[tuple[float, float, bool]] = []
        for metric in message.metrics:
            name = node.name_of(place.device, metric)
            if name is None:
                self.counters["unknown_alias"] += 1
                node.want_rebirth(self._clock.now_s())
                continue
            bound = self._bound.get((place.group, place.node, place.device, name))
            if bound is None or metric.historical:
                known = name in node.types[place.device]
                self.counters["historical" if bound else "unused_metrics" if known else "unknown_metrics"] += 1
                continue
            slots.append(bound[0])
            stamp = metric.stamp_ms if metric.stamp_ms is not None else message.stamp_ms
            rows.append(_reading(metric, stamp, bound[1]))
        if slots:
            self._store(slots, rows)

    def _store(self, slots: Sequence[int], rows: Sequence[tuple[float, float, bool]]) -> None:
        value, stamps, fits = (np.array(column) for column in zip(*rows, strict=True))
        time_s, quality, off = judge(self._clock, stamps, fits)
        self._table.put(np.array(slots), value, quality, time_s)
        self.counters["clock_off"] += off
        self.counters["values"] += len(slots)

    def _node_died(self, place: Place, node: Node, message: Message) -> None:
        """NDEATH; one that belongs to an earlier connection of the node is ignored."""
        if not node.online or message.value(BD_SEQ) != node.bd_seq:
            self.counters["old_deaths"] += 1
            return
        node.online = False
        self.counters["deaths"] += 1
        for device in node.devices:
            self._stale((place.group, place.node, device))

    def _stale(self, place: tuple[str, str, str]) -> None:
        slots = np.array(self._slots.get(place, []), dtype=np.int64)
        heard = slots[self._table.quality[slots] < Quality.STALE]
        self._table.quality[heard] = Quality.STALE

    def _ask_rebirth(self, group: str, node: str) -> bool:
        self.counters["rebirths_asked"] += 1
        stamp = self._clock.wall_ms()
        request = Message((Metric(REBIRTH, True, DataType.BOOLEAN, stamp_ms=stamp),), stamp)
        return self._publish(Place(group, "NCMD", node).topic, encode(request), False, 0)

    def _state(self, online: bool) -> bytes:
        return json.dumps({"online": online, "timestamp": self._stamp_ms}).encode()

    def _own_state(self, payload: bytes) -> None:
        """Somebody, or our own late will, says that we are offline: contradict it."""
        try:
            body = json.loads(payload)
            gone = not self._leaving and body["online"] is False and body["timestamp"] >= self._stamp_ms
        except (ValueError, KeyError, TypeError, RecursionError):
            self.counters["malformed"] += 1
            return
        if gone:
            self._stamp_ms = self._clock.wall_ms()
            self.counters["state_contradicted"] += 1
            self._say_state(True)


def _reading(metric: Metric, stamp_ms: int | None, point: Point) -> tuple[float, float, bool]:
    """(value, source time in ms, good) in the point's unit; NaN where there is no number."""
    raw = float(metric.value) if isinstance(metric.value, (int, float)) else math.nan
    value = raw * point.scale + point.shift
    stamp = float(stamp_ms) if stamp_ms is not None else math.inf  # no time: as a clock that is off
    if not math.isfinite(value):
        return math.nan, stamp, False
    return value, stamp, metric.good and point.min <= value <= point.max
