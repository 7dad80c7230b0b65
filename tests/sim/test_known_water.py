"""The water side against things that others published: LBNL's Modelica references, Frontier, the OCP plate table.

Each site is a directory of tests/sites, built of the plant's own parts; tolerances are those of FACTS P.5.
"""

import numpy as np
import pytest
from helpers_plant import make_plant
from helpers_water import SITES, Water, pulse_mean, rmse, trajectories, with_reference

from drivers.points import Floats
from drivers.site.cooling import COOLANTS
from drivers.site.load import load_site
from sim.plant.base import DT_S
from sim.plant.cdu import valve_flow
from sim.plant.network import junction_rise_k

OCP = {  # FACTS P.7, figure 7 of the OAI guideline: L/min a plate -> K/W from case to inlet
    "pg25": {
        0.4: 0.0389, 0.5: 0.0325, 0.6: 0.0300, 0.7: 0.0280, 0.8: 0.0265, 0.9: 0.0255, 1.0: 0.0245,
        1.2: 0.0230, 1.4: 0.0220, 1.6: 0.0214, 1.8: 0.0209, 2.0: 0.0204, 2.2: 0.0200, 2.4: 0.0197,
    },
    "water": {2.0: 0.0172, 3.0: 0.0160, 4.0: 0.0154, 5.0: 0.0151},
}  # fmt: skip


def plates(water: Water, t_s: float, all_w: float) -> None:
    """One step of ColdPlateR_P: inlet at 30 C, flow halved over 5 s from 30 s on, as an ideal source gives it."""
    s, nominal = water.state, water.hyd.cdu_flow_lpm
    s.cdu_supply_c[:] = 30.0
    s.cdu_flow_lpm[:] = nominal * (1.0 - 0.5 * np.clip((t_s + 0.5 * DT_S - 30.0) / 5.0, 0.0, 1.0))
    water.cool(np.full(2, 0.5 * all_w))


@with_reference
def test_outlet_of_cold_plates_through_pulses_and_half_flow() -> None:
    """ColdPlateR_P, 60 s at 0.62/1.02 of 132 kW: outlet temperature within 0.05 K RMSE."""
    ref, water = trajectories("ColdPlateR_P"), Water("cold_plates")
    water.state.fluid_c[:] = 30.0
    outlet_c = [30.0]
    for k in range(round(60.0 / DT_S)):
        plates(water, k * DT_S, 132e3 * pulse_mean(k * DT_S, 0.62, 1.02, 5.0, 0.4, 0.2))
        outlet_c.append(float(water.state.fluid_c[0]))
    ours = np.interp(np.linspace(0.0, 60.0, 101), np.arange(len(outlet_c)) * DT_S, outlet_c)
    assert rmse(ours, ref["senTOut.T"] - 273.15) < 0.05


def smooth_max(x: Floats, least: Floats, width: float) -> Floats:
    """The reference's smoothed maximum, a cubic over +-`width`, which is more than the flow of a plate."""
    near = np.clip((x - least) / width, -1.0, 1.0)
    return np.asarray(0.5 * (x + least) - 0.25 * near * (near**2 - 3.0) * (x - least))


@with_reference
def test_case_temperature_of_cold_plates() -> None:
    """ColdPlateR_P, steady at 0.62 and 1.02, full and half flow: rise of the case over the inlet within 1 %.

    The reference divides by a smoothed flow (FACTS P.5): that term is put on our plain table before they are compared.
    """
    ref = trajectories("ColdPlateR_P")
    load, flow_kg_s = ref["rac.utiIT"], ref["rac.port_a.m_flow"]
    v_m3_s = flow_kg_s / 1014.9 / ref["rac.nColPla"][0]
    smoothed = v_m3_s / smooth_max(v_m3_s, np.full(101, 1e-4 * v_m3_s[0]), 1e-4 / 4.0)
    checked = 0
    for at_s, share in ((0.0, 0.62), (1.2, 1.02), (57.6, 0.62), (56.4, 1.02)):
        i = round(at_s / 0.6)
        if load[i] != pytest.approx(share, abs=1e-6):
            continue
        water = Water("cold_plates")
        for _ in range(400):
            plates(water, at_s, 132e3 * share)
        rise_k = water.state.silicon_c[0] - 30.0 - junction_rise_k(water.site.racks[0].gpu_model) * share
        assert rise_k * smoothed[i] == pytest.approx(ref["rac.casTem.TCas"][i] - 303.15, rel=0.01)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("coolant", ["pg25", "water"])
