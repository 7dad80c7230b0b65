"""One timer for thousands of deadlines: calls wait in slots of a tick, a single task turns the wheel."""

import logging
from collections.abc import Callable
from typing import Any

from drivers.clock import Clock

log = logging.getLogger(__name__)
LATE_TICKS = 2  # after a longer stall what lies in the sockets is read first: it came in time
SLACK_S = 1e-3  # timers of event loops count milliseconds: one that wakes early would wake again and again
CATCH_UP_S = 1.0  # made up at once; the rest of a stall shifts everything


class Wheel:
    """Calls at ticks, once or every so many. A call that raises is logged and harms no other."""

    def __init__(self, clock: Clock, tick_s: float) -> None:
        self.tick_s = tick_s
        self.tick = 0
        self.due = 0  # the tick by the clock: after a stall `tick` runs up to it
        self.lost_s = 0.0  # by long stalls
        self._clock = clock
        self._zero_s = clock.now_s()  # time of tick 0
        self._slots: dict[int, list[tuple[Callable[[Any], None], Any]]] = {}
        self._rounds: dict[int, list[list[Callable[[], None]]]] = {}  # ticks of a period -> calls at each of them

    def at(self, tick: int, call: Callable[[Any], None], argument: Any) -> None:
        """`call(argument)` at that tick, at the next one if it has passed."""
        if tick <= self.tick:
            tick = self.tick + 1
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = [(call, argument)]
        else:
            slot.append((call, argument))

    def every(self, ticks: int, phase: int, call: Callable[[], None]) -> None:
        """`call()` at each tick that leaves `phase` when divided by `ticks`, until `clear`."""
        self._rounds.setdefault(ticks, [[] for _ in range(ticks)])[phase % ticks].append(call)

    def clear(self) -> None:
        """Forget all calls."""
        self._slots.clear()
        self._rounds.clear()

    def after(self, delay_s: float, call: Callable[[Any], None], argument: Any) -> None:
        """`call(argument)` when `delay_s` [s] have passed, never earlier."""
        self.at(self.tick_of(self._clock.now_s() + delay_s) + 1, call, argument)

    def tick_of(self, when_s: float) -> int:
        """The tick nearest to a monotonic time [s]."""
        return round((when_s - self._zero_s) / self.tick_s)

    def time_of(self, tick: int) -> float:
        """Monotonic time [s] of a tick."""
        return self._zero_s + tick * self.tick_s

    async def run(self) -> None:
        """Turn for ever."""
        after_s = min(SLACK_S, self.tick_s / 4)
        while True:
            await self._clock.sleep_until(self._zero_s + (self.tick + 1) * self.tick_s + after_s)
            due = self._due()
            if due - self.tick > LATE_TICKS:
                for _ in range(3):  # one turn of the loop to find the sockets, one to read them, one to spare
                    await self._clock.sleep_until(0.0)
                due = self._due()
            lost = due - self.tick - int(CATCH_UP_S / self.tick_s)
            if lost > 0:
                self._zero_s += lost * self.tick_s
                self.lost_s += lost * self.tick_s
                due -= lost
            self.due = due
            while self.tick < due:
                self.tick += 1
                self._fire(self._slots.pop(self.tick, ()))
                for ticks, slots in self._rounds.items():
                    self._turn(slots[self.tick % ticks])

    def _due(self) -> int:
        return int((self._clock.now_s() - self._zero_s) / self.tick_s + 1e-6)  # rounding must not hold a tick back

    @staticmethod
    def _fire(calls: list[tuple[Callable[[Any], None], Any]] | tuple[()]) -> None:
        for call, argument in calls:
            try:
                call(argument)
            except Exception:
                log.exception("a timed call failed")

    @staticmethod
    def _turn(calls: list[Callable[[], None]]) -> None:
        for call in calls:
            try:
                call()
            except Exception:
                log.exception("a timed call failed")
