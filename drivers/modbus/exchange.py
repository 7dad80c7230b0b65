"""One write on an open connection: who is there, the requests in order, and what reads back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.pdu import ModbusPDU

from drivers.clock import Clock
from drivers.codec import decode_point, encode_point
from drivers.modbus.audit import WriteRecord
from drivers.modbus.identify import identify_on
from drivers.modbus.identity import declared, differences
from drivers.modbus.sunspec import Model, find_models, wire_address
from drivers.profile import BITS, WORDS, Point, Profile, WriteLimit
from drivers.site.model import Device

LOOK_AGAIN_S = 0.2  # between read-backs of a device that takes its time
ALMOST = 1e-9  # of a value: rounding of the conversion, on top of the tolerance


class WriteRefusedError(Exception):
    """Nothing was sent: the mode forbids it, no such point, outside its limits, too soon, or the wrong device."""


class WriteFailedError(Exception):
    """Something was sent, or tried, and the device did not take it or does not show it."""


@dataclass(frozen=True)
class Part:
    """A point, how it is written, and the value [the point's unit] that it gets."""

    point: Point
    limit: WriteLimit
    value: float


class Exchange:
    """What passes between the writer and one device; fills `record`. `may_send` raises when it has become forbidden."""

    def __init__(
        self,
        client: AsyncModbusTcpClient,
        device: Device,
        profile: Profile,
        clock: Clock,
        record: WriteRecord,
        may_send: Callable[[], None],
    ) -> None:
        self._client, self._device, self._profile, self._clock = client, device, profile, clock
        self._record, self._may_send = record, may_send
        self._models: dict[int, Model] | None = None  # SunSpec models, once they are asked for

    async def check_identity(self) -> None:
        """Ask a device that the site file describes who it is; WriteRefusedError unless it is the one."""
        if not declared(self._device):
            return
        try:
            found = differences(self._device, await identify_on(self._client, self._device.unit, self._profile))
        except ConnectionError as error:
            found = [str(error)]
        if found:
            raise WriteRefusedError(f"{self._device.id}: not the device of the site file: {'; '.join(found)}")

    async def set_points(self, parts: Sequence[Part]) -> dict[str, float]:
        """Write neighbouring points in one request and read them back; what the device shows."""
        words: list[int] = []
        exponents = [await self._exponent(part.point) for part in parts]
        written = []
        for part, exponent in zip(parts, exponents, strict=True):
            words_before = await self._read(part.point)
            self._record.before[part.point.name] = decode_point(part.point, words_before, exponent)[0]
            try:
                written.append(list(encode_point(part.point, part.value, exponent)))
            except ValueError as error:
                raise WriteRefusedError(f"{self._device.id}.{error}") from error
            words += written[-1]
        fc = parts[0].limit.fc
        await self.send(await self._address(parts[0].point), words, fc=fc if len(words) == 1 else 16)
        shown = {}
        for part, exponent, raw in zip(parts, exponents, written, strict=True):
            shown[part.point.name] = await self._verify(part, exponent, raw)
        return shown

    async def send(self, addr: int, words: Sequence[int], *, fc: int = 16) -> None:
        """One write request (function 5, 6 or 16); WriteFailedError when the device refuses it."""
        self._may_send()
        self._record.sent.append((addr, tuple(words)))
        reply: ModbusPDU
        if fc == 5:
            reply = await self._client.write_coil(addr, bool(words[0]), device_id=self._device.unit)
        elif fc == 6:
            reply = await self._client.write_register(addr, words[0], device_id=self._device.unit)
        else:
            reply = await self._client.write_registers(addr, list(words), device_id=self._device.unit)
        if reply.isError():
            raise WriteFailedError(f"{self._device.id}: refused {self._record.what}: {reply}")

    async def await_value(self, point: Point, wanted: float, settle_s: float, tolerance: float) -> float:
        """Read a point until it shows `wanted` within its tolerance; WriteFailedError after `settle_s` [s]."""
        end_s = self._clock.now_s() + settle_s
        exponent = await self._exponent(point)
        while True:
            words = await self._read(point)
            value = decode_point(point, words, exponent)[0]
            self._record.shown[point.name] = value
            if abs(value - wanted) <= tolerance + ALMOST * max(1.0, abs(wanted)):
                return value
            if self._clock.now_s() >= end_s:
                raise WriteFailedError(
                    f"{self._device.id}.{point.name}: wants {wanted:g} {point.unit}, reads back {value:g} ({words})"
                )
            await self._clock.sleep_until(min(end_s, self._clock.now_s() + LOOK_AGAIN_S))

    async def _verify(self, part: Part, exponent: int | None, written: Sequence[int]) -> float:
        wanted = decode_point(part.point, written, exponent)[0]  # what the registers can express
        tolerance = part.limit.tolerance if math.isfinite(wanted) else 0.0
        return await self.await_value(part.point, wanted, part.limit.settle_s, tolerance)

    async def _exponent(self, point: Point) -> int | None:
        if not point.scale_point:
            return None
        factor = self._profile.point(point.scale_point)
        value, bad = decode_point(factor, await self._read(factor))
        if bad:
            raise WriteRefusedError(f"{self._device.id}.{point.name}: its scale {factor.name} is not available")
        return int(value)

    async def _read(self, point: Point) -> list[int]:
        read = {
            1: self._client.read_coils,
            2: self._client.read_discrete_inputs,
            3: self._client.read_holding_registers,
            4: self._client.read_input_registers,
        }[point.fc]
        addr = await self._address(point)
        reply = await read(addr, count=WORDS[point.type], device_id=self._device.unit)
        words = [] if reply.isError() else list(reply.bits[:1] if point.fc in BITS else reply.registers)
        if len(words) != WORDS[point.type]:
            raise WriteFailedError(f"{self._device.id}.{point.name}: cannot be read, {reply}")
        return [int(w) for w in words]

    async def _address(self, point: Point) -> int:
        """Where the point is on this device; WriteRefusedError when its SunSpec model is not there."""
        if point.model and self._models is None:
            self._models = await find_models(self._client, self._device.unit)
        try:
            return wire_address(point, self._models or {})
        except LookupError as error:
            raise WriteRefusedError(f"{self._device.id}.{point.name}: {error.args[0]}") from error
