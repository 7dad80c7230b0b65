"""A controller's outlets without its wires: tap and questions on a state directory, from cycles of a real plant."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import uvicorn
from helpers_programs import free_port

from controller import answers, feed, picture, sheet
from controller.acts import Acts
from controller.ask import Ask
from controller.console.desk import Desk
from controller.console.serve import Where, config
from controller.cycle import State
from controller.frames import Frames
from controller.plan import Plan
from controller.prepare import Latest, Moment, tables_each
from controller.steps import whole
from controller.tap import Tap
from drivers.clock import RealClock
from drivers.site.load import resolve_site
from drivers.site.model import Site

TICK_S = 0.05
TIMING = {"step_ms": 8.0, "jitter_ms": 0.2, "jitter_ms_p99": 0.4, "late_cycles": 0, "failed_cycles": 0}


@dataclass(frozen=True)
class Cycles:
    """Some seconds of a site, solved once for all tests."""

    site: Site
    plan: Plan
    frames: tuple[Frames, ...]
    state: State
    latest: Latest


@cache
def hall(seconds: int = 12) -> Cycles:
    """The site `hall` with every job at nameplate, so that caps bind."""
    from sim.lab.lockstep import LockStep
    from sim.scenarios import load_scenario

    site = resolve_site("hall")
    lock = LockStep(site, load_scenario("nameplate"), seed=1)
    frames = tuple(lock.cycle()[0] for _ in range(seconds))
    tables = whole(tables_each(lock.plan, lock.state.allocate.kit, Moment(frames[-1], lock.state)))
    return Cycles(site, lock.plan, frames, lock.state, Latest(None, tables))


class Served:
    """A console that really listens, in a thread, as long as the `with` lasts."""

    def __init__(self, at: Desk) -> None:
        self.desk, self.where = at, Where(port=free_port())
        self._server = uvicorn.Server(config(at, self.where))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        """Its address, without the last slash."""
        return self.where.url.rstrip("/")

    def __enter__(self) -> Self:
        self._thread.start()
        clock = RealClock()
        until_s = clock.now_s() + 20.0
        while not (self._server.started and self.desk.link.head):
            assert self._thread.is_alive()
            assert clock.now_s() < until_s
            self._thread.join(0.02)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(10.0)


class Stand:
    """Runs tap and questions in a thread of its own, a cycle every TICK_S, as long as the `with` lasts."""

    def __init__(self, folder: Path, cycles: Cycles | None = None) -> None:
        self.folder, self.cycles = folder, cycles or hall()
        self.acts = Acts(folder, self.cycles.site)
        self.alarm_list: list[dict[str, Any]] | None = None
        self._layout = picture.Layout(self.cycles.plan)
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20.0)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10.0)

    def head(self, number: int) -> dict[str, Any]:
        """The frame of one cycle, as the feed makes it."""
        c = self.cycles
        frames = c.frames[number % len(c.frames)]
        head = feed.frame(c.plan, frames, [], TIMING, latest=c.latest) | {"wall_ms": RealClock().wall_ms()}
        head["cycle"] = number
        return head if self.alarm_list is None else head | {"alarm_list": self.alarm_list}

    async def _run(self) -> None:
        c, clock = self.cycles, RealClock()
        tap, ask = Tap(self.folder, lambda: sheet.pack(c.plan)), Ask(self.folder, self._answer)
        await tap.start()
        await ask.start()
        self._ready.set()
        number = 0
        while not self._stop.is_set():
            frames = c.frames[number % len(c.frames)]
            made = picture.pack(c.plan, self._layout, frames, self.head(number))
            tap.put(partial(bytes, made))
            ask.serve(1.0)
            number += 1
            await clock.sleep_until(clock.now_s() + TICK_S)
        await ask.stop()
        await tap.stop()

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        c = self.cycles
        return answers.answer(
            answers.World(c.plan, c.frames[-1], c.state, c.latest, self.acts.said, asked=self.acts.poll()), question
        )
