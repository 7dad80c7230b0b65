"""What devices show: readings with noise, and the faults that hide them.

Noise is zero-mean and far below a class 0.5 meter. A frozen device shows what it last knew, a broken one its sentinel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.inventory import Inventory, Slab
from drivers.points import Floats, Ints
from sim.plant.base import DT_S, KERNEL, Bools, PlantError, ints
from sim.plant.beside import Beside
from sim.plant.errors import Errors, Faults
from sim.plant.powered import Powered
from sim.plant.readings import Readings

NOISE = 0.0005  # of a power or flow reading, one sigma
NOISE_C = 0.02
SCALED = ("_w", "_va", "_var", "_a", "_lpm")
PLAIN, GAINS, SHIFTS = range(3)  # what noise does to a point


@dataclass(frozen=True)
class Panel:
    """Things of one table, shown point by point: [things, points]."""

    table: str
    index: Ints
    points: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """A slab with its panel, and which device and gateway each row is (gateway -1: none)."""

    slab: Slab
    panel: Panel
    device: Ints
    gateway: Ints


@dataclass(frozen=True)
class _Dials:
    """Where every point of the slabs comes from: `value` holds the columns of the tables end to end [sources]."""

    columns: tuple[tuple[str, str], ...]  # table and point
    value: Floats
    source: NDArray[np.int32]  # [points]
    kind: NDArray[np.int8]  # [points] PLAIN, GAINS or SHIFTS
    noise: NDArray[np.int32]  # [points] which draw
    draws: int  # a slab's gains of its rows, its shifts, then the next slab's


@KERNEL
def _turn(
    shown: Floats,
    value: Floats,
    source: NDArray[np.int32],
    kind: NDArray[np.int8],
    noise: NDArray[np.int32],
    drawn: Floats,
) -> None:
    """What every dial shows, with its noise; `Sensors.show` says the same of one panel."""
    for p in range(len(source)):
        v = value[source[p]]
        if kind[p] == GAINS:
            v *= 1.0 + NOISE * drawn[noise[p]]
        elif kind[p] == SHIFTS:
            v += NOISE_C * drawn[noise[p]]
        shown[p] = v


class Sensors:
    """Every device of an inventory. PlantError at once when it polls a point that the plant cannot show."""

    def __init__(
        self,
        inventory: Inventory,
        readings: Readings,
        faults: Faults,
        errors: Errors,
        powered: Powered,
        rng: np.random.Generator,
    ) -> None:
        self._inventory, self._readings, self._faults, self._rng = inventory, readings, faults, rng
        self._powered = powered
        self._errors = errors
        self._read_at = -1
        self._flat = np.full(inventory.size, np.nan)
        self._late: dict[str, Floats] = {}
        position = {d.id: i for i, d in enumerate(inventory.site.devices)}
        gateway = {g.id: i for i, g in enumerate(inventory.site.gateways)}
        slabs = [s for s in inventory.slabs if s.profile is not None and s.profile.role and s.devices]
        self._beside = {s.name: Beside(s, readings) for s in slabs}
        self._of_profile = {d.id: d.profile for d in inventory.site.devices}
        self._slabs = {
            s.name: _Rows(
                s,
                self._panel_of(s),
                np.array([position[d.id] for d in s.devices]),
                np.array([gateway.get(d.gateway, -1) for d in s.devices]),
            )
            for s in inventory.slabs
            if s.devices
        }
        self._dials = self._wire()

    def _wire(self) -> _Dials:
        """Lead every point of the slabs to its column; the slabs of devices stand first and end to end."""
        first: dict[tuple[str, str], int] = {}
        source, kind, noise, size, drawn = [], [], [], 0, 0
        for rows in self._slabs.values():
            panel, n = rows.panel, len(rows.panel.index)
            for point in panel.points:
                if (panel.table, point) not in first:
                    first[panel.table, point] = size
                    size += self._readings.size(panel.table)
            kinds = np.array([_kind(point) for point in panel.points])
            source.append(panel.index[:, None] + [first[panel.table, point] for point in panel.points])
            kind.append(np.tile(kinds, (n, 1)))
            noise.append(drawn + np.arange(n)[:, None] + n * (kinds == SHIFTS))
            drawn += 2 * n
        flat = [np.concatenate([ints([]), *(x.ravel() for x in parts)]) for parts in (source, kind, noise)]
        small = (flat[0].astype(np.int32), flat[1].astype(np.int8), flat[2].astype(np.int32))
        return _Dials(tuple(first), np.zeros(size), *small, drawn)

    def panel(self, ids: Sequence[str], points: Sequence[str]) -> Panel:
        """Prepare to show `points` of the things called `ids`; PlantError on what the plant does not have."""
        table, index = self._readings.locate(ids)
        columns = self._readings.columns[table]
        missing = [p for p in points if p not in columns]
        if missing:
            raise PlantError(f"the plant cannot show {', '.join(missing)} of {ids[0]} and its like")
        return Panel(table, index, tuple(points))

    def _panel_of(self, slab: Slab) -> Panel:
        beside = self._beside.get(slab.name)
        if beside is None:
            return self.panel([d.measures for d in slab.devices], slab.points)
        table = f"profile {slab.name}"
        self._readings.add(table, slab.rows, {p: beside.column(p) for p in slab.points})
        return Panel(table, np.arange(slab.rows), slab.points)

    def written(self, device: str, point: str, value: float) -> None:
        """A client wrote a point of a device that stands beside the instruments: it is shown from now on."""
        beside = self._beside.get(self._of_profile[device])
        if beside is not None:
            beside.written(device, point, value)

    def show(self, panel: Panel) -> Floats:
        """Readings with noise [things, points]."""
        shown = np.column_stack([self._readings.of(panel.table, point)[panel.index] for point in panel.points])
        gain = 1.0 + NOISE * self._rng.standard_normal(len(panel.index))
        shift = NOISE_C * self._rng.standard_normal(len(panel.index))
        for j, point in enumerate(panel.points):
            kind = _kind(point)
            if kind == GAINS:
                shown[:, j] *= gain
            elif kind == SHIFTS:
                shown[:, j] += shift
        return shown

    def measure(self, step: int, agents: Floats, gpus: Floats | None = None) -> Floats:
        """All points [points], read-only: read once per plant step, the same until the next; NaN is a sentinel."""
        if step == self._read_at:
            return self._flat
        was, self._read_at = max(self._read_at, 0), step
        self._readings.refresh()
        flat, dials = np.empty(len(self._flat)), self._dials
        columns = [self._readings.of(*column) for column in dials.columns]
        np.concatenate((*columns, np.zeros(0)), out=dials.value)
        drawn = self._rng.standard_normal(dials.draws)
        _turn(flat[: len(dials.source)], dials.value, dials.source, dials.kind, dials.noise, drawn)
        if self._errors.some or self._faults.sentinel.any() or self._faults.frozen.any():
            for rows in self._slabs.values():
                self._spoil(rows, rows.slab.view(flat), DT_S * step, DT_S * (step - was))
        for name, told in (("agent", agents), ("gpu", gpus)):
            slab = self._inventory.slab(name)
            if slab is not None:
                slab.view(flat)[:] = np.nan if told is None else told
        flat.flags.writeable = False
        self._flat = flat
        return flat

    def _spoil(self, rows: _Rows, shown: Floats, t_s: float, dt_s: float) -> None:
        """What faults make of a slab's true readings; a frozen device shows what it showed last."""
        if self._errors.some:
            self._err(rows, shown, t_s, dt_s)
        shown[self._faults.sentinel[rows.device]] = np.nan
        frozen = self._faults.frozen[rows.device]
        shown[frozen] = rows.slab.view(self._flat)[frozen]

    def _err(self, rows: _Rows, shown: Floats, t_s: float, dt_s: float) -> None:
        name, points = rows.slab.name, rows.panel.points
        late = self._late.setdefault(name, np.full(shown.shape, np.nan))
        scaled, kelvin = (np.array([float(p.endswith(x)) for p in points]) for x in (SCALED, "_c"))
        self._errors.show(rows.device, shown, late, scaled, kelvin, t_s, dt_s)

    def silent(self, slab: Slab) -> Bools:
        """Rows of a slab that do not answer, alone or with their gateway [rows]."""
        rows = self._slabs.get(slab.name)
        if rows is None:
            return np.zeros(slab.rows, dtype=bool)
        devices, gateways = self.mute()
        silent: Bools = devices[rows.device] | np.append(gateways, False)[rows.gateway]
        return silent

    def mute(self) -> tuple[Bools, Bools]:
        """Devices and gateways that do not answer themselves, by a fault or without power, by position."""
        devices, gateways = self._powered.lit()
        return self._faults.silent | ~devices, self._faults.gateway_silent | ~gateways


def _kind(point: str) -> int:
    """What noise does to a point."""
    return GAINS if point.endswith(SCALED) else SHIFTS if point.endswith("_c") else PLAIN
