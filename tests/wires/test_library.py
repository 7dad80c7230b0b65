"""Every profile, every point, corner values: served by the plant, read by our reader and by pymodbus's client."""

import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, Rig, modbus_site, own_device, reading, until
from helpers_programs import free_port
from helpers_site import tiny_site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient

from drivers.clock import VirtualClock
from drivers.codec import decode_point
from drivers.inventory import compile_inventory
from drivers.modbus.sunspec import Model, find_models, wire_address
from drivers.modbus.writer import ModbusWriter, Reversion, WriteRefusedError
from drivers.mqtt.dsx import DsxLink
from drivers.points import Floats, Quality
from drivers.profile import RAW_RANGE, WORDS, Point, Profile
from drivers.profile.load import FOLDER
from drivers.site.model import Device, Site
from sim.serve.bms import Bms
from sim.serve.modbus import ModbusPlant

LIBRARY = {name: p for name, p in PROFILES.items() if p.protocol == "modbus"}
ORDERED = ("eastron_sdm630@lo-hi", "siemens_pac2200@hi-lo-swapped", "dse_gencomm@lo-hi-swapped")
SERVED = LIBRARY | {name: PROFILES[name] for name in ORDERED}


def wanted(point: Point, raw: int, exponent: int = 0) -> float:
    """What a raw value means, worked out with Python's own numbers; nan where the device says "not available"."""
    width = 16 * WORDS[point.type]
    if raw in point.missing:
        return math.nan
    data = raw.to_bytes(width // 8, "big")
    if point.type[0] == "f":
        value = struct.unpack(">f" if width == 32 else ">d", data)[0]
        if not math.isfinite(value) or (point.type == "f32pf" and abs(value) > 2):
            return math.nan
        if point.type == "f32pf" and abs(value) > 1:
            value = 2 - value if value > 0 else -2 - value
    else:
        value = raw - (1 << width) if point.type[0] == "s" and raw >> (width - 1) else raw
    return float(value) * 10.0**exponent * point.scale + point.shift


def corners(point: Point) -> list[int]:
    """Raw values worth trying: ends of the type, sentinels and their neighbours, ends of the range, infinities, NaN."""
    width = 16 * WORDS[point.type]
    if point.type == "bit":
        return [0, 1]
    raws = {0, 1, (1 << width) - 1, 1 << (width - 1), (1 << (width - 1)) - 1, 0x0102030405060708 >> (64 - width)}
    raws |= {raw + d for raw in point.missing for d in (-1, 0, 1)} | {1 << bit for bit in point.bits}
    if point.type[0] == "f":
        code, low, high = (">f" if width == 32 else ">d"), point.min, point.max
        for end in (low, high, 1.0, -1.0, 1.25, -1.25, 2.0, -2.0, 2.5, 50.0, math.inf, -math.inf, math.nan):
            number = (end - point.shift) / point.scale if math.isfinite(end) else end
            if not math.isfinite(number) or abs(number) <= 3.4e38:
                raws.add(int.from_bytes(struct.pack(code, number), "big"))
    elif not point.scale_point:
        low, high = RAW_RANGE[point.type]
        for end in (point.min, point.max):
            for number in (math.floor((end - point.shift) / point.scale) + d for d in (-1, 0, 1) if abs(end) < 1e30):
                if low <= number <= high:
                    raws.add(number % (1 << width))
    return sorted(raw for raw in raws if 0 <= raw < 1 << width)


def sayable(point: Point) -> tuple[float, float]:
    """Values in the point's range that its registers can say, within thirty thousand either way."""
    ends = [raw * point.scale + point.shift for raw in RAW_RANGE[point.type]]
    return max(point.min, min(ends), -3e4), min(point.max, max(ends), 3e4)


def wire_words(point: Point, raw: int) -> list[int]:
    """A raw value as the registers that the device would send."""
    words = [(raw >> 16 * k) & 0xFFFF for k in reversed(range(WORDS[point.type]))]
    if point.words.startswith("lo-hi"):
        words.reverse()
    swap = point.words.endswith("swapped") and point.type != "bit"
    return [(w >> 8 | w << 8) & 0xFFFF if swap else w for w in words]


def put_raw(plant: ModbusPlant, profile: Profile, row: int, point: Point, raw: int) -> None:
    """Set the registers of one point of one device, past the codec."""
    slab = plant.slabs[profile.name]
    if point.type == "bit":
        block = profile.block(point.fc, 0, point.places)
        at = point.addr - block.first
        image = slab.image[row].view(np.uint8)
        byte = 2 * slab.codec.column(point.fc, block.first) + at // 8
        image[byte] = (int(image[byte]) & ~(1 << at % 8)) | (raw << at % 8)
        return
    first = slab.codec.column(point.fc, point.addr, point.model)
    slab.image[row, first : first + WORDS[point.type]] = wire_words(point, raw)


def library_site(port: int, profiles: dict[str, Profile], rows: int = 1) -> Site:
    """`rows` devices of each profile, each at an address of its own."""
    devices = [
        own_device(f"{name}.{row}", name, f"127.77.{k}.{row + 1}", port)
        for k, name in enumerate(sorted(profiles))
        for row in range(rows)
    ]
    return modbus_site(tuple(devices))


@asynccontextmanager
async def library(profiles: dict[str, Profile], rows: int) -> AsyncIterator[tuple[Site, ModbusPlant]]:
    site = library_site(free_port(), profiles, rows)
    plant = ModbusPlant(site, PROFILES)
    await plant.start()
    try:
        yield site, plant
    finally:
        await plant.stop()


def cases(profile: Profile) -> list[list[int]]:
    """Raw values of all points, round after round, until every corner of every point was there; scales stay sane."""
    factors = {p.scale_point for p in profile.points}
    choices = [[0xFFFE, 0, 1, 0x8000] if p.name in factors else corners(p) for p in profile.points]
    return [[c[k % len(c)] for c in choices] for k in range(max(map(len, choices)))]


def test_every_corner_of_every_point_comes_through_the_codec() -> None:
    """All points of all profiles, polled or not, at the images that plant and reader share."""
    for name, profile in SERVED.items():
        rounds = cases(profile)
        plant = ModbusPlant(library_site(1, {name: profile}, len(rounds)), PROFILES)
        for row, raws in enumerate(rounds):
            for point, raw in zip(profile.points, raws, strict=True):
                put_raw(plant, profile, row, point, raw)
        slab = plant.slabs[name]
        for j, point in enumerate(profile.points):
            value, bad = slab.codec.get(slab.image.astype(np.uint16), point.name)
            where = next((i for i, p in enumerate(profile.points) if p.name == point.scale_point), None)
            for row, raws in enumerate(rounds):
                expect = expected_value(point, raws[j], None if where is None else raws[where])
                check(f"{name}.{point.name} raw {raws[j]:#x}", point, float(value[row]), bool(bad[row]), expect)


def expected_value(point: Point, raw: int, factor: int | None) -> float:
    if factor is None:
        return wanted(point, raw)
    exponent = factor - 0x10000 if factor & 0x8000 else factor
    return math.nan if abs(exponent) > 10 else wanted(point, raw, exponent)


def check(what: str, point: Point, value: float, bad: bool, expect: float) -> None:
    if math.isnan(expect):
        assert bad, what
        assert math.isnan(value), what
        return
    assert value == pytest.approx(expect, rel=1e-12, abs=1e-9), what
    near = any(math.isclose(expect, end, rel_tol=1e-9, abs_tol=1e-9) for end in (point.min, point.max))
    assert near or bad == (not point.min <= expect <= point.max), what


def polled_expectation(profile: Profile, raws: list[int]) -> tuple[list[float], list[bool]]:
    at = {p.name: i for i, p in enumerate(profile.points)}
    values = [
        expected_value(p, raws[at[p.name]], raws[at[p.scale_point]] if p.scale_point else None)
        for p in profile.polled()
    ]
    good = [
        not math.isnan(v) and p.min - 1e-9 * abs(p.min) <= v <= p.max + 1e-9 * abs(p.max)
        for p, v in zip(profile.polled(), values, strict=True)
    ]
    return values, good


async def test_every_profile_is_served_and_read_at_its_corners() -> None:
    """Over real sockets: each device of a profile shows another round of corner values, the reader gets them all."""
    rows = max(len(cases(p)) for p in SERVED.values())
    async with library(SERVED, rows) as (site, plant):
        for profile in SERVED.values():
            rounds = cases(profile)
            for row in range(rows):
                for point, raw in zip(profile.points, rounds[row % len(rounds)], strict=True):
                    put_raw(plant, profile, row, point, raw)
        async with reading(site) as rig:
            await until(lambda: all((rig.quality(name) != Quality.NEVER).all() for name in SERVED), 20.0)
            for profile in SERVED.values():
                check_slab(rig, profile, rows)
            assert rig.reader.counters.garbage == rig.reader.counters.exceptions == 0


def check_slab(rig: Rig, profile: Profile, rows: int) -> None:
    quality = rig.quality(profile.name)
    shown = rig.slab(profile.name).view(rig.table.value)
    rounds = cases(profile)
    for row in range(rows):
        values, good = polled_expectation(profile, rounds[row % len(rounds)])
        np.testing.assert_allclose(shown[row], values, rtol=1e-9, atol=1e-9, err_msg=f"{profile.name} row {row}")
        near = [
            any(math.isclose(v, end, rel_tol=1e-9, abs_tol=1e-9) for end in (p.min, p.max))
            for p, v in zip(profile.polled(), values, strict=True)
        ]
        right = (quality[row] == Quality.GOOD) == np.array(good)
        assert (right | np.array(near)).all(), (profile.name, row)


async def test_pymodbus_reads_every_point_of_every_profile_at_every_corner() -> None:
    """Polled or not; each device shows one round of corners after the other, pymodbus's client reads each point."""
    async with library(SERVED, 1) as (site, plant):
        for device in site.devices:
            profile = PROFILES[device.profile]
            client = AsyncModbusTcpClient(device.host, port=device.port, retries=0, timeout=5.0, reconnect_delay=0)
            assert await client.connect()
            models = await find_models(client, device.unit) if profile.models else {}
            for raws in cases(profile):
                for point, raw in zip(profile.points, raws, strict=True):
                    put_raw(plant, profile, 0, point, raw)
                for point, raw in zip(profile.points, raws, strict=True):
                    await read_back(client, device.unit, profile, point, raw, models)
            client.close()


async def read_back(
    client: AsyncModbusTcpClient, unit: int, profile: Profile, point: Point, raw: int, models: dict[int, Model]
) -> None:
    reads = {
        1: client.read_coils,
        2: client.read_discrete_inputs,
        3: client.read_holding_registers,
        4: client.read_input_registers,
    }
    reply = await reads[point.fc](wire_address(point, models), count=WORDS[point.type], device_id=unit)
    assert not reply.isError(), (profile.name, point.name, reply)
    got = [int(reply.bits[0])] if point.type == "bit" else list(reply.registers)
    assert got == wire_words(point, raw), (profile.name, point.name)


async def written(
    writer: ModbusWriter, device: str, point: Point, value: float, revert: Reversion | None
) -> float | None:
    """What reads back; None where the device's own power of ten does not let the limit through."""
    try:
        return await writer.write(device, point.name, value, revert)
    except WriteRefusedError as error:
        if point.scale_point and "does not fit" in str(error):
            return None
        raise


WRITABLE = [(name, p.name) for name, profile in LIBRARY.items() for p in profile.points if p.write]


def unhurried(profile: Profile) -> Profile:
    """The profile without gaps between writes: a test does not wait for flash memory."""

    def quick(point: Point) -> Point:
        gone = {"min_gap_s": 0.0}
        return point.model_copy(update={"write": point.write.model_copy(update=gone)}) if point.write else point

    return profile.model_copy(update={"points": tuple(map(quick, profile.points))})


@pytest.mark.parametrize(("name", "point_name"), WRITABLE)
async def test_every_writable_point_is_written_at_the_ends_of_its_limits_and_no_further(
    name: str, point_name: str
) -> None:
    profiles = {name: unhurried(PROFILES[name])}
    site = library_site(free_port(), profiles)
    plant = ModbusPlant(site, profiles)
    await plant.start()
    try:
        writer = ModbusWriter(site, profiles, CLOCK, forbidden=str)
        point = profiles[name].point(point_name)
        limit = point.write
        assert limit is not None
        for value in (limit.min, limit.max, (limit.min + limit.max) / 2):
            revert = None
            if limit.revert:
                least_s = profiles[name].point(limit.revert.timer).write
                assert least_s is not None
                revert = Reversion(value, max(least_s.min, 60.0))
            shown = await written(writer, f"{name}.0", point, value, revert)
            if shown is None:
                continue
            step = abs(point.scale) * (10.0 if point.scale_point else 1.0)
            assert shown == pytest.approx(value, abs=step if point.type[0] != "f" else 1e-3, rel=1e-6)
        for beyond in (limit.min - 1.0 - abs(limit.min), limit.max + 1.0 + abs(limit.max), math.nan):
            if limit.outside == "refuse" or math.isnan(beyond):
                with pytest.raises(WriteRefusedError, match="is outside"):
                    await writer.write(f"{name}.0", point_name, beyond, revert)
    finally:
        await plant.stop()


def test_every_profile_of_the_folder_is_in_one_of_these_tests() -> None:
    dsx = {name for name, p in PROFILES.items() if p.protocol == "dsx"}
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    sparkplug = {name for name, p in PROFILES.items() if p.protocol == "sparkplug"}  # tests/wires/test_sparkplug_*.py
    assert files == set(LIBRARY) | dsx | sparkplug
    assert dsx == {d.profile for d in dsx_site().devices}
    assert len(LIBRARY) >= 15


def dsx_site() -> Site:
    """A device of each profile of the BMS's bus."""
    names = sorted(name for name, p in PROFILES.items() if p.protocol == "dsx")
    things = {"dsx_rack": "r1", "dsx_powermeter": "feed1", "dsx_loop": "loop1"}
    rows = [{"id": n, "profile": n, "protocol": "dsx", "topic": f"t/{n}", "measures": things.get(n, n)} for n in names]
    return tiny_site(devices=tuple(Device.model_validate(row) for row in rows))


def dsx_corners(point: Point) -> list[float]:
    """Values of a BMS point worth trying: ends of its range, just beyond, none at all."""
    low, high = max(point.min, -1e9), min(point.max, 1e9)
    return [low, high, (low + high) / 2, low - 1.0 - abs(low), high + 1.0 + abs(high), math.nan, 0.0, 1.0]


def test_every_point_of_the_bus_comes_through_at_its_corners() -> None:
    """From the plant's BMS, metadata first, through the bus's units, into the table."""
    site, clock = dsx_site(), VirtualClock()
    inventory = compile_inventory(site, PROFILES)
    table = inventory.table()
    link = DsxLink(inventory, table, clock, lambda *_: True, "headroom")

    def publish(topic: str, payload: bytes, retain: bool) -> bool:
        link.receive(topic, payload, retain)
        return True

    bms = Bms(site, PROFILES, clock, publish)
    bms.connected()
    slabs = [s for s in inventory.slabs if s.devices and s.profile]
    for k in range(8):
        values = {s.name: np.array([[dsx_corners(p)[k] for p in s.profile.polled()]]) for s in slabs if s.profile}
        bms.update(values)
        for _ in range(440):  # each point again within 100 s
            clock.advance(0.25)
            bms.tick()
        shot = table.snapshot(clock.now_s())
        for slab in slabs:
            assert slab.profile is not None
            for j, point in enumerate(slab.profile.polled()):
                sent, slot = values[slab.name][0, j], slab.start + j
                good = point.min <= sent <= point.max
                assert (shot.quality[slot] == Quality.GOOD) == good, (slab.name, point.name, sent)
                assert shot.value[slot] == pytest.approx(sent, rel=1e-6, abs=1e-6, nan_ok=True)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(st.sampled_from(sorted(SERVED)), st.data())
def test_any_register_of_any_profile_is_read_as_its_map_says(name: str, data: st.DataObject) -> None:
    """Random raw words in all points at once: block decode, single decode and the plain oracle agree."""
    profile = SERVED[name]
    plant = ModbusPlant(library_site(1, {name: profile}), PROFILES)
    factors = {p.scale_point for p in profile.points}
    raws = []
    for point in profile.points:
        top = (1 << 16 * WORDS[point.type]) - 1 if point.type != "bit" else 1
        small = st.sampled_from([0xFFF6, 0xFFFE, 0, 3, 10, 11, 0x8000])
        raws.append(data.draw(small if point.name in factors else st.integers(0, top)))
        put_raw(plant, profile, 0, point, raws[-1])
    slab = plant.slabs[name]
    value, bad = slab.codec.decode(slab.image.astype(np.uint16))
    values, _ = polled_expectation(profile, raws)
    at = {p.name: i for i, p in enumerate(profile.points)}
    for j, point in enumerate(profile.polled()):
        check(point.name, point, float(value[0, j]), bool(bad[0, j]), values[j])
        factor = raws[at[point.scale_point]] if point.scale_point else None
        exponent = None if factor is None else factor - 0x10000 if factor & 0x8000 else factor
        single, single_bad = decode_point(point, wire_words(point, raws[at[point.name]]), exponent)
        assert single == pytest.approx(value[0, j], rel=1e-12, nan_ok=True)
        assert single_bad == bad[0, j]


@given(st.sampled_from(sorted(SERVED)), st.data())
def test_what_the_plant_shows_is_what_the_reader_decodes(name: str, data: st.DataObject) -> None:
    """Values of each point's own range, NaN among them, through encode and decode."""
    profile = SERVED[name]
    codec = ModbusPlant(library_site(1, {name: profile}), PROFILES).slabs[name].codec
    row = [data.draw(st.one_of(st.floats(*sayable(p)), st.just(math.nan))) for p in codec.points]
    value: Floats = np.array([row])
    shown, bad = codec.decode(codec.encode(value))
    for p, sent, got, wrong in zip(codec.points, row, shown[0], bad[0], strict=True):
        says_missing = p.missing or p.type[0] == "f"
        if math.isnan(sent):
            assert not says_missing or (wrong and math.isnan(got)), p.name
            continue
        step = abs(p.scale) * (1e5 if p.scale_point else 1.0)
        assert abs(got - sent) <= max(step * (p.type[0] != "f"), 1e-6 * abs(sent) + 1e-6), p.name


async def test_a_coil_is_written_and_read_back_and_its_neighbours_stay() -> None:
    async with library({"accuchiller": PROFILES["accuchiller"]}, 1) as (site, plant):
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("accuchiller.0", "start", 1.0) == 1.0
        assert await writer.write("accuchiller.0", "supply_target_c", 18.0) == pytest.approx(18.0, abs=1e-4)
        slab = plant.slabs["accuchiller"]
        assert slab.codec.get(slab.image.astype(np.uint16), "start")[0] == 1.0
        assert slab.codec.get(slab.image.astype(np.uint16), "running")[0] == 0.0
