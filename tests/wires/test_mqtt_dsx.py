"""The BMS bus in DSX Exchange form: our messages against NVIDIA's schemas, and the controller's reading of it."""

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers_mqtt import BROKERS, PROFILES, Ends, open_broker, pause, until
from helpers_programs import need_program
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from drivers.clock import VirtualClock
from drivers.inventory import Inventory, compile_inventory
from drivers.mqtt.dsx import DsxLink
from drivers.mqtt.dsx_paths import AGAIN_S
from drivers.mqtt.dsx_topics import METADATA, VALUE, point_key, process_area, write_topic
from drivers.points import PointTable, Quality
from drivers.site.load import resolve_site
from sim.lab.broker import Broker, Kind
from sim.serve.bms import Bms, heartbeat_value, value_payload

BMS_YAML = Path(__file__).resolve().parents[3] / "shared" / "dsx" / "bms.yaml"
with_schemas = pytest.mark.skipif(not BMS_YAML.exists(), reason="NVIDIA's bms.yaml is not beside the checkout")
SUPPLY = "HX/LiquidTemperature/hall1/loop1/Facility-Supply"


@cache
def catalog() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(BMS_YAML.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return document


@cache
def validator(message: str) -> Draft202012Validator:
    """Validator of one message's payload."""
    resource: Resource[Any] = Resource.from_contents(catalog(), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:bms", resource)
    return Draft202012Validator({"$ref": f"urn:bms#/components/messages/{message}/payload"}, registry=registry)


def check(topic: str, payload: bytes) -> str:
    """Validate a message by its topic's channel and pointType; the name of the message type."""
    publisher, kind, object_type, point_type = topic.split("/")[2:6]
    who = "PUB" if publisher == "PUB" else "{integration}"
    pattern = f"BMS/v1/{who}/{kind}/{object_type}/{{pointType}}/{{tagPath}}"
    channel = next(c for c in catalog()["channels"].values() if c["address"] == pattern)
    assert point_type in channel["parameters"]["pointType"]["enum"], topic
    messages = channel["messages"]
    key = "valueMessage" if kind == "Value" else point_type[0].lower() + point_type[1:]
    name: str = messages[key]["$ref"].rpartition("/")[2]
    body = json.loads(payload)
    errors = [error.message for error in validator(name).iter_errors(body)]
    assert not errors, (topic, body, errors)
    if kind == "Metadata":
        assert (body["objectType"], body["pointType"]) == (object_type, point_type)
    return name


def fake_bms(site_name: str) -> tuple[Bms, VirtualClock, list[tuple[str, bytes, bool]]]:
    """A BMS whose messages end in a list."""
    clock = VirtualClock()
    sent: list[tuple[str, bytes, bool]] = []
    site = tiny_site() if site_name == "tiny" else resolve_site(site_name)

    def publish(topic: str, payload: bytes, retain: bool) -> bool:
        sent.append((topic, payload, retain))
        return True

    return Bms(site, PROFILES, clock, publish), clock, sent


def run(bms: Bms, clock: VirtualClock, seconds: float, step_s: float = 0.25) -> None:
    for _ in range(round(seconds / step_s)):
        clock.advance(step_s)
        bms.tick()


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


def reader() -> tuple[DsxLink, Inventory, PointTable, VirtualClock, list[tuple[str, bytes]]]:
    """The controller's end for the tiny site, its messages in a list."""
    clock = VirtualClock()
    sent: list[tuple[str, bytes]] = []
    inventory = compile_inventory(tiny_site(), PROFILES)
    table = inventory.table()

    def publish(topic: str, payload: bytes) -> bool:
        sent.append((topic, payload))
        return True

    return DsxLink(inventory, table, clock, publish, "headroom"), inventory, table, clock, sent


def slot_of(inventory: Inventory, profile: str, point: str) -> int:
    slab = inventory.slab(profile)
    assert slab is not None
    return int(slab.slots(point)[0])


def key_of(inventory: Inventory, profile: str, point: str) -> str:
    slab = inventory.slab(profile)
    assert slab is not None
    assert slab.profile is not None
    return point_key(slab.profile.object_type, slab.profile.point(point), slab.devices[0].topic)


def metadata(unit: str) -> bytes:
    return json.dumps({"objectType": "HX", "pointType": "LiquidTemperature", "engUnit": unit}).encode()


def test_quality_time_and_units_of_a_value() -> None:
    link, inventory, table, clock, _ = reader()
    key, slot = key_of(inventory, "dsx_loop", "supply_c"), slot_of(inventory, "dsx_loop", "supply_c")

    def state() -> tuple[float, int, float]:
        return float(table.value[slot]), int(table.quality[slot]), round(clock.now_s() - float(table.time_s[slot]), 3)

    def say(value: object, age_s: float = 0.0, quality: int = 1, retained: bool = False) -> tuple[float, int, float]:
        clock.advance(1.0)
        stamp = clock.wall_ms() - round(age_s * 1000)
        body = {"value": value, "timestamp": stamp, "quality": quality}
        link.receive(VALUE + key, json.dumps(body).encode(), retained)
        return state()

    assert say(20.0)[1] == Quality.NEVER
    link.receive(METADATA + key, metadata("C"), True)
    assert state() == (20.0, Quality.GOOD, 0.0), "the early value counts once its unit is known"
    assert say(21.0, age_s=30.0) == (21.0, Quality.GOOD, 30.0)
    assert say(22.0, quality=0) == (22.0, Quality.BAD, 0.0)
    assert say(500.0) == (500.0, Quality.BAD, 0.0), "out of range"
    assert say(23.0, age_s=-3600.0) == (23.0, Quality.SUSPECT, 0.0), "a clock far ahead"
    assert say(24.0, age_s=86400.0) == (24.0, Quality.SUSPECT, 0.0), "a clock a day behind"
    assert say(25.0, retained=True) == (24.0, Quality.SUSPECT, 1.0), "retained never replaces what was heard"
    assert np.isnan(say(None)[0])
    assert state()[1] == Quality.BAD
    link.receive(METADATA + key, metadata("F"), True)
    assert say(68.0) == (20.0, Quality.GOOD, 0.0)
    link.receive(METADATA + key, metadata("furlong"), True)
    assert say(70.0)[0] == 20.0
    assert link.counters["unit_unknown"] == 1


def test_a_retained_value_is_stale_until_it_is_published_again() -> None:
    link, inventory, table, clock, _ = reader()
    key, slot = key_of(inventory, "dsx_loop", "supply_c"), slot_of(inventory, "dsx_loop", "supply_c")
    link.receive(METADATA + key, metadata("C"), True)
    payload = value_payload(20.0, clock.wall_ms())
    link.receive(VALUE + key, payload, True)
    assert table.quality[slot] == Quality.STALE
    link.receive(VALUE + key, payload, False)
    assert table.quality[slot] == Quality.GOOD


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.dictionaries(
            st.sampled_from(["value", "timestamp", "quality", "engUnit", "integration"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers()),
        ).map(lambda body: json.dumps(body).encode()),
    ),
    st.sampled_from(["PUB/Value/", "PUB/Metadata/", "PUB/Value/System/HeartbeatTimestampBms/", "x/Value/", ""]),
    st.booleans(),
)
def test_foreign_messages_raise_nothing(payload: bytes, place: str, retained: bool) -> None:
    link, inventory, table, _, _ = reader()
    key = key_of(inventory, "dsx_loop", "supply_c")
    link.receive(METADATA + key, metadata("C"), True)
    link.receive("BMS/v1/" + place + key, payload, retained)
    good = table.quality == Quality.GOOD
    assert np.isfinite(table.value[good]).all()


def test_heartbeats_both_ways_and_their_loss() -> None:
    link, _, _, clock, sent = reader()
    bms, bms_clock, published = fake_bms("tiny")
    bms_clock.advance(0.0)
    bms.connected()
    link.tick()
    assert not sent, "the BMS has not told where"
    for topic, payload, _ in published:
        link.receive(topic, payload, True)
    assert len(link.requests.points) == 2
    link.tick()
    assert [t for t, _ in sent] == [p.topic for p in link.requests.points.values() if "HeartbeatTimestamp" in p.topic]
    bms.tick()
    bms.receive(*sent[0], False)
    for topic, payload, retained in published:
        if topic.startswith(VALUE):
            link.receive(topic, payload, retained)
    assert "HeartbeatEchoIntegration" in sent[1][0]
    assert (link.health(True, "").up, link.health(True, "").detail) == (True, "")
    for _ in range(9):
        clock.advance(1.0)
        link.tick()
    assert len(sent) == 2
    clock.advance(1.0)
    link.tick()
    assert len(sent) == 3
    clock.advance(40.0)
    health = link.health(True, "")
    assert (health.up, health.detail) == (False, "no heartbeat from the BMS")


def hall_ends() -> tuple[DsxLink, VirtualClock, list[tuple[str, bytes]], Bms, list[tuple[str, float]], str]:
    """Both ends of the hall's bus with our messages and the BMS's requests in lists, and a row CDU."""
    site, clock = resolve_site("hall"), VirtualClock()
    inventory = compile_inventory(site, PROFILES)
    sent: list[tuple[str, bytes]] = []
    asked: list[tuple[str, float]] = []

    def ours(topic: str, payload: bytes) -> bool:
        sent.append((topic, payload))
        return True

    def theirs(topic: str, payload: bytes, retain: bool) -> bool:
        link.receive(topic, payload, retain)
        return True

    link = DsxLink(inventory, inventory.table(), clock, ours, "headroom")
    bms = Bms(site, PROFILES, clock, theirs, lambda cdu, supply_c: asked.append((cdu, supply_c)))
    return link, clock, sent, bms, asked, next(cdu.id for cdu in site.cdus if cdu.kind == "row")


def test_a_set_point_is_asked_where_the_metadata_says_and_reverts_with_our_heartbeat() -> None:
    link, clock, sent, bms, asked, cdu = hall_ends()
    design_c = next(c.supply_c for c in resolve_site("hall").cdus if c.id == cdu)
    kind = "LiquidTemperatureSpRequest"
    assert not link.requests.ask(cdu, kind, 30.0, "C"), "nobody has told where"
    bms.connected()
    link.tick()
    bms.receive(*sent[-1], False)
    assert not link.requests.ask(cdu, kind, 30.0, "W"), "no temperature"
    assert not link.requests.ask("cdu99", kind, 30.0, "C")
    assert link.requests.ask(cdu, kind, design_c + 2.0, "C")
    topic, payload = sent[-1]
    assert topic == f"BMS/v1/headroom/Value/CDU/{kind}/hall/{cdu}/{kind}"
    bms.receive(topic, payload, True)
    assert asked == [], "a retained request is no request"
    bms.receive(topic, payload, False)
    assert asked == [(cdu, design_c + 2.0)]
    count = len(sent)
    assert link.requests.ask(cdu, kind, design_c + 2.0, "C")
    assert len(sent) == count, "unchanged: said again only with the next heartbeat"
    clock.advance(11.0)
    assert link.requests.ask(cdu, kind, design_c + 2.0, "C")
    assert len(sent) == count + 1
    assert link.requests.ask(cdu, kind, 500.0, "C")
    bms.receive(*sent[-1], False)
    assert design_c < asked[-1][1] <= 55.0, "the BMS bounds what it takes"
    for junk in (b"", b"junk", b'{"value":"x","timestamp":1,"quality":1}', b"[" * 500):
        bms.receive(topic, junk, False)
    assert len(asked) == 2
    assert link.requests.ask(cdu, kind, np.nan, "C")
    bms.receive(*sent[-1], False)
    assert asked[-1] == (cdu, design_c), "taken back"
    assert link.requests.ask(cdu, kind, design_c + 3.0, "C")
    bms.receive(*sent[-1], False)
    clock.advance(31.0)
    bms.tick()
    assert asked[-1] == (cdu, design_c), "our heartbeat is gone"


@with_schemas
def test_what_we_say_validates_against_nvidias_schemas() -> None:
    link, _, sent, bms, _, cdu = hall_ends()
    bms.connected()
    link.tick()
    for value in (31.5, np.nan):
        assert link.requests.ask(cdu, "LiquidTemperatureSpRequest", value, "C")
    names = {check(*message) for message in sent}
    assert names == {"ValueMessage"}
    assert len(sent) >= 3


def test_paths_that_differ_are_noted_on_the_wire() -> None:
    link, clock, _, bms, _, _ = hall_ends()
    bms.connected()
    run(bms, clock, 20.0)
    link.tick()
    assert link.health(True, "").note == ""
    body = {"objectType": "UPS", "pointType": "Status", "objectId": "ups-x", "servesId": ["nothing"]}
    topic = f"{METADATA}UPS/Status/a/Status"
    link.receive(topic, json.dumps(body).encode(), True)
    ups = next(n.id for n in resolve_site("hall").nodes if n.kind == "ups")
    link.receive(topic, json.dumps(body | {"objectId": ups}).encode(), True)
    clock.advance(AGAIN_S)
    link.tick()
    assert f"'{ups}' serves 'nothing', which is not in the site file" in link.health(True, "").note
    link.receive(topic, b"", False)
    clock.advance(AGAIN_S)
    link.tick()
    assert link.health(True, "").note == ""


def test_topics() -> None:
    point = PROFILES["dsx_loop"].point("supply_c")
    assert point_key("HX", point, "hall1/loop1") == SUPPLY
    assert process_area(point) == ["Facility", "Supply"]
    source = METADATA + "CDU/LiquidTemperatureSpRequest/site1/row3/cdu5"
    assert write_topic(source, "MEPAI") == "BMS/v1/MEPAI/Value/CDU/LiquidTemperatureSpRequest/site1/row3/cdu5"
    with pytest.raises(ValueError, match="no metadata topic"):
        write_topic(VALUE + "x", "MEPAI")
