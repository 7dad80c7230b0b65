"""Where replies go: the register image of every device of a slab, with time and state of each read."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.codec import compile_codec
from drivers.inventory import Slab
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
        self.models = tuple(sorted({r.model for r in merged} - {0}))  # SunSpec models that are read
        self.raw: NDArray[np.uint16] = np.zeros((slab.rows, self.codec.width), dtype=">u2")
        self.bytes = self.raw.view(np.uint8).reshape(-1).data
        self.time_s: Floats = np.full((slab.rows, len(self.reads)), -np.inf)
        # (index, seconds) -> None: half the price of indexing the array
        self.arrived: Callable[[int, float], None] = self.time_s.reshape(-1).data.__setitem__  # type: ignore[assignment]
        self.quality = np.zeros((slab.rows, len(self.reads)), dtype=np.uint8)
        self._uses = self._use_table()
        self._row_uses: NDArray[np.intp] | None = None  # per row, once a device refuses a merged read

    def flag(self, index: int, quality: Quality) -> None:
        """Note the quality of one device's read, by its place among all reads of all devices."""
        self.quality.reshape(-1)[index] = quality

    def use_merged(self, row: int) -> None:
        """From now on all of this device's points come from merged reads again."""
        self.quality[row, self.merged :] = 0
        if self._row_uses is not None:
            self._row_uses[row] = self._uses

    def use_singles(self, row: int, merged: int) -> None:
        """From now on this device's points of a merged read come from reads of their own."""
        if self._row_uses is None:
            self._row_uses = np.tile(self._uses, (self.slab.rows, 1, 1))
        first = self.merged + sum(len(self.singles[i]) for i in range(merged))
        for k, read in enumerate(self.singles[merged]):
            for point in read.points:
                p = self.profile.polled()[point]
                own = read.covers(p.fc, p.model, p.addr)
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
                reads = self.reads[: self.merged]
                uses[k, j] = next(i for i, r in enumerate(reads) if r.covers(p.fc, p.model, p.addr))
        return uses

    def absent(self, row: int, model: int, beyond: int) -> None:
        """A device's SunSpec model ends before address `beyond`: what its points would be there is not available."""
        image = self.raw[row : row + 1]
        one = image.astype(np.uint16)
        for p in self.profile.polled():
            for q in (p, self.profile.point(p.scale_point)) if p.scale_point else (p,):
                if q.model == model and q.places[-1] >= beyond:
                    self.codec.put(one, q.name, np.nan)
        image[:] = one
