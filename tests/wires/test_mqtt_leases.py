"""Leases and reports over real brokers: round trip, full size, crash, silence, and whatever strangers send."""

import asyncio
import json
import os
import resource
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from helpers_mqtt import BROKERS, CLOCK, PROFILES, Ends, open_broker, pause, until
from helpers_programs import need_program
from helpers_site import tiny_site

import drivers.mqtt.client
from drivers.inventory import compile_inventory
from drivers.lease import MAX_BYTES, NO_GPU, Holder, Shed, compile_groups
from drivers.mqtt.client import Session
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.leases import LeaseLink, lease_topic, report_topic
from drivers.points import Quality
from drivers.site.load import resolve_site
from sim.lab.broker import Broker, BrokerError, Kind


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    kind: Kind = request.param
    with open_broker(kind) as running:
        yield running


async def test_caps_go_out_and_come_back_confirmed(broker: Broker) -> None:
    ends = Ends(tiny_site(), broker)
    await ends.start()
    assert await ends.cycle(50_000) == 2
    assert (ends.agents("cap_w") == ends.safe_w).all()
    assert not ends.ledger.settled.any()
    await ends.cycle(55_000)
    assert ends.ledger.settled.all()
    assert (ends.charge_w() == 55_000).all()
    assert (ends.holder.in_force_w == 55_000).all()
    agents, _ = ends.wires.health()
    assert (agents.up, agents.devices, agents.devices_silent) == (True, 4, 0)
    await ends.stop()


async def test_rungs_and_caps_of_gpus_go_out_and_powers_of_gpus_come_back(broker: Broker) -> None:
    site = tiny_site()
    fewer = (*site.racks[:-1], site.racks[-1].model_copy(update={"gpus": 48}))
    ends = Ends(tiny_site(control=site.control.model_copy(update={"leaf": "gpu"}), racks=fewer), broker)
    ends.holder = Holder(ends.safe_w, CLOCK.now_s(), gpus=64)
    await ends.start()
    there = np.arange(64) < np.array([r.gpus for r in ends.site.racks])[:, None]
    power_w = np.where(there, 500 + np.arange(64) + 100 * np.arange(4)[:, None], NO_GPU)
    reports = [ends.holder.report(g, np.full(4, 50e3), power_w) for g in ends.plant.groups.values()]
    ends.plant.publish_reports(reports)
    await until(lambda: ends.wires.counters.get("agents.reports", 0) == 2)
    slab = ends.inventory.slab("gpu")
    assert slab is not None
    assert (slab.view(ends.table.value)[there] == power_w[there]).all()
    assert np.isnan(slab.view(ends.table.value)[~there]).all()
    assert (ends.table.quality[slab.start : slab.stop].reshape(4, 64)[~there] == Quality.NEVER).all()
    ends.confirm()
    caps, now_s = np.array([60_000, 60_000, 2_000, 60_000]), CLOCK.now_s()
    rungs = np.array([0, 0, Shed.PAUSE, 0])
    leases = [
        ends.ledger.lease(g, caps, ends.safe_w, now_s, shed=rungs, gpu_cap_w=power_w - 50 * there)
        for g in ends.plant.groups.values()
    ]
    assert ends.wires.send(leases) == 2
    await until(lambda: len(ends.latencies_s) == 2)
    assert (ends.holder.cap_w == caps).all()
    assert (ends.holder.gpu_cap_w == power_w - 50 * there).all()
    assert (ends.holder.shed == rungs).all()
    ends.report()
    await until(lambda: (ends.agents("shed") == rungs).all())
    await ends.stop()


async def test_a_broker_that_dies_and_returns_is_found_again_by_all(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends(tiny_site(), broker)
    await ends.start()
    await ends.cycle(50_000)
    broker.kill()
    ends.report()  # into connections that are dead and do not know it
    ends.send(51_000)
    await until(lambda: not ends.plant.up and not ends.wires.health()[0].up)
    assert await ends.cycle(52_000) == 0, "a dead link takes nothing"
    assert (ends.holder.in_force_w == 50_000).all()
    broker.start()
    await until(lambda: ends.plant.up and ends.wires.health()[0].up)
    await ends.cycle(54_000)
    await pause(1.0)
    await ends.cycle(54_000)
    assert (ends.holder.in_force_w == 54_000).all()
    assert (ends.agents("cap_w") == 54_000).all()
    await ends.stop()
    assert not [record for record in caplog.records if record.name == "asyncio"], "no error behind the scenes"


async def test_a_broker_that_freezes_is_left_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers.mqtt.client, "SILENCE_S", 2.0)
    monkeypatch.setattr(drivers.mqtt.client, "PROBE_S", 0.2)
    with open_broker("nats") as broker:
        where = Endpoint("127.0.0.1", broker.port)
        session = Session(where, CLOCK, name="t", subscriptions=[], on_message=lambda *_: None, probe_topic="probe/t")
        session.start()
        await until(lambda: session.up)
        await pause(2.5)
        assert session.counters["silences"] == 0, "its own probes keep it alive"
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            await until(lambda: session.counters["silences"] == 1 and not session.up)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        await until(lambda: session.up)
        await session.stop()


