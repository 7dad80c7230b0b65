"""What instruments show against the truth, and faults that hide it."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site

from drivers.points import Floats, Ints
from sim.plant.base import PlantError
from sim.plant.plant import Plant


def shown(plant: Plant, slab_name: str, point: str) -> Floats:
    slab = plant.inventory.slab(slab_name)
    assert slab is not None
    return plant.measure()[slab.slots(point)]


@pytest.mark.parametrize("point_w", ["power_w"])
def test_meters_show_the_mean_of_the_last_second(point_w: str) -> None:
    plant = make_plant({"do": "training", "to": 1.0, "depth": 0.4, "period_s": 4.0}, UNCAPPED)
    plant.step(5.0)
    rack_w, node_w = [], []
    for _ in range(4):
        plant.step()
        rack_w.append(plant.truth().rack_w)
        node_w.append(plant.truth().node_w)
    index = plant.site.node_index
    for profile in ("schneider_pm5560", "janitza_umg96rm", "raritan_px_xerus"):
        slab = plant.inventory.slab(profile)
        assert slab is not None
        nodes = [index[d.measures] for d in slab.devices]
        assert shown(plant, profile, point_w) == pytest.approx(np.mean(node_w, axis=0)[nodes], rel=0.004)
    agents = shown(plant, "agent", point_w)
    assert agents == pytest.approx(np.mean(rack_w, axis=0), rel=0.01)  # NVML's looks (test_plant_nvml.py)


def test_phases_add_up_and_currents_fit_the_power() -> None:
    plant = make_plant(*FULL, UNCAPPED)
    plant.step(4.0)
    name = "janitza_umg96rm"
    phases = sum(shown(plant, name, f"power_l{k}_w") for k in (1, 2, 3))
    assert phases == pytest.approx(shown(plant, name, "power_w"), rel=1e-9)
    va = sum(shown(plant, name, f"volt_l{k}_v") * shown(plant, name, f"current_l{k}_a") for k in (1, 2, 3))
    assert va == pytest.approx(shown(plant, name, "apparent_va"), rel=1e-9)
    pdu_va = 3**0.5 * shown(plant, "raritan_px_xerus", "volt_v") * shown(plant, "raritan_px_xerus", "current_a")
    assert pdu_va == pytest.approx(shown(plant, "raritan_px_xerus", "apparent_va"), rel=1e-9)


def test_every_dial_at_once_shows_what_its_panel_shows() -> None:
    plant, twin = make_plant(*FULL), make_plant(*FULL)
    for both in (plant, twin):
        both.step(5.0)
        both.readings.refresh()
    flat = plant.measure()
    for slab in plant.inventory.slabs:
        if slab.devices:
            panel = twin.sensors.panel([d.measures for d in slab.devices], slab.points)
            assert np.array_equal(slab.view(flat), twin.sensors.show(panel)), slab.name


def test_a_reading_is_the_same_until_the_next_step() -> None:
    plant = make_plant()
    plant.step(1.0)
    assert np.array_equal(plant.measure(), plant.measure(), equal_nan=True)


def test_cdu_and_loop_show_their_water() -> None:
    plant = make_plant(*FULL)
    plant.step(60.0)
    assert shown(plant, "delta_rpu_orv3", "flow_lpm") == pytest.approx(90.0, rel=0.01)
    assert shown(plant, "delta_rpu_orv3", "supply_c") == pytest.approx(plant.thermal.cdu_supply_c, abs=0.2)
    assert shown(plant, "dsx_loop", "return_c") == pytest.approx(plant.thermal.loop_return_c, abs=0.2)
    assert shown(plant, "dsx_pump", "running").tolist() == [1.0, 1.0, 0.0]


def test_frozen_and_sentinel_devices_come_back() -> None:
    plant = make_plant(
        *FULL,
        {"do": "device_fault", "at_s": 5.0, "for_s": 10.0, "measures": "pdu", "how": "frozen", "count": 3},
        {"do": "device_fault", "at_s": 5.0, "for_s": 10.0, "measures": "cdu", "how": "sentinel"},
    )
    plant.step(5.0)
    before = shown(plant, "raritan_px_xerus", "power_w")
    plant.step(5.0)
    frozen = shown(plant, "raritan_px_xerus", "power_w")
    assert (frozen == before).sum() == 3
    assert np.isnan(shown(plant, "delta_rpu_orv3", "supply_c")).sum() == 1
    plant.step(10.0)
    assert (shown(plant, "raritan_px_xerus", "power_w") == before).sum() == 0
    assert not np.isnan(shown(plant, "delta_rpu_orv3", "supply_c")).any()


def test_a_silent_gateway_hides_its_units() -> None:
    plant = make_plant({"do": "gateway_silent", "at_s": 1.0, "for_s": 2.0})
    slab = plant.inventory.slab("raritan_px_xerus")
    assert slab is not None
    plant.step(2.0)
    behind = [d.gateway == "gwa" for d in slab.devices]
    assert plant.sensors.silent(slab).tolist() == behind
    plant.step(2.0)
    assert not plant.sensors.silent(slab).any()


def test_a_device_that_measures_nothing_known_is_refused() -> None:
    site = tiny_site()
    lost = tuple(d.model_copy(update={"measures": "nowhere"}) if d.id == "c1" else d for d in site.devices)
    with pytest.raises(PlantError, match="nowhere"):
        make_plant(site=tiny_site(devices=lost))


def test_a_dead_node_shows_no_voltage() -> None:
    plant = make_plant({"do": "outage", "at_s": 1.0, "id": "u1"})
    plant.step(3.0)
    slab = plant.inventory.slab("janitza_umg96rm")
    assert slab is not None
    row = [d.measures for d in slab.devices].index("u1")
    assert shown(plant, "janitza_umg96rm", "volt_l1_v")[row] == 0.0
    assert shown(plant, "janitza_umg96rm", "power_w")[row] == 0.0


def test_what_has_no_power_falls_silent_and_comes_back() -> None:
    """r1 hangs on u1 and u2; gateways and meters are fed from u1 or u2."""
    both = [{"do": "outage", "at_s": 2.0, "for_s": 4.0, "id": x} for x in ("u1", "u2")]
    plant = make_plant(*both[:1])
    pdus, cdus = plant.inventory.slab("raritan_px_xerus"), plant.inventory.slab("delta_rpu_orv3")
    assert pdus is not None
    assert cdus is not None
    plant.step(4.0)
    of_u1 = {"r1a", "r3a"}
    assert plant.sensors.silent(pdus).tolist() == [d.id in of_u1 for d in pdus.devices]
    assert not plant.sensors.silent(cdus).any(), "the other cord feeds them"
    plant = make_plant(*both)
    plant.step(4.0)
    assert plant.sensors.silent(pdus).all(), "their gateways are dark"
    assert plant.sensors.silent(cdus).tolist() == [d.id == "c1" for d in cdus.devices]
    plant.step(4.0)
    assert not plant.sensors.silent(pdus).any()
    assert not plant.sensors.silent(cdus).any()


def test_a_pump_without_voltage_is_not_available_and_the_standby_takes_over() -> None:
    site = tiny_site(switches=())
    plant = make_plant({"do": "outage", "at_s": 2.0, "id": "msa"}, site=site)  # pump2; pump1 and 3 are on msb
    plant.step(3.0)
    assert shown(plant, "dsx_pump", "available").tolist() == [1.0, 0.0, 1.0]
    assert shown(plant, "dsx_pump", "running").tolist() == [1.0, 0.0, 0.0]
    plant.step(15.0)
    assert shown(plant, "dsx_pump", "running").tolist() == [1.0, 0.0, 1.0]


def test_a_drifting_meter_goes_off_with_time_and_comes_back_when_it_is_calibrated() -> None:
    plant = make_plant(
        *FULL, UNCAPPED,
        {"do": "sensor_error", "at_s": 10.0, "for_s": 1200.0, "measures": "meter", "drift_per_h": 0.3, "count": 1000},
        {"do": "sensor_error", "at_s": 10.0, "for_s": 1200.0, "measures": "cdu", "drift_k_per_h": 6.0},
    )  # fmt: skip
    plant.step(600.0)

    def out_w(nodes: Ints) -> Floats:
        return plant.readings.of("node", "power_w")[nodes]

    slab = plant.inventory.slab("janitza_umg96rm")
    assert slab is not None
    nodes = np.array([plant.site.node_index[d.measures] for d in slab.devices])
    seen = shown(plant, "janitza_umg96rm", "power_w")
    assert seen == pytest.approx(out_w(nodes) * (1.0 + 0.3 * 590.0 / 3600.0), rel=0.004)
    pdu = plant.inventory.slab("raritan_px_xerus")
    assert pdu is not None
    at = np.array([plant.site.node_index[d.measures] for d in pdu.devices])
    assert shown(plant, "raritan_px_xerus", "power_w") == pytest.approx(out_w(at), rel=0.004)
    supply_c = shown(plant, "delta_rpu_orv3", "supply_c") - plant.thermal.cdu_supply_c
    assert supply_c[0] == pytest.approx(6.0 * 590.0 / 3600.0, abs=0.1)
    assert supply_c[1:] == pytest.approx(0.0, abs=0.1)
    plant.step(620.0)
    assert shown(plant, "janitza_umg96rm", "power_w") == pytest.approx(out_w(nodes), rel=0.004)


def test_a_late_sensor_follows_as_a_first_order_and_a_coarse_one_in_steps() -> None:
    late = {"do": "sensor_error", "at_s": 0.0, "measures": "cdu", "lag_s": 20.0, "count": 100}
    plant = make_plant(*FULL, UNCAPPED, late)
    shown(plant, "delta_rpu_orv3", "flow_lpm")
    for cdu in ("c1", "c2", "c3", "c4"):
        plant.write(cdu, "flow_target_lpm", 60.0)
    expected = plant.thermal.cdu_flow_lpm.copy()
    for _ in range(80):
        plant.step()
        expected += (plant.thermal.cdu_flow_lpm - expected) * (1.0 - np.exp(-0.25 / 20.0))
        seen = shown(plant, "delta_rpu_orv3", "flow_lpm")
    assert seen == pytest.approx(expected, abs=0.3)
    assert np.all(seen > plant.thermal.cdu_flow_lpm + 5.0)
    coarse = make_plant(
        *FULL, UNCAPPED, {"do": "sensor_error", "at_s": 0.0, "measures": "pdu", "step": 500.0, "count": 9}
    )
    coarse.step(2.0)
    seen = shown(coarse, "raritan_px_xerus", "power_w")
    assert np.all(seen % 500.0 == 0.0)
    assert shown(coarse, "raritan_px_xerus", "volt_v")[0] % 500.0 != 0.0


def test_a_leak_is_seen_then_closed_and_mended() -> None:
    plant = make_plant(*FULL, {"do": "leak", "at_s": 10.0, "for_s": 60.0, "isolate_s": 6.0, "id": "c2"})
    plant.step(12.0)
    assert shown(plant, "delta_rpu_orv3", "leak_flags").tolist() == [0.0, 256.0, 0.0, 0.0]
    assert plant.thermal.cdu_flow_lpm[1] > 80.0
    plant.step(20.0)
    assert plant.thermal.cdu_flow_lpm[1] < 1.0
    assert plant.thermal.cdu_flow_lpm[[0, 2, 3]].min() > 80.0
    assert plant.thermal.silicon_c[1] > plant.thermal.silicon_c[[0, 2, 3]].max() + 5.0
    plant.step(60.0)
    assert not shown(plant, "delta_rpu_orv3", "leak_flags").any()
    assert plant.thermal.cdu_flow_lpm[1] > 80.0
    with pytest.raises(PlantError, match="no CDU c9"):
        make_plant({"do": "leak", "at_s": 1.0, "id": "c9"})
