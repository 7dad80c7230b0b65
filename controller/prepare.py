"""The background work of the controller, in slices between cycles: what is kept ready for a loss, prices, verdicts.

Cooperative, without threads: `advance` gets the time that the next tick leaves and stops within it. Every piece of work
is a generator over one frozen cycle, so slicing changes when an answer is there, never what it is.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from controller import bottlenecks, problem
from controller.cycle import State
from controller.frames import Frames
from controller.plan import Plan
from drivers.clock import perf_s

T = TypeVar("T")

log = logging.getLogger(__name__)

SLICE_S = 0.005  # longest stretch in which no reader runs
TABLES_S = 10.0  # between two rounds of prices and verdicts
LAST = 50  # steps whose longest tells what the next may take ..
MOST_S = 0.5  # .. but no more than this, or it would never be tried again


@dataclass(frozen=True)
class Moment:
    """One cycle, frozen: its frames, and the stages' states as it left them."""

    frames: Frames
    state: State

    @property
    def cycle(self) -> int:
        """Its number."""
        return self.frames.image.cycle

    @property
    def at_s(self) -> float:
        """When it was [s]."""
        return self.frames.image.now_s


@dataclass(frozen=True)
class Tables:
    """Prices of one cycle."""

    cycle: int
    at_s: float
    bottlenecks: tuple[bottlenecks.Bottleneck, ...]


@dataclass(frozen=True)
class Prepared:
    """The latest complete results, None before the first."""

    tables: Tables | None = None


def tables_each(plan: Plan, at: Moment) -> Generator[None, None, Tables]:
    """Prices of the moment, step by step."""
    ranked = yield from bottlenecks.rank_each(plan, at.frames, at.state)
    return Tables(at.cycle, at.at_s, ranked)


def whole(steps: Generator[None, None, T]) -> T:
    """The result of a generator, at once: lock-step evaluates with it what the background would have had."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


@dataclass
class Task(Generic[T]):
    """One kind of background work, begun anew every `every_s` from the newest cycle."""

    begin: Callable[[Moment], Generator[None, None, T]]
    every_s: float
    steps: Generator[None, None, T] | None = None
    result: T | None = None
    due_s: float = field(default=float("-inf"))

    def step(self, newest: Moment) -> bool:
        """Do one step; False when nothing is due."""
        if self.steps is None:
            if newest.at_s < self.due_s:
                return False
            self.steps, self.due_s = self.begin(newest), newest.at_s + self.every_s
        try:
            next(self.steps)
        except StopIteration as end:
            self.result, self.steps = end.value, None
        except BaseException:
            self.steps = None  # the next round begins afresh; the last result ages visibly
            raise
        return True


class Prepare:
    """Runs the tasks in turn; `look` hands it each finished cycle (`newest`), `prepared` is the latest complete."""

    def __init__(self, plan: Plan, now_s: Callable[[], float] = perf_s) -> None:
        self._now_s = now_s
        self._structure = problem.compile_structure(plan)  # scratch of its own: the cycle's keeps what it learnt
        self.newest: Moment | None = None
        self._tables = Task(lambda at: tables_each(plan, at), TABLES_S)
        self._turn: deque[Task[Any]] = deque([self._tables])
        self._took_s: deque[float] = deque([0.0], maxlen=LAST)

    @property
    def prepared(self) -> Prepared:
        """What is ready."""
        return Prepared(self._tables.result)

    def look(self, frames: Frames, state: State) -> None:
        """Take a finished cycle for what begins next; what is under way stays with its own."""
        self.newest = Moment(frames, replace(state, allocate=replace(state.allocate, structure=self._structure)))

    def advance(self, left_s: float) -> bool:
        """Work for about SLICE_S [s]; whether anything was left to do.

        A step is begun only where the longest of the last ones fits: into `left_s` [s] the first, into the slice the
        others.
        """
        began_s = step_s = self._now_s()
        fits_s, worked = left_s, False
        while self.newest is not None and step_s + min(max(self._took_s), MOST_S) <= began_s + fits_s:
            try:
                if not self._step(self.newest):
                    break
            except Exception:
                log.exception("background work failed; it begins afresh in its next round")
            fits_s, worked = min(left_s, SLICE_S), True
            ended_s = self._now_s()
            self._took_s.append(ended_s - step_s)
            step_s = ended_s
        return worked

    def _step(self, newest: Moment) -> bool:
        """One step of the first task in turn that has one."""
        for _ in range(len(self._turn)):
            task = self._turn[0]
            self._turn.rotate(-1)
            if task.step(newest):
                return True
        return False
