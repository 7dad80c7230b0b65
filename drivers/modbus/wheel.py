"""One timer for thousands of deadlines: calls wait in slots of a tick, a single task turns the wheel."""

import logging
from collections.abc import Callable
from typing import Any

from drivers.clock import Clock

log = logging.getLogger(__name__)
CATCH_UP = 2  # ticks made up at once; a longer stall shifts everything, so that replies are read before they expire


class Wheel:
    """Calls at ticks. A call that raises is logged and harms no other."""

    def __init__(self, clock: Clock, tick_s: float) -> None:
        self.tick_s = tick_s
        self.tick = 0
        self.late_s = 0.0  # sum of stalls
        self._clock = clock
        self._zero_s = clock.now_s()  # time of tick 0
        self._slots: dict[int, list[tuple[Callable[[Any], None], Any]]] = {}

    def at(self, tick: int, call: Callable[[Any], None], argument: Any) -> None:
        """`call(argument)` at that tick, at the next one if it has passed."""
        if tick <= self.tick:
            tick = self.tick + 1
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = [(call, argument)]
        else:
            slot.append((call, argument))

    def after(self, delay_s: float, call: Callable[[Any], None], argument: Any) -> None:
        """`call(argument)` when `delay_s` [s] have passed, never earlier."""
        self.at(self.tick + 1 + int(delay_s / self.tick_s), call, argument)

    def tick_of(self, when_s: float) -> int:
        """The tick nearest to a monotonic time [s]."""
        return round((when_s - self._zero_s) / self.tick_s)

    async def run(self) -> None:
        """Turn for ever."""
        while True:
            await self._clock.sleep_until(self._zero_s + (self.tick + 1) * self.tick_s)
            due = int((self._clock.now_s() - self._zero_s) / self.tick_s)
            late = due - self.tick - CATCH_UP
            if late > 0:
                self._zero_s += late * self.tick_s
                self.late_s += late * self.tick_s
                due -= late
            while self.tick < due:
                self.tick += 1
                self._fire(self._slots.pop(self.tick, ()))

    @staticmethod
    def _fire(calls: list[tuple[Callable[[Any], None], Any]] | tuple[()]) -> None:
        for call, argument in calls:
            try:
                call(argument)
            except Exception:
                log.exception("a timed call failed")
