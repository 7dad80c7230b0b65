"""GPUs one by one: what each wants, what it may have, how hot it is, and what its own protection does about it.

A rack's silicon is one lump in thermal.py, stepped at DT_S; here each GPU keeps its distance from that mean. The
plates hang in parallel on one coolant, so mean and distances together are each GPU's own RC circuit, and as the
distances sum to zero the lump holds all of the heat: energy stays exact however rarely the GPUs are looked at. They
are looked at every LOOK_STEPS (1 s, for time constants of about 12 s: 300 J/K through 0.04 K/W), a quarter of the
racks each step, and at once where a limit that binds moves or a GPU is hot. Distances are float32: 1e-7 of a few K.

Demand grows with temperature (leakage; nearly linear over the working range: Liu et al., DATE 2007,
doi 10.1109/DATE.2007.364517; seen on GPUs: Price et al., arXiv 1407.8116). Under a cap leakage takes from the clock.
Without caps of their own the agent shares its rack's cap out equally. A training rack is as fast as its slowest GPU
and the others wait for it; GPUs that serve share the load, so the rack's speed is their mean. All of it ends in two
figures per rack, its speed and the most that it draws running at that speed, which is all that jobs.py takes.
"""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from sim.plant.base import DT_S, INSIDE, KERNEL, Bools
from sim.plant.gpu_loops import (
    F0,
    F1,
    LEAK_LEAN,
    LEAK_PER_K,
    SHUTDOWN_C,
    THROTTLE_C,
    Float32s,
    draw_gpus,
    heat_gpus,
    speed_gpus,
)
from sim.plant.jobs import JobState
from sim.plant.network import Gangs, Racks

SPREAD = 0.02  # of a GPU's wish against its rack's mean, one sigma: nodes of 8 differ by 0.7 % (FACTS P.3)
PLATE_SPREAD = 0.025  # of a plate's conductance, one sigma (contact and flow balance; assumed)
WIDEST = 2.0  # sigmas: a rack's maker sorts out what would throttle at its warmest supply of 45 C (FACTS D)
FREE = 4.0  # of nameplate: a GPU whose rack ignores its caps
LOOK_STEPS = 4
WARM_LOOKS, WARM_STEPS = 24, 40  # of 10 s each
MOVED = 0.002  # of a limit or a demand: less is not worth a look before its turn

NO_LIMIT_W, NO_LIMIT_K = 1e9, 1e9


class GpuState(NamedTuple):
    """Changes in place. T GPUs, those of rack r stand from start[r] to start[r + 1].

    The fewer arrays of T, the faster: what is not needed for the step is worked out when it is asked for.
    """

    start: Ints  # [R + 1]
    wish: Float32s  # [T] its demand over its rack's mean, at the rack's design temperature
    plate: Float32s  # [T] conductance to the coolant over its rack's mean
    above_k: Float32s  # [T] temperature over its rack's mean
    draw: Float32s  # [T] W of GPUs in racks where a limit binds; the others draw what they want
    off: Float32s  # [T] 1 once its own protection has shut it down
    history: Float32s  # [steps, T] caps set by the agents, a ring over the actuators' latency; empty without leaf gpu
    limit_w: Float32s  # [T] settled; empty without leaf gpu
    bound: Bools  # [R] a limit binds, or a GPU is off
    over_k: Floats  # [R] the rack's mean over its design temperature, at the last look
    wanted: Floats  # [R] sum of wishes at their temperatures
    drawn: Floats  # [R] sum of what its GPUs draw, in the units of draw or of wish
    greediest: Floats  # [R] largest wish at its temperature over the mean
    hottest_k: Floats  # [R] largest above_k of a GPU that is on
    skew_w: Floats  # [R] heat through the plates beyond that of equal GPUs
    energy_j: Floats  # [R] drawn by the rack since the last look
    age: Ints  # [R] steps since the last look
    seen_w: Floats  # [R, 2] limit and demand at the last sharing out
    share: Floats  # [R] of the demand that the limits allow, at the rack's speed
    reach_w: Floats  # [R] most that the rack draws under its GPUs' limits, at its speed
    lost: Ints  # [R] GPUs that are off
    throttled: Ints  # [R] GPUs that throttle now


