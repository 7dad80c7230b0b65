"""What racks want and what they draw: gangs in lock-step, inference with bursts, settling caps, throttling GPUs.

The plant's own work-power law, apart from the controller's curves: power = s + (1 - s) f^2 of the frequency f, and
throughput = 1 / (a / f + 1 - a), a roofline with compute share a. Fitted to the A100's sweep (FACTS C.4) s = 0.25 and
a = 0.69, it is within 0.05 of what V100, H200 and A40 do, in the median (tests/sim/test_known_caps.py).
"""

import math
from typing import NamedTuple

import numpy as np

from drivers.points import Floats
from sim.plant.base import DT_S, KERNEL, Bools
from sim.plant.event_model import RESTART_S
from sim.plant.network import Gangs, Racks

LEAST_FREQUENCY = 0.05
EDGE = 0.06  # share of a period that the slope between compute and communication takes
WAIT_SHARE = 0.55  # draw of a rack that waits for slower ones, of its plateau (busy polling)
CHECKPOINT_SHARE = 0.5  # usual draw while a checkpoint is written, of the plateau
CHECKPOINT_SLOPE_S = 0.5  # a B200 node goes 7.4 of its 10 kW from one second to the next (FACTS P.3)
NOISE_TAU_S = 8.0
STIR_S = 1.0  # step of inference's noise and bursts


class JobState(NamedTuple):
    """Changes in place. `share` to `checkpoint_s` are set by the scenario, the rest by the step."""

    share: Floats  # [G] plateau as share of nameplate
    depth: Floats  # [G] of the swing, share of the plateau, downwards
    period_s: Floats
    comm: Floats  # [G] share of the period in communication
    checkpoint_every_s: Floats  # 0 is never
    checkpoint_s: Floats
    checkpoint_at_s: Floats  # phase of the checkpoints
    checkpoint_share: Floats  # [G] draw meanwhile, of the plateau
    restart_s: Floats  # [G] after a crash
    compute_share: Floats  # [G] a of the work law
    phase: Floats  # [G] periods done
    pace: Floats  # [G] 0..1
    work: Floats  # [G] rack seconds at full speed, less what crashes have undone
    asked: Floats  # [G] the same, of what was to be done
    saved: Floats  # [G] work at the last checkpoint, 0 at the start
    undone: Floats  # [G] by crashes
    down_s: Floats  # [G] left of a restart
    rate: Floats  # [G] share of its full rate that a job on requests wants to run at (requests.py); -1: no requests
    level: Floats  # [G] what that takes, from idle to nameplate
    serving: Floats  # [G] speed of an inference job's working racks together
    burst: Floats  # [G] extra share, decays
    spread: Floats  # [R] of the rack's plateau, 0..
    lead: Floats  # [R] phase against its gang
    static: Floats  # [R] s of the work law
    noise: Floats  # [R] inference, share of nameplate
    plateau_w: Floats  # [R] demand at the job's plateau
    demand_w: Floats  # [R] demand of this step, uncapped
    power_w: Floats  # [R]
    speed: Floats  # [R] scratch
    pause: Floats  # [G] scratch: 1 while a checkpoint is written
    limit_w: Floats  # [R] settled limit of the actuator
    throttled: Bools  # [R] by temperature, now
    dead: Bools  # [R] shut down by its own protection


