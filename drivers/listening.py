"""The wires of a site, heard only: Modbus devices are polled, MQTT is listened to, nothing is ever sent."""

from collections.abc import Mapping

from drivers.clock import Clock
from drivers.inventory import compile_inventory
from drivers.lease import compile_groups
from drivers.modbus.reader import ModbusReader
from drivers.mqtt.client import Session
from drivers.mqtt.dsx import DsxLink
from drivers.mqtt.endpoint import endpoint
from drivers.mqtt.leases import LeaseLink, lease_topic
from drivers.points import Snapshot
from drivers.profile import Profile
from drivers.site.model import Site
from drivers.wires import LinkHealth, Tap


class Ears:
    """Where MQTT messages of a site go: agents' reports and BMS values into a table, whatever brings them."""

    def __init__(self, leases: LeaseLink, dsx: DsxLink) -> None:
        self._leases, self._dsx = leases, dsx

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take one message; one that is for neither changes nothing."""
        if topic.startswith("BMS/"):
            self._dsx.receive(topic, payload, retained)
        elif "/report/" in topic:
            self._leases.receive(topic, payload, retained)


class Listening:
    """Reads a site's points without a controller. An absent device or broker is said in `health`."""

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        clock: Clock,
        *,
        tap: Tap | None = None,
        mqtt: bool = True,
    ) -> None:
        self.inventory = compile_inventory(site, profiles)
        self._table = self.inventory.table()
        self.reader = ModbusReader(self.inventory, site, self._table, clock)
        groups = compile_groups(site.lease_groups, [r.id for r in site.racks], [r.gpus for r in site.racks])
        leases = LeaseLink(self.inventory, site, groups, self._table, clock, _say_nothing)
        dsx = DsxLink(self.inventory, self._table, clock, _say_nothing, site.mqtt.integration)
        self._ears, self._tap = Ears(leases, dsx), tap
        if tap is not None:
            self.reader.tap(tap)
        self.session = (
            Session(
                endpoint(site.mqtt.host, site.mqtt.port),
                clock,
                name="listener",
                subscriptions=[
                    leases.subscription,
                    lease_topic(site.name, "#"),
                    *dsx.subscriptions,
                    *dsx.values.subscriptions,
                ],
                on_message=self._hear,
            )
            if mqtt
            else None
        )

    async def start(self) -> None:
        """Begin to connect and poll; returns at once."""
        await self.reader.start()
        if self.session is not None:
            self.session.start()

    async def stop(self) -> None:
        """Close every connection."""
        if self.session is not None:
            await self.session.stop()
        await self.reader.stop()

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s` [s, monotonic]."""
        self.reader.collect(now_s)
        return self._table.snapshot(now_s)

    def health(self) -> list[LinkHealth]:
        """One entry for each wire."""
        wires = self.reader.health()
        if self.session is not None:
            wires.append(LinkHealth("mqtt", self.session.up, 0, 0, 0.0, self.session.detail))
        return wires

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if self._tap is not None:
            self._tap.message(topic, payload, retained)
        self._ears.receive(topic, payload, retained)


def _say_nothing(_topic: str, _payload: bytes) -> bool:
    return False
