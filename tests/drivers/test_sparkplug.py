"""Sparkplug B: payloads by data type, and a host application that is told lies, gaps and deaths."""

import json
import math

import numpy as np
import pytest
from helpers_sparkplug import GROUP, METER, ROW, Bench
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.mqtt.sparkplug.edge import EdgeNode
from drivers.mqtt.sparkplug.payload import (
    BD_SEQ,
    REBIRTH,
    SIGNED,
    UNSIGNED,
    DataType,
    Message,
    Metric,
    SparkplugError,
    decode,
    encode,
)
from drivers.mqtt.sparkplug.topics import Place, address, parse, state_topic
from drivers.points import Quality


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    kind = draw(st.sampled_from(list(DataType)))
    if kind in SIGNED:
        bits = SIGNED[kind]
        value: float | int | bool | str | None = draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    elif kind in UNSIGNED:
        value = draw(st.integers(0, 2 ** UNSIGNED[kind] - 1))
    elif kind in (DataType.FLOAT, DataType.DOUBLE):
        value = draw(st.floats(allow_nan=False, width=32 if kind == DataType.FLOAT else 64))
    elif kind == DataType.BOOLEAN:
        value = draw(st.booleans())
    else:
        value = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    value = draw(st.sampled_from([value, value, None]))
    numbers = st.none() | st.integers(0, 2**64 - 1)
    name = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    return Metric(name, value, kind, draw(numbers), draw(numbers), draw(st.booleans()))


@given(st.lists(metrics(), max_size=8), st.none() | st.integers(0, 2**64 - 1), st.none() | st.integers(0, 255))
def test_what_is_encoded_is_read_back(given_metrics: list[Metric], stamp: int | None, seq: int | None) -> None:
    message = Message(tuple(given_metrics), stamp, seq)
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
@example(b"\x12\x03\x0a\x01\xff")
@example(b"\x12\x80\x80\x80\x80\x10")
@example(b"\x4a" * 500)
def test_any_bytes_are_a_payload_or_an_error(data: bytes) -> None:
    try:
        message = decode(data)
    except SparkplugError:
        return
    assert all(isinstance(m.name, str) and not isinstance(m.value, bytes) for m in message.metrics)


def test_a_payload_that_is_too_long_is_refused() -> None:
    with pytest.raises(SparkplugError, match="bytes are more than"):
        decode(bytes(2_000_000))


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [(DataType.INT8, 255, -1), (DataType.INT8, 2**32 - 1, -1), (DataType.INT16, 65535, -1), (DataType.UINT8, 300, 44)],
)
def test_narrow_integers_as_other_encoders_write_them(kind: DataType, raw: int, value: int) -> None:
    data = encode(Message((Metric("a", raw, DataType.UINT32),))).replace(b"\x20\x07", bytes((0x20, kind)))
    assert decode(data).metrics[0].value == value


def test_a_value_of_another_type_than_declared_is_no_value() -> None:
    data = encode(Message((Metric("a", "12", DataType.STRING),))).replace(b"\x20\x0c", b"\x20\x0a")
    assert decode(data).metrics[0].value is None
    assert decode(encode(Message((Metric("", 7, DataType.UINT8, 3),))), {3: 2}).metrics[0].value == 7


def test_topics() -> None:
    assert parse("spBv1.0/g/NDATA/n") == Place("g", "NDATA", "n")
    assert parse("spBv1.0/g/DDATA/n/d") == Place("g", "DDATA", "n", "d")
    for topic in ("spBv1.0/g/DDATA/n", "spBv1.0/g/NDATA/n/d", "spBv1.0//NDATA/n", "spBv1.0/g/NDATA/n/d/e", "x", ""):
        assert parse(topic) is None, topic
    assert address("g/n") == ("g", "n", "")
    assert address("g/n/d") == ("g", "n", "d")
    assert [address(t) for t in ("g", "g/n/d/e", "g//d", "g/+", "g/n/#")] == [None] * 5


POWER = Metric("Power/Active", 60.0, DataType.DOUBLE, 11)
SUPPLY = Metric("Liquid/Supply Temperature", 25.0, DataType.FLOAT, 12)
BIRTH = (Metric(BD_SEQ, 7, DataType.INT64), Metric(REBIRTH, False, DataType.BOOLEAN))


def born() -> Bench:
    bench = Bench()
    bench.host.connected()
    bench.sent.clear()
    bench.say("NBIRTH", 0, BIRTH)
    bench.say("DBIRTH", 1, (POWER, SUPPLY), device=bench.rack)
    return bench


