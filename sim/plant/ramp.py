"""Figures that move in straight lines to where a scenario wants them."""

from dataclasses import dataclass

import numpy as np

from drivers.points import Floats, Ints


@dataclass
class Ramp:
    """Straight lines, one per element: from `start` at `at_s` to `end` over `over_s`; arrays of one shape."""

    start: Floats
    end: Floats
    at_s: Floats
    over_s: Floats
    done_s: float = 0.0  # all have arrived

    @classmethod
    def at_rest(cls, value: Floats) -> "Ramp":
        """Stays where it is."""
        return cls(value.copy(), value.copy(), np.zeros(len(value)), np.zeros(len(value)))

    def value(self, t_s: float) -> Floats:
        """Where each line is at `t_s`."""
        if t_s >= self.done_s:
            return self.end
        gone = np.clip((t_s - self.at_s) / np.maximum(self.over_s, 1e-9), 0.0, 1.0)
        result: Floats = self.start + (self.end - self.start) * np.where(self.over_s > 0.0, gone, 1.0)
        return result

    def turn(self, which: Ints | slice, to: float, at_s: float, over_s: float) -> None:
        """From where they are at `at_s`, move to `to`."""
        self.start[which] = self.value(at_s)[which]
        self.end[which], self.at_s[which], self.over_s[which] = to, at_s, over_s
        self.done_s = max(self.done_s, at_s + over_s)
