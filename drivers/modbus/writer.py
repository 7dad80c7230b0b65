"""The one way to write a register: a declared point or command of one device, in its limits, read back, recorded.

Nothing is retried: whoever asked decides again. A write that fails half-way may or may not have been taken; the
record says which words left.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import pairwise

from pymodbus.exceptions import ModbusException

from drivers.clock import Clock
from drivers.modbus.audit import WriteRecord
from drivers.modbus.client import make_client
from drivers.modbus.exchange import Exchange, Part, WriteFailedError, WriteRefusedError
from drivers.modbus.security import SecurityError
from drivers.profile import Keys, Profile
from drivers.site.model import Device, Site

__all__ = ["ModbusWriter", "Reversion", "WriteFailedError", "WriteRecord", "WriteRefusedError"]
TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Asked:
    """Who asked for a write, why, and by which act; kept with the record."""

    by: str = ""
    reason: str = ""
    act: str = ""


NOBODY = Asked()


@dataclass(frozen=True)
class Reversion:
    """What the device falls back to by itself: a value [the point's unit] after `after_s` [s]."""

    value: float
    after_s: float


def not_armed() -> str:
    """Why nothing may be written, where nobody has said when it may."""
    return "writing is not armed"


class ModbusWriter:
    """Writes what profiles declare writable. One connection and one write at a time for each address.

    `forbidden` is asked before every request and says why nothing may be written now (the mode), or nothing;
    `blocked` says it of one device.
    `audit` hears of every attempt, also of a refused one.
    """

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        clock: Clock,
        *,
        forbidden: Callable[[], str] = not_armed,
        blocked: Callable[[str], str] = lambda _: "",
        audit: Callable[[WriteRecord], None] = lambda _: None,
    ) -> None:
        self._profiles, self._clock, self._audit = profiles, clock, audit
        self._forbidden, self._blocked = forbidden, blocked
        self._devices = {d.id: d for d in site.devices}
        self._gateways = {g.id: g for g in site.gateways}
        self._last_s: dict[tuple[str, str], float] = {}
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}

    async def write(
        self, device_id: str, point_name: str, value: float, revert: Reversion | None = None, asked: Asked = NOBODY
    ) -> float:
        """Write `value` [the point's unit]; returns what the device then shows. WriteRefusedError, WriteFailedError.

        A point whose profile declares reversion needs `revert`: the device is told first what it falls back to and
        when, and enabled last.
        """
        with self._recorded(device_id, point_name, (value,), asked) as record:
            device, profile = self._find(device_id)
            steps = [[part] for part in self._with_reversion(device, profile, point_name, value, revert)]
            return (await self._set(device, profile, steps, record))[point_name]

    async def write_together(self, device_id: str, values: Mapping[str, float]) -> dict[str, float]:
        """Write neighbouring points in one request, all or none; what the device then shows. Errors as `write`."""
        with self._recorded(device_id, "+".join(values), tuple(values.values())) as record:
            device, profile = self._find(device_id)
            parts = sorted(
                (self._part(device, profile, name, value) for name, value in values.items()),
                key=lambda part: (part.point.model, part.point.addr),
            )
            for part, after in pairwise(parts):
                if (part.point.model, part.point.places.stop) != (after.point.model, after.point.addr):
                    names = f"{part.point.name} and {after.point.name}"
                    raise WriteRefusedError(f"{device_id}: {names} are no neighbours: one request cannot hold them")
            alone = [p.point.name for p in parts if p.limit.revert or (p.limit.fc != 16 and len(parts) > 1)]
            if alone or not parts:
                raise WriteRefusedError(f"{device_id}: {', '.join(alone) or 'nothing'} cannot be written together")
            return await self._set(device, profile, [parts], record)

    async def command(self, device_id: str, name: str) -> None:
        """Give a command by its key, with the key's complement in the same request. Errors as `write`."""
        with self._recorded(device_id, name, ()) as record:
            device, profile = self._find(device_id)
            keys = profile.keys
            if keys is None or name not in keys.keys:
                raise WriteRefusedError(f"{profile.name} has no command {name}")
            async with self._exchange(device, profile, {"its commands": keys.min_gap_s}, record) as exchange:
                await self._press(exchange, profile, keys, name)
            record.verified = name in keys.expect
            record.why = "" if record.verified else "taken; the profile names nothing that would show it"

    @staticmethod
    async def _press(exchange: Exchange, profile: Profile, keys: Keys, name: str) -> None:
        code = keys.keys[name]
        await exchange.send(keys.addr, (code, 0xFFFF - code))
        if name in keys.expect:
            await exchange.await_value(profile.point(keys.shows), keys.expect[name], keys.settle_s, 0.0)

    async def _set(
        self, device: Device, profile: Profile, steps: Sequence[Sequence[Part]], record: WriteRecord
    ) -> dict[str, float]:
        gaps = {part.point.name: part.limit.min_gap_s for step in steps for part in step}
        shown: dict[str, float] = {}
        async with self._exchange(device, profile, gaps, record) as exchange:
            for step in steps:
                shown |= await exchange.set_points(step)
        record.verified = True
        return shown

    # --- rules

    @contextmanager
    def _recorded(
        self, device_id: str, what: str, value: tuple[float, ...], asked: Asked = NOBODY
    ) -> Iterator[WriteRecord]:
        """Every attempt ends in the audit, whatever becomes of it."""
        record = WriteRecord(self._clock.wall_ms(), device_id, what, value, **vars(asked))
        try:
            self._check_mode(device_id, what)
            yield record
        except BaseException as error:
            record.why = str(error) or type(error).__name__
            raise
        finally:
            self._audit(record)

    def _check_mode(self, device_id: str, what: str) -> None:
        if why := self._forbidden() or self._blocked(device_id):
            raise WriteRefusedError(f"{device_id}.{what}: {why}")

    def _find(self, device_id: str) -> tuple[Device, Profile]:
        device = self._devices.get(device_id)
        if device is None:
            raise WriteRefusedError(f"there is no device {device_id}")
        if device.protocol != "modbus_tcp":
            raise WriteRefusedError(f"{device_id} is not on Modbus: nothing is written to it here")
        return device, self._profiles[device.profile]

    def _part(self, device: Device, profile: Profile, name: str, value: float) -> Part:
        point = next((p for p in profile.points if p.name == name), None)
        if point is None or point.write is None:
            raise WriteRefusedError(f"{profile.name} has no writable point {name}")
        limit = point.write
        if limit.outside == "clamp" and math.isfinite(value):
            value = min(max(value, limit.min), limit.max)
        if not limit.min <= value <= limit.max:
            raise WriteRefusedError(f"{device.id}.{name}: {value} is outside {limit.min}..{limit.max} {point.unit}")
        return Part(point, limit, value)

    def _with_reversion(
        self, device: Device, profile: Profile, name: str, value: float, revert: Reversion | None
    ) -> list[Part]:
        """The point alone, or what it falls back to, when, the point, and last what enables it."""
        part = self._part(device, profile, name, value)
        how = part.limit.revert
        if how is None:
            if revert is not None:
                raise WriteRefusedError(f"{device.id}.{name}: its profile declares no reversion")
            return [part]
        if revert is None or not revert.after_s > 0:
            raise WriteRefusedError(f"{device.id}.{name}: say what it falls back to and when, or it stays for ever")
        pairs = [(how.value, revert.value), (how.timer, revert.after_s)]
        last = [self._part(device, profile, how.enable, 1.0)] if how.enable else []
        return [*(self._part(device, profile, *pair) for pair in pairs), part, *last]

    def _keep_gaps(self, device: Device, gaps: Mapping[str, float]) -> None:
        now_s = self._clock.now_s()
        for name, gap_s in gaps.items():
            wait_s = self._last_s.get((device.id, name), float("-inf")) + gap_s - now_s
            if wait_s > 0:
                raise WriteRefusedError(f"{device.id}.{name}: {wait_s:.1f} s too soon after the last write")
        self._last_s.update({(device.id, name): now_s for name in gaps})

    # --- connection

    @asynccontextmanager
    async def _exchange(
        self, device: Device, profile: Profile, gaps: Mapping[str, float], record: WriteRecord
    ) -> AsyncIterator[Exchange]:
        """An open connection to the right device; the gaps count from here, whatever becomes of the write."""
        gateway = self._gateways.get(device.gateway)
        host, port = (gateway.host, gateway.port) if gateway else (device.host, device.port)
        async with self._locks.setdefault((host, port), asyncio.Lock()):
            self._keep_gaps(device, gaps)
            try:
                client = make_client(host, port, (gateway or device).framing, TIMEOUT_S)
            except SecurityError as error:
                raise WriteRefusedError(f"{device.id}.{record.what}: {error}") from error
            try:
                if not await client.connect():
                    raise WriteFailedError(f"{device.id}: no connection to {host}:{port}")
                exchange = Exchange(
                    client, device, profile, self._clock, record, lambda: self._check_mode(device.id, record.what)
                )
                await exchange.check_identity()
                yield exchange
            except ModbusException as error:
                raise WriteFailedError(f"{device.id}.{record.what}: {error}") from error
            finally:
                client.close()
