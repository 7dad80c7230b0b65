"""What a run of a scenario amounts to, by the plant's own truth and alike for every policy.

Limits, trips and work are counted by sim/lab/record.py; here are the figures of a study and their definitions.
"""

from typing import Any

import numpy as np

from controller.frames import Frames
from drivers.points import Floats
from sim.lab.lockstep import LOOKS, LockStep
from sim.lab.record import Record
from sim.lab.trace import Trace
from sim.plant.base import DT_S
from sim.plant.events import Scenario
from sim.plant.lab_events import EnvelopeRequest
from sim.plant.plant import Plant

MOVED = 0.001  # of nameplate: a cap that changes by less within a second has not moved
SERVED = 0.9  # of what an inference job is asked: below it its latency objective counts as missed
RAMP_S = 60  # window over which a ramp is measured, between means over SMOOTH_S: a job's swings are no ramps
RECOVERED = 0.05  # of all work: nearer to where the run ends than this is recovered
SMOOTH_S = 10  # over which ramps and the rate of work are seen
SETTLED_S = 30  # at the end of a run, where it is taken to be at rest
COLUMNS = (
    "site_mw", "envelope_mw", "it_mw", "cooling_mw", "cap_mw", "demand_mw", "work", "worst_load", "trip_state",
    "supply_c", "return_c", "silicon_c", "outside_c", "throttled", "shed", "dark", "on_battery",
)  # fmt: skip
PEAKS = ("site_mw", "worst_load", "trip_state", "supply_c", "return_c", "silicon_c", "throttled", "shed", "dark")


