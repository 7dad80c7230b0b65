"""The reader against the plant's devices as they die, freeze and come back; over real sockets."""

import asyncio
import resource
import struct

import numpy as np
import pytest
from helpers_modbus import (
    CLOCK,
    PROFILES,
    both,
    modbus_site,
    own_device,
    pause,
    reader_for,
    reading,
    sample,
    unit_device,
    until,
)
from helpers_programs import free_port

from drivers.modbus.reader import raise_fd_limit
from drivers.points import Quality
from drivers.site.model import Gateway, Site
from sim.serve.modbus_faults import GatewayFault

PDU = "raritan_px_xerus"
CDU = "delta_rpu_orv3"


def gateway_site(port: int, units: int, period_s: float = 0.4, in_flight: int = 1) -> Site:
    gateway = Gateway(id="gw", host="127.6.0.1", port=port, service_ms=2, in_flight=in_flight, fed_from=())
    other = Gateway(id="gw2", host="127.6.0.2", port=port, service_ms=2, in_flight=in_flight, fed_from=())
    devices = [unit_device(f"a{u}", "gw", u, period_s=period_s) for u in range(1, units + 1)]
    devices += [unit_device(f"b{u}", "gw2", u, period_s=period_s) for u in range(1, 4)]
    return modbus_site(tuple(devices), (gateway, other))


async def test_a_silent_unit_does_not_delay_its_neighbours_and_comes_back() -> None:
    site = gateway_site(free_port(), 35)
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(PDU))
        plant.faults.set("a5", "silent")
        plant.faults.set("a6", "silent")
        await until(lambda: bool((rig.quality(PDU)[4:6] == Quality.STALE).all()))
        seen: list[set[float]] = [set() for _ in range(38)]
        while min(map(len, seen[35:])) < 5:  # the healthy gateway is the measure: a stall of the machine delays both
            await pause(0.05)
            for i, t in enumerate(rig.time_s(PDU, "power_w")):
                seen[i].add(float(t))
        replies = [len(times) for times in seen]
        assert replies[4:6] == [1, 1], "the time before they fell silent"
        assert min(replies[:4] + replies[6:35]) >= 3
        await until(lambda: sum(h.devices_silent for h in rig.reader.health()) == 2)
        plant.faults.clear_all()
        await until(lambda: rig.good(PDU))


async def test_a_hung_gateway_harms_nobody_else_and_is_reconnected() -> None:
    site = gateway_site(free_port(), 6)
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(PDU))
        kinds: tuple[GatewayFault, ...] = ("silent", "refuses")
        for kind in kinds:
            plant.faults.set_gateway("gw", kind)
            connects = rig.reader.counters.connects

            def connected_again(before: int = connects) -> bool:
                return rig.reader.counters.connects > before

            await until(lambda: bool((rig.quality(PDU)[:6] == Quality.STALE).all()))
            await until(lambda: bool((rig.quality(PDU)[6:] == Quality.GOOD).all()))
            await until(connected_again)
            await until(lambda: not next(h for h in rig.reader.health() if h.name == "modbus gateway gw").up)
            plant.faults.clear_gateway("gw")
            await until(lambda: rig.good(PDU))


async def test_sentinel_is_bad_and_frozen_registers_look_fresh() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.0.{i}", port, period_s=0.2) for i in (1, 2, 3)))
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(CDU))
        plant.faults.set("c1", "sentinel")
        plant.faults.set("c2", "stuck")
        new = sample(3, CDU) + 7.0
        plant.update(CDU, new)
        marked = [bool(p.missing) for p in PROFILES[CDU].polled()]
        await until(lambda: bool((rig.quality(CDU)[0, marked] == Quality.BAD).all()))
        assert np.isnan(rig.value(CDU, "supply_c")[0])
        await until(lambda: bool(rig.value(CDU, "supply_c")[2] == pytest.approx(new[2, 1])))
        assert rig.value(CDU, "supply_c")[1] == pytest.approx(sample(3, CDU)[1, 1])
        assert (rig.quality(CDU)[1] == Quality.GOOD).all()
        plant.faults.clear_all()
        plant.update(CDU, new)
        await until(lambda: rig.good(CDU) and rig.value(CDU, "supply_c")[1] == pytest.approx(new[1, 1]))


async def test_the_plant_goes_away_and_comes_back() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.1.{i}", port, period_s=0.2) for i in range(1, 31)))
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(CDU))
        await plant.stop()
        await until(lambda: bool((rig.quality(CDU) == Quality.STALE).all()))
        assert not any(h.up for h in rig.reader.health())
        await plant.start()
        await until(lambda: rig.good(CDU))


async def test_phases_are_spread_and_each_device_is_polled_once_a_period() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.2.{i}", port) for i in range(1, 51)))
    async with both(site) as (_plant, rig):
        await until(lambda: rig.good(CDU))
        before, start_s = rig.reader.counters.polls, CLOCK.now_s()
        await pause(2.0)
        per_s = (rig.reader.counters.polls - before) / (CLOCK.now_s() - start_s)
        assert per_s == pytest.approx(100, rel=0.25)  # two reads each
        # Phases that bunch would do so in every second; a stall of the machine bunches the replies of one.
        await until(lambda: np.diff(np.sort(rig.time_s(CDU, "flow_lpm") % 1.0)).max() < 0.15)
        assert rig.reader.points_per_s > 0


