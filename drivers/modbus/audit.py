"""What was written to whom: one record for each attempt, also for a refused one."""

import asyncio
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from drivers.supervise import Outlet

log = logging.getLogger(__name__)
DEPTH = 4096  # records that may wait for the disk
CLOSE_S = 5.0


@dataclass
class WriteRecord:
    """One attempt to write: what was asked, the words that left, in order, and what was shown after."""

    wall_ms: int  # when it was asked, milliseconds since the Unix epoch
    device: str
    what: str  # point, points joined by +, or command
    value: tuple[float, ...] = ()  # as asked, in the points' units
    sent: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # address, words; not all need have arrived
    shown: dict[str, float] = field(default_factory=dict)  # point -> value read back
    verified: bool = False  # everything reads back as written
    why: str = ""  # why it was not sent or not verified
    before: dict[str, float] = field(default_factory=dict)  # point -> value before anything was sent
    by: str = ""  # who asked
    reason: str = ""  # why they did
    act: str = ""  # the act by which they did

    def __str__(self) -> str:
        words = "; ".join(f"{addr}: {' '.join(f'{w:04X}' for w in words)}" for addr, words in self.sent)
        return f"{self.device}.{self.what} {words or 'nothing sent'}: {'verified' if self.verified else self.why}"

    def line(self) -> bytes:
        """As JSON; a value that is not there is null."""
        body = asdict(self)
        for name in ("shown", "before"):
            body[name] = {k: v if math.isfinite(v) else None for k, v in body[name].items()}
        body["value"] = [v if math.isfinite(v) else None for v in self.value]
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode() + b"\n"


class AuditLog:
    """Appends records to a file, one JSON object a line, on the disk before it returns.

    A full disk stops no write: it goes to the program's log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0  # records that could not be written

    def __call__(self, record: WriteRecord) -> None:
        """Append one record."""
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, record.line())  # one call: a line is whole or is the last
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            self.lost += 1
            log.error("a write could not be recorded in %s (%s): %s", self.path, error.strerror, record)


class Audit:
    """Records into a file through a thread of its own: a slow disk holds up no cycle. Without a file, into the log."""

    def __init__(self, path: Path | None) -> None:
        self._file = AuditLog(path) if path else None
        self._dropped = 0
        self._outlet: Outlet[WriteRecord] | None = Outlet(self._writing, DEPTH, self._drop) if path else None

    def __call__(self, record: WriteRecord) -> None:
        """Hand over one record."""
        if self._outlet is not None:
            self._outlet.put(record)
        else:
            log.info("%s", record)

    def alarms(self) -> list[str]:
        """What is wrong with the record of writes."""
        lost = self._dropped + (self._file.lost if self._file else 0)
        return [f"{lost} writes are not recorded in {self._file.path}: look at its disk"] if lost and self._file else []

    async def close(self) -> None:
        """Write what waits."""
        if self._outlet is not None:
            await asyncio.to_thread(self._outlet.close, CLOSE_S)

    @contextmanager
    def _writing(self) -> Iterator[Callable[[WriteRecord], None]]:
        assert self._file is not None
        yield self._file

    def _drop(self, record: WriteRecord) -> None:
        self._dropped += 1
        log.error("a write could not be recorded, the disk is too slow: %s", record)
