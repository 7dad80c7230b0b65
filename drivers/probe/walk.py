"""Ask devices for every point of their profiles: raw words beside the value, its range, a verdict and the time."""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pymodbus.exceptions import ModbusException
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse

from drivers.codec import decode_point
from drivers.modbus.ask import IDENTIFY, Line, NoAnswerError, read_pdu, refusal
from drivers.modbus.ask_serial import open_line
from drivers.modbus.identify import identity_of
from drivers.modbus.identity import COLUMNS, Identity, declared, differences, text_of
from drivers.modbus.security import SecurityError
from drivers.profile import WORDS, Point, Profile
from drivers.site.model import Device, Framing, Site

GIVE_UP = 3  # points in a row without an answer
CONNECTIONS = 64  # addresses asked at the same time


@dataclass(frozen=True)
class PointCheck:
    """One point as the device shows it. `verdict` is ok, missing, out of range, refused or silent."""

    point: Point
    words: tuple[int, ...]
    value: float  # [the point's unit], nan where there is none
    verdict: str
    took_s: float
    note: str = ""  # why, or the name of the state or of the bits that are set


@dataclass
class DeviceCheck:
    """A device: where it is, who it says it is, its points, and what is wrong with it (empty when nothing is)."""

    device: Device
    where: str
    identity: Identity | None = None
    points: list[PointCheck] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


async def probe(site: Site, profiles: Mapping[str, Profile], ids: Sequence[str] = ()) -> list[DeviceCheck]:
    """Check devices of a site (all, or those named; KeyError for an unknown one), in the order of the site file.

    One connection for each address, as many at a time as CONNECTIONS; a device that does not answer costs one
    timeout. Devices on MQTT cannot be asked: they are left out.
    """
    known = {d.id: d for d in site.devices}
    wanted = [known[i] for i in ids] if ids else list(site.devices)
    gateways = {g.id: g for g in site.gateways}
    places: dict[tuple[str, int, Framing], list[DeviceCheck]] = {}
    for device in (d for d in wanted if d.protocol == "modbus_tcp"):
        via = gateways.get(device.gateway)
        place = (via.host, via.port, via.framing) if via else (device.host, device.port, device.framing)
        places.setdefault(place, []).append(DeviceCheck(device, f"{place[0]}:{place[1]} unit {device.unit}"))
    turn = asyncio.Semaphore(CONNECTIONS)

    async def one(place: tuple[str, int, Framing], checks: list[DeviceCheck]) -> None:
        async with turn:
            await _probe_place(place, checks, profiles)

    async with asyncio.TaskGroup() as group:
        for place, checks in places.items():
            group.create_task(one(place, checks))
    order = {d.id: i for i, d in enumerate(wanted)}
    return sorted((c for checks in places.values() for c in checks), key=lambda c: order[c.device.id])


async def _probe_place(
    place: tuple[str, int, Framing], checks: Sequence[DeviceCheck], profiles: Mapping[str, Profile]
) -> None:
    try:
        async with open_line(*place) as line:
            for check in checks:
                await _probe_device(line, check, profiles[check.device.profile])
    except (NoAnswerError, SecurityError) as error:
        for check in checks:
            if not check.points:
                check.findings.append(str(error))


async def _probe_device(line: Line, check: DeviceCheck, profile: Profile) -> None:
    silent = 0
    for point in profile.points:
        found = await check_point(line, check.device.unit, profile, point)
        silent = silent + 1 if found.verdict == "silent" else 0
        if silent and not check.points:
            check.findings.append(found.note)
            return
        check.points.append(found)
        if silent == GIVE_UP:
            check.findings.append(f"fell silent at {point.name}; the rest was not asked")
            return
    check.identity = await ask_identity(line, check.device.unit, profile)
    bad = [p for p in check.points if p.verdict != "ok"]
    if bad:
        first = bad[0]
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        check.findings.append(f"{first.point.name} {first.verdict} ({first.note}){more}")
    if declared(check.device):
        check.findings += differences(check.device, check.identity)


async def check_point(line: Line, unit: int, profile: Profile, point: Point) -> PointCheck:
    """Ask for one point, and for its power of ten where it has one."""
    nan = float("nan")
    exponent = None
    try:
        if point.scale_point:
            factor = profile.point(point.scale_point)
            scale = await line.ask(unit, read_pdu(factor.fc, await line.address(unit, factor), 1))
            if scale.refused:
                return PointCheck(point, (), nan, "refused", scale.took_s, f"{factor.name}: {refusal(scale.refused)}")
            raised, bad = decode_point(factor, scale.words)
            if bad:
                return PointCheck(point, (), nan, "missing", scale.took_s, f"its scale {factor.name} is not there")
            exponent = int(raised)
        answer = await line.ask(unit, read_pdu(point.fc, await line.address(unit, point), WORDS[point.type]))
    except LookupError as error:
        return PointCheck(point, (), nan, "missing", 0.0, str(error.args[0]))
    except NoAnswerError as error:
        return PointCheck(point, (), nan, "silent", line.timeout_s, str(error))
    if answer.refused:
        return PointCheck(point, (), nan, "refused", answer.took_s, refusal(answer.refused))
    value, bad = decode_point(point, answer.words, exponent)
    verdict, note = "ok", _named(point, value)
    if bad and value != value:
        verdict, note = "missing", "the device says: not available"
    elif bad:
        verdict, note = "out of range", f"expected {expected(point)}"
    return PointCheck(point, answer.words, value, verdict, answer.took_s, note)


def expected(point: Point) -> str:
    """The point's range in words."""
    if point.min == float("-inf") and point.max == float("inf"):
        return "any"
    return f"{point.min:g} to {point.max:g} {point.unit}".rstrip()


def _named(point: Point, value: float) -> str:
    if value != value:
        return ""
    if point.states:
        return point.states.get(int(value), "no state of that number")
    return ", ".join(name for bit, name in point.bits.items() if int(value) >> bit & 1)


async def ask_identity(line: Line, unit: int, profile: Profile | None = None) -> Identity:
    """Who it says it is, by its profile's text registers, else by function 43/14; empty where it does not say."""
    try:
        if profile and profile.identity:
            told: dict[str, str] = {}
            for name, place in profile.identity.items():
                answer = await line.ask(unit, read_pdu(place.fc, await line.address(unit, place), place.words))
                told[COLUMNS[name]] = "" if answer.refused else text_of(answer.pdu[2:])
            return Identity(**told)
        answer = await line.ask(unit, IDENTIFY)
        if answer.refused:
            return Identity()
        reply = ReadDeviceInformationResponse()
        reply.decode(answer.pdu[1:])
        return identity_of(reply)
    except (NoAnswerError, ModbusException, LookupError, ValueError, struct.error):  # silent, or torn objects
        return Identity()
