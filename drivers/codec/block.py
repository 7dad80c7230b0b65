"""Registers <-> engineering values, whole slabs at once, in both directions: drivers decode, the plant encodes.

A device's image is the row of all registers of its profile's blocks, in block order. Values are float64 always:
integers above 2**53 are rounded to the nearest float64.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.codec.decode import NUMPY_TYPE, UNSIGNED, Flags, Group, Registers, decode, decode_group, power_factor
from drivers.codec.point import absent_word
from drivers.points import Floats
from drivers.profile import BITS, RAW_RANGE, WORDS, Block, Point, Profile

LARGEST = {"u64": np.nextafter(2.0**64, 0), "s64": np.nextafter(2.0**63, 0)}  # float64 that still fit
Place = tuple[int, int, int]  # function, SunSpec model or 0, address


class Codec:
    """Converts the polled points of one profile; make it with `compile_codec`."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.points = profile.polled()
        self._column: dict[Place, int] = {}
        self._shift: dict[Place, int] = {}
        self.width = 0
        for block in profile.blocks:
            self._lay_out(block)
        self._groups = self._compile(self.points)
        self._constants = self._constant_row()

    def _lay_out(self, block: Block) -> None:
        """Columns of a block; bits lie as a reply brings them: sixteen to a column, in bytes, lowest bit first."""
        for i, addr in enumerate(range(block.first, block.last + 1)):
            place = block.fc, block.model, addr
            self._column[place] = self.width + (i // 16 if block.fc in BITS else i)
            if block.fc in BITS:
                self._shift[place] = i % 8 + (8 if i // 8 % 2 == 0 else 0)
        self.width = max(self._column.values()) + 1

    def column(self, fc: int, addr: int, model: int = 0) -> int:
        """Column of a register (or of the word that holds a bit) in the image; KeyError outside the blocks."""
        return self._column[fc, model, addr]

    def blank(self, rows: int) -> Registers:
        """Fresh images with the profile's constants, shape [rows, registers]."""
        return np.tile(self._constants, (rows, 1))

    def decode(self, raw: Registers) -> tuple[Floats, Flags]:
        """Values [rows, points] and where they are bad: sentinel (then NaN), not finite (NaN), out of range."""
        value = np.empty((len(raw), len(self.points)))
        return value, decode(self._groups, raw, value)

    def decode_into(self, raw: Registers, value: Floats) -> Flags:
        """The same into `value` [rows, points]; returns where they are bad. `raw` may have its words as they came."""
        return decode(self._groups, raw, value)

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
        value, bad = decode_group(group, raw)
        return value[:, 0], bad[:, 0]

    def _compile(self, points: Sequence[Point]) -> tuple[Group, ...]:
        kinds: dict[tuple[str, bool], list[int]] = {}
        for i, point in enumerate(points):
            kinds.setdefault((point.type, point.words.endswith("swapped") and point.type != "bit"), []).append(i)
        return tuple(self._group(*kind, [points[i] for i in where], where) for kind, where in kinds.items())

    def _group(self, kind: str, swapped: bool, points: Sequence[Point], where: Sequence[int]) -> Group:
        columns = np.empty((len(points), WORDS[kind]), dtype=np.intp)
        for k, p in enumerate(points):
            order = p.places if p.words.startswith("hi-lo") else reversed(p.places)
            columns[k] = [self._column[p.fc, p.model, a] for a in order]
        factors = [self.profile.point(p.scale_point) if p.scale_point else None for p in points]
        return Group(
            kind,
            swapped,
            np.array(where, dtype=np.intp),
            columns,
            np.array([self._shift.get((p.fc, p.model, p.addr), 0) for p in points], dtype=np.uint16),
            np.array([p.scale for p in points]),
            np.array([p.shift for p in points]),
            np.array([p.min for p in points]),
            np.array([p.max for p in points]),
            np.array([self._column[f.fc, f.model, f.addr] if f else -1 for f in factors], dtype=np.intp),
            tuple((k, raw) for k, p in enumerate(points) for raw in p.missing),
            np.array([absent_word(p) for p in points], dtype=np.uint64),
        )

    def _constant_row(self) -> Registers:
        row = np.zeros(self.width, dtype=np.uint16)
        for block in self.profile.blocks:
            fixed = dict(block.constants)
            if block.model:
                fixed |= {0: block.model, 1: block.last - 1}
            for addr, constant in fixed.items():
                for k, word in enumerate(_constant_words(constant)):
                    row[self._column[block.fc, block.model, addr + k]] = word
        return row


def compile_codec(profile: Profile) -> Codec:
    """The codec of a Modbus profile; KeyError when a point lies outside the blocks (see lint_profile)."""
    return Codec(profile)


def _constant_words(constant: int | str) -> list[int]:
    if isinstance(constant, int):
        return [constant]
    text = constant.encode("ascii")
    text += b"\0" * (len(text) % 2)
    return [text[i] << 8 | text[i + 1] for i in range(0, len(text), 2)]


def _encode(group: Group, value: Floats, raw: Registers) -> None:
    number = (value - group.shift) / group.scale
    factor = power_factor(group, raw)
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
    if group.type == "bit":
        _put_bits(group, unsigned.astype(np.uint16), raw)
        return
    for w in range(words):
        shift = unsigned.dtype.type(16 * (words - 1 - w))
        word = (unsigned >> shift).astype(np.uint16)
        raw[:, group.columns[:, w]] = word.byteswap() if group.swapped else word


def _put_bits(group: Group, on: Registers, raw: Registers) -> None:
    """Several bits share a column, so they go in one by one; a bit cannot say that it is absent, and is off then."""
    for k, (column, shift) in enumerate(zip(group.columns[:, 0], group.shifts, strict=True)):
        raw[:, column] = (raw[:, column] & ~(np.uint16(1) << shift)) | ((on[:, k] & np.uint16(1)) << shift)


def _step_off_sentinels(group: Group, number: Floats, unsigned: NDArray[np.unsignedinteger]) -> None:
    """A number that happens to look like a sentinel is sent as its neighbour towards zero."""
    for _ in range(len(group.missing)):
        for k, word in group.missing:
            hit = unsigned[:, k] == word
            if hit.any():
                step = np.where((number[hit, k] > 0) & (group.type[0] != "f"), -1, 1)
                unsigned[hit, k] = (unsigned[hit, k].astype(object) + step) % (1 << 16 * group.columns.shape[1])
