"""What was written to whom: one record for each attempt, also for a refused one."""

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)


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

    def __str__(self) -> str:
        words = "; ".join(f"{addr}: {' '.join(f'{w:04X}' for w in words)}" for addr, words in self.sent)
        return f"{self.device}.{self.what} {words or 'nothing sent'}: {'verified' if self.verified else self.why}"


class AuditLog:
    """Appends records to a file, one JSON object a line. A full disk stops no write: it goes to the program's log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0  # records that could not be written

    def __call__(self, record: WriteRecord) -> None:
        """Append one record."""
        text = json.dumps(asdict(record), allow_nan=True, separators=(",", ":")) + "\n"
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, text.encode())  # one call: a line is whole or is the last
            finally:
                os.close(handle)
        except OSError as error:
            self.lost += 1
            log.error("a write could not be recorded in %s (%s): %s", self.path, error.strerror, record)
