"""A recording as the wires that it was made of: entries in, snapshots of every point out. Virtual time.

Register images are rebuilt from requests and replies alone; where SunSpec models are is learned from the replies,
which begin with the model's id and length.
"""

import struct
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.capture.tape import Entry, Exchange, Header, Message
from drivers.clock import VirtualClock
from drivers.codec import Codec, compile_codec
from drivers.inventory import Slab, compile_inventory
from drivers.lease import compile_groups
from drivers.listening import Ears
from drivers.modbus import frame
from drivers.modbus.sunspec import END, Model
from drivers.mqtt.dsx import DsxLink
from drivers.mqtt.leases import LeaseLink
from drivers.points import Floats, Ints, PointTable, Qualities, Quality, Snapshot
from drivers.profile import BITS, Profile
from drivers.site.model import Site
from drivers.wires import Command, LinkHealth

READ = 6  # bytes of a read request: unit, function, address, count
STATES = {"good": Quality.GOOD, "suspect": Quality.SUSPECT, "bad": Quality.BAD}


class SlabPlayback:
    """Devices of one profile: registers as they came [devices, registers], with time [s] and quality of each."""

    def __init__(self, slab: Slab, profile: Profile) -> None:
        self.slab, self.profile = slab, profile
        self._codec: Codec = compile_codec(profile)
        shape = (slab.rows, self._codec.width)
        self._raw: NDArray[np.uint16] = np.zeros(shape, dtype=">u2")
        self._bytes = self._raw.view(np.uint8)
        self._time_s: Floats = np.full(shape, -np.inf)
        self._state = np.zeros(shape, dtype=np.uint8)
        self._models: list[dict[int, Model]] = [{} for _ in range(slab.rows)]
        self._columns = self._columns_of_points()

    def _columns_of_points(self) -> NDArray[np.intp]:
        """Columns that each polled point and its power of ten stand in, [points, most], the first repeated."""
        found = []
        for point in self._codec.points:
            both = (point, self.profile.point(point.scale_point)) if point.scale_point else (point,)
            found.append([self._codec.column(p.fc, a, p.model) for p in both for a in p.places])
        most = max(map(len, found))
        return np.array([columns + columns[:1] * (most - len(columns)) for columns in found], dtype=np.intp)

    def take(self, row: int, entry: Exchange) -> None:
        """Enter one exchange of a device; what is no read of the profile's blocks changes nothing."""
        if len(entry.request) != READ or entry.request[1] not in (*BITS, frame.READ_HOLDING, frame.READ_INPUT):
            return
        fc, addr, count = struct.unpack(">BHH", entry.request[1:])
        data = entry.reply[3:]
        good = entry.quality == "good" and len(data) == frame.read_size(fc, count)
        if good and fc == frame.READ_HOLDING:
            self._learn(row, addr, data)
        first = self._column(row, fc, addr)
        if first is None or entry.quality == "silent":
            return
        span = slice(first, min(first + (frame.read_size(fc, count) + 1) // 2, self._codec.width))
        if good:
            begin = 2 * first
            self._bytes[row, begin : begin + len(data)] = np.frombuffer(data, np.uint8)[: 2 * (span.stop - first)]
            self._time_s[row, span] = entry.t_s
        self._state[row, span] = STATES.get(entry.quality, Quality.BAD) if good or entry.reply else Quality.BAD

    def _learn(self, row: int, addr: int, data: bytes) -> None:
        """Where a SunSpec model is, from a reply that begins with its id; models that have moved are forgotten."""
        if not self.profile.models or len(data) < 4:
            return
        known = self._models[row]
        model, length = struct.unpack(">2H", data[:4])
        there = next((m for m, at in known.items() if at.base <= addr < at.base + at.length + 2), 0)
        if there and addr == known[there].base and model != there:
            known.clear()
            there = 0
        if not there and model in self.profile.models:
            known[model] = Model(addr, length)
        if model == END and len(data) == 4 and known:  # the chain ends: what was not in it is not there
            for block in self.profile.blocks:
                if block.model and block.model not in known:
                    first = self._codec.column(block.fc, block.first, block.model)
                    self._state[row, first : first + block.last - block.first + 1] = Quality.BAD

    def _column(self, row: int, fc: int, addr: int) -> int | None:
        """Image column of a wire address, or None where the profile has none."""
        places = [(addr, 0)]
        if fc == frame.READ_HOLDING:
            places += [
                (addr - at.base, m) for m, at in self._models[row].items() if 0 <= addr - at.base < at.length + 2
            ]
        for where, model in places:
            try:
                return self._codec.column(fc, where, model)
            except KeyError:
                continue
        return None

    def collect(self, table: PointTable) -> None:
        """Decode all devices into the table, as the reader does: a value is as old as the oldest of its registers."""
        value, bad = self._codec.decode(self._raw.astype(np.uint16))
        time_s: Floats = self._time_s[:, self._columns].min(axis=2)
        state = self._state[:, self._columns].max(axis=2)
        quality = np.maximum(state, np.where(bad, np.uint8(Quality.BAD), np.uint8(Quality.GOOD)))
        never = np.isneginf(time_s)
        value[never] = np.nan
        quality[never & (state < Quality.BAD)] = Quality.NEVER
        table.put(slice(self.slab.start, self.slab.stop), value.ravel(), quality.ravel(), time_s.ravel())


class Playback:
    """The wires of a recorded site (`drivers.wires.Wires`): `play` entries in order, then take a snapshot."""

    def __init__(self, site: Site, profiles: Mapping[str, Profile], header: Header) -> None:
        self.inventory = compile_inventory(site, profiles)
        self.clock = VirtualClock(header.started_s, header.started_ms)
        self.counters: Counter[str] = Counter()
        self._table = self.inventory.table()
        self._slabs = [
            SlabPlayback(slab, slab.profile)
            for slab in self.inventory.slabs
            if slab.profile is not None and slab.profile.protocol == "modbus"
        ]
        self._rows = {d.id: (slab, row) for slab in self._slabs for row, d in enumerate(slab.slab.devices)}
        groups = compile_groups(site.lease_groups, [r.id for r in site.racks], [r.gpus for r in site.racks])
        leases = LeaseLink(self.inventory, site, groups, self._table, self.clock, lambda *_: True)
        dsx = DsxLink(self.inventory, self._table, self.clock, lambda *_: True, site.mqtt.integration)
        self._ears = Ears(leases, dsx)

    def play(self, entry: Entry) -> None:
        """Let time go to an entry, and enter it."""
        self.clock.move_to(entry.t_s)
        if isinstance(entry, Exchange):
            self.counters["exchanges"] += 1
            slab, row = self._rows.get(entry.device, (None, 0))
            if slab is None:
                self.counters["unknown_devices"] += 1
            else:
                slab.take(row, entry)
        elif isinstance(entry, Message):
            self.counters["messages"] += 1
            if not entry.sent:
                self._ears.receive(entry.topic, entry.payload, entry.retained)

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s` [s]."""
        for slab in self._slabs:
            slab.collect(self._table)
        return self._table.snapshot(now_s)

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """A few of the points."""
        for slab in self._slabs:
            slab.collect(self._table)
        return self._table.glance(slots, now_s)

    def send(self, commands: Sequence[Command]) -> int:
        """Nobody is there to hear them."""
        return len(commands)

    def health(self) -> Sequence[LinkHealth]:
        """One wire."""
        return [LinkHealth("recording", True, len(self._rows), 0, 0.0)]
