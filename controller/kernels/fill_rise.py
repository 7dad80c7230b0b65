"""The filling of one class, compiled: what happens next is a row becoming tight or an event."""

from numba import njit

from controller.kernels.fill_events import sort_bucket
from controller.kernels.fill_rows import (
    ACTIVE,
    BASE,
    GAIN,
    IN_HEAP,
    KEY,
    LIMIT,
    STEPS,
    close_row,
    flatten,
    sift_down,
    steepen,
)
from controller.kernels.fill_setup import (
    AT_DEMAND,
    BINDING,
    CAP_RACK,
    FROZEN,
    GPU,
    INVERSE,
    LEVEL,
    OTHER,
    SAME,
    SHARE,
    STATE,
    THROUGHPUT,
    TOP,
    Floats,
    Indices,
    Ints,
    power_at,
)


@njit(cache=False)
def flatten_gang(
    rack: Floats,
    line_w: Floats,
    slope_w: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    knots: Floats,
    block_of: Indices,
    gang_start: Ints,
    gang_rack: Indices,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    g: int,
) -> None:
    """The racks of a gang just frozen stay where they are; those at their floors do already."""
    d_w, d_slope_w = 0.0, 0.0
    for i in range(gang_start[g], gang_start[g + 1]):
        r = gang_rack[i]
        if slope_w[r] > 0.0:
            power_w = power_at(rack, curve, knots, r, gang[g, LEVEL])
            d_w += power_w - line_w[r]
            d_slope_w -= slope_w[r]
            line_w[r], slope_w[r] = power_w, 0.0
        if i + 1 == gang_start[g + 1] or block_of[gang_rack[i + 1]] != block_of[r]:
            if d_slope_w < 0.0:
                flatten(row, live, live_row, live_coef, block_of[r], d_w, d_slope_w)
            d_w, d_slope_w = 0.0, 0.0


@njit(cache=False)
def freeze_under(
    slope_w: Floats,
    gang: Floats,
    tally: Ints,
    gang_of: Ints,
    block_start: Ints,
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    blocked: Ints,
    stopped: Ints,
    k: int,
    x: float,
) -> int:
    """Freeze at level `x` every gang that would load the tight row `k` further; `stopped` lists them, how many.

    The other racks of the row stop their gangs when they leave their floors.
    """
    n = 0
    for e in range(row_start[k], row_start[k + 1]):
        if coef[e] <= 0.0:
            continue
        for r in range(block_start[row_block[e]], block_start[row_block[e] + 1]):
            g = gang_of[r]
            if gang[g, STATE] == FROZEN:
                continue
            if blocked[r] < 0:
                blocked[r] = k
            if slope_w[r] > 0.0:
                gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = FROZEN, x, k
                stopped[n] = g
                n += 1
    tally[ACTIVE] -= n
    return n


@njit(forceinline=True)
def next_row(
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
    key: float,
) -> int:
    """Treat the row on top of the heap, whose key is `key`: its number if it is tight now, else -1 and a later key."""
    k = heap[0, 0]
    tight = (row[k, LIMIT] - row[k, BASE]) / row[k, GAIN] if row[k, GAIN] > 0.0 else 1.0
    if tight > key:
        row[k, KEY] = min(1.0, tight)
        sift_down(row, heap, tally[IN_HEAP])
        return -1
    tight_now = close_row(line_w, slope_w, row, heap, tally, number, block_start, row_start, row_block, coef, key)
    return int(number[k]) if tight_now else -1


@njit(forceinline=True)
def next_event(
    rack: Floats,
    line_w: Floats,
    slope_w: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    heap: Ints,
    knots: Floats,
    gang_of: Ints,
    block_of: Indices,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    blocked: Ints,
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
    if blocked[a] >= 0:
        return float(blocked[a])
    c = curve[a]
    slope = knots[c, j, INVERSE]
    new_w = rack[a, OTHER] + rack[a, GPU] * (knots[c, j, SHARE] - knots[c, j, THROUGHPUT] * slope)
    new_slope_w = rack[a, GPU] * slope * rack[a, TOP]
    b = block_of[a]
    steepen(line_w, slope_w, row, heap, live, live_row, live_coef, b, a, new_w, new_slope_w, x)
    return AT_DEMAND


@njit(cache=False)
def rise(
    rack: Floats,
    line_w: Floats,
    slope_w: Floats,
    curve: Ints,
    gang: Floats,
    row: Floats,
    heap: Ints,
    tally: Ints,
    knots: Floats,
    gang_of: Ints,
    block_of: Indices,
    gang_start: Ints,
    gang_rack: Indices,
    number: Ints,
    block_start: Ints,
    row_start: Ints,
    row_block: Indices,
    coef: Floats,
    live: Ints,
    live_row: Indices,
    live_coef: Floats,
    blocked: Ints,
    stopped: Ints,
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
        frozen = 0
        if key < 1.0 - SAME and key <= x:  # a row full at the demands binds nobody
            k = next_row(line_w, slope_w, row, heap, tally, number, block_start, row_start, row_block, coef, key)
            if k >= 0:
                frozen = freeze_under(
                    slope_w, gang, tally, gang_of, block_start, row_start, row_block, coef, blocked, stopped, k, key
                )
        elif i < n:
            a, j = event_what[i, 0], event_what[i, 1]
            i += 1
            binding = next_event(
                rack,
                line_w,
                slope_w,
                curve,
                gang,
                row,
                heap,
                knots,
                gang_of,
                block_of,
                live,
                live_row,
                live_coef,
                blocked,
                a,
                j,
                x,
            )
            g = a if j < 0 else gang_of[a]
            if binding != AT_DEMAND and gang[g, STATE] != FROZEN:
                gang[g, STATE], gang[g, LEVEL], gang[g, BINDING] = FROZEN, x, binding
                stopped[0], frozen = g, 1
                tally[ACTIVE] -= 1
        else:
            break
        if tally[ACTIVE] > 0:  # else the rows are summed afresh before they are needed
            for m in range(frozen):
                flatten_gang(
                    rack,
                    line_w,
                    slope_w,
                    curve,
                    gang,
                    row,
                    knots,
                    block_of,
                    gang_start,
                    gang_rack,
                    live,
                    live_row,
                    live_coef,
                    stopped[m],
                )
