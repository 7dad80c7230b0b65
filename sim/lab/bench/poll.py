"""What a poll costs: our Modbus reader beside pymodbus's client, at the same load, in the same run.

Both read 60 registers from each device once a second and decode everything once a second; the server runs in a
process of its own and is not counted. CPU is that of the polling process. pymodbus stands here as the peer only.
"""

import asyncio
import logging
import multiprocessing
import resource
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
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
from drivers.modbus.reader import TICK_S, ModbusReader, raise_fd_limit
from drivers.points import Floats
from drivers.profile import Block, Point, Profile, load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Device, Gateway, Site
from sim.serve.modbus import ModbusPlant

METER = Profile(
    name="bench_meter",
    title="Meter of 60 registers",
    protocol="modbus",
    source="this bench",
    trust="standard",
    blocks=(Block(first=0, last=59),),
    points=tuple(
        Point(name=f"power{i}_w", unit="W", addr=2 * i, type="f32", min=-1e6, max=1e6, poll=True) for i in range(30)
    ),
)
UNITS_PER_GATEWAY = 35
CONNECT_LIMIT_S = 60.0
SETTLE_S = 2.0
UP = "up"
TIMEOUT_S = 1 / 3
CONNECTING = 64  # of pymodbus's clients at a time, as of ours


class BenchError(Exception):
    """The bench cannot run here."""


def bench_poll(say: Callable[[str], None], devices: int = 10_500, seconds: int = 10) -> dict[str, float]:
    """Poll `devices` meters at 1 Hz for `seconds` [s]: each on a connection of its own, by us and by pymodbus, and
    behind gateways of 35 units that take 35 requests at once and answer from their memory. BenchError.

    A poll is missed when no good reply came within a third of a second.
    """
    wanted = devices + 200
    if (limit := raise_fd_limit(wanted)) < wanted:
        raise BenchError(
            f"{wanted} files must be open and this system allows {limit}: `ulimit -Hn {wanted}` as root, or LimitNOFILE"
            f" of the service; or --devices {limit - 200}"
        )
    own, behind = _own_site(devices), _gateway_site(devices)
    say(f"{devices} connections, our reader ..")
    ours = _with_server(own, lambda: _poll_with_reader(own, seconds))
    say(f"{devices} connections, pymodbus ..")
    peer = _with_server(own, lambda: _poll_with_pymodbus(own, seconds))
    say(f"{len(behind.gateways)} gateways of {UNITS_PER_GATEWAY} units ..")
    gateways = _with_server(behind, lambda: _poll_with_reader(behind, seconds))
    return {
        "direct_connections": devices,
        "direct_done_per_s": ours.done / ours.span_s,
        "direct_missed": ours.missed,
        "direct_core_share": ours.core_share,
        "direct_us_per_poll": ours.us_per_poll,
        "direct_latency_ms_p50": ours.latency_ms(50),
        "direct_latency_ms_p99": ours.latency_ms(99),
        "pymodbus_missed": peer.missed,
        "pymodbus_us_per_poll": peer.us_per_poll,
        "ratio_pymodbus": peer.us_per_poll / ours.us_per_poll,
        "gateway_devices": devices,
        "gateway_missed": gateways.missed,
        "gateway_core_share": gateways.core_share,
        "gateway_latency_ms_p99": gateways.latency_ms(99),
    }


@dataclass(frozen=True)
class Figures:
    """What one poller did in the measured seconds."""

    cpu_s: float
    span_s: float
    done: int
    missed: int
    latency_s: Floats  # of the polls that were answered

    @property
    def core_share(self) -> float:
        """CPU time as a share of one core."""
        return self.cpu_s / self.span_s

    @property
    def us_per_poll(self) -> float:
        """CPU time for each answered poll [us]."""
        return 1e6 * self.cpu_s / self.done if self.done else float("inf")

    def latency_ms(self, percent: float) -> float:
        """Percentile of the time from when a poll was due until its reply was read [ms]."""
        return 1e3 * float(np.percentile(self.latency_s, percent)) if len(self.latency_s) else float("inf")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _profiles() -> dict[str, Profile]:
    return load_profiles() | {METER.name: METER}


def _meter(i: int, **place: object) -> Device:
    row: dict[str, object] = {"id": f"m{i}", "profile": METER.name, "protocol": "modbus_tcp", "measures": f"m{i}"}
    return Device.model_validate(row | place)


def _own_site(devices: int) -> Site:
    port = _free_port()
    meters = tuple(_meter(i, host=f"127.99.{i // 250}.{i % 250 + 1}", port=port) for i in range(devices))
    return resolve_site("hall").model_copy(update={"devices": meters, "gateways": ()})


