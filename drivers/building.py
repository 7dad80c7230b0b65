"""Opens all wires of a site: one readable list. The controller knows it only as `Wires`."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from drivers.clock import Clock
from drivers.inventory import compile_inventory
from drivers.modbus.audit import Audit, WriteRecord
from drivers.modbus.provenance import Provenance
from drivers.modbus.reader import ModbusReader
from drivers.modbus.writer import Asked, ModbusWriter, Reversion, WriteFailedError, WriteRefusedError
from drivers.mqtt.leases import lease_topic
from drivers.mqtt.wires import MqttWires
from drivers.points import Floats, Ints, Qualities, Snapshot
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.wires import CapCommand, Command, LinkHealth, SetpointCommand, Tap

log = logging.getLogger(__name__)
MOST_WRITES = 16  # under way at the same time


class Building:
    """The real wires of `site`: Modbus devices read and written, MQTT leases sent, reports and BMS points received.

    `tap` hears of all that comes in and goes out. What is written to registers is recorded in `audit`.
    """

    def __init__(self, site: Site, clock: Clock, tap: Tap | None = None, audit: Path | None = None) -> None:
        profiles = load_profiles()
        self.inventory = compile_inventory(site, profiles)
        self._table = self.inventory.table()
        self._modbus = ModbusReader(self.inventory, site, self._table, clock)
        self._mqtt = MqttWires(self.inventory, site, self._table, clock, tap=tap)
        self._site, self._tap, self._clock = site.name, tap, clock
        self._forbidden = "the controller has not finished a cycle"
        self._writes: set[asyncio.Task[None]] = set()
        self._audit = Audit(audit)
        self._provenance = Provenance(site, profiles, clock)
        self._writer = ModbusWriter(
            site,
            profiles,
            clock,
            forbidden=lambda: self._forbidden,
            blocked=self._provenance.blocked,
            audit=self._audit,
        )
        if tap is not None:
            self._modbus.tap(tap)

    async def start(self) -> None:
        """Open every wire. An absent device or broker never stops this; it is said in `health`."""
        await self._modbus.start()
        await self._mqtt.start()
        self._provenance.start()

    async def stop(self) -> None:
        """Close every wire; writes that are under way are given up, which is recorded."""
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._provenance.stop()
        await self._mqtt.stop()
        await self._modbus.stop()
        await self._audit.close()

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s` [s, monotonic]."""
        self._modbus.collect(now_s)
        return self._table.snapshot(now_s)

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """Values and qualities of a few points at `now_s` [s, monotonic], without a copy of all the others."""
        self._modbus.collect(now_s)
        return self._table.glance(slots, now_s)

    def forbid(self, why: str) -> None:
        """From now on no register is written, for that reason; empty: it may be."""
        self._forbidden = why

    def send(self, commands: Sequence[Command]) -> int:
        """Queue commands, never wait; the number taken."""
        leases = [c.lease for c in commands if isinstance(c, CapCommand)]
        if self._tap is not None:
            for lease in leases:
                self._tap.message(lease_topic(self._site, lease.group), lease.encode(), retained=False, sent=True)
        written = [self._begin(c) for c in commands if isinstance(c, SetpointCommand)]
        return self._mqtt.send(leases) + sum(written)

    def refuse(self, command: SetpointCommand, why: str) -> None:
        """Record a set-point that is not written."""
        record = WriteRecord(self._clock.wall_ms(), command.device, command.point, (command.value,), why=why)
        record.by, record.reason, record.act = command.by, command.why, command.act
        self._audit(record)

    def alarms(self) -> list[tuple[str, str]]:
        """What needs a person, kind and words: devices that are not the site file's, records that were not kept."""
        told = {
            "identity": self._provenance.alarms(),
            "audit_failing": self._audit.alarms(),
            "recording_holes": self._tap.alarms() if self._tap else [],
        }
        return [(kind, text) for kind, said in told.items() for text in said]

    def health(self) -> Sequence[LinkHealth]:
        """One entry per wire."""
        return [*self._modbus.health(), *self._mqtt.health()]

    def _begin(self, command: SetpointCommand) -> bool:
        if len(self._writes) >= MOST_WRITES:
            self.refuse(command, f"{MOST_WRITES} writes are under way: ask again")
            return False
        task = asyncio.get_running_loop().create_task(self._write(command), name=f"write {command.device}")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return True

    async def _write(self, command: SetpointCommand) -> None:
        """The writer's record says what became of it; nothing is tried again."""
        revert = Reversion(*command.revert) if command.revert else None
        asked = Asked(command.by, command.why, command.act)
        try:
            await self._writer.write(command.device, command.point, command.value, revert, asked)
        except (WriteRefusedError, WriteFailedError) as error:
            log.warning("not written: %s", error)
        except Exception:
            log.exception("writing %s.%s failed", command.device, command.point)
