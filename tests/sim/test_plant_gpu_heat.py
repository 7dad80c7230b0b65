"""Power and temperature of single GPUs: each an RC circuit of its own, leakage, and their own protection."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, give_caps, make_plant
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.points import Floats
from drivers.site.load import resolve_site
from sim.plant.base import DT_S
from sim.plant.gpu_loops import LEAK_PER_K, SHUTDOWN_C, THROTTLE_C
from sim.plant.gpus import start_gpus
from sim.plant.network import compile_network
from sim.plant.plant import Plant

MILD = {"dry_bulb_c": 25.0, "depression_k": 8.0, "swing_k": 0.0}
SWING = ({"do": "training", "to": 0.95, "depth": 0.3}, {"do": "inference", "to": 0.8})


def of(plant: Plant, rack: int, values: Floats) -> Floats:
    """The values of a rack's GPUs."""
    found: Floats = values[plant.gpus.start[rack] : plant.gpus.start[rack + 1]]
    return found


def test_every_gpu_is_its_own_rc_circuit() -> None:
    """Each GPU integrated alone, in float64 and with a thousandth of a second, from its power and coolant.

    The rest of a node's heat is shared out equally, as thermal.py has it. A cap falls and the coolant warms meanwhile.
    """
    plant = make_plant(*SWING, UNCAPPED, weather=MILD)
    plant.step(30.0)
    racks, r = plant.network.racks, 1
    g_w_k = of(plant, r, plant.gpus.plate.astype(float)) / (racks.base_k_w[r] * 64)
    j_k = racks.silicon_j_k[r] / 64
    mine = of(plant, r, plant.gpu_c()).copy()
    least, most = mine.min(), mine.max()
    plant.director.faults.ignores_caps[:] = False
    give_caps(plant, 56_000, seq=1, ttl_s=600.0)
    for second in range(60):
        if second == 20:
            plant.write("c2", "flow_target_lpm", 45.0)
        for _ in range(4):
            coolant_c = float(plant.thermal.coolant_c[r])
            plant.step(DT_S)
            power_w = of(plant, r, plant.gpu_power_w())
            heat_w = plant.jobs.power_w[r] * racks.liquid_share[r] / 64 + (power_w - power_w.mean()) * racks.lean[r]
            seen_c = 0.5 * (coolant_c + float(plant.thermal.coolant_c[r]))
            for _ in range(250):
                mine += 1e-3 / j_k * (heat_w - g_w_k * (mine - seen_c))
    plants = of(plant, r, plant.gpu_c())
    assert np.abs(plants - mine).max() < 0.1
    assert plants.mean() < np.mean([least, most])  # it really moved
    assert np.ptp(plants) > 2.0


def test_powers_of_gpus_and_the_rest_are_the_racks_and_distances_sum_to_zero() -> None:
    plant = make_plant(*SWING)
    for _ in range(60):
        plant.step()
        gpu_w = np.add.reduceat(plant.gpu_power_w(), plant.gpus.start[:-1])
        assert gpu_w + plant.network.racks.other_w == pytest.approx(plant.jobs.power_w, rel=1e-9)
        mean_k = np.add.reduceat(plant.gpus.above_k.astype(float), plant.gpus.start[:-1]) / plant.network.racks.gpus
        assert np.abs(mean_k).max() < 1e-4
        assert plant.gpu_c().max() == pytest.approx(plant.truth().hottest_gpu_c, abs=0.05)


