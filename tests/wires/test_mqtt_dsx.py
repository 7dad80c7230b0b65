"""The BMS bus in DSX Exchange form: our messages against NVIDIA's schemas, and the controller's reading of it."""

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest
from helpers_dsx import check, fake_bms, run, with_schemas
from helpers_mqtt import BROKERS, PROFILES, Ends, open_broker, pause, until
from helpers_programs import need_program
from helpers_site import tiny_site

from drivers.mqtt.dsx_topics import METADATA, VALUE, write_topic
from drivers.points import Quality
from sim.lab.broker import Broker, Kind
from sim.serve.bms import heartbeat_value, value_payload


@with_schemas
@pytest.mark.parametrize("site_name", ["tiny", "hall"])
def test_every_point_of_a_site_validates_against_nvidias_schemas(site_name: str) -> None:
    bms, clock, sent = fake_bms(site_name)
    bms.connected()
    bms.update({name: np.full(group.shape, 1.0) for name, group in bms.groups.items()})
    run(bms, clock, 30.0)
    names = {check(topic, payload) for topic, payload, _ in sent}
    points = sum(len(group.points) for group in bms.groups.values())
    assert len({topic for topic, _, retain in sent if retain}) == points + 4 + len(bms.requests.points)
    assert {"HXLiquidTemperatureMsg", "PumpPumpSpeedMsg", "RackPowerMsg", "PowerMeterActivePowerMsg"} <= names
    assert all(retain == (METADATA in topic) for topic, _, retain in sent)


def test_metadata_comes_before_the_values_of_each_point_and_units_are_the_bus_own() -> None:
    bms, clock, sent = fake_bms("tiny")
    bms.connected()
    power = PROFILES["dsx_rack"].polled()[0]
    rack = np.full(bms.groups["dsx_rack"].shape, np.nan)
    rack[:, 0] = 45_678.0
    bms.update({"dsx_rack": rack})
    run(bms, clock, 3.0)
    seen: set[str] = set()
    for topic, _, _ in sent:
        if topic.startswith(METADATA):
            seen.add(topic.removeprefix(METADATA))
        else:
            assert topic.removeprefix(VALUE) in seen, topic
    key = next(p.key for p in bms.groups["dsx_rack"].points if power.topic in p.key)
    bodies = [json.loads(payload) for topic, payload, _ in sent if topic == VALUE + key]
    assert bodies[0]["value"] == 45.678
    assert bodies[0]["timestamp"] <= clock.wall_ms()
    gaps = [json.loads(payload) for topic, payload, _ in sent if "/RackLiquidFlow/" in topic and VALUE in topic]
    assert {(body["value"], body["quality"]) for body in gaps} == {(None, 0)}


def test_values_go_out_on_change_and_again_within_100_s_and_racks_are_paced() -> None:
    bms, clock, sent = fake_bms("colossus")
    bms.connected()
    values = {name: np.full(group.shape, 50.0) for name, group in bms.groups.items()}
    bms.update(values)
    run(bms, clock, 130.0, step_s=0.5)
    last_s = dict.fromkeys((p.key for g in bms.groups.values() for p in g.points), 0)
    points = len(last_s)
    del sent[:]
    start_ms = clock.wall_ms()
    run(bms, clock, 100.0, step_s=0.5)
    for topic, payload, _ in sent:
        if "/System/" not in topic:
            last_s[topic.removeprefix(VALUE)] = json.loads(payload)["timestamp"]
    assert min(last_s.values()) >= start_ms, "some point was silent for 100 s"
    assert len(sent) / 100.0 < 260
    assert points > 17_000
    del sent[:]
    values["dsx_pump"][3, 0] = 0.0  # a pump stops
    bms.update(values)
    run(bms, clock, 0.5)
    assert any("/Pump/GenericPoint/" in topic for topic, _, _ in sent)


def test_update_refuses_what_does_not_fit() -> None:
    bms, _, _ = fake_bms("tiny")
    with pytest.raises(KeyError):
        bms.update({"dsx_nothing": np.zeros((1, 1))})
    with pytest.raises(ValueError, match="shape"):
        bms.update({"dsx_rack": np.zeros((1, 1))})


