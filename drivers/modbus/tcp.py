"""Modbus TCP on a connection: transactions tell replies apart, so as many may be under way as the device queues.

A reply counts only if transaction id, unit, function and byte count are those of a request that is waiting; its
registers go straight into the image of its slab.
"""

from typing import cast

import numpy as np

from drivers.modbus import frame
from drivers.modbus.bus import Link
from drivers.modbus.sweep import Sweep
from drivers.modbus.tap import GARBAGE
from drivers.modbus.unit import AnyJob, Job
from drivers.points import Quality

RECENT = 256  # transaction ids back that may still be a late reply


class TcpLink(Link):
    """A connection with the frames of Modbus TCP, plain or inside TLS."""

    _plan: Sweep | None = None  # a whole sweep's requests, made when nothing was out of order

    def _request(self, _tid: int, job: AnyJob) -> bytes:
        return _tid.to_bytes(2, "big") + job.tail

    def _ask_at_once(self) -> bool:
        if not self._calm and not self._settle():
            return False
        plan, transport = self._plan, self._transport
        assert plan is not None
        assert transport is not None
        if len(plan.jobs) > self.in_flight:
            self._queue.extend(plan.jobs)
            self._pump()
            return True
        first, count = self._tid + 1, len(plan.jobs)
        if first + count > 0xFFFF:
            first = 0
        self._tid = first + count - 1
        self._pending.update(zip(range(first, first + count), plan.jobs, strict=True))
        self._count.polls += count
        transport.write(plan.message(first) if count > 1 else first.to_bytes(2, "big") + plan.jobs[0].tail)
        self._wheel.at(self._wheel.due + 1 + self._timeout_ticks, self._expire, self._tid)
        return True

    def _settle(self) -> bool:
        """Whether every unit answers as it should: then all requests of a sweep are the same each time."""
        jobs = [cast(Job, job) for unit in self.units for job in unit.jobs]
        self._calm = self.tap is None and self.trusted and bool(jobs) and all(unit.steady for unit in self.units)
        if self._calm:
            self._plan = Sweep(jobs)
        return self._calm

    def buffer_updated(self, nbytes: int) -> None:
        """Take every whole reply out of the buffer."""
        buffer, view, pending = self._buffer, self._view, self._pending
        now_s = self._now()
        end = self._fill + nbytes
        start = replies = points = 0
        if self._calm and self._plan is not None and len(pending) > 1:
            replies = self._plan.take(np.frombuffer(view[:end], dtype=np.uint8), pending, now_s)
            start = replies * self._plan.size
            points = replies * self._plan.jobs[0].weight
        while end - start >= frame.SHORTEST:
            tid = buffer[start] << 8 | buffer[start + 1]
            job = pending.get(tid)
            if job is not None and buffer[start + 2 : start + 9] == job.head:
                stop = start + 9 + job.size
                if stop > end:
                    break
                job.target[:] = view[start + 9 : stop]
                job.arrived(job.index, now_s)
                del pending[tid]
                replies += 1
                points += job.weight
                if not self._calm:
                    self._good(job)
            else:
                stop = self._other(tid, job, start, end)
                if stop <= 0:
                    end = start if stop < 0 else end
                    break
            start = stop
        self._received(replies, points)
        self._keep(start, end)
        if self._queue:
            self._pump()

    def _other(self, tid: int, job: AnyJob | None, start: int, end: int) -> int:
        """Where what is no good reply ends; 0: not in the buffer yet, -1: the connection is given up for it."""
        size = frame.frame_size(self._buffer, start, end)
        if size < 0:
            self._count.garbage += 1
            self.reset()
        if size <= 0:
            return size
        message = bytes(self._view[start + frame.HEADER : start + size])
        return start + size if self._odd(tid, job, message) else -1

    def _odd(self, tid: int, job: AnyJob | None, message: bytes) -> bool:
        """A whole frame that is no good reply: exception, late, foreign, wrong in size. False: it was one too many."""
        if job is None:
            return not self._stray(late=(self._tid - tid) & 0xFFFF < RECENT)
        if message[0] != job.tail[4] or message[1] & 0x7F != job.tail[5]:
            return not self._stray(late=False)  # somebody else's reply: ours may still come
        del self._pending[tid]
        if message[1] & 0x80 and len(message) == 3:
            self._count.exceptions += 1
            self._refused(job, message[2])
        else:
            self._calm = False
            self._count.garbage += 1
            self._tell(job, GARBAGE)
            job.flag(Quality.BAD)
        return True
