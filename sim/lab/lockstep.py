"""Plant and controller in one process under a virtual clock: hours in seconds, repeatable bit for bit.

The wires are in memory and speak the driver interface; between them stand the same plant, the same agents and the
same `cycle.step` as over sockets. A rival policy (sim/lab/rivals) takes the place of `cycle.step` alone.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Generic, Literal, cast, overload

import numpy as np
from typing_extensions import TypeVar

from controller import cycle
from controller.corrective import Correction, Kit, Prepared, corrective
from controller.frames import Frames, Mode, Requests
from controller.plan import compile_plan
from controller.watch import Watch
from drivers.clock import VirtualClock
from drivers.lease import Lease
from drivers.points import Floats, Ints, Qualities, Quality, Snapshot
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.wires import CapCommand, Command, LinkHealth, SetpointCommand
from sim.lab.incidents import Incidents
from sim.lab.rivals import OBJECTIVES, Factory, factory_of
from sim.lab.rivals.runner import Runner
from sim.plant.base import DT_S
from sim.plant.events import Scenario
from sim.plant.plant import Plant
from sim.plant.truth import Truth

PERIOD_S = 1.0
LOOKS = round(PERIOD_S / DT_S)  # a second: status is read at 4 Hz
SETS_AGE_S = 5.0  # a corrective set is from a cycle so long ago: that is what the background work takes
READ_AGE_S = 0.25  # a reading is about a quarter of a second old when the cycle takes it
F = TypeVar("F", bound=Frames | None, default=Frames)  # what a cycle leaves: a rival has no frames


_profiles = cache(load_profiles)  # they are the same for every run of a study


class MemoryWires:
    """The plant's instruments and agents, read and commanded without sockets."""

    def __init__(self, plant: Plant) -> None:
        self.inventory = plant.inventory
        self.reports = True  # False: the broker is gone, nothing comes and nothing arrives
        self.lens: Callable[[Snapshot], Snapshot] = lambda shot: shot  # what a study does to the readings
        self.heard: Callable[[Lease], None] | None = None  # who listens to what is published
        self._plant = plant
        self._measures = {d.id: d.measures for d in plant.site.devices}
        self._table = self.inventory.table()
        self._seen: tuple[bool, bytes, bytes] | None = None  # who was silent when `_slots` was worked out
        self._slots: Ints = np.zeros(0, dtype=np.int64)

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s` [s]; what a silent device shows stays what it was, and ages."""
        flat, slots = self._plant.measure(), self._heard()
        self._table.put(slots, flat[slots], Quality.GOOD, now_s - READ_AGE_S)
        return self.lens(self._table.snapshot(now_s))

    def _heard(self) -> Ints | slice:
        """Slots of all that answers now; worked out again when that changes."""
        sensors = self._plant.sensors
        devices, gateways = sensors.mute()
        if self.reports and not devices.any() and not gateways.any():
            return slice(None)
        seen = (self.reports, devices.tobytes(), gateways.tobytes())
        if seen != self._seen:
            there = np.zeros(self.inventory.size, dtype=np.bool_)
            for slab in self.inventory.slabs:
                over_mqtt = slab.profile is None or slab.profile.protocol != "modbus"
                if self.reports or not over_mqtt:
                    heard = ~sensors.silent(slab)
                    there[slab.start : slab.stop] = np.repeat(heard, len(slab.points))
            self._seen, self._slots = seen, np.flatnonzero(there)
        return self._slots

    def forget(self) -> None:
        """Wires of a new process: nothing has been heard yet."""
        self._table = self.inventory.table()

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """A few of the points, as a snapshot shows them."""
        shot = self.snapshot(now_s)
        return shot.value[slots], shot.quality[slots]

    def send(self, commands: Sequence[Command]) -> int:
        """Hand leases to the agents at once; nothing arrives while the broker is gone."""
        if not self.reports:
            return 0
        leases = [command.lease for command in commands if isinstance(command, CapCommand)]
        if self.heard is not None:
            for lease in leases:
                self.heard(lease)
        if len({lease.group for lease in leases}) == len(leases):
            self._plant.accept_leases(leases)
        else:  # of two for one rack the second counts
            for lease in leases:
                self._plant.accept_lease(lease)
        for command in commands:
            if isinstance(command, SetpointCommand):
                self._plant.write(self._measures[command.device], command.point, command.value)
        return len(commands)

    def health(self) -> Sequence[LinkHealth]:
        """One wire, in memory."""
        return [LinkHealth("memory", self.reports, len(self.inventory.site.devices), 0, float(self.inventory.size))]


class SetsOnDemand(Mapping[int, Correction]):
    """The corrective sets that the background work would have ready now, each solved when it is asked for.

    A set is a pure function of a frozen cycle, so it is the same as if all had been solved at the time.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._past: deque[Frames] = deque()

    def look(self, frames: Frames) -> None:
        """Take a finished cycle; those before the newest that is SETS_AGE_S old are needed no more."""
        self._past.append(frames)
        while len(self._past) > 1 and frames.image.now_s - self._past[1].image.now_s >= SETS_AGE_S:
            self._past.popleft()

    def __getitem__(self, case: int) -> Correction:
        if not self._past or self._past[-1].image.now_s - self._past[0].image.now_s < SETS_AGE_S - 1.0:
            raise KeyError(case)
        old = self._past[0]
        orders = old.orders
        return corrective(self._kit, case, old.estimate, old.limits, orders.cap_w, orders.shed, since_s=0.0)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._kit.plan.losses.cases)


class LockStep(Generic[F]):
    """A site, its plant and what controls it, cycle by cycle.

    `policy` is a name of sim.lab.rivals.POLICIES, `package.module:Class`, or a factory; None is headroom with the
    site's own objective, `fair` and `throughput` headroom with that one. A rival gives None where headroom gives
    frames, and has no `state`. PolicyError where there is no such policy, or it gives no caps.
    """

    state: cycle.State

    @overload
    def __init__(
        self: "LockStep[Frames]",
        site: Site,
        scenario: Scenario,
        seed: int = 1,
        mode: Mode = Mode.LIVE,
        policy: Literal["fair", "throughput"] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: "LockStep[Frames | None]",
        site: Site,
        scenario: Scenario,
        seed: int = 1,
        mode: Mode = Mode.LIVE,
        policy: str | Factory | None = None,
    ) -> None: ...

    def __init__(
        self,
        site: Site,
        scenario: Scenario,
        seed: int = 1,
        mode: Mode = Mode.LIVE,
        policy: str | Factory | None = None,
    ) -> None:
        self._factory: Factory | None = None
        if policy in OBJECTIVES:
            site = site.model_copy(update={"control": site.control.model_copy(update={"objective": policy})})
        elif policy is not None:
            self._factory = factory_of(policy) if isinstance(policy, str) else policy
        self.clock = VirtualClock()
        self.plant = Plant(site, _profiles(), scenario, seed, start_s=self.clock.now_s())
        self.wires = MemoryWires(self.plant)
        self.plan = compile_plan(site, self.wires.inventory)
        self.incidents = Incidents(site, self.wires.inventory, scenario, self.plant.agents.groups, seed)
        if self.incidents.spoofs:
            self.wires.lens = self.incidents.lens
        if self.incidents.listens:
            self.wires.heard = self.incidents.heard
        self.requests = Requests(mode=mode)
        self._seed = seed
        self._watch = Watch(self.plan)
        self._live = self._status()
        self._epoch = 0
        self.start_controller()

    def start_controller(self) -> None:
        """Start the controller, or start it again after it died: nothing but the epoch is remembered."""
        self._epoch += 1
        self._rival: Runner | None = None
        if self._factory is not None:
            self._rival = Runner(
                self.plan,
                self.wires.inventory,
                self._factory,
                epoch=self._epoch,
                now_s=self.now_s,
                seed=self._seed,
            )
            return
        self.state = cycle.begin(self.plan, self._epoch, self.now_s)
        self._sets = SetsOnDemand(self.state.allocate.kit)

    @property
    def now_s(self) -> float:
        """Monotonic time of the controller's machine [s]."""
        return self.clock.now_s() + self.incidents.jump_s

    def alone(self, seconds: float, see: Callable[[Plant], None] = lambda _: None) -> list[Truth]:
        """The plant without a controller, a truth a second; `see` is called after every step of it."""
        truths = []
        for _ in range(round(seconds / PERIOD_S)):
            for _ in range(LOOKS):
                self._advance()
                see(self.plant)
            truths.append(self.plant.truth())
        return truths

    def control(self, shot: Snapshot | None = None) -> F:
        """One cycle of control on what the plant shows at this moment, or on a snapshot of it that was taken before."""
        assert self.incidents.controller, "the scenario has taken the controller away: go on with `watched`"
        return self._control(self.wires.snapshot(self.now_s) if shot is None else shot)

    def cycle(self) -> tuple[F, Truth]:
        """One second of plant, then one cycle of control on what it showed."""
        (truth,) = self.alone(PERIOD_S)
        return self.control(), truth

    def watched(self, see: Callable[[Plant, Frames | None], None]) -> F:
        """A second as in life: what is lost is seen at the next look and brings a cycle of its own a look later.

        `see` is called after every step of the plant, with the frames of the cycle that followed it, if one did.
        A rival has one cycle a second. While a scenario has taken the controller away there are no frames: None.
        """
        called, frames = False, None
        for look in range(1, LOOKS + 1):
            self._advance()
            due = (called or look == LOOKS) and self.incidents.controller
            frames = self.control() if due else None
            called = not due and self._rival is None and self._looks()
            see(self.plant, frames)
        return cast(F, frames)

    def _advance(self) -> None:
        """One step of the plant, with what befalls it and its controller at its beginning."""
        was_alive, asked_w, wall_s = self.incidents.alive, self.incidents.asked_w, self.incidents.wall_jump_s
        self.incidents.move(self.plant.t_s)
        self._befall(was_alive, asked_w, wall_s)
        self.plant.step(DT_S)
        self.clock.advance(DT_S)

    def _befall(self, was_alive: bool, asked_w: float | None, wall_s: float) -> None:
        """What changed since the last step: a new controller, another envelope, another wall time; forged leases."""
        now = self.incidents
        if now.has_broker_events:
            self.wires.reports = now.broker
        if now.alive and not was_alive:
            self.wires.forget()
            self.start_controller()
        if now.asked_w != asked_w:
            self.requests = replace(
                self.requests,
                envelope_w=now.asked_w,
                envelope_by="the utility",
                envelope_within_s=now.asked_within_s,
            )
        if now.wall_jump_s != wall_s:
            self.clock.jump_wall(now.wall_jump_s - wall_s)
        if now.listens and self.wires.reports:
            holder = self.plant.agents.holder
            for lease in now.forged(int(holder.epoch.max()), holder.beat):
                self.plant.accept_lease(lease)

    def _control(self, shot: Snapshot) -> F:
        if self._rival is not None:
            self.wires.send(self._rival.step(shot, self.requests))
            return cast(F, None)
        frames, commands = cycle.step(self.plan, shot, self.requests, self.state, Prepared(self._sets))
        self._sets.look(frames)
        self._watch.changed(shot.value[self._watch.slots], shot.quality[self._watch.slots])
        self.wires.send(commands)
        return cast(F, frames)

    def _looks(self) -> bool:
        """The watch's look between cycles; readings are taken only where it could see something new."""
        before, self._live = self._live, self._status()
        return before != self._live and self._watch.changed(*self.wires.glance(self._watch.slots, self.now_s))

    def _status(self) -> bytes:
        return self.plant.elec.live.tobytes() + self.plant.thermal.unit_ok.tobytes()
