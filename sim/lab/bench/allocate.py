"""How long the allocation takes at `colossus`, beside an LP and a QP solver on the same rows in the same run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.corrective import compile_kit, solve_all
from controller.kernels.fill import FillInputs, fill
from drivers.clock import RealClock
from sim.lab.bench.instances import (
    Colossus,
    Problem,
    colossus,
    jittered,
    leaves,
    nonzeros,
    pressed,
    single_gangs,
    sized,
    thinned,
    unshared,
    with_curves,
)
from sim.lab.bench.peers import first_lp, hull, phase_one_qp

Floats = NDArray[np.float64]
Say = Callable[[str], None]

JITTER = 0.02  # of demand, from cycle to cycle: the filling starts from what it knows of another cycle
GPUS, GPUS_A_GANG = 220_000, 64
ENTRIES = 47_000  # of racks: some 3.2 million of GPUs
SIZES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the site
NOTES = {
    "rows": "rack_rows and rack_nonzeros are those of the site's limits and of all preventive rows of losses before "
    "any reduction; kernel_rows and kernel_nonzeros are what is left for the filling and for both peers: rows "
    "that one rack loads alone became its ceiling, a loss that moves little onto a wide survivor a reserve",
    "limits": "the site's own with every rack at its nameplate, and each row pressed at random so that many bind",
    "curves": "the site's, with points added where they have less than six segments",
    "cycles": f"every filling has other demands, up to {JITTER:.0%} lower; rack_cold_ms_p50 starts without a last one",
    "highs_lp_ms": "HiGHS on one LP, the first of max-min: highest common level of all racks, on the concave hull of "
    "the curves, without classes, gangs and ceilings; the whole answer takes an LP for every level that "
    "something freezes at",
    "clarabel_qp_ms": "Clarabel on one QP as in phase I of nvPAX: least squares to the requests, same rows, no levels",
    "gpu": "racks parted into GPUs, each with its own demand, straight curves; every row of the site and each rack's "
    "ceiling as a row; gpu_thinned_ with all rows of the present state and an even part of those of losses. A GPU is "
    "a variable; as every row loads the GPUs of a rack alike, their sum is taken once and an entry kept once a rack. "
    "unshared_: every entry of every GPU is kept and added up by itself",
    "all_contingencies_ms": "corrective sets of all losses, solved one after the other",
}


def bench_allocate(say: Say, runs: int = 200, seed: int = 1) -> dict[str, Any]:
    """Figures of one run in one thread: times in ms, p50 and p99 of `runs` fillings; see NOTES for what they are."""
    rng = np.random.default_rng(seed)
    say("compiling colossus ..")
    site = colossus()
    problem = pressed(site.problem, rng)
    racks = measured("rack", fill_ms(problem, runs, rng))
    say(f"racks {racks['rack_ms_p50']:.2f} ms; HiGHS and Clarabel ..")
    peers = _peers(problem)
    say(f"{GPUS} GPUs ..")
    gpus = _gpus(site, max(runs // 8, 3), rng)
    say("sizes, and all losses ..")
    return {
        **_counts(site, problem),
        **racks,
        "rack_cold_ms_p50": float(np.median(fill_ms(problem, max(runs // 4, 3), rng, cold=True))),
        "rack_own_limits_ms_p50": float(np.median(fill_ms(site.problem, max(runs // 4, 3), rng))),
        "single_gangs_ms_p50": float(np.median(fill_ms(single_gangs(problem), max(runs // 2, 3), rng))),
        **peers,
        "ratio_highs": peers["highs_lp_ms"] / racks["rack_ms_p50"],
        "ratio_clarabel": peers["clarabel_qp_ms"] / racks["rack_ms_p50"],
        **gpus,
        "all_contingencies_ms": contingencies_ms(site),
        "scaling": [scaled(problem, share, max(runs // 8, 3), rng) for share in SIZES],
        "notes": NOTES,
    }


def measured(name: str, times_ms: Floats) -> dict[str, float]:
    """p50 and p99."""
    return {f"{name}_ms_p{q}": float(np.percentile(times_ms, q)) for q in (50, 99)}


def fill_ms(problem: Problem, runs: int, rng: np.random.Generator, *, cold: bool = False) -> Floats:
    """Time of each of `runs` fillings [ms], each with other demands; `cold`: without what the last one left."""
    topology = problem.topology
    cycles: Iterator[FillInputs] = map(partial(jittered, problem, rng), repeat(JITTER, runs + 1))
    fill(topology, next(cycles))
    clock = RealClock()
    times = np.zeros(runs)
    for run, inputs in enumerate(cycles):
        if cold:
            topology.work.guess[:] = False
        begin_s = clock.now_s()
        fill(topology, inputs)
        times[run] = 1e3 * (clock.now_s() - begin_s)
    return times


def _counts(site: Colossus, problem: Problem) -> dict[str, Any]:
    plan, t = site.plan, problem.topology
    size = np.bincount(t.gang_of)
    result = fill(t, problem.inputs)
    return {
        "racks": len(t.gang_of),
        "rack_rows": len(plan.row_name) + plan.losses.rows_before,
        "rack_nonzeros": len(plan.rows.racks) + plan.losses.nonzeros_before,
        "kernel_rows": len(problem.inputs.limit_w),
        "kernel_nonzeros": nonzeros(problem),
        "tight_rows": int(result.tight.sum()),
        "held_gangs": int((result.level < 1.0).sum()),
        "curve_segments": min(len(x) - 1 for x, _ in problem.curves),
        "gangs": len(t.gang_class),
        "gang_composition": {
            "of_one_rack": int((size == 1).sum()),
            "larger, racks in each": sorted(size[size > 1].tolist(), reverse=True),
            "by_class": {str(c): int((t.gang_class == c).sum()) for c in np.unique(t.gang_class)},
        },
    }


def _peers(problem: Problem) -> dict[str, float]:
    concave = with_curves(problem, tuple(hull(curve) for curve in problem.curves))
    runs = [first_lp(concave) for _ in range(3)]
    return {
        "highs_lp_ms": float(np.median([ms for ms, _ in runs])),
        "highs_level": runs[0][1],
        "highs_level_by_filling": lowest_level(concave),
        "clarabel_qp_ms": float(np.median([phase_one_qp(problem) for _ in range(3)])),
    }


def lowest_level(problem: Problem) -> float:
    """The lowest level of the filling where only rows hold it, in one class and every rack on its own: the LP's."""
    alone = single_gangs(problem)
    i = alone.inputs
    one_class = np.zeros(len(alone.topology.gang_class), np.int32)
    no_ceiling = replace(i, ceiling_w=np.full_like(i.ceiling_w, np.inf), gang_class=one_class)
    return float(fill(alone.topology, no_ceiling).level.min())


