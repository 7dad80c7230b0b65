"""`headroom-v0`: the plant as a Gymnasium environment, for those who train a policy. Importing this registers it.

    import gymnasium, sim.lab.env
    env = gymnasium.make("headroom-v0", site="hall", scenario="surge")

One step is one second: the caps of the action go out on what was observed, through the same leases, agents and
actuators as those of any rival (sim/lab/rivals), then the plant moves on.

Action, Box(0, 1), one number per gang (`leaf="gang"`: a training job, or a rack without one) or per rack
(`leaf="rack"`): where between floor and nameplate its racks are capped.

Observation, Box(-1, 4) of float32, from the instruments alone, -1 where a value is not fresh and good:
- site power as a share of the envelope to hold, and that envelope as a share of the site's own;
- for each number of the action: mean power, highest power and lowest cap in force of its racks, shares of nameplate;
- for each electrical node above several racks: power as a share of its rating at the worst power factor and voltage;
- for each loop: supply temperature as a share of the hottest return allowed, flow as a share of design;
- of all CDUs: the warmest supply as a share of the warmest allowed, the least flow as a share of nominal.

Reward of a second = work - 10 x over - 10 x trips - throttled - 10 x shut, each from the plant's own truth:
`work` is the share of the racks' full speed that was reached, `over` the mean power above the envelope as a share of
it, `trips` the protections that opened by themselves, `throttled` and `shut` the shares of racks slowed and newly shut
down by heat. `info` has the five. A trip terminates the episode; after `seconds` steps it is truncated.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from controller.frames import Floats, Frames, Ints
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.lockstep import PERIOD_S, LockStep
from sim.lab.record import Worked
from sim.lab.rivals.policy import Layout, Seen, layout_of
from sim.lab.rivals.runner import see
from sim.plant.base import DT_S
from sim.plant.events import Scenario
from sim.plant.plant import Plant
from sim.scenarios import load_scenario

ID = "headroom-v0"
UNKNOWN, MOST = -1.0, 4.0
OVER_COST, TRIP_COST, SHUT_COST = 10.0, 10.0, 10.0
Array = NDArray[np.float32]


class Commanded:
    """The policy whose caps somebody else sets: `wanted_w` [R]; the safe caps before anybody has."""

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self.wanted_w = layout.safe_cap_w.copy()

    def caps_w(self, seen: Seen) -> Floats:
        """What was set last [R, W]."""
        del seen
        return self.wanted_w


class HeadroomEnv(gymnasium.Env[Array, Array]):
    """A site under a scenario, one second a step; see the module for spaces and reward.

    SiteError, ScenarioError and PlantError as of the simulated plant. `reset(seed=)` draws the plant: equal seeds and
    actions give equal episodes bit for bit. `options={"scenario": ...}` of reset changes the scenario.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as gymnasium declares it

    def __init__(
        self,
        site: str | Site = "hall",
        scenario: str | Scenario = "surge",
        *,
        leaf: Literal["gang", "rack"] = "gang",
        seconds: int = 1800,
    ) -> None:
        self._site = resolve_site(site) if isinstance(site, str) else site
        self._scenario = load_scenario(scenario) if isinstance(scenario, str) else scenario
        self._leaf, self._seconds = leaf, seconds
        self._start(0)
        width = len(self._observed())
        self.action_space = spaces.Box(0.0, 1.0, (int(self._part_of.max()) + 1,), np.float32)
        self.observation_space = spaces.Box(UNKNOWN, MOST, (width,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """A new plant a second into its scenario, racks at their safe caps."""
        super().reset(seed=seed)
        scenario = (options or {}).get("scenario")
        if scenario is not None:
            self._scenario = load_scenario(scenario) if isinstance(scenario, str) else scenario
        self._start(int(self.np_random.integers(2**31)))
        return self._observed(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Send the caps of `action`, let a second pass; observation, reward, trip, end of time, parts of the reward."""
        layout, lock = self._layout, self._lock
        share = np.clip(np.asarray(action, dtype=np.float64), 0.0, 1.0)[self._part_of]
        self._made[-1].wanted_w = layout.floor_w + share * (layout.max_w - layout.floor_w)
        if lock.incidents.controller:  # else the scenario has taken it away, and nothing goes out
            lock.control(self._shot)
        second = _Second(lock.plant, self._seen.envelope_w)
        lock.alone(PERIOD_S, second.take)
        parts = second.parts(lock.plant)
        observed = self._observed()
        self._steps += 1
        return observed, reward(parts), parts["trips"] > 0.0, self._steps >= self._seconds, parts

    def _start(self, seed: int) -> None:
        self._made: list[Commanded] = []  # one for each start of the controller

        def factory(layout: Layout, seed: int) -> Commanded:
            self._made.append(Commanded(layout, seed))
            return self._made[-1]

        self._lock: LockStep[Frames | None] = LockStep(self._site, self._scenario, seed, policy=factory)
        self._steps, lock = 0, self._lock
        lock.alone(PERIOD_S)  # instruments show means over a second
        self._layout = layout_of(lock.plan, lock.wires.inventory)
        racks = np.arange(len(self._layout.max_w))
        self._part_of: Ints = self._layout.gang_of if self._leaf == "gang" else racks
        shared = np.diff(self._layout.rows.indptr)[: len(self._layout.parent)] > 1
        self._shared: Ints = np.flatnonzero(shared)

    def _observed(self) -> Array:
        """The observation at this moment; the cycle of the next action stands on the same readings."""
        lock = self._lock
        self._shot = lock.wires.snapshot(lock.now_s)
        self._seen = see(lock.plan, self._shot, lock.requests)
        values = np.concatenate([self._of_site(), self._of_parts(), self._of_nodes(), self._of_water()])
        return np.clip(np.where(np.isfinite(values), values, UNKNOWN), UNKNOWN, MOST).astype(np.float32)

    def _of_site(self) -> Floats:
        seen = self._seen
        return np.array([seen.site_w / seen.envelope_w, seen.envelope_w / self._site.control.envelope_w])

    def _of_parts(self) -> Floats:
        """Mean power, highest power, lowest cap of each part of the action [3 x parts]."""
        part, parts = self._part_of, int(self._part_of.max()) + 1
        power, cap = (x / self._layout.max_w for x in (self._seen.rack_w, self._seen.cap_w))
        mean = np.bincount(part, power, minlength=parts) / np.bincount(part, minlength=parts)
        highest, lowest = np.full(parts, -np.inf), np.full(parts, np.inf)
        np.fmax.at(highest, part, power)
        np.fmin.at(lowest, part, cap)
        return np.concatenate([mean, highest, lowest])

    def _of_nodes(self) -> Floats:
        load: Floats = self._seen.node_w[self._shared] / self._layout.limit_w[self._shared]
        return load

    def _of_water(self) -> Floats:
        plan, site = self._lock.plan, self._site
        supply = self._good(plan.loop_supply_slot) / plan.loop_return_max_c
        flow = self._good(plan.loop_flow_slot) / plan.loop_lpm
        warmest = np.nanmax(np.append(self._good(plan.cdu_supply_slot), -np.inf)) / site.control.supply_max_c
        nominal = np.array([c.flow_lpm for c in site.cdus])
        least = np.nanmin(np.append(self._good(plan.cdu_flow_slot) / nominal, np.inf))
        return np.concatenate([supply, flow, [warmest, least]])

    def _good(self, slots: Ints) -> Floats:
        good = (slots >= 0) & (self._shot.quality[slots] == 0)
        return np.where(good, self._shot.value[slots], np.nan)


class _Second:
    """What happened in a second of the plant."""

    def __init__(self, plant: Plant, envelope_w: float) -> None:
        self._envelope_w = envelope_w
        self._over_ws = 0.0
        self._worked = Worked(plant)
        before = plant.truth()
        self._trips, self._shut = before.trips, before.shut_down

    def take(self, plant: Plant) -> None:
        """One step of it."""
        site_w = float(plant.elec.out_w[plant.network.tree.is_feed].sum())
        self._over_ws += max(site_w - self._envelope_w, 0.0) * DT_S
        self._worked.take(plant)

    def parts(self, plant: Plant) -> dict[str, float]:
        """The parts of the reward."""
        after, racks = plant.truth(), len(plant.site.racks)
        return {
            "work": self._worked.share(),
            "over": self._over_ws / PERIOD_S / self._envelope_w,
            "trips": float(after.trips - self._trips),
            "throttled": after.throttled / racks,
            "shut": (after.shut_down - self._shut) / racks,
        }


def reward(parts: dict[str, float]) -> float:
    """Work less violations, as the module says."""
    violations = OVER_COST * parts["over"] + TRIP_COST * parts["trips"] + parts["throttled"] + SHUT_COST * parts["shut"]
    return parts["work"] - violations


gymnasium.register(id=ID, entry_point="sim.lab.env:HeadroomEnv")
