"""A recording into the controller: the same cycle in virtual time, its orders held against the recorded ones.

Where the controller itself recorded (`headroom run --capture`), its cycles and requests are in the recording and the
orders should be the same to the watt. Elsewhere the controller runs as a shadow beside the one that was heard, and
differs from it as two controllers do. Background work is not replayed: a loss is solved when it is seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from controller import cycle, jobs
from controller.acts import requests_of
from controller.frames import Floats, Frames, JobTold, Mode, Requests
from controller.plan import Plan, compile_plan
from drivers.capture.playback import Playback
from drivers.capture.tape import Entry, Message, Note, Tape
from drivers.lease import LeaseError, compile_groups, decode_lease
from drivers.mqtt.leases import lease_topic
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.wires import CapCommand

PERIOD_S = 1.0
LONGEST_GAP_S = 60.0
Watch = Callable[[Plan, Frames, Playback], None]


@dataclass
class Outcome:
    """What came of a replay. `equal` of the `compared` cycles have the recorded caps; differences are of one rack."""

    cycles: int = 0
    span_s: float = 0.0
    recorded_by_controller: bool = False
    compared: int = 0
    equal: int = 0
    worst_w: float = 0.0
    worst: str = ""  # where and when the largest difference was
    counters: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """For a person."""
        seen = f"{self.counters.get('exchanges', 0)} exchanges and {self.counters.get('messages', 0)} messages"
        said = [f"{self.cycles} cycles over {self.span_s:.0f} s from {seen}"]
        if not self.compared:
            said.append("no orders are in the recording: nothing to compare")
        else:
            how = "of the controller that recorded" if self.recorded_by_controller else "heard on the wire (shadow)"
            said.append(f"{self.equal} of {self.compared} cycles have the orders {how}")
            if self.worst:
                said.append(f"largest difference {self.worst_w:.0f} W: {self.worst}")
        if unknown := self.counters.get("unknown_devices", 0):
            said.append(f"{unknown} exchanges are of devices that the site does not have")
        return said + self.faults


class Replay:
    """One recording on its way through the controller; `watch` sees each cycle."""

    def __init__(self, site: Site, tape: Tape, watch: Watch = lambda *_: None) -> None:
        self.playback = Playback(site, load_profiles(), tape.header)
        self.plan = self._built = compile_plan(site, self.playback.inventory)
        self._adopted: tuple[tuple[JobTold, ...], tuple[tuple[str, int], ...]] = ((), ())
        self.outcome = Outcome()
        self._tape, self._watch = tape, watch
        self._state: cycle.State | None = None
        self._due_s = np.inf  # of the next cycle, where the recording has none of its own
        self._epoch = 1
        names, gpus = [r.id for r in site.racks], [r.gpus for r in site.racks]
        self._groups = {lease_topic(site.name, n): g for n, g in compile_groups(site.lease_groups, names, gpus).items()}
        self._ours_w: Floats = np.full(len(site.racks), np.nan)
        self._theirs_w: Floats = np.full(len(site.racks), np.nan)

    def run(self) -> Outcome:
        """Play all of it. OSError when it cannot be read."""
        first_s = None
        for entry in self._tape.entries():
            first_s = entry.t_s if first_s is None else first_s
            self._shadow_cycles(entry)
            self.playback.play(entry)
            if isinstance(entry, Note):
                self._note(entry)
            elif isinstance(entry, Message):
                self._lease(entry)
        self._compare()
        out = self.outcome
        out.span_s = 0.0 if first_s is None else self._tape.last_s - first_s
        out.counters, out.faults = dict(self.playback.counters), self._tape.faults
        return out

    def _note(self, entry: Note) -> None:
        """The recorded controller began, or begins a cycle; what cannot be read is passed over."""
        try:
            if entry.body.get("note") == "begin":
                self.plan, self._adopted = self._built, ((), ())
                self._state = cycle.begin(self.plan, int(entry.body["epoch"]), entry.t_s)
                self.outcome.recorded_by_controller, self._due_s = True, np.inf
            elif entry.body.get("note") == "cycle" and self._state is not None:
                self._step(entry.t_s, requests_of(entry.body), self._state)
        except (KeyError, ValueError, TypeError):
            self.playback.counters["unread_notes"] += 1

    def _shadow_cycles(self, entry: Entry) -> None:
        """Cycles that are due before an entry, once a second, where the recording has none of its own."""
        if self.outcome.recorded_by_controller or isinstance(entry, Note):
            return
        if self._state is None:
            self._state = cycle.begin(self.plan, self._epoch, entry.t_s)
            self._due_s = entry.t_s + PERIOD_S
        if entry.t_s - self._due_s > LONGEST_GAP_S:  # nothing was recorded meanwhile
            self._due_s = entry.t_s
        while entry.t_s >= self._due_s:
            self.playback.clock.move_to(self._due_s)
            self._step(self._due_s, Requests(mode=Mode.SHADOW), self._state)
            self._due_s += PERIOD_S

    def _step(self, now_s: float, requests: Requests, state: cycle.State) -> None:
        self._compare()
        if (requests.jobs, requests.priority) != self._adopted:
            self._adopted = requests.jobs, requests.priority
            self.plan = jobs.with_jobs(self._built, requests.jobs, dict(requests.priority))
            jobs.adopt(self.plan, state)
        frames, commands = cycle.step(self.plan, self.playback.snapshot(now_s), requests, state)
        self.outcome.cycles += 1
        if requests.mode == Mode.SHADOW:
            self._ours_w = np.floor(frames.orders.cap_w)
        for command in commands:
            if isinstance(command, CapCommand):
                lease = command.lease
                self._ours_w[self._groups[lease_topic(self.plan.site.name, lease.group)].racks] = lease.cap_w
        self._watch(self.plan, frames, self.playback)

    def _lease(self, entry: Message) -> None:
        """Recorded orders, sent by the recording controller or heard from another."""
        group = self._groups.get(entry.topic)
        if group is None or entry.retained:
            return
        try:
            lease = decode_lease(entry.payload)
            group.check(lease)
        except LeaseError:
            return
        self._theirs_w[group.racks] = lease.cap_w

    def _compare(self) -> None:
        """The orders of the last cycle, when all of the recorded ones are in."""
        both = np.isfinite(self._ours_w) & np.isfinite(self._theirs_w)
        if not both.any():
            return
        apart_w = np.where(both, np.abs(self._ours_w - self._theirs_w), 0.0)
        rack, out = int(np.argmax(apart_w)), self.outcome
        out.compared += 1
        out.equal += apart_w[rack] == 0.0
        if apart_w[rack] > out.worst_w:
            out.worst_w = float(apart_w[rack])
            ours_w, theirs_w = self._ours_w[rack], self._theirs_w[rack]
            out.worst = (
                f"rack {self.plan.site.racks[rack].id} in cycle {out.cycles}: {ours_w:.0f} W, recorded {theirs_w:.0f} W"
            )
