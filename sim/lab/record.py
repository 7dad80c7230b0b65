"""What a loss did, by the plant's own truth: trips, limits and their deadlines, heat, work, ramps."""

from collections import deque
from typing import Any

import numpy as np

from controller.frames import Bools, Floats, Frames
from controller.plan import Plan
from drivers.site.model import Site
from sim.plant.base import DT_S
from sim.plant.plant import Plant
from sim.plant.protection import times_to_trip

SLACK_S = 1.0  # beyond react_s and three settling times: the rest of the settling, and the plant's step
OVER = 1.005  # of a continuous rating: what a class 0.5 meter cannot tell from the rating
WARM_K = 0.5  # above a limit of the water: its sensors' error
FLOW_LEAST = 0.1  # of a CDU's nominal flow: below it its racks have lost their coolant
RISE_S = 20.0  # over which the water's rise is seen
QUIET_SHARE = 0.002  # of all caps: moving less than this in a second is rest


class Worked:
    """Work by class, from the plant: seconds at full speed, each rack's by the power of its GPUs, on average 1.

    A crash takes back what it undoes, but not from before.
    """

    def __init__(self, plant: Plant) -> None:
        site, racks = plant.site, plant.network.racks
        priority = np.zeros(len(plant.network.gangs.racks), dtype=np.int64)
        priority[racks.gang] = [r.priority for r in site.racks]
        self._class = priority
        gpu_w = racks.max_w - racks.other_w
        self._worth: Floats = np.bincount(racks.gang, gpu_w / gpu_w.mean()) / plant.network.gangs.racks
        self._before, self._asked_before = plant.jobs.work.copy(), plant.jobs.asked.copy()
        self.by_gang = np.zeros(len(priority))  # [G] rack seconds done
        self.asked_by_gang = np.zeros(len(priority))

    def take(self, plant: Plant) -> None:
        """Count one step."""
        jobs = plant.jobs
        self.by_gang = np.maximum(self.by_gang + jobs.work - self._before, 0.0)
        self.asked_by_gang += jobs.asked - self._asked_before
        self._before, self._asked_before = jobs.work.copy(), jobs.asked.copy()

    @property
    def done(self) -> Floats:
        """Work done by class [classes]."""
        return np.bincount(self._class, self._worth * self.by_gang).astype(np.float64, copy=False)

    @property
    def asked(self) -> Floats:
        """Work asked for by class [classes]."""
        return np.bincount(self._class, self._worth * self.asked_by_gang).astype(np.float64, copy=False)

    def worst_gang(self) -> float:
        """Least share of its work that any gang has done."""
        asked = self.asked_by_gang > 0.0
        return float((self.by_gang[asked] / self.asked_by_gang[asked]).min(initial=1.0))

    def share(self) -> float:
        """Work done as a share of the work asked for."""
        return float(self.done.sum() / max(self.asked.sum(), 1e-9))

    def by_class(self) -> dict[str, float]:
        """The same for each priority class."""
        return {str(i): float(d / a) for i, (d, a) in enumerate(zip(self.done, self.asked, strict=True)) if a > 0.0}


