"""The plant on MQTT: rack agents (one connection per hall), the BMS, and Sparkplug edge nodes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.clock import Clock
from drivers.lease import Group, Lease, LeaseError, Report, compile_groups, decode_lease
from drivers.mqtt.client import Session
from drivers.mqtt.endpoint import Endpoint, endpoint
from drivers.mqtt.leases import lease_topic, report_topic
from drivers.profile import Profile
from drivers.site.model import Site
from sim.serve.bms import Bms
from sim.serve.bms_requests import OnRequest
from sim.serve.sparkplug import SparkplugPlant

Floats = NDArray[np.float64]
TICK_S = 0.25
MAX_QUEUE = 4096


class MqttPlant:
    """Agents and BMS of a site. `on_lease` gets every well-formed lease of a known group, for `Holder.accept`,
    `on_request(cdu, supply_c)` the set-points asked of the BMS.

    Everything reconnects by itself; after a broker's restart the metadata is published again.
    """

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        clock: Clock,
        on_lease: Callable[[Lease], None],
        where: Endpoint | None = None,
        on_request: OnRequest = lambda _cdu, _supply_c: None,
    ) -> None:
        where = where or endpoint(site.mqtt.host, site.mqtt.port)
        self.groups: dict[str, Group] = compile_groups(
            site.lease_groups, [rack.id for rack in site.racks], [rack.gpus for rack in site.racks]
        )
        self._counters: Counter[str] = Counter()
        self._site, self._clock, self._on_lease = site.name, clock, on_lease
        self._hall = {name: site.racks[int(group.racks[0])].hall for name, group in self.groups.items()}
        self._halls = {
            hall: Session(
                where,
                clock,
                name=f"agents of {hall}",
                subscriptions=[lease_topic(site.name, name) for name, h in self._hall.items() if h == hall],
                on_message=self._take_lease,
                probe_topic=f"headroom/v1/{site.name}/probe/agents-{hall}",
            )
            for hall in dict.fromkeys(self._hall.values())
        }
        self.bms = Bms(site, profiles, clock, self._publish_bms, on_request)
        self._bms_session = Session(
            where,
            clock,
            name="BMS",
            subscriptions=[self.bms.subscription],
            on_message=self.bms.receive,
            on_connect=self.bms.connected,
            probe_topic=f"headroom/v1/{site.name}/probe/bms",
            max_queue=MAX_QUEUE,
        )
        self.sparkplug = SparkplugPlant(site, profiles, clock, where)
        self._sessions = (*self._halls.values(), self._bms_session, *self.sparkplug.sessions)
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        for session in self._sessions:
            session.start()
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick(), name="BMS points")

    async def stop(self) -> None:
        """Send what is queued and disconnect."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        self.sparkplug.die()
        await asyncio.gather(*(session.stop() for session in self._sessions))

    @property
    def up(self) -> bool:
        """Whether every connection stands."""
        return all(session.up for session in self._sessions)

    @property
    def counters(self) -> dict[str, int]:
        """Leases taken and refused as messages, and the links' counts."""
        total = Counter(self._counters)
        for session in self._halls.values():
            total.update({f"agents.{key}": count for key, count in session.counters.items()})
        total.update({f"bms.{key}": count for key, count in (self._bms_session.counters + self.bms.counters).items()})
        total.update({f"sparkplug.{key}": count for key, count in self.sparkplug.counters.items()})
        return dict(total)

    def publish_reports(self, reports: Sequence[Report]) -> int:
        """Queue one report per group on its hall's connection, never wait; the number taken."""
        return sum(
            self._halls[self._hall[r.group]].publish(report_topic(self._site, r.group), r.encode()) for r in reports
        )

    def update_bms(self, values: Mapping[str, Floats]) -> None:
        """New values of BMS groups (`bms.groups` names ids and points): arrays [objects, points], our units."""
        self.bms.update(values)

    def _take_lease(self, topic: str, payload: bytes, retained: bool) -> None:
        """Pass on what is well-formed and meant for the group it came to."""
        if retained:  # a command of the past must not act again
            self._counters["retained"] += 1
            return
        try:
            lease = decode_lease(payload)
            group = self.groups.get(lease.group)
            if group is None or topic != lease_topic(self._site, group.name):
                raise LeaseError(f"group {lease.group} on {topic}")
            group.check(lease)
        except LeaseError:
            self._counters["malformed"] += 1
            return
        self._counters["leases"] += 1
        self._on_lease(lease)

    def _publish_bms(self, topic: str, payload: bytes, retain: bool) -> bool:
        return self._bms_session.publish(topic, payload, retain=retain)

    async def _tick(self) -> None:
        while True:
            if self._bms_session.up and self._bms_session.queued < MAX_QUEUE // 2:
                self.bms.tick()
            self.sparkplug.tick()
            await self._clock.sleep_until(self._clock.now_s() + TICK_S)
