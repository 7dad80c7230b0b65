"""What each row allows: ratings in their native units, heat by flow and supply, the envelope and its ramp."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_control import VOLT_V, Bench, Wiring, bench, later
from hypothesis import given
from hypothesis import strategies as st

from controller import estimate, limits
from controller.frames import Estimate, Floats, Image, Limits, Requests
from controller.kernels.rating import SLOW_PER_CYCLE
from controller.policies import coolant, grid, rating, supply
from drivers.site.cooling import COOLANTS

UNITS = ((0, 300.0, "A"), (0, 200e3, "VA"), (0, 200e3, "W"))
ROOT3 = np.sqrt(3.0)


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(ups=UNITS, cords=((0, 1), (1, 2), (2, 0), (0, 1)), envelope_w=400e3, ramp_w_per_s=5e3))


def readings(b: Bench, watts: float = 60e3, **electric: float) -> Floats:
    return b.values(np.full(b.racks, watts), np.full(b.racks, 80e3), **electric)  # type: ignore[arg-type]


def rated(b: Bench, seen: Image, cycles: int = 1) -> dict[str, float]:
    """Rating of each UPS after some cycles of the same image."""
    base = last = rating.nominal_w(b.plan)
    for _ in range(cycles):
        last = rating.rating_w(b.plan, seen, base, last)
    return {n.id: float(w) for n, w in zip(b.site.nodes, last, strict=True)}


def bounds(b: Bench, seen: Image, requests: Requests, state: limits.LimitsState) -> tuple[Limits, limits.LimitsState]:
    known = estimate.estimate(b.plan, seen, estimate.begin(b.plan, seen.now_s - 10.0))[0]
    return limits.narrow(b.plan, seen, known, requests, state)


def test_unknown_means_the_worst_case_in_each_unit(b: Bench) -> None:
    nothing = b.image(np.full(b.inventory.size, np.nan))
    got, pf = rated(b, nothing), b.site.control.power_factor_worst
    assert got["u0"] == pytest.approx(ROOT3 * 0.95 * VOLT_V * 300.0 * pf / 1.05)
    assert got["u1"] == pytest.approx(200e3 * pf)
    assert got["u2"] == 200e3


@pytest.mark.parametrize(("pf", "unbalance"), [(0.97, 1.0), (0.9, 1.2), (0.7, 1.4)])
def test_ratings_follow_what_is_measured(b: Bench, pf: float, unbalance: float) -> None:
    got = rated(b, b.image(readings(b, pf=pf, unbalance=unbalance)), 600)
    assert got["u0"] == pytest.approx(ROOT3 * VOLT_V * 300.0 * pf / unbalance, rel=1e-4)
    assert got["u1"] == pytest.approx(200e3 * pf, rel=1e-4)
    assert got["u2"] == 200e3


def test_a_rating_narrows_at_once_and_widens_slowly(b: Bench) -> None:
    wide, narrow = (b.image(readings(b, pf=pf)) for pf in (1.0, 0.8))
    base = rating.nominal_w(b.plan)
    at, last = b.plan.row_name.index("u1"), base
    for _ in range(400):
        last = rating.rating_w(b.plan, wide, base, last)
    assert last[at] == pytest.approx(200e3, rel=1e-3)
    last = rating.rating_w(b.plan, narrow, base, last)
    assert last[at] == pytest.approx(160e3)
    once = rating.rating_w(b.plan, wide, base, last)[at]
    assert 160e3 < once <= 160e3 + SLOW_PER_CYCLE * 40e3 + 1.0


def test_a_lost_meter_narrows_slowly(b: Bench) -> None:
    """A data-quality reason alone makes no step."""
    base = rating.nominal_w(b.plan)
    good = rating.rating_w(b.plan, b.image(readings(b, pf=1.0)), base, np.full(len(base), np.inf))
    at = b.plan.row_name.index("u1")
    dark = b.image(readings(b), bad=[("u1", "power_w"), ("u1", "volt_l1_v")])
    once = rating.rating_w(b.plan, dark, base, good)[at]
    assert good[at] == pytest.approx(200e3)
    assert once >= good[at] - SLOW_PER_CYCLE * 0.1 * 200e3
    last = good
    for _ in range(400):
        last = rating.rating_w(b.plan, dark, base, last)
    assert last[at] == pytest.approx(200e3 * b.site.control.power_factor_worst, rel=1e-3)


@pytest.mark.parametrize("factor", [0.0, 0.01, 100.0, -1.0])
def test_an_ammeter_that_lies_stays_within_physics(b: Bench, factor: float) -> None:
    value = readings(b)
    for k in "123":
        value[b.slots["u0", f"current_l{k}_a"]] *= factor
    carry_w = ROOT3 * 1.05 * VOLT_V * 300.0
    assert carry_w * 0.1 <= rated(b, b.image(value), 400)["u0"] <= carry_w


def test_light_load_says_nothing_of_power_factor(b: Bench) -> None:
    value = readings(b, 1e3, pf=0.6)
    assert rated(b, b.image(value))["u1"] == pytest.approx(200e3 * b.site.control.power_factor_worst)


def heat(b: Bench, seen: Image) -> tuple[Floats, Floats]:
    """Heat limits of CDUs and loops with nothing remembered."""
    cdu_w, loop_w, _ = coolant.heat_w(b.plan, seen, coolant.begin(b.plan))
    return cdu_w, loop_w


def cdu_flow(b: Bench, **shown: float) -> float:
    value = readings(b)
    b.put(value, "c0", shown)
    return float(heat(b, b.image(value))[0][0])


def test_a_cdu_carries_flow_times_heat_capacity_times_rise(b: Bench) -> None:
    """At 80 % pump duty 40 L/min are 50 at full; return may be 15 K above the warmest supply of 45 C."""
    w_per_lpm_k = COOLANTS[b.site.cdus[0].coolant].w_per_lpm_k
    assert cdu_flow(b, flow_lpm=40.0, supply_c=44.0) == pytest.approx(50.0 * w_per_lpm_k * (60.0 - 44.0))
    assert cdu_flow(b, flow_lpm=900.0, supply_c=40.0) == 80e3
    assert cdu_flow(b, flow_lpm=40.0, supply_c=61.0) == 0.0


def test_a_silent_cdu_keeps_its_rating(b: Bench) -> None:
    seen = b.image(readings(b), bad=[("c0", "flow_lpm"), ("c1", "supply_c")])
    assert heat(b, seen)[0].tolist() == [80e3] * 4


def test_what_falls_silent_after_it_had_narrowed_stays_narrow() -> None:
    b = bench(Wiring(loop_lpm=1200.0))
    value = readings(b)
    b.put(value, "c0", {"flow_lpm": 10.0, "supply_c": 44.0})
    b.put(value, "pump0", {"available": 0.0})
    cdu_w, loop_w, state = coolant.heat_w(b.plan, b.image(value), coolant.begin(b.plan))
    assert cdu_w[0] < 80e3
    assert loop_w[0] == 0.0
    blind = b.image(
        readings(b), bad=[("c0", "flow_lpm"), ("c0", "supply_c"), ("pump0", "available"), ("loop0", "supply_c")]
    )
    later_cdu_w, later_loop_w, _ = coolant.heat_w(b.plan, blind, state)
    assert later_cdu_w[0] == cdu_w[0]
    assert later_loop_w[0] == 0.0


def warmed(
    b: Bench, supplies: tuple[float, ...], seconds: int, state: supply.SupplyState | None = None
) -> supply.SupplyState:
    """The state after some seconds of these supplies at the CDUs, each of which carried 60 kW; NaN is silence."""
    value, state = readings(b), state or supply.begin(b.plan)
    for i, supply_c in enumerate(supplies):
        b.put(value, f"c{i}", {"supply_c": supply_c})
    seen = b.image(value, bad=[(f"c{i}", "supply_c") for i, c in enumerate(supplies) if np.isnan(c)])
    for _ in range(seconds):
        seen = later(seen, 1.0)
        state = supply.heat_w(b.plan, seen, np.full(4, 60e3), np.zeros(4), state)
    return state


def test_a_cdu_carries_less_while_its_racks_get_water_warmer_than_they_accept(b: Bench) -> None:
    cool = warmed(b, (40.0,) * 4, 60)
    assert np.isinf(cool.limit_w).all()
    warm = warmed(b, (46.5, 40.0, 44.6, 40.0), 30, cool)
    warmer = warmed(b, (46.5, 40.0, 44.6, 40.0), 30, warm)
    assert warmer.limit_w[0] < warm.limit_w[0] < warm.limit_w[2] < 60e3
    assert np.isinf(warmer.limit_w[[1, 3]]).all()
    assert (warmed(b, (np.nan,) * 4, 30, warmer).limit_w == warmer.limit_w).all()
    assert np.isinf(warmed(b, (40.0,) * 4, 600, warmer).limit_w).all()


def test_warm_water_alone_holds_no_cdu_below_the_floors_of_its_racks(b: Bench) -> None:
    floors_w = b.plan.rows.dot(b.plan.floor_w)[b.plan.cdu_row]
    assert warmed(b, (70.0,) * 4, 900).limit_w == pytest.approx(np.maximum(floors_w, 60e3 * (1.0 - supply.MOST)))


@given(st.lists(st.floats(20.0, 70.0), min_size=1, max_size=60))
def test_a_supply_limit_never_exceeds_what_was_carried_and_ends(course: list[float]) -> None:
    b = bench(Wiring())
    state = supply.begin(b.plan)
    for supply_c in course:
        state = warmed(b, (supply_c,) * 4, 1, state)
        assert ((state.limit_w <= np.maximum(60e3, b.plan.floor_w)) | np.isinf(state.limit_w)).all()
    assert np.isinf(warmed(b, (30.0,) * 4, 300, state).limit_w).all()


def pumps(available: float, supply_c: float = 36.0, silent: bool = False) -> tuple[float, float]:
    """Heat limit of a loop with one pump of 1200 L/min, and its rating."""
    b = bench(Wiring(loop_lpm=1200.0))
    value = readings(b)
    b.put(value, "pump0", {"available": available})
    b.put(value, "loop0", {"supply_c": supply_c})
    seen = b.image(value, bad=[("pump0", "available"), ("loop0", "supply_c")] if silent else ())
    return float(heat(b, seen)[1][0]), float(b.plan.loop_cap_w[0])


def test_losing_a_pump_or_cold_water_lowers_a_loops_heat(b: Bench) -> None:
    limit_w, rated_w = pumps(1.0)
    assert limit_w == pytest.approx(rated_w)
    assert pumps(0.0)[0] == 0.0
    assert pumps(1.0, 44.0)[0] == pytest.approx(rated_w * (52.0 - 44.0) / (52.0 - 36.0))
    assert pumps(1.0, 20.0)[0] == rated_w
    assert pumps(0.0, silent=True)[0] == rated_w


def test_one_pump_of_two_carries_its_share_and_a_standby_makes_up() -> None:
    site = Wiring(loop_lpm=1000.0).site()
    pump = site.cooling[0]
    pumps = [pump.model_copy(update={"id": f"pump{i}", "capacity": 500.0, "standby": i == 2}) for i in range(3)]
    device = next(d for d in site.devices if d.id == "pump0")
    more = [device.model_copy(update={"id": f"pump{i}", "measures": f"pump{i}"}) for i in (1, 2)]
    b = bench(site=site.model_copy(update={"cooling": (*pumps, *site.cooling[1:]), "devices": (*site.devices, *more)}))
    value = readings(b)
    for available, share in (((1, 1, 1), 1.0), ((0, 1, 1), 1.0), ((0, 1, 0), 0.5), ((0, 0, 0), 0.0)):
        for i, x in enumerate(available):
            b.put(value, f"pump{i}", {"available": float(x)})
        limit_w = heat(b, b.image(value))[1][0]
        assert limit_w == pytest.approx(share * b.plan.loop_cap_w[0])


def test_a_narrowed_loop_says_why(b: Bench) -> None:
    value = readings(b)
    b.put(value, "loop0", {"supply_c": 45.0})
    got, _ = bounds(b, b.image(value), Requests(), limits.begin(b.plan))
    assert got.narrowed_by[b.plan.loop_row.start] == "flow and supply temperature"


def curtail(
    b: Bench, asked_w: float | None, seconds: int, drawn_w: float = 60e3, within_s: float | None = None
) -> list[float]:
    """Envelope in force, second by second, after an operator asks."""
    seen, state = b.image(readings(b, drawn_w)), limits.begin(b.plan)
    _, state = bounds(b, seen, Requests(), state)
    out = []
    for _ in range(seconds):
        seen = later(seen, 1.0)
        got, state = bounds(
            b, seen, Requests(envelope_w=asked_w, envelope_by="utility", envelope_within_s=within_s), state
        )
        out.append(got.envelope_w)
    return out


def test_a_curtailment_starts_at_what_the_site_may_draw_and_keeps_the_ramp(b: Bench) -> None:
    """No time is lost coming down from an envelope that is not used, and no second goes faster than the ramp."""
    seen = curtail(b, 200e3, 60)
    reach_w = float(b.plan.rows.dot(np.full(4, 80e3))[b.plan.envelope_row])
    assert seen[0] <= reach_w / (1 - grid.METER_ERROR)
    assert (np.diff(seen) >= -5e3 - 1e-6).all()
    assert seen[-1] == 200e3


def test_a_curtailment_in_a_hurry_is_there_in_time_and_one_with_time_keeps_the_ramp(b: Bench) -> None:
    seen = curtail(b, 200e3, 30, within_s=30.0)
    assert seen[int(30.0 - grid.EARLY_S)] == 200e3
    assert (np.diff(seen) >= -200e3 / (30.0 - grid.EARLY_S) - 1e-6).all()
    assert curtail(b, 200e3, 60, within_s=600.0) == curtail(b, 200e3, 60)
    assert curtail(b, 200e3, 3, within_s=1.0)[1] == 200e3


def test_an_envelope_asked_above_the_sites_own_changes_nothing(b: Bench) -> None:
    assert curtail(b, 900e3, 3) == [400e3] * 3
    assert curtail(b, None, 3) == [400e3] * 3


def test_what_a_curtailment_leaves_is_less_by_the_meters_error_and_says_by_whom(b: Bench) -> None:
    state = limits.begin(b.plan)
    got, _ = bounds(b, b.image(readings(b)), Requests(envelope_w=399e3, envelope_by="utility"), state)
    assert got.limit_w[b.plan.envelope_row] == pytest.approx(got.envelope_w * (1 - grid.METER_ERROR))
    assert got.narrowed_by[b.plan.envelope_row] == "curtailment to 0.4 MW by utility"


def test_policies_only_narrow(b: Bench) -> None:
    """Whatever is measured, no heat limit exceeds its rating and no envelope the site's."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        value = rng.choice([np.nan, 0.0, -1e9, 1e12, 1.0, 40.0, 400.0], b.inventory.size)
        got, _ = bounds(b, b.image(value), Requests(), limits.begin(b.plan))
        assert (got.limit_w[b.plan.cdu_row] <= b.plan.cdu_cap_w).all()
        assert (got.limit_w[b.plan.loop_row] <= b.plan.loop_cap_w).all()
        assert got.envelope_w <= b.site.control.envelope_w
        assert np.isfinite(got.limit_w).all()
        assert (got.room_w >= 0.0).all()


def test_held_racks_are_marked(b: Bench) -> None:
    got, _ = bounds(b, b.image(readings(b)), Requests(held=frozenset({"r2"})), limits.begin(b.plan))
    assert got.held.tolist() == [False, False, True, False]


def test_room_is_what_other_load_leaves(b: Bench) -> None:
    known = estimate.estimate(b.plan, b.image(readings(b)), estimate.begin(b.plan, 990.0))[0]
    other = known.other_w.copy()
    other[0] = 123e3
    changed: Estimate = replace(known, other_w=other)
    got, _ = limits.narrow(b.plan, b.image(readings(b)), changed, Requests(), limits.begin(b.plan))
    assert got.room_w[0] == pytest.approx(got.limit_w[0] - 123e3)
