"""Small Modbus sites on free ports, and waiting with a limit."""

import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
from helpers_site import tiny_site

from drivers.clock import RealClock
from drivers.codec import compile_codec
from drivers.inventory import Inventory, Slab, compile_inventory
from drivers.modbus.reader import ModbusReader
from drivers.points import Floats, PointTable, Qualities, Quality
from drivers.profile import Profile, load_profiles
from drivers.site.model import Device, Gateway, Site
from sim.serve.modbus import ModbusPlant
from sim.serve.modbus_layout import Chain, Layout

PROFILES: dict[str, Profile] = load_profiles()
CLOCK = RealClock()


def own_device(name: str, profile: str, host: str, port: int, **more: object) -> Device:
    """A device with a connection of its own."""
    row: dict[str, object] = {"id": name, "profile": profile, "protocol": "modbus_tcp", "measures": name}
    return Device.model_validate(row | {"host": host, "port": port} | more)


def unit_device(name: str, gateway: str, unit: int, profile: str = "raritan_px_xerus", **more: object) -> Device:
    """A device behind a gateway."""
    row: dict[str, object] = {"id": name, "profile": profile, "protocol": "modbus_tcp", "measures": name}
    return Device.model_validate(row | {"gateway": gateway, "unit": unit} | more)


def modbus_site(devices: tuple[Device, ...], gateways: tuple[Gateway, ...] = ()) -> Site:
    """The small site with other devices."""
    return tiny_site(devices=devices, gateways=gateways)


def chain_words(order: Sequence[int], base: int = 40000) -> list[int]:
    """Registers of a battery plant that has these SunSpec models, with all but their heads zero, from `base` on."""
    layout = Layout.of(compile_codec(PROFILES["sunspec_battery"]), Chain(base, order))
    words: list[int] = []
    for s in layout.segments:
        fixed = s.fixed or s.head
        words += struct.unpack(f">{len(fixed) // 2}H", fixed)
        words += [0] * (s.last - base + 1 - len(words))
    return words


def sample(rows: int, profile: str, step: float = 1.0) -> Floats:
    """Values that every polled point of the profile can carry exactly enough, different in each row and column."""
    points = PROFILES[profile].polled()
    base = {"power_factor": 0.5, "frequency_hz": 50.0, "soc_pct": 50.0, "soh_pct": 90.0, "pump_pct": 40.0, "state": 3.0}
    value = np.empty((rows, len(points)))
    for j, p in enumerate(points):
        coarse = {"power_w": 1e5, "energy_available_wh": 1e6}.get(p.name, 1.0) if profile == "sunspec_battery" else 1.0
        small = 0.001 if p.name == "power_factor" else 0.1 if p.name.endswith(("_hz", "_pct")) else 1.0
        small = 1.0 if p.scale == 1.0 and p.type == "u16" and not p.scale_point else small
        value[:, j] = base.get(p.name, 20.0 + j) * coarse + np.arange(rows) % 30 * small * coarse * step
    return value


def reader_for(site: Site) -> tuple[ModbusReader, Inventory, PointTable]:
    """A reader of the site's devices with a table of its own."""
    inventory = compile_inventory(site, PROFILES)
    table = inventory.table()
    return ModbusReader(inventory, site, table, CLOCK), inventory, table


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait until the condition holds; AssertionError after the limit, which is generous: CI machines stall."""
    end_s = CLOCK.now_s() + limit_s
    while not condition():
        assert CLOCK.now_s() < end_s, "it did not come to pass in time"
        await CLOCK.sleep_until(CLOCK.now_s() + 0.01)


async def pause(seconds: float) -> None:
    """Let things happen for a while."""
    await CLOCK.sleep_until(CLOCK.now_s() + seconds)


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