def start_gpus(racks: Racks, caps_w: Floats, skew_w: Floats, rng: np.random.Generator, *, own_caps: bool) -> GpuState:
    """Draw each GPU's wish and plate, means 1 in every rack; caps [R] settled and shared out equally.

    `skew_w` [R] is thermal.py's, to be kept here.
    """
    gpus = racks.gpus
    start = np.concatenate(([0], np.cumsum(gpus))).astype(np.int64)
    n, total = len(gpus), int(start[-1])

    def drawn(sigma: float) -> Float32s:
        raw = 1.0 + sigma * np.clip(rng.standard_normal(total), -WIDEST, WIDEST)
        mean_one = raw / np.repeat(np.add.reduceat(raw, start[:-1]) / gpus, gpus)
        return np.asarray(mean_one, dtype=np.float32)

    wish, plate = drawn(SPREAD), drawn(PLATE_SPREAD)
    share_w = np.repeat(np.maximum(caps_w - racks.other_w, 0.0) / gpus, gpus) if own_caps else np.zeros(0)
    ring = int(racks.delay_steps.max(initial=0)) + 1
    return GpuState(
        start=start,
        wish=wish,
        plate=plate,
        above_k=np.zeros(total, dtype=np.float32),
        draw=np.zeros(total, dtype=np.float32),
        off=np.zeros(total, dtype=np.float32),
        history=np.tile(share_w.astype(np.float32), (ring, 1)),
        limit_w=share_w.astype(np.float32),
        bound=np.zeros(n, dtype=bool),
        over_k=np.zeros(n),
        wanted=gpus.astype(float),
        drawn=gpus.astype(float),
        greediest=np.maximum.reduceat(wish, start[:-1]).astype(float),
        hottest_k=np.zeros(n),
        skew_w=skew_w,
        energy_j=np.zeros(n),
        age=np.zeros(n, dtype=np.int64),
        seen_w=np.zeros((n, 2)),
        share=np.ones(n),
        reach_w=caps_w.copy(),
        lost=np.zeros(n, dtype=np.int64),
        throttled=np.zeros(n, dtype=np.int64),
    )


@KERNEL
def settle_gpus(racks: Racks, g: GpuState, caps_w: Floats, gpu_cap_w: Ints, step: int, ignores: Bools) -> None:
    """Caps of racks [R] and of their GPUs [R, most], -1 where there is none, act as jobs.settle has it."""
    ring = len(g.history)
    head = step % ring
    for r in range(len(caps_w)):
        first, end = g.start[r], g.start[r + 1]
        gpus = end - first
        budget_w = max(caps_w[r] - racks.other_w[r], 0.0)
        asked_w = 0.0
        for i in range(gpus):
            asked_w += gpu_cap_w[r, i]
        own = gpu_cap_w[r, 0] >= 0
        scale = min(1.0, budget_w / max(asked_w, 1.0))
        least_w = (racks.least_w[r] - racks.other_w[r]) / gpus
        late = (step - racks.delay_steps[r]) % ring
        for i in range(gpus):
            g.history[head, first + i] = gpu_cap_w[r, i] * scale if own else budget_w / gpus
            wanted_w = max(g.history[late, first + i], least_w)
            if ignores[r]:
                wanted_w = FREE * racks.max_w[r] / gpus
            g.limit_w[first + i] += (wanted_w - g.limit_w[first + i]) * racks.settle[r]


