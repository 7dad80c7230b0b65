"""One simulated Modbus device: answers requests from its row of the slab's register image."""

import struct
from collections.abc import Callable

from drivers.codec import decode_point, encode_point
from drivers.modbus import frame
from drivers.profile import WORDS, Keys, Point
from drivers.site.model import Device
from sim.serve.modbus_layout import Layout

WriteCallback = Callable[[Device, str, float], None]  # device, point, value in the point's unit
MAX_BITS = 2000


class Station:
    """A device. `row` is its image as big-endian bytes; replies are cut from it at the moment of the request."""

    __slots__ = ("device", "fault", "layout", "on_write", "row")

    def __init__(self, device: Device, layout: Layout, row: memoryview, on_write: WriteCallback | None) -> None:
        self.device, self.layout, self.row, self.on_write = device, layout, row, on_write
        self.fault = ""  # kind of a fault that changes its answers; empty when it is sound

    def registers(self, pdu: bytes) -> memoryview | None:
        """The live bytes that a read of registers asks for; None when it is not a good one or they stand apart."""
        if len(pdu) != 5 or pdu[0] not in (frame.READ_HOLDING, frame.READ_INPUT):
            return None
        fc, addr, count = struct.unpack(">BHH", pdu)
        if not 1 <= count <= self.layout.codec.profile.max_registers:
            return None
        for s in self.layout.segments:
            if fc == s.fc and s.first <= addr and addr + count - 1 <= s.last:
                if s.fixed or (s.head and addr < s.first + 2):
                    return None
                start = 2 * (s.column + addr - s.first)
                return self.row[start : start + 2 * count]
        return None

    def answer(self, pdu: bytes) -> bytes:
        """The reply to any request (function and data)."""
        fc, writes = pdu[0], bool(self.layout.writable)
        if fc in (frame.READ_HOLDING, frame.READ_INPUT):
            return self._read(pdu)
        if fc in (frame.READ_COILS, frame.READ_DISCRETE) and any(s.fc == fc for s in self.layout.segments):
            return self._read_bits(pdu)
        if fc == frame.WRITE_COIL and any(table == frame.READ_COILS for table, _ in self.layout.writable):
            return self._write_coil(pdu)
        if fc == frame.WRITE_SINGLE and writes:
            return self._write_single(pdu)
        if fc == frame.WRITE_MULTIPLE and (writes or self.layout.codec.profile.keys):
            return self._write_multiple(pdu)
        if fc == frame.ENCAPSULATED:
            return self._identify(pdu)
        return frame.exception_pdu(fc, frame.ILLEGAL_FUNCTION)

    def _read(self, pdu: bytes) -> bytes:
        data: bytes | memoryview | None = self.registers(pdu)
        count = pdu[3] << 8 | pdu[4] if len(pdu) == 5 else 0
        good = 1 <= count <= self.layout.codec.profile.max_registers
        if data is None and good:
            data = self._gather(pdu[0], pdu[1] << 8 | pdu[2], count)
        if data is not None:
            return bytes((pdu[0], len(data))) + data
        return frame.exception_pdu(pdu[0], frame.ILLEGAL_ADDRESS if good else frame.ILLEGAL_VALUE)

    def _gather(self, fc: int, addr: int, count: int) -> bytes | None:
        """Registers of a chain, whose models may be read together; None outside it."""
        data = b""
        while self.layout.bases and count > 0:
            s = next((s for s in self.layout.segments if s.fc == fc and s.first <= addr <= s.last), None)
            if s is None:
                return None
            size = 2 * (s.last - s.first + 1)
            whole = s.fixed or s.head + bytes(self.row[2 * s.column + len(s.head) : 2 * s.column + size])
            piece = whole[2 * (addr - s.first) :][: 2 * count]
            data, addr, count = data + piece, addr + len(piece) // 2, count - len(piece) // 2
        return data or None

    def _read_bits(self, pdu: bytes) -> bytes:
        fc, addr, count = struct.unpack(">BHH", pdu) if len(pdu) == 5 else (pdu[0], 0, 0)
        if not 1 <= count <= MAX_BITS:
            return frame.exception_pdu(fc, frame.ILLEGAL_VALUE)
        for s in self.layout.segments:
            if fc == s.fc and s.first <= addr and addr + count - 1 <= s.last:
                whole = int.from_bytes(self.row[2 * s.column : 2 * s.column + (s.last - s.first) // 8 + 1], "little")
                data = (int(whole >> (addr - s.first) & ((1 << count) - 1))).to_bytes((count + 7) // 8, "little")
                return bytes((fc, len(data))) + data
        return frame.exception_pdu(fc, frame.ILLEGAL_ADDRESS)

    def _write_coil(self, pdu: bytes) -> bytes:
        fc, addr, state = struct.unpack(">BHH", pdu) if len(pdu) == 5 else (pdu[0], 0, 1)
        if state not in (0, 0xFF00):
            return frame.exception_pdu(fc, frame.ILLEGAL_VALUE)
        point = self.layout.writable.get((frame.READ_COILS, addr))
        if point is None:
            return frame.exception_pdu(fc, frame.ILLEGAL_ADDRESS)
        s = next(s for s in self.layout.segments if s.fc == frame.READ_COILS and s.first <= addr <= s.last)
        byte, mask = 2 * s.column + (addr - s.first) // 8, 1 << (addr - s.first) % 8
        self.row[byte] = self.row[byte] | mask if state else self.row[byte] & ~mask
        if self.on_write is not None:
            self.on_write(self.device, point.name, float(bool(state)))
        return pdu

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
            point = self.layout.writable.get((frame.READ_HOLDING, addr))
            if point is None or point.write is None or len(words) < WORDS[point.type]:
                return frame.ILLEGAL_ADDRESS
            size = WORDS[point.type]
            value, bad = decode_point(point, words[:size], self._exponent(point))
            if bad or not point.write.min <= value <= point.write.max:
                return frame.ILLEGAL_VALUE
            found.append((point, words[:size], value))
            addr, words = addr + size, words[size:]
        for point, raw, value in found:
            start = 2 * self.layout.codec.column(point.fc, point.addr, point.model)
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
            start = 2 * self.layout.codec.column(point.fc, point.addr, point.model)
            raw = encode_point(point, keys.expect[name])
            self.row[start : start + 2 * len(raw)] = struct.pack(f">{len(raw)}H", *raw)
        if self.on_write is not None:
            self.on_write(self.device, name, keys.expect.get(name, 1.0))
        return 0

    def _exponent(self, point: Point) -> int | None:
        if not point.scale_point:
            return None
        factor = self.layout.codec.profile.point(point.scale_point)
        start = 2 * self.layout.codec.column(factor.fc, factor.addr, factor.model)
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
