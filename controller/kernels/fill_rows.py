"""Rows of the filling, compiled: which take part, their loads, and a heap of the levels at which they become tight.

Per row, load = BASE + GAIN x level while nothing changes, so the level at which it becomes tight is known; a heap
holds a lower bound of it (KEY, -1 once tight), equal keys by row. An event changes one rack's line and touches only
that rack's rows; a key is renewed when the row would now be tight before it, and one that has become too early is
put right when it comes up. So what happens to a row depends on its own racks alone, and a row that never becomes
tight changes nothing, whether it takes part or not.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import (
    ALLOWED,
    FLOOR,
    LINE,
    MOST,
    SAME,
    SLOPE,
    Flags,
    Floats,
    Indices,
    Ints,
)

# Columns of `row` [K, 4] of the rows that take part: load = BASE + GAIN x level, limit less what keeps rounding below
# it, lower bound of the level at which it becomes tight (-1: is tight).
BASE, GAIN, LIMIT, KEY = range(4)
IN_HEAP, ACTIVE, STEPS = range(3)  # entries of `tally`: rows in the heap, gangs still rising, steps made
CHOSEN = 5  # and: rows in `number`, of which `live` holds the columns
SPARE = 4  # columns are made anew when more than a quarter of them are of no use
BEGIN, END = range(2)  # columns of `live` [R, 2]: entries of a rack in live_row and live_coef
MARGIN = 3.0 * SAME  # of the limit: rows end below it by this, so that they hold in any order of summation


@njit(forceinline=True)
def can_rise(rack: Floats, live: Ints, r: int) -> bool:
    """Whether rack `r` can rise at all and loads a row that takes part."""
    return bool(live[r, BEGIN] < live[r, END] and rack[r, MOST] > rack[r, FLOOR])


@njit(cache=False)
def choose_rows(
    rack: Floats,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    limit_w: Floats,
    guess: Flags,
    floor_load_w: Floats,
    could: Flags,
    chosen: Flags,
    chosen_coef: Floats,
    tally: Ints,
) -> bool:
    """Choose the guessed rows that could bind with every gang at its highest level; false if those of last time do.

    Last time's do if they, with the same coefficients, are among them, and not many more were chosen. Loads at the
    floors of all that were guessed are kept.
    """
    anew, wanted, had = False, 0, 0
    for k in range(len(limit_w)):
        size = row_start[k + 1] - row_start[k]
        had += size * chosen[k]
        could[k] = False
        if not guess[k]:
            continue
        low_w, high_w, same = 0.0, 0.0, True
        for e in range(row_start[k], row_start[k + 1]):
            r = row_rack[e]
            low_w += coef[e] * rack[r, FLOOR]
            high_w += coef[e] * rack[r, MOST]
            same &= coef[e] == chosen_coef[e]
        floor_load_w[k] = low_w
        if high_w > low_w and high_w > limit_w[k] + SAME * abs(limit_w[k]):
            could[k] = True
            wanted += size
            anew |= not (chosen[k] and same)
    if not anew and had <= wanted + wanted // SPARE:
        return False
    n = 0
    for k in range(len(limit_w)):
        chosen[k] = could[k]
        if could[k]:
            number[n] = k
            n += 1
            for e in range(row_start[k], row_start[k + 1]):
                chosen_coef[e] = coef[e]
    tally[CHOSEN] = n
    return True


@njit(cache=False)
def set_rows(
    rack: Floats,
    row: Floats,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    limit_w: Floats,
    floor_load_w: Floats,
    could: Flags,
    rest_w: Floats,
    touched: Ints,
    blocked: Ints,
    alive: int,
) -> None:
    """Limits of the chosen rows, none for one that cannot bind; racks under a row full from the start are blocked."""
    for n in range(alive):
        k = number[n]
        row[n, LIMIT], row[n, KEY], rest_w[n], touched[n] = np.inf, 1.0, 0.0, -1
        if not could[k]:
            continue
        limit, low_w = limit_w[k], floor_load_w[k]
        full = low_w >= limit - SAME * max(abs(limit), low_w)
        spare_w = 0.0 if full else min(MARGIN * abs(limit), 2.0 * ALLOWED * (limit - low_w))
        row[n, LIMIT], row[n, KEY], rest_w[n] = limit - spare_w, -1.0 if full else 1.0, low_w
        if full:
            for e in range(row_start[k], row_start[k + 1]):
                r = row_rack[e]
                if coef[e] > 0.0 and rack[r, MOST] > rack[r, FLOOR] and blocked[r] < 0:
                    blocked[r] = k


@njit(cache=False)
def set_columns(
    alive: int,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
) -> None:
    """Columns of the chosen rows; those that are alike are kept once."""
    live[:, END] = 0
    for n in range(alive):
        for e in range(row_start[number[n]], row_start[number[n] + 1]):
            live[row_rack[e], END] += 1
    total = 0
    for r in range(len(live)):
        count = live[r, END]
        live[r, BEGIN], live[r, END] = total, total
        total += count
    for n in range(alive):
        for e in range(row_start[number[n]], row_start[number[n] + 1]):
            r, a = row_rack[e], coef[e]
            if a > 0.0:
                at = live[r, END]
                live[r, END] = at + 1
                live_row[at], live_coef[at] = n, a
    for r in range(1, len(live)):  # neighbours in the same rows read the same list: a pass over all touches less memory
        begin, end, other = live[r, BEGIN], live[r, END], live[r - 1, BEGIN]
        same = end - begin == live[r - 1, END] - other
        for e in range(begin, end if same else begin):
            before = other + e - begin
            same &= live_row[e] == live_row[before] and live_coef[e] == live_coef[before]
        if same:
            live[r, BEGIN], live[r, END] = other, live[r - 1, END]


@njit(cache=False)
def sift_up(row: Floats, heap: Ints, i: int) -> None:
    """Move entry `i` of the heap up to its place; heap[0] are rows by place, heap[1] places by row."""
    k = heap[0, i]
    key = row[k, KEY]
    while i > 0:
        parent = (i - 1) >> 1
        other = heap[0, parent]
        if row[other, KEY] < key or (row[other, KEY] == key and other < k):
            break
        heap[0, i], heap[1, other] = other, i
        i = parent
    heap[0, i], heap[1, k] = k, i


@njit(cache=False)
def sift_down(row: Floats, heap: Ints, n: int) -> None:
    """Move the top of a heap of `n` down to its place."""
    i, k = 0, heap[0, 0]
    key = row[k, KEY]
    while 2 * i + 1 < n:
        child = 2 * i + 1
        other = heap[0, child]
        if child + 1 < n:
            right = heap[0, child + 1]
            if row[right, KEY] < row[other, KEY] or (row[right, KEY] == row[other, KEY] and right < other):
                child, other = child + 1, right
        if row[other, KEY] > key or (row[other, KEY] == key and other > k):
            break
        heap[0, i], heap[1, other] = other, i
        i = child
    heap[0, i], heap[1, k] = k, i


@njit(forceinline=True)  # called for every event: as a call it costs more than its work
def steepen(
    line: Floats,
    row: Floats,
    heap: Ints,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    r: int,
    line_w: float,
    slope_w: float,
    x: float,
) -> None:
    """Give rack `r`, at level `x`, a new line, and its rows with it."""
    d_line, d_slope = line_w - line[r, LINE], slope_w - line[r, SLOPE]
    line[r, LINE], line[r, SLOPE] = line_w, slope_w
    for e in range(live[r, BEGIN], live[r, END]):
        k, a = live_row[e], live_coef[e]
        base = row[k, BASE] + a * d_line
        gain = row[k, GAIN] + a * d_slope
        row[k, BASE], row[k, GAIN] = base, gain
        if d_slope > 0.0 and base + gain * row[k, KEY] > row[k, LIMIT] and row[k, KEY] >= 0.0:
            tight = (row[k, LIMIT] - base) / gain if gain > 0.0 else x
            row[k, KEY] = min(max(tight, x), row[k, KEY])
            sift_up(row, heap, heap[1, k])


@njit(forceinline=True)
def flatten(
    line: Floats,
    row: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    r: int,
    power_w: float,
) -> None:
    """Rack `r` stays at a power [W] from now on, and its rows rise the less; their keys are too early, never late."""
    d_line, d_slope = power_w - line[r, LINE], line[r, SLOPE]
    line[r, LINE], line[r, SLOPE] = power_w, 0.0
    for e in range(live[r, BEGIN], live[r, END]):
        k, a = live_row[e], live_coef[e]
        row[k, BASE] += a * d_line
        row[k, GAIN] -= a * d_slope


@njit(cache=False)
def close_row(
    line: Floats,
    row: Floats,
    heap: Ints,
    tally: Ints,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    x: float,
) -> bool:
    """Sum the row on top of the heap afresh; if it is tight take it out and return true, else put its key right."""
    k = heap[0, 0]
    load_w, gain = 0.0, 0.0
    for e in range(row_start[number[k]], row_start[number[k] + 1]):
        r = row_rack[e]
        load_w += coef[e] * (line[r, LINE] + line[r, SLOPE] * x)
        gain += coef[e] * line[r, SLOPE]
    row[k, BASE], row[k, GAIN] = load_w - gain * x, gain
    room_w = row[k, LIMIT] - load_w
    scale_w = max(abs(row[k, LIMIT]), load_w)
    if gain <= 0.0 or (room_w > SAME * scale_w and room_w > SAME * gain):
        row[k, KEY] = 1.0 if gain <= 0.0 else min(1.0, x + room_w / gain)
        sift_down(row, heap, tally[IN_HEAP])
        return False
    row[k, KEY] = -1.0
    tally[IN_HEAP] -= 1
    heap[0, 0] = heap[0, tally[IN_HEAP]]
    if tally[IN_HEAP] > 0:
        sift_down(row, heap, tally[IN_HEAP])
    return True


@njit(cache=False)
def start_rows(row: Floats, alive: int, heap: Ints, tally: Ints, touched: Ints, c: int, x: float) -> None:
    """Put every row that class `c` touches and that is not tight, at level `x` and on, into the heap."""
    n = 0
    for k in range(alive):
        if row[k, KEY] < 0.0 or touched[k] != c:
            continue
        base_w, gain = row[k, BASE], row[k, GAIN]
        row[k, KEY] = 1.0
        if base_w + gain > row[k, LIMIT] and gain > 0.0:
            row[k, KEY] = min(1.0, max(x, (row[k, LIMIT] - base_w) / gain))
        heap[0, n] = k
        sift_up(row, heap, n)
        n += 1
    tally[IN_HEAP] = n