def _gateway_site(devices: int) -> Site:
    port = _free_port()
    count = -(-devices // UNITS_PER_GATEWAY)
    gateways = tuple(
        Gateway(
            id=f"g{k}",
            host=f"127.98.{k // 250}.{k % 250 + 1}",
            port=port,
            service_ms=0.001,
            in_flight=UNITS_PER_GATEWAY,
            fed_from=(),
        )
        for k in range(count)
    )
    meters = tuple(
        _meter(i, gateway=f"g{i // UNITS_PER_GATEWAY}", unit=i % UNITS_PER_GATEWAY + 1) for i in range(devices)
    )
    return resolve_site("hall").model_copy(update={"devices": meters, "gateways": gateways})


def _with_server(site: Site, poll: Callable[[], Coroutine[Any, Any, Figures]]) -> Figures:
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
        plant = ModbusPlant(Site.model_validate_json(site_json), _profiles())
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


async def _poll_with_reader(site: Site, seconds: int) -> Figures:
    clock = RealClock()
    inventory = compile_inventory(site, _profiles())
    reader = ModbusReader(inventory, site, inventory.table(), clock)
    await reader.start()
    give_up_s = clock.now_s() + CONNECT_LIMIT_S
    while not all(link.up for link in reader.links) and clock.now_s() < give_up_s:
        await clock.sleep_until(clock.now_s() + 0.1)
    start_s = clock.now_s() + SETTLE_S
    await clock.sleep_until(start_s)
    cpu_s, before, tick = _cpu_s(), replace(reader.counters), reader.tick
    latency_s: list[Floats] = []
    for k in range(seconds):
        await clock.sleep_until(start_s + k + 1.0)
        reader.collect(clock.now_s())
        latency_s += reader.lag_s()
    cpu_s, span_s, now = _cpu_s() - cpu_s, clock.now_s() - start_s, replace(reader.counters)
    due = round((reader.tick - tick) * TICK_S * len(site.devices))
    failed = sum(getattr(now, what) - getattr(before, what) for what in ("timeouts", "exceptions", "garbage"))
    unsent = due - (now.polls - before.polls)
    await reader.stop()
    took_s = np.concatenate(latency_s)
    missed = failed + max(0, unsent) + int((took_s > TIMEOUT_S).sum())
    return Figures(cpu_s, span_s, now.replies - before.replies, missed, took_s[~np.isnan(took_s)])


async def _poll_with_pymodbus(site: Site, seconds: int) -> Figures:
    """One client a device, all on this loop; replies are decoded together once a second, as ours are."""
    clock = RealClock()
    codec, (read,) = compile_codec(METER), plan_reads(METER)
    raw = codec.blank(len(site.devices))
    latency_s: list[float] = []
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # every miss is counted here
    gate, ready = asyncio.Semaphore(CONNECTING), asyncio.Event()
    start_s = 0.0

    async def poll(row: int, device: Device) -> None:
        client = AsyncModbusTcpClient(device.host, port=device.port, retries=0, timeout=TIMEOUT_S, reconnect_delay=0)
        async with gate:
            await client.connect()
        await ready.wait()
        for k in range(seconds):
            due_s = start_s + k + row / len(site.devices)
            await clock.sleep_until(due_s)
            try:
                if not client.connected:
                    await client.connect()
                reply = await client.read_holding_registers(read.addr, count=read.count, device_id=device.unit)
            except (ModbusException, RuntimeError):  # the latter from a transport that it has closed
                continue
            if not reply.isError():
                raw[row] = reply.registers
                latency_s.append(clock.now_s() - due_s)
        client.close()

    tasks = [asyncio.create_task(poll(row, device)) for row, device in enumerate(site.devices)]
    give_up_s = clock.now_s() + CONNECT_LIMIT_S
    while gate.locked() and clock.now_s() < give_up_s:
        await clock.sleep_until(clock.now_s() + 0.1)
    start_s = clock.now_s() + SETTLE_S
    ready.set()
    await clock.sleep_until(start_s)
    cpu_s = _cpu_s()
    for k in range(seconds):
        await clock.sleep_until(start_s + k + 1.0)
        codec.decode(raw)
    cpu_s, span_s, done = _cpu_s() - cpu_s, clock.now_s() - start_s, len(latency_s)
    await asyncio.gather(*tasks)
    took_s = np.array(latency_s)
    in_time = int((took_s <= TIMEOUT_S).sum())
    return Figures(cpu_s, span_s, done, seconds * len(site.devices) - in_time, took_s)
