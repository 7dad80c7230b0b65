"""The MQTT wires of a site: leases and reports on one connection, the BMS bus on another."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.lease import Lease, compile_groups
from drivers.mqtt.client import Endpoint, OnMessage, Session, endpoint
from drivers.mqtt.dsx import DsxLink
from drivers.mqtt.leases import LeaseLink
from drivers.points import PointTable
from drivers.site.model import Site
from drivers.wires import LinkHealth, Tap


class MqttWires:
    """Two sessions, so that no flood on the BMS bus can hold up a lease. Values go straight into `table`.

    `where` is the broker; by default that of the site file, with credentials from the environment. `tap` hears of
    every message that comes in.
    """

    def __init__(
        self,
        inventory: Inventory,
        site: Site,
        table: PointTable,
        clock: Clock,
        where: Endpoint | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._clock = clock
        where = where or endpoint(site.mqtt.host, site.mqtt.port)
        groups = compile_groups(site.lease_groups, [rack.id for rack in site.racks], [rack.gpus for rack in site.racks])
        self.leases = LeaseLink(inventory, site, groups, table, clock, self._publish_lease)
        self.dsx = DsxLink(inventory, table, clock, self._publish_dsx, site.mqtt.integration)
        probe = f"headroom/v1/{site.name}/probe/{site.mqtt.integration}-{os.getpid()}"
        self._lease_session = Session(
            where,
            clock,
            name="agents",
            subscriptions=[self.leases.subscription],
            on_message=_heard(self.leases.receive, tap),
            probe_topic=probe + "-lease",
        )
        self._dsx_session = Session(
            where,
            clock,
            name="bms",
            subscriptions=self.dsx.subscriptions,
            on_message=_heard(self.dsx.receive, tap),
            probe_topic=probe + "-bms",
        )
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect; returns at once, values come when the broker does."""
        self._lease_session.start()
        self._dsx_session.start()
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick(), name="bms heartbeat")

    async def stop(self) -> None:
        """Send what is queued and disconnect."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        await asyncio.gather(self._lease_session.stop(), self._dsx_session.stop())

    def send(self, leases: Sequence[Lease]) -> int:
        """Queue leases, never wait; the number taken (none while the broker is away)."""
        return self.leases.send(leases)

    def health(self) -> list[LinkHealth]:
        """The agents' wire and the BMS."""
        lease, dsx = self._lease_session, self._dsx_session
        return [self.leases.health(lease.up, lease.detail), self.dsx.health(dsx.up, dsx.detail)]

    @property
    def counters(self) -> dict[str, int]:
        """Everything counted, by `agents.` and `bms.`."""
        total: Counter[str] = Counter()
        for name, parts in (("agents", (self._lease_session, self.leases)), ("bms", (self._dsx_session, self.dsx))):
            for part in parts:
                total.update({f"{name}.{key}": count for key, count in part.counters.items()})
        return dict(total)

    def _publish_lease(self, topic: str, payload: bytes) -> bool:
        return self._lease_session.publish(topic, payload)

    def _publish_dsx(self, topic: str, payload: bytes) -> bool:
        return self._dsx_session.publish(topic, payload)

    async def _tick(self) -> None:
        while True:
            self.dsx.tick()
            await self._clock.sleep_until(self._clock.now_s() + 1.0)


def _heard(receive: OnMessage, tap: Tap | None) -> OnMessage:
    """`receive`, with `tap` listening in."""
    if tap is None:
        return receive

    def both(topic: str, payload: bytes, retained: bool) -> None:
        tap.message(topic, payload, retained)
        receive(topic, payload, retained)

    return both
