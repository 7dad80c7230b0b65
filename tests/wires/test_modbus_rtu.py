"""RTU through a serial server: against pymodbus's server, and against lines that are noisy, late or half dead."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, both, modbus_site, own_device, pause, reading, sample, unit_device, until
from helpers_programs import free_port
from hypothesis import given
from hypothesis import strategies as st
from pymodbus import FramerType
from pymodbus.framer.rtu import FramerRTU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.codec import compile_codec
from drivers.modbus.plan import plan_reads, poll_s, serial_s
from drivers.modbus.rtu import crc16, rtu
from drivers.modbus.writer import ModbusWriter
from drivers.points import Quality
from drivers.probe.walk import probe
from drivers.site.model import Gateway, Site

METER = "janitza_umg96rm"
CDU = "delta_rpu_orv3"
Answer = Callable[[int, bytes], bytes]  # how many requests came before, the request


@given(st.binary(min_size=1, max_size=300))
def test_the_check_sum_is_pymodbus_s(data: bytes) -> None:
    assert rtu(data)[-2:] == FramerRTU.compute_CRC(data).to_bytes(2, "big")
    assert crc16(rtu(data)) == 0


def serial_site(port: int, units: tuple[int, ...], *, profile: str = CDU, gap_ms: float = 0.0) -> Site:
    gateway = Gateway(
        id="line", host="127.7.3.1", port=port, service_ms=2, framing="rtu", baud=115_200, gap_ms=gap_ms, fed_from=()
    )
    return modbus_site(tuple(unit_device(f"u{u}", "line", u, profile, period_s=0.4) for u in units), (gateway,))


@asynccontextmanager
async def serial_line(port: int, answer: Answer) -> AsyncIterator[list[tuple[float, bytes]]]:
    """A serial server that sends each reply in two pieces; yields when each request came, and the request."""
    seen: list[tuple[float, bytes]] = []
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                data = await reader.readexactly(8)
                assert crc16(data) == 0
                seen.append((CLOCK.now_s(), data))
                reply = answer(len(seen) - 1, data)
                writer.write(reply[:2])
                await pause(0.001)
                writer.write(reply[2:])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.7.3.1", port)
    try:
        yield seen
    finally:
        server.close()
        for writer in writers:
            writer.close()


def good(data: bytes) -> bytes:
    """The reply of a coolant unit whose registers are all 300."""
    unit, fc, _, count = struct.unpack(">BBHH", data[:6])
    return rtu(struct.pack(f">BBB{count}H", unit, fc, 2 * count, *[300] * count))


async def test_units_on_pymodbus_s_rtu_server_are_read_and_written() -> None:
    port, profile = free_port(), PROFILES[METER]
    codec, block = compile_codec(profile), PROFILES[METER].blocks[0]
    raw = codec.encode(sample(3, METER))
    meters = [
        SimDevice(u + 1, [SimData(block.first, values=[int(w) for w in raw[u]], datatype=DataType.REGISTERS)])
        for u in range(3)
    ]
    cdu = SimDevice(9, [SimData(36864, values=[300] * 1042, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer([*meters, cdu], framer=FramerType.RTU, address=("127.7.3.1", port))
    await server.serve_forever(background=True)
    try:
        site = serial_site(port, (1, 2, 3), profile=METER)
        site = site.model_copy(update={"devices": (*site.devices, unit_device("c", "line", 9, CDU, period_s=0.4))})
        async with reading(site) as rig:
            await until(lambda: rig.good(METER) and bool((rig.quality(CDU)[0, :2] == Quality.GOOD).all()))
            np.testing.assert_allclose(rig.value(METER, "power_w"), sample(3, METER)[:, 9], rtol=1e-6)
            assert rig.reader.counters.garbage == rig.reader.counters.timeouts == 0
            writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
            assert await writer.write("c", "flow_target_lpm", 123.4) == pytest.approx(123.4)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped


async def test_one_request_at_a_time_with_a_rest_between() -> None:
    port = free_port()
    async with (
        serial_line(port, lambda _, data: good(data)) as seen,
        reading(serial_site(port, (1, 2), gap_ms=15)) as rig,
    ):
        await until(lambda: len(seen) > 24 and bool((rig.quality(CDU)[:, 0] == Quality.GOOD).all()))
        rests = np.diff([at_s for at_s, _ in seen[4:]])
        assert rests.min() > 0.0145
        assert np.median(rests) < 0.1, "but no longer than need be"
        assert rig.reader.counters.connects == 1


async def test_a_late_reply_is_never_taken_for_the_next() -> None:
    """After a silence the connection is another one, and the sweep goes on there."""
    port = free_port()
    held: list[bytes] = []

    def answer(k: int, data: bytes) -> bytes:
        if k == 9:
            held.append(rtu(good(data)[:3] + bytes(len(good(data)) - 5)))  # zeros, in the right form
            return b""
        return (held.pop() if held else b"") + good(data)

    async with serial_line(port, answer) as seen, reading(serial_site(port, (1, 2, 3))) as rig:
        await until(lambda: len(seen) > 40)
        await until(lambda: bool((rig.quality(CDU)[:, 0] == Quality.GOOD).all()))
        np.testing.assert_allclose(rig.value(CDU, "flow_lpm"), 30.0)
        assert rig.reader.counters.timeouts == 1
        assert rig.reader.counters.connects >= 2


async def test_a_dead_unit_costs_its_neighbours_little() -> None:
    port = free_port()

    def answer(_: int, data: bytes) -> bytes:
        return b"" if data[0] == 2 else good(data)

    async with serial_line(port, answer) as seen, reading(serial_site(port, (1, 2, 3, 4))) as rig:
        await until(lambda: bool((rig.quality(CDU)[[0, 2, 3], 0] == Quality.GOOD).all()))
        await until(lambda: rig.reader.links[0].silent == 1)
        before = len(seen)
        for _ in range(20):
            await pause(0.1)
            assert (rig.quality(CDU)[[0, 2, 3], 0] == Quality.GOOD).all()
        asked = [data[0] for _, data in seen[before:]]
        assert asked.count(2) <= 3
        assert asked.count(1) >= 6


async def test_the_plant_s_serial_line_is_read_written_and_as_slow_as_its_baud_rate() -> None:
    port = free_port()
    site = serial_site(port, (1, 2, 3))
    (gateway,) = site.gateways
    slow = gateway.model_copy(update={"baud": 4800})
    took_s = 3 * poll_s(PROFILES[CDU], slow)
    site = site.model_copy(
        update={
            "gateways": (slow,),
            "devices": tuple(d.model_copy(update={"period_s": round(2.0 * took_s, 1)}) for d in site.devices),
        }
    )
    async with both(site) as (_plant, rig):
        await until(lambda: rig.good(CDU))
        before, start_s = rig.reader.counters.replies, CLOCK.now_s()
        await until(lambda: rig.reader.counters.replies >= before + 6)
        assert CLOCK.now_s() - start_s > 0.9 * 5 / 6 * took_s, "five whole requests and replies lie between"
        assert rig.reader.counters.timeouts == rig.reader.counters.overruns == rig.reader.counters.garbage == 0
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("u2", "flow_target_lpm", 123.4) == pytest.approx(123.4)
    async with both(serial_site(port, (1, 2))):
        first, second = await probe(serial_site(port, (1, 2)), PROFILES)
        assert {p.point.name: p.verdict for p in second.points if p.point.poll} == dict.fromkeys(
            (p.name for p in PROFILES[CDU].polled()), "ok"
        )
        assert first.identity == second.identity
        assert first.identity is not None
        assert first.identity.vendor == "Delta"
    (found,) = await probe(serial_site(port, (1,)), PROFILES)
    assert "no connection to 127.7.3.1" in found.findings[0]


def wrong_sum(data: bytes) -> bytes:
    return good(data)[:-1] + bytes((good(data)[-1] ^ 1,))


def other_unit(data: bytes) -> bytes:
    return rtu(b"\x63" + good(data)[1:-2])


def other_function(data: bytes) -> bytes:
    return rtu(good(data)[:1] + b"\x04" + good(data)[2:-2])


def too_long(data: bytes) -> bytes:
    return rtu(good(data)[:2] + b"\xfa" + bytes(250))


def noise(data: bytes) -> bytes:
    return bytes(range(200))


@pytest.mark.parametrize("broken", [wrong_sum, other_unit, other_function, too_long, noise])
async def test_what_is_no_reply_yields_no_value(broken: Callable[[bytes], bytes]) -> None:
    port, lying = free_port(), True

    def answer(_: int, data: bytes) -> bytes:
        return broken(data) if lying else good(data)

    async with serial_line(port, answer), reading(serial_site(port, (1,))) as rig:
        await until(lambda: rig.reader.counters.garbage >= 3)
        assert np.isnan(rig.value(CDU, "flow_lpm")).all()
        assert rig.reader.links[0].failures > 0, "it waits before it tries again"
        lying = False
        await until(lambda: bool((rig.quality(CDU)[:, 0] == Quality.GOOD).all()))


async def test_a_refusal_is_quality() -> None:
    port, code = free_port(), 0

    def answer(_: int, data: bytes) -> bytes:
        return rtu(bytes((data[0], data[1] | 0x80, code))) if code else good(data)

    site = modbus_site((own_device("c", CDU, "127.7.3.1", port, framing="rtu", period_s=0.2),))
    async with serial_line(port, answer), reading(site) as rig:
        await until(lambda: bool((rig.quality(CDU)[:, 0] == Quality.GOOD).all()))
        code = 6
        await until(lambda: bool((rig.quality(CDU)[:, 0] == Quality.SUSPECT).all()))
        assert rig.reader.counters.timeouts == rig.reader.counters.garbage == 0


def test_the_time_of_a_read_on_the_line() -> None:
    """25 registers at 19,200 baud: 8 + 55 characters and twice 3.5 are 70, of 11 bits."""
    (read,) = plan_reads(PROFILES[METER])
    assert serial_s(read, 19_200) == pytest.approx((8 + 5 + 2 * 70 + 7) * 11 / 19_200)
    assert serial_s(read, 115_200) == pytest.approx((8 + 5 + 2 * 70) * 11 / 115_200 + 3.5e-3)
    gateway = Gateway(id="g", host="h", port=1, service_ms=10, framing="rtu", baud=9600, gap_ms=5, fed_from=())
    assert poll_s(PROFILES[METER], gateway) == pytest.approx(serial_s(read, 9600) + 0.015)