async def test_full_size_at_one_hertz() -> None:
    site = resolve_site("colossus")
    with open_broker("nats") as broker:
        ends = Ends(site, broker)
        await ends.start()
        cpu_s = sum(os.times()[:2])
        start_s = CLOCK.now_s()
        for second in range(4):
            ends.latencies_s.clear()
            assert await ends.cycle(60_000 + second) == len(ends.plant.groups)
            await CLOCK.sleep_until(start_s + second + 1.0)
        used = (sum(os.times()[:2]) - cpu_s) / (CLOCK.now_s() - start_s)
        print(f"both ends: {used:.3f} of a core, lease latency at most {max(ends.latencies_s) * 1e3:.0f} ms")
        assert len(ends.latencies_s) == len(ends.plant.groups)
        assert (ends.holder.in_force_w == 60_003).all()
        assert (ends.charge_w() == 60_003).all()
        assert max(ends.latencies_s) < 5.0  # half a lease; 0.02 s on a quiet machine
        assert used < 1.0  # both ends, at 1 Hz, stay below the one core of their loop; 0.1 on a quiet machine
        await ends.stop()


def offline_link() -> tuple[LeaseLink, Ends]:
    """The controller's end of the tiny site without a broker."""
    site = tiny_site()
    ends = Ends.__new__(Ends)
    ends.site, ends.inventory = site, compile_inventory(site, PROFILES)
    ends.table = ends.inventory.table()
    groups = compile_groups(site.lease_groups, [r.id for r in site.racks])
    return LeaseLink(ends.inventory, site, groups, ends.table, CLOCK, lambda _topic, _payload: True), ends


def test_strange_reports_are_counted_and_change_nothing() -> None:
    link, ends = offline_link()
    site = ends.site.name
    group = link._groups["g1"]
    good = {"v": 1, "group": "g1", "roster": group.roster, "beat": [1, 1], "epoch": [0, 0], "seq": [0, 0]}
    good |= {"cap_w": [7, 8], "power_w": [1, 2]}
    payload = json.dumps(good).encode()
    topic = report_topic(site, "g1")
    strange = {
        "unknown_group": (report_topic(site, "g99"), payload, False),
        "retained": (topic, payload, True),
        "malformed": (topic, payload[:-2], False),
        "wrong_roster": (topic, payload.replace(group.roster.encode(), b"0" * 16), False),
    }
    for name, message in strange.items():
        link.receive(*message)
        assert link.counters[name] == 1, name
    link.receive(report_topic(site, "g2"), payload, False)
    assert link.counters["wrong_roster"] == 2, "a report on another group's topic"
    link.receive(topic, payload + b" " * MAX_BYTES, False)
    assert link.counters["malformed"] == 2, "oversized"
    assert (ends.table.quality == Quality.NEVER).all()
    link.receive(topic, payload, False)
    assert link.counters["reports"] == 1
    assert ends.agents("cap_w")[group.racks].tolist() == [7, 8]
    assert ends.agents("shed")[group.racks].tolist() == [0, 0]
    assert np.isnan(ends.agents("cap_w")).sum() == 2
    link.receive(topic, json.dumps(good | {"shed": [0, 3]}).encode(), False)
    assert ends.agents("shed")[group.racks].tolist() == [0, 3]


