"""The one register write: a set-point of one device, inside its profile's limits, read back. Never retried."""

from collections.abc import Mapping

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from drivers.clock import Clock
from drivers.codec import decode_point, encode_point
from drivers.profile import WORDS, Point, Profile, WriteLimit
from drivers.site.model import Device, Site

TIMEOUT_S = 1.0


class WriteRefusedError(Exception):
    """The write was not sent: not armed, no such point, outside its limits or too soon after the last."""


class WriteFailedError(Exception):
    """The write was sent, or tried, and the device did not take it."""


class ModbusWriter:
    """Writes single points. It sends nothing unless `armed`, which only a controller in LIVE may set."""

    def __init__(self, site: Site, profiles: Mapping[str, Profile], clock: Clock) -> None:
        self.armed = False
        self.sent = 0  # write requests that left
        self._profiles, self._clock = profiles, clock
        self._devices = {d.id: d for d in site.devices}
        self._gateways = {g.id: g for g in site.gateways}
        self._last_s: dict[tuple[str, str], float] = {}

    async def write(self, device_id: str, point_name: str, value: float) -> float:
        """Write `value` [the point's unit]; returns what the device then shows. WriteRefusedError, WriteFailedError."""
        if not self.armed:
            raise WriteRefusedError(f"{device_id}.{point_name}: writing is not armed")
        device, point, limit = self._find(device_id, point_name)
        if not limit.min <= value <= limit.max:
            raise WriteRefusedError(
                f"{device_id}.{point_name}: {value} is outside {limit.min}..{limit.max} {point.unit}"
            )
        key, now_s = (device_id, point_name), self._clock.now_s()
        wait_s = self._last_s.get(key, float("-inf")) + limit.min_gap_s - now_s
        if wait_s > 0:
            raise WriteRefusedError(f"{device_id}.{point_name}: {wait_s:.1f} s too soon after the last write")
        self._last_s[key] = now_s
        gateway = self._gateways.get(device.gateway)
        host, port = (gateway.host, gateway.port) if gateway else (device.host, device.port)
        client = AsyncModbusTcpClient(host, port=port, timeout=TIMEOUT_S, retries=0, reconnect_delay=0)
        try:
            if not await client.connect():
                raise WriteFailedError(f"{device_id}: no connection to {host}:{port}")
            return await self._exchange(client, device, point, limit, value)
        except ModbusException as error:
            raise WriteFailedError(f"{device_id}.{point_name}: {error}") from error
        finally:
            client.close()

    def _find(self, device_id: str, point_name: str) -> tuple[Device, Point, WriteLimit]:
        device = self._devices.get(device_id)
        if device is None:
            raise WriteRefusedError(f"there is no device {device_id}")
        point = next((p for p in self._profiles[device.profile].points if p.name == point_name), None)
        if point is None or point.write is None:
            raise WriteRefusedError(f"{device.profile} has no writable point {point_name}")
        return device, point, point.write

    async def _exchange(
        self, client: AsyncModbusTcpClient, device: Device, point: Point, limit: WriteLimit, value: float
    ) -> float:
        exponent = None
        if point.scale_point:
            factor = self._profiles[device.profile].point(point.scale_point)
            exponent = int(decode_point(factor, await self._read(client, device, factor))[0])
        words = list(encode_point(point, value, exponent))
        self.sent += 1
        if limit.fc == 6:
            reply: ModbusPDU = await client.write_register(point.addr, words[0], device_id=device.unit)
        else:
            reply = await client.write_registers(point.addr, words, device_id=device.unit)
        if reply.isError():
            raise WriteFailedError(f"{device.id}.{point.name}: refused, {reply}")
        shown = await self._read(client, device, point)
        if shown != words:
            raise WriteFailedError(f"{device.id}.{point.name}: wrote {words}, reads back {shown}")
        return decode_point(point, shown, exponent)[0]

    @staticmethod
    async def _read(client: AsyncModbusTcpClient, device: Device, point: Point) -> list[int]:
        read = client.read_holding_registers if point.fc == 3 else client.read_input_registers
        reply = await read(point.addr, count=WORDS[point.type], device_id=device.unit)
        if reply.isError():
            raise WriteFailedError(f"{device.id}.{point.name}: cannot be read, {reply}")
        return list(reply.registers)
