"""A service on a building in memory, under a virtual clock."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from helpers_control import Bench, Wiring, bench

from controller.frames import Mode
from controller.service import Service
from drivers.building import Building
from drivers.clock import VirtualClock
from drivers.lease import Holder
from drivers.points import Floats, Ints, Qualities, Quality, Snapshot
from drivers.wires import CapCommand, Command, LinkHealth, SetpointCommand

Event = Callable[[], object]


class FakeBuilding:
    """A building in memory: agents that take leases, instruments that show them; `events` happen at a reading."""

    def __init__(self, b: Bench, clock: VirtualClock) -> None:
        self.inventory, self._bench, self._clock = b.inventory, b, clock
        self._table = b.inventory.table()
        self.holder = Holder(np.full(b.racks, 75000, dtype=np.int64), clock.now_s(), seed=2)
        self.groups = b.site.lease_groups
        self.events: dict[int, Event] = {}
        self.readings = 0
        self.read_at_s: list[float] = []
        self.sent: list[tuple[float, int]] = []
        self.deaf = False
        self.setpoints: list[SetpointCommand] = []
        self.refused: list[tuple[SetpointCommand, str]] = []
        self.forbidden: list[str] = []
        self.stopped = False

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""
        self.stopped = True

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s`: racks draw 97 % of their caps."""
        self.readings += 1
        self.read_at_s.append(now_s)
        self.events.pop(self.readings, lambda: None)()
        b, cap_w = self._bench, self.holder.step(now_s)
        value = b.values(0.97 * cap_w, cap_w)
        for i, rack in enumerate(b.site.racks):
            report = {"epoch": self.holder.epoch[i], "seq": self.holder.seq[i], "beat": self.holder.beat[i]}
            b.put(value, rack.id, report)
        self._table.put(np.arange(b.inventory.size), value, Quality.GOOD, now_s - 0.1)
        return self._table.snapshot(now_s)

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """What the table holds."""
        return self._table.glance(slots, now_s)

    def send(self, commands: Sequence[Command]) -> int:
        """Leases reach their agents at once, unless these are deaf."""
        now_s = self._clock.now_s()
        self.sent.append((now_s, len(commands)))
        self.setpoints += [c for c in commands if isinstance(c, SetpointCommand)]
        for c in commands:
            if isinstance(c, CapCommand) and not self.deaf:
                self.holder.accept(c.lease, np.array(self.groups[c.lease.group]), now_s)
        return len(commands)

    def forbid(self, why: str) -> None:
        """Why nothing may be written now."""
        self.forbidden.append(why)

    def refuse(self, command: SetpointCommand, why: str) -> None:
        """A set-point that is not written."""
        self.refused.append((command, why))

    def alarms(self) -> list[str]:
        """All is well."""
        return []

    def health(self) -> Sequence[LinkHealth]:
        """One wire."""
        return [LinkHealth("memory", True, 1, 0, 1.0)]


class Rig:
    """A service on a fake building under a virtual clock."""

    def __init__(self, folder: Path, mode: Mode = Mode.LIVE, ramp_w_per_s: float = 4e3) -> None:
        self.bench = bench(Wiring(ramp_w_per_s=ramp_w_per_s, envelope_w=400e3))
        self.clock = VirtualClock()
        self.building = FakeBuilding(self.bench, self.clock)
        self.frames: list[dict[str, Any]] = []
        self.folder = folder
        building = cast(Building, self.building)
        self.service = Service(self.bench.site, building, self.clock, folder, mode, self.frames.append)

    def at(self, reading: int, event: Event) -> None:
        """Let `event` happen in the middle of a reading, counted from 1."""
        self.building.events[reading] = event

    async def run(self, readings: int, leave_s: float = 0.0) -> None:
        """Cycle, then stop."""
        self.at(readings, self.service.stop.set)
        await self.service.run(leave_s)
