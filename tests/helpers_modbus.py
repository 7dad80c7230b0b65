"""Small Modbus sites on free ports, and waiting with a limit."""

import socket
from collections.abc import Callable

import numpy as np
from helpers_site import tiny_site

from drivers.clock import RealClock
from drivers.inventory import Inventory, compile_inventory
from drivers.modbus.reader import ModbusReader
from drivers.points import Floats, PointTable
from drivers.profile import Profile, load_profiles
from drivers.site.model import Device, Gateway, Site

PROFILES: dict[str, Profile] = load_profiles()
CLOCK = RealClock()


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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


async def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    """Wait until the condition holds; AssertionError after the limit."""
    end_s = CLOCK.now_s() + limit_s
    while not condition():
        assert CLOCK.now_s() < end_s, "it did not come to pass in time"
        await CLOCK.sleep_until(CLOCK.now_s() + 0.01)


async def pause(seconds: float) -> None:
    """Let things happen for a while."""
    await CLOCK.sleep_until(CLOCK.now_s() + seconds)
