"""Recorded devices as Modbus TCP servers on the loopback interface: any client reads what they said, in time."""

import asyncio
import errno
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from drivers.capture.memory import Memory
from drivers.capture.tape import Entry, Exchange
from drivers.clock import Clock
from drivers.modbus import frame
from drivers.modbus.reader import raise_fd_limit
from drivers.site.model import Device, Gateway, Site

PORT = 1502
PER_NET = 250  # addresses used of each 127.70.x.0/24
Place = tuple[str, int]


class ServeError(OSError):
    """The servers cannot listen; the message says why and what to do."""


def moved(site: Site, port: int = PORT) -> Site:
    """The same site with every Modbus address on the loopback interface: 127.70.0.1 and on, all at one port.

    A site whose addresses are there already stays as it is.
    """
    places = {(g.host, g.port) for g in site.gateways} | {(d.host, d.port) for d in site.devices if d.host}
    if all(_is_loopback(host) for host, _ in places):
        return site
    new = {place: f"127.70.{i // PER_NET}.{1 + i % PER_NET}" for i, place in enumerate(sorted(places))}

    def at(thing: Gateway | Device) -> dict[str, object]:
        return {"host": new[thing.host, thing.port], "port": port} if thing.host else {}

    gateways = tuple(g.model_copy(update=at(g)) for g in site.gateways)
    devices = tuple(d.model_copy(update=at(d)) for d in site.devices)
    return site.model_copy(update={"gateways": gateways, "devices": devices})


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class _Client(asyncio.Protocol):
    """One connection to a device or gateway; `units` are those behind this address."""

    served: "Servers"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, bytearray()
        self._units = self.served.units.get(transport.get_extra_info("sockname")[:2], {})
        self.served.clients.add(self)
        if not self._units:
            transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.served.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= frame.SHORTEST:
            size = frame.frame_size(self._buffer, 0, len(self._buffer))
            if size <= 0:
                if size < 0:
                    self._transport.abort()
                return
            whole = bytes(self._buffer[:size])
            del self._buffer[:size]
            self.served.requests += 1
            reply = self._answer(whole[frame.HEADER :])
            if reply is not None:
                self._transport.write(whole[:2] + frame.tail(reply[0], reply[1:]))

    def _answer(self, request: bytes) -> bytes | None:
        memory = self._units.get(request[0])
        if memory is None:
            return request[:1] + frame.exception_pdu(request[1], frame.TARGET_FAILED)
        return memory.answer(request)

    def hang_up(self) -> None:
        """Cut it."""
        self._transport.abort()

    __hash__ = object.__hash__


class Servers:
    """The Modbus devices of `site` as a recording shows them; nothing is taken from clients but reads."""

    def __init__(self, site: Site) -> None:
        gateways = {g.id: (g.host, g.port) for g in site.gateways}
        self.requests = 0
        self.clients: set[_Client] = set()
        self.memories: dict[str, Memory] = {}
        self.units: dict[Place, dict[int, Memory]] = {}
        for device in site.devices:
            if device.protocol == "modbus_tcp":
                place = gateways.get(device.gateway, (device.host, device.port))
                memory = self.memories[device.id] = Memory()
                self.units.setdefault(place, {})[device.unit] = memory
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen at every address; ServeError names the one that cannot be had."""
        raise_fd_limit(2 * len(self.units) + 100)
        loop = asyncio.get_running_loop()
        for host, port in sorted(self.units):
            try:
                self._servers.append(await loop.create_server(lambda: _Client(self), host, port, backlog=100))
            except OSError as error:
                await self.stop()
                fix = "stop what listens there" if error.errno == errno.EADDRINUSE else "give another port"
                raise ServeError(error.errno, f"{host}:{port} cannot be had ({error.strerror}): {fix}") from error

    async def stop(self) -> None:
        """Stop listening and hang up on everybody."""
        for server in self._servers:
            server.close()
        for client in tuple(self.clients):
            client.hang_up()
        for server in self._servers:
            with suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 1.0)
        self._servers.clear()

    async def play(self, entries: Iterable[Entry], clock: Clock, speed: float = 1.0) -> None:
        """Let the devices say what they said, at the recording's pace times `speed`; returns at its end."""
        begin_s, first_s = clock.now_s(), float("nan")
        for n, entry in enumerate(entries):
            if not isinstance(entry, Exchange):
                continue
            if first_s != first_s:
                first_s = entry.t_s
            due_s = begin_s + (entry.t_s - first_s) / speed
            if due_s > clock.now_s() or n % 256 == 0:
                await clock.sleep_until(due_s)
            memory = self.memories.get(entry.device)
            if memory is not None:
                memory.take(entry)
