"""How fast the plant of `colossus` runs with every GPU in it, over a simulated day, alone and with the controller."""

import gc
import resource
from collections.abc import Callable
from typing import Any

from drivers.clock import perf_s
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from sim.lab.lockstep import PERIOD_S, LockStep
from sim.plant.base import DT_S
from sim.plant.plant import Plant
from sim.scenarios import load_scenario

STEP_S = 1.0  # of the outer step; the plant's own is DT_S
DAY_H, HOUR_S = 24, 3600
LOOP_WARM, LOOP_CYCLES = 60, 120


def bench_plant(say: Callable[[str], None], hours: int = DAY_H) -> dict[str, Any]:
    """Speed of one thread [x real time], time of a step of 1 s [ms] and the process's largest memory [MiB].

    Each hour is measured by itself: the first and the last show whether speed and memory stay as they are.
    """
    say("building colossus and warming it up ..")
    plant = Plant(resolve_site("colossus"), load_profiles(), load_scenario("steady"))
    _hour_s(plant, 60)
    took_s, first_mib = [], 0.0
    for hour in range(hours):
        took_s.append(_hour_s(plant))
        first_mib = first_mib or _mib()
        say(f"hour {hour + 1} of {hours}: {HOUR_S / took_s[-1]:.0f} times real time")
    mib = _mib()
    truth = plant.truth()
    result = {
        "gpus": int(plant.network.racks.gpus.sum()),
        "racks": len(plant.site.racks),
        "step_s": STEP_S,
        "inner_step_s": DT_S,
        "simulated_s": hours * HOUR_S,
        "x_realtime": hours * HOUR_S / sum(took_s),
        "x_realtime_first_hour": HOUR_S / took_s[0],
        "x_realtime_last_hour": HOUR_S / took_s[-1],
        "ms_per_step": 1e3 * sum(took_s) / (hours * HOUR_S / STEP_S),
        "mib": mib,
        "mib_first_hour": first_mib,
        "site_mw": truth.site_power_w / 1e6,
        "hottest_gpu_c": truth.hottest_gpu_c,
    }
    del plant
    gc.collect()
    return result | {"closed_loop_x_realtime": _closed_loop(say)}


def _hour_s(plant: Plant, seconds: int = HOUR_S) -> float:
    began_s = perf_s()
    for _ in range(round(seconds / STEP_S)):
        plant.step(STEP_S)
    return perf_s() - began_s


def _closed_loop(say: Callable[[str], None]) -> float:
    """Plant, agents, instruments and one control cycle a second in lock-step, at full demand."""
    say("closing the loop ..")
    lock = LockStep(resolve_site("colossus"), load_scenario("nameplate"))
    for _ in range(LOOP_WARM):
        lock.cycle()
    gc.collect()
    gc.freeze()
    began_s = perf_s()
    for _ in range(LOOP_CYCLES):
        lock.cycle()
    took_s = perf_s() - began_s
    gc.unfreeze()
    return LOOP_CYCLES * PERIOD_S / took_s


def _mib() -> float:
    """The largest memory that the process has ever had [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
