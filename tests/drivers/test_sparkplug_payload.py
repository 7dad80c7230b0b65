"""Sparkplug B payloads by data type, and topics: what is written is read, and any bytes are survived."""

import pytest
from helpers_sparkplug import metrics
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.mqtt.sparkplug.payload import (
    DataType,
    Message,
    Metric,
    SparkplugError,
    decode,
    encode,
)
from drivers.mqtt.sparkplug.topics import Place, address, parse


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
