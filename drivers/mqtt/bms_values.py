"""Values of the BMS bus into the point table: thousands of messages at a time, one lookup and one pattern for each."""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.mqtt.dsx_topics import REPUBLISH_S, VALUE, point_key
from drivers.mqtt.judge import judge
from drivers.mqtt.packets import Message
from drivers.points import Floats, Ints, PointTable, Quality
from drivers.profile import Point

Bools = NDArray[np.bool_]
Reading = tuple[float, int, bool]  # value (NaN: none), source time [ms], good

MAX_VALUE_BYTES = 1024
SILENT_S = 2.5 * REPUBLISH_S  # two missed republications

# What nearly every message looks like. Whatever else is read by `exact`, and what this takes, `exact` takes alike: at
# most 9 digits before the point and exponents up to 9 stay below its limit of 1e18.
USUAL = re.compile(
    rb'\{ ?"value" ?: ?(-?(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,20})?(?:[eE](?:\+?0?[0-9]|-[0-9]{1,2}))?)'
    rb' ?, ?"timestamp" ?: ?(0|[1-9][0-9]{0,14}) ?, ?"quality" ?: ?(0|[1-9][0-9]?) ?\}'
)


@dataclass(frozen=True)
class Wanted:
    """A point that the site reads from the bus: its row here, its place in the table."""

    row: int
    device: int
    measures: str  # the site's id of what the device measures
    point: Point


