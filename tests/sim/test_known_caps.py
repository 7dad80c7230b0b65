"""The plant's law of work under a cap, fitted on one GPU and asked about others (FACTS P.5: median error at most 0.05).

A point is a measured throughput relative to uncapped at a cap; the law sees the cap over what the workload draws
uncapped. Zeus measured that draw for every row, Emerald's sweep for the A100; the A40's is 0.77 of TDP (FACTS P.4);
MLPerf gives none for the H200, so TDP.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from helpers_water import DATA, with_reference
from scipy.optimize import minimize

from drivers.site.load import resolve_site
from sim.plant.jobs import start_jobs, work_speed
from sim.plant.network import compile_network

DEMAND = {"A40": 0.77, "V100": 0.91}  # of TDP, where no row tells (FACTS P.4)


class Point(NamedTuple):
    """Cap as share of the uncapped draw, and the throughput that was measured."""

    cap: float
    throughput: float


@cache
def points() -> dict[str, list[Point]]:
    """Measured points by GPU; `A100-training` and `A100-inference` apart."""
    found: dict[str, list[Point]] = defaultdict(list)
    with (DATA / "perf_vs_cap.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["workload"] != "infer_llama_8b_32g"]  # the same run as 48g
    uncapped = {
        (r["gpu"], r["workload"]): float(r["mean_power_w"]) / float(r["tdp_w"])
        for r in rows
        if float(r["cap_frac"]) == 1.0 and r["mean_power_w"]
    }
    for r in rows:
        if float(r["cap_frac"]) < 1.0:
            demand = uncapped.get((r["gpu"], r["workload"]), DEMAND.get(r["gpu"], 1.0))
            kind = ("-inference" if "infer" in r["workload"] else "-training") if r["gpu"] == "A100" else ""
            point = Point(min(1.0, float(r["cap_frac"]) / demand), float(r["rel_throughput"]))
            found[r["gpu"] + kind].append(point)
    runs: dict[tuple[str, ...], dict[float, tuple[float, float]]] = defaultdict(dict)
    with (DATA / "reference" / "zeus_summary_power_v100.csv").open(newline="") as file:
        for r in csv.DictReader(file):
            key = (r["dataset"], r["network"], r["batch_size"], r["optimizer"])
            runs[key][float(r["power_limit"])] = (float(r["time_per_epoch"]), float(r["average_power"]))
    for run in runs.values():
        full_s, full_w = run[250.0]
        for cap_w, (time_s, _) in run.items():
            if cap_w < full_w:  # a cap above the draw is none
                found["V100-zeus"].append(Point(cap_w / full_w, full_s / time_s))
    return found


def errors(of: Sequence[Point], static: float, compute: float) -> np.ndarray:
    """Absolute errors of the law."""
    return np.array([abs(work_speed(p.cap, static, compute) - p.throughput) for p in of])


def fitted(of: Sequence[Point]) -> tuple[float, float]:
    """Static and compute share by least squares."""
    start, bounds = (0.2, 0.7), ((0.0, 0.28), (0.05, 1.0))
    best = minimize(lambda x: float(np.mean(errors(of, *x) ** 2)), start, bounds=bounds, method="L-BFGS-B")
    static, compute = best.x
    return float(static), float(compute)


@with_reference
@pytest.mark.parametrize(
    ("on", "asked"),
    [
        (("A100-training", "A100-inference"), ("V100-zeus", "V100", "H200", "A40")),
        (("A100-inference",), ("V100-zeus", "V100")),
        (("V100-zeus",), ("A100-training", "A100-inference", "V100", "A40")),
        (("H200",), ("A100-training", "A100-inference", "V100-zeus", "V100", "A40")),
    ],
)
def test_fitted_on_one_gpu_it_holds_on_others(on: tuple[str, ...], asked: tuple[str, ...]) -> None:
    law = fitted([p for name in on for p in points()[name]])
    for name in asked:
        of = points()[name]
        assert len(of) >= 10
        assert np.median(errors(of, *law)) <= 0.05, name


@with_reference
@pytest.mark.parametrize("gpu", ["A100-training", "A100-inference", "V100-zeus", "V100", "H200", "A40"])
def test_the_shares_that_the_plant_draws_hold_everywhere(gpu: str) -> None:
    net = compile_network(resolve_site("hall"))
    jobs = start_jobs(net.racks, net.gangs, np.random.default_rng(1))
    assert np.median(errors(points()[gpu], jobs.static.mean(), jobs.compute_share.mean())) <= 0.05
