"""Tasks that outlive their errors, restarted with back-off, and outlets that no slow reader can hold up."""

import asyncio
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Generic, TextIO, TypeVar

from drivers.clock import Clock

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backoff:
    """Waiting times that double from `first_s` to `longest_s`, each shortened by up to `jitter` (0..1) of itself."""

    first_s: float = 0.5
    longest_s: float = 30.0
    jitter: float = 0.3

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 or more)."""
        longest = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return longest * (1.0 - self.jitter * random.random())  # noqa: S311  (spreads load, keeps no secret)


@dataclass
class Watched:
    """What is known of one supervised task."""

    name: str
    started: int = 0
    failures: int = 0  # in a row
    last_success_s: float = float("-inf")  # monotonic; set by `beat`
    last_error: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Runs coroutines until stopped; one that ends or raises is logged and started again after a back-off."""

    def __init__(self, clock: Clock, backoff: Backoff | None = None) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._watched: dict[str, Watched] = {}
        self._stopping = False

    @property
    def tasks(self) -> tuple[Watched, ...]:
        """All supervised tasks."""
        return tuple(self._watched.values())

    def spawn(self, name: str, work: Callable[[], Awaitable[None]]) -> Watched:
        """Start `work()` under supervision; ValueError when the name is taken."""
        if name in self._watched:
            raise ValueError(f"a task named {name} is supervised already")
        watched = Watched(name)
        watched.task = asyncio.get_running_loop().create_task(self._run(watched, work), name=name)
        self._watched[name] = watched
        return watched

    def beat(self, name: str) -> None:
        """Note a success of the task now; its next failure starts again at the shortest back-off."""
        watched = self._watched[name]
        watched.last_success_s = self._clock.now_s()
        watched.failures = 0

    async def stop(self) -> None:
        """Cancel all tasks and wait until they are gone."""
        self._stopping = True
        tasks = [w.task for w in self._watched.values() if w.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watched.clear()
        self._stopping = False

    async def _run(self, watched: Watched, work: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping:
            watched.started += 1
            try:
                await work()
                watched.last_error = "ended"
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._stopping or (task is not None and task.cancelling()):
                    raise
                watched.last_error = "cancelled from inside"
            except Exception as error:
                watched.last_error = f"{type(error).__name__}: {error}"
                log.exception("%s failed, starting it again", watched.name)
            watched.failures += 1
            await self._clock.sleep_until(self._clock.now_s() + self._backoff.wait_s(watched.failures))


class Outlet(Generic[T]):
    """A daemon thread that shows things to a reader who may be slow, paused or gone: `put` never waits.

    At most `depth` things wait; the oldest is dropped, counted in `dropped`, and `lost` hears of it inside `put`.
    `opening` gives the context in which the thread works, and in it the function that shows one thing; an OSError of
    either is the reader's loss alone.
    """

    def __init__(
        self,
        opening: Callable[[], AbstractContextManager[Callable[[T], object]]],
        depth: int = 2,
        lost: Callable[[T], object] = lambda _: None,
    ) -> None:
        self._opening, self._lost = opening, lost
        self._waiting: deque[T] = deque(maxlen=depth)
        self._change = threading.Condition()
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, thing: T) -> None:
        """Hand over one thing to show."""
        with self._change:
            if len(self._waiting) == self._waiting.maxlen:
                self.dropped += 1
                self._lost(self._waiting.popleft())
            self._waiting.append(thing)
            self._change.notify()

    @property
    def waiting(self) -> int:
        """How many things wait."""
        return len(self._waiting)

    def close(self, within_s: float = 1.0) -> bool:
        """Show what still waits, for at most `within_s` [s]; whether all of it was shown or given up."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        with suppress(OSError), self._opening() as show:
            while (thing := self._next()) is not None:
                try:
                    show(thing)
                except OSError:
                    continue
                except Exception:
                    log.exception("one thing could not be shown")

    def _next(self) -> T | None:
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None


def own_text(stream: TextIO) -> TextIO:
    """A file of its own on what `stream` writes to: a thread stuck in it holds no lock that the exit needs."""
    return open(os.dup(stream.fileno()), "w", encoding="utf-8", errors="replace")


class OutletHandler(logging.Handler):
    """Log lines through an outlet."""

    def __init__(self, outlet: Outlet[str]) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one line."""
        self._outlet.put(self.format(record))
