"""Writes the frame log beside the cycle, and starts the work on it in a process of its own every few minutes."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.history import frame_log
from controller.history.layout import Layout
from controller.history.paths import Paths
from drivers.clock import Clock
from drivers.points import Snapshot
from drivers.supervise import Outlet

WAITING = 30  # frames
FREE_SHARE = 0.02  # of the disk: below it nothing is written
LOOK_FRAMES = 60  # between two looks at the disk
SAID = 400  # characters of what the work says
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Frame:
    at_ms: int
    cycle: int
    shot: Snapshot


_LEFT: list[subprocess.Popen[bytes]] = []  # work that outlives its recorder: held, so that nobody takes it for lost


class Recorder:
    """The history of a running controller; `frame` never waits."""

    def __init__(self, state: Path, layout: Layout, clock: Clock) -> None:
        self._state, self._layout, self._clock = state, layout, clock
        self._paths = Paths.of(state)
        self._writer: frame_log.Writer | None = None
        self._work: subprocess.Popen[bytes] | None = None
        self._frames = 0
        self.lost = 0
        self.problem = self._stuck = ""  # with the frames; with the work on them
        self._outlet: Outlet[_Frame] = Outlet(self._opening, WAITING)

    @property
    def dropped(self) -> int:
        """Frames that were never written."""
        return self.lost + self._outlet.dropped

    def frame(self, cycle: int, shot: Snapshot) -> None:
        """One cycle's points."""
        self._outlet.put(_Frame(self._clock.wall_ms(), cycle, shot))

    def complaint(self) -> str:
        """What is wrong with the history now, or nothing."""
        if self.problem:
            return f"history: {self.problem}; {self.dropped} frames lost"
        if self._stuck:
            return f"history: frames are kept but cannot be worked on: {self._stuck}"
        waiting = self._outlet.waiting
        return f"history: the disk is slow, {waiting} frames wait" if waiting > WAITING // 2 else ""

    def close(self, within_s: float = 5.0) -> None:
        """Write what waits. Work that takes longer goes on by itself to its end; the next start goes on with it."""
        if self._outlet.close(within_s) and self._work is not None:
            try:
                self._work.wait(within_s)
            except subprocess.TimeoutExpired:
                _LEFT.append(self._work)

    @contextmanager
    def _opening(self) -> Iterator[Callable[[_Frame], None]]:
        try:
            yield self._write
        finally:
            if self._writer is not None:
                self._writer.finish()

    def _write(self, one: _Frame) -> None:
        try:
            if self._writer is None:
                self._writer = self._opened()
            if self._frames % LOOK_FRAMES == 0:
                self._look()
            self._frames += 1
            if self._writer.append(one.at_ms, one.cycle, one.shot.value, one.shot.quality):
                self._start_work()
        except OSError as error:
            self.lost += 1
            self._frames = 0  # look again first
            if not self.problem:
                log.warning("the history cannot be written: %s", error)
            self.problem = error.strerror or str(error)
        else:
            self.problem = ""

    def _opened(self) -> frame_log.Writer:
        self._paths.make()
        self._layout.save(self._paths.log)
        frame_log.adopt(self._paths.log)
        if any(self._paths.log.glob("*.done")):
            self._start_work()
        return frame_log.Writer(self._paths.log, self._layout)

    def _look(self) -> None:
        disk = shutil.disk_usage(self._paths.top)
        if disk.free < FREE_SHARE * disk.total:
            raise OSError(f"only {disk.free / 1e9:.1f} GB of the disk are free: frames are not written")

    def _start_work(self) -> None:
        """One at a time; what the last one said is logged."""
        if self._work is not None:
            if self._work.poll() is None:
                return
            said = self._paths.said.read_text(errors="replace")[-SAID:].strip()
            if said or self._work.returncode:
                log.warning("history: %s", said or f"the work ended with {self._work.returncode}")
            failed = self._work.returncode != 0
            self._stuck = (said.splitlines() or ["it was killed"])[-1] if failed else ""
        with self._paths.said.open("w") as said_there:
            self._work = subprocess.Popen(  # noqa: S603  (our own worker)
                [sys.executable, "-m", "controller.history", str(self._state), str(self._clock.wall_ms())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said_there,
            )  # fmt: skip
