"""Whatever stands in a payload costs the cycle nothing: no exception escapes, memory is flat, caps go on in time."""

import asyncio
import gc
import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers_mqtt import BROKERS, CLOCK, PROFILES, Ends, open_broker, until
from helpers_sparkplug import GROUP, METER, ROW, sparkplug_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.inventory import compile_inventory
from drivers.lease import Holder, compile_groups
from drivers.mqtt import packets
from drivers.mqtt.dsx_topics import METADATA, VALUE
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.leases import report_topic
from drivers.mqtt.sparkplug.payload import BD_SEQ, DataType, Message, Metric, encode
from drivers.mqtt.sparkplug.topics import state_topic
from drivers.mqtt.wires import MqttWires
from drivers.points import Quality
from sim.lab.broker import Kind
from sim.serve.mqtt import MqttPlant

SITE = sparkplug_site()
RACK = SITE.racks[0].id
GROUPS = compile_groups(SITE.lease_groups, [r.id for r in SITE.racks], [r.gpus for r in SITE.racks])


class Both:
    """Controller's and plant's receivers without a broker, on virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        inventory = compile_inventory(SITE, PROFILES)
        self.table = inventory.table()
        nowhere = Endpoint("127.0.0.1", 1)
        self.wires = MqttWires(inventory, SITE, self.table, self.clock, nowhere)
        self.plant = MqttPlant(SITE, PROFILES, self.clock, lambda _lease: None, nowhere)
        self.values = self.wires.dsx.values

    def everyone(self, topic: str, payload: bytes, retained: bool) -> None:
        """Every receiver hears the message: the subscription decides nothing here."""
        self.wires.leases.receive(topic, payload, retained)
        self.wires.dsx.receive(topic, payload, retained)
        self.values.take([(topic.encode(), payload, retained)] * 2)
        self.wires.sparkplug.receive(topic, payload, retained)
        self.plant._take_lease(topic, payload, retained)
        self.plant.bms.receive(topic, payload, retained)
        for edge in self.plant.sparkplug.edges.values():
            edge.node.receive(topic, payload, retained)

    def second(self) -> None:
        """What runs once a second, and the picture of the cycle."""
        self.clock.advance(1.0)
        self.wires.dsx.tick()
        self.wires.sparkplug.tick()
        self.plant.bms.tick()
        shot = self.table.snapshot(self.clock.now_s())
        assert np.isfinite(shot.value[shot.quality == Quality.GOOD]).all()
        assert all(len(link.detail) < 400 and len(link.note) < 1000 for link in self.wires.health())


def good_messages() -> dict[str, bytes]:
    """A good message of every kind, by topic."""
    both = Both()
    group = GROUPS["g1"]
    holder = Holder(np.full(len(SITE.racks), 50_000), 0.0)
    messages = {report_topic(SITE.name, "g1"): holder.report(group, np.full(len(SITE.racks), 40e3)).encode()}
    stamp = both.clock.wall_ms()
    for item in both.plant.bms.groups.values():
        for point in item.points[:3]:
            messages[METADATA + point.key] = point.metadata
            messages[VALUE + point.key] = b'{"value":20.5,"timestamp":%d,"quality":1}' % stamp
    for point in (*both.plant.bms._system, *both.plant.bms.requests.points.values()):
        messages[METADATA + point.key] = point.metadata
        messages[VALUE + point.key] = b'{"value":%d,"timestamp":%d,"quality":1}' % (stamp, stamp)
    birth = (Metric(BD_SEQ, 3, DataType.INT64), Metric("Power/Active", 5.0, DataType.DOUBLE, 1, stamp))
    messages[f"spBv1.0/{GROUP}/NBIRTH/{METER}"] = encode(Message(birth, stamp, 0))
    messages[f"spBv1.0/{GROUP}/NDATA/{METER}"] = encode(Message((Metric("", 6.0, DataType.DOUBLE, 1),), stamp, 1))
    messages[f"spBv1.0/{GROUP}/DBIRTH/{ROW}/{RACK}"] = encode(Message(birth, stamp, 1))
    messages[f"spBv1.0/{GROUP}/NDEATH/{METER}"] = encode(Message(birth[:1], stamp))
    messages[f"spBv1.0/{GROUP}/NCMD/{METER}"] = encode(Message((Metric("x", 1, DataType.INT8),), stamp))
    messages[state_topic("headroom")] = json.dumps({"online": False, "timestamp": stamp}).encode()
    return messages


GOOD = good_messages()
TOPICS = sorted(GOOD)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**53 - 1, 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["", "W", "C", "headroom", RACK, "g1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def payloads(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes of any kind, or a good message with something changed."""
    how = draw(st.integers(0, 4))
    if how == 0:
        return draw(st.binary(max_size=100))
    if how == 1:
        return json.dumps(draw(junk)).encode()
    try:
        body: Any = json.loads(good)
    except ValueError:
        body = None
    if how < 4 and isinstance(body, dict):
        for key in draw(st.lists(st.sampled_from(sorted(body)), max_size=3)):
            body[key] = draw(junk)
        return json.dumps(body).encode()
    data = bytearray(good)
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, bytes, bool]]:
    topics = draw(st.lists(st.sampled_from(TOPICS), max_size=8))
    return [
        (
            topic,
            draw(st.just(GOOD[topic]) | payloads(GOOD[draw(st.sampled_from([topic, *TOPICS]))])),
            draw(st.booleans()),
        )
        for topic in topics
    ]