async def test_slower_devices_of_a_gateway_are_polled_less_often() -> None:
    port = free_port()
    gateway = Gateway(id="gw", host="127.6.0.1", port=port, service_ms=1, in_flight=1, fed_from=())
    devices = (unit_device("fast", "gw", 1, period_s=0.1), unit_device("slow", "gw", 2, period_s=0.5))
    async with both(modbus_site(devices, (gateway,))) as (_plant, rig):
        await until(lambda: rig.good(PDU))
        seen: list[set[float]] = [set(), set()]
        while len(seen[1]) < 6:
            await pause(0.025)
            for k, t in enumerate(rig.time_s(PDU, "power_w")):
                seen[k].add(float(t))
        assert len(seen[0]) > 2 * len(seen[1])


async def test_a_device_that_queues_is_asked_for_everything_at_once() -> None:
    """It answers only once it has all six reads of a poll, the last one first."""
    port, shelf = free_port(), "delta_supercap_shelf"

    async def hoard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = [await reader.readexactly(12)]  # it has to prove itself with one
        while True:
            for data in reversed(asked):
                tid, _, _, unit, fc, _, count = struct.unpack(">HHHBBHH", data)
                body = struct.pack(f">BBB{count}H", unit, fc, 2 * count, *[100] * count)
                writer.write(struct.pack(">HHH", tid, 0, len(body)) + body)
            try:
                asked = [await reader.readexactly(12) for _ in range(6)]
            except asyncio.IncompleteReadError:
                writer.close()
                return

    device = own_device("s", shelf, "127.5.3.9", port, period_s=0.2, in_flight=6)
    server = await asyncio.start_server(hoard, "127.5.3.9", port)
    async with server:
        async with reading(modbus_site((device,))) as rig:
            await until(lambda: bool((rig.quality(shelf) < Quality.NEVER).all()) and rig.reader.counters.replies > 30)
            assert rig.reader.counters.timeouts == rig.reader.counters.garbage == rig.reader.counters.late == 0
        await pause(0.05)  # lets it close its end


async def test_a_storm_of_new_connections_is_limited() -> None:
    """A switch comes back with a fault: everybody is let in and thrown out at once, again and again."""
    port, let_in = free_port(), 0

    async def throw_out(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal let_in
        let_in += 1
        await pause(0.0)
        writer.close()
        await writer.wait_closed()

    hosts = [f"127.5.7.{i + 1}" for i in range(100)]
    servers = [await asyncio.start_server(throw_out, host, port) for host in hosts]
    site = modbus_site(tuple(own_device(f"c{i}", CDU, host, port, period_s=0.2) for i, host in enumerate(hosts)))
    reader, _, _ = reader_for(site)
    await reader.start()
    try:
        await until(lambda: let_in >= len(hosts))
        await pause(2.5)
        assert let_in <= 5 * len(hosts), "at 0, 0.5, 1.5 and 3.5 s, somewhat earlier by jitter"
        assert not any(h.up for h in reader.health())
    finally:
        await reader.stop()
        for server in servers:
            server.close()


async def test_two_devices_at_one_address_share_a_connection() -> None:
    port = free_port()
    devices = tuple(own_device(f"c{u}", CDU, "127.5.3.1", port, unit=u, period_s=0.2) for u in (1, 2))
    async with both(modbus_site(devices)) as (_plant, rig):
        assert len(rig.reader.links) == 1
        await until(lambda: rig.good(CDU))
        assert rig.reader.counters.connects == 1


def test_the_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        assert raise_fd_limit(1000) == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(256, hard)), hard))


async def test_a_stall_of_our_own_process_is_nobody_s_timeout() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.4.{i}", port, period_s=0.3) for i in range(1, 41)))
    async with both(site) as (_plant, rig):
        await until(lambda: rig.good(CDU))
        for _ in range(4):
            end_s = CLOCK.now_s() + 0.25  # longer than the deadline of 0.1 s
            while CLOCK.now_s() < end_s:
                pass
            await pause(0.2)
        await pause(0.3)
        assert rig.reader.counters.timeouts == 0
        await until(lambda: rig.good(CDU))


async def test_it_can_be_stopped_and_started_again() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.5.{i}", port, period_s=0.2) for i in (1, 2)))
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(CDU))
        await rig.reader.stop()
        before = plant.requests
        await pause(0.4)
        assert plant.requests == before
        await rig.reader.start()
        await until(lambda: plant.requests > before)
        before, start_s = plant.requests, CLOCK.now_s()
        await pause(1.0)
        per_s = (plant.requests - before) / (CLOCK.now_s() - start_s)
        assert per_s == pytest.approx(2 * 2 / 0.2, rel=0.3)
