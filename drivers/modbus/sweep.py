"""Every request of a sweep in which nothing is out of order: one message out, replies taken whole where they can be.

A gateway that answers its units in the order they were asked sends many replies in one segment. They are compared
with what is due and copied into the images all together; whatever is not exactly that is left to the link.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from drivers.modbus.unit import AnyJob, Job

FEWEST = 4  # replies for which it pays
HEAD = 9  # transaction, protocol, length, unit, function, bytes of data
Octets = NDArray[np.uint8]


class Sweep:
    """The jobs of a sweep, in order."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = tuple(jobs)
        self.size = HEAD + jobs[0].size
        self._together = False
        if len(jobs) > 1:
            self._compose(jobs)

    def _compose(self, jobs: Sequence[Job]) -> None:
        requests = bytearray(b"".join(b"\0\0" + job.tail for job in jobs))
        self._requests = np.frombuffer(requests, dtype=">u2").reshape(len(jobs), -1)
        self._heads = np.frombuffer(bytearray(b"".join(b"\0\0" + job.head for job in jobs)), dtype=np.uint8)
        self._heads = self._heads.reshape(len(jobs), HEAD)
        self._tids = self._heads[:, :2].view(">u2")[:, 0]
        first = jobs[0]
        rows = first.unit.row + np.arange(len(jobs))
        alike = all(j.slab is first.slab and j.read == first.read and j.size == first.size for j in jobs)
        self._together = alike and len(jobs) >= FEWEST and np.array_equal(rows, [j.unit.row for j in jobs])

    def message(self, tid: int) -> bytes:
        """All requests, their transactions counted from `tid` on."""
        tids = np.arange(tid, tid + len(self.jobs))
        self._requests[:, 0] = self._tids[:] = tids
        return self._requests.tobytes()

    def take(self, received: Octets, waiting: dict[int, AnyJob], now_s: float) -> int:
        """Take the replies that `received` begins with out of `waiting`, if all are the next due and as they should be.

        Returns how many; each is `size` bytes long.
        """
        done = len(self.jobs) - len(waiting)
        count = min(len(received) // self.size, len(waiting))
        if not self._together or count < FEWEST or next(iter(waiting)) != self._tids[done]:
            return 0  # the first that waits is not the first after those that came: out of order
        block = received[: count * self.size].reshape(count, self.size)
        if block[:, :HEAD].tobytes() != self._heads[done : done + count].tobytes():
            return 0
        first = self.jobs[done]
        first.slab.take(first.unit.row, first.read, block[:, HEAD:], now_s)
        for tid in tuple(islice(waiting, count)):
            del waiting[tid]
        return count
