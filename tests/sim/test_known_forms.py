"""The water side's kernels against closed-form solutions."""

import numpy as np
import pytest
from helpers_water import Water
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plant.base import DT_S
from sim.plant.cdu import effectiveness, pump_share, valve_flow


@given(
    hot_w_k=st.floats(1e3, 1e5),
    ratio=st.floats(0.02, 0.99),
    ntu=st.floats(0.05, 6.0),
    hot_in_c=st.floats(30.0, 70.0),
    cold_in_c=st.floats(5.0, 29.0),
    hot_is_least=st.booleans(),
)
def test_effectiveness_carries_ua_times_log_mean_difference(
    hot_w_k: float, ratio: float, ntu: float, hot_in_c: float, cold_in_c: float, hot_is_least: bool
) -> None:
    """Counter-flow: the heat of eps-NTU is UA times the log-mean temperature difference of its own outlets."""
    cold_w_k = hot_w_k / ratio if hot_is_least else hot_w_k * ratio
    least = min(hot_w_k, cold_w_k)
    q = effectiveness(ntu, ratio) * least * (hot_in_c - cold_in_c)
    hot_out_c, cold_out_c = hot_in_c - q / hot_w_k, cold_in_c + q / cold_w_k
    assert hot_out_c >= cold_in_c - 1e-9
    assert cold_out_c <= hot_in_c + 1e-9
    one, other = hot_in_c - cold_out_c, hot_out_c - cold_in_c
    mean = one if abs(one / other - 1.0) < 1e-9 else (one - other) / np.log(one / other)
    assert q == pytest.approx(ntu * least * mean, rel=1e-6)


def test_effectiveness_is_continuous_at_equal_flows() -> None:
    for ntu in (0.5, 2.0, 6.0):
        assert effectiveness(ntu, 0.99989) == pytest.approx(ntu / (1.0 + ntu), rel=2e-4)


@given(load=st.floats(0.1, 1.2), flow=st.floats(0.05, 1.2), seconds=st.floats(1.0, 60.0))
@settings(max_examples=30)
def test_rack_coolant_after_a_step_of_load(load: float, flow: float, seconds: float) -> None:
    """One RC: T = T_in + P / C (1 - exp(-t C / m c)), to rounding, whatever the step."""
    water = Water("cold_plates")
    s, racks, hyd = water.state, water.racks, water.hyd
    s.fluid_c[:], s.cdu_supply_c[:] = 30.0, 30.0
    s.cdu_flow_lpm[:] = flow * hyd.cdu_flow_lpm
    steps, rack_w = round(seconds / DT_S), np.full(2, 66e3 * load)
    stored_j = sum(water.cool(rack_w) for _ in range(steps))
    w_k = 0.5 * float(s.cdu_flow_lpm[0] * hyd.cdu_w_lpm_k[0])
    rise_k = rack_w[0] / w_k * (1.0 - np.exp(-steps * DT_S * w_k / racks.fluid_j_k[0]))
    assert s.fluid_c[0] - 30.0 == pytest.approx(rise_k, rel=1e-9)
    assert stored_j == pytest.approx(2.0 * racks.fluid_j_k[0] * rise_k, rel=1e-9)


@given(load=st.floats(0.1, 1.0), seconds=st.floats(1.0, 40.0))
@settings(max_examples=30)
def test_silicon_after_a_step_of_load_over_still_coolant(load: float, seconds: float) -> None:
    """One RC: the rise of silicon over coolant that keeps its temperature is q R (1 - exp(-t / R C))."""
    water = Water("frontier_cdu")
    s, racks = water.state, water.racks
    steps, rack_w = round(seconds / DT_S), np.full(24, 5e4 * load)
    s.silicon_c[:], s.cdu_supply_c[:] = 28.0, 28.0
    for _ in range(steps):
        s.fluid_c[:] = 28.0
        water.cool(rack_w)
    tau_s = racks.silicon_j_k * racks.base_k_w
    rise_k = rack_w * racks.base_k_w * (1.0 - np.exp(-steps * DT_S / tau_s))
    assert s.silicon_c - 28.0 == pytest.approx(rise_k, rel=1e-9)


def test_no_flow_warms_the_coolant_by_its_heat() -> None:
    """Adiabatic: P t = m c dT of coolant and silicon together."""
    water = Water("frontier_cdu")
    s, racks = water.state, water.racks
    s.cdu_flow_lpm[:] = 0.0
    before_j = racks.silicon_j_k * s.silicon_c + racks.fluid_j_k * s.fluid_c
    for _ in range(40):
        water.cool(np.full(24, 1.1e4))
    after_j = racks.silicon_j_k * s.silicon_c + racks.fluid_j_k * s.fluid_c
    assert after_j - before_j == pytest.approx(np.full(24, 1.1e4 * 40 * DT_S), rel=1e-6)


def test_a_valve_is_an_equal_percentage_valve_with_half_of_the_authority() -> None:
    """Waypoints of the LBNL reference: stroke and pressure drop of its exchanger, which goes with flow squared."""
    for stroke, drop_pa in ((1.0, 80000.0), (0.7772, 23831.0), (0.8175, 30950.8), (0.9208, 55983.3)):
        assert valve_flow(stroke) == pytest.approx((drop_pa / 80000.0) ** 0.5, abs=0.005)
    strokes = np.linspace(0.0, 1.0, 101)
    assert np.all(np.diff([valve_flow(x) for x in strokes]) > 0.0)


def test_pump_power_between_square_and_cube_of_flow() -> None:
    """With a square law everywhere it is the affinity law; a flatter system curve costs more at part flow."""
    for speed in (0.2, 0.5, 0.8, 1.0):
        assert pump_share(0.0, 1.0, 0.0, speed) == pytest.approx(speed**3)
        assert speed**3 <= pump_share(60 / 205, 80 / 205, 65 / 205, speed) <= speed**2.76
    published = 69945.15 / 93960.4  # LBNL's CDU from 60 to 50 kPa over its racks; it starts at 100.7 % of nominal
    assert pump_share(60 / 205, 80 / 205, 65 / 205, (50 / 60) ** (1 / 1.85)) == pytest.approx(published, rel=0.02)


@given(load=st.floats(0.2, 1.0), flow=st.floats(0.3, 1.0), seconds=st.integers(10, 120))
@settings(max_examples=15)
def test_no_heat_is_lost_on_the_way(load: float, flow: float, seconds: int) -> None:
    """Beyond the balance of each step: over all, the water holds what went in and did not go out."""
    water = Water("design_conditions")
    s, hyd, racks = water.state, water.hyd, water.racks
    s.cdu_target_lpm[:] = flow * hyd.cdu_flow_lpm

    def content_j() -> float:
        cdus = hyd.cdu_half_j_k * (s.cdu_supply_c + s.cdu_return_c)
        loops = hyd.loop_half_j_k * (s.loop_supply_c + s.loop_return_c)
        racks_j = racks.silicon_j_k * s.silicon_c + racks.fluid_j_k * s.fluid_c
        return float(cdus.sum() + loops.sum() + racks_j.sum())

    start_j, in_j, out_j = content_j(), 0.0, 0.0
    for _ in range(round(seconds / DT_S)):
        water.step(np.full(10, 1e5 * load), dry_c=20.0)
        in_j += (1e6 * load + float(s.cdu_w.sum()) + float(s.unit_w[0])) * DT_S
        out_j += float(s.loop_heat_w.sum()) * DT_S
    assert content_j() - start_j == pytest.approx(in_j - out_j, abs=1e-7 * in_j)
