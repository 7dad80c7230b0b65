"""One timer for thousands of deadlines: calls wait in slots of a tick, a single task turns the wheel."""

import logging
from collections.abc import Callable
from typing import Any

from drivers.clock import Clock

log = logging.getLogger(__name__)
LATE_TICKS = 2  # after a longer stall what lies in the sockets is read first: it came in time
CATCH_UP_S = 1.0  # made up at once; the rest of a stall shifts everything


class Wheel:
    """Calls at ticks. A call that raises is logged and harms no other."""

    def __init__(self, clock: Clock, tick_s: float) -> None:
        self.tick_s = tick_s
        self.tick = 0
        self.lost_s = 0.0  # by long stalls
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

    def clear(self) -> None:
        """Forget all calls."""
        self._slots.clear()

    def after(self, delay_s: float, call: Callable[[Any], None], argument: Any) -> None:
        """`call(argument)` when `delay_s` [s] have passed, never earlier."""
        self.at(self.tick_of(self._clock.now_s() + delay_s) + 1, call, argument)

    def tick_of(self, when_s: float) -> int:
        """The tick nearest to a monotonic time [s]."""
        return round((when_s - self._zero_s) / self.tick_s)

    async def run(self) -> None:
        """Turn for ever."""
        while True:
            await self._clock.sleep_until(self._zero_s + (self.tick + 1) * self.tick_s)
            due = int((self._clock.now_s() - self._zero_s) / self.tick_s + 1e-6)  # rounding must not hold a tick back
            if due - self.tick > LATE_TICKS:
                for _ in range(3):  # one turn of the loop to find the sockets, one to read them, one to spare
                    await self._clock.sleep_until(0.0)
            lost = due - self.tick - int(CATCH_UP_S / self.tick_s)
            if lost > 0:
                self._zero_s += lost * self.tick_s
                self.lost_s += lost * self.tick_s
                due -= lost
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
