"""Any bytes, in any pieces: the reader never raises, and takes only replies that were asked for."""

import asyncio
import random
import struct
import tracemalloc
from itertools import pairwise

import numpy as np
from helpers_modbus import CLOCK, PROFILES, modbus_site, unit_device
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.inventory import compile_inventory
from drivers.modbus import frame
from drivers.modbus.bus import Counters, Link
from drivers.modbus.image import SlabImage
from drivers.modbus.tcp import TcpLink
from drivers.modbus.unit import Unit
from drivers.modbus.wheel import Wheel
from drivers.site.model import Gateway

UNITS = (1, 2, 3, 4, 7)


class Transport(asyncio.Transport):
    """Keeps what was written, request by request."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += [bytes(data[i : i + 12]) for i in range(0, len(data), 12)]

    def abort(self) -> None:
        self.aborted = True


def make_link(in_flight: int) -> tuple[Link, Transport, SlabImage]:
    gateway = Gateway(id="gw", host="127.0.0.1", port=1, service_ms=1, fed_from=())
    site = modbus_site(tuple(unit_device(f"p{u}", "gw", u) for u in UNITS), (gateway,))
    (slab, _) = compile_inventory(site, PROFILES).slabs
    assert slab.profile is not None
    image = SlabImage(slab, slab.profile)
    units = [Unit(image, row, u, 1) for row, u in enumerate(UNITS)]
    link = TcpLink(
        "gw",
        ("127.0.0.1", 1),
        units,
        in_flight=in_flight,
        timeout_s=1.0,
        clock=CLOCK,
        wheel=Wheel(CLOCK, 0.02),
        counters=Counters(),
        reconnect=lambda _link: None,
    )
    transport = Transport()
    link.connection_made(transport)
    link.trusted = True
    link.sweep()
    return link, transport, image


def feed(link: Link, transport: Transport, data: bytes, cuts: list[int]) -> None:
    """Deliver bytes in pieces until it hangs up, as a socket would."""
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    for start, stop in pairwise(edges):
        piece = data[start:stop]
        while piece and not transport.aborted:
            view = link.get_buffer(-1)
            assert len(view) > 0
            n = min(len(view), len(piece))
            view[:n] = piece[:n]
            link.buffer_updated(n)
            piece = piece[n:]


def reply_to(request: bytes, fill: int) -> bytes:
    tid, _, _, unit, fc, _, count = struct.unpack(">HHHBBHH", request)
    body: bytes = bytes((unit, fc, 2 * count)) + bytes((fill,)) * (2 * count)
    head = struct.pack(">HHH", tid, 0, len(body))
    return head + body


@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=8), st.integers(1, 4))
def test_noise_neither_raises_nor_becomes_data(data: bytes, cuts: list[int], in_flight: int) -> None:
    link, transport, image = make_link(in_flight)
    heads = [r[:2] + frame.reply_head(r[6], r[7], 2 * (r[10] << 8 | r[11])) for r in transport.written]
    feed(link, transport, data, cuts)
    if not any(head in data for head in heads):
        assert not image.raw.any()
        assert np.isneginf(image.time_s).all()


def test_ten_million_bytes_of_noise_leave_nothing_behind() -> None:
    """Noise of three kinds: anything, mostly zeros (heads of frames), and sound frames that nobody asked for."""
    chance = random.Random(7)
    link, transport, image = make_link(in_flight=5)
    tracemalloc.start()
    try:
        eaten = grown = 0
        while eaten < 10_000_000:
            piece = chance.randbytes(5000)
            kind = chance.randrange(3)
            if kind == 1:
                piece = bytes(b if b < 8 else 0 for b in piece)
            elif kind == 2:
                piece = b"".join(reply_to(struct.pack(">HHHBBHH", 40_000, 0, 6, 9, 3, 0, 60), 1) for _ in range(40))
            feed(link, transport, piece, [chance.randrange(5000) for _ in range(3)])
            eaten += len(piece)
            if transport.aborted:
                link.connection_lost(None)
                transport = Transport()
                link.connection_made(transport)
                link.trusted = True
                link.sweep()
            if not grown and eaten > 1_000_000:
                grown = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] - grown < 1_500_000  # calls for new connections wait on the wheel
    finally:
        tracemalloc.stop()
    assert not image.raw.any()
    assert np.isneginf(image.time_s).all()


mangle = st.sampled_from(["good", "tid", "unit", "fc", "count", "short", "long", "exception", "twice", "protocol"])


def mangled(kind: str, request: bytes, fill: int) -> bytes:
    reply = bytearray(reply_to(request, fill))
    if kind == "tid":
        reply[0] ^= 0x40
    elif kind == "unit":
        reply[6] ^= 0x40
    elif kind == "fc":
        reply[7] ^= 7
    elif kind == "count":
        reply[8] ^= 2
    elif kind == "short":
        reply[4:6] = struct.pack(">H", len(reply) - 8)
        del reply[-2:]
    elif kind == "long":
        reply[4:6] = struct.pack(">H", len(reply) - 4)
        reply += b"zz"
    elif kind == "exception":
        return bytes(reply[:4]) + bytes((0, 3, reply[6], reply[7] | 0x80, 4))
    elif kind == "twice":
        reply = reply * 2
    elif kind == "protocol":
        reply[3] = 1
    return bytes(reply)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(mangle, st.integers(1, 255)), min_size=5, max_size=5), st.lists(st.integers(0, 400), max_size=10)
)
def test_only_the_reply_that_was_asked_for_is_taken(kinds: list[tuple[str, int]], cuts: list[int]) -> None:
    link, transport, image = make_link(in_flight=5)
    assert [r[6] for r in transport.written] == list(UNITS)
    requests = list(transport.written)
    pieces = [mangled(kind, r, fill) for (kind, fill), r in zip(kinds, requests, strict=True)]
    feed(link, transport, b"".join(pieces), cuts)
    broken = False  # a frame that cannot be ends the connection: nothing after it counts
    for row, (kind, fill) in enumerate(kinds):
        broken = broken or kind == "protocol"
        taken = kind in ("good", "twice") and not broken
        first = 2 * image.codec.column(3, 12296)
        got = image.raw[row].tobytes()[first : first + 4]
        assert got == (bytes((fill,)) * 4 if taken else bytes(4)), (kinds, row)
        assert np.isfinite(image.time_s[row, 0]) == taken
    assert transport.aborted == broken


@given(st.binary(max_size=40))
def test_frame_size_never_promises_more_than_there_is(data: bytes) -> None:
    size = frame.frame_size(data, 0, len(data))
    assert size == -1 or 0 <= size <= len(data)
    assert size in (-1, 0) or size >= frame.SHORTEST