def test_plates_follow_the_ocp_table_at_any_flow(coolant: str) -> None:
    """The plant's plate law is the plain OCP table: within 2 % from 0.5 L/min a plate up, 5 % at 0.4."""
    site = load_site(SITES / "cold_plates")
    water = Water(site.model_copy(update={"cdus": (site.cdus[0].model_copy(update={"coolant": coolant}),)}))
    s, plates_n = water.state, sum(r.gpus for r in site.racks)
    for lpm, k_w in OCP[coolant].items():
        s.cdu_supply_c[:], s.cdu_flow_lpm[:] = 30.0, lpm * plates_n
        for _ in range(800):
            water.cool(np.full(2, 66e3))
        rise_k = s.silicon_c[0] - 30.0 - junction_rise_k(site.racks[0].gpu_model)
        assert rise_k / (132e3 / plates_n) == pytest.approx(k_w, rel=0.02 if lpm > 0.4 else 0.05), lpm


@with_reference
def test_cdu_with_48_racks_through_two_load_pulses() -> None:
    """CDU_epsNTU, 7,200 s: rack in, out and plant out within 0.3 K RMSE after 600 s, pump within 5 % at every point."""
    ref, water = trajectories("CDU_epsNTU"), Water("cdu_48_racks")
    s, hyd = water.state, water.hyd
    s.cdu_supply_c[:], s.cdu_return_c[:], s.fluid_c[:] = 30.0, 30.0, 30.0
    s.valve[:], s.valve_i[:] = 1.0, 1.0
    ours: list[tuple[float, ...]] = []
    for k in range(round(7200.0 / DT_S)):
        water.step(np.full(48, 132e3 * pulse_mean(k * DT_S, 0.6, 1.0, 3600.0, 0.5, 900.0)))
        if (k + 1) % round(72.0 / DT_S) == 0:
            primary_w_k = valve_flow(s.valve[0]) * hyd.cdu_primary_lpm[0] * s.granted[0] * hyd.loop_w_lpm_k[0]
            plant_out_c = s.loop_supply_c[0] + s.cdu_heat_w[0] / primary_w_k
            ours.append((s.cdu_supply_c[0], float(s.fluid_c.mean()), plant_out_c, s.cdu_w[0], s.valve[0]))
    rack_in, rack_out, plant_out, pump_w, valve = np.array(ours).T
    for c, name in ((rack_in, "senTRac_a.T"), (rack_out, "senTRac_b.T"), (plant_out, "senTCDU_b.T")):
        assert rmse(c[8:], ref[name][9:] - 273.15) < 0.3, name
    assert pump_w == pytest.approx(ref["cdu.pum.P"][1:], rel=0.05)
    assert valve[8:] == pytest.approx(ref["cdu.val.y_actual"][9:], abs=0.05)
    low, high = 59, 29  # points of FACTS P.5: 4,320 s at load 0.6 and 2,160 s at load 1.0
    assert (rack_in[low], rack_out[low], plant_out[low]) == pytest.approx((42.00, 45.31, 41.61), abs=0.1)
    assert (rack_in[high], rack_out[high], plant_out[high]) == pytest.approx((42.19, 47.71, 41.06), abs=0.1)
    assert valve[low] == pytest.approx(0.78, abs=0.02)
    assert valve[high] == 1.0


@with_reference
@pytest.mark.parametrize(
    ("name", "sensors", "design_c"),
    [
        (
            "design_conditions",
            ("senTCDU_a.T", "senTCDU_b.T", "cdu.conVal.u_m", "senTRac_b.T"),
            (42.0, 47.0, 45.0, 50.0),
        ),
        ("design_tower", ("senTTow_b.T", "senTTow_a.T", "senTCDU_a.T", "senTCDU_b.T"), (39.0, 44.0, 42.0, 47.0)),
    ],
)
def test_design_conditions_of_the_chiller_plant(
    name: str, sensors: tuple[str, ...], design_c: tuple[float, ...]
) -> None:
    """ChillerWSEDesignConditionsWater: 39/44/42/47/45/50 C at full load in air of 36 C, within 0.1 K."""
    ref, water = trajectories("ChillerWSEDesignConditionsWater"), Water(name)
    s = water.state
    for c in (s.loop_supply_c, s.loop_return_c, s.cdu_supply_c, s.cdu_return_c, s.fluid_c):
        c[:] = 30.0
    water.run(3600.0, np.full(10, 1e5), dry_c=36.0)
    ours = (s.loop_supply_c[0], s.loop_return_c[0], s.cdu_supply_c[0], float(s.fluid_c.mean()))
    theirs = [ref[x][-1] - 273.15 for x in sensors]
    assert theirs == pytest.approx(design_c, abs=0.01)
    assert ours == pytest.approx(theirs, abs=0.1)


