"""`headroom run`: the tick, the watchdog, the start and the clean stop. asyncio lives here and in the wires."""

import asyncio
import gc
import logging
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from controller import answers, cycle, feed, jobs, picture, schedule, sheet
from controller.acts import AUDIT, Acts, next_epoch, requests_body, state_dir
from controller.alarms import Finding
from controller.ask import Ask
from controller.frames import Frames, JobTold, Mode, Requests
from controller.kernels import warm
from controller.plan import Plan, compile_plan
from controller.prepare import SLICE_S, Prepare
from controller.process import ServiceError, lock, notify, recording
from controller.records import Records
from controller.tap import Tap
from controller.told import Told
from controller.watch import Watch
from drivers.building import Building
from drivers.clock import Clock, perf_s
from drivers.site.model import Site
from drivers.wires import CapCommand

PERIOD_S = 1.0
LATE_S = 0.5  # a cycle that starts this late, or is skipped, is a late one
STEP_BUDGET_S = 0.5
REFUSED_S = 600.0  # how long an alarm names a refused act
LEAVE_S = 60.0  # longest ramp to the safe caps at a clean stop
SETS_OLD_S = 30.0  # older corrective sets are for another state of the site: a loss is solved when it is seen
LOOK_S = 0.25  # between two looks for losses
IDLE_S = 0.1  # between two looks for questions while nothing else is to do
Sink = Callable[[dict[str, Any]], None]


