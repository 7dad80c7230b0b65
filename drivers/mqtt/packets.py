"""MQTT 3.1.1 packets as a subscriber of QoS 0 needs them (OASIS, mqtt-v3.1.1-os, chapters 2 and 3)."""

from collections.abc import Sequence

Message = tuple[bytes, bytes, bool]  # topic, payload, retained

CONNACK, SUBACK, PINGRESP = 0x20, 0x90, 0xD0
DISCONNECT = b"\xe0\x00"
MAX_LENGTH_BYTES = 4
REFUSALS = {1: "protocol version", 2: "client id", 3: "server unavailable", 4: "username or password", 5: "not allowed"}


class PacketError(ValueError):
    """Bytes that no MQTT 3.1.1 broker may send to such a subscriber."""


def connect(client_id: str, keepalive_s: int, username: str | None, password: str | None) -> bytes:
    """CONNECT with a clean session and no will."""
    flags = 0x02 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _text("MQTT") + bytes((4, flags)) + keepalive_s.to_bytes(2, "big") + _text(client_id)
    return _packet(0x10, body + b"".join(_text(t) for t in (username, password) if t is not None))


def subscribe(packet_id: int, topics: Sequence[str]) -> bytes:
    """SUBSCRIBE to topics at QoS 0."""
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"".join(_text(topic) + b"\0" for topic in topics))


def publish(topic: str, payload: bytes) -> bytes:
    """PUBLISH at QoS 0, not retained."""
    return _packet(0x30, _text(topic) + payload)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(kind: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes((kind,)) + bytes(digits) + body


def length_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Remaining length that stands at `at`, and where the body begins; None: not all there yet. PacketError."""
    length = 0
    for i in range(MAX_LENGTH_BYTES):
        if at + i >= len(data):
            return None
        digit = data[at + i]
        length |= (digit & 0x7F) << (7 * i)
        if digit < 0x80:
            return length, at + i + 1
    raise PacketError("a length of more than four bytes")


def scan(data: bytes, longest: int, messages: list[Message], others: list[tuple[int, bytes]]) -> int:
    """Take all whole packets at the start of `data`; the number of bytes taken.

    QoS 0 publishes go to `messages`, the rest as (first byte, body) to `others`. Stops before a packet whose body is
    longer than `longest`: its caller skips it. PacketError on what is no packet for us.
    """
    at, end = 0, len(data)
    while end - at >= 2:
        kind, length, body = data[at], data[at + 1], at + 2
        if length >= 0x80:
            found = length_at(data, at + 1)
            if found is None:
                break
            length, body = found
        stop = body + length
        if stop > end or length > longest:
            break
        if kind in (0x30, 0x31):
            begin = body + 2
            middle = begin + (data[body] << 8 | data[body + 1]) if length >= 2 else end + 1
            if middle > stop:
                raise PacketError("a topic that is longer than its packet")
            messages.append((data[begin:middle], data[middle:stop], kind == 0x31))
        elif kind in (CONNACK, SUBACK, PINGRESP):
            others.append((kind, data[body:stop]))
        else:
            raise PacketError(f"a packet that starts with {kind:#04x}")
        at = stop
    return at
