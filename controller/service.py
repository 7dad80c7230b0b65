"""`headroom run`: the tick, the watchdog, the start and the clean stop. asyncio lives here and in the wires."""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from controller import cycle, feed
from controller.acts import Acts, next_epoch, state_dir
from controller.frames import Frames, Mode
from controller.kernels import warm
from controller.plan import Plan, compile_plan
from drivers.building import Building
from drivers.clock import Clock, perf_s
from drivers.site.model import Site

PERIOD_S = 1.0
LATE_S = 0.5  # a cycle that starts this late, or is skipped, is a late one
STEP_BUDGET_S = 0.5
LEAVE_S = 60.0  # longest ramp to the safe caps at a clean stop
Sink = Callable[[dict[str, Any]], None]


class ServiceError(RuntimeError):
    """The controller cannot start; the message says why and what to do."""


def notify(message: str) -> None:
    """Tell systemd (sd_notify protocol); nothing where it does not listen."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(message.encode())


def lock(folder: Path) -> IO[str]:
    """The one controller of a site on this machine; ServiceError names the other's process."""
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        pid = file.read().strip() or "?"
        file.close()
        raise ServiceError(f"a controller already runs for this site (process {pid}, {folder})") from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


class Service:
    """The running controller of one site."""

    def __init__(self, site: Site, building: Building, clock: Clock, folder: Path, mode: Mode, sink: Sink) -> None:
        self._plan: Plan = compile_plan(site, building.inventory)
        self._building, self._clock, self._sink = building, clock, sink
        self._acts = Acts(folder, site, mode)
        self._state = cycle.begin(self._plan, next_epoch(folder, clock), clock.now_s())
        self._shadow = mode == Mode.SHADOW
        self._leaving = False
        self._late = self._failed = 0
        self._jitter_s: deque[float] = deque(maxlen=600)
        self.stop = asyncio.Event()

    async def run(self, leave_s: float = LEAVE_S) -> None:
        """Cycle until `stop` is set, then ramp to the safe caps for at most `leave_s` and be silent."""
        gc.collect()
        gc.freeze()
        await self._building.start()
        notify("READY=1")
        due_s = self._clock.now_s()
        leave_by_s = np.inf
        try:
            while self._clock.now_s() < leave_by_s:
                due_s = self._next_due(due_s)
                await self._clock.sleep_until(due_s)
                if self.stop.is_set() and not self._leaving:
                    self._leaving, leave_by_s = True, self._clock.now_s() + (0.0 if self._shadow else leave_s)
                if self._tick(due_s) and self._leaving:
                    break
        finally:
            notify("STOPPING=1")
            await self._building.stop()

    def _next_due(self, due_s: float) -> float:
        """The next tick on the grid; ticks that have passed are skipped and counted, never caught up."""
        missed = int((self._clock.now_s() - due_s) // PERIOD_S)
        self._late += max(missed, 0)
        return due_s + PERIOD_S * (1 + max(missed, 0))

    def _tick(self, due_s: float) -> bool:
        """One cycle; True when leaving is finished. The watchdog is fed only after a good one."""
        began_s, began = self._clock.now_s(), perf_s()
        self._jitter_s.append(began_s - due_s)
        self._late += began_s - due_s > LATE_S
        requests = self._acts.poll()
        if self._leaving:
            requests = replace(requests, mode=Mode.OFF)
        elif self._shadow:
            requests = replace(requests, mode=Mode.SHADOW)
        try:
            frames, commands = cycle.step(self._plan, self._building.snapshot(began_s), requests, self._state)
        except Exception:
            # nothing goes out and the watchdog is not fed: leases in force hold, then fall to the safe caps
            self._failed += 1
            logging.exception("cycle failed (%d so far); nothing was written", self._failed)
            return False
        self._building.send(commands)
        took_s = perf_s() - began
        if took_s < STEP_BUDGET_S:
            notify("WATCHDOG=1")
        caps = sum(len(c.lease.cap_w) for c in commands)
        links = self._building.health()
        self._sink(feed.frame(self._plan, frames, links, self._timing(took_s, caps)))
        return self._left(frames)

    def _left(self, frames: Frames) -> bool:
        """Every agent confirms a cap at or below its safe cap."""
        found = frames.estimate.cap_found_w
        return bool((np.nan_to_num(found) <= frames.orders.safe_cap_w + 1.0).all())

    def _timing(self, took_s: float, caps: int) -> dict[str, float]:
        jitter_ms = 1000.0 * np.abs(np.array(self._jitter_s))
        return {
            "step_ms": 1000.0 * took_s,
            "jitter_ms": float(jitter_ms[-1]),
            "jitter_ms_p99": float(np.percentile(jitter_ms, 99)),
            "late_cycles": self._late,
            "failed_cycles": self._failed,
            "caps_written": caps,
        }


def run(site: Site, clock: Clock, mode: Mode, sink: Sink, folder: Path | None = None, leave_s: float = LEAVE_S) -> None:
    """Run the controller of `site` until SIGINT or SIGTERM; a second signal stops at once.

    Raises ServiceError when another controller runs here or the kernels fail their self-test.
    """
    where = state_dir(site, folder)
    held = lock(where)
    report = warm.warm()
    if not report.ok and mode == Mode.LIVE:
        raise ServiceError(f"the allocation kernel is not fit: {report.problem}; LIVE refused (`--shadow` still runs)")

    async def main() -> None:
        service = Service(site, Building(site, clock), clock, where, mode, sink)
        task = asyncio.ensure_future(service.run(leave_s))
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if service.stop.is_set():
                task.cancel()
            service.stop.set()

        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, on_signal)
        try:
            await task
        except asyncio.CancelledError:
            if not service.stop.is_set():
                raise

    with held, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop
