"""The reader against devices that die, lie, babble and come back; over real sockets."""

import asyncio
import resource
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from helpers_modbus import (
    CLOCK,
    PROFILES,
    free_port,
    modbus_site,
    own_device,
    pause,
    reader_for,
    sample,
    unit_device,
    until,
)
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.codec import compile_codec
from drivers.inventory import Inventory, Slab
from drivers.modbus import frame
from drivers.modbus.reader import ModbusReader, raise_fd_limit
from drivers.points import Floats, PointTable, Qualities, Quality
from drivers.site.model import Gateway, Site
from sim.serve.modbus import ModbusPlant
from sim.serve.modbus_faults import GatewayFault

PDU = "raritan_px_xerus"
CDU = "delta_rpu_orv3"


class Rig:
    """A reader with its table, and the newest qualities by profile."""

    def __init__(self, reader: ModbusReader, inventory: Inventory, table: PointTable) -> None:
        self.reader, self.inventory, self.table = reader, inventory, table

    def quality(self, profile: str) -> Qualities:
        """[devices, points] now."""
        now_s = CLOCK.now_s()
        self.reader.collect(now_s)
        slab = self.slab(profile)
        return self.table.snapshot(now_s).quality[slab.start : slab.stop].reshape(slab.rows, -1)

    def value(self, profile: str, point: str) -> Floats:
        """[devices] now."""
        self.reader.collect(CLOCK.now_s())
        return self.table.value[self.slab(profile).slots(point)]

    def time_s(self, profile: str, point: str) -> Floats:
        """[devices] arrival."""
        self.reader.collect(CLOCK.now_s())
        return self.table.time_s[self.slab(profile).slots(point)]

    def slab(self, profile: str) -> Slab:
        slab = self.inventory.slab(profile)
        assert slab is not None
        return slab

    def good(self, profile: str) -> bool:
        """Whether all points of all devices are good."""
        return bool((self.quality(profile) == Quality.GOOD).all())


@asynccontextmanager
async def reading(site: Site) -> AsyncIterator[Rig]:
    reader, inventory, table = reader_for(site)
    await reader.start()
    try:
        yield Rig(reader, inventory, table)
    finally:
        await reader.stop()


@asynccontextmanager
async def both(site: Site) -> AsyncIterator[tuple[ModbusPlant, Rig]]:
    plant = ModbusPlant(site, PROFILES)
    for name, slab in plant.slabs.items():
        plant.update(name, sample(len(slab.devices), name))
    await plant.start()
    try:
        async with reading(site) as rig:
            yield plant, rig
    finally:
        await plant.stop()


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
        await until(lambda: bool((rig.quality(PDU)[4:6] == Quality.STALE).all()), 6.0)
        others = [i for i in range(38) if i not in (4, 5)]
        for _ in range(10):
            await pause(0.1)
            assert (rig.quality(PDU)[others] == Quality.GOOD).all()
        ages = CLOCK.now_s() - rig.time_s(PDU, "power_w")[others]
        assert ages.max() < 3 * 0.4
        assert sum(h.devices_silent for h in rig.reader.health()) == 2
        plant.faults.clear_all()
        await until(lambda: rig.good(PDU), 20.0)


async def test_a_hung_gateway_harms_nobody_else_and_is_reconnected() -> None:
    site = gateway_site(free_port(), 6)
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(PDU))
        kinds: tuple[GatewayFault, ...] = ("silent", "refuses")
        for kind in kinds:
            plant.faults.set_gateway("gw", kind)
            connects = rig.reader.counters.connects
            await until(lambda: bool((rig.quality(PDU)[:6] == Quality.STALE).all()), 8.0)
            assert (rig.quality(PDU)[6:] == Quality.GOOD).all()
            await until(lambda n=connects: rig.reader.counters.connects > n, 8.0)  # type: ignore[misc]  # default argument
            assert not next(h for h in rig.reader.health() if h.name == "modbus gateway gw").up
            plant.faults.clear_gateway("gw")
            await until(lambda: rig.good(PDU), 15.0)


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


async def test_sentinel_is_bad_and_frozen_registers_look_fresh() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.0.{i}", port, period_s=0.2) for i in (1, 2, 3)))
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(CDU))
        plant.faults.set("c1", "sentinel")
        plant.faults.set("c2", "stuck")
        new = sample(3, CDU) + 7.0
        plant.update(CDU, new)
        await until(lambda: bool((rig.quality(CDU)[0, :12] == Quality.BAD).all()))
        assert np.isnan(rig.value(CDU, "supply_c")[0])
        await until(lambda: bool(rig.value(CDU, "supply_c")[2] == pytest.approx(new[2, 1])))
        assert rig.value(CDU, "supply_c")[1] == pytest.approx(sample(3, CDU)[1, 1])
        assert (rig.quality(CDU)[1] == Quality.GOOD).all()
        plant.faults.clear_all()
        plant.update(CDU, new)
        await until(lambda: rig.good(CDU) and rig.value(CDU, "supply_c")[1] == pytest.approx(new[1, 1]))


async def test_busy_is_suspect_and_failure_is_bad_and_both_keep_value_and_time() -> None:
    site = cdu_site(free_port())
    code = 0

    def answer(data: bytes) -> list[bytes]:
        return [data[:4] + bytes((0, 3, data[6], data[7] | 0x80, code))] if code else [good_reply(data)]

    async with rogue(site.devices[0].port, answer), reading(site) as rig:
        await until(lambda: rig.good(CDU))
        for code, quality in ((6, Quality.SUSPECT), (4, Quality.BAD)):  # noqa: B007  (read by answer)
            await until(lambda q=quality: bool((rig.quality(CDU) == q).all()))  # type: ignore[misc]  # default argument
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
        await until(lambda: rig.good(CDU), 10.0)


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


async def test_the_plant_goes_away_and_comes_back() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.1.{i}", port, period_s=0.2) for i in range(1, 31)))
    async with both(site) as (plant, rig):
        await until(lambda: rig.good(CDU))
        await plant.stop()
        await until(lambda: bool((rig.quality(CDU) == Quality.STALE).all()))
        assert not any(h.up for h in rig.reader.health())
        await plant.start()
        await until(lambda: rig.good(CDU), 15.0)


async def test_it_starts_with_nobody_there() -> None:
    site = cdu_site(free_port())
    async with reading(site) as rig:
        await pause(0.2)
        assert (rig.quality(CDU) == Quality.NEVER).all()
        assert np.isnan(rig.value(CDU, "flow_lpm")).all()
        async with rogue(site.devices[0].port, lambda data: [good_reply(data)]):
            await until(lambda: rig.good(CDU), 8.0)


async def test_phases_are_spread_and_each_device_is_polled_once_a_period() -> None:
    port = free_port()
    site = modbus_site(tuple(own_device(f"c{i}", CDU, f"127.5.2.{i}", port) for i in range(1, 51)))
    async with both(site) as (_plant, rig):
        await until(lambda: rig.good(CDU))
        before = rig.reader.counters.polls
        await pause(2.0)
        per_s = (rig.reader.counters.polls - before) / 2.0
        assert per_s == pytest.approx(100, rel=0.15)  # two reads each
        times = np.sort(rig.time_s(CDU, "flow_lpm") % 1.0)
        assert np.diff(times).max() < 0.15
        assert rig.reader.points_per_s > 0


async def test_slower_devices_of_a_gateway_are_polled_less_often() -> None:
    port = free_port()
    gateway = Gateway(id="gw", host="127.6.0.1", port=port, service_ms=1, in_flight=1, fed_from=())
    devices = (unit_device("fast", "gw", 1, period_s=0.1), unit_device("slow", "gw", 2, period_s=0.5))
    async with both(modbus_site(devices, (gateway,))) as (_plant, rig):
        await until(lambda: rig.good(PDU))
        seen: list[set[float]] = [set(), set()]
        for _ in range(60):
            await pause(0.025)
            for k, t in enumerate(rig.time_s(PDU, "power_w")):
                seen[k].add(float(t))
        assert len(seen[0]) > 2.5 * len(seen[1])


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


def test_reply_heads_are_what_a_reply_begins_with() -> None:
    data = b"\0\7" + frame.read_tail(3, 4, 36864, 5)
    assert good_reply(data)[2:9] == frame.reply_head(3, 4, 5)
