"""Whether the journal is what was written: every record's hash, no record missing, none cut off at the end."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from controller.journal.store import FOLDER, ORIGIN, Head, JournalError, digest, empty, read_head, segments

MOST = 20  # complaints


@dataclass(frozen=True)
class Verdict:
    """What was found; no `problems`: the journal is whole from record `first` to the head."""

    records: int
    first: int
    head: str
    problems: tuple[str, ...]


def verify(state: Path, expected: str | None = None) -> Verdict:
    """Check all of it; `expected` is a head (NUMBER:HASH) that somebody kept. Reads only, and raises nothing."""
    folder = state / FOLDER
    walk = _Walk(folder)
    try:
        walk.head = read_head(folder)
    except (JournalError, OSError) as error:
        walk.say(str(error))
    files = segments(folder)
    if not files:
        walk.say(f"there is no journal in {folder}")
    for path in files:
        walk.file(path)
    walk.end(expected)
    at = Head(walk.seq, walk.before)
    return Verdict(walk.records, walk.first, str(at), tuple(walk.problems))


class _Walk:
    def __init__(self, folder: Path) -> None:
        self.head: Head | None = None
        self.problems: list[str] = []
        self.records = self.first = self.seq = 0
        self.before = ORIGIN
        self.seen: dict[int, bytes] = {}  # hashes at the numbers that are asked for
        self._folder = folder

    def say(self, problem: str) -> None:
        if len(self.problems) < MOST:
            self.problems.append(problem)

    def file(self, path: Path) -> None:
        """One file: SQLite's own check, then record by record."""
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
                base.text_factory = bytes
                if empty(base):
                    return
                for (line,) in base.execute("PRAGMA integrity_check(5)"):
                    if line != b"ok":
                        self.say(f"{path.name}: {line.decode(errors='replace')}")
                for row in base.execute("SELECT seq, at_ms, kind, body, hash FROM records ORDER BY seq"):
                    self.record(path, *row)
        except (sqlite3.Error, OSError, OverflowError) as error:
            self.say(f"{path.name} cannot be read to its end: {error}")

    def record(self, path: Path, seq: object, at_ms: object, kind: object, body: object, mark: object) -> None:
        if not (isinstance(seq, int) and isinstance(at_ms, int) and isinstance(kind, bytes)):
            self.say(f"{path.name}: record {seq} has fields of another type")
            return
        if not isinstance(body, bytes) or not isinstance(mark, bytes):
            self.say(f"{path.name}: record {seq} has fields of another type")
            return
        if self.records == 0 and seq > 1 and path.stem != "000001":
            self.first, self.before, known = seq, mark, False  # older files were taken away as a whole
        else:
            known = True
        if known and seq != self.seq + 1:
            self.say(f"records {self.seq + 1} to {seq - 1} are missing")
        elif known and digest(self.before, seq, at_ms, kind.decode(errors="replace"), body) != mark:
            self.say(f"record {seq} is not what was written, or one before it")
        self.first = self.first or seq
        self.records, self.seq, self.before = self.records + 1, seq, mark
        self.seen[seq] = mark

    def end(self, expected: str | None) -> None:
        """The newest record must be the head's, or a later one."""
        if self.head is None and self.records and not self.problems:
            self.say("the head file is missing: whether the end is cut off cannot be known")
        kept: Head | None = None
        if expected:
            number, _, mark = expected.partition(":")
            try:
                kept = Head(int(number), bytes.fromhex(mark))
            except ValueError:
                self.say(f"head {expected!r}: give NUMBER:HASH as verify prints it")
        for head, name in ((self.head, "the head file"), (kept, "the head given")):
            if head is None:
                continue
            if head.seq > self.seq:
                self.say(f"the end is cut off: {name} knows record {head.seq}, the last one here is {self.seq}")
            elif head.seq in self.seen and self.seen[head.seq] != head.hash:
                self.say(f"record {head.seq} is not the one that {name} knows")
            elif head.seq not in self.seen:
                self.say(f"record {head.seq}, which {name} knows, is not here")