def _gpus(site: Colossus, runs: int, rng: np.random.Generator) -> dict[str, float]:
    problem = site.problem
    gpus = leaves(problem, GPUS, GPUS_A_GANG, rng)
    thin = leaves(thinned(problem, site.present, ENTRIES), GPUS, GPUS_A_GANG, rng)
    i, some = gpus.inputs, max(runs // 2, 3)
    straight = measured("gpu", fill_ms(gpus, runs, rng))
    curved = with_curves(replace(gpus, inputs=replace(i, curve_of=_repeated(problem, i))), problem.curves)
    return {
        "gpu_leaves": len(i.demand_w),
        "gpu_rows": len(i.limit_w),
        "gpu_nonzeros": nonzeros(gpus),
        **straight,
        "gpu_curves_ms_p50": float(np.median(fill_ms(curved, some, rng))),
        "gpu_thinned_nonzeros": nonzeros(thin),
        "gpu_thinned_ms_p50": float(np.median(fill_ms(thin, some, rng))),
        "gpu_unshared_ms_p50": float(np.median(fill_ms(unshared(gpus), some, rng))),
        "gpu_thinned_unshared_ms_p50": float(np.median(fill_ms(unshared(thin), some, rng))),
        "gpu_tight_rows": int(fill(gpus.topology, i).tight.sum()),
    }


def _repeated(problem: Problem, i: FillInputs) -> NDArray[np.int32]:
    """Curves of the racks dealt out to as many GPUs, in order."""
    rack = np.arange(len(i.demand_w)) * len(problem.inputs.curve_of) // len(i.demand_w)
    return problem.inputs.curve_of[rack]


def contingencies_ms(site: Colossus) -> float:
    """Time to solve the corrective sets of all losses at full demand [ms]."""
    kit = compile_kit(site.plan)
    frames = site.frames
    clock = RealClock()
    begin_s = clock.now_s()
    solve_all(kit, frames.estimate, frames.limits, frames.orders.cap_w)
    return 1e3 * (clock.now_s() - begin_s)


def scaled(problem: Problem, share: float, runs: int, rng: np.random.Generator) -> dict[str, float]:
    """One line of the table of size against time: a part of the site, or copies of it."""
    some = sized(problem, share)
    p50 = float(np.median(fill_ms(some, runs, rng)))
    entries = nonzeros(some)
    return {
        "racks": len(some.topology.gang_of),
        "rows": len(some.inputs.limit_w),
        "nonzeros": entries,
        "ms": p50,
        "ms_per_nlogn": p50 / (entries * np.log2(entries)),
    }
