"""One whole filling, compiled: preparation, class after class, and the answer with its rounding taken out.

Most rows never bind. Only a guess of those that do takes part, at first the rows near their limits at the end of the
last filling; then all rows are summed, and where one outside the guess is full it joins and the filling is done
again. The answer is the same to the bit whatever the guess was: a row that never becomes tight changes nothing (see
fill_rows), and one that would have become tight is full in the end, as powers only rise.

`solve` and `levels` are all that is called from Python, and all that is cached. Numba looks for changes only in the
file of a cached function, so a digest of the others is in their closure, which is part of the cache's key.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numba import njit

from controller.kernels.fill_answer import end_class, flag_rows, repair, sum_rows
from controller.kernels.fill_events import drop_in_buckets
from controller.kernels.fill_jump import STEPS_OF_LEVEL, line_up, list_events, load_rows, set_stops
from controller.kernels.fill_rise import rise
from controller.kernels.fill_rows import (
    ACTIVE,
    CHOSEN,
    STEPS,
    choose_rows,
    set_columns,
    set_rows,
    start_rows,
    touch_rows,
)
from controller.kernels.fill_setup import (
    FLOOR,
    GPU,
    LEVEL,
    MOST,
    OTHER,
    START,
    TOP,
    Flags,
    Floats,
    Indices,
    Ints,
    back_to_floors,
    set_gangs,
    throughput_at,
)
from controller.kernels.fill_sums import sum_blocks

OK, TOO_LONG, BAD_RACK, BAD_ROW = range(4)
SOURCES, TURNS, ENTRIES = 3, 4, 6  # entries of `tally`: digest of the sources, how often the last filling was done
# over, and how many racks all rows have together
ROUNDS = 3  # in the last every row takes part that could bind
LINES = 4  # times at most that a search for a step follows the rows' lines; then it halves what is left
NEAR = 0.02  # of its limit: a row that ends as near is in the next guess


class Work(NamedTuple):
    """Structure, scratch and answer of one filling.

    R racks in B blocks, G gangs, K rows with N entries, E events. Where every rack is a block of its own the sums
    over blocks are the racks' own arrays.
    """

    gang_of: Ints  # [R]
    gang_start: Ints  # [G + 1] into gang_rack
    gang_rack: Indices  # [R]
    block_of: Indices  # [R]
    block_start: Ints  # [B + 1]
    row_start: Ints  # [K + 1] into row_block and coef
    row_block: Indices  # [N]
    knots: Floats  # [C + 1, P, 4], the last curve is a straight line
    order: Ints  # [G] gangs by class
    step: Ints  # [G] of each class, as far as it jumped last
    stopped: Ints  # [G] gangs frozen together
    rack: Floats  # [R, 6]
    line_w: Floats  # [R] power of a rack = line_w + slope_w x level now
    slope_w: Floats  # [R]
    above_w: Floats  # [R] power at the next step of the grid, before the classes rise at the highest level
    curve: Ints  # [R]
    blocked: Ints  # [R] first tight row of a rack, -1: none
    gang: Floats  # [G, 8]
    guess: Flags  # [K] rows that take part
    could: Flags  # [K] those of them that could bind
    chosen: Flags  # [K] rows of `row`, in their order; of last time, as long as they serve
    chosen_coef: Floats  # [N] their coefficients then
    row: Floats  # [K, 4]
    number: Ints  # [K] of each row in `row`
    touched: Ints  # [K] class that a row of `row` was loaded by last
    heap: Ints  # [2, K]
    live: Ints  # [B, 2]
    live_row: Indices  # [N]
    live_coef: Floats  # [N]
    raw_level: Floats  # [E]
    raw_what: Ints  # [E, 2]
    event_level: Floats  # [E]
    event_what: Ints  # [E, 2]
    bucket: Ints  # [BUCKETS + 2]
    tally: Ints  # [7]
    keep: Floats  # [R] share of its power above the floor that repair leaves a rack
    power_w: Floats  # [R]
    block_w: Floats  # [B] sums of power_w
    block_above_w: Floats  # [B] and of above_w
    block_slope_w: Floats  # [B] and of slope_w
    over_ceiling: Flags  # [R]
    load_w: Floats  # [K]
    floor_load_w: Floats  # [K] of tight rows
    tight: Flags  # [K]
    violated: Flags  # [K]


@njit(cache=False)
def land(w: Work, coef: Floats, alive: int, c: int, lo: int, hi: int, step: int) -> tuple[bool, bool, float]:
    """Put the gangs order[lo:hi] of class `c` at a step; what `load_rows` says there."""
    x, above = step / STEPS_OF_LEVEL, (step + 1) / STEPS_OF_LEVEL
    lines = (w.rack, w.line_w, w.slope_w, w.power_w, w.above_w, w.curve, w.gang, w.knots)
    line_up(*lines, w.gang_start, w.gang_rack, w.order, lo, hi, x, above)
    sum_blocks(w.block_start, w.slope_w, w.block_slope_w)
    sum_blocks(w.block_start, w.power_w, w.block_w)
    sum_blocks(w.block_start, w.above_w, w.block_above_w)
    blocks = (w.block_slope_w, w.block_w, w.block_above_w)
    return load_rows(w.row, w.number, w.row_start, w.row_block, coef, *blocks, w.touched, c, alive, x)


@njit(cache=False)
def jump(w: Work, coef: Floats, alive: int, c: int, lo: int, hi: int) -> int:
    """Put a class at the highest step of the grid at which every row holds, 0 if none; searched from the last one."""
    good, bad, test, at = 0, STEPS_OF_LEVEL + 1, w.step[c], -1
    for turn in range(STEPS_OF_LEVEL):
        here, above, reach = land(w, coef, alive, c, lo, hi, test)
        at = test
        if here:
            bad = test
        elif above:
            good, bad = test, test + 1
        else:
            good = test + 1
        if bad - good <= 1:
            break
        guess = int(max(reach, 0.0) * STEPS_OF_LEVEL)
        test = guess if good <= guess < bad and turn < LINES else (good + bad) // 2
    w.step[c] = min(good, STEPS_OF_LEVEL)
    if w.step[c] != at:
        land(w, coef, alive, c, lo, hi, w.step[c])
    return int(w.step[c])


@njit(cache=False)
def start_class(w: Work, coef: Floats, alive: int, c: int, lo: int, hi: int) -> int:
    """Jump as far as no row is tight; number of events above."""
    gangs, members = (w.gang_start, w.gang_rack), (w.order, lo, hi)
    set_stops(w.rack, w.gang, w.gang_start, w.gang_rack, w.blocked, *members)
    touch_rows(w.rack, w.block_of, w.gang_start, w.gang_rack, w.live, w.live_row, w.touched, c, *members)
    x = jump(w, coef, alive, c, lo, hi) / STEPS_OF_LEVEL
    events = (*gangs, w.block_of, w.live, *members, w.tally, x, w.raw_level, w.raw_what)
    n = list_events(w.rack, w.curve, w.gang, w.knots, *events)
    if w.tally[ACTIVE] > 0:
        start_rows(w.row, alive, w.heap, w.tally, w.touched, c, x)
        drop_in_buckets(n, w.raw_level, w.raw_what, w.event_level, w.event_what, w.bucket)
    return n


@njit(cache=False)
def fill_class(w: Work, coef: Floats, ceiling_w: Floats, alive: int, c: int, lo: int, hi: int, most_steps: int) -> None:
    """Raise the gangs order[lo:hi]; classes below are at their floors meanwhile, those above where they ended."""
    n = start_class(w, coef, alive, c, lo, hi)
    rise(
        w.rack,
        w.line_w,
        w.slope_w,
        w.curve,
        w.gang,
        w.row,
        w.heap,
        w.tally,
        w.knots,
        w.gang_of,
        w.block_of,
        w.gang_start,
        w.gang_rack,
        w.number,
        w.block_start,
        w.row_start,
        w.row_block,
        coef,
        w.live,
        w.live_row,
        w.live_coef,
        w.blocked,
        w.stopped,
        n,
        w.event_level,
        w.event_what,
        w.bucket,
        most_steps,
    )
    lines, gangs = (w.rack, w.line_w, w.slope_w, w.curve), (w.gang, w.knots, w.gang_start, w.gang_rack)
    end_class(*lines, *gangs, w.order, lo, hi, ceiling_w, w.power_w, w.above_w, w.over_ceiling)


@njit(cache=False)
def fill_guessed(
    w: Work, coef: Floats, limit_w: Floats, ceiling_w: Floats, class_start: Ints, most_steps: int
) -> tuple[int, bool]:
    """Fill under the guessed rows; how many others are full, whether every coefficient is a number."""
    rows = (w.row_start, w.row_block, coef)
    sum_blocks(w.block_start, w.power_w, w.block_w)
    sum_blocks(w.block_start, w.above_w, w.block_above_w)
    guessed = (*rows, limit_w, w.guess, w.floor_load_w, w.could)
    anew = choose_rows(w.block_w, w.block_above_w, w.number, *guessed, w.chosen, w.chosen_coef, w.tally)
    alive = w.tally[CHOSEN]
    if anew:
        set_columns(alive, w.number, *rows, w.live, w.live_row, w.live_coef)
    limits = (*rows, limit_w, w.floor_load_w, w.could, w.touched, w.blocked, alive)
    set_rows(w.rack, w.row, w.number, w.block_start, *limits)
    w.above_w[:] = w.power_w
    w.tally[STEPS] = 0
    for c in range(len(class_start) - 1):
        fill_class(w, coef, ceiling_w, alive, c, class_start[c], class_start[c + 1], most_steps)
    sum_blocks(w.block_start, w.power_w, w.block_w)
    return sum_rows(*rows, w.block_w, limit_w, w.guess, w.load_w)


@njit(cache=False)
def finish(w: Work, coef: Floats, limit_w: Floats) -> None:
    """Flags of the rows, the repair of rounding where it is needed, and the guess for the next filling."""
    rows = (w.row_start, w.row_block, coef)
    if flag_rows(limit_w, w.load_w, w.floor_load_w, w.tight, w.violated):
        repair(w.block_start, *rows, limit_w, w.rack, w.load_w, w.floor_load_w, w.tight, w.keep, w.power_w)
        sum_blocks(w.block_start, w.power_w, w.block_w)
        sum_rows(*rows, w.block_w, limit_w, w.guess, w.load_w)
        flag_rows(limit_w, w.load_w, w.floor_load_w, w.tight, w.violated)
    for k in range(len(limit_w)):
        w.guess[k] = w.load_w[k] >= limit_w[k] - NEAR * abs(limit_w[k])


@njit(cache=False)
def find_levels(w: Work) -> None:
    """Per gang the level that the powers in `w.power_w` let it reach: that of its slowest rack."""
    for g in range(len(w.gang)):
        level = 1.0
        for i in range(w.gang_start[g], w.gang_start[g + 1]):
            r = w.gang_rack[i]
            start, p = w.rack[r, START], w.power_w[r]
            if start < 1.0 and p < w.rack[r, MOST]:
                share = max(0.0, p - w.rack[r, OTHER]) / w.rack[r, GPU]
                at = throughput_at(w.knots, w.curve[r], share) / w.rack[r, TOP]
                level = min(level, start if p <= w.rack[r, FLOOR] else max(at, start))
        w.gang[g, LEVEL] = level


Solve = Callable[[Work, Floats, Floats, Floats, Floats, Floats, Ints, Floats, Floats, Ints], int]
Levels = Callable[[Work, Floats, Floats, Floats, Floats, Floats, Ints], int]


def _entries(digest: int) -> tuple[Solve, Levels]:
    """The two functions called from Python; `digest` is that of the sources they call into."""

    @njit(cache=True, nogil=True)
    def solve(
        w: Work,
        floor_w: Floats,
        demand_w: Floats,
        ceiling_w: Floats,
        other_w: Floats,
        gpu_w: Floats,
        curve_of: Ints,
        limit_w: Floats,
        coef: Floats,
        class_start: Ints,
    ) -> int:
        """Fill and write the answer into `w`; OK, TOO_LONG past the cap on steps, or what is unknown or negative."""
        w.tally[SOURCES] = digest
        most_steps = 1000 + 20 * (len(w.raw_level) + len(w.number)) + 4 * w.tally[ENTRIES]
        given = (floor_w, demand_w, ceiling_w, other_w, gpu_w, curve_of, w.power_w, w.above_w, w.blocked)
        gangs = (w.curve, w.gang, w.knots, w.gang_start, w.gang_rack, *given)
        if not set_gangs(w.rack, w.line_w, w.slope_w, *gangs):
            return BAD_RACK
        if not (limit_w > -np.inf).all():
            return BAD_ROW
        for turn in range(ROUNDS):
            w.tally[TURNS] = turn
            if turn > 0:
                back_to_floors(w.rack, w.line_w, w.slope_w, w.gang, w.power_w, w.above_w, w.blocked)
            if turn == ROUNDS - 1:
                w.guess[:] = True
            missed, known = fill_guessed(w, coef, limit_w, ceiling_w, class_start, most_steps)
            if not known:
                return BAD_ROW
            if w.tally[STEPS] >= most_steps:
                return TOO_LONG
            if missed == 0:
                break
        finish(w, coef, limit_w)
        return OK

    @njit(cache=True, nogil=True)
    def levels(
        w: Work,
        floor_w: Floats,
        demand_w: Floats,
        ceiling_w: Floats,
        other_w: Floats,
        gpu_w: Floats,
        curve_of: Ints,
    ) -> int:
        """Write the levels that `w.power_w` allows into `w.gang`; OK or BAD_RACK."""
        w.tally[SOURCES] = digest
        given = (floor_w, demand_w, ceiling_w, other_w, gpu_w, curve_of, w.keep, w.above_w, w.blocked)
        gangs = (w.curve, w.gang, w.knots, w.gang_start, w.gang_rack, *given)
        if not set_gangs(w.rack, w.line_w, w.slope_w, *gangs):
            return BAD_RACK
        find_levels(w)
        return OK

    return solve, levels


NAMES = [f"fill_{part}.py" for part in ("setup", "sums", "rows", "events", "jump", "rise", "answer")]
SOURCE_FILES = [Path(__file__).with_name(name) for name in NAMES]
solve, levels = _entries(crc32(b"".join(file.read_bytes() for file in SOURCE_FILES)) >> 1)
