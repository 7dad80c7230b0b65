"""One TCP connection: a device of its own or a gateway with many units. Sends, matches, times out, backs off.

A reply counts only if transaction id, unit, function and byte count are those of a request that is waiting; its
registers go straight into the image of its slab. A unit that is silent is asked again at the end of a sweep, then
at growing intervals; a connection on which nobody answers is closed and opened again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from drivers.clock import Clock
from drivers.modbus import frame
from drivers.modbus.tap import GARBAGE, SILENT
from drivers.modbus.unit import AnyJob, Unit
from drivers.modbus.wheel import Wheel
from drivers.points import Quality
from drivers.supervise import Backoff

LINK_BACKOFF = Backoff(first_s=0.5, longest_s=10.0)
UNIT_BACKOFF = Backoff(first_s=2.0, longest_s=16.0)
FREE_FAILURES = 1  # timeouts after which a unit is still polled at full pace
ASK_AGAIN = 60  # sweeps after which a device is asked again for what it refused
RECENT = 256  # transaction ids back that may still be a late reply


@dataclass
class Counters:
    """What happened on the wires since the start."""

    polls: int = 0
    replies: int = 0
    timeouts: int = 0
    exceptions: int = 0
    garbage: int = 0  # frames that cannot be, are foreign or have the wrong size
    late: int = 0  # replies after their deadline, and duplicates
    connects: int = 0
    disconnects: int = 0
    overruns: int = 0  # sweeps skipped because the last one was not through


class Link(asyncio.BufferedProtocol):
    """A connection and its units, polled once a sweep with at most `in_flight` requests waiting."""

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        units: Sequence[Unit],
        *,
        in_flight: int,
        timeout_s: float,
        clock: Clock,
        wheel: Wheel,
        counters: Counters,
        reconnect: Callable[["Link"], None],
    ) -> None:
        self.name, self.address, self.units = name, address, tuple(units)
        self.in_flight = in_flight
        self.trusted = False  # a reply has come over this connection
        self.points = 0  # values received
        self.tap: Callable[[AnyJob, int], None] | None = None  # hears how requests end: 0, exception, or as in tap.py
        self._now, self._wheel, self._count = clock.now_s, wheel, counters
        self._reconnect = reconnect
        self._timeout_ticks = max(1, round(timeout_s / wheel.tick_s))
        self._expire = self.expire  # bound once: one is queued per request
        self._transport: asyncio.Transport | None = None
        self._queue: deque[AnyJob] = deque()
        self._pending: dict[int, AnyJob] = {}
        self._tid = 0
        self._sweep = 0
        self._misses = 0  # timeouts in a row, of any unit
        self._failures = 0  # connections in a row without a reply
        self._probe_next = 0
        self._buffer = bytearray(frame.MAX_FRAME * (in_flight + 1))
        self._view = memoryview(self._buffer)
        self._fill = 0

    @property
    def up(self) -> bool:
        """Whether the connection stands and somebody answers on it."""
        return self._transport is not None and self.trusted

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    @property
    def silent(self) -> int:
        """Units that do not answer."""
        if not self.up:
            return len(self.units)
        return sum(u.failures > FREE_FAILURES for u in self.units)

    # --- connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start over: nothing pending, nobody trusted yet."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.trusted = False
        self._fill = self._misses = 0
        self._count.connects += 1
        for unit in self.units:
            unit.reconnected()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget what was asked and ask for a new connection after a while."""
        self._transport = None
        self._pending.clear()
        self._queue.clear()
        self._count.disconnects += 1
        self.failed()

    def failed(self) -> None:
        """This connection, or the attempt to make one, came to nothing."""
        self.trusted = False
        self._failures += 1
        self._wheel.after(LINK_BACKOFF.wait_s(self._failures), self._reconnect, self)

    def reset(self) -> None:
        """Drop the connection; `connection_lost` follows."""
        if self._transport is not None:
            self._transport.abort()

    # --- sending

    def sweep(self) -> None:
        """Ask every unit that is due; of the silent ones at most one, at the end."""
        if self._transport is None:
            return
        if self._queue or self._pending:
            self._count.overruns += 1
            return
        self._sweep += 1
        if not self.trusted:
            self._probe_next = (self._probe_next + 1) % len(self.units)
            unit = self.units[self._probe_next]
            self._queue.extend((unit.jobs or unit.refused)[:1])
        else:
            second: list[AnyJob] = []
            for unit in self.units:
                if self._sweep % unit.every == 0:
                    if not unit.failures:
                        self._queue.extend(unit.jobs)
                        if unit.refused and self._sweep % ASK_AGAIN == 0:
                            self._queue.extend(unit.refused)
                    elif unit.failures <= FREE_FAILURES:
                        second += unit.jobs
            self._queue.extend(second)
            self._queue_probe()
        self._pump()

    def _queue_probe(self) -> None:
        """The unit in back-off that has waited longest, if one is due."""
        now_s = self._now()
        due = [u for u in self.units if u.failures > FREE_FAILURES and u.retry_s <= now_s and u.asked != self._sweep]
        if due:
            unit = min(due, key=lambda u: u.retry_s)
            unit.asked = self._sweep
            self._queue.extend((unit.jobs or unit.refused)[:1])

    def _pump(self) -> None:
        transport, queue, pending = self._transport, self._queue, self._pending
        if transport is None:
            return
        # by the clock: after a stall the wheel runs through its ticks faster than time
        deadline = self._wheel.tick_of(self._now()) + 1 + self._timeout_ticks
        while queue and len(pending) < self.in_flight:
            job = queue.popleft()
            if job.unit.dropped == self._sweep:
                continue
            tid = self._tid = (self._tid + 1) & 0xFFFF
            pending[tid] = job
            self._count.polls += 1
            transport.write(tid.to_bytes(2, "big") + job.tail)
            self._wheel.at(deadline, self._expire, tid)

    def expire(self, tid: int) -> None:
        """Deadline of a request: if it still waits, its unit is silent."""
        job = self._pending.pop(tid, None)
        if job is None:
            return
        self._count.timeouts += 1
        self._misses += 1
        if self.tap is not None:
            self.tap(job, SILENT)
        job.unit.missed(job)
        self._unit_failed(job.unit)
        if not self.trusted or self._misses >= max(3, len(self.units) // 2):
            self.reset()
        else:
            self._pump()

    def _unit_failed(self, unit: Unit) -> None:
        unit.failures += 1
        unit.dropped = self._sweep
        self._queue.rotate(len(self._queue) // 2)  # dead units stand together: serve the others first
        over = unit.failures - FREE_FAILURES
        unit.retry_s = self._now() + (UNIT_BACKOFF.wait_s(over) if over > 0 else 0.0)

    # --- receiving

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._view[self._fill :] if self._fill else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take every whole reply out of the buffer."""
        buffer, view, pending = self._buffer, self._view, self._pending
        end = self._fill + nbytes
        start = 0
        while end - start >= frame.SHORTEST:
            tid = buffer[start] << 8 | buffer[start + 1]
            job = pending.get(tid)
            if job is not None and buffer[start + 2 : start + 9] == job.head:
                stop = start + 9 + job.size
                if stop > end:
                    break
                job.target[:] = view[start + 9 : stop]
                del pending[tid]
                self._good(job)
            else:
                size = frame.frame_size(buffer, start, end)
                if size < 0:
                    self._count.garbage += 1
                    self.reset()
                    self._fill = 0
                    return
                if size == 0:
                    break
                stop = start + size
                self._odd(tid, job, bytes(view[start + 6 : stop]))
            start = stop
        self._fill = end - start
        if start and self._fill:
            buffer[: self._fill] = buffer[start:end]
        if self._queue:
            self._pump()

    def _good(self, job: AnyJob) -> None:
        job.slab.arrived(job.index, self._now())
        self._count.replies += 1
        self.points += job.weight
        if self.tap is not None:
            self.tap(job, 0)
        if job.flagged:
            self._queue.extend(job.unit.accept(job))
        unit = job.unit
        if unit.failures or not self.trusted:
            unit.failures = 0
            self._alive()
            self._queue_probe()  # one came back: see whether its neighbours have, too
        self._misses = 0

    def _alive(self) -> None:
        self.trusted = True
        self._failures = 0

    def _odd(self, tid: int, job: AnyJob | None, message: bytes) -> None:
        """A whole frame that is no good reply: exception, late, foreign or wrong in size."""
        if job is None:
            late = (self._tid - tid) & 0xFFFF < RECENT
            self._count.late += late
            self._count.garbage += not late
        elif message[0] != job.tail[4] or message[1] & 0x7F != job.tail[5]:
            self._count.garbage += 1  # somebody else's reply: ours may still come
        elif message[1] & 0x80 and len(message) == 3:
            del self._pending[tid]
            self._count.exceptions += 1
            if self.tap is not None:
                self.tap(job, message[2])
            self._refused(job, message[2])
        else:
            del self._pending[tid]
            self._count.garbage += 1
            if self.tap is not None:
                self.tap(job, GARBAGE)
            job.flag(Quality.BAD)

    def _refused(self, job: AnyJob, code: int) -> None:
        self._alive()
        self._misses = 0
        if code in (frame.PATH_UNAVAILABLE, frame.TARGET_FAILED):
            self._unit_failed(job.unit)
            return
        job.unit.failures = 0
        if code == frame.ILLEGAL_ADDRESS:
            self._queue.extend(job.unit.split(job))
        elif code in (frame.DEVICE_BUSY, frame.ACKNOWLEDGE):
            job.flag(Quality.SUSPECT)
        else:
            job.flag(Quality.BAD)
