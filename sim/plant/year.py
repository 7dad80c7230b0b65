"""A year of a site in minutes: its water and power at rest in one quarter of an hour after the other.

Weather and load change within hours, the water within minutes (loops turn over in 2 minutes, valves and rejection take
half of one): so each slice is brought to rest with the plant's own step, from where the last one ended, and its powers
count for the whole of it. What settles within seconds (swings, caps, trips) is not in a year; the plant shows that.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drivers.points import Floats
from drivers.profile import load_profiles
from drivers.site.model import Site
from sim.plant import electrical, gpus, jobs, voltage
from sim.plant.base import ALLOCATING, Bools, PlantError
from sim.plant.events import Scenario
from sim.plant.gpu_loops import THROTTLE_C
from sim.plant.hydraulics import CHILLER, PUMP, Hydraulics
from sim.plant.network import Racks
from sim.plant.plant import BALANCE, Plant
from sim.plant.step import thermal_step
from sim.plant.thermal import ThermalState
from sim.plant.weather import HOURS, Year

SLICES_H = 4  # a quarter of an hour each
LOOK_STEPS = 40  # steps between two looks whether the water is at rest
REST_K = 2e-3  # over LOOK_STEPS, of any loop or CDU
ON_WAY_K = 0.02  # between the ends of pipes, which hold what has not arrived yet
MOST_STEPS = 3600  # the slice itself
MONTH_H = HOURS // 12
WARM_K = 1.0  # of a loop over its set-point


@dataclass
class Tally:
    """Energies of a month [J] and hours."""

    it_j: float = 0.0
    pumps_j: float = 0.0
    fans_j: float = 0.0
    chillers_j: float = 0.0
    losses_j: float = 0.0
    loads_j: float = 0.0
    site_j: float = 0.0
    chiller_h: float = 0.0
    warm_h: float = 0.0  # a loop more than WARM_K over its set-point
    hot_h: float = 0.0  # a GPU that would throttle
    peak_w: float = 0.0
    peak_dry_c: float = -math.inf
    steps: int = 0


@ALLOCATING
def _rest(
    racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, cdu_on: Bools, unit_on: Bools, mixed_w: Floats,
    dry_c: float, wet_c: float,
) -> tuple[int, float]:  # fmt: skip
    """Step the water until it is at rest; how many steps, and the worst relative error of the heat balance."""
    worst, steps = 0.0, 0
    while steps < MOST_STEPS:
        loops, cdus = s.loop_supply_c.copy(), s.cdu_supply_c.copy()
        for _ in range(LOOK_STEPS):
            worst = max(worst, thermal_step(racks, hyd, s, rack_w, cdu_on, unit_on, mixed_w, dry_c, wet_c))
        steps += LOOK_STEPS
        on_way = np.abs(s.arriving_c - s.loop_supply_c).max() + np.abs(s.returning_c - s.loop_return_c).max()
        moved = max(np.abs(s.loop_supply_c - loops).max(), np.abs(s.cdu_supply_c - cdus).max())
        if moved < REST_K and on_way < ON_WAY_K:
            break
    return steps, worst


def run_year(
    site: Site, scenario: Scenario, air: Year, seed: int, say: Callable[[str], None], hours: int = HOURS
) -> list[Tally]:
    """Months of a site under a scenario's load; PlantError when heat or power do not balance to 1e-9.

    `hours` counts from 1 January on. What a month leaves is its Tally, whatever the length.
    """
    plant = Plant(site, load_profiles(), scenario, seed)
    n, t, s, g = plant.network, plant.thermal, plant.jobs, plant.gpus
    paths = plant.paths
    pumps, chillers = n.hydraulics.unit_kind == PUMP, n.hydraulics.unit_kind == CHILLER
    mixed_w = np.zeros(len(site.cdus))
    months: list[Tally] = []
    plant.step()  # who has voltage
    for k in range(hours * SLICES_H):
        if k % (MONTH_H * SLICES_H) == 0:
            months.append(Tally())
            say(f"month {len(months)} of 12")
        hour = k / SLICES_H
        dry_c, wet_c = air.at(hour)
        day = plant.director.day(hour * 3600.0)
        if plant.requests is not None:
            plant.requests.settle(s, day)
        jobs.demand(n.racks, n.gangs, s, day, g.wanted)
        rack_w = _mean_w(plant)
        steps, off = _rest(n.racks, n.hydraulics, t, rack_w, paths.cdu_on, paths.unit_on, mixed_w, dry_c, wet_c)
        gpus.warm_gpus(n.racks, g, rack_w, t.silicon_c, t.coolant_c)
        for _ in range(2):  # losses follow the voltages of the step before
            flow = electrical.flow(n.tree, n.hydraulics, n.racks, plant.elec, paths, rack_w, t.cdu_w, t.unit_w)
            voltage.sag(n.tree, plant.elec)
        if not (off <= BALANCE and flow.residual <= BALANCE):
            raise PlantError(f"energy in hour {hour}: heat off by {off:.1e}, power by {flow.residual:.1e}")
        _count(months[-1], plant, flow, rack_w, pumps, chillers, dry_c, steps)
    return months


def _mean_w(plant: Plant) -> Floats:
    """Mean power of each rack over its job's period, under its cap [R, W]."""
    s, racks, gangs = plant.jobs, plant.network.racks, plant.network.gangs
    down = np.where(gangs.training, s.depth * s.comm, 0.0)[racks.gang]
    limit_w = np.where(plant.director.faults.ignores_caps, racks.max_w, s.limit_w)
    w: Floats = np.maximum(np.minimum(s.plateau_w, limit_w) * (1.0 - down), racks.idle_w)
    return w


def _count(
    m: Tally,
    plant: Plant,
    flow: electrical.Flow,
    rack_w: Floats,
    pumps: Bools,
    chillers: Bools,
    dry_c: float,
    steps: int,
) -> None:
    t, slice_s = plant.thermal, 3600.0 / SLICES_H
    m.it_j += float(rack_w.sum()) * slice_s
    m.pumps_j += float(t.cdu_w.sum() + t.unit_w[pumps].sum()) * slice_s
    m.fans_j += float(t.unit_w[~pumps & ~chillers].sum()) * slice_s
    m.chillers_j += float(t.unit_w[chillers].sum()) * slice_s
    m.losses_j += flow.loss_w * slice_s
    m.loads_j += flow.load_w * slice_s
    m.site_j += flow.site_w * slice_s
    m.chiller_h += bool((t.unit_heat_w[chillers] > 1.0).any()) / SLICES_H
    m.warm_h += bool((t.loop_supply_c > plant.network.hydraulics.loop_set_c + WARM_K).any()) / SLICES_H
    m.hot_h += float((t.silicon_c + plant.gpus.hottest_k).max()) > THROTTLE_C and 1.0 / SLICES_H
    m.peak_w, m.peak_dry_c = max(m.peak_w, flow.site_w), max(m.peak_dry_c, dry_c)
    m.steps += steps
