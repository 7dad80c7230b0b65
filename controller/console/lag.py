"""How late the console's event loop is: what every browser waits for."""

from collections import deque

import numpy as np

from drivers.clock import Clock

EVERY_S = 0.1
KEPT = 600  # a minute


class Lag:
    """Samples how much later than asked a sleep returns."""

    def __init__(self) -> None:
        self._late_s: deque[float] = deque(maxlen=KEPT)

    async def run(self, clock: Clock) -> None:
        """Sample for ever."""
        while True:
            due_s = clock.now_s() + EVERY_S
            await clock.sleep_until(due_s)
            self._late_s.append(clock.now_s() - due_s)

    @property
    def p99_s(self) -> float:
        """99th percentile of the past minute [s]; 0 before the first sample."""
        return float(np.percentile(self._late_s, 99)) if self._late_s else 0.0
