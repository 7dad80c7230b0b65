"""The most weighted work under rows, compiled: prices row by row, levels from prices, the best answer that fits.

The problem is linear once every gang's power is taken step by step. Prices are set so that each row is just full
while gangs stay near their last levels; then the levels reached are the next "last levels" (a proximal method: its
steps are quadratic programs, each solved roughly by exact steps along one price at a time). Any prices give an
upper bound, any levels that fit a lower one; the best of both are kept, and it ends when they are near.

`solve` is all that is called from Python and cached; Numba looks for changes only in its own file, so a digest of
the others is in its closure, which is part of the cache's key.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controller.kernels.work_bound import upper_bound, worths
from controller.kernels.work_primal import make_fit
from controller.kernels.work_rows import choose, clear, load_at
from controller.kernels.work_setup import Floats, Ints, Longs, lay_knots, lay_pairs, lay_slopes, rows_loads

SWEEPS = 2  # over the rows in each round
PATIENCE = 15  # rounds after which a sweep is added: prices that circle need more of them
TRIES = 6  # of one row's price in each sweep
LOOK = 5  # rounds between looks at the bounds


@njit(cache=False)
def rounds(
    room: Floats, weight: Floats, price: Floats, cost: Floats, level: Floats, best_price: Floats, best_level: Floats,
    pair_start: Ints, pair_gang: Ints, pair_row: Ints, pair_at: Longs, gain: Floats,
    col_start: Ints, col_pair: Ints, knot_start: Ints, knot: Floats, near: float, most_rounds: int,
) -> int:  # fmt: skip
    """Write the best prices and levels found; the rounds needed."""
    stiff, want = np.empty(len(weight)), np.empty(len(weight))
    for g in range(len(weight)):
        low, high = knot[knot_start[g]], knot[knot_start[g + 1] - 1]
        stiff[g] = max(weight[g], 1e-12) / max(high - low, 1e-9)
        level[g] = 0.5 * (low + high)
    active, most, bound = np.empty(len(room), np.int32), -1.0, np.inf
    for number in range(1, most_rounds + 1):
        want[:] = weight + stiff * level
        choose(knot_start, knot, cost, want, stiff, level)
        n = 0
        for k in range(len(room)):
            over = price[k] > 0.0
            if over or load_at(k, level, pair_start, pair_gang, pair_at, gain, knot_start, knot) > room[k]:
                active[n] = k
                n += 1
        for _ in range(SWEEPS + number // PATIENCE):
            for k in active[:n]:
                clear(k, price, room, TRIES, pair_start, pair_gang, pair_at, gain, knot_start, knot, cost, want, stiff)
        choose(knot_start, knot, cost, want, stiff, level)
        if number % LOOK and number < most_rounds:
            continue
        now = upper_bound(price, room, weight, cost, knot_start, knot)
        if now < bound:
            bound, best_price[:] = now, price
        trial = level.copy()
        work = make_fit(
            trial, room, weight, cost, pair_start, pair_gang, pair_row, pair_at, gain, col_start, col_pair,
            knot_start, knot,
        )  # fmt: skip
        if work > most:
            most, best_level[:] = work, trial
        if bound - most <= near * bound:
            return number
    return most_rounds


@njit(cache=False)
def columns(pair_start: Ints, pair_gang: Ints, gangs: int) -> tuple[Ints, Ints, Ints]:
    """Row of each pair, and pairs by gang."""
    row, start = np.empty(len(pair_gang), np.int32), np.zeros(gangs + 1, np.int32)
    for k in range(len(pair_start) - 1):
        row[pair_start[k] : pair_start[k + 1]] = k
    for g in pair_gang:
        start[g + 1] += 1
    for g in range(gangs):
        start[g + 1] += start[g]
    to, pair = start.copy(), np.empty(len(pair_gang), np.int32)
    for p in range(len(pair_gang)):
        pair[to[pair_gang[p]]] = p
        to[pair_gang[p]] += 1
    return row, start, pair


@njit(cache=False)
def solve_all(
    gang_of: Ints, gang_start: Ints, gang_rack: Ints, row_start: Ints, row_rack: Ints, coef: Floats,
    floor_w: Floats, at_w: Floats, per_w: Floats, low: Floats, high: Floats, weight: Floats, limit_w: Floats,
    price_w: Floats, near: float, most_rounds: int,
) -> tuple[Floats, Floats, int]:  # fmt: skip
    """Everything, from racks and rows on; price_w [K] is where prices begin and, at the end, the best ones."""
    knot_start, knot, thinned = lay_knots(gang_start, gang_rack, floor_w, at_w, per_w, low, high)
    slope_start, slope, top_w = lay_slopes(gang_start, gang_rack, floor_w, at_w, per_w, knot_start, knot)
    base_w = rows_loads(row_start, row_rack, coef, floor_w)
    most_w = rows_loads(row_start, row_rack, coef, top_w)
    rows = np.flatnonzero((most_w > limit_w) & (most_w > base_w)).astype(np.int32)
    pair_start, pair_gang, pair_at, gain = lay_pairs(
        row_start, row_rack, coef, rows, gang_of, top_w > floor_w, knot_start, slope_start, slope
    )
    pair_row, col_start, col_pair = columns(pair_start, pair_gang, len(low))
    room, price = np.maximum(limit_w[rows] - base_w[rows], 0.0), price_w[rows]
    cost, level = np.zeros(len(knot)), low.copy()
    for p in range(len(pair_gang)):
        g, b = pair_gang[p], pair_at[p] - knot_start[pair_gang[p]]
        for m in range(knot_start[g], knot_start[g + 1] - 1):
            cost[m] += price[pair_row[p]] * gain[b + m]
    best_price, best_level = price.copy(), low.copy()
    needed = rounds(
        room, weight, price, cost, level, best_price, best_level, pair_start, pair_gang, pair_row, pair_at, gain,
        col_start, col_pair, knot_start, knot, near, most_rounds,
    )  # fmt: skip
    price_w[:] = 0.0
    price_w[rows] = best_price
    worth = worths(
        gang_start, gang_rack, row_start, row_rack, coef, floor_w, at_w, per_w, weight, price_w, rows, thinned,
        knot_start, knot,
    )  # fmt: skip
    return best_level, worth, needed


Solve = Callable[..., tuple[NDArray[Any], NDArray[Any], int]]


def _entry(digest: int) -> Solve:
    """The function called from Python; `digest` is that of the sources it calls into."""

    @njit(cache=True, nogil=True)
    def solve(
        gang_of: Ints, gang_start: Ints, gang_rack: Ints, row_start: Ints, row_rack: Ints, coef: Floats,
        floor_w: Floats, at_w: Floats, per_w: Floats, low: Floats, high: Floats, weight: Floats, limit_w: Floats,
        price_w: Floats, near: float, most_rounds: int,
    ) -> tuple[Floats, Floats, int]:  # fmt: skip
        """Levels [G], what each gang adds to the upper bound [G], rounds; the prices [K] are left in price_w."""
        if digest < 0:
            price_w[:] = 0.0
        return solve_all(
            gang_of, gang_start, gang_rack, row_start, row_rack, coef, floor_w, at_w, per_w, low, high, weight,
            limit_w, price_w, near, most_rounds,
        )  # fmt: skip

    return solve


NAMES = ("work_setup.py", "work_rows.py", "work_primal.py", "work_bound.py")
SOURCE_FILES = [Path(__file__).with_name(name) for name in NAMES]
solve = _entry(crc32(b"".join(file.read_bytes() for file in SOURCE_FILES)))
