"""The filling itself, compiled: rising gangs, closing rows.

Per row, load = BASE + GAIN x level while nothing changes, so the level at which it becomes tight is known; a heap
holds a lower bound of it (KEY, -1 once tight). An event changes one rack's line and touches only that rack's rows;
a key is renewed when the row would now be tight before it, and one that has become too early is put right when it
comes up.
"""

import numpy as np
from numba import njit

from controller.kernels.fill_setup import (
    ACTIVE,
    ALIVE,
    AT_DEMAND,
    BASE,
    BUCKETS,
    FLOOR,
    FROZEN,
    GAIN,
    GPU,
    HEAP,
    KEY,
    LIMIT,
    LINE,
    OTHER,
    SAME,
    SLOPE,
    START,
    STEPS,
    TOP,
    Work,
    power_at,
    segment,
)


@njit(cache=False)
def sift_up(w: Work, i: int) -> None:
    """Move entry `i` of the heap up to its place."""
    k = w.heap[i]
    key = w.row[k, KEY]
    while i > 0:
        parent = (i - 1) >> 1
        if w.row[w.heap[parent], KEY] <= key:
            break
        w.heap[i] = w.heap[parent]
        w.where[w.heap[i]] = i
        i = parent
    w.heap[i] = k
    w.where[k] = i


@njit(cache=False)
def sift_down(w: Work, i: int) -> None:
    """Move entry `i` of the heap down to its place."""
    n = w.tally[HEAP]
    k = w.heap[i]
    key = w.row[k, KEY]
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and w.row[w.heap[child + 1], KEY] < w.row[w.heap[child], KEY]:
            child += 1
        if w.row[w.heap[child], KEY] >= key:
            break
        w.heap[i] = w.heap[child]
        w.where[w.heap[i]] = i
        i = child
    w.heap[i] = k
    w.where[k] = i


@njit(cache=False)
def move(w: Work, r: int, line_w: float, slope_w: float, x: float) -> None:
    """Give rack `r` a new line, and its rows with it."""
    d_line, d_slope = line_w - w.rack[r, LINE], slope_w - w.rack[r, SLOPE]
    w.rack[r, LINE], w.rack[r, SLOPE] = line_w, slope_w
    for e in range(w.live_start[r], w.live_start[r + 1]):
        k, a = w.live_row[e], w.live_coef[e]
        base = w.row[k, BASE] + a * d_line
        gain = w.row[k, GAIN] + a * d_slope
        w.row[k, BASE], w.row[k, GAIN] = base, gain
        if d_slope > 0.0 and base + gain * w.row[k, KEY] > w.row[k, LIMIT]:
            tight = (w.row[k, LIMIT] - base) / gain if gain > 0.0 else x
            w.row[k, KEY] = min(max(tight, x), w.row[k, KEY])
            sift_up(w, w.where[k])


@njit(cache=False)
def freeze(w: Work, g: int, x: float, binding: int) -> None:
    """Stop gang `g` at level `x` for good."""
    if w.state[g] == FROZEN:
        return
    w.state[g], w.level[g], w.binding[g] = FROZEN, x, binding
    w.tally[ACTIVE] -= 1
    for i in range(w.gang_start[g], w.gang_start[g + 1]):
        r = w.gang_rack[i]
        move(w, r, power_at(w, r, x), 0.0, x)


@njit(cache=False)
def close_row(w: Work, k: int, x: float) -> None:
    """Row on top of the heap: sum it afresh, and if it is tight freeze every gang that still raises it."""
    full = w.row_id[k]
    load_w, gain = 0.0, 0.0
    for e in range(w.row_start[full], w.row_start[full + 1]):
        r = w.row_rack[e]
        load_w += w.coef[e] * (w.rack[r, LINE] + w.rack[r, SLOPE] * x)
        gain += w.coef[e] * w.rack[r, SLOPE]
    w.row[k, BASE], w.row[k, GAIN] = load_w - gain * x, gain
    room_w = w.row[k, LIMIT] - load_w
    scale_w = max(abs(w.row[k, LIMIT]), load_w)
    if gain <= 0.0 or (room_w > SAME * scale_w and room_w > SAME * gain):
        w.row[k, KEY] = 1.0 if gain <= 0.0 else min(1.0, x + room_w / gain)
        sift_down(w, 0)
        return
    w.row[k, KEY] = -1.0
    last = w.tally[HEAP] - 1
    w.tally[HEAP] = last
    w.heap[0] = w.heap[last]
    w.where[k] = -1
    if last > 0:
        sift_down(w, 0)
    for e in range(w.row_start[full], w.row_start[full + 1]):
        r = w.row_rack[e]
        if w.rack[r, SLOPE] > 0.0 and w.coef[e] > 0.0:
            freeze(w, w.gang_of[r], x, full)