class BmsValues:
    """The live values of the site's DSX points. `take` is called with whatever the stream of values brings.

    A point needs metadata (`convert`) first; its last value from before waits for it. A retained value fills only
    what was never heard, and as STALE.
    """

    def __init__(self, inventory: Inventory, table: PointTable, clock: Clock) -> None:
        self.counters: Counter[str] = Counter()
        self.wanted: dict[str, Wanted] = {}  # topic after PUB/Value/
        self.types: list[str] = []
        self._table, self._clock = table, clock
        slots: list[int] = []
        devices: list[str] = []
        for slab in inventory.slabs:
            if slab.profile is None or slab.profile.protocol != "dsx":
                continue
            self.types.append(slab.profile.object_type)
            for i, device in enumerate(slab.devices):
                for column, point in enumerate(slab.profile.polled()):
                    key = point_key(slab.profile.object_type, point, device.topic)
                    self.wanted[key] = Wanted(len(slots), len(devices), device.measures, point)
                    slots.append(slab.start + i * len(slab.points) + column)
                devices.append(device.id)
        self.types = sorted(set(self.types))
        self._row = {(VALUE + key).encode(): w.row for key, w in self.wanted.items()}
        rows = sorted(self.wanted.values(), key=lambda w: w.row)
        self._slot: Ints = np.array(slots, dtype=np.int64)
        self._device: Ints = np.array([w.device for w in rows], dtype=np.int64)
        self._low: Floats = np.array([w.point.min for w in rows])
        self._high: Floats = np.array([w.point.max for w in rows])
        self._factor: Floats = np.full(len(rows), np.nan)  # NaN: no usable metadata yet
        self._shift: Floats = np.zeros(len(rows))
        self._early: dict[int, tuple[Reading, bool]] = {}
        self._last_s: Floats = np.full(len(devices), -np.inf)

    @property
    def subscriptions(self) -> list[str]:
        """What to subscribe to: values of the object types that the site reads."""
        return [f"{VALUE}{kind}/#" for kind in self.types]

    def take(self, messages: Sequence[Message]) -> None:
        """Enter values; what is foreign or malformed is counted and changes nothing."""
        row_of, usual = self._row.get, USUAL.fullmatch
        rows: list[int] = []
        values: list[float] = []
        stamps: list[int] = []
        good: list[bool] = []
        unused = malformed = 0
        for topic, payload, retained in messages:
            row = row_of(topic)
            if row is None:
                unused += 1
                continue
            found = usual(payload)
            if found is None or retained:
                reading = exact(payload)
                if reading is None:
                    malformed += 1
                    continue
                if retained:
                    self._take_retained(row, reading)
                    continue
                value, stamp, fine = reading
            else:
                value, stamp, fine = float(found[1]), int(found[2]), found[3] == b"1"
            rows.append(row)
            values.append(value)
            stamps.append(stamp)
            good.append(fine)
        self.counters["unused"] += unused
        self.counters["malformed"] += malformed
        if rows:
            self._store(np.array(rows), np.array(values), np.array(stamps), np.array(good))

    def convert(self, key: str, conversion: tuple[float, float] | None) -> None:
        """Factor and shift from the bus to the point's unit, by its metadata; None: it names no usable unit."""
        row = self.wanted[key].row
        self._factor[row], self._shift[row] = conversion or (math.nan, 0.0)
        if conversion is not None and row in self._early:
            (value, stamp, fine), retained = self._early.pop(row)
            columns = np.array([row]), np.array([value]), np.array([stamp]), np.array([fine])
            self._store(*columns, retained=retained)

    def silent(self) -> tuple[int, int]:
        """Devices, and how many of them have missed two republications."""
        return len(self._last_s), int((self._clock.now_s() - self._last_s > SILENT_S).sum())

    def _take_retained(self, row: int, reading: Reading) -> None:
        value, stamp, fine = reading
        self.counters["retained"] += 1
        columns = np.array([row]), np.array([value]), np.array([stamp]), np.array([fine])
        self._store(*columns, retained=True)

    def _store(self, rows: Ints, raw: Floats, stamps: Ints, good: Bools, *, retained: bool = False) -> None:
        """Convert, judge and enter a batch in order; later values of a point win."""
        table, now_s = self._table, self._clock.now_s()
        known = ~np.isnan(self._factor[rows])
        if not known.all():
            self._keep_early(rows, raw, stamps, good, ~known, retained)
            rows, raw, stamps, good = rows[known], raw[known], stamps[known], good[known]
        value = raw * self._factor[rows] + self._shift[rows]
        fits = good & (self._low[rows] <= value) & (value <= self._high[rows])
        time_s, quality, off = judge(self._clock, stamps, fits)
        self.counters["clock_off"] += off
        slot = self._slot[rows]
        if retained:
            first = table.quality[slot] == Quality.NEVER
            slot, value, time_s = slot[first], value[first], time_s[first]
            quality = np.maximum(quality[first], np.uint8(Quality.STALE))
        else:
            self._last_s[self._device[rows]] = now_s
        table.put(slot, value, quality, time_s)
        self.counters["values"] += len(slot)

    def _keep_early(self, rows: Ints, raw: Floats, stamps: Ints, good: Bools, unknown: Bools, retained: bool) -> None:
        for i in np.flatnonzero(unknown).tolist():
            self._early[int(rows[i])] = (float(raw[i]), int(stamps[i]), bool(good[i])), retained
        self.counters["before_metadata"] += int(unknown.sum())


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def json_object(payload: bytes, limit: int) -> dict[str, Any] | None:
    """A JSON object, or None for whatever else."""
    if len(payload) > limit:
        return None
    try:
        body = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def exact(payload: bytes) -> Reading | None:
    """The reading of a value message, null as NaN; None when it is no value message."""
    body = json_object(payload, MAX_VALUE_BYTES)
    if body is None:
        return None
    value, stamp_ms, quality = body.get("value"), body.get("timestamp"), body.get("quality")
    if type(stamp_ms) is not int or type(quality) is not int or not 0 <= stamp_ms < 2**53:
        return None
    if value is None:
        return math.nan, stamp_ms, False
    if type(value) not in (int, float) or not -1e18 < value < 1e18:
        return None
    return float(value), stamp_ms, quality == 1


def usual(payload: bytes) -> Reading | None:
    """The same for the usual form; None also for what only `exact` can read."""
    found = USUAL.fullmatch(payload)
    return (float(found[1]), int(found[2]), found[3] == b"1") if found else None