def start_jobs(racks: Racks, gangs: Gangs, rng: np.random.Generator) -> JobState:
    """Draw the individual differences of racks and gangs; caps settled at nameplate."""
    n, g = len(racks.gang), len(gangs.racks)
    return JobState(
        share=np.full(g, 0.75),
        depth=np.where(gangs.training, rng.uniform(0.2, 0.35, g), 0.0),
        period_s=rng.uniform(1.5, 6.0, g),
        comm=rng.uniform(0.2, 0.35, g),
        checkpoint_every_s=np.zeros(g),
        checkpoint_s=np.full(g, 10.0),
        checkpoint_at_s=rng.uniform(0.0, 1.0, g),
        checkpoint_share=np.full(g, CHECKPOINT_SHARE),
        restart_s=np.full(g, RESTART_S),
        compute_share=rng.uniform(0.6, 0.78, g),
        phase=rng.uniform(0.0, 1.0, g),
        pace=np.ones(g),
        work=np.zeros(g),
        asked=np.zeros(g),
        saved=np.zeros(g),
        undone=np.zeros(g),
        down_s=np.zeros(g),
        rate=np.full(g, -1.0),
        level=np.zeros(g),
        serving=np.zeros(g),
        burst=np.zeros(g),
        spread=rng.uniform(0.0, 0.014, n),  # node-to-node sd of 0.7 % (FACTS P.3) is 0.4 % here, per rack of 8
        lead=rng.normal(0.0, 0.01, n),
        static=rng.normal(0.25, 0.01, n),
        noise=np.zeros(n),
        plateau_w=np.zeros(n),
        demand_w=np.zeros(n),
        power_w=np.zeros(n),
        speed=np.ones(n),
        pause=np.zeros(g),
        limit_w=racks.max_w.copy(),
        throttled=np.zeros(n, dtype=bool),
        dead=np.zeros(n, dtype=bool),
    )


@KERNEL
def settle(racks: Racks, s: JobState, caps_w: Floats, history: Floats, head: int, ignores: Bools) -> None:
    """Caps in force [R] act after the actuator's latency and settle as first order; `history` [K, R] is a ring."""
    ring = len(history)
    for r in range(len(caps_w)):
        history[head, r] = caps_w[r]
        wanted = history[(head - racks.delay_steps[r]) % ring, r]
        step = racks.resolution_w[r]
        wanted = max(math.floor(wanted / step) * step, racks.least_w[r])
        if ignores[r]:
            wanted = racks.max_w[r]
        s.limit_w[r] += (min(wanted, racks.max_w[r]) - s.limit_w[r]) * racks.settle[r]


@KERNEL
def work_speed(power_share: float, static: float, compute: float) -> float:
    """Throughput as share of full at a share of full GPU power."""
    f = math.sqrt(max((power_share - static) / (1.0 - static), LEAST_FREQUENCY**2))
    return min(1.0, 1.0 / (compute / f + 1.0 - compute))


@KERNEL
def _area(x: float, comm: float) -> float:
    """Integral from 0 to x periods of the wave that is 1 in compute, 0 in communication, with finite slopes."""
    whole = math.floor(x)
    y = x - whole
    high = 1.0 - comm - EDGE  # top, then slope down, bottom, slope up
    low = comm - EDGE
    area = min(y, high)
    if y > high:
        t = min(y - high, EDGE)
        area += t - t * t / (2.0 * EDGE)
    if y > high + EDGE + low:
        t = y - high - EDGE - low
        area += t * t / (2.0 * EDGE)
    return whole * (high + EDGE) + area


@KERNEL
def wave(phase: float, advance: float, comm: float) -> float:
    """Mean of the compute/communication wave while the phase moves by `advance` periods."""
    if advance < 1e-9:
        return (_area(phase + 1e-6, comm) - _area(phase, comm)) / 1e-6
    return (_area(phase + advance, comm) - _area(phase, comm)) / advance


@KERNEL
def _checkpoint(s: JobState, g: int, t_s: float) -> float:
    """1 while a gang writes its checkpoint, with slopes; 0 otherwise."""
    every = float(s.checkpoint_every_s[g])
    if every <= 0.0:
        return 0.0
    into = (t_s + float(s.checkpoint_at_s[g]) * every) % every
    end = float(s.checkpoint_s[g])
    return max(0.0, min(1.0, min(into, end + CHECKPOINT_SLOPE_S - into) / CHECKPOINT_SLOPE_S))


@KERNEL
def stir(racks: Racks, gangs: Gangs, s: JobState, shock: Floats, start: Floats) -> None:
    """A second of inference's ups and downs; `shock` [R] is normal, `start` [G] uniform."""
    for g in range(len(gangs.racks)):
        s.burst[g] *= 1.0 - STIR_S / 45.0
        if not gangs.training[g] and start[g] < STIR_S / 400.0:  # a burst every 400 s or so
            s.burst[g] += 0.15
    keep = STIR_S / NOISE_TAU_S
    for r in range(len(racks.gang)):
        if not gangs.training[racks.gang[r]]:
            s.noise[r] += -s.noise[r] * keep + 0.02 * math.sqrt(2.0 * keep) * shock[r]


