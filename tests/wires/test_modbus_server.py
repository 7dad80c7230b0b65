"""The plant's Modbus servers seen by independent clients: pymodbus, mbpoll and a bare socket."""

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, sample, unit_device
from helpers_programs import free_port, need_program
from pymodbus.client import AsyncModbusTcpClient

from drivers.codec import compile_codec
from drivers.modbus.identify import identify
from drivers.modbus.plan import plan_reads
from drivers.site.model import Device, Gateway, Site
from sim.serve.modbus import ModbusPlant, PortTakenError

OWN = ("delta_rpu_orv3", "janitza_umg96rm", "schneider_pm5560", "sunspec_battery")


def small_site(port: int, service_ms: float = 1.0, units: int = 3) -> Site:
    devices = [own_device(p, p, f"127.8.0.{k}", port) for k, p in enumerate(OWN, start=1)]
    devices += [unit_device(f"pdu{u}", "gw", u) for u in range(1, units + 1)]
    gateway = Gateway(id="gw", host="127.8.1.1", port=port, service_ms=service_ms, in_flight=4, fed_from=())
    return modbus_site(tuple(devices), (gateway,))


@asynccontextmanager
async def serving(site: Site, **options: object) -> AsyncIterator[ModbusPlant]:
    plant = ModbusPlant(site, PROFILES, **options)  # type: ignore[arg-type]  # options of the test
    for name, slab in plant.slabs.items():
        plant.update(name, sample(len(slab.devices), name))
    await plant.start()
    try:
        yield plant
    finally:
        await plant.stop()


@asynccontextmanager
async def client_of(host: str, port: int) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(host, port=port, retries=0, timeout=10.0, reconnect_delay=0)
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


