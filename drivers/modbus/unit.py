"""One device on a connection: the reads that make up its poll, and whether it answers.

A device with SunSpec models is asked first where they are; its reads are made from what it says. Each reply must begin
with its model's id: where it does not, and on every new connection, the device is asked again.
"""

import logging
import struct
from collections.abc import Sequence

from drivers.modbus import frame
from drivers.modbus.image import SlabImage
from drivers.modbus.sunspec import BASES, ChainWalk, Model
from drivers.points import Quality

log = logging.getLogger(__name__)


class Job:
    """One read of one device, with everything that its request and reply need."""

    __slots__ = (
        "arrived",
        "flagged",
        "head",
        "id_word",
        "index",
        "read",
        "size",
        "slab",
        "tail",
        "target",
        "unit",
        "weight",
    )

    def __init__(self, unit: "Unit", read: int, model: Model | None = None) -> None:
        slab = unit.slab
        spec = slab.reads[read]
        base, count = (model.base, min(spec.count, model.length + 2 - spec.addr)) if model else (0, spec.count)
        first = 2 * (unit.row * slab.codec.width + slab.codec.column(spec.fc, spec.addr, spec.model))
        self.unit, self.slab, self.read = unit, slab, read
        self.size = frame.read_size(spec.fc, count)
        self.tail = frame.read_tail(unit.number, spec.fc, base + spec.addr, count)
        self.head = frame.reply_head(unit.number, spec.fc, self.size)
        self.target = slab.bytes[first : first + self.size]
        self.arrived = slab.arrived
        self.index = unit.row * len(slab.reads) + read
        self.weight = len(spec.points)
        self.id_word = spec.model.to_bytes(2, "big") if spec.model and spec.addr == 0 else b""
        self.flagged = bool(self.id_word)  # the unit looks at the reply

    def flag(self, quality: Quality) -> None:
        """Note the quality of this read."""
        self.slab.flag(self.index, quality)
        self.flagged = quality != Quality.GOOD or bool(self.id_word)


def _nowhere(_index: int, _now_s: float) -> None:
    """Where the time of a reply goes that belongs to no read."""


class WalkJob:
    """One step along a device's chain of SunSpec models."""

    __slots__ = ("arrived", "flagged", "head", "index", "read", "size", "tail", "target", "unit", "weight")

    def __init__(self, unit: "Unit", addr: int) -> None:
        self.unit, self.arrived, self.read, self.index, self.weight, self.size = unit, _nowhere, -1, 0, 0, 4
        self.tail = frame.read_tail(unit.number, frame.READ_HOLDING, addr, 2)
        self.head = frame.reply_head(unit.number, frame.READ_HOLDING, self.size)
        self.target = memoryview(bytearray(self.size))
        self.flagged = True

    def flag(self, _quality: Quality) -> None:
        """The next sweep asks again."""


AnyJob = Job | WalkJob


