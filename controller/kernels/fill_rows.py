"""Rows of the filling, compiled: which take part, their loads, and a heap of the levels at which they become tight.

Per row, load = BASE + GAIN x level while nothing changes, so the level at which it becomes tight is known; a heap
holds a lower bound of it (KEY, -1 once tight), equal keys by row. An event changes one rack's line and touches only
that rack's rows; a key is renewed when the row would now be tight before it, and one that has become too early is
put right when it comes up. So what happens to a row depends on its own racks alone, and a row that never becomes
tight changes nothing, whether it takes part or not.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import ALLOWED, FLOOR, MOST, SAME, Flags, Floats, Indices, Ints
from controller.kernels.fill_sums import block_sum, row_sum

# Columns of `row` [K, 4] of the rows that take part: load = BASE + GAIN x level, limit less what keeps rounding below
# it, lower bound of the level at which it becomes tight (-1: is tight).
BASE, GAIN, LIMIT, KEY = range(4)
IN_HEAP, ACTIVE, STEPS = range(3)  # entries of `tally`: rows in the heap, gangs still rising, steps made
CHOSEN = 5  # and: rows in `number`, of which `live` holds the columns
SPARE = 4  # columns are made anew when more than a quarter of them are of no use
BEGIN, END = range(2)  # columns of `live` [B, 2]: entries of a block in live_row and live_coef
MARGIN = 3.0 * SAME  # of the limit: rows end below it by this, so that they hold in any order of summation


@njit(forceinline=True)
def can_rise(rack: Floats, block_of: Indices, live: Ints, r: int) -> bool:
    """Whether rack `r` can rise at all and loads a row that takes part."""
    return bool(rack[r, MOST] > rack[r, FLOOR] and live[block_of[r], BEGIN] < live[block_of[r], END])


@njit(cache=False)
def choose_rows(
    floor_w: Floats,
    most_w: Floats,
    number: Ints,
    row_start: Ints,
    row_block: Indices,
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

    `floor_w` and `most_w` [B] are the blocks at their floors and at the highest levels of their gangs. Last time's
    rows do if the wanted ones, with the same coefficients, are among them and they are not many more; else they stay
    beside the wanted ones, as what could bind comes and goes, unless that would be many more. Loads at the floors of
    all that were guessed are kept.
    """
    anew, wanted, had = False, 0, 0
    for k in range(len(limit_w)):
        lo, hi = row_start[k], row_start[k + 1]
        could[k] = False
        if guess[k]:
            low_w = row_sum(row_block, coef, lo, hi, floor_w)
            high_w = row_sum(row_block, coef, lo, hi, most_w)
            floor_load_w[k] = low_w
            could[k] = high_w > low_w and high_w > limit_w[k] + SAME * abs(limit_w[k])
        if could[k]:
            wanted += hi - lo
            anew |= not chosen[k]
        if chosen[k] or could[k]:
            had += hi - lo
        for e in range(lo, hi if chosen[k] else lo):
            anew |= coef[e] != chosen_coef[e]
    many = had > wanted + wanted // SPARE
    if not anew and not many:
        return False
    n = 0
    for k in range(len(limit_w)):
        chosen[k] = could[k] or (chosen[k] and not many)
        if chosen[k]:
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
    block_start: Ints,
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    limit_w: Floats,
    floor_load_w: Floats,
    could: Flags,
    touched: Ints,
    blocked: Ints,
    alive: int,
) -> None:
    """Limits of the chosen rows, none for one that cannot bind; racks under a row full from the start are blocked."""
    for n in range(alive):
        k = number[n]
        row[n, LIMIT], row[n, KEY], touched[n] = np.inf, 1.0, -1
        if not could[k]:
            continue
        limit, low_w = limit_w[k], floor_load_w[k]
        full = low_w >= limit - SAME * max(abs(limit), low_w)
        spare_w = 0.0 if full else min(MARGIN * abs(limit), 2.0 * ALLOWED * (limit - low_w))
        row[n, LIMIT], row[n, KEY] = limit - spare_w, -1.0 if full else 1.0
        for e in range(row_start[k], row_start[k + 1] if full else row_start[k]):
            if coef[e] > 0.0:
                for r in range(block_start[row_block[e]], block_start[row_block[e] + 1]):
                    if rack[r, MOST] > rack[r, FLOOR] and blocked[r] < 0:
                        blocked[r] = k


@njit(cache=False)
def set_columns(
    alive: int,
    number: Ints,
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
) -> None:
    """Columns of the chosen rows, by block."""
    live[:, END] = 0
    for n in range(alive):
        for e in range(row_start[number[n]], row_start[number[n] + 1]):
            live[row_block[e], END] += 1
    total = 0
    for b in range(len(live)):
        count = live[b, END]
        live[b, BEGIN], live[b, END] = total, total
        total += count
    for n in range(alive):
        for e in range(row_start[number[n]], row_start[number[n] + 1]):
            b, a = row_block[e], coef[e]
            if a > 0.0:
                at = live[b, END]
                live[b, END] = at + 1
                live_row[at], live_coef[at] = n, a


@njit(cache=False)
def touch_rows(
    rack: Floats,
    block_of: Indices,
    gang_start: Ints,
    gang_rack: Indices,
    live: Ints,
    live_row: Indices,
    touched: Ints,
    c: int,
    order: Ints,
    lo: int,
    hi: int,
) -> None:
    """Mark the rows that a rack of the gangs order[lo:hi] of class `c` can load further."""
    last = np.int64(-1)
    for i in range(lo, hi):
        g = order[i]
        for m in range(gang_start[g], gang_start[g + 1]):
            b = np.int64(block_of[gang_rack[m]])
            if b != last and can_rise(rack, block_of, live, gang_rack[m]):
                last = b
                for e in range(live[b, BEGIN], live[b, END]):
                    touched[live_row[e]] = c


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
    line_w: Floats,
    slope_w: Floats,
    row: Floats,
    heap: Ints,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    b: int,
    r: int,
    new_w: float,
    new_slope_w: float,
    x: float,
) -> None:
    """Give rack `r` of block `b`, at level `x`, a new line, and its rows with it."""
    d_line, d_slope = new_w - line_w[r], new_slope_w - slope_w[r]
    line_w[r], slope_w[r] = new_w, new_slope_w
    for e in range(live[b, BEGIN], live[b, END]):
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
    row: Floats, live: Ints, live_row: Indices, live_coef: Floats, b: int, d_w: float, d_slope_w: float
) -> None:
    """Move the lines of the rows of block `b`, whose racks stay where they are; keys are too early then, never late."""
    for e in range(live[b, BEGIN], live[b, END]):
        k, a = live_row[e], live_coef[e]
        row[k, BASE] += a * d_w
        row[k, GAIN] += a * d_slope_w


@njit(cache=False)
def close_row(
    line_w: Floats,
    slope_w: Floats,
    row: Floats,
    heap: Ints,
    tally: Ints,
    number: Ints,
    block_start: Ints,
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    x: float,
) -> bool:
    """Sum the row on top of the heap afresh; if it is tight take it out and return true, else put its key right."""
    k = heap[0, 0]
    base_w, gain = 0.0, 0.0
    for e in range(row_start[number[k]], row_start[number[k] + 1]):
        first, end = block_start[row_block[e]], block_start[row_block[e] + 1]
        base_w += coef[e] * block_sum(line_w, first, end)
        gain += coef[e] * block_sum(slope_w, first, end)
    load_w = base_w + gain * x
    row[k, BASE], row[k, GAIN] = base_w, gain
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
