"""Writes the journal beside the cycle: `put` and `cycle` never wait, threads write, what is lost is counted and said.

Rare records (acts, modes, alarms, starts) wait until the disk takes them; cycles are given up when it does not. An act
is already on the disk in the file of acts when it is taken up: whatever kills us, the next start writes the record.
"""

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.frames import Frames
from controller.journal import body
from controller.journal.store import Journal, New
from controller.plan import Plan
from drivers.clock import Clock, perf_s
from drivers.supervise import Outlet

CYCLES = 300  # that may wait: five minutes
RARE = 10_000
AGAIN_S = 1.0  # between two tries of a rare record
SLOW_S = 1.0  # a write that takes longer is said
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cycle:
    """One cycle to be written."""

    at_ms: int
    frames: Frames
    sent: int


@dataclass(frozen=True)
class _Rare:
    at_ms: int
    kind: str
    fields: Mapping[str, Any]
    ends: int = 0  # of an act: its place in the file of acts


class Recorder:
    """The journal of a running controller."""

    def __init__(self, state: Path, plan: Plan, clock: Clock) -> None:
        self._state, self._plan, self._clock = state, plan, clock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._journal: Journal | None = None
        self._last: body.Last | None = None
        self._written: set[bytes] | None = None  # acts that the journal has
        self._lost_said = 0
        self.lost = 0  # records given up because the disk did not take them
        self.problem = ""
        self._rare: Outlet[_Rare] = Outlet(lambda: _shown(self._write_rare), RARE)
        self._cycles: Outlet[Cycle] = Outlet(lambda: _shown(self._write_cycle), CYCLES)

    @property
    def dropped(self) -> int:
        """Records that were never written: lost to the disk, or pushed out of the queue."""
        return self.lost + self._rare.dropped + self._cycles.dropped

    def put(self, kind: str, fields: Mapping[str, Any], at_ms: int | None = None) -> None:
        """One rare record."""
        self._rare.put(_Rare(self._clock.wall_ms() if at_ms is None else at_ms, kind, fields))

    def act(self, ends: int, act: Mapping[str, Any]) -> None:
        """An operator's act as it was taken up; one that the journal has already is not written again."""
        self._rare.put(_Rare(self._clock.wall_ms(), "act", act, ends))

    def cycle(self, frames: Frames, sent: int) -> None:
        """One finished cycle, `sent` leases in it."""
        self._cycles.put(Cycle(self._clock.wall_ms(), frames, sent))

    def complaint(self) -> str:
        """What is wrong with the journal now, or nothing."""
        waiting = self._cycles.waiting
        if self.problem:
            return f"journal: {self.problem}; {self.dropped} records lost"
        return f"journal: the disk is slow, {waiting} cycles wait" if waiting > CYCLES // 10 else ""

    def close(self, within_s: float = 5.0) -> bool:
        """Write what waits and that it ends, for at most so long; whether all of it was."""
        whole = self._cycles.close(within_s)
        self.put("stop", {})
        if self.problem:
            self._closing.set()
        whole = self._rare.close(within_s) and whole
        self._closing.set()
        if self._lock.acquire(timeout=within_s):
            if self._journal is not None:
                self._journal.close()
            self._lock.release()
        return whole and not self.problem

    def _write_cycle(self, one: Cycle) -> None:
        packed, now = body.orders(self._plan, one.frames, one.sent, self._last)
        if self._append((one.at_ms, "orders", packed)):
            self._last = now
        else:
            self.lost += 1

    def _write_rare(self, one: _Rare) -> None:
        fields = dict(one.fields) | ({"ends": one.ends} if one.ends else {})
        packed = body.text(fields)
        mark = hashlib.sha256(packed).digest()
        while not (one.ends and self._has(mark)):
            known = not one.ends or self._written is not None
            if known and self._append((one.at_ms, one.kind, packed)):
                if self._written is not None:
                    self._written.add(mark)
                return
            if self._closing.wait(AGAIN_S):
                self.lost += 1
                return

    def _has(self, mark: bytes) -> bool:
        """Whether the journal has this act; as long as it cannot be read nobody knows, and nothing is written twice."""
        if self._written is None:
            self._written = self._tried(lambda x: {hashlib.sha256(act).digest() for act in x.bodies("act")})
        return self._written is not None and mark in self._written

    def _append(self, record: New) -> bool:
        records = [record]
        dropped = self.dropped
        if dropped > self._lost_said:
            lost = {"records": dropped - self._lost_said, "why": self.problem or "more than could be written"}
            records.insert(0, (record[0], "gap", body.text(lost)))
        if self._tried(lambda journal: journal.append(records)) is None:
            return False
        self._lost_said = dropped
        return True

    def _tried(self, work: Callable[[Journal], Any]) -> Any:
        """What `work` gives; None, the problem noted and the journal opened anew next time, where the disk refuses."""
        with self._lock:
            began_s = perf_s()
            try:
                self._journal = self._journal or Journal(self._state)
                found = work(self._journal)
            except (sqlite3.Error, OSError) as error:
                if not self.problem:
                    log.warning("the journal cannot be written: %s", error)
                self.problem = str(error)
                if self._journal is not None:
                    self._journal.close()
                    self._journal = None
                return None
            took_s = perf_s() - began_s
            self.problem = f"a write took {took_s:.1f} s" if took_s > SLOW_S else ""
            return found


@contextmanager
def _shown(show: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    yield show
