"""Records on the disk: SQLite in WAL mode, each record's hash over the one before, the newest hash in a file beside.

A record is on the disk when `append` returns. The head file makes a cut-off end known: whoever takes records away must
change it, too, and whoever keeps a copy of it (`headroom journal verify --head`) sees even that.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "journal"
SEGMENT_BYTES = 512 << 20  # a new file is begun then, the chain goes on
BUSY_S = 5.0
ORIGIN = bytes(32)  # the hash before the first record
SCHEMA = """
CREATE TABLE IF NOT EXISTS records(
  seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS rare ON records(kind, seq) WHERE kind <> 'orders';
"""
New = tuple[int, str, bytes]  # at_ms, kind, body


class JournalError(RuntimeError):
    """The journal cannot be read; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One record: number, wall time, kind, body as written, and its hash."""

    seq: int
    at_ms: int
    kind: str
    body: bytes
    hash: bytes


@dataclass(frozen=True)
class Head:
    """The newest record by the head file."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


def digest(before: bytes, seq: int, at_ms: int, kind: str, body: bytes) -> bytes:
    """SHA-256 of a record and the hash before it."""
    name = kind.encode()
    sizes = b"%d %d %d %d " % (seq, at_ms, len(name), len(body))
    return hashlib.sha256(before + sizes + name + body).digest()


def segments(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(folder.glob("[0-9]*.db"))


def read_head(folder: Path) -> Head | None:
    """The head file; None where there is none, JournalError where it makes no sense."""
    try:
        given = json.loads((folder / "head").read_bytes())
        return Head(int(given["seq"]), bytes.fromhex(given["hash"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{folder / 'head'} makes no sense: {error}") from error


class Journal:
    """The journal of one state directory, for writing. sqlite3.Error and OSError where the disk does not take it."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._path: Path | None = None
        self._base: sqlite3.Connection | None = None

    def append(self, records: Sequence[New]) -> int:
        """Write records, all or none, on the disk before this returns; the number of the last one."""
        base = self._opened()
        base.execute("BEGIN IMMEDIATE")
        try:
            seq, before = self._last(base)
            for at_ms, kind, body in records:
                seq, before = seq + 1, digest(before, seq + 1, at_ms, kind, body)
                base.execute("INSERT INTO records VALUES(?, ?, ?, ?, ?)", (seq, at_ms, kind, body, before))
            base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                base.execute("ROLLBACK")
            raise
        self._write_head(Head(seq, before))
        return seq

    def bodies(self, kind: str) -> Iterator[bytes]:
        """Bodies of all records of a kind (not `orders`), oldest first."""
        self._opened()
        for path in segments(self._folder):
            with closing(_read_only(path)) as base:
                query = "SELECT body FROM records WHERE kind = ? AND kind <> 'orders' ORDER BY seq"
                yield from (row[0] for row in base.execute(query, (kind,)))

    def close(self) -> None:
        """Close the file; what was appended is on the disk already."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _opened(self) -> sqlite3.Connection:
        newest = max(segments(self._folder), default=self._folder / "000001.db")
        if _size(newest) > SEGMENT_BYTES:
            newest = newest.with_name(f"{int(newest.stem) + 1:06d}.db")
        if self._base is None or self._path != newest:
            self.close()
            self._base, self._path = _writable(newest), newest
        return self._base

    def _last(self, base: sqlite3.Connection) -> tuple[int, bytes]:
        """Number and hash of the newest record, which may be the last one of the file before."""
        row = base.execute("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            for path in reversed(segments(self._folder)):
                if path != self._path:
                    with closing(_read_only(path)) as older:
                        row = older.execute("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1").fetchone()
                    break
        return (0, ORIGIN) if row is None else (int(row[0]), bytes(row[1]))

    def _write_head(self, head: Head) -> None:
        scratch = self._folder / "head.new"
        with scratch.open("w") as file:
            json.dump({"seq": head.seq, "hash": head.hash.hex()}, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._folder / "head")


def _size(path: Path) -> int:
    """Bytes of a file and of its log; nothing where it is not there yet."""
    return sum(p.stat().st_size for p in (path, path.with_name(f"{path.name}-wal")) if p.exists())


def _writable(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    base = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")
        base.executescript(SCHEMA)
    except sqlite3.Error:
        base.close()
        raise
    return base


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)


def empty(base: sqlite3.Connection) -> bool:
    """Killed in its first moment: a file without even a table."""
    return not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


class Reader:
    """The journal of one state directory, for reading, also while a controller writes."""

    def __init__(self, state: Path) -> None:
        self.folder = state / FOLDER
        self.files = segments(self.folder)

    def entries(
        self, from_ms: int = 0, to_ms: int | None = None, kinds: Sequence[str] = (), last: int | None = None
    ) -> Iterator[Entry]:
        """Records in order, of some time and kinds (none: all); `last`: only so many of the newest.

        JournalError where a file cannot be read.
        """
        where = "at_ms >= ? AND at_ms < ?" + (f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else "")
        select = f"SELECT seq, at_ms, kind, body, hash FROM records WHERE {where}"  # noqa: S608  (question marks only)
        values: list[Any] = [from_ms, 1 << 62 if to_ms is None else to_ms, *kinds]
        if last is None:
            for path in self.files:
                yield from self._rows(path, select + " ORDER BY seq", values)
            return
        found: list[Entry] = []
        for path in reversed(self.files):
            query = select + " ORDER BY seq DESC LIMIT ?"
            found += self._rows(path, query, [*values, last - len(found)])
            if len(found) >= last:
                break
        yield from reversed(found)

    def _rows(self, path: Path, query: str, values: Sequence[Any]) -> Iterator[Entry]:
        try:
            with closing(_read_only(path)) as base:
                if empty(base):
                    return
                for seq, at_ms, kind, body, mark in base.execute(query, values):
                    yield Entry(seq, at_ms, kind, body, mark)
        except sqlite3.Error as error:
            raise JournalError(f"{path} cannot be read: {error}; `headroom journal verify` says more") from error


def open_read(state: Path) -> Reader:
    """A reader; JournalError where there is no journal."""
    reader = Reader(state)
    if not reader.files:
        raise JournalError(f"no journal in {reader.folder}: no controller has run on this state directory (--state)")
    return reader
