"""The plant as a process: real sockets on free ports, with and without a broker, and the command itself."""

import asyncio
import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers_mqtt import open_broker, until
from helpers_programs import free_port
from helpers_site import tiny_site
from helpers_sparkplug import sparkplug_site

from drivers.clock import RealClock
from drivers.inventory import Slab, compile_inventory
from drivers.lease import Lease, Ledger, compile_groups
from drivers.modbus.reader import ModbusReader
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.wires import MqttWires
from drivers.points import PointTable, Quality
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.site.write import write_site
from sim.plant.events import Scenario
from sim.scenarios import load_scenario
from sim.serve.service import PlantService, Second, human_line, truth_line

CLOCK = RealClock()


def moved_site(broker_port: int) -> Site:
    """The tiny site on ports that nobody uses."""
    site = tiny_site()
    ports: dict[int, int] = {}

    def move(port: int) -> int:
        return ports.setdefault(port, free_port()) if port else 0

    return site.model_copy(
        update={
            "devices": tuple(d.model_copy(update={"port": move(d.port)}) for d in site.devices),
            "gateways": tuple(g.model_copy(update={"port": move(g.port)}) for g in site.gateways),
            "mqtt": site.mqtt.model_copy(update={"port": broker_port}),
        }
    )


def scenario(*events: dict[str, object]) -> Scenario:
    return Scenario.model_validate({"name": "test", "title": "test", "events": events})


@asynccontextmanager
async def running(service: PlantService) -> AsyncIterator[None]:
    """The service at work, stopped whatever happens."""
    task = asyncio.create_task(service.run())
    try:
        yield
    finally:
        service.stop.set()
        await asyncio.wait_for(task, 5.0)


async def test_it_runs_in_time_without_a_broker_and_answers_modbus() -> None:
    site, seconds = moved_site(free_port()), list[Second]()
    service = PlantService(site, scenario({"do": "training", "to": 0.9}), tell=seconds.append)
    inventory = compile_inventory(site, load_profiles())
    table: PointTable = inventory.table()
    reader = ModbusReader(inventory, site, table, CLOCK)
    async with running(service):
        await until(lambda: len(seconds) >= 1)
        await reader.start()
        await until(lambda: len(seconds) >= 4)
        reader.collect(CLOCK.now_s())
        await reader.stop()
    slab = inventory.slab("raritan_px_xerus")
    assert slab is not None
    shot = table.snapshot(CLOCK.now_s())
    powers = shot.value[slab.slots("power_w")]
    assert np.all(shot.quality[slab.slots("power_w")] == Quality.GOOD)
    index = site.node_index
    now = seconds[-1].truth.node_w[[index[d.measures] for d in slab.devices]]
    assert powers == pytest.approx(now, rel=0.5)
    cdu = inventory.slab("delta_rpu_orv3")
    assert cdu is not None
    assert shot.value[cdu.slots("flow_lpm")] == pytest.approx(90.0, rel=0.05)
    assert seconds[-1].truth.t_s - seconds[0].truth.t_s == pytest.approx(len(seconds) - 1, abs=1e-9)
    assert seconds[-1].late_s < 0.5


async def test_leases_arrive_and_are_reported() -> None:
    with open_broker("nats") as broker:
        site, seconds = moved_site(broker.port), list[Second]()
        service = PlantService(site, scenario({"do": "training", "to": 1.0}), tell=seconds.append)
        inventory = compile_inventory(site, load_profiles())
        table = inventory.table()
        wires = MqttWires(inventory, site, table, CLOCK, Endpoint("127.0.0.1", broker.port, None, None))
        slab = inventory.slab("agent")
        assert slab is not None
        await wires.start()
        try:
            async with running(service):
                await until(lambda: bool(np.all(np.isfinite(table.value[slab.slots("beat")]))))
                assert wires.send(leases(site, table, slab, 50_000)) == len(site.lease_groups)
                await until(lambda: bool(np.all(table.value[slab.slots("cap_w")] == 50_000)))
                await until(lambda: seconds[-1].truth.rack_w.max() < 50_001.0)
        finally:
            await wires.stop()
        assert np.all(service.plant.agents.holder.epoch == 5)


def leases(site: Site, table: PointTable, slab: Slab, cap_w: int) -> list[Lease]:
    """The same cap for every rack, answering the heartbeats in the table."""
    n, safe = len(site.racks), np.array([int(r.safe_cap_w) for r in site.racks])
    ledger = Ledger(np.full(n, 81600.0), safe, epoch=5, ttl_s=10.0, decay_s=5.0, now_s=CLOCK.now_s())
    beat, epoch, seq, cap = (table.value[slab.slots(p)] for p in ("beat", "epoch", "seq", "cap_w"))
    ledger.confirm(beat, epoch, seq, cap, table.time_s[slab.slots("beat")])
    groups = compile_groups(site.lease_groups, [r.id for r in site.racks])
    return [ledger.lease(group, np.full(n, cap_w), safe, CLOCK.now_s()) for group in groups.values()]


