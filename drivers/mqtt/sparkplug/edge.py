"""Sparkplug B 3.0 edge node: a node and its devices, born, changing by exception, and dying by the book."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from drivers.clock import Clock
from drivers.mqtt.sparkplug.node import SEQS
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
from drivers.mqtt.sparkplug.topics import Place, parse, state_topic
from drivers.points import Floats

Publish = Callable[[str, bytes, bool, int], bool]  # topic, payload, retain, QoS


@dataclass
class _Device:
    """Metrics of a device, with the alias of the first; values as last given and as last published."""

    names: tuple[str, ...]
    first_alias: int
    value: Floats = field(init=False)
    sent: Floats = field(init=False)
    sent_s: float = -math.inf
    alive: bool = True

    def __post_init__(self) -> None:
        self.value = np.full(len(self.names), np.nan)
        self.sent = np.full(len(self.names), np.nan)


class EdgeNode:
    """Node `node` of `group` with `devices` (name -> metric names, all Double; "" is the node itself).

    `will` before each connection, `connected` after it, `receive` for every message, `update` with new values, `tick`
    about once a second. With `host` it speaks only while that host application is online. Values go out on change,
    and all of a device at least every `again_s` [s]: a reader may tell silence from constancy.
    """

    def __init__(
        self,
        group: str,
        node: str,
        devices: Mapping[str, Sequence[str]],
        clock: Clock,
        publish: Publish,
        *,
        host: str = "",
        again_s: float = 1.0,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._group, self._node, self._host, self._again_s = group, node, host, again_s
        self._clock, self._publish = clock, publish
        self._devices: dict[str, _Device] = {}
        alias = 1
        for name, metrics in devices.items():
            self._devices[name] = _Device(tuple(metrics), alias)
            alias += len(metrics)
        self._devices.setdefault("", _Device((), alias))
        self._bd_seq = clock.wall_ms() // 1000 % SEQS  # a restart does not begin with the number of its predecessor
        self._seq = 0
        self._linked = self._born = False
        self._host_ms = -1  # newest STATE of the host
        self._host_online = not host

    @property
    def subscriptions(self) -> list[str]:
        """Commands to the node, and the host's STATE. No metric of ours can be written."""
        return [self._place("NCMD").topic, *([state_topic(self._host)] if self._host else [])]

    def will(self) -> tuple[str, bytes]:
        """Topic and payload of the will (QoS 1, not retained) for the next connection."""
        self._linked = self._born = False
        self._host_ms, self._host_online = -1, not self._host  # here: the host's STATE may come before `connected`
        self._bd_seq = (self._bd_seq + 1) % SEQS
        return self._place("NDEATH").topic, self._death()

    def connected(self) -> None:
        """The link stands: give birth, if the host is there."""
        self._linked = True
        if self._host_online:
            self.birth()

    def die(self) -> None:
        """Say so before an orderly disconnection."""
        if self._born:
            self._publish(self._place("NDEATH").topic, self._death(), False, 1)
        self._born = False

    def birth(self) -> None:
        """NBIRTH, then a DBIRTH for every device that lives; after a request for rebirth the same again."""
        if not self._linked:
            return
        self._seq = SEQS - 1
        own = self._devices[""]
        bd_seq = Metric(BD_SEQ, self._bd_seq, DataType.INT64, stamp_ms=self._clock.wall_ms())
        rebirth = Metric(REBIRTH, False, DataType.BOOLEAN, stamp_ms=self._clock.wall_ms())
        self._born = True
        self._say("NBIRTH", "", [bd_seq, rebirth, *self._metrics(own, range(len(own.names)), with_names=True)])
        self._note_sent(own)
        self.counters["births"] += 1
        for name, device in self._devices.items():
            if name and device.alive:
                self._device_birth(name, device)

    def update(self, device: str, values: Floats) -> None:
        """New values of a device, in the order of its metrics; NaN is null. They go out with the next `tick`."""
        self._devices[device].value[:] = values

    def set_alive(self, device: str, alive: bool) -> None:
        """A device comes (DBIRTH) or goes (DDEATH); the node's own metrics stop."""
        state = self._devices[device]
        if state.alive == alive:
            return
        state.alive = alive
        if not self._born or not device:
            return
        if alive:
            self._device_birth(device, state)
        else:
            self._say("DDEATH", device, [])

    def tick(self) -> None:
        """Publish what has changed, and everything of a device that has been quiet for too long."""
        if not self._born:
            return
        now_s = self._clock.now_s()
        for name, device in self._devices.items():
            again = now_s - device.sent_s >= self._again_s
            with np.errstate(invalid="ignore"):
                changed = (device.value != device.sent) & ~(np.isnan(device.value) & np.isnan(device.sent))
            rows = np.arange(len(device.names)) if again else np.flatnonzero(changed)
            if device.alive and len(rows):
                kind = "DDATA" if name else "NDATA"
                self._say(kind, name, self._metrics(device, rows.tolist(), with_names=False))
                self._note_sent(device)

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Rebirth requests and the host's STATE; what is malformed is counted and changes nothing."""
        if self._host and topic == state_topic(self._host):
            self._host_state(payload)
            return
        if retained or parse(topic) != self._place("NCMD"):  # a command of the past is none
            self.counters["ignored"] += 1
            return
        try:
            asked = decode(payload).value(REBIRTH) is True
        except SparkplugError:
            self.counters["malformed"] += 1
            return
        if asked and self._host_online:
            self.birth()

    def _host_state(self, payload: bytes) -> None:
        """The host comes: give birth. It goes: die, so that its values do not look alive to others."""
        try:
            body = json.loads(payload)
            online, stamp_ms = body["online"], body["timestamp"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.counters["malformed"] += 1
            return
        if not isinstance(online, bool) or type(stamp_ms) is not int or stamp_ms < self._host_ms:
            self.counters["state_ignored"] += 1
            return
        self._host_ms = stamp_ms
        if online and not self._host_online:
            self._host_online = True
            self.birth()
        elif not online and self._host_online:
            self.die()
            self._host_online = False

    def _device_birth(self, name: str, device: _Device) -> None:
        self._say("DBIRTH", name, self._metrics(device, range(len(device.names)), with_names=True))
        self._note_sent(device)

    def _note_sent(self, device: _Device) -> None:
        device.sent[:] = device.value
        device.sent_s = self._clock.now_s()

    def _metrics(self, device: _Device, rows: Sequence[int], *, with_names: bool) -> list[Metric]:
        """Metrics by alias; the data type is sent always, as some decoders drop an alias without it."""
        stamp_ms = self._clock.wall_ms()
        values = device.value.tolist()
        return [
            Metric(
                device.names[i] if with_names else "",
                None if math.isnan(values[i]) else values[i],
                DataType.DOUBLE,
                device.first_alias + i,
                stamp_ms,
                good=not math.isnan(values[i]),
            )
            for i in rows
        ]

    def _say(self, kind: str, device: str, metrics: Sequence[Metric]) -> None:
        """One message with the next sequence number."""
        self._seq = (self._seq + 1) % SEQS
        payload = encode(Message(tuple(metrics), self._clock.wall_ms(), self._seq))
        self.counters["sent" if self._publish(self._place(kind, device).topic, payload, False, 0) else "lost"] += 1

    def _death(self) -> bytes:
        stamp_ms = self._clock.wall_ms()
        return encode(Message((Metric(BD_SEQ, self._bd_seq, DataType.INT64, stamp_ms=stamp_ms),), stamp_ms))

    def _place(self, kind: str, device: str = "") -> Place:
        return Place(self._group, kind, self._node, device)
