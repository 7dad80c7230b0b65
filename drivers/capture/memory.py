"""What a recorded device would answer: its registers as they were last shown, and what it refused."""

import struct

from drivers.capture.tape import Exchange
from drivers.modbus import frame
from drivers.profile import BITS

REGISTERS = (frame.READ_HOLDING, frame.READ_INPUT)
MOST = dict.fromkeys(BITS, 2000) | dict.fromkeys(REGISTERS, 125)


class Memory:
    """One device. `take` exchanges in order, `answer` requests (unit and PDU) in between."""

    def __init__(self) -> None:
        self.silent = True  # until it has been heard
        self._cells: dict[int, dict[int, int]] = {fc: {} for fc in (*BITS, *REGISTERS)}
        self._said: dict[bytes, bytes] = {}  # request -> reply, of what is no register: refusals, identification

    def take(self, entry: Exchange) -> None:
        """Enter one exchange; a device that did not answer is silent until it does."""
        self.silent = not entry.reply
        if self.silent or len(entry.request) < 2:
            return
        if entry.quality == "good" and self._store(entry.request, entry.reply):
            self._said.pop(entry.request[1:], None)
        else:
            self._said[entry.request[1:]] = entry.reply[1:]

    def answer(self, request: bytes) -> bytes | None:
        """Unit and PDU of the reply, None where it keeps silent. It takes no writes."""
        if self.silent:
            return None
        unit, pdu = request[:1], request[1:]
        said = self._said.get(pdu)
        if said is not None:
            return unit + said
        fc = pdu[0]
        if fc not in self._cells:
            return unit + frame.exception_pdu(fc, frame.ILLEGAL_FUNCTION)
        if len(pdu) != 5 or not 1 <= pdu[3] << 8 | pdu[4] <= MOST[fc]:
            return unit + frame.exception_pdu(fc, frame.ILLEGAL_VALUE)
        _, addr, count = struct.unpack(">BHH", pdu)
        cells = [self._cells[fc].get(a) for a in range(addr, addr + count)]
        words = [cell for cell in cells if cell is not None]
        if len(words) < count:
            return unit + frame.exception_pdu(fc, frame.ILLEGAL_ADDRESS)
        data = _bits(words) if fc in BITS else struct.pack(f">{count}H", *words)
        return unit + bytes((fc, len(data))) + data

    def _store(self, request: bytes, reply: bytes) -> bool:
        """Keep the registers of a good reply to a read; False where it is none."""
        fc = request[1]
        if fc not in self._cells or len(request) != 6:
            return False
        addr, count = struct.unpack(">HH", request[2:])
        data = reply[3:]
        if len(data) != frame.read_size(fc, count):
            return False
        words = [data[i // 8] >> i % 8 & 1 for i in range(count)] if fc in BITS else struct.unpack(f">{count}H", data)
        self._cells[fc].update(zip(range(addr, addr + count), words, strict=True))
        return True


def _bits(states: list[int]) -> bytes:
    whole = sum(state << i for i, state in enumerate(states))
    return whole.to_bytes((len(states) + 7) // 8, "little")