def test_an_integration_is_echoed_and_a_newcomer_gets_all_facility_points() -> None:
    bms, clock, sent = fake_bms("tiny")
    bms.connected()
    bms.update({name: np.full(group.shape, 1.0) for name, group in bms.groups.items()})
    run(bms, clock, 5.0)
    mine = next(t for t, _, _ in sent if "/HeartbeatTimestampIntegration/" in t)
    topic = write_topic(mine, "headroom")
    del sent[:]
    for payload in (b"junk", b'{"value":"x"}', b"[" * 2000, b'{"value":1e400}'):
        bms.receive(topic, payload, False)
    assert not sent
    bms.receive(topic, value_payload(1234567.0, 5), False)
    assert "/HeartbeatEchoBms/" in sent[0][0]
    assert heartbeat_value(sent[0][1]) == 1234567
    run(bms, clock, 1.0)
    loop_points = [t for t, _, _ in sent if t.startswith(VALUE + "HX/")]
    assert len(loop_points) == len(PROFILES["dsx_loop"].polled())
    bms.receive(topic, value_payload(9.0, 6), True)
    assert bms.counters["integration_other"] == 5


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    kind: Kind = request.param
    with open_broker(kind) as running:
        yield running


async def listen(broker: Broker, seconds: int) -> list[tuple[str, bytes]]:
    """What Mosquitto's own client shows of the bus."""
    program = need_program("mosquitto_sub", "mosquitto-clients")
    process = await asyncio.create_subprocess_exec(
        program,
        "-p",
        str(broker.port),
        "-t",
        "BMS/v1/#",
        "-F",
        "%t %p",
        "-W",
        str(seconds),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    lines = [line.partition(b" ") for line in output.splitlines()]
    return [(topic.decode(), payload) for topic, _, payload in lines]


@with_schemas
async def test_mosquitto_sub_shows_valid_dsx_messages_and_the_controller_reads_the_same(broker: Broker) -> None:
    ends = Ends(tiny_site(), broker)
    await ends.start()
    bms = ends.plant.bms
    ends.plant.update_bms({name: np.zeros(group.shape) for name, group in bms.groups.items()})
    shown = asyncio.create_task(listen(broker, 12))  # longer than from one heartbeat to the next
    await pause(2.0)
    ends.plant.update_bms({name: np.full(group.shape, 1.0) for name, group in bms.groups.items()})
    messages = await shown
    names = {check(topic, payload) for topic, payload in messages}
    assert {"ValueMessage", "HXLiquidTemperatureMsg", "RackPowerMsg"} <= names
    assert any(topic.startswith("BMS/v1/headroom/Value/System/") for topic, _ in messages), "our heartbeat"
    slabs = [s for s in ends.inventory.slabs if s.profile is not None and s.profile.protocol == "dsx"]
    await until(lambda: all((slab.view(ends.table.value) == 1.0).all() for slab in slabs))
    for slab in slabs:
        assert (ends.table.quality[slab.start : slab.stop] == Quality.GOOD).all(), slab.name
    await until(lambda: ends.wires.health()[1].detail == "")
    assert ends.wires.health()[1].up
    assert bms.integration_heard_s > 0
    await ends.stop()


async def test_the_bus_recovers_from_a_broker_crash(broker: Broker) -> None:
    ends = Ends(tiny_site(), broker)
    await ends.start()
    slab = ends.inventory.slab("dsx_loop")
    assert slab is not None
    slots = slab.slots("supply_c")
    groups = ends.plant.bms.groups.items()
    ends.plant.update_bms({name: np.full(group.shape, 20.0) for name, group in groups})
    await until(lambda: bool((ends.table.value[slots] == 20.0).all()))
    broker.kill()
    await until(lambda: not ends.plant.up)
    ends.plant.update_bms({name: np.full(group.shape, 30.0) for name, group in groups})
    broker.start()
    await until(lambda: bool((ends.table.value[slots] == 30.0).all()))
    assert (ends.table.quality[slots] == Quality.GOOD).all()
    await ends.stop()
