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
from controller.kernels.fill_jump import (
    STEPS_OF_LEVEL,
    find_step,
    land,
    list_events,
    place_of,
    set_stops,
    surely_over,
)
from controller.kernels.fill_rise import rise
from controller.kernels.fill_rows import ACTIVE, CHOSEN, STEPS, choose_rows, set_columns, set_rows, start_rows
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

OK, TOO_LONG, BAD_RACK, BAD_ROW = range(4)
SOURCES, TURNS = 3, 4  # entries of `tally`: digest of the sources, how often the last filling was done over
ROUNDS = 3  # in the last every row takes part that could bind
NEAR = 0.02  # of its limit: a row that ends as near is in the next guess


class Work(NamedTuple):
    """Structure, scratch and answer of one filling; R racks, G gangs, K rows, N non-zeros, E events."""

    gang_of: Ints  # [R]
    gang_start: Ints  # [G + 1] into gang_rack
    gang_rack: Indices  # [R]
    row_start: Ints  # [K + 1] into row_rack and coef
    row_rack: Indices  # [N]
    knots: Floats  # [C + 1, P, 4], the last curve is a straight line
    order: Ints  # [G] gangs by class
    step: Ints  # [G] of each class, as far as it jumped last
    witness: Ints  # [G] of each class, the row of `row_start` that stopped it there
    stopped: Ints  # [G] gangs frozen together
    rack: Floats  # [R, 6]
    line: Floats  # [R, 2]
    curve: Ints  # [R]
    blocked: Ints  # [R] first tight row of a rack, -1: none
    gang: Floats  # [G, 8]
    guess: Flags  # [K] rows that take part
    could: Flags  # [K] those of them that could bind
    chosen: Flags  # [K] rows of `row`, in their order; of last time, as long as they serve
    chosen_coef: Floats  # [N] their coefficients then
    row: Floats  # [K, 4]
    rest_w: Floats  # [K] load of a row of `row` with the classes not yet filled at their floors
    number: Ints  # [K] of each row in `row`
    touched: Ints  # [K] class that a row of `row` was loaded by last
    heap: Ints  # [2, K]
    live: Ints  # [R, 2]
    live_row: Indices  # [N]
    live_coef: Floats  # [N]
    raw_level: Floats  # [E]
    raw_what: Ints  # [E, 2]
    event_level: Floats  # [E]
    event_what: Ints  # [E, 2]
    bucket: Ints  # [BUCKETS + 2]
    tally: Ints  # [6]
    keep: Floats  # [R] share of its power above the floor that repair leaves a rack
    power_w: Floats  # [R]
    over_ceiling: Flags  # [R]
    load_w: Floats  # [K]
    floor_load_w: Floats  # [K] of tight rows
    tight: Flags  # [K]
    violated: Flags  # [K]


@njit(cache=False)
def start_class(w: Work, coef: Floats, limit_w: Floats, alive: int, c: int, lo: int, hi: int) -> int:
    """Jump as far as no row is tight, at once where the last filling did; number of events above."""
    gangs, members = (w.gang_start, w.gang_rack), (w.order, lo, hi)
    set_stops(w.rack, w.gang, w.gang_start, w.gang_rack, w.blocked, *members)
    last, k = w.step[c], w.witness[c]
    rows = (w.row_start, w.row_rack, coef, limit_w, w.power_w)
    columns = (*gangs, alive, w.live, w.live_row, w.live_coef, w.rest_w, w.touched, c, *members)
    n = place_of(w.number, alive, w.row, w.could, k)
    stays = last == STEPS_OF_LEVEL
    if not stays and n >= 0:
        stays = surely_over(w.rack, w.curve, w.gang, w.knots, w.gang_of, *rows, k, last + 1)
    if stays:
        stays = land(w.rack, w.line, w.curve, w.gang, w.row, w.knots, *columns, last) < 0
        stays &= last == STEPS_OF_LEVEL or w.touched[n] == c  # a row that the class does not load stops it nowhere
    if not stays:
        w.step[c], k = find_step(w.rack, w.curve, w.gang, w.row, w.knots, *columns, last)
        w.witness[c] = w.number[k] if k >= 0 else -1
        land(w.rack, w.line, w.curve, w.gang, w.row, w.knots, *columns, w.step[c])
    x = w.step[c] / STEPS_OF_LEVEL
    events = (*gangs, w.live, *members, w.tally, x, w.raw_level, w.raw_what)
    n = list_events(w.rack, w.curve, w.gang, w.knots, *events)
    if w.tally[ACTIVE] > 0:
        start_rows(w.row, alive, w.heap, w.tally, w.touched, c, x)
        drop_in_buckets(n, w.raw_level, w.raw_what, w.event_level, w.event_what, w.bucket)
    return n


