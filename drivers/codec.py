"""Registers <-> engineering values, whole slabs at once, in both directions: drivers decode, the plant encodes.

A device's image is the row of all registers of its profile's blocks, in block order. Values are float64 always:
integers above 2**53 are rounded to the nearest float64.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.points import Floats
from drivers.profile import RAW_RANGE, WORDS, Point, Profile

Registers = NDArray[np.uint16]
Flags = NDArray[np.bool_]
UNSIGNED = {1: np.uint16, 2: np.uint32, 4: np.uint64}
NUMPY_TYPE = {
    "u16": np.uint16,
    "s16": np.int16,
    "u32": np.uint32,
    "s32": np.int32,
    "u64": np.uint64,
    "s64": np.int64,
    "f32": np.float32,
    "f64": np.float64,
}
STRUCT_CODE = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q", "f32": "f", "f64": "d"}
LARGEST = {"u64": np.nextafter(2.0**64, 0), "s64": np.nextafter(2.0**63, 0)}  # float64 that still fit
MAX_EXPONENT = 10.0  # SunSpec scale factors run from -10 to 10


@dataclass(frozen=True)
class _Group:
    """Points of one type and word order; arrays over the group's points."""

    type: str
    where: NDArray[np.intp]  # [points] column in the value matrix
    columns: NDArray[np.intp]  # [points, words] column in the image, high word first
    scale: Floats
    shift: Floats
    low: Floats
    high: Floats
    factor: NDArray[np.intp]  # [points] image column of the power of ten, -1 for none
    missing: tuple[tuple[int, int], ...]  # (point of the group, raw word)
    absent: NDArray[np.uint64]  # [points] raw word that stands for NaN


class Codec:
    """Converts the polled points of one profile; make it with `compile_codec`."""

    def __init__(self, profile: Profile, column: Mapping[tuple[int, int], int], width: int) -> None:
        self.profile = profile
        self.points = profile.polled()
        self.width = width
        self._column = dict(column)
        self._groups = self._compile(self.points)
        self._constants = self._constant_row()

    def column(self, fc: int, addr: int) -> int:
        """Column of a register in the image; KeyError outside the profile's blocks."""
        return self._column[fc, addr]

    def blank(self, rows: int) -> Registers:
        """Fresh images with the profile's constants, shape [rows, registers]."""
        return np.tile(self._constants, (rows, 1))

    def decode(self, raw: Registers) -> tuple[Floats, Flags]:
        """Values [rows, points] and where they are bad: sentinel (then NaN), not finite (NaN), out of range."""
        value = np.empty((len(raw), len(self.points)))
        bad = np.zeros(value.shape, dtype=np.bool_)
        for group in self._groups:
            value[:, group.where], bad[:, group.where] = _decode(group, raw)
        return value, bad

    def encode(self, value: Floats, out: Registers | None = None) -> Registers:
        """Registers of values [rows, points]; NaN becomes the sentinel, what does not fit saturates.

        Writes the polled points only, into `out` where given; powers of ten are read from the image.
        """
        raw = self.blank(len(value)) if out is None else out
        for group in self._groups:
            _encode(group, value[:, group.where], raw)
        return raw

    def put(self, raw: Registers, name: str, value: Floats | float) -> None:
        """Write one point, polled or not, into images [rows, registers]: value [rows] or the same for all."""
        column = np.broadcast_to(np.asarray(value, dtype=np.float64), len(raw)).reshape(-1, 1)
        for group in self._compile((self.profile.point(name),)):
            _encode(group, column, raw)

    def get(self, raw: Registers, name: str) -> tuple[Floats, Flags]:
        """Read one point, polled or not, from images: values and where they are bad, shape [rows]."""
        (group,) = self._compile((self.profile.point(name),))
        value, bad = _decode(group, raw)
        return value[:, 0], bad[:, 0]

    def _compile(self, points: Sequence[Point]) -> tuple[_Group, ...]:
        kinds: dict[str, list[int]] = {}
        for i, point in enumerate(points):
            kinds.setdefault(point.type, []).append(i)
        return tuple(self._group(kind, [points[i] for i in where], where) for kind, where in kinds.items())

    def _group(self, kind: str, points: Sequence[Point], where: Sequence[int]) -> _Group:
        words = WORDS[kind]
        columns = np.empty((len(points), words), dtype=np.intp)
        for k, p in enumerate(points):
            order = range(words) if p.words == "hi-lo" else range(words - 1, -1, -1)
            columns[k] = [self._column[p.fc, p.addr + w] for w in order]
        factors = [self.profile.point(p.scale_point) if p.scale_point else None for p in points]
        return _Group(
            kind,
            np.array(where, dtype=np.intp),
            columns,
            np.array([p.scale for p in points]),
            np.array([p.shift for p in points]),
            np.array([p.min for p in points]),
            np.array([p.max for p in points]),
            np.array([self._column[f.fc, f.addr] if f else -1 for f in factors], dtype=np.intp),
            tuple((k, raw) for k, p in enumerate(points) for raw in p.missing),
            np.array([absent_word(p) for p in points], dtype=np.uint64),
        )

    def _constant_row(self) -> Registers:
        row = np.zeros(self.width, dtype=np.uint16)
        for addr, constant in self.profile.constants.items():
            for k, word in enumerate(_constant_words(constant)):
                row[self._column[3, addr + k]] = word
        return row


def compile_codec(profile: Profile) -> Codec:
    """The codec of a Modbus profile; KeyError when a point lies outside the blocks (see lint_profile)."""
    column: dict[tuple[int, int], int] = {}
    for block in profile.blocks:
        for addr in range(block.first, block.last + 1):
            column[block.fc, addr] = len(column)
    return Codec(profile, column, len(column))


