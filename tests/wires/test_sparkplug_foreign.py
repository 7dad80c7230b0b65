"""Sparkplug B over real brokers: our two ends together, and each with Eclipse Tahu's JavaScript at the other."""

import asyncio
import contextlib
import json
import multiprocessing
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from helpers_mqtt import BROKERS, CLOCK, Ends, open_broker, until
from helpers_programs import need_npm
from helpers_sparkplug import GROUP, METER, PROFILES, ROW, sparkplug_site

from drivers.inventory import compile_inventory
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.packets import Message
from drivers.mqtt.sparkplug.payload import BD_SEQ, decode
from drivers.mqtt.stream import Stream
from drivers.mqtt.wires import MqttWires
from drivers.points import PointTable, Quality
from sim.lab.broker import Broker, Kind
from sim.serve.mqtt import MqttPlant

SITE = sparkplug_site()
RACK = SITE.racks[0].id


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    kind: Kind = request.param
    with open_broker(kind) as running:
        yield running


class Script:
    """A JavaScript peer: its lines, and lines for it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().strip())

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """Bodies of the messages of a kind, as its JSON shows them."""
        said = [json.loads(line) for line in self.lines]
        return [m["body"] for m in said if kind in m["topic"].split("/")]


@contextlib.asynccontextmanager
async def script(package: str, name: str, *words: str) -> AsyncIterator[Script]:
    command = [*need_npm(package, name), *words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    peer = Script(process)
    try:
        yield peer
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def controller(broker: Broker) -> AsyncIterator[tuple[MqttWires, PointTable]]:
    inventory = compile_inventory(SITE, PROFILES)
    table = inventory.table()
    wires = MqttWires(inventory, SITE, table, CLOCK, Endpoint("127.0.0.1", broker.port))
    await wires.start()
    try:
        await until(lambda: wires.health()[2].up)
        yield wires, table
    finally:
        await wires.stop()


def slot(point: str, profile: str = "sparkplug_rack") -> int:
    slab = compile_inventory(SITE, PROFILES).slab(profile)
    assert slab is not None
    return int(slab.slots(point)[0])


async def test_tahus_edge_node_is_read_asked_for_rebirth_and_seen_to_die(broker: Broker) -> None:
    power, supply, cold, leak = (slot(p) for p in ("power_w", "supply_c", "return_c", "leak"))
    async with contextlib.AsyncExitStack() as stack:
        peer = script("sparkplug-client", "sparkplug_edge.js", str(broker.port), GROUP, ROW, RACK)
        edge = await stack.enter_async_context(peer)
        await until(lambda: edge.lines == ["born"])
        wires, table = await stack.enter_async_context(controller(broker))
        await until(lambda: bool(table.quality[power] == Quality.GOOD))
        assert edge.lines == ["born", "rebirth", "born"], "it was born before we came: it is asked to be born again"
        assert table.value[[power, supply, cold, leak]].tolist() == [60_500.0, 25.5, -3.0, 0.0]
        edge.say("61.25")
        await until(lambda: bool(table.value[power] == 61_250.0))
        born, asked = edge.lines.count("born"), edge.lines.count("rebirth")
        edge.say("gap")
        edge.say("62.5")
        await until(lambda: edge.lines.count("rebirth") == asked + 1 and edge.lines.count("born") == born + 1)
        await until(lambda: bool(table.value[power] == 62_500.0))
        assert wires.counters["sparkplug.gaps"] == 1
        assert wires.counters.get("sparkplug.malformed", 0) == 0
        edge.process.send_signal(signal.SIGKILL)  # the broker speaks its will
        await until(lambda: bool(table.quality[power] == Quality.STALE))
        assert table.value[power] == 62_500.0


async def test_tahus_edge_node_that_stops_in_order_is_dead_at_once(broker: Broker) -> None:
    async with (
        controller(broker) as (wires, table),
        script("sparkplug-client", "sparkplug_edge.js", str(broker.port), GROUP, ROW, RACK) as edge,
    ):
        await until(lambda: bool(table.quality[slot("power_w")] == Quality.GOOD))
        assert wires.health()[2].devices_silent == 2
        edge.say("stop")
        await until(lambda: bool(table.quality[slot("power_w")] == Quality.STALE))
        assert wires.health()[2].devices_silent == 3


async def test_tahus_host_reads_our_edge_node_and_has_it_born_again(broker: Broker) -> None:
    async with script("sparkplug-payload", "sparkplug_host.js", str(broker.port), GROUP) as host:
        await until(lambda: bool(host.lines))
        ends = Ends(SITE, broker)
        await ends.start()
        ends.plant.sparkplug.update({"sparkplug_meter": np.array([[5e6, np.nan]])})
        await until(lambda: len(host.messages("NBIRTH")) == 2)  # one for each edge node
        await until(lambda: len(host.messages("NDATA")) >= 2)
        state = host.messages("STATE")[-1]
        assert state["online"] is True
        data = host.messages("NDATA")[-1]["metrics"]
        assert [(m.get("value"), m["type"]) for m in data] == [(5000.0, "Double"), (None, "Double")]
        births = host.messages("NBIRTH")
        names = {m["name"] for m in births[0]["metrics"]} | {m["name"] for m in births[1]["metrics"]}
        assert names == {"bdSeq", "Node Control/Rebirth", "Power/Active", "Power/Apparent"}
        assert {b["seq"] for b in births} == {0}
        host.say(METER)
        await until(lambda: len(host.messages("NBIRTH")) == 3)
        numbers = [b["seq"] for b in host.messages("DBIRTH")]
        assert numbers == [1, 2], "both racks, after their node"
        await ends.stop()
        await until(lambda: len(host.messages("NDEATH")) == 2)
        await until(lambda: host.messages("STATE")[-1]["online"] is False)


def run_for_ever(port: int) -> None:
    """Both ends in a process of their own, until it is killed."""

    async def main() -> None:
        where = Endpoint("127.0.0.1", port)
        inventory = compile_inventory(SITE, PROFILES)
        await MqttPlant(SITE, PROFILES, CLOCK, lambda _lease: None, where).start()
        await MqttWires(inventory, SITE, inventory.table(), CLOCK, where).start()
        await asyncio.Event().wait()

    asyncio.run(main())


async def test_who_is_killed_leaves_his_will(broker: Broker) -> None:
    got: list[Message] = []
    where = Endpoint("127.0.0.1", broker.port)
    stream = Stream(where, CLOCK, name="t", subscriptions=["spBv1.0/#"], on_messages=got.extend, probe_topic="p/t")
    stream.start()

    def said(kind: str) -> list[bytes]:
        return [payload for topic, payload, _ in got if topic.decode().split("/")[1:3].count(kind)]

    await until(lambda: stream.up)
    process = multiprocessing.get_context("spawn").Process(target=run_for_ever, args=(broker.port,), daemon=True)
    process.start()
    try:
        await until(lambda: len(said("NBIRTH")) == 2)
        assert json.loads(said("STATE")[-1])["online"] is True
    finally:
        process.kill()
    await until(lambda: len(said("NDEATH")) == 2)
    await until(lambda: json.loads(said("STATE")[-1])["online"] is False)
    births = {decode(payload).value(BD_SEQ) for payload in said("NBIRTH")}
    assert births == {decode(payload).value(BD_SEQ) for payload in said("NDEATH")}
    process.join()
    await stream.stop()


async def test_both_ends_find_each_other_again_after_a_broker_crash(broker: Broker) -> None:
    ends = Ends(SITE, broker)
    await ends.start()
    power = slot("power_w")
    rack_points = ends.plant.sparkplug.names("sparkplug_rack")
    ends.plant.sparkplug.update({"sparkplug_rack": np.full((2, len(rack_points)), 1.0)})
    await until(lambda: bool(ends.table.value[power] == 1.0))
    broker.kill()
    await until(lambda: not ends.plant.up)
    ends.plant.sparkplug.update({"sparkplug_rack": np.full((2, len(rack_points)), 2.0)})
    broker.start()
    await until(lambda: bool(ends.table.value[power] == 2.0 and ends.table.quality[power] == Quality.GOOD))
    await until(lambda: ends.wires.health()[2].devices_silent == 0)
    assert isinstance(ends.plant, MqttPlant)
    await ends.stop()