@INSIDE
def _look(racks: Racks, g: GpuState, r: int, silicon_c: float, coolant_c: float) -> None:
    """Bring the GPUs of a rack to this moment; `coolant_c` is what its plates see."""
    first, end = g.start[r], g.start[r + 1]
    gpus, bound = end - first, g.bound[r]
    dt_s = max(g.age[r], 1) * DT_S
    gpu_w = max(g.energy_j[r] / dt_s - racks.other_w[r], 0.0)
    g_w_k = 1.0 / (racks.base_k_w[r] * gpus)
    dt_jk = dt_s * gpus / max(racks.silicon_j_k[r], 1e-3 * gpus)
    pull = dt_jk if dt_jk * g_w_k > 2.0 else 0.5 * dt_jk
    lift_k, over_k = silicon_c - coolant_c, silicon_c - racks.design_c[r]
    total, flow, wants, top, most = heat_gpus(
        first, end, g.wish, g.plate, g.above_k, g.draw if bound else g.wish, bound, gpu_w / max(g.drawn[r], 1e-9),
        gpu_w / gpus, racks.lean[r], g_w_k, lift_k, g_w_k * lift_k + g.skew_w[r] / gpus, dt_jk, pull,
        g.over_k[r], over_k,
    )  # fmt: skip
    mean_k = total / gpus
    drift_k = np.float32(mean_k)
    for k in range(np.uint64(first), np.uint64(end)):
        g.above_k[k] -= drift_k
    g.skew_w[r] = g_w_k * (flow - total)
    g.hottest_k[r], g.over_k[r] = top - mean_k, over_k
    g.wanted[r], g.greediest[r] = wants, most * gpus / wants
    g.energy_j[r], g.age[r] = 0.0, 0
    if not bound:
        g.drawn[r] = wants


@KERNEL
def warm_gpus(racks: Racks, g: GpuState, rack_w: Floats, silicon_c: Floats, coolant_c: Floats) -> None:
    """Bring all GPUs to the steady state of their racks' power, mean temperature and coolant [R]."""
    for r in range(len(rack_w)):
        for _ in range(WARM_LOOKS):
            g.age[r] = WARM_STEPS
            g.energy_j[r] = rack_w[r] * WARM_STEPS * DT_S
            _look(racks, g, r, silicon_c[r], coolant_c[r])


@INSIDE
def _protect(g: GpuState, r: int, silicon_c: float) -> None:
    """What is beyond the shutdown temperature goes off for good; counts what throttles."""
    g.throttled[r], g.lost[r] = 0, 0
    top = -1e9
    for k in range(g.start[r], g.start[r + 1]):
        hot_c = silicon_c + g.above_k[k]
        if hot_c >= SHUTDOWN_C:
            g.off[k] = F1
        if g.off[k] > F0:
            g.lost[r] += 1
            continue
        top = max(top, g.above_k[k])
        g.throttled[r] += hot_c > THROTTLE_C
    g.hottest_k[r] = top


@INSIDE
def _share_out(
    racks: Racks, gangs: Gangs, s: JobState, g: GpuState, r: int, silicon_c: float, own: bool, free: bool
) -> None:
    """Speed of a rack and what its GPUs draw, where a limit or heat binds some of them."""
    first, end = g.start[r], g.start[r + 1]
    gpus = end - first
    other_w, wanted, over_k = racks.other_w[r], g.wanted[r], silicon_c - racks.design_c[r]
    even_w, scale = (FREE * racks.max_w[r] if free else max(s.limit_w[r] - other_w, 0.0)) / gpus, 0.0
    if own:
        given_w = 0.0
        for k in range(first, end):
            given_w += g.limit_w[k]
        even_w, scale = 0.0, min(1.0, max(s.limit_w[r] - other_w, 0.0) / max(given_w, 1.0))
    training, some_off = gangs.training[racks.gang[r]], 1.0 if g.lost[r] else 0.0
    limit, off = (g.limit_w if own else g.wish), (g.off if g.lost[r] else g.wish)  # else not looked at
    hot = g.throttled[r] > 0
    least_w = (racks.least_w[r] - other_w) / gpus
    room_w = (racks.max_w[r] - racks.least_w[r]) / gpus if hot else NO_LIMIT_W
    throttle_k = THROTTLE_C - silicon_c if hot else NO_LIMIT_K
    full_w = max(s.plateau_w[r] - other_w, 1e-3) / wanted
    slowest, total = speed_gpus(
        first, end, g.wish, g.above_k, off, some_off, limit, g.draw, even_w, scale, full_w, s.static[r],
        s.compute_share[racks.gang[r]], room_w, least_w, throttle_k, over_k,
    )  # fmt: skip
    s.speed[r] = slowest if training else total / gpus
    now_w = full_w if training else max(s.demand_w[r] - other_w, 1e-3) / wanted
    g.drawn[r] = draw_gpus(
        first, end, g.wish, g.above_k, off, some_off, limit, g.draw, even_w, scale, now_w, other_w / gpus,
        slowest if training else 0.0, room_w, least_w, throttle_k, over_k,
    )  # fmt: skip
    g.share[r] = g.drawn[r] / (now_w * wanted)