@KERNEL
def demand(racks: Racks, gangs: Gangs, s: JobState, day: float, wanted: Floats) -> None:
    """Plateau of every rack and demand of inference, scaled by `day`.

    `wanted` [R] sums up what the rack's GPUs want at their temperatures, each in units of its mean at design.
    """
    for r in range(len(racks.gang)):
        g = racks.gang[r]
        other_w, most_w, idle_w = racks.other_w[r], racks.max_w[r], racks.idle_w[r]
        warm = wanted[r] / racks.gpus[r]
        share = 0.0 if s.down_s[g] > 0.0 else s.share[g] * (1.0 + s.spread[r])
        if not gangs.training[g]:
            share = s.share[g] * day * (1.0 + s.burst[g])
            if s.rate[g] >= 0.0:
                share = (idle_w + s.level[g] * (most_w - idle_w)) / most_w
            wish_w = other_w + ((share + s.noise[r]) * most_w - other_w) * warm
            s.demand_w[r] = min(max(wish_w, idle_w), most_w)
        s.plateau_w[r] = min(max(other_w + (share * most_w - other_w) * warm, idle_w), most_w)


@KERNEL
def _pace(racks: Racks, gangs: Gangs, s: JobState, powered: Bools, hold_w: Floats) -> None:
    """A gang runs at the pace of its slowest living rack, and waits while one of them is shed or it starts again."""
    for g in range(len(s.pace)):
        s.pace[g] = 0.0 if s.down_s[g] > 0.0 else 1.0
    for r in range(len(racks.gang)):
        if powered[r] and not s.dead[r] and gangs.training[racks.gang[r]]:
            speed = 0.0 if hold_w[r] < np.inf else s.speed[r]
            s.pace[racks.gang[r]] = min(s.pace[racks.gang[r]], speed)


@KERNEL
def draw(racks: Racks, gangs: Gangs, s: JobState, powered: Bools, hold_w: Floats, reach_w: Floats, t_s: float) -> None:
    """Power of each rack and demand of training over this step (means, so that energy is exact).

    `reach_w` [R] is the most that a rack's limits let it draw, running at its speed; `hold_w` [R] what a rack draws
    that is shed, infinity for the others.
    """
    _pace(racks, gangs, s, powered, hold_w)
    for g in range(len(gangs.racks)):
        s.pause[g] = _checkpoint(s, g, t_s) if gangs.training[g] else 0.0
        s.serving[g] = 0.0
    for r in range(len(racks.gang)):
        g = racks.gang[r]
        want = s.plateau_w[r]
        if gangs.training[g]:
            top = want * (1.0 - s.pause[g] * (1.0 - s.checkpoint_share[g]))
            low = min(top, want * (1.0 - s.depth[g]))
            advance = s.pace[g] * DT_S / s.period_s[g]
            level = wave(s.phase[g] + s.lead[r] + 1.0, advance, s.comm[g])
            s.demand_w[r] = max(low + (top - low) * level, racks.idle_w[r])
            busy = min(1.0, s.pace[g] / s.speed[r])  # the rest of the time it waits for the slowest
            most = min(top, reach_w[r])
            wait = min(most, WAIT_SHARE * want)
            most = wait + (most - wait) * busy
            low = min(low, most)
            power = low + (most - low) * level
        else:
            power = min(s.demand_w[r], reach_w[r])
            works = powered[r] and not s.dead[r] and hold_w[r] == np.inf
            s.serving[g] += s.speed[r] if works else 0.0
        power = min(max(power, racks.idle_w[r]), hold_w[r])
        s.power_w[r] = power if powered[r] and not s.dead[r] else 0.0
    for g in range(len(gangs.racks)):
        if gangs.training[g]:
            pace = s.pace[g] * (1.0 - s.pause[g])
            s.phase[g] = (s.phase[g] + s.pace[g] * DT_S / s.period_s[g]) % 1.0
            s.work[g] += pace * DT_S * gangs.racks[g]
            s.down_s[g] = max(0.0, s.down_s[g] - DT_S)
        elif s.rate[g] < 0.0:
            s.work[g] += s.serving[g] * DT_S
        if s.rate[g] < 0.0:
            s.asked[g] += DT_S * gangs.racks[g]