class Service:
    """The running controller of one site."""

    def __init__(
        self,
        site: Site,
        building: Building,
        clock: Clock,
        folder: Path,
        mode: Mode,
        sink: Sink,
        note: Callable[..., None] | None = None,
        *,
        records: bool = False,  # journal and history on the disk
    ) -> None:
        self._note = note  # what a recording needs to have the same cycles again
        self._plan: Plan = compile_plan(site, building.inventory)
        self._records = Records(self._plan, building.inventory, folder, clock, disk=records)
        self._built, self._told = self._plan, Told(folder, site)
        self._adopted: tuple[tuple[JobTold, ...], tuple[tuple[str, int], ...]] = ((), ())
        self._building, self._clock, self._sink = building, clock, sink
        self._acts = Acts(folder, site, mode, clock)
        self._state = cycle.begin(self._plan, next_epoch(folder, clock), clock.now_s())
        if note is not None:
            note("begin", t_s=self._state.ledger.start_s, epoch=self._state.ledger.epoch)
        self._shadow = mode == Mode.SHADOW
        self._leaving = self._leased = False  # `_leased`: racks may hold leases of ours above their safe caps
        self._late = self._failed = self._failures = self._refusals = 0
        self._refused_s = -np.inf
        self._jitter_s: deque[float] = deque(maxlen=600)
        self._prepare = Prepare(self._plan)
        self._watch, self._look_s, self._called = Watch(self._plan), -np.inf, False
        self._ask = Ask(folder, self._answer)
        self._layout, self._tap = picture.Layout(self._plan), Tap(folder, lambda: sheet.pack(self._plan))
        self.stop = asyncio.Event()

    async def run(self, leave_s: float = LEAVE_S) -> None:
        """Cycle until `stop` is set, then ramp to the safe caps for at most `leave_s` and be silent."""
        gc.collect()
        gc.freeze()
        self._records.start(self._state.ledger.epoch)
        await self._building.start()
        await self._ask.start()
        await self._tap.start()
        notify("READY=1")
        due_s = self._clock.now_s()
        leave_by_s = np.inf
        try:
            while self._clock.now_s() < leave_by_s:
                planned_s = due_s + PERIOD_S
                due_s = self._next_due(due_s)
                await self._wait(due_s)
                if self.stop.is_set() and not self._leaving:
                    self._leaving, leave_by_s = True, self._clock.now_s() + leave_s
                    if not self._leased:
                        break
                if self._tick(planned_s, due_s) and self._leaving:
                    break
        finally:
            notify("STOPPING=1")
            await self._ask.stop()
            await self._tap.stop()
            await self._building.stop()
            self._records.stop()

    async def _wait(self, due_s: float) -> None:
        """Until the next tick; the time is for questions and background work, by turns with the wires' readers."""
        served = False
        while (left_s := due_s - self._clock.now_s() - SLICE_S) > SLICE_S:
            self._look()
            served = not served and self._ask.serve(left_s)  # however many ask, the other work goes on
            busy = served or self._prepare.advance(left_s)
            await self._clock.sleep_until(min(due_s, self._clock.now_s() + (SLICE_S if busy else IDLE_S)))
        await self._clock.sleep_until(due_s)

    def _look(self) -> None:
        """Four times a second: what has just been lost gets a cycle of its own, a look later, when meters show it."""
        now_s = self._clock.now_s()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        if self._called:
            self._called = False
            self._tick(now_s, now_s)
            return
        try:
            self._called = self._watch.changed(*self._building.glance(self._watch.slots, now_s))
        except Exception:
            logging.exception("the look between cycles failed; the next cycle sees what it sees")

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question from the latest finished cycle."""
        at = self._prepare.newest
        if at is None:
            raise answers.AskError("no cycle has finished yet: ask again in some seconds")
        said, asked = self._acts.said, replace(self._acts.requests, jobs=self._adopted[0])
        world = answers.World(self._plan, at.frames, at.state, self._prepare.latest, said, asked=asked)
        return answers.answer(world, question)

    def _next_due(self, due_s: float) -> float:
        """The next tick on the grid; ticks that have passed are skipped and counted, never caught up."""
        missed = int((self._clock.now_s() - due_s) // PERIOD_S)
        self._late += max(missed, 0)
        return due_s + PERIOD_S * (1 + max(missed, 0))

    def _tick(self, planned_s: float, due_s: float) -> bool:
        """One cycle; True when no rack holds a lease above its safe cap. Only a good one feeds the watchdog."""
        began_s, began = self._clock.now_s(), perf_s()
        self._jitter_s.append(began_s - planned_s)
        self._late += began_s - due_s > LATE_S
        said: list[Finding] = []
        requests = self._requests(began_s, said)
        if self._note is not None:
            self._note("cycle", t_s=began_s, **requests_body(requests))
        try:
            self._adopt(requests)
            shot = self._building.snapshot(began_s)
            sets = self._prepare.latest.sets
            ready = sets.of_loss if sets and began_s - sets.at_s < SETS_OLD_S else cycle.NOTHING
            frames, commands = cycle.step(self._plan, shot, requests, self._state, ready)
            self._watch.changed(shot.value[self._watch.slots], shot.quality[self._watch.slots])
            self._building.forbid("" if frames.orders.mode == Mode.LIVE else f"mode is {frames.orders.mode.name}")
            self._building.send(commands)
            for setpoint, why in frames.orders.refused:
                self._building.refuse(setpoint, why)
        except Exception:
            # the watchdog is not fed: leases in force hold, then fall to the safe caps
            self._failed += 1
            self._building.forbid("the last cycle failed")
            for setpoint in requests.setpoints:  # asked once: the record says that nothing came of it
                self._building.refuse(setpoint, "the cycle failed: ask again")
            logging.exception("cycle failed (%d so far)", self._failed)
            return False
        self._prepare.look(frames, self._state)
        took_s = perf_s() - began
        if took_s < STEP_BUDGET_S:
            notify("WATCHDOG=1")
        left = self._left(frames)
        caps = [c.lease.cap_w for c in commands if isinstance(c, CapCommand)]
        sent = sum(map(len, caps))
        self._leased = (self._leased or bool(caps)) and not (requests.mode == Mode.OFF and left)
        self._records.write(self._acts.take(), frames, shot, sent)
        self._show(frames, self._timing(took_s, sent), said)
        return left

    def _requests(self, now_s: float, said: list[Finding]) -> Requests:
        """What operators ask for now, and in `said` what is wrong with it; the last good word holds meanwhile."""
        try:
            requests = self._acts.poll()
        except Exception as error:
            requests = self._acts.requests
            said.append(Finding("acts_refused", f"acts cannot be read, the last ones hold: {error}"))
        if self._acts.refusals > self._refusals:
            self._refusals, self._refused_s = self._acts.refusals, now_s
        if now_s - self._refused_s < REFUSED_S:
            text = f"{self._refusals} acts refused, the last: {self._acts.refused[-1]}"
            said.append(Finding("acts_refused", text))
        if self._failed > self._failures:
            self._failures = self._failed
            said.append(Finding("cycle_failed", f"{self._failed} cycles failed since the start, see the log"))
        requests = schedule.due(self._plan.site, requests, self._clock.wall_ms())
        return replace(requests, mode=self._mode(requests.mode), jobs=self._told.poll())

    def _adopt(self, requests: Requests) -> None:
        """Other jobs or priorities than before are another plan; the stages go on by it."""
        if (requests.jobs, requests.priority) == self._adopted:
            return
        self._adopted = requests.jobs, requests.priority
        self._plan = jobs.with_jobs(self._built, requests.jobs, dict(requests.priority))
        jobs.adopt(self._plan, self._state)
        self._prepare.adopt(self._plan)
        self._records.adopt(self._plan)
        self._tap.renew()

    def _mode(self, asked: Mode) -> Mode:
        """Started as shadow, nothing else; leases that are held are given back before anything falls silent."""
        if self._shadow:
            return Mode.SHADOW
        if self._leaving or (asked == Mode.SHADOW and self._leased):
            return Mode.OFF
        return asked

    def _show(self, frames: Frames, timing: dict[str, float], said: list[Finding]) -> None:
        """Tell the sink; whatever goes wrong here costs the picture of this cycle, never control."""
        try:
            links, latest = self._building.health(), self._prepare.latest
            said = [*said, *(Finding(code, text) for code, text in self._building.alarms())]
            outranked = int(self._state.ledger.outranked.sum())
            told = self._records.told(frames, links, outranked, feed.lapsed(latest), said)
            timing["wall_ms"] = self._clock.wall_ms()
            text = [x.text for x in said]
            frame = feed.frame(self._plan, frames, links, timing, outranked, text, latest, told)
            self._sink(frame)
            self._tap.put(lambda: picture.pack(self._plan, self._layout, frames, frame))
        except Exception:
            logging.exception("the cycle was good, it could not be shown")

    def _left(self, frames: Frames) -> bool:
        """No rack holds a lease of ours above its safe cap.

        It confirms a cap at or below it and none above is under way, or it obeys another controller, or it has been
        silent until every lease was over.
        """
        ledger = self._state.ledger
        over_s = 2.0 * ledger.ttl_s + ledger.decay_s
        lapsed = frames.image.age_s[self._plan.agent_slot["cap_w"]] > over_s
        may_hold_w = np.fmax(frames.estimate.cap_found_w, ledger.sent_w(frames.image.now_s))
        at_safe = np.nan_to_num(may_hold_w) <= frames.orders.safe_cap_w + 1.0
        return bool((at_safe | lapsed | ledger.outranked).all())

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


def run(
    site: Site,
    clock: Clock,
    mode: Mode,
    sink: Sink,
    folder: Path | None = None,
    leave_s: float = LEAVE_S,
    capture: Path | None = None,
) -> None:
    """Run the controller of `site` until SIGINT or SIGTERM; a second signal stops at once.

    `capture` records everything heard and sent, in a file of that or the next free name.

    Raises ServiceError when another controller runs here or the kernels fail their self-test.
    """
    try:
        where = state_dir(site, folder)
        held = lock(where)
    except OSError as error:
        raise ServiceError(f"state directory {error.filename}: {error.strerror}; give another with --state") from error
    report = warm.warm(objective=site.control.objective)
    if not report.ok and mode == Mode.LIVE:
        raise ServiceError(f"the allocation kernel is not fit: {report.problem}; LIVE refused (`--shadow` still runs)")

    recorder = recording(capture, site, clock) if capture else None

    async def main() -> None:
        note = recorder.note if recorder else None
        building = Building(site, clock, recorder, where / AUDIT)
        service = Service(site, building, clock, where, mode, sink, note, records=True)
        if recorder:
            recorder.start()
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
        finally:
            if recorder:
                await recorder.stop()

    with held, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop
