"""Valves, gensets, transfer switches, shelves, chillers: they stand in devices.csv, and the plant shows them."""

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES
from helpers_programs import free_port
from helpers_site import tiny_site

from controller.plan import compile_plan
from drivers.check import check_site
from drivers.inventory import compile_inventory
from drivers.modbus.writer import ModbusWriter
from drivers.profile import STANDS_AT, measured_kind
from drivers.site.model import Device, Site
from sim.plant.events import Scenario
from sim.plant.plant import Plant
from sim.serve.service import PlantService

THING = {
    "node": "u1",
    "rack": "r1",
    "cdu": "c1",
    "loop": "loop1",
    "pump": "pump1",
    "chiller": "chiller1",
    "dry_cooler": "dry1",
    "switch": "tie",
}
BESIDE = {name: p for name, p in PROFILES.items() if p.role}
CALM = Scenario.model_validate({"name": "calm", "title": "Nothing happens"})


def devices(port: int = 15099) -> tuple[Device, ...]:
    """One device of each profile at each thing of the small site that it may stand at."""
    places = [(n, k) for n, p in BESIDE.items() for k in STANDS_AT[p.role] if k in THING]
    return tuple(
        Device(
            id=f"{name}.{kind}",
            profile=name,
            protocol="modbus_tcp",
            measures=THING[kind],
            host=f"127.67.0.{i}",
            port=port,
        )
        for i, (name, kind) in enumerate(places, start=1)
    )


def site_with(port: int = 15099) -> Site:
    """The small site with all of them, in place of the BMS's word on the chiller."""
    own = tuple(d for d in tiny_site().devices if d.measures != "chiller1")
    return tiny_site(devices=own + devices(port))


def test_every_role_is_at_home_somewhere_and_measures_nothing_but_chillers() -> None:
    assert {p.role for p in BESIDE.values()} == set(STANDS_AT)
    assert {measured_kind(p) for p in BESIDE.values()} == {"", "chiller"}


def test_a_site_with_all_of_them_has_no_problems() -> None:
    assert check_site(site_with(), PROFILES) == []


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_a_device_at_the_wrong_thing_is_said_and_it_is_no_meter(name: str) -> None:
    kind = next(k for k in THING if k not in STANDS_AT[BESIDE[name].role])
    wrong = Device(id="x", profile=name, protocol="modbus_tcp", measures=THING[kind], host="127.67.1.1", port=1)
    site = tiny_site(devices=(*tiny_site().devices, wrong))
    (problem,) = check_site(site, PROFILES)
    assert f"is a {BESIDE[name].role.replace('_', ' ')} and stands at a " in problem.what
    assert problem.what.endswith(f"is a {kind}")


def test_they_take_no_instruments_place() -> None:
    """A valve shows flow and supply of its own: the controller still goes by the CDU's."""
    site, plain = site_with(), tiny_site()
    with_them, without = (compile_plan(s, compile_inventory(s, PROFILES)) for s in (site, plain))
    inventory = compile_inventory(site, PROFILES)
    slab = inventory.slab("delta_rpu_orv3")
    assert slab is not None
    np.testing.assert_array_equal(with_them.cdu_flow_slot, slab.slots("flow_lpm"))
    assert (with_them.node_slot.power >= 0).sum() == (without.node_slot.power >= 0).sum()
    meterless = tiny_site(devices=tuple(d for d in plain.devices if d.id != "c1") + devices())
    assert any("nothing reports on 'c1'" in p.what for p in check_site(meterless, PROFILES))


def test_the_plant_shows_them_in_range_its_truth_where_it_has_one() -> None:
    plant = Plant(site_with(), PROFILES, CALM)
    for _ in range(8):
        plant.step()
    flat = plant.measure()
    shown: dict[tuple[str, str], float] = {}
    for slab in plant.inventory.slabs:
        if slab.profile is not None and slab.profile.role:
            view = slab.view(flat)
            assert np.isfinite(view).all(), slab.name
            for j, point in enumerate(slab.profile.polled()):
                assert ((view[:, j] >= point.min - 1.0) & (view[:, j] <= point.max + 1.0)).all(), (
                    slab.name,
                    point.name,
                )
                shown |= {(d.id, point.name): view[i, j] for i, d in enumerate(slab.devices)}
    thermal, c1 = plant.thermal, 0
    assert shown["belimo_ev200.cdu", "position_pct"] == pytest.approx(100 * thermal.valve[c1])
    assert 0 < shown["belimo_ev200.cdu", "flow_lpm"] < plant.network.hydraulics.cdu_primary_lpm[c1] * 1.01
    assert shown["danfoss_003z8540.loop", "supply_c"] == pytest.approx(thermal.loop_supply_c[0], abs=0.2)
    assert shown["accuchiller.chiller", "supply_c"] == pytest.approx(thermal.loop_supply_c[0], abs=0.2)
    assert shown["asco_group_g.switch", "normal_l12_v"] == pytest.approx(480, rel=0.05)
    assert shown["asco_group_g.switch", "emergency_hz"] == 60.0
    assert shown["dse_gencomm.node", "engine_rpm"] == 0.0  # the plant has no gensets: it stands, and says so
    assert shown["dse_gencomm.node", "mains_hz"] == 60.0
    assert shown["tripp_lite_dph.node", "battery_pct"] == pytest.approx(100.0)


def test_two_shelf_units_share_their_racks_power() -> None:
    unit = {"profile": "orv3_hpr_psu", "protocol": "modbus_tcp", "measures": "r1", "port": 1}
    units = [Device.model_validate(unit | {"id": f"p{k}", "host": f"127.67.2.{k}"}) for k in range(1, 31)]
    plant = Plant(tiny_site(devices=(*tiny_site().devices, *units)), PROFILES, CALM)
    for _ in range(8):
        plant.step()
    slab = plant.inventory.slab("orv3_hpr_psu")
    assert slab is not None
    each_w = slab.view(plant.measure())[:, slab.points.index("power_in_w")]
    assert each_w.sum() == pytest.approx(plant.readings.rack_mean_w()[0], rel=0.01)


async def test_over_the_wire_a_written_target_stays_and_reads_back() -> None:
    service = PlantService(site_with(free_port()), CALM)
    service._publish_registers()
    await service.modbus.start()
    try:
        writer = ModbusWriter(service.plant.site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("belimo_ev200.cdu", "target_pct", 42.0) == pytest.approx(42.0)
        assert await writer.write("accuchiller.chiller", "start", 0.0) == 0.0
        for _ in range(4):
            service._step(0.0)
        slab = service.modbus.slabs["belimo_ev200"]
        row = [d.id for d in slab.devices].index("belimo_ev200.cdu")
        assert slab.codec.get(slab.image.astype("u2"), "target_pct")[0][row] == pytest.approx(42.0)
        assert slab.codec.get(slab.image.astype("u2"), "position_pct")[0][row] != pytest.approx(42.0)
    finally:
        await service.modbus.stop()
