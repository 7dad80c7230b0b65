"""A recording: one JSON object a line. First a header, then what passed on the wires, in order.

    {"headroom": "capture", "v": 1, "site", "hash", "started_s", "started_ms", "part"}
    {"t", "d", "rq", "rp", "q"}              a Modbus exchange: device, request and reply in hex (unit and PDU), quality
    {"t", "topic", "text" or "hex", "retained", "sent"}  an MQTT message; what is false is left out
    {"t", "note", ...}                       what the recorder or the controller says
    {"t", "lost"}                            so many lines were dropped or could not be written here

`t` is monotonic time [s] of the machine that recorded; with it `started_ms` gives the wall time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from drivers.site.model import Site
from drivers.site.write import site_files

VERSION = 1
LONGEST_LINE = 1 << 20
LATEST_S = 1e10  # no machine runs for three hundred years


class TapeError(ValueError):
    """A recording that cannot be used; the message says why."""


@dataclass(frozen=True)
class Header:
    """What a recording says of itself."""

    site: str
    hash: str  # of the site's files
    started_s: float  # monotonic [s]
    started_ms: int  # milliseconds since the Unix epoch
    part: int  # 1, and one more each time the file was full

    def line(self) -> bytes:
        """As it stands in the file."""
        return _line({"headroom": "capture", "v": VERSION} | vars(self))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A Modbus request (unit and PDU) and its reply, empty when none came."""

    t_s: float
    device: str
    request: bytes
    reply: bytes
    quality: str  # good, suspect, bad or silent


@dataclass(frozen=True, slots=True)
class Message:
    """An MQTT message; `sent` by the one who recorded."""

    t_s: float
    topic: str
    payload: bytes
    retained: bool
    sent: bool


@dataclass(frozen=True, slots=True)
class Note:
    """Anything else; `body` has the key `note`, or `lost` with a number of lines."""

    t_s: float
    body: dict[str, Any]


Entry = Exchange | Message | Note


def site_hash(site: Site) -> str:
    """Short digest of a site's files as `headroom site new` would write them."""
    return sha256("\0".join(f"{k}\0{v}" for k, v in sorted(site_files(site).items())).encode()).hexdigest()[:16]


def entry_line(entry: Entry) -> bytes:
    """One entry as a line."""
    if isinstance(entry, Exchange):
        return (  # by hand: ten thousand a second
            f'{{"t":{entry.t_s!r},"d":{json.dumps(entry.device)},"rq":"{entry.request.hex()}",'
            f'"rp":"{entry.reply.hex()}","q":"{entry.quality}"}}\n'
        ).encode()
    if isinstance(entry, Note):
        return _line({"t": entry.t_s} | entry.body)
    try:
        said = {"text": entry.payload.decode()}
    except UnicodeDecodeError:
        said = {"hex": entry.payload.hex()}
    flags = {name: True for name in ("retained", "sent") if getattr(entry, name)}
    return _line({"t": entry.t_s, "topic": entry.topic} | said | flags)


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


@dataclass
class Tape:
    """A recording on disk. Reading counts what could not be read: `torn` is a last line that was cut off."""

    parts: tuple[Path, ...]
    header: Header
    torn: bool = False
    unread: int = 0  # lines that are none
    lost: int = 0  # lines that the recorder says it dropped
    last_s: float = field(default=float("-inf"))

    def entries(self) -> Iterator[Entry]:
        """All entries in order; OSError when a part cannot be read."""
        self.torn, self.unread, self.lost = False, 0, 0
        for path in self.parts:
            with path.open("rb") as file:
                file.readline(LONGEST_LINE)
                while line := file.readline(LONGEST_LINE):
                    entry = _entry(line) if line.endswith(b"\n") else None
                    if entry is None:
                        self.torn |= not line.endswith(b"\n") and path == self.parts[-1]
                        self.unread += line.endswith(b"\n")
                        continue
                    if isinstance(entry, Note):
                        self.lost += int(entry.body.get("lost", 0))
                    self.last_s = entry.t_s
                    yield entry

    @property
    def faults(self) -> list[str]:
        """What is wrong with it, in words, once it has been read."""
        said = []
        if self.torn:
            said.append("its last line was cut off and is left out: the recorder did not end in order")
        if self.unread:
            said.append(f"{self.unread} lines are none of a recording and are left out")
        if self.lost:
            said.append(f"{self.lost} lines were lost while it was made")
        return said


def open_tape(path: Path) -> Tape:
    """The recording in `path`, with the part before it (PATH.1) where that is there. TapeError when it is none."""
    older = path.with_name(path.name + ".1")
    headers = {p: _header(p) for p in (older, path) if p == path or p.exists()}
    first, newest = headers.get(older), headers[path]
    if first and (first.started_ms, first.part + 1) == (newest.started_ms, newest.part):
        return Tape((older, path), first)
    return Tape((path,), newest)


def _header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            body = json.loads(file.readline(LONGEST_LINE))
        if body.pop("headroom") != "capture" or body.pop("v") != VERSION:
            raise ValueError("another kind or version")
        if not abs(float(body["started_s"])) < LATEST_S:
            raise ValueError("no time")
        return Header(
            str(body["site"]),
            str(body["hash"]),
            float(body["started_s"]),
            int(body["started_ms"]),
            int(body["part"]),
        )
    except OSError as error:
        raise TapeError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TapeError(f"{path} is no recording of `headroom capture`: its first line is no header") from error


def _entry(line: bytes) -> Entry | None:
    """One line, or None where it is none."""
    try:
        body = json.loads(line)
        t_s = float(body.pop("t"))
        if not abs(t_s) < LATEST_S:
            return None
        if "d" in body:
            request, reply = bytes.fromhex(body["rq"]), bytes.fromhex(body["rp"])
            return Exchange(t_s, str(body["d"]), request, reply, str(body["q"]))
        if "topic" in body:
            payload = str(body["text"]).encode() if "text" in body else bytes.fromhex(body["hex"])
            return Message(t_s, str(body["topic"]), payload, bool(body.get("retained")), bool(body.get("sent")))
        int(body.get("lost", 0))
        return Note(t_s, body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
