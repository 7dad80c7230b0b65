"""One simulated Modbus device: answers requests from its row of the slab's register image."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drivers.codec import Codec, decode_point, encode_point
from drivers.modbus import frame
from drivers.profile import WORDS, Keys, Point
from drivers.site.model import Device

WriteCallback = Callable[[Device, str, float], None]  # device, point, value in the point's unit


@dataclass(frozen=True)
class Layout:
    """What all devices of a profile have in common."""

    codec: Codec
    blocks: tuple[tuple[int, int, int, int], ...]  # function, first, last address, image column
    writable: Mapping[int, Point]  # by first address
    identity: tuple[bytes, ...]  # vendor, product, revision

    @classmethod
    def of(cls, codec: Codec) -> "Layout":
        """The layout of a profile; vendor and product are the words of its title."""
        profile = codec.profile
        vendor, _, product = profile.title.partition(" ")
        return cls(
            codec,
            tuple((b.fc, b.first, b.last, codec.column(b.fc, b.first)) for b in profile.blocks),
            {p.addr: p for p in profile.points if p.write},
            (vendor.encode(), product.encode() or profile.name.encode(), b"1.0"),
        )


class Station:
    """A device. `row` is its image as big-endian bytes; replies are cut from it at the moment of the request."""

    __slots__ = ("device", "fault", "layout", "on_write", "row")

    def __init__(self, device: Device, layout: Layout, row: memoryview, on_write: WriteCallback | None) -> None:
        self.device, self.layout, self.row, self.on_write = device, layout, row, on_write
        self.fault = ""  # kind of a fault that changes its answers; empty when it is sound

    def registers(self, pdu: bytes) -> memoryview | None:
        """The live bytes that a read request asks for, None when it is not a good read."""
        if len(pdu) != 5 or pdu[0] not in (frame.READ_HOLDING, frame.READ_INPUT):
            return None
        fc, addr, count = struct.unpack(">BHH", pdu)
        if not 1 <= count <= self.layout.codec.profile.max_registers:
            return None
        for block_fc, first, last, column in self.layout.blocks:
            if fc == block_fc and first <= addr and addr + count - 1 <= last:
                start = 2 * (column + addr - first)
                return self.row[start : start + 2 * count]
        return None

    def answer(self, pdu: bytes) -> bytes:
        """The reply to any request (function and data)."""
        fc = pdu[0]
        if fc in (frame.READ_HOLDING, frame.READ_INPUT):
            return self._read(pdu)
        if fc == frame.WRITE_SINGLE and self.layout.writable:
            return self._write_single(pdu)
        if fc == frame.WRITE_MULTIPLE and (self.layout.writable or self.layout.codec.profile.keys):
            return self._write_multiple(pdu)
        if fc == frame.ENCAPSULATED:
            return self._identify(pdu)
        return frame.exception_pdu(fc, frame.ILLEGAL_FUNCTION)

    def _read(self, pdu: bytes) -> bytes:
        data = self.registers(pdu)
        if data is not None:
            return bytes((pdu[0], len(data))) + data
        count = pdu[3] << 8 | pdu[4] if len(pdu) == 5 else 0
        good = 1 <= count <= self.layout.codec.profile.max_registers
        return frame.exception_pdu(pdu[0], frame.ILLEGAL_ADDRESS if good else frame.ILLEGAL_VALUE)

    def _write_single(self, pdu: bytes) -> bytes:
        if len(pdu) != 5:
            return frame.exception_pdu(pdu[0], frame.ILLEGAL_VALUE)
        _, addr, word = struct.unpack(">BHH", pdu)
        code = self._store(addr, (word,))
        return frame.exception_pdu(pdu[0], code) if code else pdu

    def _write_multiple(self, pdu: bytes) -> bytes:
        if len(pdu) < 6 or len(pdu) != 6 + pdu[5] or pdu[5] != 2 * (pdu[3] << 8 | pdu[4]) or not pdu[5]:
            return frame.exception_pdu(pdu[0], frame.ILLEGAL_VALUE)
        _, addr, count = struct.unpack(">BHH", pdu[:5])
        words = struct.unpack(f">{count}H", pdu[6:])
        keys = self.layout.codec.profile.keys
        code = self._press(keys, words) if keys and addr == keys.addr else self._store(addr, words)
        return frame.exception_pdu(pdu[0], code) if code else pdu[:5]

    def _store(self, addr: int, words: tuple[int, ...]) -> int:
        """Write whole writable points; all or nothing. Returns the exception code, 0 for none."""
        found: list[tuple[Point, tuple[int, ...], float]] = []
        while words:
            point = self.layout.writable.get(addr)
            if point is None or point.write is None or len(words) < WORDS[point.type]:
                return frame.ILLEGAL_ADDRESS
            size = WORDS[point.type]
            value, bad = decode_point(point, words[:size], self._exponent(point))
            if bad or not point.write.min <= value <= point.write.max:
                return frame.ILLEGAL_VALUE
            found.append((point, words[:size], value))
            addr, words = addr + size, words[size:]
        for point, raw, value in found:
            start = 2 * self.layout.codec.column(point.fc, point.addr)
            self.row[start : start + 2 * len(raw)] = struct.pack(f">{len(raw)}H", *raw)
            if self.on_write is not None:
                self.on_write(self.device, point.name, value)
        return 0

    def _press(self, keys: Keys, words: tuple[int, ...]) -> int:
        """A command by key: nothing but a known key with its complement counts."""
        name = next((n for n, key in keys.keys.items() if words == (key, 0xFFFF - key)), None)
        if name is None:
            return frame.ILLEGAL_VALUE
        if name in keys.expect:
            point = self.layout.codec.profile.point(keys.shows)
            start = 2 * self.layout.codec.column(point.fc, point.addr)
            raw = encode_point(point, keys.expect[name])
            self.row[start : start + 2 * len(raw)] = struct.pack(f">{len(raw)}H", *raw)
        if self.on_write is not None:
            self.on_write(self.device, name, keys.expect.get(name, 1.0))
        return 0

    def _exponent(self, point: Point) -> int | None:
        if not point.scale_point:
            return None
        factor = self.layout.codec.profile.point(point.scale_point)
        start = 2 * self.layout.codec.column(factor.fc, factor.addr)
        return int.from_bytes(self.row[start : start + 2], "big", signed=True)

    def _identify(self, pdu: bytes) -> bytes:
        """Basic device identification (43/14): vendor, product code, revision, all at once or one object."""
        if len(pdu) != 4 or pdu[1] != frame.MEI_IDENTIFY:
            return frame.exception_pdu(pdu[0], frame.ILLEGAL_FUNCTION)
        code, first = pdu[2], pdu[3]
        texts = self.layout.identity
        if code not in (1, 4):
            return frame.exception_pdu(pdu[0], frame.ILLEGAL_VALUE)
        if code == 4 and first >= len(texts):
            return frame.exception_pdu(pdu[0], frame.ILLEGAL_ADDRESS)
        wanted = [first] if code == 4 else range(first if first < len(texts) else 0, len(texts))
        objects = b"".join(bytes((i, len(texts[i]))) + texts[i] for i in wanted)
        return bytes((pdu[0], frame.MEI_IDENTIFY, code, 0x81, 0, 0, len(wanted))) + objects