@njit(cache=False)
def fill_class(
    w: Work,
    coef: Floats,
    limit_w: Floats,
    ceiling_w: Floats,
    alive: int,
    c: int,
    lo: int,
    hi: int,
    last: bool,
    most_steps: int,
) -> None:
    """Raise the gangs order[lo:hi]; classes below are at their floors meanwhile, those above where they ended."""
    n = start_class(w, coef, limit_w, alive, c, lo, hi)
    rise(
        w.rack,
        w.line,
        w.curve,
        w.gang,
        w.row,
        w.heap,
        w.tally,
        w.knots,
        w.gang_of,
        w.gang_start,
        w.gang_rack,
        w.number,
        w.row_start,
        w.row_rack,
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
    end_class(
        w.rack,
        w.line,
        w.curve,
        w.gang,
        w.knots,
        w.gang_start,
        w.gang_rack,
        w.live,
        w.live_row,
        w.live_coef,
        w.rest_w,
        w.order,
        lo,
        hi,
        ceiling_w,
        w.power_w,
        w.over_ceiling,
        last,
    )


@njit(cache=False)
def fill_guessed(
    w: Work, coef: Floats, limit_w: Floats, ceiling_w: Floats, class_start: Ints, most_steps: int
) -> tuple[int, bool]:
    """Fill under the guessed rows; how many others are full, whether every coefficient is a number."""
    rows = (w.row_start, w.row_rack, coef)
    guessed = (*rows, limit_w, w.guess, w.floor_load_w, w.could)
    anew = choose_rows(w.rack, w.number, *guessed, w.chosen, w.chosen_coef, w.tally)
    alive = w.tally[CHOSEN]
    if anew:
        set_columns(alive, w.number, *rows, w.live, w.live_row, w.live_coef)
    set_rows(w.rack, w.row, w.number, *rows, limit_w, w.floor_load_w, w.could, w.rest_w, w.touched, w.blocked, alive)
    w.tally[STEPS] = 0
    for c in range(len(class_start) - 1):
        fill_class(
            w,
            coef,
            limit_w,
            ceiling_w,
            alive,
            c,
            class_start[c],
            class_start[c + 1],
            c + 2 == len(class_start),
            most_steps,
        )
    return sum_rows(*rows, w.power_w, limit_w, w.guess, w.load_w)


@njit(cache=False)
def finish(w: Work, coef: Floats, limit_w: Floats) -> None:
    """Flags of the rows, the repair of rounding where it is needed, and the guess for the next filling."""
    rows = (w.row_start, w.row_rack, coef)
    if flag_rows(limit_w, w.load_w, w.floor_load_w, w.tight, w.violated):
        repair(*rows, limit_w, w.rack, w.load_w, w.floor_load_w, w.tight, w.keep, w.power_w)
        sum_rows(*rows, w.power_w, limit_w, w.guess, w.load_w)
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
        most_steps = 1000 + 20 * (len(w.raw_level) + len(w.number)) + 4 * len(coef)
        racks = (floor_w, demand_w, ceiling_w, other_w, gpu_w, curve_of, w.power_w, w.blocked)
        if not set_gangs(w.rack, w.line, w.curve, w.gang, w.knots, w.gang_start, w.gang_rack, *racks):
            return BAD_RACK
        if not (limit_w > -np.inf).all():
            return BAD_ROW
        for turn in range(ROUNDS):
            w.tally[TURNS] = turn
            if turn > 0:
                back_to_floors(w.rack, w.line, w.gang, w.power_w, w.blocked)
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
        racks = (floor_w, demand_w, ceiling_w, other_w, gpu_w, curve_of, w.keep, w.blocked)
        if not set_gangs(w.rack, w.line, w.curve, w.gang, w.knots, w.gang_start, w.gang_rack, *racks):
            return BAD_RACK
        find_levels(w)
        return OK

    return solve, levels


NAMES = ("fill_setup.py", "fill_rows.py", "fill_events.py", "fill_jump.py", "fill_rise.py", "fill_answer.py")
SOURCE_FILES = [Path(__file__).with_name(name) for name in NAMES]
solve, levels = _entries(crc32(b"".join(file.read_bytes() for file in SOURCE_FILES)) >> 1)