class Record:
    """Watches a plant from the moment before a loss; `take` after each step, `summary` at the end."""

    def __init__(self, plant: Plant, plan: Plan, lost: frozenset[str]) -> None:
        self._site: Site = plan.site
        self._start_s = plant.t_s
        self._unfaulted = np.array([n.id not in lost for n in plan.site.nodes])
        self._limit_w = plant.network.tree.trip_w * OVER
        self._deadline_s = deadline_s(plan)
        self._return_max_c = np.array([x.return_max_c for x in plan.site.loops]) + WARM_K
        self._supply_max_c = plan.site.control.supply_max_c + WARM_K
        self._over = _Spells(len(plan.site.nodes))
        self._envelope, self._loop, self._cdu = _Spells(1), _Spells(len(plan.loop_lpm)), _Spells(len(plan.cdu_cap_w))
        self._tripped = np.zeros(len(plan.site.nodes), dtype=bool)
        self._trip_s = np.full(len(plan.site.nodes), np.nan)
        self._dead = plant.gpus.lost > 0
        self._uncooled = np.zeros(len(plan.site.racks), dtype=bool)
        self._dark = np.zeros(len(plan.site.racks), dtype=bool)
        self._used, self._left_s = np.zeros(len(plan.site.nodes)), np.inf
        self._site_w: list[float] = []
        self._caps_w: list[float] = []
        self._shed: dict[str, int] = {}
        self.worked = Worked(plant)

    def take(self, plant: Plant, frames: Frames | None) -> None:
        """One step of the plant, and the cycle of control after it, if there was one."""
        now_s, elec, thermal = plant.t_s - self._start_s, plant.elec, plant.thermal
        over = np.abs(elec.out_w) > self._limit_w
        self._over.take(over, now_s)
        site_w = float(elec.out_w[plant.network.tree.is_feed].sum())
        self._envelope.take(np.array([site_w > self._site.control.envelope_w]), now_s)
        self._loop.take(thermal.loop_return_c > self._return_max_c, now_s)
        flowing = _flowing(plant)
        self._cdu.take((thermal.cdu_supply_c > self._supply_max_c) & flowing, now_s)
        self._uncooled |= ~flowing[plant.network.racks.cdu]
        self._dark |= plant.jobs.power_w <= 0.0
        tripped = elec.tripped & self._unfaulted
        self._trip_s[tripped & ~self._tripped] = now_s
        self._tripped |= tripped
        closed = elec.in_service & self._unfaulted
        if elec.heat.any():
            self._used = np.maximum(self._used, np.where(closed, elec.heat, 0.0))
        left_s = times_to_trip(plant.protections, elec.pull_w, elec.heat)
        self._left_s = min(self._left_s, float(left_s[closed].min(initial=np.inf)))
        self.worked.take(plant)
        self._site_w.append(site_w)
        if frames is not None:
            self._caps_w.append(float(frames.orders.cap_w.sum()))

    @property
    def tripped(self) -> Bools:
        """Nodes that nobody took out and that their protection has opened at some time [N]."""
        return self._tripped

    @property
    def dark(self) -> Bools:
        """Racks that have stood without power at some time [R]."""
        return self._dark

    @property
    def least_trip_s(self) -> float:
        """Shortest time that a protection of an unfaulted element would have stayed closed at its load [s]."""
        return self._left_s

    @property
    def last_over_s(self) -> float:
        """When any rating or the site's own envelope was last exceeded [s]."""
        return float(max(self._over.last_s.max(), self._envelope.last_s.max()))

    def beyond_s(self) -> float:
        """Longest time by which a limit outlasted its deadline [s]; what has tripped is no longer late."""
        most_s = float(self._deadline_s.max())
        late = [np.where(self._tripped, 0.0, self._over.longest_s - self._deadline_s).max()]
        late += [x.longest_s.max(initial=0.0) - most_s for x in (self._envelope, self._loop, self._cdu)]
        return float(max(0.0, *late))

    def late(self) -> list[str]:
        """Every limit that was not met within its deadline, in words."""
        ids = [n.id for n in self._site.nodes]
        late = self._over.longest_s > self._deadline_s
        out = [
            f"{ids[i]} over its rating for {self._over.longest_s[i]:.2f} s of {self._deadline_s[i]:.2f} s"
            for i in np.flatnonzero(late & ~self._tripped)
        ]
        most_s = float(self._deadline_s.max())
        for what, spells, names in (
            ("over the envelope", self._envelope, ("site",)),
            ("return too warm", self._loop, tuple(x.id for x in self._site.loops)),
            ("supply too warm", self._cdu, tuple(x.id for x in self._site.cdus)),
        ):
            longest_s = spells.longest_s
            out += [f"{names[i]} {what} for {longest_s[i]:.2f} s" for i in np.flatnonzero(longest_s > most_s)]
        return out

    def summary(self) -> dict[str, Any]:
        """Figures of the whole run; times in s after the loss, work in seconds of a mean rack at full speed."""
        ids = [n.id for n in self._site.nodes]
        worst = int(np.argmax(self._used))
        heat = self._dead_by_heat
        site_w = np.array(self._site_w)
        second = site_w[: len(site_w) // 4 * 4].reshape(-1, 4).mean(axis=1)
        step_w = np.diff(second) if len(second) > 1 else np.zeros(1)
        return {
            "seconds": len(site_w) * DT_S,
            "trips": {ids[i]: float(self._trip_s[i]) for i in np.flatnonzero(self._tripped)},
            "late": self.late(),
            "over_s": float(self._over.longest_s.max()),
            "over_node": ids[int(np.argmax(self._over.longest_s))] if self._over.longest_s.any() else "",
            "back_s": float(self._over.last_s.max()),
            "trip_used": float(self._used[worst]),
            "trip_used_node": ids[worst] if self._used[worst] > 0.0 else "",
            "least_trip_s": self._left_s if np.isfinite(self._left_s) else None,
            "hot_racks": heat,
            "uncooled_racks": int(self._uncooled.sum()),
            "dark_racks": int(self._dark.sum()),
            "work_done": float(self.worked.done.sum()),
            "work_asked": float(self.worked.asked.sum()),
            "work_by_class": self.worked.by_class(),
            "fastest_fall_w_per_s": float(-step_w.min()),
            "fastest_rise_w_per_s": float(step_w.max()),
            "recovered_s": _recovered_s(np.array(self._caps_w)),
        }

    def end(self, plant: Plant) -> None:
        """Count what only the end of the run shows."""
        self._dead_by_heat = self.forced_down(plant)

    def forced_down(self, plant: Plant) -> int:
        """Racks of which a GPU has shut itself down by heat although their coolant never stopped."""
        return int(((plant.gpus.lost > 0) & ~self._dead & ~self._uncooled).sum())


class Settling(Record):
    """Sees beside all that when a source last came or went, and since when all is at rest, the water too."""

    def __init__(self, plant: Plant, plan: Plan, lost: frozenset[str]) -> None:
        super().__init__(plant, plan, lost)
        self._status, self.event_s, self.quiet_s = b"", 0.0, 0.0
        self._water_k: deque[Floats] = deque(maxlen=round(RISE_S / DT_S))

    def take(self, plant: Plant, frames: Frames | None) -> None:
        """As in Record."""
        super().take(plant, frames)
        self._rest(plant, plant.t_s - self._start_s)
        thermal, flowing = plant.thermal, _flowing(plant)
        margins_k = (self._return_max_c - thermal.loop_return_c, self._supply_max_c - thermal.cdu_supply_c[flowing])
        self._water_k.append(np.array([float(m.min(initial=np.inf)) for m in margins_k]))

    def warming(self, seconds: float) -> bool:
        """Whether the water would reach a limit within `seconds` if it went on as now, or is not known yet."""
        if len(self._water_k) < round(RISE_S / DT_S):
            return True
        rise_k_s = (self._water_k[0] - self._water_k[-1]) / RISE_S
        return bool((self._water_k[-1] <= rise_k_s * seconds).any())

    def _rest(self, plant: Plant, now_s: float) -> None:
        status = plant.elec.live.tobytes() + plant.elec.on_battery.tobytes() + plant.elec.in_service.tobytes()
        if status != self._status:
            self._status, self.event_s = status, now_s
        moving = len(self._caps_w) > 1 and abs(self._caps_w[-1] - self._caps_w[-2]) > QUIET_SHARE * self._caps_w[-2]
        if self._over.on or moving or status != self._status or bool(plant.elec.on_battery.any()):
            self.quiet_s = now_s


def _flowing(plant: Plant) -> Bools:
    """CDUs that move coolant [C]."""
    flowing: Bools = plant.thermal.cdu_flow_lpm > FLOW_LEAST * plant.network.hydraulics.cdu_flow_lpm
    return flowing


class _Spells:
    """Longest unbroken time that each of some conditions has held, and when it last did."""

    def __init__(self, n: int) -> None:
        self._run_s = np.zeros(n)
        self.longest_s = np.zeros(n)
        self.last_s = np.zeros(n)
        self.on = False  # any of them, now

    def take(self, on: Bools, now_s: float) -> None:
        was, self.on = self.on, bool(on.any())
        if not (was or self.on):
            return
        self._run_s = np.where(on, self._run_s + DT_S, 0.0)
        self.longest_s = np.maximum(self.longest_s, self._run_s)
        self.last_s[on] = now_s


def deadline_s(plan: Plan) -> Floats:
    """Time from an overload of each node to its end: reaction, and the slowest of the racks that load it [N]."""
    slowest = np.zeros(len(plan.row_name))
    np.maximum.at(slowest, plan.rows.of_entry, plan.reaction_s[plan.rows.racks])
    nodes: Floats = plan.site.control.react_s + slowest[plan.node_row] + SLACK_S
    return nodes


def _recovered_s(caps_w: Floats) -> float:
    """When the caps' sum last stood more than 1 % from where it ends [s]."""
    away = np.flatnonzero(np.abs(caps_w - caps_w[-1]) > 0.01 * caps_w[-1]) if len(caps_w) else np.zeros(0)
    return float(away[-1] + 1) if len(away) else 0.0
