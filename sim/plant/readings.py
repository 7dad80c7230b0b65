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
Column = Callable[[], Floats]


class Readings:
    """Columns of each table: a function that gives the values of all its things, asked once a moment."""

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
            "switch": {s.id: i for i, s in enumerate(site.switches)},
        }
        sides = [(site.node_index[s.a], site.node_index[s.b]) for s in site.switches]
        self._sides = np.array(sides, dtype=np.int64).reshape(-1, 2)
        self._sizes = {name: len(table) for name, table in self._tables.items()}
        self.columns = self._all_columns()
        self._told: dict[tuple[str, str], Floats] = {}

    def of(self, table: str, point: str) -> Floats:
        """What a point of all things of a table is now, worked out once for all that ask."""
        told = self._told.get((table, point))
        if told is None:
            told = self._told[table, point] = self.columns[table][point]()
        return told

    def take(self, node_w: Floats, rack_w: Floats) -> None:
        """Record the powers of one step."""
        if self._taken == 0:
            self._nodes[:], self._racks[:] = node_w, rack_w
        at = self._taken % MEAN_STEPS
        self._gone_w[:] = self._racks[at]
        self._nodes[at], self._racks[at] = node_w, rack_w
        self._energy_wh += np.maximum(node_w, 0.0) * (DT_S / 3600.0)
        self._taken += 1
        self._told.clear()

    def refresh(self) -> None:
        """Form the means that the columns show."""
        self._mean_w = self._nodes.mean(axis=0)
        self._told.clear()

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

    def size(self, table: str) -> int:
        """Number of things in a table."""
        return self._sizes[table]

    def add(self, table: str, size: int, columns: dict[str, Column]) -> None:
        """A further table of `size` things, that nobody looks up by id."""
        self._sizes[table], self.columns[table] = size, columns

    def locate(self, ids: Sequence[str]) -> tuple[str, Ints]:
        """The one table that holds all these ids, and their positions; PlantError when there is none."""
        for name, table in self._tables.items():
            if all(i in table for i in ids):
                return name, np.array([table[i] for i in ids], dtype=np.int64)
        raise PlantError(f"no single table of the site holds {', '.join(ids[:3])} and the others measured alike")

    def _all_columns(self) -> dict[str, dict[str, Column]]:
        t, hyd = self._thermal, self._net.hydraulics

        def running() -> Floats:
            return np.asarray((t.unit_w > 0.0).astype(float))

        def flowing() -> Floats:
            return np.asarray((t.loop_flow_lpm > 1.0).astype(float))

        unit = {
            "running": running,
            "status": running,
            "available": lambda: (t.unit_ok & t.unit_on).astype(float),
            "power_w": lambda: t.unit_w,
            "heat_w": lambda: t.unit_heat_w,
            "speed_pct": lambda: 100.0 * t.unit_speed * (t.unit_w > 0.0),
            "flow_lpm": self._pump_flow,
            "supply_c": lambda: t.loop_supply_c[hyd.unit_loop],
            "return_c": lambda: t.loop_return_c[hyd.unit_loop],
            "target_c": lambda: hyd.loop_set_c[hyd.unit_loop],
        }
        loop = {
            "running": flowing,
            "status": flowing,
            "supply_c": lambda: t.loop_supply_c,
            "return_c": lambda: t.loop_return_c,
            "flow_lpm": lambda: t.loop_flow_lpm,
            "heat_w": lambda: t.loop_heat_w,
            "outside_c": lambda: np.full(len(hyd.loop_set_c), t.air_c[0]),
        }
        return {
            "node": self._node_columns(),
            "cdu": self._cdu_columns(),
            "unit": unit,
            "loop": loop,
            "storage": self._storage_columns(),
            "rack": self._rack_columns(),
            "switch": self._switch_columns(),
        }

    def _rack_columns(self) -> dict[str, Column]:
        t, racks = self._thermal, self._net.racks
        return {
            "power_w": self.rack_mean_w,
            "supply_c": lambda: t.cdu_supply_c[racks.cdu],
            "return_c": lambda: t.fluid_c,
            "flow_lpm": lambda: t.cdu_flow_lpm[racks.cdu] * racks.flow_share,
            "leak": lambda: t.leaks[racks.cdu].astype(float),
        }

    def _node_columns(self) -> dict[str, Column]:
        nodes, elec = len(self._volt_v), self._elec
        hertz = np.full(nodes, 60.0)

        def at(point: str) -> Column:
            return lambda: self.of("node", point)

        def line_v() -> Floats:
            v: Floats = self._volt_v * np.sqrt(elec.volt2) * elec.live
            return v

        def factor() -> Floats:
            real, reactive = elec.out_w, elec.out_var
            apparent = np.hypot(real, reactive)
            pf: Floats = np.where(apparent > 1.0, np.abs(real) / np.maximum(apparent, 1.0), POWER_FACTOR)
            return pf

        def apparent() -> Floats:
            va: Floats = np.abs(self._mean_w) / np.maximum(self.of("node", "power_factor"), 0.05)
            return va

        def amps() -> Floats:
            volt_v = np.maximum(self.of("node", "volt_v"), 1.0)
            a: Floats = self.of("node", "apparent_va") / (volt_v * np.sqrt(self._three))
            return a

        def battery() -> Floats:
            left: Floats = 100.0 * elec.battery_j / np.maximum(elec.battery_max_j, 1.0)
            return left

        def current(phase: int) -> Column:
            return lambda: self.of("node", "current_a") * 3.0 * self._phase[:, phase]

        def power(phase: int) -> Column:
            return lambda: self._mean_w * self._phase[:, phase]

        columns: dict[str, Column] = {
            "power_w": lambda: self._mean_w,
            "apparent_va": apparent,
            "reactive_var": lambda: elec.out_var,
            "power_factor": factor,
            "frequency_hz": lambda: hertz,
            "live_hz": lambda: np.where(elec.live, 60.0, 0.0),
            "battery_pct": battery,
            "energy_import_wh": lambda: self._energy_wh,
            "volt_v": line_v,
            "current_a": amps,
            "current_avg_a": at("current_a"),
            "phase_v": lambda: self.of("node", "volt_v") / np.sqrt(3.0),
        }
        for k, (name, pair) in enumerate((("l1", "l12"), ("l2", "l23"), ("l3", "l31"))):
            columns[f"volt_{name}_v"] = at("phase_v")
            columns[f"volt_{pair}_v"] = at("volt_v")
            columns[f"current_{name}_a"] = current(k)
            columns[f"power_{name}_w"] = power(k)
        return columns

    def _cdu_columns(self) -> dict[str, Column]:
        t, hyd = self._thermal, self._net.hydraulics
        cdus = len(hyd.cdu_flow_lpm)
        hundred, nothing = np.full(cdus, 100.0), np.zeros(cdus)

        def speed() -> Floats:
            ratio: Floats = t.cdu_flow_lpm / hyd.cdu_flow_lpm
            return ratio

        columns: dict[str, Column] = {
            "speed": speed,
            "flow_lpm": lambda: t.cdu_flow_lpm,
            "supply_c": lambda: t.cdu_supply_c,
            "return_c": lambda: t.cdu_return_c,
            "supply_kpa": lambda: 100.0 + hyd.cdu_external_kpa * self.of("cdu", "speed") ** RACK_EXPONENT,
            "return_kpa": lambda: hundred,
            "power_w": lambda: t.cdu_w,
            "pump_pct": lambda: 100.0 * np.minimum(self.of("cdu", "speed"), 1.0),
            "valve_pct": lambda: 100.0 * t.valve,
            "pump_rpm": lambda: 4200.0 * self.of("cdu", "speed"),
        }
        columns |= {
            "heat_w": lambda: t.cdu_heat_w,
            "facility_supply_c": lambda: t.loop_supply_c[hyd.cdu_loop],
            "facility_flow_pct": lambda: 100.0 * t.valve_share * t.granted[hyd.cdu_loop],
            "facility_flow_lpm": lambda: t.valve_share * t.granted[hyd.cdu_loop] * hyd.cdu_primary_lpm,
        }
        columns |= {f"pump{k}_rpm": lambda: self.of("cdu", "pump_rpm") for k in (1, 2, 3, 4)}
        columns |= {f"{flags}_flags": lambda: nothing for flags in ("status", "sensor_fault")}
        columns["leak_flags"] = lambda: LEAK_BIT * t.leaks.astype(float)
        return columns

    def _switch_columns(self) -> dict[str, Column]:
        """What a transfer switch sees of its two sources."""
        normal, emergency = self._sides[:, 0], self._sides[:, 1]
        return {
            "normal_v": lambda: self.of("node", "volt_v")[normal],
            "normal_hz": lambda: self.of("node", "live_hz")[normal],
            "emergency_hz": lambda: self.of("node", "live_hz")[emergency],
        }

    def _storage_columns(self) -> dict[str, Column]:
        e, tree = self._elec, self._net.tree
        health = np.full(len(tree.storage_max_j), 98.0)

        return {
            "soc_pct": lambda: 100.0 * e.storage_j / tree.storage_max_j,
            "soh_pct": lambda: health,
            "power_w": lambda: e.storage_w,
            "state": lambda: np.where(e.live[tree.storage_node], CONNECTED, DISCONNECTED),
            "heartbeat": lambda: np.full(len(health), float(self._taken // MEAN_STEPS % 65535)),
            "energy_available_wh": lambda: e.storage_j / 3600.0,
        }

    def _pump_flow(self) -> Floats:
        hyd, t = self._net.hydraulics, self._thermal
        able = np.where(hyd.unit_kind == PUMP, t.unit_speed * hyd.unit_capacity, 0.0)
        total = np.bincount(hyd.unit_loop, weights=able, minlength=len(hyd.loop_set_c))
        flow: Floats = able * t.loop_flow_lpm[hyd.unit_loop] / np.maximum(total[hyd.unit_loop], 1e-9)
        return flow
