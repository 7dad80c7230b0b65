"""Rows of the filling, compiled: their loads, and a heap of the levels at which they become tight.

Per row, load = BASE + GAIN x level while nothing changes, so the level at which it becomes tight is known; a heap
holds a lower bound of it (KEY, -1 once tight). An event changes one rack's line and touches only that rack's rows;
a key is renewed when the row would now be tight before it, and one that has become too early is put right when it
comes up.
"""

from numba import njit

from controller.kernels.fill_setup import (
    AT_DEMAND,
    BASE,
    BINDING,
    FROZEN,
    GAIN,
    KEY,
    LEVEL,
    LIMIT,
    LINE,
    NUMBER,
    SAME,
    SLOPE,
    STATE,
    Floats,
    Ints,
    power_at,
)

IN_HEAP, ACTIVE, STEPS = range(3)  # entries of `tally`: rows in the heap, gangs still rising, steps made


@njit(cache=False)
def sift_up(row: Floats, heap: Ints, i: int) -> None:
    """Move entry `i` of the heap up to its place; heap[0] are rows by place, heap[1] places by row."""
    k = heap[0, i]
    key = row[k, KEY]
    while i > 0:
        parent = (i - 1) >> 1
        other = heap[0, parent]
        if row[other, KEY] <= key:
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
        if child + 1 < n and row[heap[0, child + 1], KEY] < row[heap[0, child], KEY]:
            child += 1
        other = heap[0, child]
        if row[other, KEY] >= key:
            break
        heap[0, i], heap[1, other] = other, i
        i = child
    heap[0, i], heap[1, k] = k, i


@njit(inline="always")  # called for every event: as a call it costs more than its work
def move(
    rack: Floats,
    row: Floats,
    heap: Ints,
    live_start: Ints,
    live_row: Ints,
    live_coef: Floats,
    r: int,
    line_w: float,
    slope_w: float,
    x: float,
) -> None:
    """Give rack `r` a new line, and its rows with it."""
    d_line, d_slope = line_w - rack[r, LINE], slope_w - rack[r, SLOPE]
    rack[r, LINE], rack[r, SLOPE] = line_w, slope_w
    for e in range(live_start[r], live_start[r + 1]):
        k, a = live_row[e], live_coef[e]
        base = row[k, BASE] + a * d_line
        gain = row[k, GAIN] + a * d_slope
        row[k, BASE], row[k, GAIN] = base, gain
        if d_slope > 0.0 and base + gain * row[k, KEY] > row[k, LIMIT]:
            tight = (row[k, LIMIT] - base) / gain if gain > 0.0 else x
            row[k, KEY] = min(max(tight, x), row[k, KEY])
            sift_up(row, heap, heap[1, k])


@njit(cache=False)
def freeze(
    rack: Floats,
    gang: Floats,
    row: Floats,
    heap: Ints,
    tally: Ints,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Ints,
    live_start: Ints,
    live_row: Ints,
    live_coef: Floats,
    g: int,
    x: float,
    binding: float,
) -> None:
    """Stop gang `g` at level `x` for good."""
    if gang[g, STATE] == FROZEN:
        return
    gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = FROZEN, x, binding
    tally[ACTIVE] -= 1
    for i in range(gang_start[g], gang_start[g + 1]):
        r = gang_rack[i]
        move(rack, row, heap, live_start, live_row, live_coef, r, power_at(rack, knots, r, x), 0.0, x)


@njit(cache=False)
def close_row(
    rack: Floats, row: Floats, heap: Ints, tally: Ints, row_start: Ints, row_rack: Ints, coef: Floats, x: float
) -> bool:
    """Sum the row on top of the heap afresh; if it is tight take it out and return true, else put its key right."""
    k = heap[0, 0]
    number = int(row[k, NUMBER])
    load_w, gain = 0.0, 0.0
    for e in range(row_start[number], row_start[number + 1]):
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
def tight_row(row: Floats, live_start: Ints, live_row: Ints, r: int) -> float:
    """Number of a tight row that rack `r` is in, or AT_DEMAND when there is none."""
    for e in range(live_start[r], live_start[r + 1]):
        if row[live_row[e], KEY] < 0.0:
            return float(row[live_row[e], NUMBER])
    return AT_DEMAND


@njit(cache=False)
def start_class(row: Floats, alive: int, heap: Ints, tally: Ints) -> None:
    """Nothing rises yet: every row that is not tight into the heap."""
    n = 0
    for k in range(alive):
        row[k, GAIN] = 0.0
        if row[k, KEY] >= 0.0:
            row[k, KEY] = 1.0
            heap[0, n], heap[1, k] = k, n
            n += 1
    tally[IN_HEAP] = n
