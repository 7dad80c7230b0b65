"""Rows of the filling, compiled: which take part, their loads, and a heap of the levels at which they become tight.

Per row, load = BASE + GAIN x level while nothing changes, so the level at which it becomes tight is known; a heap
holds a lower bound of it (KEY, -1 once tight), equal keys by row. An event changes one rack's line and touches only
that rack's rows; a key is renewed when the row would now be tight before it, and one that has become too early is
put right when it comes up. So what happens to a row depends on its own racks alone, and a row that never becomes
tight changes nothing, whether it takes part or not.
"""

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
BEGIN, END = range(2)  # columns of `live` [R, 2]: entries of a rack in live_row and live_coef
MARGIN = 3.0 * SAME  # of the limit: rows end below it by this, so that they hold in any order of summation


@njit(cache=False)
def choose_rows(
    rack: Floats,
    row: Floats,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    limit_w: Floats,
    guess: Flags,
    floor_load_w: Floats,
    rest_w: Floats,
    touched: Ints,
) -> int:
    """Put into `row` the guessed rows that could bind with every gang at its highest level; how many they are.

    Loads at the floors of all that were guessed are kept.
    """
    n = 0
    for k in range(len(limit_w)):
        if not guess[k]:
            continue
        low_w, high_w = 0.0, 0.0
        for e in range(row_start[k], row_start[k + 1]):
            r = row_rack[e]
            low_w += coef[e] * rack[r, FLOOR]
            high_w += coef[e] * rack[r, MOST]
        floor_load_w[k] = low_w
        if high_w > low_w and high_w > limit_w[k] + SAME * abs(limit_w[k]):
            full = low_w >= limit_w[k] - SAME * max(abs(limit_w[k]), low_w)
            spare_w = 0.0 if full else min(MARGIN * abs(limit_w[k]), 2.0 * ALLOWED * (limit_w[k] - low_w))
            row[n, LIMIT], row[n, KEY], rest_w[n] = limit_w[k] - spare_w, -1.0 if full else 1.0, low_w
            number[n], touched[n] = k, -1
            n += 1
    return n


@njit(cache=False)
def set_columns(
    alive: int,
    rack: Floats,
    row: Floats,
    number: Ints,
    row_start: Ints,
    row_rack: Indices,
    coef: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    blocked: Ints,
) -> None:
    """Columns of the chosen rows, for racks that can rise at all; racks under a row full from the start."""
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
        full = row[n, KEY] < 0.0
        for e in range(row_start[number[n]], row_start[number[n] + 1]):
            r, a = row_rack[e], coef[e]
            if a > 0.0 and rack[r, MOST] > rack[r, FLOOR]:
                at = live[r, END]
                live[r, END] = at + 1
                live_row[at], live_coef[at] = n, a
                if full and blocked[r] < 0:
                    blocked[r] = number[n]


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


@njit(inline="always")  # called for every event: as a call it costs more than its work
def steepen(
    rack: Floats,
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
    d_line, d_slope = line_w - rack[r, LINE], slope_w - rack[r, SLOPE]
    rack[r, LINE], rack[r, SLOPE] = line_w, slope_w
    for e in range(live[r, BEGIN], live[r, END]):
        k, a = live_row[e], live_coef[e]
        base = row[k, BASE] + a * d_line
        gain = row[k, GAIN] + a * d_slope
        row[k, BASE], row[k, GAIN] = base, gain
        if d_slope > 0.0 and base + gain * row[k, KEY] > row[k, LIMIT] and row[k, KEY] >= 0.0:
            tight = (row[k, LIMIT] - base) / gain if gain > 0.0 else x
            row[k, KEY] = min(max(tight, x), row[k, KEY])
            sift_up(row, heap, heap[1, k])


@njit(inline="always")
def flatten(
    rack: Floats,
    row: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    r: int,
    power_w: float,
) -> None:
    """Rack `r` stays at a power [W] from now on, and its rows rise the less; their keys are too early, never late."""
    d_line, d_slope = power_w - rack[r, LINE], rack[r, SLOPE]
    rack[r, LINE], rack[r, SLOPE] = power_w, 0.0
    for e in range(live[r, BEGIN], live[r, END]):
        k, a = live_row[e], live_coef[e]
        row[k, BASE] += a * d_line
        row[k, GAIN] -= a * d_slope


@njit(cache=False)
def close_row(
    rack: Floats,
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
        load_w += coef[e] * (rack[r, LINE] + rack[r, SLOPE] * x)
        gain += coef[e] * rack[r, SLOPE]
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
def lay_rows(row: Floats, alive: int, rest_w: Floats) -> None:
    """Rows with the gangs of the next class at their floors."""
    for k in range(alive):
        row[k, BASE], row[k, GAIN] = rest_w[k], 0.0


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
