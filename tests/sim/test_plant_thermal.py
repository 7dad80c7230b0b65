"""Heat against closed forms: plates, CDUs, heat exchanger, pumps, rejection."""

import math

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site

from drivers.site.cooling import COOLANTS
from sim.plant.cdu import effectiveness
from sim.plant.facility import part_load
from sim.plant.plant import Plant

MILD = {"dry_bulb_c": 25.0, "depression_k": 8.0, "swing_k": 0.0}


@pytest.fixture(scope="module")
def settled() -> Plant:
    """The tiny site at nameplate for twenty minutes in mild weather."""
    plant = make_plant(*FULL, UNCAPPED, weather=MILD)
    plant.step(1200.0)
    return plant


@pytest.mark.parametrize(("ntu", "ratio"), [(0.5, 0.0), (1.0, 0.5), (4.47, 0.92), (3.0, 1.0), (0.0, 0.7)])
def test_effectiveness_of_a_counter_flow_exchanger(ntu: float, ratio: float) -> None:
    if ratio == 1.0:
        expected = ntu / (1 + ntu)
    else:
        e = math.exp(-ntu * (1 - ratio))
        expected = (1 - e) / (1 - ratio * e)
    assert effectiveness(ntu, ratio) == pytest.approx(expected, rel=1e-12)


def test_effectiveness_of_deschutes() -> None:
    """Published: 0.843 at NTU 4.47 and C_r 0.92 (FACTS P.7)."""
    assert effectiveness(4.47, 0.92) == pytest.approx(0.843, abs=0.005)


def test_steady_heat_balance_of_a_rack_and_its_cdu(settled: Plant) -> None:
    s, racks = settled.thermal, settled.network.racks
    liquid_w = settled.jobs.power_w * racks.liquid_share
    carried_w = s.cdu_flow_lpm[racks.cdu] * COOLANTS["pg25"].w_per_lpm_k * (s.fluid_c - s.cdu_supply_c[racks.cdu])
    assert carried_w == pytest.approx(liquid_w, rel=0.01)
    assert s.cdu_heat_w == pytest.approx(liquid_w + s.cdu_w, rel=0.01)
    assert s.loop_heat_w.sum() == pytest.approx(
        settled.jobs.power_w.sum() + s.cdu_w.sum() + s.unit_w[:3].sum(), rel=0.01
    )
    assert s.cdu_supply_c == pytest.approx(40.0, abs=0.5)
    assert s.loop_supply_c == pytest.approx(36.0, abs=0.5)


def test_plates_take_the_heat_of_their_silicon(settled: Plant) -> None:
    """Silicon above inlet at steady state: heat times base, and the share of the coolant's own rise."""
    s, racks = settled.thermal, settled.network.racks
    q = settled.jobs.power_w * racks.liquid_share
    rise = s.silicon_c - s.cdu_supply_c[racks.cdu]
    mixed = racks.inlet_weight * (s.fluid_c - s.cdu_supply_c[racks.cdu])
    assert rise - mixed == pytest.approx(q * racks.base_k_w, rel=0.01)
    assert np.all(s.silicon_c < 87.0)


def test_total_loss_of_cold_plate_flow_throttles_within_the_published_time() -> None:
    """Throttle 5-10 s, shutdown 10-20 s after total flow loss (FACTS C.3); ours is a lump, so within twice that."""
    plant = make_plant(*FULL, UNCAPPED, weather=MILD)
    plant.step(60.0)
    plant.write("c1", "flow_target_lpm", 0.0)
    plant.step(20.0)
    assert plant.truth().throttled == 1
    hot = plant.truth().rack_w[0]
    assert hot < 0.9 * plant.truth().rack_w[1]
    plant.step(120.0)
    assert plant.truth().throttled + plant.truth().shut_down >= 1


def test_standby_pump_takes_over() -> None:
    plant = make_plant(*FULL, {"do": "cooling_trip", "at_s": 10.0, "kind": "pump"}, weather=MILD)
    plant.step(10.0)
    before = plant.thermal.loop_flow_lpm[0]
    assert plant.thermal.unit_w[2] == 0.0
    plant.step(6.0)
    dip = plant.thermal.loop_flow_lpm[0]
    plant.step(40.0)
    assert plant.thermal.unit_w[0] == 0.0
    assert plant.thermal.unit_w[2] > 0.0
    assert dip < 0.9 * before
    assert plant.thermal.loop_flow_lpm[0] > 0.97 * before


def test_pump_power_is_flow_times_head() -> None:
    low = make_plant({"do": "training", "to": 0.4, "depth": 0.0}, {"do": "inference", "to": 0.4}, weather=MILD)
    low.step(900.0)
    s, hyd = low.thermal, low.network.hydraulics
    share = s.loop_flow_lpm[0] / hyd.unit_capacity[:2].sum()
    assert 0.2 < share < 0.8
    assert s.unit_w[0] == pytest.approx(hyd.unit_power_w[0] * share * (0.5 + 0.5 * share**2), rel=0.01)


def test_hotter_air_costs_more_cooling_power() -> None:
    powers = []
    for dry_c in (20.0, 38.0):
        plant = make_plant(*FULL, weather={"dry_bulb_c": dry_c, "depression_k": 8.0, "swing_k": 0.0})
        plant.step(600.0)
        powers.append(plant.truth().cooling_w)
    assert powers[1] > 1.2 * powers[0]


def test_loss_of_rejection_warms_the_loop() -> None:
    """Heat into the loop's water: m c dT/dt, within a fifth while nothing is rejected."""
    site = tiny_site()
    trips: list[dict[str, object]] = [
        {"do": "cooling_trip", "at_s": 60.0, "kind": "rejection", "nth": n} for n in (0, 1)
    ]
    plant = make_plant(*FULL, *trips, site=site, weather=MILD)
    plant.step(60.0)
    heat_w = plant.thermal.loop_heat_w[0]
    start = 0.5 * (plant.thermal.loop_supply_c[0] + plant.thermal.loop_return_c[0])
    plant.step(10.0)
    end = 0.5 * (plant.thermal.loop_supply_c[0] + plant.thermal.loop_return_c[0])
    assert end - start == pytest.approx(heat_w * 10.0 / (600.0 * 69.7 * 60.0), rel=0.2)


def test_a_chiller_at_part_load_draws_more_than_its_share_and_nothing_at_rest() -> None:
    """DOE-2's hermetic centrifugal: 0.495 at a half, 0.264 at a tenth, 1 at full load."""
    assert part_load(1.0) == pytest.approx(1.0, abs=1e-6)
    assert part_load(0.5) == pytest.approx(0.4955, abs=1e-3)
    assert part_load(0.1) == pytest.approx(0.2589, abs=1e-3)
    assert part_load(0.05) == pytest.approx(0.5 * part_load(0.1))
    assert part_load(0.0) == 0.0
    shares = np.linspace(0.0, 1.0, 101)
    assert np.all(np.diff([part_load(x) for x in shares]) > 0.0)


def test_colder_air_needs_less_of_it() -> None:
    """Far below the design air the fans carry the same heat at a fraction of their power."""
    powers = []
    for dry_c in (0.0, 15.0, 25.0):
        plant = make_plant(*FULL, UNCAPPED, weather={"dry_bulb_c": dry_c, "depression_k": 6.0, "swing_k": 0.0})
        plant.step(900.0)
        dry = int(np.flatnonzero(plant.network.hydraulics.unit_kind == 2)[0])
        powers.append(float(plant.thermal.unit_w[dry]))
    assert powers[0] < 0.6 * powers[1] < 0.6 * powers[2]
