"""Modbus RTU through a serial server: the frames of a serial line on a TCP connection, one request at a time.

No transaction tells replies apart. So what does not begin as the reply that is due does, or has a wrong check sum, and
every silence end the connection: a reply that comes late must not be taken for the next. A new one is opened at once
and the sweep goes on. Source: MODBUS over Serial Line V1.02.
"""

from collections import deque
from functools import cache

import numpy as np

from drivers.modbus import frame
from drivers.modbus.bus import Link
from drivers.modbus.tap import GARBAGE
from drivers.modbus.unit import AnyJob
from drivers.modbus.wheel import Wheel

SUM = 2  # bytes of the check sum
REFUSAL = 5  # unit, function, code, check sum
POLYNOMIAL = 0xA001


@cache
def _table() -> list[int]:
    """Remainder of each 16-bit word."""
    word = np.arange(65536)
    for _ in range(16):
        word = np.where(word & 1, word >> 1 ^ POLYNOMIAL, word >> 1)
    remainders: list[int] = word.tolist()
    return remainders


def crc16(data: bytes | bytearray | memoryview) -> int:
    """Check sum of a frame; over a frame with its check sum it is 0."""
    table, crc = _table(), 0xFFFF
    for i in range(0, len(data) - 1, 2):
        crc = table[crc ^ (data[i] | data[i + 1] << 8)]
    if len(data) % 2:
        low = table[(crc ^ data[-1]) << 8 & 0xFFFF]  # eight zero bits go before the last byte
        crc = crc >> 8 ^ low
    return crc


def rtu(message: bytes) -> bytes:
    """Unit and PDU with their check sum, as they go over the line."""
    return message + crc16(message).to_bytes(SUM, "little")


class RtuLink(Link):
    """A serial server and the units on its line. `rest_s` [s] passes between a reply and the next request."""

    rest_s = 0.0
    rests: Wheel | None = None  # finer than the one of the sweeps
    _again = False  # this connection is closed to be opened anew: its units are not to blame
    _rests_until_s = float("-inf")
    _resting = False

    # --- connection

    def reopen(self) -> None:
        """Close the connection and open another one: what is still under way here is lost with it."""
        self._again = True
        self.reset()

    def _dropped(self) -> None:
        if self._again:
            self._reconnect(self)
        else:
            super()._dropped()

    def _welcome(self) -> None:
        if not self._again:
            super()._welcome()
        self._again = False
        self._pump()

    def failed(self) -> None:
        """This connection, or the attempt to make one, came to nothing."""
        self._again = False
        self._queue = deque()
        super().failed()

    # --- sending

    def _request(self, _tid: int, job: AnyJob) -> bytes:
        return rtu(job.tail[frame.HEADER - 2 :])

    def _pump(self) -> None:
        wait_s = self._rests_until_s - self._now()
        if wait_s <= 0.0:
            super()._pump()
        elif not self._resting:
            self._resting = True
            (self.rests or self._wheel).after(wait_s, self._rested, None)

    def _rested(self, _: None) -> None:
        self._resting = False
        self._pump()

    def _go_on(self) -> None:
        self.reopen()

    # --- receiving

    def buffer_updated(self, nbytes: int) -> None:
        """Take the reply that is due, once it is whole."""
        end = self._fill + nbytes
        self._fill = 0
        if not self._pending:
            self._stray(late=True)
            return
        (job,) = self._pending.values()
        size = self._size(job, end)
        if size > end:
            self._fill = end
            return
        self._pending.clear()
        if size == 0 or crc16(self._view[:size]):
            self._count.garbage += 1
            self._tell(job, GARBAGE)
            self._misses += 1
            self._unit_failed(job.unit)
            if self._hopeless:
                self.reset()
            else:
                self.reopen()
            return
        if size < end:
            self._stray(late=False)
        self._rests_until_s = self._now() + self.rest_s
        self._take(job)
        self._pump()

    def _size(self, job: AnyJob, end: int) -> int:
        """Bytes that the reply which begins like this must have; 0: it is none to this question."""
        head = job.head[frame.HEADER - 2 :]  # unit, function, bytes of data
        if end < len(head):
            return REFUSAL if self._buffer[: min(end, 1)] == head[: min(end, 1)] else 0
        if self._buffer[: len(head)] == head:
            return len(head) + job.size + SUM
        refused = self._buffer[0] == head[0] and self._buffer[1] == head[1] | 0x80
        return REFUSAL if refused else 0

    def _take(self, job: AnyJob) -> None:
        if self._buffer[1] & 0x80:
            self._count.exceptions += 1
            self._refused(job, self._buffer[2])
            return
        job.target[:] = self._view[3 : 3 + job.size]
        job.arrived(job.index, self._now())
        self._received(1, job.weight)
        self._good(job)
