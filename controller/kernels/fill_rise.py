"""The filling of one class, compiled: what happens next is a row becoming tight or an event."""

from numba import njit

from controller.kernels.fill_events import sort_bucket
from controller.kernels.fill_rows import ACTIVE, IN_HEAP, STEPS, close_row, freeze, move, sift_down, tight_row
from controller.kernels.fill_setup import (
    AT_DEMAND,
    BASE,
    CAP_RACK,
    CURVE,
    FROZEN,
    GAIN,
    GPU,
    INVERSE,
    KEY,
    LIMIT,
    LOWEST,
    NUMBER,
    OTHER,
    SAME,
    SHARE,
    SLOPE,
    STATE,
    THROUGHPUT,
    TOP,
    Floats,
    Ints,
)


@njit(inline="always")
def next_row(
    rack: Floats,
    row: Floats,
    heap: Ints,
    tally: Ints,
    row_start: Ints,
    row_rack: Ints,
    coef: Floats,
    key: float,
) -> int:
    """Treat the row on top of the heap, whose key is `key`: itself if it is tight now, else -1 and a later key."""
    k = heap[0, 0]
    tight = (row[k, LIMIT] - row[k, BASE]) / row[k, GAIN] if row[k, GAIN] > 0.0 else 1.0
    if tight > key:
        row[k, KEY] = min(1.0, tight)
        sift_down(row, heap, tally[IN_HEAP])
        return -1
    return int(k) if close_row(rack, row, heap, tally, row_start, row_rack, coef, key) else -1


@njit(inline="always")
def next_event(
    rack: Floats,
    gang: Floats,
    row: Floats,
    heap: Ints,
    knots: Floats,
    gang_of: Ints,
    live_start: Ints,
    live_row: Ints,
    live_coef: Floats,
    a: int,
    j: int,
    x: float,
) -> float:
    """Let an event happen at level `x`; what freezes its gang, AT_DEMAND if nothing does.

    Rack `a` enters segment `j`: when it leaves its floor under a tight row its gang freezes. Gang `a` meets a ceiling
    when `j` is -1.
    """
    if j < 0:
        return float(-2.0 - gang[a, CAP_RACK])
    if gang[gang_of[a], STATE] == FROZEN:
        return AT_DEMAND
    if rack[a, SLOPE] == 0.0:
        tight = tight_row(row, live_start, live_row, a)
        if tight != AT_DEMAND:
            return tight
    c = int(rack[a, CURVE])
    slope = knots[c, j, INVERSE]
    line_w = rack[a, OTHER] + rack[a, GPU] * (knots[c, j, SHARE] - knots[c, j, THROUGHPUT] * slope)
    move(rack, row, heap, live_start, live_row, live_coef, a, line_w, rack[a, GPU] * slope * rack[a, TOP], x)
    return AT_DEMAND


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
    n: int,
    event_level: Floats,
    event_what: Ints,
    bucket: Ints,
    most_steps: int,
) -> None:
    """Raise the gangs of `n` events until `tally[ACTIVE]` of them are frozen or nothing is left to happen."""
    i, ordered, b = 0, 0, 0
    while tally[ACTIVE] > 0 and tally[STEPS] < most_steps:
        tally[STEPS] += 1
        if i == ordered and i < n:
            while bucket[b + 1] <= i:
                b += 1
            ordered = bucket[b + 1]
            sort_bucket(event_level, event_what, i, ordered)
        x = event_level[i] if i < n else 1.0
        key = row[heap[0, 0], KEY] if tally[IN_HEAP] > 0 else 1.0
        k, g, first, end, level, binding = -1, 0, 0, 0, x, AT_DEMAND
        if key < 1.0 - SAME and key <= x:  # a row full at the demands binds nobody
            k = next_row(rack, row, heap, tally, row_start, row_rack, coef, key)
            if k >= 0:
                number = int(row[k, NUMBER])
                first, end, level, binding = row_start[number], row_start[number + 1], key, float(number)
        elif i < n:
            a, j = event_what[i, 0], event_what[i, 1]
            i += 1
            binding = next_event(rack, gang, row, heap, knots, gang_of, live_start, live_row, live_coef, a, j, x)
            if binding != AT_DEMAND:
                g, end = a if j < 0 else gang_of[a], 1
        else:
            break
        for e in range(first, end):
            if k >= 0:  # every gang with a rack that would load the row further
                r = row_rack[e]
                if rack[r, SLOPE] <= 0.0 or coef[e] <= 0.0:
                    continue
                g = gang_of[r]
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
                level,
                binding,
            )


@njit(cache=False)
def end_gangs(
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
    order: Ints,
    lo: int,
    hi: int,
    least: float,
) -> None:
    """Put at its demand every gang of order[lo:hi] that is still free and whose floor is at level `least` or above."""
    for i in range(lo, hi):
        if gang[order[i], LOWEST] >= least:
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
                order[i],
                1.0,
                AT_DEMAND,
            )
