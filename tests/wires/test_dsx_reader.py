"""The controller's end of the BMS bus: quality, time and units, foreign messages, heartbeats, requests, paths."""

import json

import numpy as np
import pytest
from helpers_dsx import check, fake_bms, run, with_schemas
from helpers_mqtt import PROFILES
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.inventory import Inventory, compile_inventory
from drivers.mqtt.dsx import DsxLink
from drivers.mqtt.dsx_paths import AGAIN_S
from drivers.mqtt.dsx_topics import METADATA, VALUE, point_key, process_area, write_topic
from drivers.points import PointTable, Quality
from drivers.site.load import resolve_site
from sim.serve.bms import Bms, value_payload

SUPPLY = "HX/LiquidTemperature/hall1/loop1/Facility-Supply"


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


def test_a_state_is_asked_without_a_unit() -> None:
    link, _, sent, _, _, _ = hall_ends()
    topic = f"{METADATA}Rack/RackLiquidIsolationRequest/h/r1/x"
    body = {"objectType": "Rack", "rackLocationId": "r1", "integration": "headroom", "stateText": []}
    link.receive(topic, json.dumps(body).encode(), True)
    assert not link.requests.ask("r1", "RackLiquidIsolationRequest", 1.0, "C")
    assert link.requests.ask("r1", "RackLiquidIsolationRequest", 1.0, "")
    assert sent[-1][0] == write_topic(topic, "headroom")
    assert json.loads(sent[-1][1])["value"] == 1.0
    link.receive(topic, json.dumps(body | {"integration": "another"}).encode(), True)
    assert not link.requests.ask("r1", "RackLiquidIsolationRequest", 0.0, ""), "it is no longer ours"


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
