"""Turns a scenario's timeline into the plant's faults and demands, step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drivers.points import Ints
from drivers.site.model import Site
from sim.plant.base import DT_S, PlantError
from sim.plant.crashes import crash
from sim.plant.electrical import ElecState
from sim.plant.errors import Errors, Faults
from sim.plant.events import (
    CoolingTrip,
    Crash,
    DeviceFault,
    GeneratorFails,
    HeatWave,
    IgnoreCaps,
    Inference,
    Leak,
    Outage,
    PlantEvent,
    Sag,
    Scenario,
    SensorError,
    SlowActuators,
    StorageTrip,
    Training,
)
from sim.plant.gensets import Gensets
from sim.plant.jobs import JobState
from sim.plant.network import Network
from sim.plant.ramp import Ramp
from sim.plant.thermal import ThermalState
from sim.plant.weather import Year, draw_year, read_year


@dataclass
class Director:
    """Holds the timeline; `apply` brings the states to a time. `faulted` are the elements that it takes out."""

    site: Site
    scenario: Scenario
    network: Network
    jobs: JobState
    elec: ElecState
    thermal: ThermalState
    gensets: Gensets
    rng: np.random.Generator
    rise_k: float = 0.0
    faults: Faults = field(init=False)
    errors: Errors = field(init=False)
    faulted: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        devices, racks = len(self.site.devices), len(self.site.racks)
        self.faults = Faults(
            *(np.zeros(n, dtype=bool) for n in (devices, devices, devices, len(self.site.gateways), racks))
        )
        ours = [e for e in self.scenario.events if isinstance(e, PlantEvent)]
        self.errors = Errors(devices)
        self._todo = sorted(ours, key=lambda e: e.at_s)
        self._back: list[tuple[float, PlantEvent]] = []
        self._closing: list[tuple[float, int]] = []  # circuits that leak, and when they are closed
        self._share = Ramp.at_rest(self.jobs.share)
        self._heat = Ramp.at_rest(np.zeros(1))
        self._year = self._air()
        for event in self._todo:
            self._check(event)
        site = self.site
        self._elements = {n.id: (self.elec.in_service, i) for i, n in enumerate(site.nodes)}
        self._elements |= {c.id: (self.thermal.cdu_ok, i) for i, c in enumerate(site.cdus)}
        self._elements |= {u.id: (self.thermal.unit_ok, i) for i, u in enumerate(site.cooling)}
        self._elements |= {x.id: (self.elec.storage_ok, i) for i, x in enumerate(site.storage)}
        self._drawn = {e: self._draw(e) for e in self._todo if isinstance(e, IgnoreCaps | SlowActuators)}
        self._settle = self.network.racks.settle.copy()
        self.faulted = frozenset(self._id(e) for e in self._todo if isinstance(e, Outage | CoolingTrip | StorageTrip))

    def apply(self, t_s: float) -> None:
        """Do what is due at `t_s` [s since start], undo what is over, and move ramps."""
        while self._todo and self._todo[0].at_s <= t_s:
            self._start(self._todo.pop(0))
        for over in [b for b in self._back if b[0] <= t_s]:
            self._back.remove(over)
            self._switch(over[1], on=False)
        for close in [c for c in self._closing if c[0] <= t_s]:
            self._closing.remove(close)
            self.thermal.cdu_ok[close[1]] = False
        self.jobs.share[:] = self._share.value(t_s)
        self.rise_k = float(self._heat.value(t_s)[0])

    def add(self, events: Sequence[PlantEvent]) -> None:
        """Take further events into the timeline (times since the start); PlantError where one means nothing here."""
        for event in events:
            self._check(event)
        self._drawn |= {e: self._draw(e) for e in events if isinstance(e, IgnoreCaps | SlowActuators)}
        self._todo = sorted([*self._todo, *events], key=lambda e: e.at_s)
        self.faulted |= {self._id(e) for e in events if isinstance(e, Outage | CoolingTrip | StorageTrip)}

    def put(self, element: str, *, in_service: bool) -> None:
        """Take any element out or bring it back: node, CDU, cooling unit or storage; KeyError on another id."""
        ok, i = self._elements[element]
        ok[i] = in_service

    def weather_c(self, t_s: float) -> tuple[float, float]:
        """Dry-bulb and wet-bulb temperature [C]."""
        w, start = self.scenario.weather, self.scenario.start_hour
        hour = start + t_s / 3600.0
        if self._year is not None:
            dry, wet = self._year.at(24.0 * w.start_day + hour)
            return dry + self.rise_k, wet + self.rise_k
        dry = w.dry_bulb_c + w.swing_k * (_peak_at(15.0, hour) - _peak_at(15.0, start)) + self.rise_k
        return dry, dry - w.depression_k

    def _air(self) -> Year | None:
        w = self.scenario.weather
        if w.file:
            return read_year(Path(w.file))
        return draw_year(w.climate, self.rng) if w.climate else None

    def day(self, t_s: float) -> float:
        """Inference demand against that at the start."""
        amplitude, start = self.scenario.inference_daily, self.scenario.start_hour
        return (1.0 + amplitude * _peak_at(20.0, start + t_s / 3600.0)) / (1.0 + amplitude * _peak_at(20.0, start))

    def _start(self, event: PlantEvent) -> None:
        if isinstance(event, Training | Inference):
            self._steer(event)
        elif isinstance(event, Crash):
            gangs = self._gangs(event)
            self.jobs.restart_s[gangs] = event.restart_s
            crash(self.jobs, gangs)
        elif isinstance(event, HeatWave):
            self._heat.turn(slice(None), event.rise_k, event.at_s, event.over_s)
        else:
            self._switch(event, on=True)
            if event.for_s > 0.0:
                self._back.append((event.at_s + event.for_s, event))

    def _steer(self, event: Training | Inference) -> None:
        gangs = self._gangs(event)
        if event.to is not None:
            self._share.turn(gangs, event.to, event.at_s, event.over_s if event.at_s > 0.0 else 0.0)
        if isinstance(event, Training):
            for name in ("depth", "period_s", "checkpoint_every_s"):
                value = getattr(event, name)
                if value is not None:
                    getattr(self.jobs, name)[gangs] = value

    def _switch(self, event: PlantEvent, *, on: bool) -> None:
        if isinstance(event, Outage):
            self.elec.in_service[self._node(event)] = not on
        elif isinstance(event, CoolingTrip):
            self.put(self._unit(event), in_service=not on)
        elif isinstance(event, StorageTrip):
            self.elec.storage_ok[self._storage(event)] = not on
        elif isinstance(event, GeneratorFails):
            self.gensets.fails[self._generator(event)] = on
        elif isinstance(event, Sag):
            self.elec.source[self._sagging(event)] = event.to if on else 1.0
        elif isinstance(event, Leak):
            self._leak(event, on=on)
        else:
            self._mislead(event, on=on)

    def _mislead(self, event: PlantEvent, *, on: bool) -> None:
        """What befalls devices and agents."""
        if isinstance(event, DeviceFault):
            getattr(self.faults, event.how)[self._devices(event)] = on
        elif isinstance(event, IgnoreCaps):
            self.faults.ignores_caps[self._drawn[event]] = on
        elif isinstance(event, SensorError):
            e, which = event, self._devices(event)
            if on:
                self.errors.start(which, e.at_s, e.drift_per_h, e.drift_k_per_h, e.lag_s, e.step)
            else:
                self.errors.end(which)
        elif isinstance(event, SlowActuators):
            racks, slow = self._drawn[event], 1.0 - math.exp(-DT_S / event.settle_s)
            self.network.racks.settle[racks] = slow if on else self._settle[racks]
        elif event.do == "gateway_silent":
            self.faults.gateway_silent[event.nth : event.nth + event.count] = on

    def _check(self, event: PlantEvent) -> None:
        """PlantError when the site has nothing that the event could mean."""
        if isinstance(event, Training | Inference | Crash):
            self._gangs(event)
        elif isinstance(event, Outage):
            self._node(event)
        elif isinstance(event, CoolingTrip):
            self._unit(event)
        elif isinstance(event, StorageTrip):
            self._storage(event)
        elif isinstance(event, DeviceFault | SensorError):
            self._devices(event)
        elif isinstance(event, Sag):
            self._sagging(event)
        elif isinstance(event, Leak):
            self._leaking(event)
        elif isinstance(event, GeneratorFails):
            self._generator(event)
        elif event.do == "gateway_silent" and event.nth >= len(self.site.gateways):
            raise PlantError(f"{event.do}: the site has {len(self.site.gateways)} gateways, no number {event.nth}")

    def _gangs(self, event: Training | Inference | Crash) -> Ints:
        gangs, names = self.network.gangs, self.network.gang_names
        kind = "inference" if isinstance(event, Inference) else "training"
        of_kind = np.flatnonzero(gangs.training == (kind == "training"))
        if event.jobs == "all":
            return of_kind
        if event.jobs == "largest" and len(of_kind):
            gpus = np.bincount(self.network.racks.gang, weights=[r.gpus for r in self.site.racks])
            return of_kind[[np.argmax(gpus[of_kind])]]
        found = np.array([g for g in of_kind if names[g] == event.jobs], dtype=np.int64)
        if not len(found):
            raise PlantError(f"{event.do}: the site has no {kind} job {event.jobs}")
        return found

    def _leaking(self, event: Leak) -> int:
        found = [i for i, c in enumerate(self.site.cdus) if event.id in ("", c.id)]
        if event.nth >= len(found):
            raise PlantError(f"leak: the site has no CDU {event.id or f'number {event.nth}'}")
        return found[event.nth]

    def _leak(self, event: Leak, *, on: bool) -> None:
        cdu = self._leaking(event)
        self.thermal.leaks[cdu] = on
        if on:
            self._closing.append((event.at_s + event.isolate_s, cdu))
        else:
            self._closing = [c for c in self._closing if c[1] != cdu]
            self.thermal.cdu_ok[cdu] = True

    def _sagging(self, event: Sag) -> Ints:
        feeds = [i for i, n in enumerate(self.site.nodes) if not n.parent and event.id in ("", n.id)]
        found = feeds if event.nth is None else feeds[event.nth : event.nth + 1]
        if not found:
            raise PlantError(f"sag: the site has no feed {event.id or f'number {event.nth}'}")
        return np.array(found, dtype=np.int64)

    def _generator(self, event: GeneratorFails) -> int:
        if event.nth >= len(self.site.generators):
            raise PlantError(f"generator_fails: the site has no generator number {event.nth}")
        return event.nth

    def _node(self, event: Outage) -> int:
        above = {p for n in self.site.nodes if n.kind == event.feeding for p in self.site.ancestors(n.id)}
        found = [
            i
            for i, n in enumerate(self.site.nodes)
            if (n.id == event.id if event.id else n.kind == event.kind and (not event.feeding or n.id in above))
        ]
        if event.nth >= len(found):
            what = event.id or f"{event.kind} number {event.nth}"
            raise PlantError(f"outage: the site has no {what}" + (f" feeding a {event.feeding}" * bool(event.feeding)))
        return found[event.nth]

    def _unit(self, event: CoolingTrip) -> str:
        units = self.site.cooling
        if event.id:
            ids = {u.id for u in units} | {c.id for c in self.site.cdus}
            found = [event.id] if event.id in ids else []
        elif event.kind == "cdu":
            found = [c.id for c in self.site.cdus]
        else:
            rejects = event.kind == "rejection"
            found = [u.id for u in units if not u.standby and (u.kind == event.kind or (rejects and u.kind != "pump"))]
        if event.nth >= len(found):
            what = f"no {event.id}" if event.id else f"{len(found)} of {event.kind}, no number {event.nth}"
            raise PlantError(f"cooling_trip: the site has {what}")
        return found[event.nth]

    def _storage(self, event: StorageTrip) -> int:
        found = [i for i, x in enumerate(self.site.storage) if not event.id or x.id == event.id]
        if event.nth >= len(found):
            raise PlantError(f"storage_trip: the site has no {event.id or f'storage number {event.nth}'}")
        return found[event.nth]

    def _id(self, event: Outage | CoolingTrip | StorageTrip) -> str:
        """What the event takes out."""
        if isinstance(event, Outage):
            return self.site.nodes[self._node(event)].id
        return self._unit(event) if isinstance(event, CoolingTrip) else self.site.storage[self._storage(event)].id

    def _draw(self, event: IgnoreCaps | SlowActuators) -> Ints:
        racks = len(self.site.racks)
        if event.share is None:
            return _evenly(np.arange(racks), event.count)
        return self.rng.permutation(racks)[: max(1, round(event.share * racks))]

    def _devices(self, event: DeviceFault | SensorError) -> Ints:
        kind = {n.id: "pdu" if n.kind == "pdu" else "meter" for n in self.site.nodes}
        kind |= {c.id: "cdu" for c in self.site.cdus} | {s.id: "storage" for s in self.site.storage}
        found = [i for i, d in enumerate(self.site.devices) if kind.get(d.measures) == event.measures]
        if not found:
            raise PlantError(f"{event.do}: the site has no device that measures a {event.measures}")
        return _evenly(np.array(found), event.count)


def _peak_at(peak_hour: float, hour: float) -> float:
    return math.cos(2.0 * math.pi * (hour - peak_hour) / 24.0)


def _evenly(of: Ints, count: int) -> Ints:
    return of[np.linspace(0, len(of) - 1, min(count, len(of))).round().astype(np.int64)]
