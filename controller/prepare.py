"""The background work of the controller, in slices between cycles: what is kept ready for a loss, prices, verdicts.

Cooperative, without threads: `advance` gets the time that the next tick leaves and stops within it. Every piece of work
is a generator over one frozen cycle, so slicing changes when an answer is there, never what it is.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from controller import bottlenecks, corrective, problem
from controller.corrective import Kit, compile_kit
from controller.cycle import State
from controller.frames import Frames
from controller.plan import Plan
from controller.verdict import Verdict, contingencies_each
from drivers.clock import perf_s

T = TypeVar("T")

log = logging.getLogger(__name__)

SLICE_S = 0.005  # longest stretch in which no reader runs
SETS_S = 2.0  # between the beginnings of two rounds of corrective sets
TABLES_S = 10.0  # the same of prices and verdicts
FIRST_S, MOST_S = 0.1, 0.5  # what a step is thought to take at first, and at most


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
    """Prices and verdicts of one cycle."""

    cycle: int
    at_s: float
    bottlenecks: tuple[bottlenecks.Bottleneck, ...]
    verdicts: tuple[Verdict, ...]  # not secured first, then by margin
    secured: frozenset[str]  # losses that have been secured in this or an earlier round

    @property
    def not_secured(self) -> tuple[Verdict, ...]:
        """Losses that are not."""
        return tuple(v for v in self.verdicts if not v.secured)

    @property
    def lapsed(self) -> tuple[str, ...]:
        """Losses that were secured once and are not now."""
        return tuple(v.id for v in self.not_secured if v.id in self.secured)


@dataclass(frozen=True)
class Sets:
    """The corrective sets of every loss, from the caps of one cycle."""

    cycle: int
    at_s: float
    of_loss: corrective.Prepared


@dataclass(frozen=True)
class Latest:
    """The latest complete results, None before the first."""

    sets: Sets | None = None
    tables: Tables | None = None


def sets_each(kit: Kit, at: Moment) -> Generator[None, None, Sets]:
    """The corrective sets of the moment, a loss a step."""
    frames = at.frames
    orders = frames.orders
    solved = yield from corrective.solve_each(kit, frames.estimate, frames.limits, orders.cap_w, orders.shed)
    return Sets(at.cycle, at.at_s, solved)


def tables_each(
    plan: Plan, kit: Kit, at: Moment, before: frozenset[str] = frozenset()
) -> Generator[None, None, Tables]:
    """Prices and verdicts of the moment, step by step; `before` are losses that were secured earlier."""
    frames = at.frames
    orders = frames.orders
    ranked = yield from bottlenecks.rank_each(plan, frames, at.state)
    verdicts = yield from contingencies_each(kit, frames.estimate, frames.limits, orders.cap_w, orders.shed)
    now = {v.id for v in verdicts if v.secured} if frames.estimate.covered else set()
    return Tables(at.cycle, at.at_s, ranked, tuple(verdicts), before | now)


@dataclass
class Task(Generic[T]):
    """One kind of background work, begun anew every `every_s` from the newest cycle."""

    begin: Callable[[Moment], Generator[None, None, T]]
    every_s: float
    result: T | None = None
    steps: Generator[None, None, T] | None = None
    due_s: float = float("-inf")
    longest_s: float = FIRST_S  # step of the last round: each round takes its steps alike
    so_far_s: float = 0.0  # of this round

    def takes_s(self) -> float:
        """What the next step is thought to take at most; bounded, or it might never be tried again."""
        return min(max(self.longest_s, self.so_far_s), MOST_S)

    def ready(self, newest: Moment) -> bool:
        """Whether there is a step to do."""
        return self.steps is not None or newest.at_s >= self.due_s

    def step(self, newest: Moment, now_s: Callable[[], float]) -> None:
        """Do one step. A failed round is given up; the last result stays, and ages visibly."""
        began_s = now_s()
        if self.steps is None:
            self.steps, self.due_s, self.so_far_s = self.begin(newest), newest.at_s + self.every_s, 0.0
        try:
            next(self.steps)
        except StopIteration as end:
            self.result, self.steps = end.value, None
        except Exception:
            self.steps = None
            log.exception("background work failed; it begins afresh in its next round")
        self.so_far_s = max(self.so_far_s, now_s() - began_s)
        if self.steps is None:
            self.longest_s = self.so_far_s


class Prepare:
    """Runs the tasks by turns; `look` hands it each finished cycle (`newest`), `latest` is what is complete."""

    def __init__(self, plan: Plan, now_s: Callable[[], float] = perf_s) -> None:
        self._now_s = now_s
        self.newest: Moment | None = None
        self._sets = Task(lambda at: sets_each(self._kit, at), SETS_S)
        self._tables = Task(lambda at: tables_each(self._plan, self._kit, at, self._secured()), TABLES_S)
        self._turn: deque[Task[Any]] = deque([self._sets, self._tables])
        self.adopt(plan)

    def adopt(self, plan: Plan) -> None:
        """Go on by this plan, from its first cycle; what is complete stays, and ages."""
        self._plan, self._kit = plan, compile_kit(plan)
        self._structure = problem.compile_structure(plan)  # scratch of its own: the cycle's keeps what it learnt
        self.newest = None
        for task in self._turn:
            task.steps = None

    @property
    def latest(self) -> Latest:
        """What is ready."""
        return Latest(self._sets.result, self._tables.result)

    def _secured(self) -> frozenset[str]:
        """Losses that have been secured so far."""
        return self._tables.result.secured if self._tables.result else frozenset()

    def look(self, frames: Frames, state: State) -> None:
        """Take a finished cycle for what begins next; what is under way stays with its own."""
        self.newest = Moment(frames, replace(state, allocate=replace(state.allocate, structure=self._structure)))

    def advance(self, left_s: float) -> bool:
        """Work for about SLICE_S [s]; whether anything was done.

        A step is begun only where the longest of its kind fits: into `left_s` [s] the first, into the slice the others.
        """
        began_s, end_s, worked = self._now_s(), left_s, False
        while self.newest is not None:
            room_s = end_s - (self._now_s() - began_s)
            task = next((t for t in self._turn if t.ready(self.newest) and t.takes_s() <= room_s), None)
            if task is None:
                break
            self._turn.remove(task)
            self._turn.append(task)
            task.step(self.newest, self._now_s)
            worked, end_s = True, min(left_s, SLICE_S)
        return worked
