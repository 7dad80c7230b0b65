"""Where replies go: the register image of every device of a slab, with time and state of each read."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.codec import compile_codec
from drivers.inventory import Slab
from drivers.modbus.plan import Read, plan_reads, single_reads
from drivers.points import Floats, PointTable, Qualities, Quality
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
        self.due_s: Floats = np.ones((slab.rows, 2))  # of each device's polls: offset from the wheel's zero, period
        self._uses = self._use_table()
        self._one_read = int(self._uses[0, 0]) if len(np.unique(self._uses)) == 1 else None
        self._row_uses: NDArray[np.intp] | None = None  # per row, once a device refuses a merged read

    def flag(self, index: int, quality: Quality) -> None:
        """Note the quality of one device's read, by its place among all reads of all devices."""
        self.quality.reshape(-1)[index] = quality

    def take(self, row: int, read: int, data: NDArray[np.uint8], now_s: float) -> None:
        """Store one read of successive devices [devices, bytes], from `row` on, that has just come in."""
        spec = self.reads[read]
        first = 2 * self.codec.column(spec.fc, spec.addr, spec.model)
        self.raw.view(np.uint8)[row : row + len(data), first : first + data.shape[1]] = data
        self.time_s[row : row + len(data), read] = now_s

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

    def collect(self, table: PointTable) -> None:
        """Decode all devices into the table; time stays that of arrival."""
        value, quality, time_s = table.rows(self.slab.start, self.slab.stop, len(self.codec.points))
        bad = self.codec.decode_into(self.raw, value)
        self._when(time_s)
        np.multiply(bad, np.uint8(Quality.BAD), out=quality)
        never = np.isneginf(time_s)
        value[never] = np.nan
        quality[never] = Quality.NEVER
        if self.quality.any():
            state = self._worst()
            np.maximum(quality, state, out=quality, where=~never)
            quality[never & (state >= Quality.BAD)] = Quality.BAD

    def _when(self, out: Floats) -> None:
        """Arrival times [rows, points]: a value is as old as the older of itself and its scale factor."""
        if self._row_uses is not None:
            rows = np.arange(self.slab.rows)[:, None, None]
            np.min(self.time_s[rows, self._row_uses], axis=1, out=out)
        elif self._one_read is not None:
            out[:] = self.time_s[:, self._one_read, None]
        else:
            np.minimum(self.time_s[:, self._uses[0]], self.time_s[:, self._uses[1]], out=out)

    def _worst(self) -> Qualities:
        """Quality of the reads behind each point, [rows, points]."""
        if self._row_uses is None:
            return np.maximum(self.quality[:, self._uses[0]], self.quality[:, self._uses[1]])
        rows = np.arange(self.slab.rows)[:, None, None]
        worst: Qualities = self.quality[rows, self._row_uses].max(axis=1)
        return worst

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
