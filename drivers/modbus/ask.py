"""One Modbus TCP connection for the technician's tools: a question, its answer, how long it took. Reads only."""

import asyncio
import os
import ssl
import struct
from dataclasses import dataclass
from typing import Self

from drivers.clock import perf_s
from drivers.modbus import frame
from drivers.modbus.sunspec import BASES, ChainWalk, Model, wire_address
from drivers.profile import BITS, Point, Text

REGISTERS = (frame.READ_HOLDING, frame.READ_INPUT)
READS = (*BITS, *REGISTERS, frame.ENCAPSULATED)
CODES = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledge",
    6: "busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "target failed to respond",
}
IDENTIFY = bytes((frame.ENCAPSULATED, frame.MEI_IDENTIFY, 1, 0))
MAX_STRAY = 64  # frames that answer something else, before the connection is given up


class NoAnswerError(Exception):
    """No connection, no answer in time, or one that is no Modbus."""


@dataclass(frozen=True)
class Answer:
    """Function and data of a reply, and the time it took [s]."""

    pdu: bytes
    took_s: float

    @property
    def refused(self) -> int:
        """The exception code, 0 for a good answer."""
        return self.pdu[1] if self.pdu[0] & 0x80 else 0

    @property
    def words(self) -> tuple[int, ...]:
        """Registers of a good read; of bits, the first one."""
        if self.pdu[0] in BITS:
            return (self.pdu[2] & 1,)
        return struct.unpack(f">{(len(self.pdu) - 2) // 2}H", self.pdu[2:])


def refusal(code: int) -> str:
    """An exception code in words."""
    return f"exception {code}, {CODES.get(code, 'not in the standard')}"


def read_pdu(fc: int, addr: int, count: int) -> bytes:
    """A read request."""
    return struct.pack(">BHH", fc, addr, count)


class Line:
    """A connection: `async with Line(host, port) as line`. One question at a time; NoAnswerError from everything."""

    def __init__(self, host: str, port: int, timeout_s: float = 1.0, *, tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self._tls = tls
        self._tid = 0
        self._models: dict[int, dict[int, Model]] = {}  # SunSpec models of each unit that was asked for them
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def ask(self, unit: int, pdu: bytes) -> Answer:
        """Send a read request and wait for its answer; ValueError for a function that is no read."""
        if pdu[0] not in READS:
            raise ValueError(f"function {pdu[0]} is no read: tools never write")
        if self._streams is None:
            await self._connect()
        assert self._streams is not None
        reader, writer = self._streams
        self._tid = (self._tid + 1) & 0xFFFF
        begin_s = perf_s()
        try:
            async with asyncio.timeout(self.timeout_s):
                writer.write(self._message(unit, pdu))
                await writer.drain()
                got = await self._answer(reader, unit, pdu)
        except TimeoutError as error:
            self._timed_out()
            raise NoAnswerError(f"no answer within {self.timeout_s:g} s") from error
        except (OSError, EOFError) as error:
            self._close()
            raise NoAnswerError("hung up") from error
        except NoAnswerError:
            self._close()
            raise
        return Answer(got, perf_s() - begin_s)

    async def models(self, unit: int) -> dict[int, Model]:
        """SunSpec models of a unit, empty where it has none; asked once. Silence where a chain could be is no chain."""
        if unit not in self._models:
            walk, silences = ChainWalk(), 0
            while not walk.done:
                try:
                    answer = await self.ask(unit, read_pdu(frame.READ_HOLDING, walk.addr, 2))
                except NoAnswerError:
                    silences += 1
                    if walk.found or silences == len(BASES):
                        raise
                    walk.answer(None)
                    continue
                walk.answer(None if answer.refused else answer.words)
            self._models[unit] = walk.models
        return self._models[unit]

    async def address(self, unit: int, thing: Point | Text) -> int:
        """Where a point or text is on that unit; LookupError when its SunSpec model is not there."""
        return wire_address(thing, await self.models(unit) if thing.model else {})

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.timeout_s):
                self._streams = await asyncio.open_connection(self.host, self.port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            why = os.strerror(error.errno) if error.errno else str(error) or "timed out"
            raise NoAnswerError(f"no connection to {self.host}:{self.port}: {why}") from error

    def _message(self, unit: int, pdu: bytes) -> bytes:
        return self._tid.to_bytes(2, "big") + frame.tail(unit, pdu)

    def _timed_out(self) -> None:
        """A late answer is known by its transaction: the connection may stay."""

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _answer(self, reader: asyncio.StreamReader, unit: int, pdu: bytes) -> bytes:
        """The reply to the last request; late and foreign ones are passed over."""
        for _ in range(MAX_STRAY):
            head = await reader.readexactly(frame.HEADER)
            size = head[4] << 8 | head[5]
            if head[2:4] != b"\0\0" or not 3 <= size <= frame.MAX_FRAME - frame.HEADER:
                raise NoAnswerError("answers with what is no Modbus")
            body = await reader.readexactly(size)
            if head[:2] == self._tid.to_bytes(2, "big") and body[0] == unit and body[1] & 0x7F == pdu[0]:
                return self._checked(body[1:], pdu)
        raise NoAnswerError("answers what nobody asked")

    @staticmethod
    def _checked(reply: bytes, pdu: bytes) -> bytes:
        """A reply of the right size; an answer of another size is none."""
        count = frame.read_size(pdu[0], int.from_bytes(pdu[3:5], "big"))
        read = pdu[0] in (*BITS, *REGISTERS)
        if len(reply) == 2 if reply[0] & 0x80 else not read or (len(reply) == 2 + count and reply[1] == count):
            return reply
        raise NoAnswerError(f"answers with {len(reply)} bytes where {2 + count} are due")
