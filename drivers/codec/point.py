"""One value at a time: registers <-> an engineering value, for writers and tools."""

import math
import struct
from collections.abc import Sequence

from drivers.profile import RAW_RANGE, WORDS, Point

STRUCT_CODE = {
    "u16": "H",
    "s16": "h",
    "u32": "I",
    "s32": "i",
    "u64": "Q",
    "s64": "q",
    "f32": "f",
    "f64": "d",
    "f32pf": "f",
    "bit": "H",
}
MAX_EXPONENT = 10.0  # SunSpec scale factors run from -10 to 10


def absent_word(point: Point) -> int:
    """Raw word for "not available": the point's first sentinel, else NaN or the type's customary one (SunSpec)."""
    if point.missing:
        return point.missing[0]
    if point.type == "bit":
        return 0  # a bit has no third state
    width = 16 * WORDS[point.type]
    customary = {"f": {32: 0x7FC00000, 64: 0x7FF8000000000000}.get(width, 0), "s": 1 << (width - 1)}
    return customary.get(point.type[0], (1 << width) - 1)


def _wire_bytes(point: Point, packed: bytes) -> bytes:
    """From high byte first to the point's order, or back: each order is its own inverse."""
    words = [packed[i : i + 2] for i in range(0, len(packed), 2)]
    if point.words.startswith("lo-hi"):
        words.reverse()
    return b"".join(w[::-1] if point.words.endswith("swapped") and point.type != "bit" else w for w in words)


def decode_point(point: Point, words: Sequence[int], exponent: int | None = None) -> tuple[float, bool]:
    """Value of one point from its registers in wire order, and whether it is bad; `exponent` is its scale point's.

    A bit is one word, 0 or 1.
    """
    packed = _wire_bytes(point, struct.pack(f">{len(words)}H", *words))
    if int.from_bytes(packed, "big") in point.missing or (exponent is not None and abs(exponent) > MAX_EXPONENT):
        return float("nan"), True
    raw = float(struct.unpack(">" + STRUCT_CODE[point.type], packed)[0])
    if point.type == "f32pf" and abs(raw) > 1.0:
        raw = math.copysign(2.0, raw) - raw if abs(raw) <= 2.0 else float("nan")
    value = raw * 10.0 ** (exponent or 0) * point.scale + point.shift
    if not math.isfinite(raw):
        return float("nan"), True
    return value, not point.min <= value <= point.max


def encode_point(point: Point, value: float, exponent: int | None = None) -> tuple[int, ...]:
    """Registers of one value in wire order; ValueError when the point's type cannot express it."""
    raw = (value - point.shift) / point.scale / 10.0 ** (exponent or 0)
    if math.isnan(raw):
        packed = absent_word(point).to_bytes(2 * WORDS[point.type], "big")
    else:
        number = raw if point.type[0] == "f" else round(raw)
        try:
            packed = struct.pack(">" + STRUCT_CODE[point.type], number)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{point.name}: {value} {point.unit} does not fit {point.type}") from error
        if point.type in ("f32pf", "bit") and not RAW_RANGE[point.type][0] <= number <= RAW_RANGE[point.type][1]:
            raise ValueError(f"{point.name}: {value} does not fit {point.type}")
        if point.type[0] != "f" and int.from_bytes(packed, "big") in point.missing:
            raise ValueError(f"{point.name}: {value} {point.unit} would read as 'not available'")
    return struct.unpack(f">{len(packed) // 2}H", _wire_bytes(point, packed))
