"""Opens all wires of a site: one readable list. The controller knows it only as `Wires`."""

from collections.abc import Sequence

from drivers.clock import Clock
from drivers.inventory import compile_inventory
from drivers.modbus.reader import ModbusReader
from drivers.mqtt.wires import MqttWires
from drivers.points import Floats, Ints, Qualities, Snapshot
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.wires import CapCommand, Command, LinkHealth


class Building:
    """The real wires of `site`: Modbus devices read, MQTT leases sent, reports and BMS points received."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self.inventory = compile_inventory(site, load_profiles())
        self._table = self.inventory.table()
        self._modbus = ModbusReader(self.inventory, site, self._table, clock)
        self._mqtt = MqttWires(self.inventory, site, self._table, clock)

    async def start(self) -> None:
        """Open every wire. An absent device or broker never stops this; it is said in `health`."""
        await self._modbus.start()
        await self._mqtt.start()

    async def stop(self) -> None:
        """Close every wire."""
        await self._mqtt.stop()
        await self._modbus.stop()

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s` [s, monotonic]."""
        self._modbus.collect(now_s)
        return self._table.snapshot(now_s)

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """Values and qualities of a few points at `now_s` [s, monotonic], without a copy of all the others."""
        self._modbus.collect(now_s)
        return self._table.glance(slots, now_s)

    def send(self, commands: Sequence[Command]) -> int:
        """Queue commands, never wait; the number taken."""
        return self._mqtt.send([c.lease for c in commands if isinstance(c, CapCommand)])

    def health(self) -> Sequence[LinkHealth]:
        """One entry per wire."""
        return [*self._modbus.health(), *self._mqtt.health()]