class Scores:
    """Watches a lock-step from its first second: `take` after each step of the plant, `result` at the end."""

    def __init__(self, lock: LockStep[Frames | None], scenario: Scenario) -> None:
        plant = lock.plant
        self._plant, self._incidents = plant, lock.incidents
        self._record = Record(plant, lock.plan, plant.director.faulted)
        self._event_s = disturbances(scenario)
        self._request = next((e for e in scenario.events if isinstance(e, EnvelopeRequest)), None)
        self._feed = plant.network.tree.is_feed
        self._nameplate_w = plant.network.racks.max_w
        self._serving = np.flatnonzero(~plant.network.gangs.training)
        self._dead_before = int((plant.gpus.lost > 0).sum())
        self._caps_w = plant.agents.holder.in_force_w.copy()
        self._steps, self._moves = 0, 0
        self._counted = (0.0, 0.0)  # work done and asked, at the last step
        self._site_j = self._it_j = self._due_j = self._over_w = 0.0
        self._over_s = self._throttled_s = self._shed_s = 0.0
        self._missed = self._asked = 0.0
        self._asked_over_s = 0.0  # when the site last stood above what was asked
        self._second_w: list[float] = []
        self._rate: list[float] = []  # work a second, share of all
        self._peak_w = self._sum_w = self._work = self._due = 0.0  # of the second that runs
        self._trace = Trace(COLUMNS, peaks=PEAKS, dips=("work",))

    def take(self, plant: Plant, frames: Frames | None) -> None:
        """One step of the plant."""
        self._record.take(plant, frames)
        site_w, due_w = float(plant.elec.out_w[self._feed].sum()), self._incidents.due_w()
        self._site_j += site_w * DT_S
        self._it_j += float(plant.jobs.power_w.sum()) * DT_S
        self._due_j += due_w * DT_S
        self._over_s += DT_S * (site_w > due_w)
        self._over_w = max(self._over_w, site_w - due_w)
        self._throttled_s += DT_S * int(plant.jobs.throttled.sum())
        self._shed_s += DT_S * int(np.isfinite(plant.shedding.hold_w).sum())
        if self._incidents.asked_w is not None and site_w > self._incidents.asked_w:
            self._asked_over_s = plant.t_s
        self._peak_w, self._sum_w = max(self._peak_w, site_w), self._sum_w + site_w
        worked, before = self._record.worked, self._counted
        self._counted = float(worked.done.sum()), float(worked.asked.sum())
        self._work += self._counted[0] - before[0]
        self._due += self._counted[1] - before[1]
        self._steps += 1
        if self._steps % LOOKS == 0:
            self._second(plant, due_w)

    def _second(self, plant: Plant, due_w: float) -> None:
        """What is looked at once a second."""
        caps_w = plant.agents.holder.in_force_w
        self._moves += int((np.abs(caps_w - self._caps_w) > MOVED * self._nameplate_w).sum())
        self._caps_w = caps_w.copy()
        self._serve(plant)
        self._second_w.append(self._sum_w / LOOKS)
        self._rate.append(max(self._work, 0.0) / max(self._due, 1e-9))
        self._trace.add(self._row(plant, due_w))
        self._work = self._due = self._peak_w = self._sum_w = 0.0

    def _serve(self, plant: Plant) -> None:
        """Requests count one by one; else a job's racks share its load, and it serves at their mean speed."""
        if plant.requests is not None:
            self._missed, self._asked = plant.requests.missed()
            return
        racks = plant.network.gangs.racks
        speed = np.where(plant.jobs.power_w > 0.0, plant.jobs.speed, 0.0)
        served = np.bincount(plant.network.racks.gang, speed, minlength=len(racks)) / racks
        self._missed += float(racks[self._serving][served[self._serving] < SERVED].sum())
        self._asked += float(racks[self._serving].sum())

    def _row(self, plant: Plant, due_w: float) -> Floats:
        t, e, j = plant.thermal, plant.elec, plant.jobs
        lit = j.power_w > 0.0
        return np.array(
            [
                self._peak_w / 1e6,
                due_w / 1e6,
                float(j.power_w.sum()) / 1e6,
                float(t.unit_w.sum() + t.cdu_w.sum()) / 1e6,
                float(self._caps_w.sum()) / 1e6,
                float(j.plateau_w.sum()) / 1e6,
                self._rate[-1],
                float((np.abs(e.out_w) / plant.network.tree.trip_w).max()),
                float(np.where(e.in_service, e.heat, 0.0).max()),
                float(t.cdu_supply_c.max()),
                float(t.loop_return_c.max()),
                float(t.silicon_c.max()),
                float(t.air_c[0]),
                int(j.throttled.sum()),
                int(np.isfinite(plant.shedding.hold_w).sum()),
                int((~lit).sum()),
                int(e.on_battery.sum()),
            ]
        )

    def trace(self) -> dict[str, Any]:
        """The run over time, decimated."""
        return self._trace.told()

    def result(self) -> dict[str, Any]:
        """The scores; their definitions are in the README. None where there was nothing to measure."""
        record, plant = self._record, self._plant
        worked, margin_s = record.worked, record.least_trip_s
        fall_w, rise_w = self._ramps_w()
        return {
            "duration_s": self._steps * DT_S,
            "work_done": worked.share(),
            "work_done_by_class": worked.by_class(),
            "worst_gang_level": worked.worst_gang(),
            "energy_mwh": self._site_j / 3.6e9,
            "pue_like": self._site_j / max(self._it_j, 1.0),
            "envelope_over_s": self._over_s,
            "envelope_over_mw_max": self._over_w / 1e6,
            "envelope_used": self._site_j / max(self._due_j, 1.0),
            "envelope_reached_s": self._reached_s(),
            "trips": int(record.tripped.sum()),
            "tripped": [plant.site.nodes[i].id for i in np.flatnonzero(record.tripped)],
            "beyond_deadline_s": record.beyond_s(),
            "late": record.late(),
            "breaker_margin_min_s": margin_s if np.isfinite(margin_s) else None,
            "gpu_throttle_rack_s": self._throttled_s,
            "gpu_shutdown_racks": int((plant.gpus.lost > 0).sum()) - self._dead_before,
            "forced_down_racks": record.forced_down(plant),
            "racks_dark": int(record.dark.sum()),
            "shed_rack_s": self._shed_s,
            "slo_miss": self._missed / self._asked if self._asked else 0.0,
            "cap_moves": self._moves,
            "ramp_max_mw_per_min": max(-fall_w, rise_w) / 1e6,
            "rise_of_ramp": rise_w / (RAMP_S * plant.site.control.ramp_up_w_per_s),
            "recovery_s": self._recovery_s(),
        }

    def _ramps_w(self) -> tuple[float, float]:
        """Steepest fall (negative) and rise of the site's power over RAMP_S [W]."""
        site_w = _smooth(np.array(self._second_w))
        steps_w = site_w[RAMP_S:] - site_w[:-RAMP_S] if len(site_w) > RAMP_S else site_w[-1:] - site_w[:1]
        return min(0.0, float(steps_w.min(initial=0.0))), max(0.0, float(steps_w.max(initial=0.0)))

    def _reached_s(self) -> float | None:
        """From the first request until the site stayed at or below it for as long as it was asked [s]."""
        if self._request is None or self._request.at_s >= self._steps * DT_S:
            return None
        return max(0.0, self._asked_over_s - self._request.at_s)

    def _recovery_s(self) -> float | None:
        """From the last thing that befell the site until no limit is exceeded and work goes on as at the end [s]."""
        end_s = self._steps * DT_S
        event_s = max((t for t in self._event_s if t < end_s), default=None)
        if event_s is None:
            return None
        rate = np.array(self._rate)
        away = np.flatnonzero(np.abs(_smooth(rate) - rate[-SETTLED_S:].mean()) > RECOVERED)
        settled_s = float(away[-1]) + SMOOTH_S if len(away) else 0.0
        return max(0.0, settled_s - event_s, self._record.last_over_s - event_s)


def disturbances(scenario: Scenario) -> tuple[float, ...]:
    """When something begins, has ramped or ends in a scenario, in order [s]; its starting state is none of it."""
    times = set()
    for event in scenario.events:
        if event.at_s > 0.0:
            times |= {event.at_s + getattr(event, name, 0.0) for name in ("at", "over_s", "for_s", "restart_s")}
    return tuple(sorted(times))


def _smooth(seconds: Floats) -> Floats:
    """Means over SMOOTH_S; as they are where there are fewer."""
    return np.convolve(seconds, np.ones(SMOOTH_S) / SMOOTH_S, "valid") if len(seconds) >= SMOOTH_S else seconds
