"""SunSpec devices: models are found by walking the chain, wherever it stands and whatever stands between."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, Rig, chain_words, modbus_site, own_device, reading, until
from helpers_programs import free_port
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from drivers.modbus.ask import Line, NoAnswerError
from drivers.modbus.identify import identify
from drivers.modbus.sunspec import ChainWalk, Model, find_models, wire_address
from drivers.modbus.writer import ModbusWriter, Reversion, WriteRefusedError
from drivers.points import Quality
from drivers.site.model import Site
from sim.serve.modbus import ModbusPlant
from sim.serve.modbus_layout import Chain, Layout

BATTERY = "sunspec_battery"


def battery_site(port: int) -> Site:
    return modbus_site((own_device("bess", BATTERY, "127.78.0.1", port, period_s=0.1),))


@asynccontextmanager
async def chained(chain: Chain) -> AsyncIterator[tuple[Site, ModbusPlant]]:
    """A battery plant that lays out its models as told."""
    site = battery_site(free_port())
    plant = ModbusPlant(site, PROFILES)
    lay(plant, chain)
    plant.update(BATTERY, np.array([[55.5, 99.0, -120_000.0, 3.0, 17.0, 4.0e6]]))
    await plant.start()
    try:
        yield site, plant
    finally:
        await plant.stop()


def lay(plant: ModbusPlant, chain: Chain) -> None:
    (station,) = plant._stations.values()
    station.layout = Layout.of(plant.slabs[BATTERY].codec, chain)
    for endpoint in plant.endpoints.values():
        endpoint.forget()


def shown(rig: Rig) -> list[float]:
    return [float(rig.value(BATTERY, p)[0]) for p in ("soc_pct", "soh_pct", "power_w", "state", "heartbeat")]


CHAINS = [
    Chain(),
    Chain(base=50000, order=(1, 802, 64900, 713, 704, 715, 701), foreign={64900: 37}),
    Chain(base=0, order=(64901, 713, 1, 64900, 802, 704), foreign={64900: 0, 64901: 300}),
]


@pytest.mark.parametrize("chain", CHAINS, ids=["as in the profile", "other order at 50000", "at 0, foreign first"])
async def test_models_are_found_wherever_they_are(chain: Chain) -> None:
    async with chained(chain) as (site, plant), reading(site) as rig:
        await until(lambda: rig.good(BATTERY))
        assert shown(rig) == pytest.approx([55.5, 99.0, -120_000.0, 3.0, 17.0])
        identity = await identify("127.78.0.1", site.devices[0].port, 1, profile=PROFILES[BATTERY])
        assert identity.vendor == "SunSpec"
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("bess", "power_set_w", -5e4, Reversion(0.0, 60.0)) == pytest.approx(-5e4)
        at = plant.slabs[BATTERY].codec.column(3, 24, 704)
        assert plant.slabs[BATTERY].image[0, at : at + 2].astype(">u2").tobytes() == struct.pack(">i", -50_000)


@pytest.mark.parametrize("base", [50000, 40000], ids=["where nothing was", "where others were"])
async def test_a_model_that_moves_is_never_read_as_another(base: int) -> None:
    moved = Chain(base, order=(1, 802, 64900, 713, 704, 715, 701), foreign={64900: 37})
    async with chained(Chain()) as (_, plant), reading(plant._site) as rig:
        await until(lambda: rig.good(BATTERY))
        lay(plant, moved)  # the connection stays: a gateway in between, or a firmware that restarts quickly
        (station,) = plant._stations.values()
        bases = {station.layout.bases[713], station.layout.bases[802]}
        seen = set()

        def back() -> bool:
            """Whether it is read where it is now; every good sight of it on the way is noted."""
            good = rig.good(BATTERY)
            if good:
                seen.add(tuple(np.round(shown(rig), 6)))
            (link,) = rig.reader.links
            return good and {int.from_bytes(job.tail[6:8], "big") for job in link.units[0].jobs} == bases

        await until(back)
        assert seen == {(55.5, 99.0, -120_000.0, 3.0, 17.0)}


async def test_a_missing_and_a_shorter_model_are_bad_and_the_rest_is_read() -> None:
    chain = Chain(order=(1, 713), lengths={713: 2})  # no 802; of 713 only the two energies
    async with chained(chain) as (site, _), reading(site) as rig:
        await until(lambda: (rig.quality(BATTERY) == Quality.BAD).all())
        assert np.isnan(shown(rig)).all()
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        with pytest.raises(WriteRefusedError, match="no SunSpec model 704"):
            await writer.write("bess", "power_set_w", 0.0, Reversion(0.0, 60.0))
        assert rig.reader.counters.overruns == 0


async def test_a_device_without_a_chain_is_bad_and_asked_seldom() -> None:
    async with chained(Chain(base=3000)) as (site, plant), reading(site) as rig:
        await until(lambda: (rig.quality(BATTERY) == Quality.BAD).all())
        before = plant.requests
        until_s = CLOCK.now_s() + 0.5
        await until(lambda: CLOCK.now_s() > until_s)
        assert plant.requests - before <= 3


async def test_not_implemented_is_missing_and_a_scale_that_is_not_makes_its_points_so() -> None:
    async with chained(Chain()) as (site, plant), reading(site) as rig:
        await until(lambda: rig.good(BATTERY))
        plant.put(BATTERY, "power_factor10", math.nan)
        plant.put(BATTERY, "heartbeat", math.nan)
        await until(lambda: np.isnan(shown(rig)).tolist() == [False, False, True, False, True])
        points = [p.name for p in PROFILES[BATTERY].polled()]
        assert {points[j] for j in np.nonzero(rig.quality(BATTERY)[0] == Quality.BAD)[0]} == {"power_w", "heartbeat"}


def test_a_chain_is_what_the_standard_says() -> None:
    words = chain_words((1, 713), base=40000)
    assert words[:4] == [0x5375, 0x6E53, 1, 66]
    assert words[2 + 68 :] == [713, 7, *[0] * 7, 0xFFFF, 0]


@asynccontextmanager
async def quiet_device(asked: set[int], base: int = 50000) -> AsyncIterator[int]:
    """A device with a chain at `base` that does not answer below; its port."""
    words = chain_words((1, 704, 713, 802), base=base)
    open_: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                tid, _, _, unit, fc, addr, count = struct.unpack(">HHHBBHH", await reader.readexactly(12))
                asked.add(addr)
                if addr >= base:
                    data = struct.pack(f">{count}H", *words[addr - base :][:count])
                    writer.write(struct.pack(">HHHBBB", tid, 0, 3 + len(data), unit, fc, len(data)) + data)
        writer.close()
        await writer.wait_closed()
        open_.remove(writer)

    server = await asyncio.start_server(serve, "127.78.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await until(lambda: not open_)


async def test_a_device_that_is_silent_where_it_has_nothing_is_found() -> None:
    asked: set[int] = set()
    async with quiet_device(asked) as port:
        async with reading(battery_site(port)) as rig:
            await until(lambda: bool((rig.quality(BATTERY)[0][[0, 1]] != Quality.NEVER).all()))
        assert 40000 in asked


async def test_silence_where_no_chain_is_fails_neither_writer_nor_probe() -> None:
    async with quiet_device(set()) as port:
        client = AsyncModbusTcpClient("127.78.0.1", port=port, timeout=0.3, retries=0, reconnect_delay=0)
        assert await client.connect()
        assert set(await find_models(client, 1)) == {1, 704, 713, 802}
        client.close()
        async with Line("127.78.0.1", port, 0.3) as line:
            assert set(await line.models(1)) == {1, 704, 713, 802}
    async with quiet_device(set(), base=60000) as port:  # where nobody looks for one
        client = AsyncModbusTcpClient("127.78.0.1", port=port, timeout=0.1, retries=0, reconnect_delay=0)
        assert await client.connect()
        with pytest.raises(ModbusException):
            await find_models(client, 1)
        client.close()
        async with Line("127.78.0.1", port, 0.1) as line:
            with pytest.raises(NoAnswerError):
                await line.models(1)


def test_the_walk_keeps_the_first_of_an_id_and_ends_with_the_addresses() -> None:
    walk = ChainWalk()
    for words in (None, None, (0x5375, 0x6E53), (802, 62), (713, 7), (802, 62)):
        assert not walk.done
        walk.answer(words)
    assert walk.models == {802: Model(2, 62), 713: Model(66, 7)}
    walk.answer((5, 0xFFFF))
    assert walk.done
    endless = ChainWalk()
    endless.answer((0x5375, 0x6E53))
    steps = 0
    while not endless.done:
        endless.answer((64900, 0))
        steps += 1
    assert steps < 200
    nowhere = ChainWalk()
    for words in ((0, 0), None, (1, 2)):
        nowhere.answer(words)
    assert nowhere.done
    assert nowhere.models == {}


def test_a_point_beyond_its_models_end_has_no_address() -> None:
    point = PROFILES[BATTERY].point("soh_pct")  # 713 + 5
    assert wire_address(point, {713: Model(40100, 4)}) == 40105
    with pytest.raises(LookupError, match="too few"):
        wire_address(point, {713: Model(40100, 3)})
