"""MQTT framing in bulk: whatever the pieces, the same messages; whatever the bytes, nothing but PacketError."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.mqtt.packets import Message, PacketError, connect, publish, scan, subscribe

topics = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
payloads = st.one_of(st.binary(max_size=60), st.integers(100, 40_000).map(lambda n: b"x" * n))


@given(st.lists(st.tuples(topics, payloads), max_size=12), st.lists(st.integers(1, 900), min_size=1, max_size=40))
def test_messages_survive_any_fragmentation(sent: list[tuple[str, bytes]], pieces: list[int]) -> None:
    stream = b"".join(publish(topic, payload) for topic, payload in sent)
    got: list[Message] = []
    waiting, at, i = b"", 0, 0
    while at < len(stream):
        size = pieces[i % len(pieces)]
        waiting += stream[at : at + size]
        at, i = at + size, i + 1
        waiting = waiting[scan(waiting, 1 << 16, got, []) :]
    assert waiting == b""
    assert got == [(topic.encode(), payload, False) for topic, payload in sent]


@given(st.binary(max_size=300))
@example(b"\x30\x01a")
@example(b"\x30\x00")
@example(b"\x30\xff\xff\xff\xff\x01")
@example(b"\x31\x05\x00\xff12")
def test_any_bytes_give_packets_or_a_packet_error(data: bytes) -> None:
    messages: list[Message] = []
    try:
        taken = scan(data, 1 << 16, messages, [])
    except PacketError:
        return
    assert 0 <= taken <= len(data)
    assert sum(len(topic) + len(payload) for topic, payload, _ in messages) <= len(data)


def test_packets_as_the_standard_writes_them() -> None:
    assert (
        connect("a", 10, "u", "pw").hex() == "10140004" + b"MQTT".hex() + "04c2000a" + "000161" + "000175" + "00027077"
    )
    assert connect("a", 0, None, None)[9] == 0x02
    assert subscribe(10, ["a/b"]).hex() == "8208000a0003612f6200"
    assert publish("a/b", b"x").hex() == "30060003612f6278"
    assert publish("t", b"y" * 200)[:3].hex() == "30cb01"
    got: list[Message] = []
    assert scan(bytes.fromhex("31060003612f6278") + b"\x30", 100, got, []) == 8
    assert got == [(b"a/b", b"x", True)]


@pytest.mark.parametrize("kind", [0x32, 0x34, 0x3B, 0x40, 0x10, 0x00, 0xE0])
def test_packets_that_no_broker_may_send_us_end_the_link(kind: int) -> None:
    with pytest.raises(PacketError, match="starts with"):
        scan(bytes((kind, 2, 0, 0)), 100, [], [])


def test_a_packet_that_is_too_long_is_left_to_the_caller() -> None:
    got: list[Message] = []
    data = publish("a", b"1") + publish("b", b"2" * 500) + publish("c", b"3")
    assert scan(data, 100, got, []) == len(publish("a", b"1"))
    assert got == [(b"a", b"1", False)]
