"""One connection: a device of its own or a gateway with many units. Asks, times out, backs off; framing lies apart.

A unit that is silent is asked again at the end of a sweep, then at growing intervals; a connection on which nobody
answers is closed and opened again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from drivers.clock import Clock
from drivers.modbus import frame
from drivers.modbus.tap import SILENT
from drivers.modbus.unit import AnyJob, Unit
from drivers.modbus.wheel import Wheel
from drivers.points import Quality
from drivers.supervise import Backoff

LINK_BACKOFF = Backoff(first_s=0.5, longest_s=10.0)
UNIT_BACKOFF = Backoff(first_s=2.0, longest_s=16.0)
FREE_FAILURES = 1  # timeouts after which a unit is still polled at full pace
MAX_STRAYS = 64  # replies in a sweep that nobody waits for; who sends more is cut off
ASK_AGAIN = 60  # sweeps after which a device is asked again for what it refused


@dataclass
class Counters:
    """What happened on the wires since the start."""

    polls: int = 0
    replies: int = 0
    points: int = 0  # values received
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
        self.why = "nobody answers"  # the last attempt to connect came to nothing
        self._now, self._wheel, self._count = clock.now_s, wheel, counters
        self._reconnect = reconnect
        self._timeout_ticks = max(1, round(timeout_s / wheel.tick_s))
        self._expire = self.expire  # bound once: one is queued per write
        self._transport: asyncio.Transport | None = None
        self._calm = False  # nothing is out of order: replies need no second look
        self._queue: deque[AnyJob] = deque()
        self._pending: dict[int, AnyJob] = {}
        self._tid = 0
        self._sweep = 0
        self._misses = 0  # timeouts in a row, of any unit
        self._failures = 0  # connections in a row without a reply
        self._probe_next = 0
        self._strays = 0
        self._buffer = bytearray(frame.MAX_FRAME * (in_flight + 1))
        self._view = memoryview(self._buffer)
        self._fill = 0

    @property
    def up(self) -> bool:
        """Whether the connection stands and somebody answers on it."""
        return self._transport is not None and self.trusted

    @property
    def failures(self) -> int:
        """Attempts and connections in a row on which nobody answered."""
        return self._failures

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
        """Start over with an empty buffer."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._fill = self._strays = 0
        self._calm = False
        self._count.connects += 1
        self.why = "nobody answers"
        self._welcome()

    def _welcome(self) -> None:
        """A new connection: nobody is trusted yet."""
        self.trusted = False
        self._misses = 0
        for unit in self.units:
            unit.reconnected()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget what was asked and see to a new connection."""
        self._transport = None
        self._pending.clear()
        self._count.disconnects += 1
        self._dropped()

    def _dropped(self) -> None:
        self._queue.clear()
        self.failed()

    def failed(self) -> None:
        """This connection, or the attempt to make one, came to nothing."""
        self.trusted = self._calm = False
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
        self._strays = 0
        if not self._ask_at_once():
            self._queue_due()
            self._pump()

    def _ask_at_once(self) -> bool:
        """Ask for a whole sweep, where nothing is out of order and the framing knows how; False: it has not."""
        return False

    def _queue_due(self) -> None:
        if not self.trusted:
            self._probe_next = (self._probe_next + 1) % len(self.units)
            unit = self.units[self._probe_next]
            self._queue.extend((unit.jobs or unit.refused)[:1])
            return
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
        requests = []
        while queue and len(pending) < self.in_flight:
            job = queue.popleft()
            if job.unit.dropped == self._sweep:
                continue
            tid = self._tid = (self._tid + 1) & 0xFFFF
            pending[tid] = job
            requests.append(self._request(tid, job))
        if requests:
            self._count.polls += len(requests)
            transport.write(b"".join(requests))
            # by the clock: after a stall the wheel runs through its ticks faster than time
            self._wheel.at(self._wheel.tick_of(self._now()) + 1 + self._timeout_ticks, self._expire, self._tid)

    def _request(self, _tid: int, job: AnyJob) -> bytes:
        """The request as the framing has it."""
        raise NotImplementedError

    def expire(self, last: int) -> None:
        """Deadline of the requests up to transaction `last`: where one still waits, its unit is silent."""
        if not self._pending:
            return
        over = [tid for tid in self._pending if (last - tid) & 0xFFFF < 0x8000]
        for tid in over:
            job = self._pending.pop(tid)
            self._count.timeouts += 1
            self._misses += 1
            self._tell(job, SILENT)
            job.unit.missed(job)
            self._unit_failed(job.unit)
        if over and self._hopeless:
            self.reset()
        elif over:
            self._go_on()

    @property
    def _hopeless(self) -> bool:
        """So many in a row have not answered that it must be the connection."""
        return not self.trusted or self._misses >= max(3, len(self.units) // 2)

    def _go_on(self) -> None:
        """After a silence of a unit whose neighbours speak."""
        self._pump()

    def _unit_failed(self, unit: Unit) -> None:
        self._calm = False
        unit.failures += 1
        unit.dropped = self._sweep
        self._queue.rotate(len(self._queue) // 2)  # dead units stand together: serve the others first
        over = unit.failures - FREE_FAILURES
        unit.retry_s = self._now() + (UNIT_BACKOFF.wait_s(over) if over > 0 else 0.0)

    # --- replies

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._view[self._fill :] if self._fill else self._view

    def _keep(self, start: int, end: int) -> None:
        """What lies between is the beginning of a reply: more will come behind it."""
        self._fill = end - start
        if start and self._fill:
            self._buffer[: self._fill] = self._buffer[start:end]

    def _received(self, replies: int, points: int) -> None:
        self._count.replies += replies
        self._count.points += points
        self.points += points

    def _stray(self, *, late: bool) -> bool:
        """A frame that nobody waits for; whether the connection is given up, as too many have come."""
        self._count.late += late
        self._count.garbage += not late
        self._strays += 1
        if self._strays <= MAX_STRAYS + 2 * self.in_flight:  # some devices say everything twice
            return False
        self.reset()
        return True

    def _good(self, job: AnyJob) -> None:
        """A reply while something is out of order, or somebody listens in."""
        self._tell(job, 0)
        if job.flagged:
            self._queue.extend(job.unit.accept(job))
        unit = job.unit
        if unit.failures or not self.trusted:
            unit.failures = 0
            self._alive()
            self._queue_probe()  # one came back: see whether its neighbours have, too
        self._misses = 0

    def _tell(self, job: AnyJob, code: int) -> None:
        if self.tap is not None:
            self.tap(job, code)

    def _alive(self) -> None:
        self.trusted = True
        self._failures = 0

    def _refused(self, job: AnyJob, code: int) -> None:
        self._tell(job, code)
        self._calm = False
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
