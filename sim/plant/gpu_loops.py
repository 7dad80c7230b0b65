"""What is done to every GPU of a rack, in single precision and many at once: heat, speed under a limit, power.

Indices are unsigned: one that might be negative keeps a loop from running over many at once.
"""

import numpy as np
from numpy.typing import NDArray

from sim.plant.base import INSIDE, LOOP
from sim.plant.jobs import LEAST_FREQUENCY, WAIT_SHARE
from sim.plant.lanes import larger, smaller

LEAK_PER_K = 0.001  # of a GPU's power, a kelvin: a tenth of it leaks, 1 % more of that a kelvin; assumed
LEAK_LEAN = 2.0  # a GPU that wants 1 % more than its rack's mean leaks 2 % more; assumed
THROTTLE_C, SHUTDOWN_C = 89.0, 95.0  # FACTS C.2
Float32s = NDArray[np.float32]
F0, F1, TINY = np.float32(0.0), np.float32(1.0), np.float32(1e-6)
LEAK, LEAN = np.float32(LEAK_PER_K), np.float32(LEAK_LEAN)
PER_K = np.float32(1.0 / (SHUTDOWN_C - THROTTLE_C))
LEAST_SQUARE = np.float32(LEAST_FREQUENCY**2)


@INSIDE
def wish_at(wish: np.float32, over_k: np.float32) -> np.float32:
    """What a GPU wants at `over_k` over its rack's design temperature."""
    return wish * (F1 + LEAK * (F1 + LEAN * (wish - F1)) * over_k)


@LOOP
def heat_gpus(
    first: int, end: int, wish: Float32s, plate: Float32s, above: Float32s, draw: Float32s, bound: bool, watt: float,
    mean_w: float, lean: float, g_w_k: float, lift_k: float, even_w: float, dt_jk: float, pull: float, was_k: float,
    now_k: float,
) -> tuple[float, float, float, float, float]:  # fmt: skip
    """Step the distances of a rack's GPUs from their mean (trapezoid rule); sums of distances, of distance times
    conductance and of demands, and the largest distance and demand.

    `watt` turns what they draw into W, `lean` W of a GPU into the lump's; `lift_k` is the lump over its coolant,
    `even_w` its heat through the plates a GPU, `dt_jk` the time over the heat capacity of one; `was_k` and `now_k`
    are the mean over the design temperature at the last look and at this. `pull` is half of `dt_jk`, or all of it
    where a plate holds so little heat that it is at rest at once.
    """
    f_mean, f_lean, f_g, f_lift = np.float32(mean_w), np.float32(lean), np.float32(g_w_k), np.float32(lift_k)
    f_even, f_was, f_now = np.float32(even_w), np.float32(was_k), np.float32(now_k)
    f_dt, f_pull = np.float32(dt_jk), np.float32(pull)
    by_draw, by_wish = np.float32(watt if bound else 0.0), np.float32(0.0 if bound else watt)
    total, flow, wants, top, most = F0, F0, F0, np.float32(-1e9), F0
    for k in range(np.uint64(first), np.uint64(end)):
        old = above[k]
        power = by_draw * draw[k] + by_wish * wish_at(wish[k], f_was + old)
        g_k = f_g * plate[k]
        rate = (power - f_mean) * f_lean - g_k * (f_lift + old) + f_even
        new = old + f_dt * rate / (F1 + f_pull * g_k)
        above[k] = new
        total += new
        flow += new * plate[k]
        top = larger(top, new)
        wanted = wish_at(wish[k], f_now + new)
        wants += wanted
        most = larger(most, wanted)
    return float(total), float(flow), float(wants), float(top), float(most)


@LOOP
def speed_gpus(
    first: int, end: int, wish: Float32s, above: Float32s, off: Float32s, some_off: float, limit: Float32s,
    draw: Float32s, even_w: float, scale: float, full_w: float, static: float, compute: float, room_w: float,
    least_w: float, throttle_k: float, over_k: float,
) -> tuple[float, float]:  # fmt: skip
    """Speed of each GPU under its limit, left in `draw`; the slowest and the sum of those that are on."""
    f_even, f_scale, f_full, f_least = np.float32(even_w), np.float32(scale), np.float32(full_w), np.float32(least_w)
    f_static, f_room, f_hot = np.float32(static), np.float32(room_w), np.float32(throttle_k)
    gain, a, rest = np.float32(1.0 / (1.0 - static)), np.float32(compute), np.float32(1.0 - compute)
    f_off, f_over = np.float32(some_off), np.float32(over_k)
    slowest, total = F1, F0
    for k in range(np.uint64(first), np.uint64(end)):
        cool = smaller(F1, larger(F0, F1 - (above[k] - f_hot) * PER_K))
        lim = smaller(f_even + f_scale * limit[k], f_least + f_room * cool)
        share = lim / (f_full * wish_at(wish[k], f_over + above[k]))
        f = np.sqrt(larger((share - f_static) * gain, LEAST_SQUARE))
        dark = f_off * off[k]
        speed = smaller(F1, f / (a + rest * f)) * (F1 - dark)
        draw[k] = speed
        slowest = smaller(slowest, speed + dark)
        total += speed
    return float(slowest), float(total)


@LOOP
def draw_gpus(
    first: int, end: int, wish: Float32s, above: Float32s, off: Float32s, some_off: float, limit: Float32s,
    draw: Float32s, even_w: float, scale: float, now_w: float, base_w: float, slowest: float, room_w: float,
    least_w: float, throttle_k: float, over_k: float,
) -> float:  # fmt: skip
    """Power of each GPU, whose speed stands in `draw`, left there; their sum [W]. A `slowest` of 0: nobody waits."""
    f_even, f_scale, f_now, f_least = np.float32(even_w), np.float32(scale), np.float32(now_w), np.float32(least_w)
    f_base, f_room, f_hot = np.float32(base_w), np.float32(room_w), np.float32(throttle_k)
    f_slow, f_off, f_over = np.float32(slowest), np.float32(some_off), np.float32(over_k)
    share, waits = np.float32(WAIT_SHARE), np.float32(1.0 if slowest > 0.0 else 0.0)
    total = F0
    for k in range(np.uint64(first), np.uint64(end)):
        cool = smaller(F1, larger(F0, F1 - (above[k] - f_hot) * PER_K))
        lim = smaller(f_even + f_scale * limit[k], f_least + f_room * cool)
        full = f_now * wish_at(wish[k], f_over + above[k])
        most = f_base + smaller(full, lim)
        idle = waits * (most - smaller(most, share * (f_base + full)))  # less than it runs at while it waits
        power = most - f_base - idle * (F1 - f_slow / larger(draw[k], TINY))
        power = larger(power, F0) * (F1 - f_off * off[k])
        draw[k] = power
        total += power
    return float(total)
