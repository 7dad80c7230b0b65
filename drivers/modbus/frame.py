"""Modbus TCP frames: requests and reply heads built once, one frame scanner for the reader and the plant's servers.

A frame is transaction id (2 bytes), protocol 0 (2), length of the rest (2), unit (1), function (1), data. Tails and
heads below start after the transaction id. Source: MODBUS Messaging on TCP/IP V1.0b, Application Protocol V1.1b3.
"""

import struct

READ_COILS = 1
READ_DISCRETE = 2
READ_HOLDING = 3
READ_INPUT = 4
WRITE_COIL = 5
WRITE_SINGLE = 6
WRITE_MULTIPLE = 16
ENCAPSULATED = 43
MEI_IDENTIFY = 14

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
ACKNOWLEDGE = 5
DEVICE_BUSY = 6
PATH_UNAVAILABLE = 10
TARGET_FAILED = 11

HEADER = 6  # bytes before the part that `length` counts
MAX_FRAME = 260
SHORTEST = 8  # header, unit, function


def read_tail(unit: int, fc: int, addr: int, count: int) -> bytes:
    """A read request without its transaction id, 10 bytes."""
    return struct.pack(">HHBBHH", 0, 6, unit, fc, addr, count)


def reply_head(unit: int, fc: int, size: int) -> bytes:
    """What the good reply to a read begins with after its transaction id, 7 bytes; `size` bytes of data follow."""
    return struct.pack(">HHBBB", 0, 3 + size, unit, fc, size)


def read_size(fc: int, count: int) -> int:
    """Bytes of data that the good reply to a read of `count` registers or bits carries."""
    return (count + 7) // 8 if fc in (READ_COILS, READ_DISCRETE) else 2 * count


def tail(unit: int, pdu: bytes) -> bytes:
    """Any message without its transaction id: `pdu` is function and data."""
    return struct.pack(">HHB", 0, 1 + len(pdu), unit) + pdu


def exception_pdu(fc: int, code: int) -> bytes:
    """The reply of a device that refuses."""
    return bytes((fc | 0x80, code))


def frame_size(buffer: bytes | bytearray | memoryview, start: int, end: int) -> int:
    """Size in bytes of the frame that begins at `start`; 0 when it is not whole yet, -1 when it cannot be a frame."""
    if end - start < HEADER:
        return 0
    length = buffer[start + 4] << 8 | buffer[start + 5]
    if buffer[start + 2] or buffer[start + 3] or not 2 <= length <= MAX_FRAME - HEADER:
        return -1
    size = HEADER + length
    return size if start + size <= end else 0
