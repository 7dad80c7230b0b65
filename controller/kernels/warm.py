"""Compile the kernels before they are needed and prove them on a known answer; LIVE is refused otherwise."""

from dataclasses import dataclass

import numpy as np

from controller.kernels.fill import FillInputs, FillTopology, build_topology, fill, level_of
from controller.kernels.rating import at_measured
from controller.kernels.trip import advance, allowed, compile_curves, time_to_trip
from controller.kernels.work import throughput
from drivers.clock import Clock, RealClock
from drivers.site.catalog import TripCurve

BUDGET_MS = 20.0  # one filling of the known case; compiled it takes some tens of microseconds


@dataclass(frozen=True)
class WarmReport:
    """Whether the kernels give the known answer in time, and the complaint if not."""

    ok: bool
    problem: str


def known_case() -> tuple[FillTopology, FillInputs]:
    """Three gangs, two rows, a ceiling; at level x racks take max(20, 100 x), 100 x, 400 x - 290 (x > 0.8), 60 x W.

    Row 1 holds the first gang at 200 x = 170; the ceiling of rack 2 holds the second at 400 x - 290 = 76; row 0 holds
    the third, a rack without GPU power, at 85 + 85 + 76 + 60 x = 303.
    """
    line, bent = ((0.5, 1.0), (0.5, 1.0)), ((0.2, 1.0), (0.8, 1.0))
    topology = build_topology(
        [0, 0, 1, 2], [0, 0, 0], [0, 4, 5], [0, 1, 2, 3, 1], [1.0, 1.0, 1.0, 1.0, 2.0], [line, bent]
    )
    inputs = FillInputs(
        floor_w=np.array([20.0, 0.0, 14.0, 30.0]),
        demand_w=np.array([100.0, 100.0, 110.0, 60.0]),
        ceiling_w=np.array([np.inf, np.inf, 76.0, np.inf]),
        other_w=np.array([0.0, 0.0, 10.0, 30.0]),
        gpu_w=np.array([100.0, 100.0, 100.0, 0.0]),
        curve_of=np.array([0, 0, 1, 0]),
        limit_w=np.array([303.0, 170.0]),
    )
    return topology, inputs


def self_test() -> str:
    """What is wrong with the known answer, or an empty text."""
    topology, inputs = known_case()
    result = fill(topology, inputs)
    for name, got, expected in (
        ("level", result.level, [0.85, 0.915, 0.95]),
        ("power_w", result.power_w, [85.0, 85.0, 76.0, 57.0]),
        ("row_load_w", result.row_load_w, [303.0, 170.0]),
        ("binding_row", result.binding_row, [1, -4, 0]),
        ("level_of", level_of(topology, inputs, result.power_w), [0.85, 0.915, 0.95]),
    ):
        if not np.allclose(got, expected, rtol=1e-9, atol=0.0):
            return f"filling of the known case: {name} is {got.tolist()}, not {expected}"
    return _trip_test()


def _trip_test() -> str:
    """What is wrong with a known protection (1.2 for 60 s, 1.5 for 10 s, cold after 100 s), or an empty text."""
    table = compile_curves([TripCurve(((1.2, 60.0), (1.5, 10.0)), credit=True, source="known", cool_s=100.0)] * 3)
    h, load = np.array([0.5, 0.5, 0.5]), np.array([1.0, 1.1, 1.4])
    hold_s, share = np.array([4.0, 4.0, 40.0]), np.array([1.0, 0.5, 1.0])
    for name, got, expected in (
        ("state", advance(table, h, load, 3.0), [0.47, 0.55, 0.8]),
        ("time to trip", time_to_trip(table, h, load), [np.inf, 30.0, 5.0]),
        ("allowed", allowed(table, np.arange(3), h, hold_s, share), [1.5, 1.2, 1.0]),
    ):
        if not np.allclose(got, expected, rtol=1e-9, atol=0.0):
            return f"trip curve of the known case: {name} is {got.tolist()}, not {expected}"
    return _rating_test()


def _rating_test() -> str:
    """What is wrong with known ratings, or an empty text.

    100 A in three phases at 0.9 of 400 V, power factor 0.8 and 25 % unbalance; 50 kVA that nobody measures, which
    goes a fiftieth of the way to its worst case; 70 kW as they stand.
    """
    root3, nan = 3.0**0.5, np.nan
    amps = (np.array([75.0, nan, 10.0]), np.array([45.0, nan, 10.0]), np.array([60.0, nan, 10.0]))
    apparent_va = np.array([root3 * 360.0 * 60.0, nan, nan])
    power = np.array([0.8 * apparent_va[0], nan, 1e3])
    of_site = (np.full(3, root3), np.full(3, 400.0), np.array([100.0, 50e3, 70e3]))
    unit = (np.array([True, False, False]), np.array([False, True, False]))
    volt, below_w, base_w = np.array([360.0, nan, 400.0]), np.zeros(3), np.full(3, 1e3)
    last_w = np.array([np.inf, 50e3, 80e3])
    (a, b, c), (phase, volt_v, rating), (in_amps, in_va) = amps, of_site, unit
    shown = at_measured(
        volt, a, b, c, power, apparent_va, below_w, phase, volt_v, rating, in_amps, in_va, base_w, last_w, 0.9
    )
    got = np.asarray(shown)
    expected = [root3 * 360.0 * 100.0 * 0.8 / 1.25, 50e3 - 0.02 * 5e3, 70e3]
    if not np.allclose(got, expected, rtol=1e-9, atol=0.0):
        return f"ratings of the known case: {got.tolist()}, not {expected}"
    return ""


def work_test() -> str:
    """What is wrong with the most work of the known case, or an empty text.

    A watt in row 0 gives 1/60 in the third gang, 1/100 in the first until row 1 is full, then 1/400 in the second.
    """
    result = throughput(*known_case(), np.ones(3))
    for name, got, expected in (
        ("level", result.level, [0.85, 0.9075, 1.0]),
        ("power_w", result.power_w, [85.0, 85.0, 73.0, 60.0]),
    ):
        if not np.allclose(got, expected, rtol=1e-9, atol=0.0):
            return f"most work of the known case: {name} is {got.tolist()}, not {expected}"
    return ""


def warm(clock: Clock | None = None, budget_ms: float = BUDGET_MS, objective: str = "fair") -> WarmReport:
    """Compile, compare with the known answers and time one filling against the budget [ms].

    The kernel of `throughput` is only compiled for sites with that objective.
    """
    clock = RealClock() if clock is None else clock
    problem = self_test() or (work_test() if objective == "throughput" else "")
    topology, inputs = known_case()
    start_s = clock.now_s()
    fill(topology, inputs)
    fill_ms = 1e3 * (clock.now_s() - start_s)
    if not problem and fill_ms > budget_ms:
        problem = f"one filling of the known case took {fill_ms:.1f} ms, more than {budget_ms:.1f} ms"
    return WarmReport(ok=not problem, problem=problem)
