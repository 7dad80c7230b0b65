"""The reader against foreign servers: pymodbus, and ones that lie, babble, repeat themselves or come late."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from helpers_modbus import (
    PROFILES,
    modbus_site,
    own_device,
    pause,
    reading,
    sample,
    unit_device,
    until,
)
from helpers_programs import free_port
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.codec import compile_codec
from drivers.modbus import frame
from drivers.points import Quality
from drivers.site.model import Gateway, Site

PDU = "raritan_px_xerus"
CDU = "delta_rpu_orv3"


Answer = Callable[[bytes], list[bytes]]


@asynccontextmanager
async def rogue(port: int, answer: Answer) -> AsyncIterator[list[bytes]]:
    """A server that answers each 12-byte request with whatever pieces it likes; yields the requests it saw."""
    seen: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                data = await reader.readexactly(12)
                seen.append(data)
                for piece in answer(data):
                    writer.write(piece)
                    await writer.drain()
                    await pause(0.002)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.7.0.1", port)
    try:
        yield seen
    finally:
        server.close()
        for writer in writers:
            writer.close()


def good_reply(data: bytes) -> bytes:
    """The correct reply of a CDU whose every register holds its own number of hundreds."""
    tid, _, _, unit, fc, addr, count = struct.unpack(">HHHBBHH", data)
    words = [300 + (addr + k) % 10 for k in range(count)]
    if addr == 37376:
        words = [0] * count
    if addr == 36864 and count > 9:
        words[9] = 50
    body = struct.pack(f">BBB{count}H", unit, fc, 2 * count, *words)
    return struct.pack(">HHH", tid, 0, len(body)) + body


def cdu_site(port: int, period_s: float = 0.2) -> Site:
    return modbus_site((own_device("cdu", CDU, "127.7.0.1", port, period_s=period_s),))


async def test_values_keep_their_time_while_nothing_new_comes() -> None:
    site = cdu_site(free_port())
    async with rogue(site.devices[0].port, lambda data: [good_reply(data)]), reading(site) as rig:
        await until(lambda: rig.good(CDU))
    first = rig.time_s(CDU, "flow_lpm").copy()
    await pause(0.05)
    np.testing.assert_array_equal(rig.time_s(CDU, "flow_lpm"), first)
    await pause(0.8)
    assert (rig.quality(CDU) == Quality.STALE).all()
    np.testing.assert_array_equal(rig.time_s(CDU, "flow_lpm"), first)


async def test_busy_is_suspect_and_failure_is_bad_and_both_keep_value_and_time() -> None:
    site = cdu_site(free_port())
    code = 0

    def answer(data: bytes) -> list[bytes]:
        return [data[:4] + bytes((0, 3, data[6], data[7] | 0x80, code))] if code else [good_reply(data)]

    async with rogue(site.devices[0].port, answer), reading(site) as rig:
        await until(lambda: rig.good(CDU))
        for refusal, quality in ((6, Quality.SUSPECT), (4, Quality.BAD)):
            code = refusal

            def judged(expected: Quality = quality) -> bool:
                return bool((rig.quality(CDU) == expected).all())

            await until(judged)
            before = rig.time_s(CDU, "flow_lpm").copy()
            await pause(0.3)
            np.testing.assert_array_equal(rig.time_s(CDU, "flow_lpm"), before)
            assert not np.isnan(rig.value(CDU, "flow_lpm")).any()
        code = 0
        await until(lambda: rig.good(CDU))
        assert rig.reader.counters.exceptions > 2
        assert rig.reader.counters.timeouts == 0


async def test_a_device_that_refuses_the_merged_read_is_read_point_by_point() -> None:
    """pymodbus's server with only the polled registers, but one: holes and that one get exception 2."""
    port = free_port()
    profile = PROFILES[PDU]
    value = sample(1, PDU)
    codec = compile_codec(profile)
    raw = codec.encode(value)
    data = []
    for p in profile.polled():
        if p.name != "frequency_hz":
            column = codec.column(3, p.addr)
            data.append(
                SimData(p.addr, values=[int(w) for w in raw[0, column : column + 2]], datatype=DataType.REGISTERS)
            )
    server = ModbusTcpServer([SimDevice(1, simdata=data)], address=("127.7.0.1", port))
    await server.serve_forever(background=True)
    try:
        site = modbus_site((own_device("p", PDU, "127.7.0.1", port, period_s=0.2),))
        async with reading(site) as rig:
            await until(lambda: bool((rig.quality(PDU)[0] == [0, 0, 0, 0, 0, Quality.BAD]).all()))
            assert [rig.value(PDU, p.name)[0] for p in profile.polled()[:5]] == pytest.approx(
                value[0, :5].tolist(), rel=1e-6
            )
            exceptions, replies = rig.reader.counters.exceptions, rig.reader.counters.replies
            assert exceptions == 2  # the merged read and the missing point, each asked once
            await until(lambda: rig.reader.counters.replies >= replies + 10)
            assert rig.reader.counters.exceptions == exceptions
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped


