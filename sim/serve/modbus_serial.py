"""What a simulated serial server adds: serial frames on the connection, and the time that a line takes for them."""

from drivers.modbus import frame
from drivers.modbus.plan import Read, serial_s
from drivers.modbus.rtu import crc16, rtu

REQUEST = 8  # unit, function, two numbers, check sum
IDENTIFY = 7
WRITES_HEAD = 7  # of a write of several, up to its count of bytes


def request_size(buffer: bytearray, start: int, end: int) -> int:
    """Bytes of the serial request that begins at `start`; 0 when it is not whole yet, -1 when it is broken."""
    if end - start < 2:
        return 0
    fc = buffer[start + 1]
    size = IDENTIFY if fc == frame.ENCAPSULATED else REQUEST
    if fc == frame.WRITE_MULTIPLE:
        size = WRITES_HEAD + buffer[start + WRITES_HEAD - 1] + 2 if end - start >= WRITES_HEAD else end - start + 1
    elif not frame.READ_COILS <= fc <= frame.WRITE_SINGLE and fc != frame.ENCAPSULATED:
        return -1
    if start + size > end:
        return 0
    return -1 if crc16(buffer[start : start + size]) else size


def as_serial(replies: bytes) -> bytes:
    """Replies without transactions (protocol, length, unit, PDU) as serial frames, one behind the other."""
    out = b""
    while replies:
        stop = 4 + int.from_bytes(replies[2:4], "big")
        out += rtu(replies[4:stop])
        replies = replies[stop:]
    return out


def line_s(message: bytes, baud: int | None) -> float:
    """Time [s] on a serial line of a request (unit, PDU) and its reply; without a line none."""
    if baud is None:
        return 0.0
    reads = message[1] in (frame.READ_COILS, frame.READ_DISCRETE, frame.READ_HOLDING, frame.READ_INPUT)
    count = int.from_bytes(message[4:6], "big") if reads else 2
    return serial_s(Read(message[1] if reads else frame.READ_HOLDING, 0, count, ()), baud)
