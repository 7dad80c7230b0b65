"""How long one filling takes at the size of `colossus`, and how much longer an LP needs for a part of the answer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.kernels.fill import Curve, FillInputs, FillTopology, build_topology, fill
from drivers.clock import RealClock

Floats = NDArray[np.float64]

RACKS, UPS_PER_BLOCK = 3386, 4
LINE: Curve = ((0.4, 1.0), (0.4, 1.0))
# Share of full GPU power against share of throughput, knees as in FACTS.md C.4 and P.4.
SIX_SEGMENTS: tuple[Curve, ...] = (
    ((0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0), (0.25, 0.45, 0.62, 0.74, 0.87, 0.96, 1.0)),
    ((0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0), (0.17, 0.40, 0.60, 0.72, 0.84, 0.95, 1.0)),
    ((0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0), (0.35, 0.52, 0.64, 0.78, 0.90, 0.94, 1.0)),
)


@dataclass(frozen=True)
class Instance:
    """One problem: index arrays and inputs."""

    topology: FillTopology
    inputs: FillInputs


def _rows(rng: np.random.Generator, losses: int) -> list[tuple[NDArray[np.intp], Floats]]:
    """Rack numbers and coefficients per row: envelope, substations, UPS, transformers, busways, CDUs, losses.

    `losses` rows per UPS and survivor (stages of each loss), besides the losses of the two substations.
    """
    rack = np.arange(RACKS)
    blocks = 40
    block = rack * blocks // RACKS
    pairs = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
    pair = pairs[rack // 8 % 6]
    ups_a, ups_b = block * UPS_PER_BLOCK + pair[:, 0], block * UPS_PER_BLOCK + pair[:, 1]
    share = rng.uniform(0.45, 0.55, RACKS)
    rows = [(rack, rng.uniform(1.15, 1.2, RACKS))]
    on_ups = [
        np.where(ups_a == u, share, np.where(ups_b == u, 1.0 - share, 0.0)) for u in range(blocks * UPS_PER_BLOCK)
    ]
    for sub in range(2):
        on_sub = np.sum([on_ups[u] for u in range(len(on_ups)) if u % 2 == sub], axis=0)
        rows.append((np.flatnonzero(on_sub), 1.05 * on_sub[on_sub > 0.0]))
    for u, load in enumerate(on_ups):
        own = np.flatnonzero(load)
        rows += [(own, 1.03 * load[own]), (own, 1.05 * load[own])]
        rows += [(part, 1.01 * load[part]) for part in np.array_split(own, 3)]
        for other in range(u - u % UPS_PER_BLOCK, u - u % UPS_PER_BLOCK + UPS_PER_BLOCK):
            if other != u:
                after = np.where(on_ups[other] > 0.0, load + on_ups[other] * (load > 0.0), load)
                rows += [(own, (1.0 + 0.01 * s) * after[own]) for s in range(losses)]
    rows += [(part, np.ones(len(part))) for n in (8, 24, 240) for part in np.array_split(rack, n)]
    return rows


def colossus_like(seed: int, mixed: bool, curves: tuple[Curve, ...], losses: int) -> Instance:
    """A problem of the size and kind of `colossus`, about 4,000 rows with six `losses` per pair of UPS.

    `mixed`: 146 gangs with most of the racks and every other rack on its own; otherwise every rack on its own.
    """
    rng = np.random.default_rng(seed)
    rows = _rows(rng, losses)
    gang_of = np.arange(RACKS)
    if mixed:
        cuts = np.sort(rng.choice(np.arange(8, RACKS), 145, replace=False))
        gang_of = np.searchsorted(cuts, gang_of, side="right")
        single = rng.random(RACKS) < 0.1
        gang_of[single] = 146 + np.arange(single.sum())
        gang_of = np.unique(gang_of, return_inverse=True)[1]
    gangs = int(gang_of.max()) + 1
    start = np.concatenate(([0], np.cumsum([len(r) for r, _ in rows])))
    index, coef = np.concatenate([r for r, _ in rows]), np.concatenate([a for _, a in rows])
    gpu_w = np.where(rng.random(RACKS) < 0.12, 86_400.0, 44_800.0)
    other_w = gpu_w * rng.uniform(0.42, 0.5, RACKS)
    demand_w = other_w + gpu_w * rng.uniform(0.8, 1.0, RACKS)
    floor_w = np.where(rng.random(RACKS) < 0.05, demand_w, other_w + 0.3 * gpu_w)
    topology = build_topology(gang_of, rng.integers(0, 3, gangs), start, index, coef, curves)
    full = np.add.reduceat(coef * demand_w[index], start[:-1])
    least = np.add.reduceat(coef * floor_w[index], start[:-1])
    limit_w = least + rng.uniform(0.7, 1.5, len(rows)) * (full - least)
    limit_w[0] = least[0] + 0.8 * (full[0] - least[0])
    inputs = FillInputs(
        floor_w=floor_w,
        demand_w=demand_w,
        ceiling_w=np.where(rng.random(RACKS) < 0.05, 0.95 * demand_w, np.inf),
        other_w=other_w,
        gpu_w=gpu_w,
        curve_of=rng.integers(0, len(curves), RACKS).astype(np.int32),
        limit_w=limit_w,
    )
    return Instance(topology, inputs)


def fill_ms(instance: Instance, runs: int) -> Floats:
    """Time of each of `runs` fillings [ms]."""
    clock = RealClock()
    fill(instance.topology, instance.inputs)
    times = np.zeros(runs)
    for i in range(runs):
        begin_s = clock.now_s()
        fill(instance.topology, instance.inputs)
        times[i] = 1e3 * (clock.now_s() - begin_s)
    return times


def lp_step(instance: Instance) -> tuple[float, float]:
    """HiGHS on the first step alone of the same answer: time [ms], and the highest common level of all gangs.

    Without ceilings and classes, and for the one curve LINE: a rack takes max(floor, other power + level x the rest of
    its demand). RuntimeError when there is no optimum.
    """
    import highspy

    t, i = instance.topology, instance.inputs
    rows = len(i.limit_w)
    free = np.flatnonzero(i.floor_w < i.demand_w)
    n = RACKS + 1  # powers [kW], then the common level
    floor_kw, demand_kw = 1e-3 * i.floor_w, 1e-3 * i.demand_w
    least = float(np.min((i.floor_w - i.other_w)[free] / (i.demand_w - i.other_w)[free]))
    lp: Any = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n, rows + len(free)
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.append(np.zeros(RACKS), 1.0)
    lp.col_lower_, lp.col_upper_ = np.append(floor_kw, min(least, 1.0)), np.append(demand_kw, 1.0)
    above = np.full(len(free), highspy.kHighsInf)
    lp.row_lower_ = np.append(np.full(rows, -highspy.kHighsInf), 1e-3 * i.other_w[free])
    lp.row_upper_ = np.append(1e-3 * i.limit_w, above)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.append(t.row_start, len(t.coef) + 2 * np.arange(1, len(free) + 1))
    pairs = np.column_stack((free, np.full(len(free), RACKS)))
    lp.a_matrix_.index_ = np.append(t.row_rack, pairs.ravel())
    slopes = np.column_stack((np.ones(len(free)), -1e-3 * (i.demand_w - i.other_w)[free]))
    lp.a_matrix_.value_ = np.append(t.coef, slopes.ravel())
    highs: Any = highspy.Highs
    h = highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    h.passModel(lp)
    clock = RealClock()
    begin_s = clock.now_s()
    h.run()
    if h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS ended with {h.getModelStatus()}")
    return 1e3 * (clock.now_s() - begin_s), float(h.getInfo().objective_function_value)


def bench_fill(runs: int = 200, seed: int = 1) -> dict[str, float]:
    """p50 and p99 of one filling [ms] for mixed gangs and for single racks, and HiGHS' time for one LP over it."""
    out: dict[str, float] = {}
    for gangs, mixed in (("mixed", True), ("single", False)):
        for name, curves in (("linear", (LINE,)), ("six_segments", SIX_SEGMENTS)):
            instance = colossus_like(seed, mixed, curves, losses=6)
            times = fill_ms(instance, runs)
            out[f"{gangs}_{name}_ms_p50"] = float(np.percentile(times, 50))
            out[f"{gangs}_{name}_ms_p99"] = float(np.percentile(times, 99))
            if name == "linear" and mixed:
                out |= {"rows": float(len(instance.inputs.limit_w)), "nonzeros": float(len(instance.topology.coef))}
                out["highs_ms"] = float(np.median([lp_step(instance)[0] for _ in range(3)]))
                out["highs_over_fill"] = out["highs_ms"] / out[f"{gangs}_{name}_ms_p50"]
    return out
