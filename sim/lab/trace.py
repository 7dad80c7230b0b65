"""What a run looked like, in bounded memory: a row a second at first, then of ever wider bins."""

from typing import Any

import numpy as np

from drivers.points import Floats

ROWS = 480  # at most; then two rows become one
DIGITS = 5  # significant ones that are kept


class Trace:
    """Columns over time. A bin keeps the largest value of `peaks`, the smallest of `dips`, the last of the others."""

    def __init__(self, columns: tuple[str, ...], *, peaks: tuple[str, ...] = (), dips: tuple[str, ...] = ()) -> None:
        self._columns = columns
        self._peak = np.array([c in peaks for c in columns])
        self._dip = np.array([c in dips for c in columns])
        self._rows = np.zeros((ROWS, len(columns)))
        self._taken = 0  # whole rows
        self._bin = 1  # seconds in a row
        self._in_bin = 0

    def add(self, row: Floats) -> None:
        """One second."""
        if self._in_bin:
            row = self._merged(self._rows[self._taken], row)
        self._rows[self._taken] = row
        self._in_bin += 1
        if self._in_bin == self._bin:
            self._taken, self._in_bin = self._taken + 1, 0
        if self._taken == ROWS:
            self._rows[: ROWS // 2] = self._merged(self._rows[0::2], self._rows[1::2])
            self._taken, self._bin = ROWS // 2, 2 * self._bin

    def _merged(self, first: Floats, then: Floats) -> Floats:
        peak, dip = np.maximum(first, then), np.minimum(first, then)
        merged: Floats = np.where(self._peak, peak, np.where(self._dip, dip, then))
        return merged

    def told(self) -> dict[str, Any]:
        """Seconds in a row, and the columns as lists of rounded numbers."""
        rows = self._rows[: self._taken + (self._in_bin > 0)]
        return {
            "bin_s": self._bin,
            "columns": {c: [_rounded(v) for v in rows[:, j]] for j, c in enumerate(self._columns)},
        }


def _rounded(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short == int(short) else short