async def test_our_reader_reads_pymodbus_own_server() -> None:
    port = free_port()
    profile = PROFILES["janitza_umg96rm"]
    codec = compile_codec(profile)
    raw = codec.encode(sample(1, "janitza_umg96rm"))
    block = profile.blocks[0]
    data = SimData(block.first, values=[int(w) for w in raw[0]], datatype=DataType.REGISTERS)
    server = ModbusTcpServer([SimDevice(u, simdata=[data]) for u in (1, 2, 3)], address=("127.7.0.2", port))
    await server.serve_forever(background=True)
    try:
        gateway = Gateway(id="gw", host="127.7.0.2", port=port, service_ms=5, fed_from=())
        units = tuple(unit_device(f"m{u}", "gw", u, "janitza_umg96rm", period_s=0.3) for u in (1, 2, 3))
        async with reading(modbus_site(units, (gateway,))) as rig:
            await until(lambda: rig.good("janitza_umg96rm"))
            np.testing.assert_allclose(
                rig.value("janitza_umg96rm", "power_w"), sample(1, "janitza_umg96rm")[0, 9], rtol=1e-6
            )
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped


def twice(data: bytes) -> list[bytes]:
    return [good_reply(data) * 2]


def in_crumbs(data: bytes) -> list[bytes]:
    reply = good_reply(data)
    return [reply[i : i + 7] for i in range(0, len(reply), 7)]


def foreign_first(data: bytes) -> list[bytes]:
    """Another unit's and another function's reply with our transaction id, then ours."""
    reply = good_reply(data)
    return [reply[:6] + b"\x09" + reply[7:], reply[:7] + b"\x04" + reply[8:], reply]


@pytest.mark.parametrize(
    ("answer", "counter"),
    [(twice, "late"), (in_crumbs, ""), (foreign_first, "garbage")],
    ids=["twice", "crumbs", "foreign"],
)
async def test_odd_but_honest_servers_are_read(answer: Answer, counter: str) -> None:
    site = cdu_site(free_port())
    async with rogue(site.devices[0].port, answer), reading(site) as rig:
        await until(lambda: rig.good(CDU))
        await until(lambda: rig.reader.counters.replies > 8)
        assert rig.value(CDU, "flow_lpm")[0] == pytest.approx(30.4)
        assert rig.reader.counters.timeouts == 0
        assert (rig.reader.counters.late > 0) == (counter == "late")
        assert (rig.reader.counters.garbage > 0) == (counter == "garbage")


def wrong_size(data: bytes) -> list[bytes]:
    """jsmodbus answers a short reply where exception 2 is due."""
    reply = good_reply(data)
    return [reply[:4] + b"\0\5" + reply[6:8] + b"\2\0\0"]


def oversized(data: bytes) -> list[bytes]:
    return [data[:4] + b"\xff\xff" + bytes(400)]


def babble(data: bytes) -> list[bytes]:
    return [bytes(range(37)) * 20]


@pytest.mark.parametrize("answer", [wrong_size, oversized, babble])
async def test_liars_yield_no_value_and_are_left_alone(answer: Answer) -> None:
    site = cdu_site(free_port())
    honest = False
    async with rogue(site.devices[0].port, lambda d: [good_reply(d)] if honest else answer(d)), reading(site) as rig:
        await until(lambda: rig.reader.counters.garbage >= 2)
        assert np.isnan(rig.value(CDU, "flow_lpm")).all()
        assert (rig.quality(CDU) >= Quality.BAD).all()
        honest = True
        await until(lambda: rig.good(CDU))


async def test_a_late_reply_is_counted_and_not_taken_for_the_next() -> None:
    site = cdu_site(free_port(), period_s=0.3)
    held: list[bytes] = []
    stale = 0

    def answer(data: bytes) -> list[bytes]:
        nonlocal stale
        if stale == 1:  # keep this reply back
            stale = 2
            held.append(good_reply(data)[:9] + bytes(len(good_reply(data)) - 9))
            return []
        return [held.pop(), good_reply(data)] if held else [good_reply(data)]

    async with rogue(site.devices[0].port, answer), reading(site) as rig:
        await until(lambda: rig.good(CDU))
        stale = 1
        await until(lambda: rig.reader.counters.late == 1)
        assert rig.reader.counters.timeouts == 1
        await until(lambda: rig.good(CDU))
        assert rig.value(CDU, "flow_lpm")[0] == pytest.approx(30.4)


async def test_it_starts_with_nobody_there() -> None:
    site = cdu_site(free_port())
    async with reading(site) as rig:
        await pause(0.2)
        assert (rig.quality(CDU) == Quality.NEVER).all()
        assert np.isnan(rig.value(CDU, "flow_lpm")).all()
        async with rogue(site.devices[0].port, lambda data: [good_reply(data)]):
            await until(lambda: rig.good(CDU))


def test_reply_heads_are_what_a_reply_begins_with() -> None:
    data = b"\0\7" + frame.read_tail(3, 4, 36864, 5)
    assert good_reply(data)[2:9] == frame.reply_head(3, 4, 10)


@pytest.mark.parametrize(
    ("fc", "count", "size"), [(1, 1, 1), (2, 8, 1), (1, 9, 2), (2, 2000, 250), (3, 125, 250), (4, 1, 2)]
)
def test_a_reply_is_as_long_as_the_standard_says(fc: int, count: int, size: int) -> None:
    assert frame.read_size(fc, count) == size
