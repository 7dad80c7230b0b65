"""What a request and its end look like to whoever listens in: unit and PDU both ways, and a word for the quality."""

from collections.abc import Callable

from drivers.modbus import frame
from drivers.modbus.unit import AnyJob
from drivers.wires import Tap

SILENT = -1  # no reply in time
GARBAGE = -2  # a reply of the wrong size
UNIT = 4  # where the unit id stands in a frame without its transaction id


def teller(tap: Tap) -> Callable[[AnyJob, int], None]:
    """A link's `tap` that passes on to `tap`."""

    def tell(job: AnyJob, code: int) -> None:
        request = job.tail[UNIT:]
        if code == 0:
            reply, quality = job.head[UNIT:] + bytes(job.target), "good"
        elif code < 0:
            reply, quality = b"", "silent" if code == SILENT else "bad"
        else:
            reply = request[:1] + frame.exception_pdu(request[1], code)
            quality = "suspect" if code in (frame.DEVICE_BUSY, frame.ACKNOWLEDGE) else "bad"
        tap.exchange(job.unit.name, request, reply, quality)

    return tell
