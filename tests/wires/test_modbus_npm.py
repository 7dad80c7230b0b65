"""Modbus with two npm packages, as servers under our reader and writer and as clients of the plant."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, both, modbus_site, own_device, reading, unit_device, until
from helpers_programs import free_port, need_npm

from drivers.codec import compile_codec
from drivers.modbus.writer import ModbusWriter
from drivers.points import Quality
from drivers.probe.walk import probe
from drivers.site.model import Gateway, Site

CDU = "delta_rpu_orv3"
LIBRARIES = ("jsmodbus", "modbus-serial")
WORDS = {36864: 842, 36865: 321, 36866: 0xFFFF, 36873: 50}


@asynccontextmanager
async def served(library: str, port: int, words: dict[int, int]) -> AsyncIterator[None]:
    command = [*need_npm(library, "modbus.js"), library, "server", "127.0.0.1", str(port)]
    command += [f"{addr}={word}" for addr, word in words.items()]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20.0) == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def ask(library: str, host: str, port: int, *numbers: int) -> dict[str, object]:
    command = [*need_npm(library, "modbus.js"), library, "client", host, str(port), *map(str, numbers)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), 20.0)
    told: dict[str, object] = json.loads(said)
    return told


def gateway_site(port: int, in_flight: int) -> Site:
    gateway = Gateway(id="gw", host="127.0.0.1", port=port, service_ms=5, in_flight=in_flight, fed_from=())
    return modbus_site(tuple(unit_device(f"c{u}", "gw", u, CDU) for u in range(1, 7)), (gateway,))


@pytest.mark.parametrize("library", LIBRARIES)
async def test_reader_probe_and_writer_with_a_server_from_npm(library: str) -> None:
    port = free_port()
    site = modbus_site((own_device("c1", CDU, "127.0.0.1", port),))
    async with served(library, port, WORDS):
        (check,) = await probe(site, PROFILES)
        by = {p.point.name: p for p in check.points}
        assert by["flow_lpm"].value == pytest.approx(84.2)
        assert by["return_c"].verdict == "missing"
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("c1", "flow_target_lpm", 123.4) == pytest.approx(123.4)
        async with reading(site) as rig:
            await until(lambda: float(rig.value(CDU, "supply_c")[0]) == pytest.approx(32.1))
            await until(lambda: rig.reader.counters.replies >= 6)
            assert rig.reader.counters.garbage == rig.reader.counters.timeouts == 0


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("in_flight", [1, 4, 12])
async def test_units_behind_a_server_from_npm_with_requests_in_flight(library: str, in_flight: int) -> None:
    """jsmodbus answers pipelined requests in reverse order: transactions tell the replies apart."""
    port = free_port()
    async with served(library, port, WORDS), reading(gateway_site(port, in_flight)) as rig:
        await until(lambda: bool(np.allclose(rig.value(CDU, "flow_lpm"), 84.2)))
        before = rig.reader.counters.replies
        await until(lambda: rig.reader.counters.replies >= before + 36)
        assert (rig.quality(CDU)[:, 0] == Quality.GOOD).all()
        assert rig.reader.counters.garbage == rig.reader.counters.timeouts == rig.reader.counters.late == 0


@pytest.mark.parametrize("library", LIBRARIES)
async def test_clients_from_npm_read_and_write_the_plant(library: str) -> None:
    port = free_port()
    site = modbus_site((own_device("c1", CDU, "127.5.6.1", port, period_s=0.2),))
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(CDU))
        column = compile_codec(PROFILES[CDU]).column(3, 36864)
        shown = plant.slabs[CDU].image[0, column : column + 14].astype(int).tolist()
        assert await ask(library, "127.5.6.1", port, 1, 36864, 14) == {"words": shown}
        target = PROFILES[CDU].point("flow_target_lpm")
        assert await ask(library, "127.5.6.1", port, 1, target.addr, 1, target.addr, 1111) == {"words": [1111]}
        told = await ask(library, "127.5.6.1", port, 1, 100, 4)
        assert "words" not in told, "registers that the device does not have"
        assert rig.good(CDU)