@njit(cache=False)
def list_events(w: Work, lo: int, hi: int) -> int:
    """Events of the gangs order[lo:hi], by bucket of level; the number of events."""
    n = 0
    w.bucket[:] = 0
    for i in range(lo, hi):
        g = w.order[i]
        cap = w.gang_cap[g]
        if cap < 1.0:
            w.raw_level[n], w.raw_what[n, 0], w.raw_what[n, 1] = cap, g, -1
            n += 1
        for m in range(w.gang_start[g], w.gang_start[g + 1]):
            r = w.gang_rack[m]
            if w.live_start[r] == w.live_start[r + 1]:
                continue
            c, level = w.curve[r], w.rack[r, START]
            j = segment(w, c, max(0.0, w.rack[r, FLOOR] - w.rack[r, OTHER]) / w.rack[r, GPU], 0)
            while level < cap:
                w.raw_level[n], w.raw_what[n, 0], w.raw_what[n, 1] = level, r, j
                n += 1
                j += 1
                if j > w.n_knots[c] - 2:
                    break
                level = max(level, w.knots[c, j, 1] / w.rack[r, TOP])
    for i in range(n):
        w.bucket[int(w.raw_level[i] * (BUCKETS - 1)) + 2] += 1
    for b in range(2, BUCKETS + 2):
        w.bucket[b] += w.bucket[b - 1]
    for i in range(n):
        b = int(w.raw_level[i] * (BUCKETS - 1)) + 1
        at = w.bucket[b]
        w.bucket[b] = at + 1
        w.event_level[at], w.event_what[at, 0], w.event_what[at, 1] = w.raw_level[i], w.raw_what[i, 0], w.raw_what[i, 1]
    return n


@njit(cache=False)
def sort_bucket(w: Work, lo: int, hi: int) -> None:
    """Order the events lo..hi by level, equal levels as listed."""
    if hi - lo > 48:
        by = np.argsort(w.event_level[lo:hi], kind="mergesort")
        level, what = w.event_level[lo:hi].copy(), w.event_what[lo:hi].copy()
        for i in range(hi - lo):
            w.event_level[lo + i] = level[by[i]]
            w.event_what[lo + i, 0], w.event_what[lo + i, 1] = what[by[i], 0], what[by[i], 1]
        return
    for i in range(lo + 1, hi):
        level, a, b = w.event_level[i], w.event_what[i, 0], w.event_what[i, 1]
        j = i
        while j > lo and w.event_level[j - 1] > level:
            w.event_level[j] = w.event_level[j - 1]
            w.event_what[j, 0], w.event_what[j, 1] = w.event_what[j - 1, 0], w.event_what[j - 1, 1]
            j -= 1
        w.event_level[j], w.event_what[j, 0], w.event_what[j, 1] = level, a, b


@njit(cache=False)
def turn(w: Work, r: int, j: int, x: float) -> None:
    """Rack `r` enters segment `j` at level `x`; if it leaves its floor under a tight row, its gang freezes."""
    g = w.gang_of[r]
    if w.state[g] == FROZEN:
        return
    if w.rack[r, SLOPE] == 0.0:
        for e in range(w.live_start[r], w.live_start[r + 1]):
            if w.row[w.live_row[e], KEY] < 0.0:
                freeze(w, g, x, w.row_id[w.live_row[e]])
                return
    c = w.curve[r]
    slope = w.knots[c, j, 2]
    line_w = w.rack[r, OTHER] + w.rack[r, GPU] * (w.knots[c, j, 0] - w.knots[c, j, 1] * slope)
    move(w, r, line_w, w.rack[r, GPU] * slope * w.rack[r, TOP], x)


@njit(cache=False)
def start_class(w: Work, lo: int, hi: int) -> int:
    """Heap and events for the gangs order[lo:hi], everything else at rest; the number of events."""
    n = 0
    for k in range(w.tally[ALIVE]):
        w.row[k, GAIN] = 0.0
        if w.row[k, KEY] >= 0.0:
            w.row[k, KEY] = 1.0
            w.heap[n], w.where[k] = k, n
            n += 1
    w.tally[HEAP], w.tally[ACTIVE] = n, hi - lo
    for i in range(lo, hi):
        if w.gang_floor[w.order[i]] >= 1.0:
            freeze(w, w.order[i], 1.0, AT_DEMAND)
    return list_events(w, lo, hi)


@njit(cache=False)
def rise(w: Work, lo: int, hi: int, most_steps: int) -> None:
    """Fill one class, the gangs order[lo:hi]: the next thing to happen is a row becoming tight or an event."""
    n = start_class(w, lo, hi)
    i, ordered, b, x = 0, 0, 0, 0.0
    while w.tally[ACTIVE] > 0 and w.tally[STEPS] < most_steps:
        w.tally[STEPS] += 1
        if i == ordered and i < n:
            while w.bucket[b + 1] <= i:
                b += 1
            ordered = w.bucket[b + 1]
            sort_bucket(w, i, ordered)
        next_event = w.event_level[i] if i < n else 1.0
        key = w.row[w.heap[0], KEY] if w.tally[HEAP] > 0 else 1.0
        if key < 1.0 and key <= next_event:
            k = w.heap[0]
            gain = w.row[k, GAIN]
            tight = (w.row[k, LIMIT] - w.row[k, BASE]) / gain if gain > 0.0 else 1.0
            if tight > key:
                w.row[k, KEY] = min(1.0, tight)
                sift_down(w, 0)
            else:
                x = key
                close_row(w, k, x)
        elif i < n:
            x = next_event
            a, j = w.event_what[i, 0], w.event_what[i, 1]
            i += 1
            if j >= 0:
                turn(w, a, j, x)
            else:
                freeze(w, a, x, -2 - w.cap_rack[a])
        else:
            break
    for i in range(lo, hi):
        freeze(w, w.order[i], 1.0, AT_DEMAND)
