"""Where replies go: the register image of every device of a slab, with time and state of each read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.codec import compile_codec
from drivers.inventory import Slab
from drivers.modbus import frame
from drivers.modbus.plan import Read, plan_reads, single_reads
from drivers.points import Floats, PointTable, Quality
from drivers.profile import Profile


class SlabImage:
    """Registers as they came [devices, registers], arrival time [s] and quality per [device, read].

    Reads are the merged ones first, then each merged one's points alone for devices that refuse it.
    """

    def __init__(self, slab: Slab, profile: Profile) -> None:
        self.slab, self.profile = slab, profile
        self.codec = compile_codec(profile)
        merged = plan_reads(profile)
        self.singles = {i: single_reads(profile, read) for i, read in enumerate(merged)}
        self.reads: tuple[Read, ...] = merged + tuple(r for group in self.singles.values() for r in group)
        self.merged = len(merged)
        self.raw: NDArray[np.uint16] = np.zeros((slab.rows, self.codec.width), dtype=">u2")
        self.bytes = self.raw.view(np.uint8).reshape(-1).data
        self.time_s: Floats = np.full((slab.rows, len(self.reads)), -np.inf)
        # (index, seconds) -> None: half the price of indexing the array
        self.arrived: Callable[[int, float], None] = self.time_s.reshape(-1).data.__setitem__  # type: ignore[assignment]
        self.quality = np.zeros((slab.rows, len(self.reads)), dtype=np.uint8)
        self._uses = self._use_table()
        self._row_uses: NDArray[np.intp] | None = None  # per row, once a device refuses a merged read

    def flag(self, job: Job, quality: Quality) -> None:
        """Note the quality of one device's read."""
        self.quality.reshape(-1)[job.index] = quality
        job.flagged = quality != Quality.GOOD

    def use_singles(self, row: int, merged: int) -> None:
        """From now on this device's points of a merged read come from reads of their own."""
        if self._row_uses is None:
            self._row_uses = np.tile(self._uses, (self.slab.rows, 1, 1))
        first = self.merged + sum(len(self.singles[i]) for i in range(merged))
        for k, read in enumerate(self.singles[merged]):
            for point in read.points:
                own = self.profile.polled()[point].addr == read.addr and self.profile.polled()[point].fc == read.fc
                self._row_uses[row, 0 if own else 1, point] = first + k
        uses = self._row_uses[row]
        plain = [not p.scale_point for p in self.profile.polled()]
        uses[1, plain] = uses[0, plain]

    def collect(self, table: PointTable) -> Floats:
        """Decode all devices into the table; returns arrival times [rows, points], -inf where none came."""
        value, bad = self.codec.decode(self.raw.astype(np.uint16))
        if self._row_uses is None:
            times, states = self.time_s[:, self._uses], self.quality[:, self._uses]
        else:
            rows = np.arange(self.slab.rows)[:, None, None]
            times, states = self.time_s[rows, self._row_uses], self.quality[rows, self._row_uses]
        time_s: Floats = times.min(axis=1)  # a value is as old as the older of itself and its scale factor
        quality = np.maximum(states.max(axis=1), np.where(bad, np.uint8(Quality.BAD), np.uint8(Quality.GOOD)))
        never = np.isneginf(time_s)
        value[never] = np.nan
        silent = never & (states.max(axis=1) < Quality.BAD)
        quality[silent] = Quality.NEVER
        table.put(slice(self.slab.start, self.slab.stop), value.ravel(), quality.ravel(), time_s.ravel())
        return time_s

    def _use_table(self) -> NDArray[np.intp]:
        """Read of each point's own registers and of its scale factor's, shape [2, points]."""
        polled = self.profile.polled()
        uses = np.zeros((2, len(polled)), dtype=np.intp)
        for j, point in enumerate(polled):
            factor = self.profile.point(point.scale_point) if point.scale_point else point
            for k, p in enumerate((point, factor)):
                uses[k, j] = next(
                    i
                    for i, r in enumerate(self.reads[: self.merged])
                    if r.fc == p.fc and r.addr <= p.addr < r.addr + r.count
                )
        return uses


class Job:
    """One read of one device, with everything that its request and reply need."""

    __slots__ = ("flagged", "head", "index", "read", "size", "slab", "tail", "target", "unit", "weight")

    def __init__(self, unit: Unit, read: int) -> None:
        slab = unit.slab
        spec = slab.reads[read]
        first = 2 * (unit.row * slab.codec.width + slab.codec.column(spec.fc, spec.addr))
        self.unit, self.slab, self.read = unit, slab, read
        self.tail = frame.read_tail(unit.number, spec.fc, spec.addr, spec.count)
        self.head = frame.reply_head(unit.number, spec.fc, spec.count)
        self.size = 2 * spec.count
        self.target = slab.bytes[first : first + self.size]
        self.index = unit.row * len(slab.reads) + read
        self.weight = len(spec.points)
        self.flagged = False


class Unit:
    """One device on a connection: the reads that make up its poll, and whether it answers."""

    __slots__ = ("asked", "dropped", "every", "failures", "jobs", "number", "refused", "retry_s", "row", "slab")

    def __init__(self, slab: SlabImage, row: int, number: int, every: int) -> None:
        self.slab, self.row, self.number = slab, row, number
        self.every = every  # polled in each so-manieth sweep of its connection
        self.jobs = [Job(self, i) for i in range(slab.merged)]
        self.refused: list[Job] = []  # reads that it answers with "illegal address", one point each
        self.failures = 0  # timeouts in a row
        self.retry_s = 0.0
        self.dropped = 0  # sweep in which it fell silent
        self.asked = 0  # sweep in which it was last probed

    def split(self, job: Job) -> None:
        """The device refuses a read: from now on point by point, and seldom what it refuses alone."""
        if job in self.jobs:
            self.jobs.remove(job)
        if job.read < self.slab.merged:
            first = self.slab.merged + sum(len(self.slab.singles[i]) for i in range(job.read))
            self.jobs += [Job(self, first + k) for k in range(len(self.slab.singles[job.read]))]
            self.slab.use_singles(self.row, job.read)
        elif job not in self.refused:
            self.refused.append(job)
            self.slab.flag(job, Quality.BAD)

    def accept(self, job: Job) -> None:
        """A read that was flagged has come back good."""
        self.slab.flag(job, Quality.GOOD)
        if job in self.refused:
            self.refused.remove(job)
            self.jobs.append(job)
