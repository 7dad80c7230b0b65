"""An operator asks for a set-point: checked here, written down as an act, and what came of it read from the audit."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

from controller import acts
from controller.acts import AUDIT, ActError
from controller.ask import listens
from drivers.clock import Clock, RealClock
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.site.problems import did_you_mean
from drivers.wires import SetpointCommand

ANSWER_S = 15.0  # a device may take its time to show what it took
LOOK_S = 0.2


def check_point(site: Site, device_id: str, point_name: str) -> str:
    """The point's unit; ActError where the device has no such point to write."""
    device = next((d for d in site.devices if d.id == device_id), None)
    if device is None:
        raise ActError(f"there is no device '{device_id}'. " + did_you_mean(device_id, [d.id for d in site.devices]))
    if device.protocol != "modbus_tcp":
        raise ActError(f"{device_id} is not on Modbus: its set-points are the BMS's")
    profile = load_profiles()[device.profile]
    writable = {p.name: p for p in profile.points if p.write}
    if point_name not in writable:
        known = f"it lets be written: {', '.join(writable)}" if writable else "it lets nothing be written"
        raise ActError(f"{profile.name} has no writable point '{point_name}'; {known}")
    return writable[point_name].unit


def ask_for(site: Site, state: Path | None, wanted: SetpointCommand, clock: Clock) -> tuple[Path, int, str]:
    """Write the act; the audit file, its size before, and the act's id. ActError where no controller runs."""
    check_point(site, wanted.device, wanted.point)
    folder = acts.state_dir(site, state)
    if not listens(folder):
        raise ActError(f"no controller runs on {folder}: nothing was asked. Start one, or name another with --state")
    audit = folder / AUDIT
    size = audit.stat().st_size if audit.exists() else 0
    name = secrets.token_hex(4)
    act: dict[str, Any] = {"act": "setpoint", "device": wanted.device, "point": wanted.point, "value": wanted.value}
    act |= {"id": name} | ({"revert": list(wanted.revert)} if wanted.revert else {})
    acts.append(folder, site, clock, wanted.by, wanted.why, act)
    return audit, size, name


def found(audit: Path, start: int, act: str) -> dict[str, Any] | None:
    """The record of an act, from a place in the audit file on; None where it is not there."""
    try:
        with audit.open("rb") as file:
            file.seek(start)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("act") == act:
            return record
    return None


def in_words(record: dict[str, Any], unit: str) -> tuple[bool, str]:
    """Whether it was written and reads back, and what to tell."""
    name = f"{record['device']}.{record['what']}"
    if not record["verified"]:
        sent = "sent, " if record["sent"] else ""
        return False, f"{name} was not set: {sent}{record['why']}"

    def shown(of: str) -> str:
        value = record[of].get(record["what"])
        return "unknown" if value is None else f"{value:g} {unit}".rstrip()

    return True, f"{name} was {shown('before')}, reads back {shown('shown')}"


def ask(site: Site, state: Path | None, wanted: SetpointCommand) -> tuple[bool, str]:
    """Ask, and wait for what comes of it; whether it was done, in words. ActError and OSError where it cannot be."""
    clock = RealClock()
    audit, size, act = ask_for(site, state, wanted, clock)
    unit = check_point(site, wanted.device, wanted.point)

    async def wait() -> dict[str, Any] | None:
        end_s = clock.now_s() + ANSWER_S
        while (record := found(audit, size, act)) is None and clock.now_s() < end_s:
            await clock.sleep_until(clock.now_s() + LOOK_S)
        return record

    record = asyncio.run(wait())
    if record is None:
        return False, f"the controller said nothing of it within {ANSWER_S:g} s: look at {audit} and at its alarms"
    return in_words(record, unit)
