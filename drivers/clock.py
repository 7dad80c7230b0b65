"""The only caller of time and sleep: real for a building, virtual for lock-step runs.

Control uses monotonic seconds only, so a jump of the wall clock moves no timer and no integral.
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, wall milliseconds for messages, and waiting."""

    def now_s(self) -> float:
        """Monotonic time [s]."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, for time stamps in messages only."""
        ...

    async def sleep_until(self, when_s: float) -> None:
        """Return at `when_s` [s, monotonic], at once if it has passed."""
        ...


class RealClock:
    """The machine's clock."""

    def now_s(self) -> float:
        """Monotonic time [s]."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    async def sleep_until(self, when_s: float) -> None:
        """Return at `when_s` [s, monotonic], at once if it has passed."""
        await asyncio.sleep(max(0.0, when_s - time.monotonic()))


class VirtualClock:
    """A clock that moves only when told: hours in seconds, bit-for-bit repeatable."""

    def __init__(self, start_s: float = 1000.0, wall_start_ms: int = 1_767_225_600_000) -> None:
        self._now_s = start_s
        self._wall_offset_ms = wall_start_ms - round(start_s * 1000)

    def now_s(self) -> float:
        """Virtual time [s]."""
        return self._now_s

    def wall_ms(self) -> int:
        """Virtual milliseconds since the Unix epoch."""
        return self._wall_offset_ms + round(self._now_s * 1000)

    def advance(self, step_s: float) -> float:
        """Move time forward by `step_s` [s] and return the new time; ValueError when negative."""
        if step_s < 0.0:
            raise ValueError(f"time cannot go back by {-step_s} s")
        self._now_s += step_s
        return self._now_s

    def move_to(self, when_s: float) -> None:
        """Move time to exactly `when_s` [s], unless that has passed."""
        self._now_s = max(self._now_s, when_s)

    def jump_wall(self, by_s: float) -> None:
        """Set the wall clock forward or back; monotonic time goes on."""
        self._wall_offset_ms += round(by_s * 1000)

    async def sleep_until(self, when_s: float) -> None:
        """Move time to `when_s` [s] and let other tasks run once."""
        self._now_s = max(self._now_s, when_s)
        await asyncio.sleep(0)


def perf_s() -> float:
    """Finest monotonic time [s], for measuring durations."""
    return time.perf_counter()


def thread_s() -> float:
    """Time that this thread has had a core [s], for measuring what work costs."""
    return time.thread_time()