@KERNEL
def run_gpus(
    racks: Racks, gangs: Gangs, s: JobState, g: GpuState, silicon_c: Floats, coolant_c: Floats, ignores: Bools,
    step: int, own: bool,
) -> None:  # fmt: skip
    """Speed and reach of each rack from its GPUs; the rack's own limit binds their sum as well.

    `silicon_c`, `coolant_c` [R] of thermal.py; `own`: GPUs have caps of their own; no cap reaches those of a rack
    that `ignores` [R] its caps.
    """
    n = len(racks.gang)
    for r in range(n):
        g.energy_j[r] += s.power_w[r] * DT_S
        g.age[r] += 1
        hot = silicon_c[r] + g.hottest_k[r] > THROTTLE_C
        due = hot or r * LOOK_STEPS // n == step % LOOK_STEPS  # neighbours in memory together
        if due:
            _look(racks, g, r, silicon_c[r], coolant_c[r])
            if hot or g.throttled[r] > 0:
                _protect(g, r, silicon_c[r])
                s.throttled[r] = g.throttled[r] > 0
                s.dead[r] = s.dead[r] or g.lost[r] == g.start[r + 1] - g.start[r]
        limit_w, other_w = s.limit_w[r], racks.other_w[r]
        full_w = max(s.plateau_w[r] - other_w, 1e-3)
        even = not own and not hot and g.lost[r] == 0
        if even and (ignores[r] or limit_w - other_w >= full_w * g.greediest[r]):
            s.speed[r], g.reach_w[r] = 1.0, limit_w
            if g.bound[r]:
                g.bound[r], g.drawn[r], g.seen_w[r, 0] = False, g.wanted[r], 0.0
            continue
        now_w = s.plateau_w[r] if gangs.training[racks.gang[r]] else s.demand_w[r]
        moved = abs(limit_w - g.seen_w[r, 0]) > MOVED * limit_w or abs(now_w - g.seen_w[r, 1]) > MOVED * now_w
        if due or moved or own:
            _share_out(racks, gangs, s, g, r, silicon_c[r], own, ignores[r])
            g.bound[r], g.seen_w[r, 0], g.seen_w[r, 1] = True, limit_w, now_w
        g.reach_w[r] = min(other_w + g.share[r] * max(now_w - other_w, 0.0), limit_w)


def gpu_wants(racks: Racks, g: GpuState, silicon_c: Floats) -> Floats:
    """What every GPU wants at its temperature, over what its rack's mean wants at design temperature [T]."""
    over_k = g.above_k + np.repeat(silicon_c - racks.design_c, racks.gpus)
    wants: Floats = g.wish * (1.0 + LEAK_PER_K * (1.0 + LEAK_LEAN * (g.wish - 1.0)) * over_k)
    return wants


def gpu_power_w(racks: Racks, g: GpuState, rack_w: Floats, silicon_c: Floats) -> Floats:
    """Power of every GPU [T, W], of its rack's power `rack_w` [R]; the rack is `other_w` and their sum."""
    draw = np.where(np.repeat(g.bound, racks.gpus), g.draw, gpu_wants(racks, g, silicon_c))
    drawn = np.add.reduceat(draw, g.start[:-1])
    per_draw = np.maximum(rack_w - racks.other_w, 0.0) / np.maximum(drawn, 1e-9)
    power_w: Floats = draw * np.repeat(per_draw, racks.gpus)
    return power_w


def gpu_c(racks: Racks, g: GpuState, silicon_c: Floats) -> Floats:
    """Silicon temperature of every GPU [T, C]; `silicon_c` [R] is their racks' mean."""
    c: Floats = np.repeat(silicon_c, racks.gpus) + g.above_k
    return c


def by_rack(racks: Racks, values: Floats) -> Floats:
    """Values of GPUs [T] as a table [R, most], NaN where a rack has fewer."""
    out = np.full((len(racks.gpus), int(racks.gpus.max())), np.nan)
    out[np.arange(out.shape[1]) < racks.gpus[:, None]] = values
    return out
