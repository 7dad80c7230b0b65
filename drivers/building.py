"""Opens all wires of a site: one readable list. The controller knows it only as `Wires`."""

from collections.abc import Sequence

from drivers.clock import Clock
from drivers.inventory import compile_inventory
from drivers.modbus.reader import ModbusReader
from drivers.mqtt.leases import lease_topic
from drivers.mqtt.wires import MqttWires
from drivers.points import Floats, Ints, Qualities, Snapshot
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.wires import CapCommand, Command, LinkHealth, Tap


class Building:
    """The real wires of `site`: Modbus devices read, MQTT leases sent, reports and BMS points received.

    `tap` hears of all that comes in and goes out.
    """

    def __init__(self, site: Site, clock: Clock, tap: Tap | None = None) -> None:
        self.inventory = compile_inventory(site, load_profiles())
        self._table = self.inventory.table()
        self._modbus = ModbusReader(self.inventory, site, self._table, clock)
        self._mqtt = MqttWires(self.inventory, site, self._table, clock, tap=tap)
        self._site, self._tap = site.name, tap
        if tap is not None:
            self._modbus.tap(tap)

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
        leases = [c.lease for c in commands if isinstance(c, CapCommand)]
        if self._tap is not None:
            for lease in leases:
                self._tap.message(lease_topic(self._site, lease.group), lease.encode(), retained=False, sent=True)
        return self._mqtt.send(leases)

    def health(self) -> Sequence[LinkHealth]:
        """One entry per wire."""
        return [*self._modbus.health(), *self._mqtt.health()]
