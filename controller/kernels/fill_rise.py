"""The filling itself, compiled: rising gangs, closing rows.

Per row, load = BASE + GAIN x level while nothing changes, so the level at which it becomes tight is known; a heap
holds a lower bound of it (KEY, -1 once tight). An event changes one rack's line and touches only that rack's rows;
a key is renewed when the row would now be tight before it, and one that has become too early is put right when it
comes up.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import (
    AT_DEMAND,
    BASE,
    BINDING,
    CAP_RACK,
    CURVE,
    FLOOR,
    FROZEN,
    GAIN,
    GPU,
    HIGHEST,
    INVERSE,
    KEY,
    LEVEL,
    LIMIT,
    LINE,
    LOWEST,
    NUMBER,
    OTHER,
    SAME,
    SHARE,
    SLOPE,
    START,
    STATE,
    THROUGHPUT,
    TOP,
    Floats,
    Ints,
    power_at,
    segment,
)

BUCKETS = 4096  # of levels 0..1: events are sorted bucket by bucket, as far as the filling gets
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


@njit(cache=False)
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
def list_raw(
    rack: Floats,
    gang: Floats,
    knots: Floats,
    gang_start: Ints,
    gang_rack: Ints,
    live_start: Ints,
    order: Ints,
    lo: int,
    hi: int,
    raw_level: Floats,
    raw_what: Ints,
) -> int:
    """Events of the gangs order[lo:hi]: rack and segment at its first knot, or gang and -1 at its ceiling."""
    n = 0
    for i in range(lo, hi):
        g = order[i]
        highest = gang[g, HIGHEST]
        if highest < 1.0:
            raw_level[n], raw_what[n, 0], raw_what[n, 1] = highest, g, -1
            n += 1
        for m in range(gang_start[g], gang_start[g + 1]):
            r = gang_rack[m]
            if live_start[r] == live_start[r + 1]:
                continue
            c, level = int(rack[r, CURVE]), rack[r, START]
            j = segment(knots, c, max(0.0, rack[r, FLOOR] - rack[r, OTHER]) / rack[r, GPU], SHARE)
            while level < highest:
                raw_level[n], raw_what[n, 0], raw_what[n, 1] = level, r, j
                n += 1
                j += 1
                if knots[c, j + 1, SHARE] == np.inf:
                    break
                level = max(level, knots[c, j, THROUGHPUT] / rack[r, TOP])
    return n


@njit(cache=False)
def drop_in_buckets(n: int, raw_level: Floats, raw_what: Ints, level: Floats, what: Ints, bucket: Ints) -> None:
    """Put events into buckets of level, as listed; bucket b is bucket[b]:bucket[b + 1]."""
    bucket[:] = 0
    for i in range(n):
        bucket[int(raw_level[i] * (BUCKETS - 1)) + 2] += 1
    for b in range(2, BUCKETS + 2):
        bucket[b] += bucket[b - 1]
    for i in range(n):
        b = int(raw_level[i] * (BUCKETS - 1)) + 1
        at = bucket[b]
        bucket[b] = at + 1
        level[at], what[at, 0], what[at, 1] = raw_level[i], raw_what[i, 0], raw_what[i, 1]


@njit(cache=False)
def sort_bucket(level: Floats, what: Ints, lo: int, hi: int) -> None:
    """Order the events lo..hi by level, equal levels as listed."""
    if hi - lo > 48:
        by = np.argsort(level[lo:hi], kind="mergesort")
        old_level, old_what = level[lo:hi].copy(), what[lo:hi].copy()
        for i in range(hi - lo):
            level[lo + i], what[lo + i, 0], what[lo + i, 1] = old_level[by[i]], old_what[by[i], 0], old_what[by[i], 1]
        return
    for i in range(lo + 1, hi):
        at, a, b = level[i], what[i, 0], what[i, 1]
        j = i
        while j > lo and level[j - 1] > at:
            level[j], what[j, 0], what[j, 1] = level[j - 1], what[j - 1, 0], what[j - 1, 1]
            j -= 1
        level[j], what[j, 0], what[j, 1] = at, a, b


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


@njit(cache=False)
def rise(
    rack: Floats,
    gang: Floats,
    row: Floats,
    heap: Ints,
    tally: Ints,
    knots: Floats,
    gang_of: Ints,
    gang_start: Ints,
    gang_rack: Ints,
    row_start: Ints,
    row_rack: Ints,
    coef: Floats,
    live_start: Ints,
    live_row: Ints,
    live_coef: Floats,
    order: Ints,
    lo: int,
    hi: int,
    n: int,
    event_level: Floats,
    event_what: Ints,
    bucket: Ints,
    most_steps: int,
) -> None:
    """Fill one class, the gangs order[lo:hi]: the next thing to happen is a row becoming tight or an event."""
    i, ordered, b = 0, 0, 0
    tally[ACTIVE] = hi - lo
    for m in range(lo, hi):
        if gang[order[m], LOWEST] >= 1.0:
            freeze(
                rack,
                gang,
                row,
                heap,
                tally,
                knots,
                gang_start,
                gang_rack,
                live_start,
                live_row,
                live_coef,
                order[m],
                1.0,
                AT_DEMAND,
            )
    while tally[ACTIVE] > 0 and tally[STEPS] < most_steps:
        tally[STEPS] += 1
        if i == ordered and i < n:
            while bucket[b + 1] <= i:
                b += 1
            ordered = bucket[b + 1]
            sort_bucket(event_level, event_what, i, ordered)
        next_event = event_level[i] if i < n else 1.0
        key = row[heap[0, 0], KEY] if tally[IN_HEAP] > 0 else 1.0
        if key < 1.0 and key <= next_event:
            k = heap[0, 0]
            tight = (row[k, LIMIT] - row[k, BASE]) / row[k, GAIN] if row[k, GAIN] > 0.0 else 1.0
            if tight > key:
                row[k, KEY] = min(1.0, tight)
                sift_down(row, heap, tally[IN_HEAP])
            elif close_row(rack, row, heap, tally, row_start, row_rack, coef, key):
                number = int(row[k, NUMBER])
                for e in range(row_start[number], row_start[number + 1]):
                    r = row_rack[e]
                    if rack[r, SLOPE] > 0.0 and coef[e] > 0.0:
                        freeze(
                            rack,
                            gang,
                            row,
                            heap,
                            tally,
                            knots,
                            gang_start,
                            gang_rack,
                            live_start,
                            live_row,
                            live_coef,
                            gang_of[r],
                            key,
                            row[k, NUMBER],
                        )
            continue
        if i >= n:
            break
        a, j = event_what[i, 0], event_what[i, 1]
        i += 1
        g, binding = (a, -2.0 - gang[a, CAP_RACK]) if j < 0 else (gang_of[a], AT_DEMAND)
        if gang[g, STATE] == FROZEN:
            continue
        if j >= 0 and rack[a, SLOPE] == 0.0:
            binding = tight_row(row, live_start, live_row, a)
        if binding != AT_DEMAND:
            freeze(
                rack,
                gang,
                row,
                heap,
                tally,
                knots,
                gang_start,
                gang_rack,
                live_start,
                live_row,
                live_coef,
                g,
                next_event,
                binding,
            )
            continue
        c = int(rack[a, CURVE])
        slope = knots[c, j, INVERSE]
        line_w = rack[a, OTHER] + rack[a, GPU] * (knots[c, j, SHARE] - knots[c, j, THROUGHPUT] * slope)
        move(
            rack, row, heap, live_start, live_row, live_coef, a, line_w, rack[a, GPU] * slope * rack[a, TOP], next_event
        )
    for m in range(lo, hi):
        freeze(
            rack,
            gang,
            row,
            heap,
            tally,
            knots,
            gang_start,
            gang_rack,
            live_start,
            live_row,
            live_coef,
            order[m],
            1.0,
            AT_DEMAND,
        )
