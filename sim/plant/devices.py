"""What devices show: readings with noise, and the faults that hide them.

Noise is zero-mean and far below a class 0.5 meter. A frozen device shows what it last knew, a broken one its sentinel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.inventory import Inventory, Slab
from drivers.points import Floats, Ints
from sim.plant.base import DT_S, Bools, PlantError
from sim.plant.errors import Errors, Faults
from sim.plant.powered import Powered
from sim.plant.readings import Column, Readings

NOISE = 0.0005  # of a power or flow reading, one sigma
NOISE_C = 0.02
SCALED = ("_w", "_va", "_var", "_a", "_lpm")


@dataclass(frozen=True)
class Panel:
    """Things of one table, shown point by point: [things, points]."""

    index: Ints
    points: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class _Rows:
    """A slab with its panel, and which device and gateway each row is (gateway -1: none)."""

    slab: Slab
    panel: Panel
    device: Ints
    gateway: Ints


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
        self._slabs = {
            s.name: _Rows(
                s,
                self.panel([d.measures for d in s.devices], s.points),
                np.array([position[d.id] for d in s.devices]),
                np.array([gateway.get(d.gateway, -1) for d in s.devices]),
            )
            for s in inventory.slabs
            if s.devices
        }

    def panel(self, ids: Sequence[str], points: Sequence[str]) -> Panel:
        """Prepare to show `points` of the things called `ids`; PlantError on what the plant does not have."""
        table, index = self._readings.locate(ids)
        columns = self._readings.columns[table]
        missing = [p for p in points if p not in columns]
        if missing:
            raise PlantError(f"the plant cannot show {', '.join(missing)} of {ids[0]} and its like")
        return Panel(index, tuple(points), tuple(columns[p] for p in points))

    def show(self, panel: Panel) -> Floats:
        """Readings with noise [things, points]."""
        shown = np.column_stack([column(panel.index) for column in panel.columns])
        gain = 1.0 + NOISE * self._rng.standard_normal(len(panel.index))
        shift = NOISE_C * self._rng.standard_normal(len(panel.index))
        for j, point in enumerate(panel.points):
            if point.endswith(SCALED):
                shown[:, j] *= gain
            elif point.endswith("_c"):
                shown[:, j] += shift
        return shown

    def measure(self, step: int, agents: Floats, gpus: Floats | None = None) -> Floats:
        """All points [points]: read once per plant step, then the same until the next; NaN is a sentinel."""
        if step == self._read_at:
            return self._flat.copy()
        was, self._read_at = max(self._read_at, 0), step
        self._readings.refresh()
        for rows in self._slabs.values():
            view = rows.slab.view(self._flat)
            shown = self.show(rows.panel)
            if self._errors.some:
                self._err(rows, shown, DT_S * step, DT_S * (step - was))
            shown[self._faults.sentinel[rows.device]] = np.nan
            frozen = self._faults.frozen[rows.device]
            view[~frozen] = shown[~frozen]
        for name, told in (("agent", agents), ("gpu", gpus)):
            slab = self._inventory.slab(name)
            if slab is not None and told is not None:
                slab.view(self._flat)[:] = told
        return self._flat.copy()

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
