"""Registers -> values of many devices at once: points that lie side by side are converted in one stroke."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from drivers.codec.point import MAX_EXPONENT
from drivers.points import Floats

Registers = NDArray[np.uint16]  # as the machine has them, or as they come over the wire (">u2")
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
    "f32pf": np.float32,
    "bit": np.uint16,
}
SMALL = 1 << 18  # values that one stroke touches stay in the cache


@dataclass(frozen=True)
class Group:
    """Points of one type and byte order; arrays over the group's points."""

    type: str
    swapped: bool  # the bytes of each word come low first
    where: NDArray[np.intp]  # [points] column in the value matrix
    columns: NDArray[np.intp]  # [points, words] column in the image, high word first
    shifts: Registers  # [points] position of a bit in its word
    scale: Floats
    shift: Floats
    low: Floats
    high: Floats
    factor: NDArray[np.intp]  # [points] image column of the power of ten, -1 for none
    missing: tuple[tuple[int, int], ...]  # (point of the group, raw word)
    absent: NDArray[np.uint64]  # [points] raw word that stands for NaN

    @cached_property
    def to(self) -> slice | NDArray[np.intp]:
        """Columns in the value matrix, as a slice where they lie side by side."""
        return _run(self.where)

    @cached_property
    def words(self) -> slice | None:
        """Columns in the image where all words follow each other in the order of the wire; None where they do not."""
        if self.type == "bit" or self.swapped:
            return None
        run = _run(self.columns.reshape(-1))
        return run if isinstance(run, slice) else None

    @cached_property
    def plain(self) -> bool:
        """Whether raw numbers are the values."""
        return bool((self.scale == 1.0).all() and (self.shift == 0.0).all())


def _run(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    first = int(places[0])
    return slice(first, first + len(places)) if np.array_equal(places, first + np.arange(len(places))) else places


def decode(groups: Sequence[Group], raw: Registers, value: Floats) -> Flags:
    """Fill `value` [rows, points] from images [rows, registers]; returns where it is bad."""
    bad = np.empty(value.shape, dtype=np.bool_)
    native = raw if raw.dtype.isnative or all(g.words for g in groups) else raw.astype(np.uint16)
    step = max(1, SMALL // max(1, value.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(value), step):
            rows = slice(first, first + step)
            for group in groups:
                value[rows, group.to], bad[rows, group.to] = _convert(group, raw[rows], native[rows])
    return bad


def decode_group(group: Group, raw: Registers) -> tuple[Floats, Flags]:
    """Values and where they are bad, of the points of one group, [rows, points]."""
    native = raw if raw.dtype.isnative else raw.astype(np.uint16)
    with np.errstate(over="ignore", invalid="ignore"):
        return _convert(group, native, native)


def _convert(group: Group, raw: Registers, native: Registers) -> tuple[Floats, Flags]:
    kind = np.dtype(NUMPY_TYPE[group.type])
    unsigned: NDArray[np.unsignedinteger]
    if group.words is not None and not raw.dtype.isnative:
        wire = raw[:, group.words]
        unsigned = wire.view(np.dtype(UNSIGNED[group.columns.shape[1]]).newbyteorder(">"))
        number = wire.view(kind.newbyteorder(">")).astype(np.float64)
    else:
        unsigned = _gather(group, native)
        number = unsigned.view(kind).astype(np.float64)
    return _judge(group, number, unsigned, native)


def _judge(
    group: Group, value: Floats, unsigned: NDArray[np.unsignedinteger], native: Registers
) -> tuple[Floats, Flags]:
    """Sentinels, scale and range of raw numbers [rows, points]."""
    if group.type == "f32pf":
        value[np.abs(value) > 2.0] = np.nan
        value = np.where(np.abs(value) > 1.0, np.copysign(2.0, value) - value, value)
    if group.type[0] == "f":
        void = ~np.isfinite(value)
        if void.any():
            value[void] = np.nan
    factor = power_factor(group, native)
    if factor is not None:
        value *= factor
    for k, word in group.missing:
        value[unsigned[:, k] == word, k] = np.nan
    if not group.plain:
        value *= group.scale
        value += group.shift
    good = value >= group.low
    good &= value <= group.high
    return value, ~good


def _gather(group: Group, raw: Registers) -> NDArray[np.unsignedinteger]:
    words = group.columns.shape[1]
    kind = UNSIGNED[words]
    if group.type == "bit":
        return (raw[:, group.columns[:, 0]] >> group.shifts) & np.uint16(1)
    if group.swapped:
        raw = raw.byteswap()
    out = raw[:, group.columns[:, 0]].astype(kind)
    for w in range(1, words):
        out = (out << kind(16)) | raw[:, group.columns[:, w]]
    return np.ascontiguousarray(out)


def power_factor(group: Group, raw: Registers) -> Floats | None:
    """Power-of-ten factors [rows, points], NaN where the device has none; None where the group needs none."""
    if (group.factor < 0).all():
        return None
    exponent = raw[:, np.maximum(group.factor, 0)].view(np.int16).astype(np.float64)
    exponent[:, group.factor < 0] = 0.0
    exponent[np.abs(exponent) > MAX_EXPONENT] = np.nan
    return np.power(10.0, exponent)