@settings(max_examples=250, deadline=None)
@given(stories())
def test_no_payload_raises_and_what_is_good_is_a_number(story: list[tuple[str, bytes, bool]]) -> None:
    both = Both()
    for topic, payload, retained in story:
        both.everyone(topic, payload, retained)
        both.second()
    for topic, payload in GOOD.items():
        both.everyone(topic, payload, False)
    both.second()
    assert both.wires.counters["agents.reports"] >= 1, "a good report is still taken"


def mutator(seed: int) -> Callable[[], tuple[str, bytes]]:
    """Endless changed messages, fast."""
    draw = random.Random(seed)

    def change() -> tuple[str, bytes]:
        topic = draw.choice(TOPICS)
        data = bytearray(GOOD[draw.choice((topic, draw.choice(TOPICS)))])
        for _ in range(draw.randrange(6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            topic += f"/{draw.randrange(10**9)}"  # ever new topics
        return topic, bytes(data)

    return change


def test_memory_stays_flat_under_ever_new_messages() -> None:
    both, change = Both(), mutator(1)

    def feed(count: int) -> int:
        for i in range(count):
            both.everyone(*change(), i % 7 == 0)
            if i % 500 == 0:
                both.second()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = feed(6000)
        after = feed(12_000)
    finally:
        tracemalloc.stop()
    assert after - before < 2_500_000, "what is kept of the bus is bounded"


@pytest.mark.parametrize("kind", BROKERS)
async def test_caps_go_on_while_a_stranger_floods_the_broker_with_nonsense(kind: Kind) -> None:
    with open_broker(kind) as broker:
        ends = Ends(SITE, broker)
        await ends.start()
        await ends.cycle(50_000)
        change, stop = mutator(2), asyncio.Event()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(packets.connect("stranger", 0, None, None))
            while not stop.is_set():
                writer.write(b"".join(packets.publish(*change()) for _ in range(10)))
                await writer.drain()
                sent += 10
                await CLOCK.sleep_until(CLOCK.now_s() + 0.01)
            writer.close()

        flooding = asyncio.create_task(flood())
        await until(lambda: sent > 200)
        for cycle in range(4):
            begin_s = CLOCK.now_s()
            assert await ends.cycle(51_000 + cycle) == len(ends.plant.groups)
            assert CLOCK.now_s() - begin_s < 5.0  # some tens of ms on a quiet machine
            await CLOCK.sleep_until(begin_s + 0.5)
        stop.set()
        await flooding
        counters = ends.wires.counters | {f"plant {k}": n for k, n in ends.plant.counters.items()}
        assert not {name: n for name, n in counters.items() if n and name.endswith(("handler_errors", "reconnects"))}
        assert (ends.holder.in_force_w == 51_003).all()
        assert sum(n for name, n in counters.items() if name.endswith("malformed")) > 20
        await ends.stop()
