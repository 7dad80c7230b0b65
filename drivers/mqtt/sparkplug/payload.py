"""Sparkplug B payloads to and from plain values: numbers by their data type, quality by the property of that name."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from drivers.mqtt.sparkplug.messages import Payload

MAX_BYTES = 1 << 20
GOOD = 192  # property Quality: 0 bad, 192 good, 500 stale
BD_SEQ, REBIRTH = "bdSeq", "Node Control/Rebirth"
Value = float | int | bool | str
Types = Mapping[int | str, int]  # data types by alias or name


class SparkplugError(ValueError):
    """No payload that we can read; the message says why."""


class DataType(IntEnum):
    """Data types of metrics that carry one value (specification 6.4.16)."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14


SIGNED: dict[int, int] = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
UNSIGNED: dict[int, int] = {
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
    DataType.DATETIME: 64,
}
FITS: dict[str, tuple[int, ...]] = {  # field of the value -> data types that may use it, besides whole numbers
    "float_value": (DataType.FLOAT, DataType.DOUBLE),
    "double_value": (DataType.FLOAT, DataType.DOUBLE),
    "boolean_value": (DataType.BOOLEAN,),
    "string_value": (DataType.STRING, DataType.TEXT),
}
WHOLE = ("int_value", "long_value")
FIELD_OF = {
    **dict.fromkeys((DataType.INT64, DataType.UINT64, DataType.DATETIME), "long_value"),
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
    DataType.TEXT: "string_value",
}


class Metric(NamedTuple):
    """One metric of a message. `value` None: null, or of a type that we do not read."""

    name: str  # empty: only the alias was given
    value: Value | None
    datatype: int = 0  # 0: not given
    alias: int | None = None
    stamp_ms: int | None = None
    good: bool = True  # by its Quality property
    historical: bool = False


@dataclass(frozen=True)
class Message:
    """A whole payload."""

    metrics: tuple[Metric, ...]
    stamp_ms: int | None = None
    seq: int | None = None

    def value(self, name: str) -> Value | None:
        """Value of the first metric of that name, None where there is none."""
        return next((m.value for m in self.metrics if m.name == name), None)


def encode(message: Message) -> bytes:
    """The payload as bytes. ValueError for a value that its data type cannot hold."""
    payload = Payload()
    if message.stamp_ms is not None:
        payload.timestamp = message.stamp_ms
    if message.seq is not None:
        payload.seq = message.seq
    for metric in message.metrics:
        _write(payload.metrics.add(), metric)
    data: bytes = payload.SerializeToString()
    return data


def _write(out: Any, metric: Metric) -> None:
    if metric.name:
        out.name = metric.name
    if metric.alias is not None:
        out.alias = metric.alias
    if metric.stamp_ms is not None:
        out.timestamp = metric.stamp_ms
    out.datatype = metric.datatype
    if metric.historical:
        out.is_historical = True
    if not metric.good:
        out.properties.keys.append("Quality")
        out.properties.values.add(type=int(DataType.INT32), int_value=0)
    value = metric.value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        out.is_null = True
        return
    kind = DataType(metric.datatype)
    if kind in SIGNED and isinstance(value, int):
        value &= (1 << max(SIGNED[kind], 32)) - 1  # two's complement in the unsigned field
    setattr(out, FIELD_OF.get(kind, "int_value"), value)


def decode(data: bytes, types: Types | None = None) -> Message:
    """A payload from bytes. `types`: data types by alias or name, from the birth, for metrics that give none.

    SparkplugError on whatever is no payload.
    """
    if len(data) > MAX_BYTES:
        raise SparkplugError(f"{len(data)} bytes are more than {MAX_BYTES}")
    try:
        payload = Payload.FromString(data)
        metrics = tuple(_read(m, types or {}) for m in payload.metrics)
        stamp = payload.timestamp if payload.HasField("timestamp") else None
        seq = payload.seq if payload.HasField("seq") else None
    except (DecodeError, UnicodeDecodeError) as error:
        raise SparkplugError(str(error)) from None
    return Message(metrics, stamp, seq)


def _read(raw: Any, types: Types) -> Metric:
    if not isinstance(raw.name, str):
        raise SparkplugError("a metric's name is not UTF-8")
    alias = raw.alias if raw.HasField("alias") else None
    datatype = raw.datatype if raw.HasField("datatype") else 0
    if not datatype:
        datatype = types.get(raw.name, 0) if raw.name else types.get(alias, 0) if alias is not None else 0
    return Metric(
        raw.name,
        None if raw.is_null else _value(raw, datatype),
        datatype,
        alias,
        raw.timestamp if raw.HasField("timestamp") else None,
        _is_good(raw.properties if raw.HasField("properties") else None),
        raw.is_historical,
    )


def _value(raw: Any, datatype: int) -> Value | None:
    """The value by its data type; None where field and type do not belong together."""
    field = raw.WhichOneof("value")
    if field is None:
        return None
    value: Value | bytes = getattr(raw, field)
    if field in WHOLE and datatype in SIGNED:
        return _signed(int(value), SIGNED[datatype])
    if field in WHOLE and datatype in UNSIGNED:
        return int(value) & ((1 << UNSIGNED[datatype]) - 1)
    return value if datatype in FITS.get(field, ()) and not isinstance(value, bytes) else None


def _signed(raw: int, bits: int) -> int:
    low = raw & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low


def _is_good(properties: Any) -> bool:
    if properties is None:
        return True
    pairs: Iterable[tuple[str, Any]] = zip(properties.keys, properties.values, strict=False)
    for key, value in pairs:
        if key == "Quality" and value.WhichOneof("value") in WHOLE:
            return bool(getattr(value, value.WhichOneof("value")) == GOOD)
    return True
