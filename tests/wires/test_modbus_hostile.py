"""Servers that mean harm cost their own points and nothing else: no exception, no memory, nobody else's time."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, pause, reading, sample, until
from helpers_programs import free_port

from drivers.modbus.bus import MAX_STRAYS
from drivers.points import Quality
from drivers.site.model import Device
from sim.serve.modbus import ModbusPlant

CDU = "delta_rpu_orv3"
PERIOD_S = 0.5
SOUND = 12
GROWTH_MIB = 24.0  # a leak of one in a hundred of the bytes that come in shows
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply_to(data: bytes) -> bytes:
    """The correct reply of a device whose registers are all 300."""
    tid, _, _, unit, fc, _, count = struct.unpack(">HHHBBHH", data)
    body = struct.pack(f">BBB{count}H", unit, fc, 2 * count, *[300] * count)
    return struct.pack(">HHH", tid, 0, len(body)) + body


async def noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    chance = random.Random(1)
    while True:
        writer.write(chance.randbytes(65536))
        await writer.drain()


async def endless_frames(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sound replies, nobody asked, for ever."""
    while True:
        asked = [struct.pack(">HHHBBHH", k, 0, 6, 1, 3, 36864, 14) for k in range(0, 65536, 131)]
        writer.write(b"".join(map(reply_to, asked)))
        await writer.drain()


async def endless_zeros(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The head of the longest frame that may be, and never its end."""
    data = await reader.readexactly(12)
    writer.write(data[:4] + b"\0\xfe" + data[6:8] + b"\xfb")
    while True:
        writer.write(bytes(1))
        await writer.drain()
        await pause(0.001)


async def byte_at_a_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        for byte in reply_to(await reader.readexactly(12)):
            writer.write(bytes((byte,)))
            await writer.drain()
            await pause(0.0)


async def fuzzed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sound replies with bytes changed, cut off, doubled."""
    chance = random.Random(2)
    while True:
        reply = bytearray(reply_to(await reader.readexactly(12)))
        for _ in range(chance.randrange(4)):
            reply[chance.randrange(len(reply))] = chance.randrange(256)
        if chance.random() < 0.2:
            del reply[chance.randrange(len(reply)) :]
        writer.write(bytes(reply) * chance.choice((1, 1, 2, 50)))
        await writer.drain()


async def never_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Before and behind each sound reply, those to questions of another transaction, unit, function and length."""
    while True:
        data = await reader.readexactly(12)
        wrong = [b"\xff\xff" + data[2:], data[:6] + b"\x09" + data[7:], data[:7] + b"\x04" + data[8:]]
        strays = b"".join(map(reply_to, wrong))
        writer.write(strays + reply_to(data) + strays)
        await writer.drain()


async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


ZOO: tuple[Talk, ...] = (noise, endless_frames, endless_zeros, byte_at_a_time, fuzzed, never_asked, hangs_up)


@asynccontextmanager
async def zoo(port: int) -> AsyncIterator[tuple[Device, ...]]:
    """One of each, and the devices that they pretend to be."""

    def guarded(talk: Talk) -> Talk:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                writer.close()

        return run

    async with AsyncExitStack() as stack:
        for k, talk in enumerate(ZOO):
            server = await asyncio.start_server(guarded(talk), f"127.7.1.{k + 1}", port)
            stack.callback(server.close)
        yield tuple(own_device(t.__name__, CDU, f"127.7.1.{k + 1}", port, period_s=PERIOD_S) for k, t in enumerate(ZOO))


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


async def test_hostile_servers_cost_the_sound_ones_nothing(caplog: pytest.LogCaptureFixture) -> None:
    escaped: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(str(context)))
    port = free_port()
    sound = tuple(own_device(f"s{i}", CDU, f"127.7.2.{i + 1}", port, period_s=PERIOD_S) for i in range(SOUND))
    plant = ModbusPlant(modbus_site(sound), PROFILES)
    plant.update(CDU, sample(SOUND, CDU))
    await plant.start()
    try:
        async with zoo(free_port()) as hostile, reading(modbus_site((*hostile, *sound))) as rig:
            is_sound = np.array([d.id.startswith("s") and d.id[1:].isdigit() for d in rig.slab(CDU).devices])
            await until(lambda: bool((rig.quality(CDU)[is_sound] == Quality.GOOD).all()))
            before_mib, oldest_s, stall_s = 0.0, 0.0, 0.0
            for k in range(60):
                asleep_s = CLOCK.now_s()
                await pause(0.1)
                stall_s = max(stall_s, CLOCK.now_s() - asleep_s - 0.1)  # of the whole machine, which is nobody's doing
                if k == 15:
                    before_mib = resident_mib()
                oldest_s = max(oldest_s, float((CLOCK.now_s() - rig.time_s(CDU, "flow_lpm")[is_sound]).max()))
            assert oldest_s < 1.5 * PERIOD_S + 2.0 * stall_s
            assert stall_s < 2.0
            assert resident_mib() - before_mib < GROWTH_MIB
            by = dict(zip((d.id for d in rig.slab(CDU).devices), rig.value(CDU, "flow_lpm"), strict=True))
            assert by["byte_at_a_time"] == by["never_asked"] == pytest.approx(30.0)
            assert all(np.isnan(by[name]) for name in ("noise", "endless_frames", "endless_zeros", "hangs_up"))
            assert rig.reader.counters.garbage > MAX_STRAYS
    finally:
        await plant.stop()
    assert escaped == []
    assert [r.message for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")] == []