async def test_strange_leases_do_not_reach_the_agents(broker: Broker) -> None:
    ends = Ends(tiny_site(), broker)
    await ends.start()
    ends.report()
    await pause(0.2)
    ends.confirm()
    group = ends.plant.groups["g1"]
    lease = ends.ledger.lease(group, np.full(4, 70_000), ends.safe_w, CLOCK.now_s())
    topic = lease_topic(ends.site.name, "g1")
    where = Endpoint("127.0.0.1", broker.port)
    stranger = Session(where, CLOCK, name="stranger", subscriptions=[], on_message=lambda *_: None)
    stranger.start()
    await until(lambda: stranger.up)
    for payload in (b"", b"\xff" * 50, lease.encode() * 9, lease.encode().replace(b'"g1"', b'"g2"')):
        stranger.publish(topic, payload)
    await until(lambda: ends.plant.counters.get("malformed", 0) == 4)
    stranger.publish(topic, lease.encode(), retain=True)
    await until(lambda: ends.plant.counters.get("leases", 0) == 1)
    await ends.plant.stop()
    await ends.plant.start()
    await until(lambda: ends.plant.counters.get("retained", 0) == 1)
    assert ends.plant.counters["leases"] == 1, "a retained lease is no command"
    await stranger.stop()
    await ends.stop()


async def test_a_full_queue_drops_its_oldest(broker: Broker) -> None:
    got: list[bytes] = []
    where = Endpoint("127.0.0.1", broker.port)
    session = Session(
        where,
        CLOCK,
        name="t",
        subscriptions=["a/b"],
        on_message=lambda _topic, payload, _retained: got.append(payload),
        max_queue=3,
    )
    assert not session.publish("a/b", b"too early")
    session.start()
    await until(lambda: session.up)
    for i in range(10):
        assert session.publish("a/b", b"%d" % i)
    await until(lambda: len(got) == 3)
    assert got == [b"7", b"8", b"9"]
    assert session.counters["dropped_oldest"] == 7
    await session.stop()


async def test_a_huge_packet_ends_the_connection_before_it_fills_the_memory() -> None:
    with open_broker("mosquitto") as broker:
        ends = Ends(tiny_site(), broker)
        await ends.start()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        program = need_program("mosquitto_pub", "mosquitto-clients")
        topic = report_topic(ends.site.name, "g1")
        shell = f"head -c 40000000 /dev/zero | {program} -p {broker.port} -t {topic} -s"
        process = await asyncio.create_subprocess_shell(shell)
        await process.wait()
        await until(lambda: ends.wires.counters.get("agents.reconnects", 0) == 1)
        await until(lambda: ends.wires.health()[0].up)
        await ends.cycle(50_000)
        await ends.cycle(51_000)
        assert (ends.holder.in_force_w == 51_000).all()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 12_000
        await ends.stop()


async def test_a_handler_that_fails_costs_one_message_not_the_link(broker: Broker) -> None:
    got: list[bytes] = []

    def fussy(topic: str, payload: bytes, retained: bool) -> None:
        if payload == b"bad":
            raise ValueError("bad")
        got.append(payload)

    where = Endpoint("127.0.0.1", broker.port)
    session = Session(where, CLOCK, name="t", subscriptions=["a/#"], on_message=fussy)
    session.start()
    await until(lambda: session.up)
    session.publish("a/x", b"bad")
    session.publish("a/x", b"good")
    await until(lambda: got == [b"good"])
    assert session.counters["handler_errors"] == 1
    assert session.counters["reconnects"] == 0
    await session.stop()


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_broker_with_a_password_lets_in_only_who_knows_it(kind: Kind) -> None:
    with open_broker(kind, "plant", "s3cret") as broker:
        ends = Ends(tiny_site(), broker)
        await ends.start()
        await ends.cycle(50_000)
        assert (ends.holder.in_force_w == 50_000).all()
        where = Endpoint("127.0.0.1", broker.port)
        stranger = Session(where, CLOCK, name="stranger", subscriptions=["#"], on_message=lambda *_: None)
        stranger.start()
        await until(lambda: stranger.counters["reconnects"] > 0)
        assert not stranger.up
        await stranger.stop()
        await ends.stop()


def test_a_taken_port_is_named() -> None:
    with (
        open_broker("nats") as broker,
        pytest.raises(BrokerError, match=rf"port {broker.port} .* is taken.*another port"),
    ):
        Broker(port=broker.port).__enter__()


def test_a_broker_that_was_killed_is_revived_and_one_that_lives_is_left_alone() -> None:
    with open_broker("nats") as broker:
        first = broker.pid
        assert first is not None
        assert not broker.revive()
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert broker.revive()
        assert broker.pid not in (None, first)


def test_half_a_login_is_refused() -> None:
    with pytest.raises(BrokerError, match="both"):
        Broker(username="plant")
