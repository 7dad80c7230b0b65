"""How long one cycle of `colossus` takes, alone and with corrective sets, prices and verdicts solved in between."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from controller import cycle
from controller.prepare import Prepare
from drivers.clock import perf_s
from drivers.site.load import resolve_site
from sim.lab.lockstep import PERIOD_S, LockStep
from sim.scenarios import load_scenario

WARM, BLOCK = 70, 10  # cycles; blocks with and without the background take turns, so that a noisy machine hits both
WINDOW_S = 0.9  # of each second that a tick leaves to the background


def bench_cycle(say: Callable[[str], None], blocks: int = 24) -> dict[str, Any]:
    """Times of a cycle [ms], the share that the background adds, and how long one round of its sets takes [ms]."""
    say("bringing colossus to full demand ..")
    lock = LockStep(resolve_site("colossus"), load_scenario("nameplate"))
    for _ in range(WARM):
        lock.cycle()
    prepare = Prepare(lock.plan)
    gc.collect()
    gc.freeze()
    alone: list[float] = []
    beside: list[float] = []
    rounds: list[float] = []
    for block in range(blocks):
        say(f"block {block + 1} of {blocks}")
        for _ in range(BLOCK):
            (beside if block % 2 else alone).append(_cycle_s(lock, prepare if block % 2 else None, rounds))
    gc.unfreeze()
    p50, p99 = (1e3 * np.percentile(alone, q) for q in (50, 99))
    with_p50, with_p99 = (1e3 * np.percentile(beside, q) for q in (50, 99))
    return {
        "cycles": len(alone) + len(beside),
        "cycle_ms_p50": float(p50),
        "cycle_ms_p99": float(p99),
        "with_background_ms_p50": float(with_p50),
        "with_background_ms_p99": float(with_p99),
        "p99_ratio": float(with_p99 / p99),
        "background_ms_per_s": 1e3 * float(np.mean(rounds)),
        "sets_age_s": _age_s(lock, prepare),
    }


def _cycle_s(lock: LockStep, prepare: Prepare | None, rounds: list[float]) -> float:
    """Time of one cycle [s]; then, if asked for, what the background does in the rest of its second."""
    lock.alone(PERIOD_S)
    shot = lock.wires.snapshot(lock.clock.now_s())
    began_s = perf_s()
    frames, commands = cycle.step(lock.plan, shot, lock.requests, lock.state)
    took_s = perf_s() - began_s
    lock.wires.send(commands)
    if prepare is not None:
        prepare.look(frames, lock.state)
        began_s = perf_s()
        while (left_s := WINDOW_S - (perf_s() - began_s)) > 0.0 and prepare.advance(left_s):
            pass
        rounds.append(perf_s() - began_s)
    return took_s


def _age_s(lock: LockStep, prepare: Prepare) -> float:
    """Age of the newest complete sets in the plant's time [s]; every set of them is from one cycle."""
    sets = prepare.latest.sets
    return float("nan") if sets is None else lock.clock.now_s() - sets.at_s
