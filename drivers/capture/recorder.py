"""Writes a recording beside whatever runs: what the wires say goes into batches, a thread of its own writes them.

A disk that is slow or full costs lines of the recording, counted in it, never a poll.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from drivers.capture.tape import Entry, Exchange, Header, Message, Note, entry_line, site_hash
from drivers.clock import Clock
from drivers.site.model import Site
from drivers.supervise import Outlet

log = logging.getLogger(__name__)
BATCH = 512  # entries handed over at once
TURN_S = 0.5  # at the latest after so long: with the writer's own time, all is in the file within a second
DEPTH = 64  # batches that may wait for the disk, some three seconds of a 300 MW site
CLOSE_S = 10.0
MB = 1_000_000


class _File:
    """The file being written: at `half` bytes it becomes FILE.1, in place of the one before, and begins anew."""

    def __init__(self, path: Path, header: Header, half: int) -> None:
        self.path, self.half = path, half
        self.lines = self.written = 0  # lines in all; bytes of this part
        self.lost = self._unsaid = 0  # lines that could not be written, in all and since the last that could
        self._header, self._handle, self._torn = header, -1, False
        self._begin()

    def _begin(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        line = self._header.line()
        if os.write(handle, line) < len(line):  # a part without its header is worth nothing
            os.close(handle)
            self.path.unlink()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._handle, self.written = handle, len(line)

    def _turn_over(self) -> None:
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self.close()
        self._header = Header(**vars(self._header) | {"part": self._header.part + 1})
        self._begin()

    def write(self, batch: list[Entry]) -> None:
        """Write a batch; what cannot be written is counted, and said in the file when it can."""
        try:
            if self._handle < 0:
                self._begin()
            elif self.written > self.half:
                self._turn_over()
            said = [Note(batch[0].t_s, {"lost": self._unsaid})] if self._unsaid else []
            data = b"\n" * self._torn + b"".join(map(entry_line, [*said, *batch]))
            self._torn = True  # until all of it is there
            left = memoryview(data)
            while left:
                done = os.write(self._handle, left)
                self.written, left = self.written + done, left[done:]
            self._torn, self._unsaid = False, 0
            self.lines += len(batch)
        except OSError as error:
            if not self._unsaid:
                log.error("the recording %s cannot be written: %s", self.path, error.strerror)
            self.lost += len(batch)
            self._unsaid += len(batch)

    def close(self) -> None:
        """No more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Recorder:
    """A `Tap` that records into `path`, at most about `most_mb` [MB] in two files. OSError when it cannot begin."""

    def __init__(self, path: Path, site: Site, clock: Clock, most_mb: float = 1000.0) -> None:
        self.path, self.dropped = path, 0  # entries that the writer was too slow for
        self.exchanges = self.messages = 0
        self._now = clock.now_s
        self._clock = clock
        self._batch: list[Entry] = []
        header = Header(site.name, site_hash(site), clock.now_s(), clock.wall_ms(), 1)
        self._file = _File(path, header, round(most_mb * MB / 2))
        self._outlet: Outlet[list[Entry]] = Outlet(self._writing, DEPTH, self._drop)
        self._turner: asyncio.Task[None] | None = None

    @contextmanager
    def _writing(self) -> Iterator[Callable[[list[Entry]], None]]:
        try:
            yield self._file.write
        finally:
            self._file.close()

    @property
    def lines(self) -> int:
        """Entries that are in the file."""
        return self._file.lines

    @property
    def lost(self) -> int:
        """Entries that are not in the file, because the writer was too slow or the disk refused."""
        return self.dropped + self._file.lost

    def start(self) -> None:
        """Hand over twice a second from now on."""
        if self._turner is None:
            self._turner = asyncio.get_running_loop().create_task(self._turn(), name="recorder")

    async def stop(self) -> bool:
        """Write what waits and close the file; False when the disk did not take all of it in time."""
        if self._turner is not None:
            self._turner.cancel()
            await asyncio.gather(self._turner, return_exceptions=True)
            self._turner = None
        self._hand_over()
        return await asyncio.to_thread(self._outlet.close, CLOSE_S)

    def exchange(self, device: str, request: bytes, reply: bytes, quality: str) -> None:
        """Record a Modbus exchange."""
        self.exchanges += 1
        self._take(Exchange(self._now(), device, request, reply, quality))

    def message(self, topic: str, payload: bytes, retained: bool, *, sent: bool = False) -> None:
        """Record an MQTT message."""
        self.messages += 1
        self._take(Message(self._now(), topic, bytes(payload), retained, sent))

    def alarms(self) -> list[str]:
        """Whether the recording has holes."""
        lost = f"{self.lost} lines are missing in the recording {self.path}: its disk is slow or full"
        return [lost] if self.lost else []

    def note(self, what: str, *, t_s: float, **more: Any) -> None:
        """Record what the controller says of `t_s` [s, monotonic]."""
        self._take(Note(t_s, {"note": what} | more))

    def _take(self, entry: Entry) -> None:
        self._batch.append(entry)
        if len(self._batch) >= BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        self._outlet.put(batch)

    def _drop(self, batch: list[Entry]) -> None:
        self.dropped += len(batch)
        self._batch.append(Note(self._now(), {"lost": len(batch)}))

    async def _turn(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now_s() + TURN_S)
            self._hand_over()


def free_name(path: Path) -> Path:
    """`path`, or with -2, -3 .. before its ending where a file of that name is there."""
    names = (path if n == 1 else path.with_name(f"{path.stem}-{n}{path.suffix}") for n in count(1))
    return next(name for name in names if not name.exists())
