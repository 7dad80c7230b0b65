"""Takes the events of a scenario that befall the controller, its wires and its envelope, as their time comes.

`Incidents` is a pure function of time and of what was heard on the bus; the lock-step asks it before every step.
"""

from collections import deque
from dataclasses import replace
from typing import TypeVar

import numpy as np

from drivers.inventory import Inventory
from drivers.lease import Group, Ints, Lease
from drivers.points import Floats, Snapshot
from drivers.site.model import Site
from sim.plant.base import PlantError
from sim.plant.events import Scenario
from sim.plant.lab_events import (
    BrokerDown,
    ClockJump,
    ControllerDown,
    ControllerStall,
    EnvelopeRequest,
    ForgedLeases,
    LabEvent,
    Spoof,
)

REPLAYED_S = 30.0  # what somebody who listens on the bus keeps
RANK = 1000  # epochs that a forger puts on top
FORGED_EVERY_S = 1.0
Lasting = TypeVar("Lasting", BrokerDown, ControllerDown, ControllerStall, EnvelopeRequest, Spoof, ForgedLeases)


class Incidents:
    """What is going on at the time of the last `move`; PlantError when the site has not what an event means."""

    def __init__(
        self, site: Site, inventory: Inventory, scenario: Scenario, groups: dict[str, Group], seed: int
    ) -> None:
        self._site, self._groups = site, tuple(groups.values())
        self._events = tuple(e for e in scenario.events if isinstance(e, LabEvent))
        rng = np.random.default_rng([seed, 0x1AB])
        self._slots = {e: _slots(e, site, inventory, rng) for e in self._events if isinstance(e, Spoof)}
        self._past: deque[tuple[float, Lease]] = deque()
        self._forged_s = -np.inf
        self._forged = self._epoch = 0
        self.t_s = 0.0
        self.broker = self.controller = self.alive = (
            True  # `controller`: it takes its cycles; `alive`: it is no new one
        )
        self.jump_s = self.wall_jump_s = 0.0
        self.asked_w: float | None = None
        self.asked_within_s: float | None = None
        self.has_broker_events = any(isinstance(e, BrokerDown) for e in self._events)
        self.spoofs, self.listens = bool(self._slots), any(isinstance(e, ForgedLeases) for e in self._events)

    def move(self, t_s: float) -> None:
        """Bring everything to `t_s` [s since start]."""
        self.t_s = t_s
        if not self._events:
            return
        on = self._on
        self.broker = not on(BrokerDown)
        self.alive = not on(ControllerDown)
        self.controller = self.alive and not on(ControllerStall)
        jumps = [e for e in self._events if isinstance(e, ClockJump) and e.at_s <= t_s]
        self.jump_s = sum(e.by_s for e in jumps if e.of == "monotonic")
        self.wall_jump_s = sum(e.by_s for e in jumps if e.of == "wall")
        top_w = self._site.control.envelope_w
        asked = min(on(EnvelopeRequest), key=lambda e: e.to, default=None)
        self.asked_w, self.asked_within_s = (asked.to * top_w, asked.within_s) if asked else (None, None)

    def due_w(self) -> float:
        """Envelope that must be held by now [W]: a request counts from the time by which it was to be reached."""
        top_w = self._site.control.envelope_w
        asked = self._on(EnvelopeRequest)
        return min([top_w, *(e.to * top_w for e in asked if self.t_s >= e.at_s + e.within_s)])

    def lens(self, shot: Snapshot) -> Snapshot:
        """Readings as they arrive: those that somebody or something falsifies are false."""
        value: Floats | None = None
        for event in self._on(Spoof):
            value = shot.value.copy() if value is None else value
            slots = self._slots[event]
            value[slots] = value[slots] * event.scale + event.add
        if value is None:
            return shot
        value.flags.writeable = False
        return replace(shot, value=value)

    def heard(self, lease: Lease) -> None:
        """A lease that was published; whoever forges them listens."""
        self._past.append((self.t_s, lease))
        while self.t_s - self._past[0][0] > REPLAYED_S:
            self._past.popleft()

    def forged(self, epoch: int, beat: Ints) -> list[Lease]:
        """Leases that somebody else publishes now; `epoch` is the highest that racks obey, `beat` [R] the newest."""
        events = self._on(ForgedLeases)
        if not events or self.t_s - self._forged_s < FORGED_EVERY_S:
            return []
        self._forged_s = self.t_s
        return [lease for event in events for lease in self._forge(event, epoch, beat)]

    def _forge(self, event: ForgedLeases, epoch: int, beat: Ints) -> list[Lease]:
        groups = self._groups[: event.count]
        if event.how == "replay":
            names = {g.name for g in groups}
            return [lease for _, lease in self._past if lease.group in names]
        self._forged += 1
        max_w = np.array([r.max_w for r in self._site.racks])
        control = self._site.control
        caps = {g.name: np.floor(event.to * max_w[g.racks]).astype(np.int64) for g in groups}
        self._epoch = self._epoch or epoch + RANK
        return [
            Lease(
                group=g.name,
                roster=g.roster,
                epoch=self._epoch,
                seq=self._forged,
                ttl_s=control.lease_ttl_s,
                decay_s=control.lease_decay_s,
                echo=beat[g.racks],
                cap_w=caps[g.name],
                safe_cap_w=caps[g.name],
            )
            for g in groups
        ]

    def _on(self, kind: type[Lasting]) -> list[Lasting]:
        """Events of a kind that go on now."""
        events = [e for e in self._events if isinstance(e, kind)]
        return [e for e in events if e.at_s <= self.t_s < e.at_s + (e.for_s or np.inf)]


def _slots(event: Spoof, site: Site, inventory: Inventory, rng: np.random.Generator) -> Ints:
    """Point slots that a spoof changes."""
    kind = {n.id: "pdu" if n.kind == "pdu" else "meter" for n in site.nodes}
    kind |= {c.id: "cdu" for c in site.cdus} | {u.id: "unit" for u in site.cooling}
    kind |= {x.id: "loop" for x in site.loops} | {s.id: "storage" for s in site.storage}
    found: list[int] = []
    for slab in inventory.slabs:
        if event.point not in slab.points:
            continue
        slots = slab.slots(event.point)
        if slab.name == "agent" and event.measures == "agent":
            found += slots.tolist()
        found += [int(s) for s, d in zip(slots, slab.devices, strict=False) if kind.get(d.measures) == event.measures]
    if not found:
        raise PlantError(f"spoof: the site has no {event.measures} that shows {event.point}")
    if event.share is not None:
        return np.sort(rng.permutation(np.array(found))[: max(1, round(event.share * len(found)))])
    return np.array(found)[np.linspace(0, len(found) - 1, min(event.count, len(found))).round().astype(np.int64)]