def alias(number: int, value: float | None, datatype: int = 0, good: bool = True) -> Metric:
    return Metric("", value, datatype or DataType.DOUBLE, number, good=good)


def test_births_and_data_by_alias_come_into_the_table_in_our_units() -> None:
    bench = born()
    assert bench.state("power_w") == (60_000.0, Quality.GOOD)
    assert bench.state("supply_c") == (25.0, Quality.GOOD)
    assert bench.state("flow_lpm")[1] == Quality.NEVER
    bench.say("DDATA", 2, (alias(11, 61.5),), device=bench.rack)
    assert bench.state("power_w") == (61_500.0, Quality.GOOD)
    bench.say("DDATA", 3, (alias(11, 61.5, good=False), alias(12, 500.0, DataType.FLOAT)), device=bench.rack)
    assert bench.state("power_w") == (61_500.0, Quality.BAD), "its Quality property says so"
    assert bench.state("supply_c") == (500.0, Quality.BAD), "out of range"
    bench.say("DDATA", 4, (alias(11, None),), device=bench.rack)
    assert math.isnan(bench.state("power_w")[0])
    bench.say("NBIRTH", 0, (*BIRTH, Metric("Power/Active", 900.0, DataType.DOUBLE)), node=METER)
    assert bench.state("power_w", "sparkplug_meter") == (900_000.0, Quality.GOOD), "a node is a device, too"
    assert bench.host.health(True, "").devices_silent == 1


def test_times_are_the_sources_own_unless_they_cannot_be() -> None:
    bench = born()
    now_ms = bench.clock.wall_ms()
    old = Metric("", 62.0, DataType.DOUBLE, 11, stamp_ms=now_ms - 4000)
    bench.say("DDATA", 2, (old,), device=bench.rack)
    assert bench.table.time_s[bench.slot("power_w")] == bench.clock.now_s() - 4.0
    bench.say("DDATA", 3, (Metric("", 63.0, DataType.DOUBLE, 11, stamp_ms=2**64 - 1),), device=bench.rack)
    assert bench.state("power_w") == (63_000.0, Quality.SUSPECT)
    past = Metric("", 64.0, DataType.DOUBLE, 11, stamp_ms=now_ms, historical=True)
    bench.say("DDATA", 4, (past,), device=bench.rack)
    assert bench.state("power_w")[0] == 63_000.0, "stored and sent later: it says nothing of now"
    assert bench.host.counters["historical"] == 1


def test_a_gap_is_waited_for_then_the_node_is_born_again() -> None:
    bench = born()
    bench.say("DDATA", 3, (alias(11, 63.0),), device=bench.rack)
    assert bench.state("power_w") == (60_000.0, Quality.GOOD), "kept until its turn"
    bench.say("DDATA", 2, (alias(11, 62.0),), device=bench.rack)
    assert bench.state("power_w") == (63_000.0, Quality.GOOD), "what was missing came late"
    bench.tick(4)
    assert bench.rebirths() == []
    bench.say("DDATA", 6, (alias(11, 66.0),), device=bench.rack)
    bench.tick(3)
    assert bench.state("power_w") == (66_000.0, Quality.GOOD)
    assert bench.rebirths().count(ROW) == 1
    assert bench.host.counters["gaps"] == 1
    bench.say("DDATA", 7, (alias(11, 67.0),), device=bench.rack)
    assert bench.state("power_w") == (67_000.0, Quality.GOOD), "it goes on meanwhile"
    bench.say("NBIRTH", 0, BIRTH)
    bench.say("DBIRTH", 1, (POWER, SUPPLY), device=bench.rack)
    assert bench.state("power_w") == (60_000.0, Quality.GOOD)
    bench.tick(100)
    assert bench.rebirths() == [METER] * 4, "only the one that never came, ever more seldom"


def test_the_sequence_wraps() -> None:
    bench = born()
    for seq in [*range(2, 256), 0, 1, 2]:
        bench.say("DDATA", seq, (alias(11, float(seq)),), device=bench.rack)
    assert bench.host.counters["out_of_order"] == 0
    assert bench.state("power_w") == (2000.0, Quality.GOOD)