def absent_word(point: Point) -> int:
    """Raw word for "not available": the point's first sentinel, else NaN or the type's customary one (SunSpec)."""
    if point.missing:
        return point.missing[0]
    width = 16 * WORDS[point.type]
    customary = {"f": {32: 0x7FC00000, 64: 0x7FF8000000000000}.get(width, 0), "s": 1 << (width - 1)}
    return customary.get(point.type[0], (1 << width) - 1)


def _constant_words(constant: int | str) -> list[int]:
    if isinstance(constant, int):
        return [constant]
    text = constant.encode("ascii")
    text += b"\0" * (len(text) % 2)
    return [text[i] << 8 | text[i + 1] for i in range(0, len(text), 2)]


def _decode(group: _Group, raw: Registers) -> tuple[Floats, Flags]:
    unsigned = _gather(group, raw)
    with np.errstate(over="ignore", invalid="ignore"):
        value = unsigned.view(NUMPY_TYPE[group.type]).astype(np.float64)
        bad = ~np.isfinite(value)
        for k, word in group.missing:
            bad[:, k] |= unsigned[:, k] == word
        factor = _factor(group, raw)
        if factor is not None:
            value = value * factor
            bad |= np.isnan(factor)
        value = value * group.scale + group.shift
        value[bad] = np.nan
        bad |= ~((value >= group.low) & (value <= group.high))
    return value, bad


def _gather(group: _Group, raw: Registers) -> NDArray[np.unsignedinteger]:
    words = group.columns.shape[1]
    kind = UNSIGNED[words]
    out = raw[:, group.columns[:, 0]].astype(kind)
    for w in range(1, words):
        out = (out << kind(16)) | raw[:, group.columns[:, w]]
    return np.ascontiguousarray(out)


def _factor(group: _Group, raw: Registers) -> Floats | None:
    """Power-of-ten factors [rows, points], NaN where the device has none; None where the group needs none."""
    if (group.factor < 0).all():
        return None
    exponent = raw[:, np.maximum(group.factor, 0)].view(np.int16).astype(np.float64)
    exponent[:, group.factor < 0] = 0.0
    exponent[np.abs(exponent) > MAX_EXPONENT] = np.nan
    return np.power(10.0, exponent)


def _encode(group: _Group, value: Floats, raw: Registers) -> None:
    number = (value - group.shift) / group.scale
    factor = _factor(group, raw)
    if factor is not None:
        number = number / factor
    absent = np.isnan(number)
    number[absent] = 0.0
    low, high = RAW_RANGE[group.type]
    number = np.clip(number if group.type[0] == "f" else np.rint(number), low, high)
    fits = np.minimum(number, LARGEST.get(group.type, high)).astype(NUMPY_TYPE[group.type])
    if group.type in LARGEST:  # the end of the type is no float64
        fits[number >= high] = np.iinfo(fits.dtype).max
    unsigned = np.ascontiguousarray(fits).view(UNSIGNED[group.columns.shape[1]])
    _step_off_sentinels(group, number, unsigned)
    unsigned[absent] = np.broadcast_to(group.absent.astype(unsigned.dtype), unsigned.shape)[absent]
    words = group.columns.shape[1]
    for w in range(words):
        shift = unsigned.dtype.type(16 * (words - 1 - w))
        raw[:, group.columns[:, w]] = (unsigned >> shift).astype(np.uint16)


def _step_off_sentinels(group: _Group, number: Floats, unsigned: NDArray[np.unsignedinteger]) -> None:
    """A number that happens to look like a sentinel is sent as its neighbour towards zero."""
    for _ in range(len(group.missing)):
        for k, word in group.missing:
            hit = unsigned[:, k] == word
            if hit.any():
                step = np.where((number[hit, k] > 0) & (group.type[0] != "f"), -1, 1)
                unsigned[hit, k] = (unsigned[hit, k].astype(object) + step) % (1 << 16 * group.columns.shape[1])


def decode_point(point: Point, words: Sequence[int], exponent: int | None = None) -> tuple[float, bool]:
    """Value of one point from its registers in wire order, and whether it is bad; `exponent` is its scale point's."""
    ordered = words if point.words == "hi-lo" else list(reversed(words))
    packed = struct.pack(f">{len(ordered)}H", *ordered)
    if int.from_bytes(packed, "big") in point.missing or (exponent is not None and abs(exponent) > MAX_EXPONENT):
        return float("nan"), True
    raw = float(struct.unpack(">" + STRUCT_CODE[point.type], packed)[0])
    value = raw * 10.0 ** (exponent or 0) * point.scale + point.shift
    if not np.isfinite(raw):
        return float("nan"), True
    return value, not point.min <= value <= point.max


def encode_point(point: Point, value: float, exponent: int | None = None) -> tuple[int, ...]:
    """Registers of one value in wire order; ValueError when the point's type cannot express it."""
    raw = (value - point.shift) / point.scale / 10.0 ** (exponent or 0)
    if np.isnan(raw):
        packed = absent_word(point).to_bytes(2 * WORDS[point.type], "big")
    else:
        number = raw if point.type[0] == "f" else round(raw)
        try:
            packed = struct.pack(">" + STRUCT_CODE[point.type], number)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{point.name}: {value} {point.unit} does not fit {point.type}") from error
        if point.type[0] != "f" and int.from_bytes(packed, "big") in point.missing:
            raise ValueError(f"{point.name}: {value} {point.unit} would read as 'not available'")
    words = struct.unpack(f">{len(packed) // 2}H", packed)
    return words if point.words == "hi-lo" else tuple(reversed(words))
