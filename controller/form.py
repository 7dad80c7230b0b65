"""What passes through the tap, as bytes: messages, and pictures that a browser draws from without parsing.

A message is the length of its body (u32, little-endian), its kind (one byte) and its body: `S` the site's sheet as
deflated JSON, `P` a picture. A picture is `HRP1`, the length of its header (u32), the header (JSON; in `arrays` name ->
[type, offset, length, scale]) and the arrays, each at a multiple of 8 after the header. A value is raw * scale, and the
largest raw value of an unsigned type is "unknown"; a scale of 0 marks codes, which are taken as they are.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

TAP_FILE = "tap.sock"  # in the site's state directory
SHEET, PICTURE = b"S", b"P"
PREFIX = struct.Struct("<Ic")
MAGIC = b"HRP1"
ALIGN = 8
CODE = 0.0

RACK_HELD, RACK_KNOWN, RACK_DISOBEDIENT, RACK_UNHEEDED, RACK_SILENT, RACK_CAPPED, RACK_PARKED = (
    1 << i for i in range(7)
)
NODE_LOST, NODE_DEAD, NODE_RIDING, NODE_METERED, NODE_OVER = (1 << i for i in range(5))
NO_ROW = 65535
NO_MARGIN = 32767

Raw = tuple[NDArray[Any], float]  # raw values and their scale
Floats = NDArray[np.float64]


def message(kind: bytes, body: bytes) -> bytes:
    """One message."""
    return PREFIX.pack(len(body), kind) + body


def join(head: Mapping[str, Any], arrays: Mapping[str, Raw]) -> bytes:
    """A picture of a header and its arrays."""
    where, parts, offset = {}, [], 0
    for name, (raw, scale) in arrays.items():
        data = raw.tobytes()
        where[name] = [raw.dtype.str[1:], offset, len(raw), scale]
        parts.append(data + bytes(-len(data) % ALIGN))
        offset += len(parts[-1])
    text = json.dumps({**head, "arrays": where}, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % ALIGN)
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *parts])


def split(data: bytes) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Header and arrays of a picture, unknown values NaN; ValueError on anything else."""
    if data[:4] != MAGIC or len(data) < 8:
        raise ValueError("not a picture")
    begin = 8 + struct.unpack_from("<I", data, 4)[0]
    if begin > len(data):
        raise ValueError("a picture that is cut off")
    head = json.loads(data[8:begin])
    arrays = {}
    for name, (kind, offset, count, scale) in head["arrays"].items():
        raw = np.frombuffer(data, np.dtype("<" + kind), count, begin + offset)
        value = raw * (scale or 1.0)
        if raw.dtype.kind == "u" and scale:
            value = np.where(raw == np.iinfo(raw.dtype).max, np.nan, value)
        arrays[name] = value
    return head, arrays


def flags(*marked: tuple[NDArray[np.bool_], int]) -> Raw:
    """Bits of each element where `marked` says so."""
    out = np.zeros(len(marked[0][0]), dtype=np.uint8)
    for where, bit in marked:
        out |= where.astype(np.uint8) * np.uint8(bit)
    return out, CODE


def u2(value: Floats, scale: float) -> Raw:
    """Two bytes a value, in steps of `scale`."""
    return _steps(value, scale, 65535).astype("<u2"), scale


def u1(value: Floats, scale: float) -> Raw:
    """One byte a value, in steps of `scale`."""
    return _steps(value, scale, 255).astype(np.uint8), scale


def f4(value: Floats) -> Raw:
    """Four bytes a value."""
    return value.astype("<f4"), 1.0


def _steps(value: Floats, scale: float, unknown: int) -> Floats:
    """Whole steps of `scale`, held within the type; not finite is `unknown`."""
    known = np.isfinite(value)
    return np.where(known, np.clip(np.rint(np.where(known, value, 0.0) / scale), 0, unknown - 1), unknown)