def test_deaths_make_points_stale_and_keep_their_times() -> None:
    bench = born()
    slot, time_s = bench.slot("power_w"), bench.clock.now_s()
    bench.clock.advance(0.5)
    bench.say("NDEATH", None, (Metric(BD_SEQ, 6, DataType.INT64),))
    assert bench.state("power_w")[1] == Quality.GOOD, "of an earlier connection"
    bench.say("NDEATH", None, (Metric(BD_SEQ, 7, DataType.INT64),))
    assert bench.state("power_w") == (60_000.0, Quality.STALE)
    assert bench.table.time_s[slot] == time_s
    bench.say("DDATA", 2, (alias(11, 61.0),), device=bench.rack)
    assert bench.state("power_w")[1] == Quality.STALE, "the dead do not speak"
    bench.tick(1)
    assert bench.rebirths() == [ROW]
    bench.say("NBIRTH", 0, (Metric(BD_SEQ, 8, DataType.INT64),))
    bench.say("DBIRTH", 1, (POWER, SUPPLY), device=bench.rack)
    assert bench.state("power_w")[1] == Quality.GOOD
    bench.say("DDEATH", 2, device=bench.rack)
    assert bench.state("power_w")[1] == bench.state("supply_c")[1] == Quality.STALE
    bench.say("DDATA", 3, (alias(11, 61.0),), device=bench.rack)
    assert bench.state("power_w")[1] == Quality.STALE


def test_strange_messages_are_counted_and_change_nothing() -> None:
    bench = born()
    before = bench.table.value.copy()
    bench.say("DDATA", 2, (alias(99, 1.0),), device=bench.rack)
    bench.say("DDATA", 3, (Metric("Power/Unheard Of", 1.0, DataType.DOUBLE),), device=bench.rack)
    bench.say("DDATA", 4, (POWER,), device="stranger")
    bench.say("DDATA", 5, (POWER,), node="stranger")
    bench.say("DDATA", 5, (Metric("Power/Active", 1.0, DataType.DOUBLE),), device=bench.rack, retained=True)
    bench.say("DDATA", None, (POWER,), device=bench.rack)
    bench.host.receive(f"spBv1.0/{GROUP}/NDATA/{ROW}", b"\xff\xff", False)
    bench.host.receive(state_topic("headroom"), b"[", False)
    assert np.array_equal(bench.table.value, before, equal_nan=True)
    counts = bench.host.counters
    assert [counts[n] for n in ("unknown_alias", "unknown_metrics", "retained", "malformed")] == [1, 1, 1, 3]
    bench.tick(1)
    assert bench.rebirths() == [ROW], "an alias that nobody explained"


def test_our_state_is_said_and_defended() -> None:
    bench = Bench()
    topic, payload = bench.host.will()
    assert (topic, json.loads(payload)["online"]) == ("spBv1.0/STATE/headroom", False)
    bench.host.connected()
    (said,) = bench.sent
    assert said[0] == topic
    assert said[2:] == (True, 1)
    assert json.loads(said[1]) == {"online": True, "timestamp": json.loads(payload)["timestamp"]}
    bench.clock.advance(5.0)
    bench.host.receive(topic, json.dumps({"online": False, "timestamp": 5}).encode(), True)
    assert len(bench.sent) == 1, "an old one"
    bench.host.receive(topic, payload, False)
    assert json.loads(bench.sent[-1][1])["online"] is True
    assert json.loads(bench.sent[-1][1])["timestamp"] == bench.clock.wall_ms()
    bench.host.leave()
    assert json.loads(bench.sent[-1][1])["online"] is False
    count = len(bench.sent)
    bench.host.receive(topic, bench.sent[-1][1], False)
    assert len(bench.sent) == count, "our own leave is not contradicted"


def test_nodes_that_do_not_come_by_themselves_are_asked_for_birth() -> None:
    bench = Bench()
    bench.host.connected()
    bench.tick(4)
    assert bench.rebirths() == []
    bench.tick(2)
    assert sorted(bench.rebirths()) == sorted([ROW, METER])


class Edge:
    """An edge node that speaks to the bench's host directly."""

    def __init__(self, bench: Bench, host: str = "headroom") -> None:
        self.bench = bench
        self.said: list[str] = []
        names = ["Power/Active", "Liquid/Supply Temperature", "Liquid/Return Temperature", "Liquid/Flow"]
        self.clock: VirtualClock = bench.clock
        self.node = EdgeNode(GROUP, ROW, {bench.rack: names}, bench.clock, self._publish, host=host, again_s=10.0)

    def _publish(self, topic: str, payload: bytes, retain: bool, qos: int) -> bool:
        assert not retain
        self.said.append(topic.split("/")[2])
        self.bench.host.receive(topic, payload, retain)
        return True

    def hear(self) -> None:
        """What the host has said reaches the node."""
        for topic, payload, retain, _ in self.bench.sent:
            self.node.receive(topic, payload, retain and "STATE" not in topic)
        self.bench.sent.clear()