class Unit:
    """One device. `jobs` are asked in every poll, `refused` seldom."""

    __slots__ = (
        "asked",
        "base",
        "doubted",
        "dropped",
        "every",
        "failures",
        "jobs",
        "known",
        "number",
        "refused",
        "retry_s",
        "row",
        "slab",
        "walk",
    )

    def __init__(self, slab: SlabImage, row: int, number: int, every: int) -> None:
        self.slab, self.row, self.number = slab, row, number
        self.every = every  # polled in each so-manieth sweep of its connection
        self.walk: ChainWalk | None = None
        self.base = BASES[0]  # where its chain is looked for first
        self.known: dict[int, Model] | None = None  # where the last walk found its models
        self.doubted: dict[int, Model] | None = None  # these were looked for again after a refusal
        self.jobs: list[AnyJob] = []
        self.refused: list[AnyJob] = []  # reads that it answers with "illegal address", one point each
        self.failures = 0  # timeouts in a row
        self.retry_s = 0.0
        self.dropped = 0  # sweep in which it fell silent
        self.asked = 0  # sweep in which it was last probed
        if slab.models:
            self._walk_from_start()
        else:
            self.jobs = [Job(self, i) for i in range(slab.merged)]

    @property
    def steady(self) -> bool:
        """Whether its polls are the same each time, and nothing in their replies needs a look."""
        if self.failures or self.refused or self.walk is not None or self.every > 1:
            return False
        return not any(job.flagged for job in self.jobs)

    def missed(self, job: AnyJob) -> None:
        """Nothing came in time."""
        if isinstance(job, WalkJob) and self.walk is not None:
            self.walk.silent()
            if not self.walk.found:
                self.base = self.walk.addr  # also on the next connection: this one may be given up for it
            where = self.jobs if job in self.jobs else self.refused
            where[:] = [WalkJob(self, self.walk.addr)]

    def reconnected(self) -> None:
        """A new connection: behind it may be another device, or another firmware."""
        if self.slab.models:
            self._walk_from_start()

    def split(self, job: AnyJob) -> Sequence[AnyJob]:
        """The device refuses a read: from now on point by point, and seldom what it refuses alone.

        Returns what to ask in this sweep, too.
        """
        if isinstance(job, WalkJob):
            return self._walked(None)
        if job.id_word and self.doubted != self.known:  # perhaps it has moved: believe the refusal if it has not
            self.doubted = self.known
            self._walk_from_start()
            return ()
        if job in self.jobs:
            self.jobs.remove(job)
        if job.read < self.slab.merged:
            first = self.slab.merged + sum(len(self.slab.singles[i]) for i in range(job.read))
            self.jobs += self._jobs(range(first, first + len(self.slab.singles[job.read])))
            self.slab.use_singles(self.row, job.read)
        elif job not in self.refused:
            self.refused.append(job)
            job.flag(Quality.BAD)
        return ()

    def accept(self, job: AnyJob) -> Sequence[AnyJob]:
        """A flagged read has come back good; returns what to ask in this sweep, too."""
        if isinstance(job, WalkJob):
            return self._walked(struct.unpack(">2H", job.target))
        if job.id_word and job.target[:2] != job.id_word:
            if self.slab.quality.reshape(-1)[job.index] < Quality.BAD:
                log.warning("%s: its SunSpec models have moved; looking for them", self.name)
            job.flag(Quality.BAD)
            self._walk_from_start()  # in the next sweep: a device that goes on like this must not hold its line
            return ()
        job.flag(Quality.GOOD)
        if job in self.refused:
            self.refused.remove(job)
            self.jobs.append(job)
        return ()

    @property
    def name(self) -> str:
        """The device's id."""
        return self.slab.slab.devices[self.row].id

    def _jobs(self, reads: range) -> list[AnyJob]:
        """Reads as jobs; those of a model that the device does not have, or that ends before, are BAD and left out."""
        jobs: list[AnyJob] = []
        for i in reads:
            spec = self.slab.reads[i]
            model = (self.known or {}).get(spec.model)
            if not spec.model:
                jobs.append(Job(self, i))
            elif model and model.length + 2 > spec.addr:
                jobs.append(Job(self, i, model))
            else:
                self.slab.flag(self.row * len(self.slab.reads) + i, Quality.BAD)
        return jobs

    def _walk_from_start(self) -> None:
        self.walk = ChainWalk(self.base)
        self.jobs, self.refused = [WalkJob(self, self.walk.addr)], []

    def _walked(self, words: tuple[int, ...] | None) -> Sequence[AnyJob]:
        """One step of the walk is answered: the next one, or the reads once the models are known."""
        if self.walk is None:
            return ()
        self.walk.answer(words)
        if not self.walk.done:
            self.jobs = [WalkJob(self, self.walk.addr)]
            return self.jobs
        models, self.walk = self.walk.models, None
        lacking = [m for m in self.slab.models if m not in models]
        if lacking and models != self.known:
            log.warning("%s: it has no SunSpec model %s; of the others it has %s", self.name, lacking, list(models))
        self.known = models
        for model in self.slab.models:
            if model in models:
                self.slab.absent(self.row, model, models[model].length + 2)
        self.slab.use_merged(self.row)
        self.jobs = self._jobs(range(self.slab.merged))
        self.refused = []
        if lacking:  # look again, seldom
            self.walk = ChainWalk(self.base)
            self.refused = [WalkJob(self, self.walk.addr)]
        return self.jobs