@given(rise_k=st.floats(0.5, 12.0), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_warmer_coolant_costs_power_by_leakage(rise_k: float, seed: int) -> None:
    """0.1 % a kelvin of what GPUs draw, at the same work."""
    cold, warm = (make_plant({"do": "training", "to": 0.8, "depth": 0.0}, UNCAPPED, seed=seed) for _ in range(2))
    warm.thermal.cdu_target_c[:] += rise_k
    for plant in (cold, warm):
        plant.step(400.0)
    risen_k = warm.thermal.silicon_c[0] - cold.thermal.silicon_c[0]
    gpus_w = cold.jobs.power_w[0] - cold.network.racks.other_w[0]
    more_w = warm.jobs.power_w[0] - cold.jobs.power_w[0]
    assert risen_k > 0.5 * rise_k
    assert more_w / gpus_w == pytest.approx(LEAK_PER_K * risen_k, rel=0.1)
    assert warm.jobs.work == pytest.approx(cold.jobs.work, rel=1e-9)


def test_a_gpu_with_a_bad_plate_throttles_alone_and_its_gang_waits() -> None:
    plant = make_plant(*FULL, UNCAPPED, weather=MILD)
    bad = int(plant.gpus.start[1]) + 7
    plant.gpus.plate[bad] = 0.62
    plant.step(120.0)
    t = plant.truth()
    assert t.gpus_throttled == 1
    assert t.throttled == 1
    assert t.gpus_shut_down == 0
    assert THROTTLE_C < plant.gpu_c()[bad] < SHUTDOWN_C
    assert plant.gpu_power_w()[bad] < 0.97 * np.median(of(plant, 1, plant.gpu_power_w()))
    pace = plant.jobs.pace[plant.network.racks.gang[1]]
    assert pace < 0.99
    assert t.rack_w[0] < 81_600 * 0.999  # waits
    assert pace == pytest.approx(plant.jobs.speed[1])


def test_a_gpu_without_a_plate_shuts_down_and_the_others_serve_on() -> None:
    plant = make_plant(*FULL, UNCAPPED, weather=MILD)
    bad = int(plant.gpus.start[3]) + 5
    plant.gpus.plate[bad] = 0.01
    plant.step(120.0)
    t = plant.truth()
    assert (t.gpus_shut_down, t.shut_down) == (1, 1)
    assert plant.gpu_power_w()[bad] == 0.0
    assert plant.jobs.speed[3] == pytest.approx(63 / 64, rel=1e-3)
    assert not plant.jobs.dead[3]
    assert t.rack_w[3] == pytest.approx(20_400 + 61_200 * 63 / 64, rel=5e-3)


def test_a_rack_without_flow_loses_its_gpus_one_by_one() -> None:
    plant = make_plant(*FULL, UNCAPPED, weather=MILD)
    plant.write("c1", "flow_target_lpm", 0.0)
    lost: list[int] = []
    for _ in range(1200):
        plant.step()
        lost.append(plant.truth().gpus_shut_down)
    assert lost == sorted(lost)
    assert 0 < lost[-1] <= 64
    assert len(set(lost)) > 3
    assert not plant.gpus.lost[1:].any()


@pytest.mark.parametrize("name", ["hall", "colossus"])
def test_no_gpu_throttles_at_nameplate_on_the_warmest_water_that_racks_accept(name: str) -> None:
    """Makers promise it up to 45 C (FACTS D); each GPU at rest by its own power and plate, leakage included."""
    site = resolve_site(name)
    network = compile_network(site)
    racks, rng = network.racks, np.random.default_rng(1)
    gpus = start_gpus(racks, racks.max_w, np.zeros(len(racks.max_w)), rng, own_caps=False)
    warmer_k = site.control.supply_max_c - network.hydraulics.cdu_set_c[racks.cdu]
    own_k = racks.base_k_w * racks.liquid_share * racks.max_w  # from coolant to silicon, of the rack's mean
    mean_c = racks.design_c + warmer_k
    ratio = gpus.wish.astype(float) / gpus.plate
    hottest = np.maximum.reduceat(ratio, gpus.start[:-1]) / (np.add.reduceat(ratio, gpus.start[:-1]) / racks.gpus)
    hot_c = mean_c + (hottest - 1.0) * own_k
    assert hot_c.max() < THROTTLE_C
    assert hot_c.max() > THROTTLE_C - 4.0  # and there is little to spare
    assert (hottest > 1.02).all()
