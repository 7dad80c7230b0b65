"""Watching points live: who is read, what is said and when."""

import asyncio
import json

import pytest
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, sample, unit_device, until
from helpers_programs import free_port
from helpers_site import tiny_site
from typer.testing import CliRunner

from drivers.cli import joined
from drivers.probe.watch import UnknownPointError, choose, watch
from drivers.site.load import resolve_site
from drivers.site.model import Gateway, Site
from sim.serve.modbus import ModbusPlant


def site_on(port: int) -> Site:
    devices = [
        own_device("c1", "delta_rpu_orv3", "127.64.0.1", port),
        own_device("c2", "delta_rpu_orv3", "127.64.0.2", port),
    ]
    devices += [unit_device(f"pdu{u}", "gw", u) for u in (1, 2)]
    return modbus_site(
        tuple(devices), (Gateway(id="gw", host="127.64.1.1", port=port, service_ms=1, fed_from=("u1",)),)
    )


async def test_a_line_for_each_change_of_value_or_quality_and_no_other() -> None:
    site = site_on(free_port())
    plant = ModbusPlant(site, PROFILES)
    for name, slab in plant.slabs.items():
        plant.update(name, sample(len(slab.devices), name))
    plant.put("delta_rpu_orv3", "flow_target_lpm", 40.0)  # a point that is not polled
    await plant.start()
    said: list[dict[str, object]] = []
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("{"):
            said.append(json.loads(line))

    asked = ["c?.flow_lpm", "c1.flow_target_lpm", "pdu2.power_w"]
    task = asyncio.ensure_future(watch(site, PROFILES, asked, CLOCK, say, 0.2, 60.0, as_json=True))
    try:
        await until(lambda: len(said) == 4)
        requests = plant.requests
        flow = {str(x["point"]): x["value"] for x in said}
        assert flow["c1.flow_target_lpm"] == 40.0
        assert set(flow) == {"c1.flow_lpm", "c2.flow_lpm", "c1.flow_target_lpm", "pdu2.power_w"}
        assert all(x["quality"] == "good" and x["unit"] in ("L/min", "W") for x in said)
        await until(lambda: plant.requests > requests + 6)
        assert len(said) == 4  # nothing has changed: nothing is said
        plant.update("delta_rpu_orv3", sample(2, "delta_rpu_orv3") + 1.0)
        await until(lambda: len(said) == 6)
        assert {x["point"] for x in said[4:]} == {"c1.flow_lpm", "c2.flow_lpm"}
        plant.faults.set("pdu2", "silent")
        await until(lambda: said[-1]["quality"] == "stale")
        assert said[-1]["point"] == "pdu2.power_w"
        assert float(str(said[-1]["age_s"])) > 3.0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await plant.stop()


async def test_a_point_that_never_comes_is_said_once() -> None:
    site = site_on(free_port())
    lines: list[str] = []
    await watch(site, PROFILES, ["c1.flow_lpm"], CLOCK, lines.append, 0.2, 3.5, as_json=False)
    assert len(lines) == 1
    assert "c1.flow_lpm" in lines[0]
    assert lines[0].endswith("never    its device does not answer")


def test_only_what_is_watched_is_read() -> None:
    site, profiles, units = choose(site_on(1), PROFILES, ["pdu1.*_w", "pdu1.volt_v"])
    assert [d.id for d in site.devices] == ["pdu1"]
    assert {p.name for p in profiles["raritan_px_xerus"].polled()} == {n.partition(".")[2] for n in units}
    assert units["pdu1.volt_v"] == "V"
    agents = choose(tiny_site(), PROFILES, ["r1.cap_w"])
    assert agents[0].devices == ()
    assert agents[2] == {"r1.cap_w": "W"}


def test_a_point_that_is_not_there_is_named_with_the_nearest() -> None:
    for pattern, says in (("c1.flow_lmp", "flow_lpm"), ("pdu3.power_w", "pdu2"), ("nothing", "DEVICE.POINT")):
        with pytest.raises(UnknownPointError, match=says):
            choose(site_on(1), PROFILES, ["c1.flow_lpm", pattern])
    with pytest.raises(UnknownPointError, match="at most 2000 can be watched"):
        choose(resolve_site("hall"), PROFILES, ["*"])
    got = CliRunner().invoke(joined(), ["watch", "hall", "nowhere.power_w"])
    assert got.exit_code == 1
    assert "no point is named 'nowhere.power_w'" in got.output