async def exchange(host: str, port: int, data: bytes, size: int) -> bytes:
    """Send bytes, read `size` bytes or what comes until the peer hangs up."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(size), 20.0)
    except asyncio.IncompleteReadError as error:
        return error.partial
    finally:
        writer.close()


def request(tid: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", tid, 0, 1 + len(pdu), unit) + pdu


def read_pdu(addr: int, count: int, fc: int = 3) -> bytes:
    return struct.pack(">BHH", fc, addr, count)


async def test_pymodbus_reads_every_profile() -> None:
    site = small_site(free_port())
    async with serving(site) as plant:
        for name, slab in plant.slabs.items():
            codec = compile_codec(PROFILES[name])
            device = slab.devices[-1]
            host, port = plant.faults._places[device.id]
            raw = codec.blank(1)
            async with client_of(host, port) as client:
                for read in plan_reads(PROFILES[name]):
                    reply = await client.read_holding_registers(read.addr, count=read.count, device_id=device.unit)
                    assert not reply.isError(), reply
                    column = codec.column(read.fc, read.addr)
                    raw[0, column : column + read.count] = reply.registers
            value, bad = codec.decode(raw)
            np.testing.assert_allclose(value[0], sample(len(slab.devices), name)[-1], rtol=1e-6, atol=0.051)
            assert not bad.any()


async def test_every_address_of_a_block_answers_and_none_outside() -> None:
    port = free_port()
    async with serving(small_site(port)), client_of("127.8.0.1", port) as client:
        for block in PROFILES["delta_rpu_orv3"].blocks:
            assert not (await client.read_holding_registers(block.first, count=block.last - block.first + 1)).isError()
            for addr, count in ((block.first - 1, 2), (block.last, 2), (block.last + 1, 1)):
                assert (await client.read_holding_registers(addr, count=count)).exception_code == 2
        assert (await client.read_input_registers(36864, count=1)).exception_code == 2
        assert (await client.read_coils(0, count=1)).exception_code == 1


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (read_pdu(36864, 0), 3),
        (read_pdu(36864, 126), 3),
        (read_pdu(36864, 1)[:4], 3),
        (bytes((90, 1, 2)), 1),
        (struct.pack(">BHH", 6, 36864, 5), 2),  # not writable
        (struct.pack(">BHH", 6, 37888, 0xFFFF), 3),  # above the write limit
        (struct.pack(">BHH", 6, 37888, 5), 3),  # below it
        (struct.pack(">BHHB", 16, 37888, 1, 4) + b"\0\1", 3),  # byte count wrong
        (struct.pack(">BHHBHHH", 16, 37888, 3, 6, 1000, 300, 5), 2),  # runs past the writable points
        (bytes((43, 13, 0)), 1),
        (bytes((43, 14, 9, 0)), 3),
        (bytes((43, 14, 4, 77)), 2),
    ],
)
async def test_bad_requests_get_the_exception_of_the_standard(pdu: bytes, code: int) -> None:
    port = free_port()
    async with serving(small_site(port)) as plant:
        before = plant.slabs["delta_rpu_orv3"].image.copy()
        reply = await exchange("127.8.0.1", port, request(7, 1, pdu), 9)
        assert reply == request(7, 1, bytes((pdu[0] | 0x80, code)))
        np.testing.assert_array_equal(plant.slabs["delta_rpu_orv3"].image, before)


async def test_pipelined_and_fragmented_requests_are_all_answered_in_order() -> None:
    port = free_port()
    async with serving(small_site(port)):
        data = b"".join(request(i, 1, read_pdu(36864 + i, 2)) for i in range(9))
        whole = await exchange("127.8.0.1", port, data, 9 * 13)
        assert [whole[13 * i + 1] for i in range(9)] == list(range(9))
        reader, writer = await asyncio.open_connection("127.8.0.1", port)
        for byte in data:
            writer.write(bytes((byte,)))
            await writer.drain()
        assert await asyncio.wait_for(reader.readexactly(9 * 13), 20.0) == whole
        writer.close()


async def test_garbage_ends_the_connection_and_nothing_else() -> None:
    port = free_port()
    async with serving(small_site(port)):
        assert await exchange("127.8.0.1", port, b"GET / HTTP/1.1\r\n\r\n", 100) == b""
        assert len(await exchange("127.8.0.1", port, request(1, 1, read_pdu(36864, 1)), 11)) == 11


async def test_gateway_takes_its_time_and_serves_one_unit_after_the_other() -> None:
    port = free_port()
    async with serving(small_site(port, service_ms=20.0, units=10)):
        start_s = CLOCK.now_s()
        data = b"".join(request(u, u, read_pdu(12296, 2)) for u in range(1, 11))
        reply = await exchange("127.8.1.1", port, data, 10 * 13)
        took_s = CLOCK.now_s() - start_s
        assert [reply[13 * i + 6] for i in range(10)] == list(range(1, 11))
        assert took_s >= 0.19  # ten times 20 ms, one after the other; at most the limit of `exchange`


@pytest.mark.parametrize("reports", [True, False])
async def test_gateway_says_target_failed_or_nothing_for_an_absent_unit(reports: bool) -> None:
    port = free_port()
    async with serving(small_site(port), reports_failure=reports) as plant:
        plant.faults.set("pdu2", "silent")
        for unit in (99, 2):
            data = request(1, unit, read_pdu(12296, 2)) + request(2, 3, read_pdu(12296, 2))
            reply = await exchange("127.8.1.1", port, data, 9 + 13 if reports else 13)
            assert reply.startswith(request(1, unit, bytes((0x83, 11)))) == reports
            assert reply[-13:-11] == b"\0\2"


async def test_writes_reach_the_image_and_the_callback() -> None:
    port = free_port()
    heard: list[tuple[str, str, float]] = []

    def on_write(device: Device, point: str, value: float) -> None:
        heard.append((device.id, point, value))

    site = small_site(port)
    async with serving(site, on_write=on_write) as plant, client_of("127.8.0.1", port) as client:
        assert not (await client.write_register(37888, 1234)).isError()
        assert not (await client.write_registers(37888, [1500, 250])).isError()
        plant.update("delta_rpu_orv3", sample(1, "delta_rpu_orv3"))  # a step must not undo a write
        assert (await client.read_holding_registers(37888, count=2)).registers == [1500, 250]
    assert [name for _, name, _ in heard] == ["flow_target_lpm", "flow_target_lpm", "supply_target_c"]
    assert [value for _, _, value in heard] == pytest.approx([123.4, 150.0, 25.0])
    assert {device for device, _, _ in heard} == {"delta_rpu_orv3"}


async def test_identification() -> None:
    port = free_port()
    async with serving(small_site(port)):
        who = await identify("127.8.1.1", port, 2)
        assert (who.vendor, who.product, who.revision) == ("Raritan", "PX3 rack PDU (Xerus)", "1.0")
        with pytest.raises(ConnectionError):
            await identify("127.8.1.1", port, 77)
    with pytest.raises(ConnectionError, match="no connection"):
        await identify("127.8.1.1", port, 2)


async def test_a_taken_port_is_named() -> None:
    port = free_port()
    async with serving(small_site(port)):
        with pytest.raises(PortTakenError, match=f"port {port} is taken"):
            async with serving(small_site(port)):
                raise AssertionError("two plants on one port")


async def test_an_address_that_is_nobody_hangs_up() -> None:
    port = free_port()
    async with serving(small_site(port)):
        with pytest.raises((ConnectionError, AssertionError)):
            assert await exchange("127.8.77.7", port, request(1, 1, read_pdu(0, 1)), 9) != b""


async def mbpoll(program: str, *arguments: str) -> dict[int, str]:
    """Run mbpoll once; values by address."""
    process = await asyncio.create_subprocess_exec(
        program, "-m", "tcp", "-0", "-1", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return {int(m[1]): m[2] for m in re.finditer(r"^\[(\d+)\]:\s+(\S+)", output, re.MULTILINE)}


async def test_mbpoll_reads_a_pdu_and_a_cdu() -> None:
    program = need_program("mbpoll", "mbpoll")
    port = free_port()
    async with serving(small_site(port)) as plant:
        plant.update("raritan_px_xerus", np.tile([231.5, 12.25, 2800.0, 2836.0, 0.9875, 60.0], (3, 1)))
        address = ("-p", str(port), "127.8.1.1")
        got = await mbpoll(program, "-a", "2", "-t", "4:float", "-B", "-r", "12306", "-c", "3", *address)
        assert {k: float(v) for k, v in got.items()} == {12306: 2800.0, 12308: 2836.0, 12310: 0.9875}
        value = sample(1, "delta_rpu_orv3")
        value[0, :3] = 84.2, 32.1, 44.7
        plant.update("delta_rpu_orv3", value)
        got = await mbpoll(program, "-a", "1", "-t", "4", "-r", "36864", "-c", "3", "-p", str(port), "127.8.0.1")
        assert got == {36864: "842", 36865: "321", 36866: "447"}