async def test_a_silent_gateway_of_the_scenario_is_silent_on_the_wire() -> None:
    site, seconds = moved_site(free_port()), list[Second]()
    service = PlantService(
        site, scenario({"do": "gateway_silent", "at_s": 0.0, "for_s": 2.0}), tell=seconds.append, speed=2.0
    )
    async with running(service):
        await until(lambda: len(seconds) >= 1)
        assert service.modbus.faults.active == {"gwa": "silent"}
        await until(lambda: len(seconds) >= 4)
        assert service.modbus.faults.active == {}


async def test_storage_obeys_its_set_point_only_when_enabled() -> None:
    service = PlantService(moved_site(free_port()), load_scenario("steady"))
    device = next(d for d in service.plant.site.devices if d.measures == "bess1")
    service._written(device, "power_set_w", 40_000.0)
    service.plant.step()
    assert service.plant.truth().storage_w == 0.0
    service._written(device, "power_set_enable", 1.0)
    service.plant.step()
    assert service.plant.truth().storage_w == 40_000.0


def test_lines_of_truth() -> None:
    service = PlantService(moved_site(free_port()), load_scenario("steady"))
    second = Second(service.plant.truth(), 300e3, 290e3, 0.0, 2.5)
    line = json.loads(truth_line(second), parse_constant=pytest.fail)
    assert line["least_trip_s"] is None
    assert line["site_peak_w"] == 300e3
    assert line["trips"] == 0
    assert line["feed_w"].keys() == {"feed1", "feed2"}
    assert not any(isinstance(v, list) for v in line.values())
    assert "let go 2.5 s" in human_line(second)


def command(*words: str) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "headroom"), "sim", *words]


def test_the_command_prints_truth_and_stops_on_a_signal(tmp_path: Path) -> None:
    write_site(moved_site(free_port()), tmp_path / "site")
    words = command(str(tmp_path / "site"), "--scenario", "steady", "--speed", "4", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as run:
        assert run.stdout is not None
        lines = [json.loads(run.stdout.readline()) for _ in range(3)]
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 0
    assert [line["t_s"] for line in lines] == [1.0, 2.0, 3.0]
    assert lines[0]["site_power_w"] > 100e3


def test_the_command_explains_an_unknown_scenario() -> None:
    done = subprocess.run(command("hall", "--scenario", "surgee"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Did you mean 'surge'" in done.stderr


async def test_sparkplug_devices_and_set_points_of_the_bms_reach_the_plant_and_back() -> None:
    with open_broker("nats") as broker:
        base, spark = moved_site(broker.port), sparkplug_site()
        cdus = tuple(c.model_copy(update={"kind": "row"}) for c in base.cdus)
        more = tuple(d for d in spark.devices if d.protocol == "sparkplug")
        metered = {d.measures for d in more}
        kept = tuple(d for d in base.devices if d.measures not in metered)
        site, seconds = base.model_copy(update={"devices": (*kept, *more), "cdus": cdus}), list[Second]()
        service = PlantService(site, scenario({"do": "training", "to": 0.8}), tell=seconds.append)
        inventory = compile_inventory(site, load_profiles())
        table = inventory.table()
        wires = MqttWires(inventory, site, table, CLOCK, Endpoint("127.0.0.1", broker.port, None, None))
        racks, meter = inventory.slab("sparkplug_rack"), inventory.slab("sparkplug_meter")
        assert racks is not None
        assert meter is not None
        await wires.start()
        try:
            async with running(service):
                slots = np.append(racks.slots("power_w"), meter.slots("power_w"))
                await until(lambda: bool((table.quality[slots] == Quality.GOOD).all()) and len(seconds) > 3)
                truth = seconds[-1].truth
                ups = truth.node_w[site.node_index[meter.devices[0].measures]]
                shown = table.value[slots]
                assert shown == pytest.approx([*truth.rack_w[:2], ups], rel=0.5)
                cdu = cdus[0]
                asked = partial(wires.request, cdu.id, "LiquidTemperatureSpRequest", cdu.supply_c + 1.5, "C")
                targets = service.plant.thermal.cdu_target_c
                # Asked all the time, as a controller does: what comes before our first heartbeat is taken back.
                await until(lambda: asked() and bool(targets[0] == cdu.supply_c + 1.5))
                assert (targets[1:] == [c.supply_c for c in cdus[1:]]).all()
        finally:
            await wires.stop()
