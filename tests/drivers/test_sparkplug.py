"""A Sparkplug B host application that is told lies, gaps and deaths, and an edge node that lives by the book."""

import json
import math

import numpy as np
from helpers_sparkplug import GROUP, METER, ROW, Bench, metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.mqtt.sparkplug.edge import EdgeNode
from drivers.mqtt.sparkplug.payload import (
    BD_SEQ,
    REBIRTH,
    DataType,
    Message,
    Metric,
    decode,
    encode,
)
from drivers.mqtt.sparkplug.topics import Place, state_topic
from drivers.points import Quality

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


def test_a_node_that_missed_our_state_is_told_again() -> None:
    bench = Bench()
    edge = Edge(bench)
    edge.node.will()
    edge.node.connected()
    bench.host.will()
    bench.host.connected()
    bench.sent.clear()  # a broker that has not stored the retained message yet
    bench.tick(10)
    edge.hear()
    assert edge.said[:2] == ["NBIRTH", "DBIRTH"]


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
