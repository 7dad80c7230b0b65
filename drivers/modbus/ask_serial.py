"""The technician's connection to a serial server: the same questions in serial frames; `open_line` picks by framing."""

import asyncio

from drivers.modbus import frame
from drivers.modbus.ask import READS, Line, NoAnswerError
from drivers.modbus.rtu import SUM, crc16, rtu
from drivers.modbus.security import tls_context
from drivers.site.model import Framing

OBJECTS_FROM = 7  # of an identification: unit, function, MEI, code, conformity, more, next; then how many
MAX_OBJECTS = 16


def open_line(host: str, port: int, framing: Framing) -> Line:
    """A connection for `async with`; SecurityError where TLS lacks its files."""
    if framing == "rtu":
        return SerialLine(host, port)
    return Line(host, port, tls=tls_context() if framing == "tls" else None)


class SerialLine(Line):
    """Nothing tells a late answer from the next: after a silence the connection is another one."""

    def _message(self, unit: int, pdu: bytes) -> bytes:
        return rtu(bytes((unit,)) + pdu)

    def _timed_out(self) -> None:
        self._close()

    async def _answer(self, reader: asyncio.StreamReader, unit: int, pdu: bytes) -> bytes:
        got = await reader.readexactly(3)
        if got[0] != unit or got[1] & 0x7F != pdu[0] or pdu[0] not in READS:
            raise NoAnswerError("answers what nobody asked")
        if got[1] & 0x80:
            got += await reader.readexactly(SUM)
        elif pdu[0] == frame.ENCAPSULATED:
            got += await self._objects(reader)
        else:
            got += await reader.readexactly(got[2] + SUM)
        if crc16(got):
            raise NoAnswerError("answers with a wrong check sum")
        return self._checked(got[1:-SUM], pdu)

    @staticmethod
    async def _objects(reader: asyncio.StreamReader) -> bytes:
        """The rest of an identification, whose length stands nowhere."""
        got = await reader.readexactly(OBJECTS_FROM + 1 - 3)
        for _ in range(min(got[-1], MAX_OBJECTS)):
            head = await reader.readexactly(2)
            got += head + await reader.readexactly(head[1])
        return got + await reader.readexactly(SUM)