def test_design_conditions_hold_with_glycol_on_the_racks() -> None:
    """The same plant with PG25 at the flow that carries as much: LBNL has these temperatures for both."""
    site = load_site(SITES / "design_conditions")
    flow_lpm = 1e6 / 5.0 / COOLANTS["pg25"].w_per_lpm_k
    glycol = site.cdus[0].model_copy(update={"coolant": "pg25", "flow_lpm": flow_lpm})
    water = Water(site.model_copy(update={"cdus": (glycol,)}))
    water.run(3600.0, np.full(10, 1e5), dry_c=36.0)
    s = water.state
    ours = (s.loop_supply_c[0], s.loop_return_c[0], s.cdu_supply_c[0], float(s.fluid_c.mean()))
    assert ours == pytest.approx((42.0, 47.0, 45.0, 50.0), abs=0.1)


def test_hotter_air_than_design_is_felt_in_the_supply() -> None:
    water = Water("design_conditions")
    water.run(3600.0, np.full(10, 1e5), dry_c=40.0)
    assert 44.0 < water.state.loop_supply_c[0] < 47.0
    assert water.state.cdu_supply_c[0] - water.state.loop_supply_c[0] == pytest.approx(3.0, abs=0.1)  # the approach


def test_frontiers_three_heats_close() -> None:
    """FACTS P.1: electrical, secondary and primary heat of one CDU agree within 2 %, published and in the plant."""
    electrical_w = 384 * 636.0 + 96 * 250.0
    secondary_w = 265 * 3.78541 * COOLANTS["pg25"].w_per_lpm_k * (31.95 - 28.0)
    primary_w = 53.0 * 3.78541 * COOLANTS["water"].w_per_lpm_k * 19.14
    assert secondary_w == pytest.approx(electrical_w, rel=0.02)
    assert primary_w == pytest.approx(electrical_w, rel=0.02)

    water = Water("frontier_cdu")
    s, hyd = water.state, water.hyd
    water.run(3600.0, np.full(24, electrical_w / 24))
    carried_w = s.cdu_flow_lpm[0] * hyd.cdu_w_lpm_k[0] * (float(s.fluid_c.mean()) - s.cdu_supply_c[0])
    primary_w_k = s.loop_flow_lpm[0] * hyd.loop_w_lpm_k[0]
    assert carried_w == pytest.approx(electrical_w, rel=1e-3)
    assert s.cdu_heat_w[0] == pytest.approx(electrical_w, rel=0.02)
    assert s.loop_flow_lpm[0] == pytest.approx(53.0 * 3.78541, rel=0.02)
    assert s.loop_supply_c[0] + s.cdu_heat_w[0] / primary_w_k == pytest.approx(32.0, abs=0.5)
    assert (s.cdu_supply_c[0], float(s.fluid_c.mean())) == pytest.approx((28.0, 31.9), abs=1.0)


def test_frontiers_pump_is_half_efficient() -> None:
    """FACTS P.1: 247 kPa at 16.7 L/s for 7,997 W, 52 % from wire to water; so is the plant's default CDU."""
    water = Water("frontier_cdu")
    cdu = water.site.cdus[0]
    rise_pa = 1e3 * (cdu.external_kpa + cdu.exchanger_kpa + cdu.filter_kpa)
    water.run(60.0, np.full(24, 11e3))
    hydraulic_w = rise_pa * water.state.cdu_flow_lpm[0] / 60e3
    assert hydraulic_w / water.state.cdu_w[0] == pytest.approx(0.52, abs=0.01)


@pytest.mark.parametrize("name", sorted(p.name for p in SITES.iterdir() if p.is_dir()))
def test_a_reference_site_is_a_site_like_any_other(name: str) -> None:
    """The whole plant runs it: jobs, GPUs, power and water, in balance to 1e-9 or PlantError."""
    plant = make_plant({"do": "training", "to": 0.8, "depth": 0.0}, site=load_site(SITES / name))
    plant.step(20.0)
    truth = plant.truth()
    assert truth.it_power_w > 0.5 * sum(r.idle_w for r in plant.site.racks)
    assert truth.trips == 0
    assert truth.site_power_w == pytest.approx(truth.it_power_w + truth.cooling_w + truth.losses_w, rel=1e-9)
