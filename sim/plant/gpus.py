"""GPUs one by one, for sites whose leaf is the GPU: each wants a little more or less than its neighbours.

Without caps of their own the agent shares its rack's cap out equally. A training rack is as fast as its slowest GPU
and the others wait for it; GPUs that serve share the load, so the rack's speed is their mean. All of it ends in two
figures per rack, its speed and the most that it draws running at that speed, which is all that jobs.py takes.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from drivers.points import Floats, Ints
from sim.plant.base import Bools
from sim.plant.jobs import WAIT_SHARE, JobState, work_speed
from sim.plant.network import Gangs, Racks

SPREAD = 0.04  # of a GPU's wish against its rack's mean, one sigma (part-to-part leakage and load balance)
WIDEST = 3.0  # sigmas
FREE = 4.0  # of nameplate: a GPU whose rack ignores its caps


class GpuState(NamedTuple):
    """Changes in place. T GPUs, those of rack r stand from start[r] to start[r + 1]."""

    start: Ints  # [R + 1]
    wish: Floats  # [T] its demand over its rack's mean
    history: Floats  # [steps, T] caps set by the agents, a ring over the actuators' latency
    limit_w: Floats  # [T] settled
    draw_w: Floats  # [T] at the plateau, under the limits
    reach_w: Floats  # [R] most that the rack draws under its GPUs' limits, at its speed


def start_gpus(racks: Racks, gpus: Ints, caps_w: Floats, rng: np.random.Generator) -> GpuState:
    """Draw each GPU's wish, mean 1 in every rack; caps [R] settled and shared out equally."""
    start = np.concatenate(([0], np.cumsum(gpus))).astype(np.int64)
    raw = 1.0 + SPREAD * np.clip(rng.standard_normal(start[-1]), -WIDEST, WIDEST)
    wish = raw / np.repeat(np.add.reduceat(raw, start[:-1]) / gpus, gpus)
    share_w = np.repeat(np.maximum(caps_w - racks.other_w, 0.0) / gpus, gpus)
    history = np.tile(share_w, (int(racks.delay_steps.max(initial=0)) + 1, 1))
    return GpuState(start, wish, history, share_w.copy(), share_w.copy(), caps_w.copy())


@njit(cache=True)
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


@njit(cache=True)
def run_gpus(racks: Racks, gangs: Gangs, s: JobState, g: GpuState) -> None:
    """Speed and reach of each rack from its GPUs; the rack's own limit binds their sum as well."""
    for r in range(len(racks.gang)):
        first, end = g.start[r], g.start[r + 1]
        gpus = end - first
        other_w = racks.other_w[r]
        limited_w = g.limit_w[first:end].sum()
        scale = min(1.0, max(s.limit_w[r] - other_w, 0.0) / max(limited_w, 1.0))
        plateau_w = max(s.plateau_w[r] - other_w, 0.0) / gpus
        training = gangs.training[racks.gang[r]]
        slowest, total = 1.0, 0.0
        for k in range(first, end):
            full_w, limit_w = g.wish[k] * plateau_w, g.limit_w[k] * scale
            speed = 1.0
            if limit_w < full_w:
                speed = work_speed(limit_w / full_w, s.static[r], s.compute_share[racks.gang[r]])
            g.draw_w[k] = speed  # until the slowest is known
            slowest = min(slowest, speed)
            total += speed
        s.speed[r] = slowest if training else total / gpus
        now_w = plateau_w if training else max(s.demand_w[r] - other_w, 0.0) / gpus
        reach_w = 0.0
        for k in range(first, end):
            most_w = min(g.wish[k] * now_w, g.limit_w[k] * scale)
            if training:  # part of the time it waits for the slowest
                base_w = other_w / gpus
                wait_w = min(base_w + most_w, WAIT_SHARE * (base_w + g.wish[k] * now_w))
                most_w = wait_w + (base_w + most_w - wait_w) * slowest / g.draw_w[k] - base_w
            g.draw_w[k] = max(most_w, 0.0)
            reach_w += most_w
        g.reach_w[r] = min(other_w + reach_w, s.limit_w[r])


def gpu_power_w(racks: Racks, g: GpuState, rack_w: Floats, most: int) -> Floats:
    """What the agents measure at each GPU [R, most], NaN where a rack has fewer, of its rack's power `rack_w` [R]."""
    gpus = np.diff(g.start)
    drawn = np.maximum(np.add.reduceat(g.draw_w, g.start[:-1]), 1.0)
    share = np.maximum(rack_w - racks.other_w, 0.0) / drawn
    out = np.full((len(gpus), most), np.nan)
    out[np.arange(most) < gpus[:, None]] = np.rint(g.draw_w * np.repeat(share, gpus))
    return out
