"""What instruments show: engineering values by canonical point name, with noise, and faults that hide them.

Meters show means over the last second. Noise is zero-mean, far below a class 0.5 meter; sensors that lie are faults.
"""

from collections.abc import Callable

import numpy as np

from drivers.inventory import Inventory, Slab
from drivers.points import Floats, Ints
from sim.plant.director import Faults
from sim.plant.electrical import ElecState
from sim.plant.network import DT_S, POWER_FACTOR, PUMP, Bools, Network, PlantError
from sim.plant.thermal import ThermalState

NOISE = 0.0005  # of a power or flow reading, one sigma
NOISE_C = 0.02
MEAN_STEPS = round(1.0 / DT_S)
VOLT_DROP = 0.02  # at rated load
UNBALANCE = 0.004  # of one phase against the mean, one sigma
HEAD_KPA = 250.0  # secondary pump rise at nominal flow (FACTS P.1: 247)
CHARGING, DISCHARGING, HOLDING = 4.0, 3.0, 6.0  # SunSpec 802 ChaSt
Column = Callable[[Ints], Floats]


class Sensors:
    """Readings of every device of an inventory."""

    def __init__(
        self, inventory: Inventory, network: Network, elec: ElecState, thermal: ThermalState, faults: Faults,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self._inventory, self._net, self._elec, self._thermal, self._faults = inventory, network, elec, thermal, faults
        self._rng = rng
        site = inventory.site
        self._nodes = np.zeros((MEAN_STEPS, len(site.nodes)))
        self._racks = np.zeros((MEAN_STEPS, len(site.racks)))
        self._energy_wh = np.zeros(len(site.nodes))
        self._taken = 0
        self._volt_v = np.array([n.volt_v for n in site.nodes])
        self._three = np.array([3.0 if n.phases == 3 else 1.0 for n in site.nodes])
        lean = rng.normal(0.0, UNBALANCE, (len(site.nodes), 3))
        self._phase = (1.0 + lean - lean.mean(axis=1, keepdims=True)) / 3.0
        self._read_at = -1
        self._flat = np.full(inventory.size, np.nan)
        position = {d.id: i for i, d in enumerate(site.devices)}
        self._slabs = [_Rows(s, position, inventory) for s in inventory.slabs if s.devices]
        self._columns = self._all_columns()
        self._check()

    def take(self, node_w: Floats, rack_w: Floats) -> None:
        """Record the powers of one step."""
        at = self._taken % MEAN_STEPS
        self._nodes[at], self._racks[at] = node_w, rack_w
        self._energy_wh += np.maximum(node_w, 0.0) * (DT_S / 3600.0)
        if self._taken == 0:
            self._nodes[:], self._racks[:] = node_w, rack_w
        self._taken += 1

    def rack_mean_w(self) -> Floats:
        """Mean power of each rack over the last second [R]."""
        mean: Floats = self._racks.mean(axis=0)
        return mean

    def measure(self, step: int, agents: Floats) -> Floats:
        """All points [points]: read once per plant step, then the same until the next; NaN is a sentinel."""
        if step == self._read_at:
            return self._flat.copy()
        self._read_at = step
        self._mean_w = self._nodes.mean(axis=0)
        for rows in self._slabs:
            view = rows.slab.view(self._flat)
            shown = self._read(rows)
            shown[self._faults.sentinel[rows.device]] = np.nan
            frozen = self._faults.frozen[rows.device]
            view[~frozen] = shown[~frozen]
        agent_slab = self._inventory.slab("agent")
        if agent_slab is not None:
            agent_slab.view(self._flat)[:] = agents
        return self._flat.copy()

    def silent(self, slab: Slab) -> Bools:
        """Rows of a slab that do not answer, alone or with their gateway [rows]."""
        rows = next((r for r in self._slabs if r.slab is slab or r.slab.name == slab.name), None)
        if rows is None:
            return np.zeros(slab.rows, dtype=bool)
        behind = np.append(self._faults.gateway_silent, False)[rows.gateway]
        silent: Bools = self._faults.silent[rows.device] | behind
        return silent

    def _read(self, rows: "_Rows") -> Floats:
        columns = self._columns[rows.table]
        shown = np.column_stack([columns[p](rows.index) for p in rows.slab.points])
        gain = 1.0 + NOISE * self._rng.standard_normal(len(rows.index))
        shift = NOISE_C * self._rng.standard_normal(len(rows.index))
        for j, point in enumerate(rows.slab.points):
            if point.endswith(("_w", "_va", "_a", "_lpm", "_var")):
                shown[:, j] *= gain
            elif point.endswith("_c"):
                shown[:, j] += shift
        return shown

    def _check(self) -> None:
        missing = [
            f"{rows.slab.name}.{p}"
            for rows in self._slabs
            for p in rows.slab.points
            if p not in self._columns[rows.table]
        ]
        if missing:
            raise PlantError(f"the plant cannot show these polled points: {', '.join(missing)}")

    def _all_columns(self) -> dict[str, dict[str, Column]]:
        t, hyd = self._thermal, self._net.hydraulics
        running = lambda i: (t.unit_w[i] > 0.0).astype(float)  # noqa: E731
        unit = {
            "running": running,
            "status": running,
            "available": lambda i: t.unit_ok[i].astype(float),
            "power_w": lambda i: t.unit_w[i],
            "heat_w": lambda i: t.unit_heat_w[i],
            "speed_pct": lambda i: 100.0 * t.unit_speed[i] * (t.unit_w[i] > 0.0),
            "flow_lpm": self._pump_flow,
            "supply_c": lambda i: t.loop_supply_c[hyd.unit_loop[i]],
            "return_c": lambda i: t.loop_return_c[hyd.unit_loop[i]],
        }
        loop = {
            "running": lambda i: (t.loop_flow_lpm[i] > 1.0).astype(float),
            "status": lambda i: (t.loop_flow_lpm[i] > 1.0).astype(float),
            "supply_c": lambda i: t.loop_supply_c[i],
            "return_c": lambda i: t.loop_return_c[i],
            "flow_lpm": lambda i: t.loop_flow_lpm[i],
            "heat_w": lambda i: t.loop_heat_w[i],
            "outside_c": lambda i: np.full(len(i), t.air_c[0]),
        }
        return {
            "node": self._node_columns(),
            "cdu": self._cdu_columns(),
            "unit": unit,
            "loop": loop,
            "storage": self._storage_columns(),
            "rack": self._rack_columns(),
        }

    def _rack_columns(self) -> dict[str, Column]:
        t, racks = self._thermal, self._net.racks
        return {
            "power_w": lambda i: self._racks.mean(axis=0)[i],
            "supply_c": lambda i: t.cdu_supply_c[racks.cdu[i]],
            "return_c": lambda i: t.fluid_c[i],
            "flow_lpm": lambda i: t.cdu_flow_lpm[racks.cdu[i]] * racks.flow_share[i],
            "leak": lambda i: np.zeros(len(i)),
        }

    def _node_columns(self) -> dict[str, Column]:
        def line_v(i: Ints) -> Floats:
            drop = VOLT_DROP * self._mean_w[i] / self._net.tree.rated_w[i]
            v: Floats = self._volt_v[i] * (1.0 - drop) * self._elec.live[i]
            return v

        def amps(i: Ints) -> Floats:
            va = np.abs(self._mean_w[i]) / POWER_FACTOR
            a: Floats = va / (np.maximum(line_v(i), 1.0) * np.sqrt(self._three[i]))
            return a

        def current(phase: int) -> Column:
            return lambda i: amps(i) * 3.0 * self._phase[i, phase]

        def power(phase: int) -> Column:
            return lambda i: self._mean_w[i] * self._phase[i, phase]

        columns: dict[str, Column] = {
            "power_w": lambda i: self._mean_w[i],
            "apparent_va": lambda i: np.abs(self._mean_w[i]) / POWER_FACTOR,
            "reactive_var": lambda i: self._mean_w[i] * np.sqrt(1.0 / POWER_FACTOR**2 - 1.0),
            "power_factor": lambda i: np.full(len(i), POWER_FACTOR),
            "frequency_hz": lambda i: np.full(len(i), 60.0),
            "energy_import_wh": lambda i: self._energy_wh[i],
            "volt_v": line_v,
            "current_a": amps,
            "current_avg_a": amps,
        }
        for k, (name, pair) in enumerate((("l1", "l12"), ("l2", "l23"), ("l3", "l31"))):
            columns[f"volt_{name}_v"] = lambda i: line_v(i) / np.sqrt(3.0)
            columns[f"volt_{pair}_v"] = line_v
            columns[f"current_{name}_a"] = current(k)
            columns[f"power_{name}_w"] = power(k)
        return columns

    def _cdu_columns(self) -> dict[str, Column]:
        t, hyd = self._thermal, self._net.hydraulics

        def speed(i: Ints) -> Floats:
            ratio: Floats = t.cdu_flow_lpm[i] / hyd.cdu_flow_lpm[i]
            return ratio

        columns: dict[str, Column] = {
            "flow_lpm": lambda i: t.cdu_flow_lpm[i],
            "supply_c": lambda i: t.cdu_supply_c[i],
            "return_c": lambda i: t.cdu_return_c[i],
            "supply_kpa": lambda i: 100.0 + HEAD_KPA * speed(i) ** 2,
            "return_kpa": lambda i: np.full(len(i), 100.0),
            "power_w": lambda i: t.cdu_w[i],
            "rack_power_w": lambda i: np.full(len(i), np.nan),  # no rack meter fitted
            "pump_pct": lambda i: 100.0 * np.minimum(speed(i), 1.0),
            "valve_pct": lambda i: 100.0 * t.valve[i],
        }
        columns |= {f"pump{k}_rpm": lambda i: 4200.0 * speed(i) for k in (1, 2, 3, 4)}
        columns |= {f"{flags}_flags": lambda i: np.zeros(len(i)) for flags in ("status", "leak", "sensor_fault")}
        return columns

    def _storage_columns(self) -> dict[str, Column]:
        e, tree = self._elec, self._net.tree

        def state(i: Ints) -> Floats:
            w = e.storage_w[i]
            return np.where(w > 0.0, DISCHARGING, np.where(w < 0.0, CHARGING, HOLDING))

        return {
            "soc_pct": lambda i: 100.0 * e.storage_j[i] / tree.storage_max_j[i],
            "soh_pct": lambda i: np.full(len(i), 98.0),
            "power_w": lambda i: e.storage_w[i],
            "state": state,
            "heartbeat": lambda i: np.full(len(i), float(self._taken // MEAN_STEPS % 65535)),
            "energy_available_wh": lambda i: e.storage_j[i] / 3600.0,
        }

    def _pump_flow(self, i: Ints) -> Floats:
        hyd, t = self._net.hydraulics, self._thermal
        able = np.where(hyd.unit_kind == PUMP, t.unit_speed * hyd.unit_capacity, 0.0)
        total = np.bincount(hyd.unit_loop, weights=able, minlength=len(hyd.loop_set_c))
        flow: Floats = (able * t.loop_flow_lpm[hyd.unit_loop] / np.maximum(total[hyd.unit_loop], 1e-9))[i]
        return flow


class _Rows:
    """A slab's devices: which table they measure, at which positions, and which faults are theirs."""

    def __init__(self, slab: Slab, position: dict[str, int], inventory: Inventory) -> None:
        site = inventory.site
        tables = {
            "node": {n.id: i for i, n in enumerate(site.nodes)},
            "cdu": {c.id: i for i, c in enumerate(site.cdus)},
            "unit": {u.id: i for i, u in enumerate(site.cooling)},
            "loop": {x.id: i for i, x in enumerate(site.loops)},
            "storage": {s.id: i for i, s in enumerate(site.storage)},
            "rack": {r.id: i for i, r in enumerate(site.racks)},
        }
        found = {name for name, table in tables.items() if all(d.measures in table for d in slab.devices)}
        if len(found) != 1:
            raise PlantError(f"devices of {slab.name} measure things of different tables, or things unknown")
        gateways = {g.id: i for i, g in enumerate(site.gateways)}
        self.slab, self.table = slab, found.pop()
        self.index = np.array([tables[self.table][d.measures] for d in slab.devices])
        self.device = np.array([position[d.id] for d in slab.devices])
        self.gateway = np.array([gateways.get(d.gateway, -1) for d in slab.devices])
