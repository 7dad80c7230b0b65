"""What a controller leaves behind beside its orders: alarms, journal, history, messages. None can hold it up."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controller import alarms, journal
from controller import history as history_of
from controller.alarms import Board, Finding, hooks, keep
from controller.frames import Frames
from controller.plan import Plan
from drivers.clock import Clock
from drivers.inventory import Inventory
from drivers.points import Snapshot
from drivers.supervise import Outlet
from drivers.wires import LinkHealth

LISTED = 300  # alarms that a frame carries
TAKEN = ("at_ms", "by", "why", "act")
log = logging.getLogger(__name__)


class Records:
    """Alarms of one site, and on the disk journal, history and the alarms' states, unless `disk` is false."""

    def __init__(self, plan: Plan, inventory: Inventory, state: Path, clock: Clock, *, disk: bool = True) -> None:
        self._plan, self._clock = plan, clock
        self.board = Board()
        self._began_ms = clock.wall_ms()
        self._mode = ""
        self._refusals = 0
        self._problems: list[Finding] = []
        self._kept: dict[str, Any] = {}
        self._journal: journal.Recorder | None = None
        self._history: history_of.Recorder | None = None
        self._hooks: hooks.Hooks | None = None
        self._keeper: Outlet[dict[str, Any]] | None = None
        try:
            if disk:
                self._open(state, inventory)
        except Exception:
            log.exception("records cannot be kept as they should, control goes on without what is missing")

    def _open(self, state: Path, inventory: Inventory) -> None:
        """All that lies on the disk, the most precious first."""
        self._journal = journal.Recorder(state, self._plan, self._clock)
        keep.restore(self.board, keep.read(state), self._clock.now_s(), self._clock.wall_ms())
        self._kept = keep.dump(self.board)
        self._keeper = Outlet(lambda: _keeping(state), 1)
        self._hooks = hooks.Hooks(_notify(state), self._plan.site.name)
        self._history = history_of.Recorder(state, history_of.layout_of(self._plan, inventory), self._clock)

    def start(self, epoch: int) -> None:
        """The controller begins."""
        racks = [rack.id for rack in self._plan.site.racks]
        self._put("start", {"site": self._plan.site.name, "epoch": epoch, "process": os.getpid(), "racks": racks})

    def adopt(self, plan: Plan) -> None:
        """Other jobs on the same racks: alarms name these from now on."""
        self._plan = plan

    def stop(self) -> None:
        """The controller ends: write what waits, for some seconds at most."""
        for part in (self._journal, self._history, self._hooks, self._keeper):
            if part is not None:
                part.close()

    def write(self, taken: Sequence[tuple[int, Mapping[str, Any]]], frames: Frames, shot: Snapshot, sent: int) -> None:
        """Acts just taken up and one finished cycle; whatever goes wrong here is logged and costs no control."""
        try:
            self.acts(taken)
            self.cycle(frames, shot, sent)
        except Exception:
            log.exception("the cycle was good, it could not be recorded")

    def acts(self, taken: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Acts just taken up, to the journal and to the alarms. What is read again changes nothing twice."""
        for ends, act in taken:
            if self._journal is not None:
                self._journal.act(ends, act)
            if str(act["act"]) in alarms.ACTS:
                self._act(act)

    def _act(self, act: Mapping[str, Any]) -> None:
        try:
            changes = self.board.act(act, self._clock.now_s(), self._clock.wall_ms())
        except alarms.AlarmError as error:
            log.warning("%s", error)
            return
        if int(act.get("at_ms", self._began_ms)) >= self._began_ms:  # earlier ones are read again after a start
            self._tell(changes)

    def cycle(self, frames: Frames, shot: Snapshot, sent: int) -> None:
        """One finished cycle: its orders to the journal, its points to the history."""
        mode = frames.orders.mode.name.lower()
        if mode != self._mode:
            self._put("mode", {"mode": mode, "was": self._mode})
            self._mode = mode
        if self._journal is not None:
            self._journal.cycle(frames, sent)
        if self._history is not None:
            self._history.frame(frames.image.cycle, shot)

    def told(
        self,
        frames: Frames,
        links: Sequence[LinkHealth],
        outranked: int,
        lapsed: Sequence[str],
        more: Sequence[Finding] = (),
    ) -> dict[str, Any] | None:
        """Let the alarms live on with this cycle; what the feed shows of them.

        None where that fails, which is logged: the feed then shows what is wrong as plain lines.
        """
        try:
            return self._live(frames, links, outranked, lapsed, more)
        except Exception:
            log.exception("the alarms could not be brought up to date")
            return None

    def _live(
        self,
        frames: Frames,
        links: Sequence[LinkHealth],
        outranked: int,
        lapsed: Sequence[str],
        more: Sequence[Finding],
    ) -> dict[str, Any]:
        now_s, now_ms = frames.image.now_s, self._clock.wall_ms()
        found = [*alarms.findings(self._plan, frames, links, outranked, lapsed), *self._own(), *_joined(more)]
        changes = self.board.step(now_s, now_ms, found, blind=not frames.estimate.covered)
        self._tell(changes)
        self._keep()
        listed = self.board.listed()
        return {
            "alarms": self.board.lines(),
            "alarm_list": alarms.listing(listed[:LISTED]),
            "alarms_aside": alarms.listing(self.board.aside()[:LISTED]),
            "alarm_metrics": self.board.metrics(now_s, now_ms),
        }

    def _own(self) -> list[Finding]:
        """What is wrong with the records themselves."""
        parts = (("journal_failing", self._journal), ("history_failing", self._history), ("hooks_failing", self._hooks))
        said = [(code, part.complaint()) for code, part in parts if part is not None]
        return [Finding(code, text) for code, text in said if text]

    def _tell(self, changes: Sequence[alarms.Change]) -> None:
        for change in changes:
            self._put("alarm", asdict(change), change.at_ms)
        if self._hooks is not None:
            self._hooks.tell(self._clock.now_s(), changes)

    def _keep(self) -> None:
        if self._keeper is None:
            return
        state = keep.dump(self.board)
        if state != self._kept:
            self._kept = state
            self._keeper.put(state)

    def _put(self, kind: str, fields: Mapping[str, Any], at_ms: int | None = None) -> None:
        if self._journal is not None:
            self._journal.put(kind, fields, at_ms)


def _joined(found: Sequence[Finding]) -> list[Finding]:
    """One finding a code, their texts together."""
    texts: dict[str, list[str]] = {}
    for one in found:
        texts.setdefault(one.code, []).append(one.text)
    return [Finding(code, "; ".join(said)) for code, said in texts.items()]


def _notify(state: Path) -> hooks.Notify:
    """A file that cannot be taken is said in the log, and stops nothing."""
    try:
        return hooks.load(state)
    except (ValueError, OSError) as error:
        log.warning("%s is not taken, no messages are sent: %s", state / hooks.FILE, error)
        return hooks.Notify()


@contextmanager
def _keeping(state: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes the alarms' states, whole or not at all."""

    def write(given: dict[str, Any]) -> None:
        scratch = state / f"{keep.FILE}.new"
        with scratch.open("w") as file:
            json.dump(given, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(state / keep.FILE)

    yield write
