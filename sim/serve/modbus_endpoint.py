"""What listens at one address of the plant: a device of its own, or a gateway that serves its units one by one."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import cast

from drivers.clock import Clock
from drivers.modbus import frame
from drivers.modbus.wheel import Wheel
from sim.serve.modbus_serial import as_serial, line_s, request_size
from sim.serve.modbus_station import Station

CACHE = 64  # different requests remembered per address
QUEUE = 256  # requests waiting at a gateway; a client that sends more is cut off
SILENT_UNIT_S = 0.1  # a gateway waits this long for a unit on its serial line


class Endpoint:
    """One host and port. Replies of sound devices go out at once; a gateway takes its time for each request."""

    def __init__(self, stations: dict[int, Station], clock: Clock, wheel: Wheel) -> None:
        self.stations = stations
        self.fault = ""
        self.delay_s = 0.0  # of a slow device or gateway, on top
        self.requests = 0
        self.connections: set[Connection] = set()
        self.serial = False  # speaks serial frames on its connections
        self._clock, self._wheel = clock, wheel
        self._cache: dict[bytes, tuple[bytes, memoryview]] = {}

    def forget(self) -> None:
        """A fault has come or gone: remembered answers no longer hold."""
        self._cache.clear()

    def hang_up(self) -> None:
        """Cut every connection."""
        for connection in tuple(self.connections):
            connection.abort()

    def serve(self, connection: "Connection", tid: bytes, message: bytes) -> None:
        """Answer one request: transaction id, then unit and PDU."""
        self.requests += 1
        hit = self._cache.get(message)
        if hit is not None:
            connection.out += (tid, *hit)
        elif self.fault != "silent":
            self._serve_anew(connection, tid, message)

    def _serve_anew(self, connection: "Connection", tid: bytes, message: bytes) -> None:
        station = self._station(message[0])
        if self.delay_s:
            due = self._wheel.tick_of(self._clock.now_s() + self.delay_s)
            self._wheel.at(due, self._release, (connection, tid, message))
            return
        data = station.registers(message[1:]) if station and not station.fault else None
        if data is None:
            connection.send(tid, self.reply(message))
            return
        head = frame.reply_head(message[0], message[1], len(data))
        if len(self._cache) < CACHE:
            self._cache[message] = (head, data)
        connection.out += (tid, head, data)

    def _station(self, unit: int) -> Station | None:
        """A device of its own also answers to units 0 and 255."""
        station = self.stations.get(unit)
        if station is None and unit in (0, 255):
            return next(iter(self.stations.values()))
        return station

    def _release(self, waiting: tuple["Connection", bytes, bytes]) -> None:
        connection, tid, message = waiting
        connection.send(tid, self.reply(message))
        connection.flush()

    def reply(self, message: bytes) -> bytes | None:
        """Unit and PDU in, the rest of the reply frame out; None when nobody answers."""
        station = self._station(message[0])
        if station is None:
            return self.no_unit(message)
        kind, _, detail = station.fault.partition(":")
        if kind == "silent":
            return self.no_unit(message) if len(self.stations) > 1 else None
        if kind == "exception":
            return frame.tail(message[0], frame.exception_pdu(message[1], int(detail)))
        if kind == "garbage":
            return random.randbytes(random.randrange(1, 40))
        return frame.tail(message[0], station.answer(message[1:]))

    def no_unit(self, message: bytes) -> bytes | None:
        """What a device says to a unit id that is not its own."""
        return frame.tail(message[0], frame.exception_pdu(message[1], frame.TARGET_FAILED))


class GatewayEndpoint(Endpoint):
    """Serves its units one request at a time, `service_s` each, however many come at once."""

    def __init__(
        self, stations: dict[int, Station], clock: Clock, wheel: Wheel, service_s: float, *, reports_failure: bool
    ) -> None:
        super().__init__(stations, clock, wheel)
        self.service_s = service_s
        self.baud: int | None = None  # of the line behind it
        self.reports_failure = reports_failure  # exception 11 for a unit that does not answer, else nothing
        self._free_s = 0.0  # when the serial line is free again
        self._line: deque[tuple[int, Connection, bytes, bytes]] = deque()  # tick at which the answer is due

    def serve(self, connection: "Connection", tid: bytes, message: bytes) -> None:
        """Queue one request."""
        self.requests += 1
        if self.fault == "silent":
            return
        if len(self._line) >= QUEUE:
            connection.abort()
            return
        station = self.stations.get(message[0])
        absent = station is None or station.fault == "silent"
        slow_s = float(station.fault.partition(":")[2]) if station and station.fault.startswith("slow") else 0.0
        took_s = SILENT_UNIT_S if absent else self.service_s + slow_s + self.delay_s + line_s(message, self.baud)
        self._free_s = max(self._clock.now_s(), self._free_s) + took_s
        due = self._wheel.tick_of(self._free_s)
        if not self._line:
            self._wheel.at(due, self._answer_due, None)
        self._line.append((due, connection, tid, message))

    def _answer_due(self, _: object) -> None:
        """Send what is due by now, all answers to a client in one segment."""
        told = set()
        while self._line and self._line[0][0] <= self._wheel.tick:
            _, connection, tid, message = self._line.popleft()
            connection.send(tid, self.reply(message))
            told.add(connection)
        for connection in told:
            connection.flush()
        if self._line:
            self._wheel.at(self._line[0][0], self._answer_due, None)

    def _station(self, unit: int) -> Station | None:
        return self.stations.get(unit)

    def no_unit(self, message: bytes) -> bytes | None:
        """What a gateway says when the unit does not."""
        return super().no_unit(message) if self.reports_failure else None


class Connection(asyncio.BufferedProtocol):
    """One client; the local address it came to decides which endpoint answers."""

    def __init__(self, find: Callable[[tuple[str, int]], Endpoint | None]) -> None:
        self.out: list[bytes | memoryview] = []
        self._find = find
        self._endpoint: Endpoint | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(4 * frame.MAX_FRAME)
        self._view = memoryview(self._buffer)
        self._fill = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find who was called; nobody there: hang up."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._endpoint = self._find(transport.get_extra_info("sockname")[:2])
        if self._endpoint is None or self._endpoint.fault == "refuses":
            self._transport.abort()
        else:
            self._endpoint.connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Late answers of a gateway find nobody."""
        self._transport = None
        if self._endpoint is not None:
            self._endpoint.connections.discard(self)

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._view[self._fill :] if self._fill else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Answer every whole request in the buffer, all replies in one segment."""
        buffer, endpoint = self._buffer, self._endpoint
        if endpoint is None:
            return
        end = self._fill + nbytes
        start = 0
        if endpoint.serial:
            while (size := request_size(buffer, start, end)) > 0:
                endpoint.serve(self, b"", bytes(buffer[start : start + size - 2]))
                start += size
        else:
            while (size := frame.frame_size(buffer, start, end)) > 0:
                tid, message = buffer[start : start + 2], buffer[start + frame.HEADER : start + size]
                endpoint.serve(self, bytes(tid), bytes(message))
                start += size
        self.flush()
        if size < 0:
            self.abort()
            return
        self._fill = end - start
        if start and self._fill:
            buffer[: self._fill] = buffer[start:end]

    def send(self, tid: bytes, rest: bytes | None) -> None:
        """Put a reply with the others of this segment; None is no answer."""
        if rest is not None:
            self.out += (tid, rest)

    def flush(self) -> None:
        """Send what has been put together."""
        if self.out and self._transport is not None:
            replies = b"".join(self.out)
            serial = self._endpoint is not None and self._endpoint.serial
            self._transport.write(as_serial(replies) if serial else replies)
        self.out.clear()
