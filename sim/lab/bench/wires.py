"""What a poll costs: our Modbus reader beside pymodbus's client, at the same load, in the same run.

Both read 70 registers from each device once a second and decode everything once a second; the servers run in a
process of their own and are not counted. CPU is that of the polling process. pymodbus stands here as the peer only.
"""

import asyncio
import multiprocessing
import resource
import socket
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import uvloop
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from drivers.clock import RealClock
from drivers.codec import compile_codec
from drivers.inventory import compile_inventory
from drivers.modbus.plan import plan_reads
from drivers.modbus.reader import ModbusReader, raise_fd_limit
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Device, Gateway, Site
from sim.serve.modbus import ModbusPlant

METER = "janitza_umg96rm"
UNITS_PER_GATEWAY = 35
WARM_UP_S = 3.0
UP = "up"
TIMEOUT_S = 1 / 3


def bench_wires(devices: int = 1000, seconds: int = 5) -> dict[str, float]:
    """Poll `devices` meters at 1 Hz for `seconds` [s] each way; CPU per poll [us], core share, ratio to pymodbus."""
    own, behind = _own_site(devices), _gateway_site(devices)
    ours = _with_server(own, lambda: _poll_with_reader(own, seconds))
    peer = _with_server(own, lambda: _poll_with_pymodbus(own, seconds))
    gateways = _with_server(behind, lambda: _poll_with_reader(behind, seconds))
    return {
        "devices": devices,
        "seconds": seconds,
        "us_per_poll": ours["us_per_poll"],
        "core": ours["core"],
        "missed": ours["missed"],
        "gateway_us_per_poll": gateways["us_per_poll"],
        "gateway_core": gateways["core"],
        "gateway_missed": gateways["missed"],
        "pymodbus_us_per_poll": peer["us_per_poll"],
        "pymodbus_core": peer["core"],
        "pymodbus_missed": peer["missed"],
        "ratio": peer["us_per_poll"] / ours["us_per_poll"],
    }


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _meter(i: int, **place: object) -> Device:
    row: dict[str, object] = {"id": f"m{i}", "profile": METER, "protocol": "modbus_tcp", "measures": f"m{i}"}
    return Device.model_validate(row | place)


def _own_site(devices: int) -> Site:
    port = _free_port()
    meters = tuple(_meter(i, host=f"127.99.{i // 250}.{i % 250 + 1}", port=port) for i in range(devices))
    return resolve_site("hall").model_copy(update={"devices": meters, "gateways": ()})


def _gateway_site(devices: int) -> Site:
    port = _free_port()
    count = -(-devices // UNITS_PER_GATEWAY)
    gateways = tuple(
        Gateway(id=f"g{k}", host=f"127.98.{k // 250}.{k % 250 + 1}", port=port, service_ms=10, fed_from=())
        for k in range(count)
    )
    meters = tuple(
        _meter(i, gateway=f"g{i // UNITS_PER_GATEWAY}", unit=i % UNITS_PER_GATEWAY + 1) for i in range(devices)
    )
    return resolve_site("hall").model_copy(update={"devices": meters, "gateways": gateways})


def _with_server(site: Site, poll: Callable[[], Coroutine[Any, Any, dict[str, float]]]) -> dict[str, float]:
    """Run the poller here while another process serves the site."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(site.model_dump_json(), there), daemon=True)
    server.start()
    try:
        if here.recv() != UP:
            raise RuntimeError("the server did not come up")
        return uvloop.run(poll())
    finally:
        here.send("stop")
        server.join(10.0)


def _serve(site_json: str, pipe: Connection) -> None:
    async def main() -> None:
        clock = RealClock()
        plant = ModbusPlant(Site.model_validate_json(site_json), load_profiles())
        for name in plant.slabs:
            plant.update(name, np.full((len(plant.rows(name)), len(plant.slabs[name].codec.points)), 50.0))
        await plant.start()
        pipe.send(UP)
        while not pipe.poll():
            await clock.sleep_until(clock.now_s() + 0.1)
        await plant.stop()

    uvloop.run(main())


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _figures(cpu_s: float, polls: int, wanted: int, span_s: float) -> dict[str, float]:
    if not polls:
        raise RuntimeError("no device answered")
    return {"us_per_poll": 1e6 * cpu_s / polls, "core": cpu_s / span_s, "missed": max(0, wanted - polls)}


async def _poll_with_reader(site: Site, seconds: int) -> dict[str, float]:
    clock = RealClock()
    inventory = compile_inventory(site, load_profiles())
    reader = ModbusReader(inventory, site, inventory.table(), clock)
    await reader.start()
    start_s = clock.now_s() + WARM_UP_S
    await clock.sleep_until(start_s)
    cpu_s, replies = _cpu_s(), reader.counters.replies
    for k in range(seconds):
        await clock.sleep_until(start_s + k + 1.0)
        reader.collect(clock.now_s())
    figures = _figures(
        _cpu_s() - cpu_s, reader.counters.replies - replies, seconds * len(site.devices), clock.now_s() - start_s
    )
    await reader.stop()
    return figures


async def _poll_with_pymodbus(site: Site, seconds: int) -> dict[str, float]:
    clock = RealClock()
    profile = load_profiles()[METER]
    codec, (read,) = compile_codec(profile), plan_reads(profile)
    raw = codec.blank(len(site.devices))
    column = codec.column(read.fc, read.addr)
    polls = 0
    raise_fd_limit(len(site.devices) + 100)
    start_s = clock.now_s() + WARM_UP_S + len(site.devices) / 2000

    async def poll(row: int, device: Device) -> None:
        nonlocal polls
        client = AsyncModbusTcpClient(device.host, port=device.port, retries=0, timeout=TIMEOUT_S, reconnect_delay=0)
        await client.connect()
        for k in range(seconds):
            await clock.sleep_until(start_s + k + row / len(site.devices))
            try:
                reply = await client.read_holding_registers(read.addr, count=read.count, device_id=device.unit)
            except ModbusException:
                continue
            if not reply.isError():
                raw[row, column : column + read.count] = reply.registers
                polls += 1
        client.close()

    tasks = [asyncio.create_task(poll(row, device)) for row, device in enumerate(site.devices)]
    await clock.sleep_until(start_s)
    cpu_s = _cpu_s()
    for k in range(seconds):
        await clock.sleep_until(start_s + k + 1.0)
        codec.decode(raw)
    figures = _figures(_cpu_s() - cpu_s, polls, seconds * len(site.devices), clock.now_s() - start_s)
    await asyncio.gather(*tasks)
    return figures
