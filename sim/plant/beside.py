"""Devices that stand beside the instruments: valves, gensets, transfer switches, power and battery shelves, chillers.

Each point shows the plant's truth where the plant has one: TRUTH names it, for a kind of thing and a role. The rest
stands still at the value of STEADY, or at 0, or at the end of its range: the plant has no gensets, no shelf's
temperatures and no rack batteries, and does not make them up. What a client writes is shown from then on.
"""

from collections import Counter

import numpy as np

from drivers.inventory import Slab
from drivers.points import Floats, Ints
from drivers.profile import Point
from sim.plant.readings import Column, Readings

Truth = tuple[str, float]  # a reading of the thing, and what it is multiplied by
RPM_PER_PCT = 15.0  # drives of four-pole motors at 50 Hz: 1500 rpm at full speed
SHELF_EFFICIENCY = 0.975  # of an ORv3 rectifier near half load
TRUTH: dict[str, dict[str, dict[str, Truth]]] = {  # role -> table of the thing -> point -> truth
    "valve": {
        "cdu": {
            "position_pct": ("valve_pct", 1.0),
            "target_pct": ("valve_pct", 1.0),
            "flow_pct": ("facility_flow_pct", 1.0),
            "flow_lpm": ("facility_flow_lpm", 1.0),
            "supply_c": ("facility_supply_c", 1.0),
            "sensor_c": ("facility_supply_c", 1.0),
            "flow_body_c": ("facility_supply_c", 1.0),
        },
        "loop": {
            "flow_lpm": ("flow_lpm", 1.0),
            "supply_c": ("supply_c", 1.0),
            "sensor_c": ("supply_c", 1.0),
            "remote_c": ("return_c", 1.0),
            "flow_body_c": ("supply_c", 1.0),
        },
    },
    "genset": {"node": {"mains_hz": ("live_hz", 1.0)}},
    "transfer_switch": {
        "switch": {
            **{f"normal_{pair}_v": ("normal_v", 1.0) for pair in ("l12", "l23", "l31")},
            "normal_hz": ("normal_hz", 1.0),
            "emergency_hz": ("emergency_hz", 1.0),
        }
    },
    "power_shelf": {"rack": {"power_in_w": ("power_w", 1.0), "power_w": ("power_w", SHELF_EFFICIENCY)}},
    "ups": {"node": {"volt_out_v": ("volt_l1_v", 1.0), "battery_pct": ("battery_pct", 1.0)}},
    "drive": {"unit": {"drive_rpm": ("speed_pct", RPM_PER_PCT), "thermal_pct": ("speed_pct", 0.8)}},
    "chiller": {
        "unit": {
            "running": ("running", 1.0),
            "supply_c": ("supply_c", 1.0),
            "return_c": ("return_c", 1.0),
            "target_now_c": ("target_c", 1.0),
        }
    },
    "cooler": {
        "cdu": {"flow1_lpm": ("flow_lpm", 1.0), "cooling_w": ("heat_w", 1.0), "valve_pct": ("valve_pct", 1.0)},
        "loop": {"flow1_lpm": ("flow_lpm", 1.0), "cooling_w": ("heat_w", 1.0)},
    },
}
STEADY: dict[str, dict[str, float]] = {  # role -> point -> what it always shows
    "valve": {"position_pct": 100.0, "target_pct": 100.0, "flow_pct": 100.0, "remote_c": 30.0, "angle_deg": 90.0},
    "genset": {"coolant_c": 40.0, "fuel_pct": 95.0, "battery_v": 27.2, "control_mode": 1.0},  # at rest, warm, in auto
    "power_shelf": {"volt_out_v": 50.0, "volt_in_v": 240.0, "power_factor": 0.98, "inlet_c": 25.0, "outlet_c": 40.0},
    "battery_shelf": {
        "volt_v": 48.0,
        "soc_relative_pct": 100.0,
        "soc_absolute_pct": 100.0,
        **{f"pack{k}_c": 25.0 for k in (1, 2, 3, 4)},
        **{f"unit{k}_charge_pct": 100.0 for k in range(1, 7)},
        **{f"unit{k}_v": 48.0 for k in range(1, 7)},
    },
    "ups": {"battery_left_s": 300.0, "battery_v": 480.0},
    "chiller": {"start": 1.0, "pump1_state": 1.0},
    "cooler": {"dp_pa": 20.0, "system_status": 1.0, "operating_mode": 1.0, "on_state": 1.0}
    | {f"fan{k}_rpm": 1500.0 for k in range(1, 8)},
}


class Beside:
    """The devices of one such profile: `column(point)` shows a point of all rows."""

    def __init__(self, slab: Slab, readings: Readings) -> None:
        assert slab.profile is not None
        self._profile, self._readings = slab.profile, readings
        self._rows: dict[str, tuple[Ints, Ints]] = {}  # table -> rows, and what they stand at there
        self._row = {d.id: i for i, d in enumerate(slab.devices)}
        self._place = {name: j for j, name in enumerate(slab.points)}
        self._written: Floats = np.full((slab.rows, len(slab.points)), np.nan)
        found = [readings.locate([d.measures]) for d in slab.devices]
        for table in dict.fromkeys(name for name, _ in found):
            rows = [i for i, (name, _) in enumerate(found) if name == table]
            self._rows[table] = (np.array(rows), np.concatenate([found[i][1] for i in rows]))
        share = Counter(d.measures for d in slab.devices)  # several shelf units share their rack's power
        self._part: Floats = np.array([1.0 / share[d.measures] for d in slab.devices])

    def written(self, device: str, point: str, value: float) -> None:
        """A client wrote a point: it is shown from now on, if it is polled at all."""
        if point in self._place:
            self._written[self._row[device], self._place[point]] = value

    def column(self, name: str) -> Column:
        """A point of all rows, in its range, as a column of readings."""
        point, role = self._profile.point(name), self._profile.role
        still = STEADY.get(role, {}).get(name, 0.0)
        written = self._written[:, self._place[name]]

        def show() -> Floats:
            value = np.full(len(written), still)
            for table, (where, index) in self._rows.items():
                truth = TRUTH.get(role, {}).get(table, {}).get(name)
                if truth is not None:
                    value[where] = truth[1] * self._readings.of(table, truth[0])[index]
            if role == "power_shelf" and name.startswith("power_"):
                value *= np.where(name.endswith("_w"), self._part, 1.0)
            shown: Floats = _within(point, np.where(np.isfinite(written), written, value))
            return shown

        return show


def _within(point: Point, value: Floats) -> Floats:
    """A value that the point can show."""
    if point.states:
        return np.where(np.isin(value, list(point.states)), value, float(min(point.states)))
    return np.clip(value, point.min, point.max)