def test_an_edge_node_lives_by_the_book() -> None:
    bench = Bench()
    edge = Edge(bench)
    edge.node.will()
    edge.node.connected()
    edge.node.tick()
    assert edge.said == [], "no host, no birth"
    bench.host.will()
    bench.host.connected()
    edge.hear()
    assert edge.said == ["NBIRTH", "DBIRTH"]
    edge.node.update(bench.rack, np.array([60.0, 20.0, 30.0, np.nan]))
    edge.node.tick()
    assert edge.said[2:] == ["DDATA"]
    assert bench.state("power_w") == (60_000.0, Quality.GOOD)
    assert bench.state("flow_lpm")[1] == Quality.BAD
    edge.node.tick()
    assert len(edge.said) == 3, "nothing has changed"
    bench.clock.advance(10.0)
    edge.node.tick()
    assert len(edge.said) == 4, "silence is not constancy"
    bench.host._nodes[GROUP, ROW].want_rebirth(bench.clock.now_s())
    bench.host.tick()
    edge.hear()
    assert edge.said[4:] == ["NBIRTH", "DBIRTH"]
    assert bench.state("power_w") == (60_000.0, Quality.GOOD)
    edge.node.set_alive(bench.rack, False)
    assert bench.state("power_w")[1] == Quality.STALE
    edge.node.set_alive(bench.rack, True)
    assert bench.state("power_w")[1] == Quality.GOOD
    bench.clock.advance(1.0)
    bench.host.leave()
    edge.hear()
    assert edge.said[-1] == "NDEATH"
    assert bench.state("power_w")[1] == Quality.STALE
    edge.node.tick()
    assert edge.said[-1] == "NDEATH"
    assert bench.host.counters["out_of_order"] == bench.host.counters["malformed"] == 0


def test_a_state_that_comes_before_the_connection_is_announced_counts() -> None:
    bench = Bench()
    edge = Edge(bench)
    edge.node.will()
    state = json.dumps({"online": True, "timestamp": bench.clock.wall_ms()}).encode()
    edge.node.receive(state_topic("headroom"), state, True)
    assert edge.said == []
    edge.node.connected()
    assert edge.said == ["NBIRTH", "DBIRTH"]
    bench.host.will()
    edge.node.birth()
    bench.host.connected()
    bench.tick(6)
    assert bench.rebirths() == [METER], "the other one was born while we came"


def test_each_connection_has_its_bd_seq_and_an_old_will_kills_nobody() -> None:
    bench = Bench()
    edge = Edge(bench, host="")
    topic, first = edge.node.will()
    edge.node.connected()
    _, second = edge.node.will()
    edge.node.connected()
    numbers = [decode(payload).value(BD_SEQ) for payload in (first, second)]
    assert isinstance(numbers[0], int)
    assert numbers[1] == (numbers[0] + 1) % 256
    bench.host.receive(topic, first, False)
    assert bench.host.health(True, "").devices_silent == 2, "the other rack and the meter"
    bench.host.receive(topic, second, False)
    assert bench.host.health(True, "").devices_silent == 3


kinds = st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD", "DCMD"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            kinds,
            st.sampled_from([ROW, METER, "x"]),
            st.lists(metrics(), max_size=4) | st.just([POWER, SUPPLY]) | st.just(list(BIRTH)),
            st.none() | st.integers(0, 4) | st.integers(0, 2**64 - 1),
            st.none() | st.binary(max_size=30),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_whatever_edge_nodes_say_raises_nothing_and_good_values_are_numbers(
    story: list[tuple[str, str, list[Metric], int | None, bytes | None, bool]],
) -> None:
    bench = born()
    edge = Edge(bench, host="")
    edge.node.connected()
    for kind, node, said, seq, raw, retained in story:
        place = Place(GROUP, kind, node, bench.rack if kind[0] == "D" else "")
        payload = raw if raw is not None else encode(Message(tuple(said), None, seq))
        bench.host.receive(place.topic, payload, retained)
        edge.node.receive(place.topic, payload, retained)
        edge.node.receive(state_topic("headroom"), payload, retained)
        bench.tick(1)
    good = bench.table.quality == Quality.GOOD
    assert np.isfinite(bench.table.value[good]).all()
    assert all(len(node.held) <= 65 for node in bench.host._nodes.values())
