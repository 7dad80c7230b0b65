"""The MQTT wires of a site: leases and reports, the BMS bus, its stream of values, Sparkplug; a connection each."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.lease import Lease, compile_groups
from drivers.mqtt.client import OnMessage, Session, last_will
from drivers.mqtt.dsx import DsxLink
from drivers.mqtt.endpoint import Endpoint, endpoint
from drivers.mqtt.leases import LeaseLink
from drivers.mqtt.link import Link
from drivers.mqtt.packets import Message
from drivers.mqtt.sparkplug.host import SparkplugHost
from drivers.mqtt.stream import OnMessages, Stream
from drivers.points import PointTable
from drivers.site.model import Site
from drivers.wires import LinkHealth, Tap


class MqttWires:
    """Connections of their own, so that no flood on the BMS bus can hold up a lease. Values go straight into `table`.

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
        values = self.dsx.values
        self._stream = Stream(
            where,
            clock,
            name="BMS values",
            subscriptions=values.subscriptions,
            on_messages=_all_heard(values.take, tap),
            probe_topic=probe + "-values",
        )
        self.sparkplug = SparkplugHost(inventory, table, clock, self._publish_sparkplug, site.mqtt.sparkplug_host)
        self._sparkplug_session = Session(
            where,
            clock,
            name="sparkplug",
            subscriptions=self.sparkplug.subscriptions,
            on_message=_heard(self.sparkplug.receive, tap),
            on_connect=self.sparkplug.connected,
            probe_topic=probe + "-sparkplug",
            will=lambda: last_will(self.sparkplug.will(), retain=True),
        )
        self._links: tuple[Link, ...] = (self._lease_session, self._dsx_session, self._stream)
        if self.sparkplug.wanted:  # nobody needs to see a host application that reads nothing
            self._links = (*self._links, self._sparkplug_session)
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect; returns at once, values come when the broker does."""
        for link in self._links:
            link.start()
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick(), name="bms and sparkplug")

    async def stop(self) -> None:
        """Send what is queued and disconnect."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        self.sparkplug.leave()
        await asyncio.gather(*(link.stop() for link in self._links))

    def send(self, leases: Sequence[Lease]) -> int:
        """Queue leases, never wait; the number taken (none while the broker is away)."""
        return self.leases.send(leases)

    def request(self, thing: str, point_type: str, value: float, unit: str) -> bool:
        """Ask the BMS for a set-point, as DsxRequests.ask."""
        return self.dsx.requests.ask(thing, point_type, value, unit)

    def health(self) -> list[LinkHealth]:
        """The agents' wire, the BMS, and Sparkplug where the site has such devices."""
        lease, dsx, stream = self._lease_session, self._dsx_session, self._stream
        detail = dsx.detail or stream.detail
        links = [self.leases.health(lease.up, lease.detail), self.dsx.health(dsx.up and stream.up, detail)]
        if self.sparkplug.wanted:
            links.append(self.sparkplug.health(self._sparkplug_session.up, self._sparkplug_session.detail))
        return links

    @property
    def counters(self) -> dict[str, int]:
        """Everything counted, by `agents.`, `bms.` and `sparkplug.`."""
        total: Counter[str] = Counter()
        agents, bms = (self._lease_session, self.leases), (self._dsx_session, self._stream, self.dsx)
        sparkplug = (self._sparkplug_session, self.sparkplug)
        for name, parts in (("agents", agents), ("bms", bms), ("sparkplug", sparkplug)):
            for part in parts:
                total.update({f"{name}.{key}": count for key, count in part.counters.items()})
        return dict(total)

    def _publish_lease(self, topic: str, payload: bytes) -> bool:
        return self._lease_session.publish(topic, payload)

    def _publish_dsx(self, topic: str, payload: bytes) -> bool:
        return self._dsx_session.publish(topic, payload)

    def _publish_sparkplug(self, topic: str, payload: bytes, retain: bool, qos: int) -> bool:
        return self._sparkplug_session.publish(topic, payload, retain=retain, qos=qos)

    async def _tick(self) -> None:
        while True:
            self.dsx.tick()
            if self._sparkplug_session.up:
                self.sparkplug.tick()
            await self._clock.sleep_until(self._clock.now_s() + 1.0)


def _heard(receive: OnMessage, tap: Tap | None) -> OnMessage:
    """`receive`, with `tap` listening in."""
    if tap is None:
        return receive

    def both(topic: str, payload: bytes, retained: bool) -> None:
        tap.message(topic, payload, retained)
        receive(topic, payload, retained)

    return both


def _all_heard(take: OnMessages, tap: Tap | None) -> OnMessages:
    """The same for a stream."""
    if tap is None:
        return take

    def both(messages: list[Message]) -> None:
        for topic, payload, retained in messages:
            tap.message(topic.decode(errors="replace"), payload, retained)
        take(messages)

    return both
