"""pymodbus's device simulator as a device that none of us wrote."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pymodbus import ModbusDeviceIdentification
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

Request = tuple[int, int, int, list[int] | None]  # function, address, count, words to write
Misbehave = Callable[[Request, list[int]], Awaitable[ExcCodes | None]]


@dataclass
class Foreign:
    """What the simulated device was asked, and how it is made to misbehave."""

    asked: list[Request] = field(default_factory=list)
    misbehave: Misbehave | None = None

    @property
    def writes(self) -> list[Request]:
        return [r for r in self.asked if r[3] is not None]


@asynccontextmanager
async def foreign_device(
    host: str, port: int, registers: dict[int, list[int]], *, unit: int = 1, who: tuple[str, str, str] | None = None
) -> AsyncIterator[Foreign]:
    """Serve `registers` (first address -> words) at host:port; 0 as `unit` answers to every unit id."""
    foreign = Foreign()

    async def action(
        fc: int, start: int, address: int, count: int, current: list[int], new: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        request = (fc, address, count, None if new is None else [int(word) for word in new])
        foreign.asked.append(request)
        return await foreign.misbehave(request, current) if foreign.misbehave else None

    identity = ModbusDeviceIdentification(  # type: ignore[no-untyped-call]
        info_name=dict(zip(("VendorName", "ProductCode", "MajorMinorRevision"), who, strict=True)) if who else {}
    )
    blocks = [SimData(a, values=list(words), datatype=DataType.REGISTERS) for a, words in sorted(registers.items())]
    device = SimDevice(unit, blocks, identity=identity, action=action)
    server = ModbusTcpServer(device, identity=identity, address=(host, port))
    await server.serve_forever(background=True)
    try:
        yield foreign
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
