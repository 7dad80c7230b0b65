"""The hot path: polls every Modbus TCP device of a site once a period, straight into register images."""

import asyncio
import logging
import resource
import ssl
from collections.abc import Iterator
from functools import partial
from itertools import count

import numpy as np

from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.modbus.bus import Counters, Link
from drivers.modbus.image import SlabImage
from drivers.modbus.plan import serial_s
from drivers.modbus.rtu import RtuLink
from drivers.modbus.security import tls_context
from drivers.modbus.tap import teller
from drivers.modbus.tcp import TcpLink
from drivers.modbus.unit import Unit
from drivers.modbus.wheel import Wheel
from drivers.points import Floats, PointTable
from drivers.site.model import Device, Gateway, Site
from drivers.supervise import Supervisor
from drivers.wires import LinkHealth, Tap

log = logging.getLogger(__name__)
TICK_S = 0.02
FINE_S = 0.002
CONNECTORS = 256  # connections opened at the same time
CONNECT_S = 2.0
CONNECT_GAP_S = 0.1  # between two of one connector: with all of them 2,560 a second at most, also after an outage
MARGIN_S = 0.1  # on top of a gateway's own time


def raise_fd_limit(wanted: int) -> int:
    """Raise this process's limit of open files as far as it may; returns it, and says so when it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft < wanted:
        log.error("%d connections are needed but only %d files may be open: raise LimitNOFILE", wanted, soft)
    return soft


def _itself(link: Link) -> Link:
    """A link is its own protocol, over every connection that it has."""
    return link


class ModbusReader:
    """Polls the site's Modbus devices; `collect` decodes what has arrived into the table.

    Devices spread their polls evenly over the period. One connection for each host and port, whoever shares it.
    """

    def __init__(self, inventory: Inventory, site: Site, table: PointTable, clock: Clock) -> None:
        self.counters = Counters()
        self.points_per_s = 0.0
        self.slabs = [
            SlabImage(slab, slab.profile)
            for slab in inventory.slabs
            if slab.profile is not None and slab.profile.protocol == "modbus"
        ]
        self._site, self._table, self._clock = site, table, clock
        self._wheel = Wheel(clock, TICK_S)
        self._fine = Wheel(clock, FINE_S)  # for rests between frames on serial lines
        self._tls: dict[int, ssl.SSLContext] = {}
        self._supervisor = Supervisor(clock)
        self._connect_queue: asyncio.PriorityQueue[tuple[int, int, Link]] = asyncio.PriorityQueue()
        self._turn = count()
        self._sweep_ticks: dict[int, int] = {}
        self._stopping = False
        self.links = tuple(self._make_links())
        self._collected = clock.now_s(), 0
        self._health: tuple[float, dict[int, int]] = (clock.now_s(), {})

    def _make_links(self) -> Iterator[Link]:
        gateways = {g.id: g for g in self._site.gateways}
        groups: dict[tuple[str, int], list[tuple[Device, SlabImage, int]]] = {}
        for slab in self.slabs:
            for row, device in enumerate(slab.slab.devices):
                via = gateways.get(device.gateway)
                address = (via.host, via.port) if via else (device.host, device.port)
                groups.setdefault(address, []).append((device, slab, row))
        for address, members in groups.items():
            yield self._make_link(address, members, gateways.get(members[0][0].gateway))

    def _make_link(
        self, address: tuple[str, int], members: list[tuple[Device, SlabImage, int]], gateway: Gateway | None
    ) -> Link:
        period_s = min(d.period_s for d, _, _ in members)
        units = [Unit(slab, row, d.unit, max(1, round(d.period_s / period_s))) for d, slab, row in members]
        timeout_s = period_s / 3
        framing = gateway.framing if gateway else members[0][0].framing
        in_flight = 1 if framing == "rtu" else (gateway or members[0][0]).in_flight
        if gateway:  # its units share its time; a request may wait behind all the others
            each_s = gateway.service_ms / 1000.0
            if gateway.baud:
                each_s += max(serial_s(r, gateway.baud) for _, slab, _ in members for r in slab.reads)
            timeout_s = max(min(timeout_s, 0.25), MARGIN_S + 3.0 * each_s * in_flight)
        link = (RtuLink if framing == "rtu" else TcpLink)(
            f"gateway {gateway.id}" if gateway else members[0][1].slab.name,
            address,
            units,
            in_flight=in_flight,
            timeout_s=min(timeout_s, 5.0),
            clock=self._clock,
            wheel=self._wheel,
            counters=self.counters,
            reconnect=self._ask_connection,
        )
        if isinstance(link, RtuLink) and gateway and gateway.gap_ms:
            link.rest_s, link.rests = gateway.gap_ms / 1000.0, self._fine
        if framing == "tls":
            self._tls[id(link)] = self._context()
        self._sweep_ticks[id(link)] = max(1, round(period_s / TICK_S))
        return link

    def _context(self) -> ssl.SSLContext:
        """One for all devices that speak TLS: the files are read once."""
        return next(iter(self._tls.values()), None) or tls_context()

    def tap(self, tap: Tap) -> None:
        """Let `tap` hear how every request ends."""
        tell = teller(tap)
        for link in self.links:
            link.tap = tell

    async def start(self) -> None:
        """Begin to connect and poll; absent devices stop nobody."""
        self._stopping = False
        self._connect_queue = asyncio.PriorityQueue()
        raise_fd_limit(len(self.links) + 100)
        for i, link in enumerate(self.links):
            ticks = self._sweep_ticks[id(link)]
            phase = i * ticks // len(self.links)
            self._wheel.every(ticks, phase, link.sweep)
            for unit in link.units:
                unit.slab.due_s[unit.row] = phase * TICK_S, ticks * TICK_S
            self._ask_connection(link)
        self._supervisor.spawn("modbus wheel", self._wheel.run)
        if any(isinstance(link, RtuLink) and link.rests for link in self.links):
            self._supervisor.spawn("modbus rests", self._fine.run)
        for k in range(min(CONNECTORS, len(self.links))):
            self._supervisor.spawn(f"modbus connector {k}", self._connect)

    async def stop(self) -> None:
        """Close every connection and end every task."""
        self._stopping = True
        await self._supervisor.stop()
        self._wheel.clear()
        self._fine.clear()
        for link in self.links:
            link.reset()
        await self._clock.sleep_until(self._clock.now_s())  # lets the transports close

    def _ask_connection(self, link: Link) -> None:
        """Those that have failed least come first: what has been dead for long must not keep the others waiting."""
        if not self._stopping:
            self._connect_queue.put_nowait((link.failures, next(self._turn), link))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            *_, link = await self._connect_queue.get()
            again_s = self._clock.now_s() + CONNECT_GAP_S
            try:
                async with asyncio.timeout(CONNECT_S):
                    await loop.create_connection(partial(_itself, link), *link.address, ssl=self._tls.get(id(link)))
            except (OSError, TimeoutError) as error:
                if not link.connected:
                    link.why = str(error) or "no answer"
                    link.failed()
            await self._clock.sleep_until(again_s)

    def collect(self, now_s: float) -> None:
        """Decode all images into the table; time stays that of arrival. Called once a cycle."""
        for slab in self.slabs:
            slab.collect(self._table)
        at_s, points = self._collected
        if now_s > at_s:
            self.points_per_s = (self.counters.points - points) / (now_s - at_s)
            self._collected = now_s, self.counters.points

    @property
    def tick(self) -> int:
        """Ticks of TICK_S that have been turned since the start."""
        return self._wheel.tick

    def lag_s(self) -> list[Floats]:
        """How long after it was due each device's newest poll was answered [s], per slab [rows]; NaN: never."""
        zero_s = self._wheel.time_of(0)
        lags = []
        for slab in self.slabs:
            newest_s = slab.time_s.max(axis=1)
            newest_s[np.isneginf(newest_s)] = np.nan
            lags.append((newest_s - zero_s - slab.due_s[:, 0]) % slab.due_s[:, 1])
        return lags

    def health(self) -> list[LinkHealth]:
        """One entry for each gateway, one for the own connections of each profile."""
        now_s = self._clock.now_s()
        before_s, before = self._health
        groups: dict[str, list[Link]] = {}
        for link in self.links:
            groups.setdefault(link.name, []).append(link)
        self._health = now_s, {id(link): link.points for link in self.links}
        return [self._group_health(name, links, now_s - before_s, before) for name, links in groups.items()]

    @staticmethod
    def _group_health(name: str, links: list[Link], span_s: float, before: dict[int, int]) -> LinkHealth:
        points = sum(link.points - before.get(id(link), 0) for link in links)
        down = sum(not link.up for link in links)
        why = next((link.why for link in links if not link.up), "")
        return LinkHealth(
            f"modbus {name}",
            down < len(links),
            sum(len(link.units) for link in links),
            sum(link.silent for link in links),
            points / span_s if span_s > 0 else 0.0,
            f"{down} of {len(links)} connections down: {why}" if down else "",
        )
