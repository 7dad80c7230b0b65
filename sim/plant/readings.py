"""The quantities that instruments can read, by canonical point name, for nodes, CDUs, cooling units, loops and racks.

Powers are means over the last second; everything else is the value of the moment. Noise and faults: devices.py.
"""

from collections.abc import Callable, Sequence

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.model import Site
from sim.plant.base import DT_S, POWER_FACTOR, PlantError
from sim.plant.cdu import RACK_EXPONENT
from sim.plant.electrical import ElecState
from sim.plant.hydraulics import PUMP
from sim.plant.network import Network
from sim.plant.thermal import ThermalState

MEAN_STEPS = round(1.0 / DT_S)
UNBALANCE = 0.004  # of one phase against the mean, one sigma
LEAK_BIT = 256.0  # leak in the rack's pan (FACTS A.2, 0x9202 bit 8)
DISCONNECTED, CONNECTED = 1.0, 3.0  # SunSpec 802 State
Column = Callable[[Ints], Floats]


class Readings:
    """Columns of each table: a function from positions to values."""

    def __init__(
        self, site: Site, network: Network, elec: ElecState, thermal: ThermalState, rng: np.random.Generator
    ) -> None:
        self._net, self._elec, self._thermal = network, elec, thermal
        self._nodes = np.zeros((MEAN_STEPS, len(site.nodes)))
        self._racks = np.zeros((MEAN_STEPS, len(site.racks)))
        self._gone_w = np.zeros(len(site.racks))  # the step before those
        self._energy_wh = np.zeros(len(site.nodes))
        self._mean_w = np.zeros(len(site.nodes))
        self._taken = 0
        self._volt_v = np.array([n.volt_v for n in site.nodes])
        self._three = np.array([3.0 if n.phases == 3 else 1.0 for n in site.nodes])
        lean = rng.normal(0.0, UNBALANCE, (len(site.nodes), 3))
        self._phase = (1.0 + lean - lean.mean(axis=1, keepdims=True)) / 3.0
        self._tables = {
            "node": {n.id: i for i, n in enumerate(site.nodes)},
            "cdu": {c.id: i for i, c in enumerate(site.cdus)},
            "unit": {u.id: i for i, u in enumerate(site.cooling)},
            "loop": {x.id: i for i, x in enumerate(site.loops)},
            "storage": {s.id: i for i, s in enumerate(site.storage)},
            "rack": {r.id: i for i, r in enumerate(site.racks)},
        }
        self.columns = self._all_columns()

    def take(self, node_w: Floats, rack_w: Floats) -> None:
        """Record the powers of one step."""
        if self._taken == 0:
            self._nodes[:], self._racks[:] = node_w, rack_w
        at = self._taken % MEAN_STEPS
        self._gone_w[:] = self._racks[at]
        self._nodes[at], self._racks[at] = node_w, rack_w
        self._energy_wh += np.maximum(node_w, 0.0) * (DT_S / 3600.0)
        self._taken += 1

    def refresh(self) -> None:
        """Form the means that the columns show."""
        self._mean_w = self._nodes.mean(axis=0)

    def rack_mean_w(self) -> Floats:
        """Mean power of each rack over the last second [R]."""
        mean: Floats = self._racks.mean(axis=0)
        return mean

    def rack_edges_w(self) -> tuple[Floats, Floats]:
        """Power of each rack in the last step, and in the one before the last second [R]."""
        return self._racks[(self._taken - 1) % MEAN_STEPS], self._gone_w

    def worst_phase(self) -> Floats:
        """Current of each node's worst phase over the mean of its phases [N]."""
        worst: Floats = 3.0 * self._phase.max(axis=1)
        return worst

    def locate(self, ids: Sequence[str]) -> tuple[str, Ints]:
        """The one table that holds all these ids, and their positions; PlantError when there is none."""
        for name, table in self._tables.items():
            if all(i in table for i in ids):
                return name, np.array([table[i] for i in ids], dtype=np.int64)
        raise PlantError(f"no single table of the site holds {', '.join(ids[:3])} and the others measured alike")

    def _all_columns(self) -> dict[str, dict[str, Column]]:
        t, hyd = self._thermal, self._net.hydraulics

        def running(i: Ints) -> Floats:
            return np.asarray((t.unit_w[i] > 0.0).astype(float))

        unit = {
            "running": running,
            "status": running,
            "available": lambda i: (t.unit_ok[i] & t.unit_on[i]).astype(float),
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
            "leak": lambda i: t.leaks[racks.cdu[i]].astype(float),
        }

    def _node_columns(self) -> dict[str, Column]:
        def line_v(i: Ints) -> Floats:
            v: Floats = self._volt_v[i] * np.sqrt(self._elec.volt2[i]) * self._elec.live[i]
            return v

        def factor(i: Ints) -> Floats:
            real, reactive = self._elec.out_w[i], self._elec.out_var[i]
            apparent = np.hypot(real, reactive)
            pf: Floats = np.where(apparent > 1.0, np.abs(real) / np.maximum(apparent, 1.0), POWER_FACTOR)
            return pf

        def apparent(i: Ints) -> Floats:
            va: Floats = np.abs(self._mean_w[i]) / np.maximum(factor(i), 0.05)
            return va

        def amps(i: Ints) -> Floats:
            a: Floats = apparent(i) / (np.maximum(line_v(i), 1.0) * np.sqrt(self._three[i]))
            return a

        def current(phase: int) -> Column:
            return lambda i: amps(i) * 3.0 * self._phase[i, phase]

        def power(phase: int) -> Column:
            return lambda i: self._mean_w[i] * self._phase[i, phase]

        columns: dict[str, Column] = {
            "power_w": lambda i: self._mean_w[i],
            "apparent_va": apparent,
            "reactive_var": lambda i: self._elec.out_var[i],
            "power_factor": factor,
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
            "supply_kpa": lambda i: 100.0 + hyd.cdu_external_kpa[i] * speed(i) ** RACK_EXPONENT,
            "return_kpa": lambda i: np.full(len(i), 100.0),
            "power_w": lambda i: t.cdu_w[i],
            "pump_pct": lambda i: 100.0 * np.minimum(speed(i), 1.0),
            "valve_pct": lambda i: 100.0 * t.valve[i],
        }
        columns |= {f"pump{k}_rpm": lambda i: 4200.0 * speed(i) for k in (1, 2, 3, 4)}
        columns |= {f"{flags}_flags": lambda i: np.zeros(len(i)) for flags in ("status", "sensor_fault")}
        columns["leak_flags"] = lambda i: LEAK_BIT * t.leaks[i].astype(float)
        return columns

    def _storage_columns(self) -> dict[str, Column]:
        e, tree = self._elec, self._net.tree

        return {
            "soc_pct": lambda i: 100.0 * e.storage_j[i] / tree.storage_max_j[i],
            "soh_pct": lambda i: np.full(len(i), 98.0),
            "power_w": lambda i: e.storage_w[i],
            "state": lambda i: np.where(e.live[tree.storage_node[i]], CONNECTED, DISCONNECTED),
            "heartbeat": lambda i: np.full(len(i), float(self._taken // MEAN_STEPS % 65535)),
            "energy_available_wh": lambda i: e.storage_j[i] / 3600.0,
        }

    def _pump_flow(self, i: Ints) -> Floats:
        hyd, t = self._net.hydraulics, self._thermal
        able = np.where(hyd.unit_kind == PUMP, t.unit_speed * hyd.unit_capacity, 0.0)
        total = np.bincount(hyd.unit_loop, weights=able, minlength=len(hyd.loop_set_c))
        flow: Floats = (able * t.loop_flow_lpm[hyd.unit_loop] / np.maximum(total[hyd.unit_loop], 1e-9))[i]
        return flow
