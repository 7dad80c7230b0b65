"""The local socket from which a console takes the picture of each cycle (form.py). Writing to it never waits.

It lies in the site's state directory, mode 0600. A reader that does not keep up misses pictures.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from controller import form
from controller.ask import listening

READERS = 4
BEHIND_BYTES = 1 << 20  # a reader with more than this before it gets no further picture

log = logging.getLogger(__name__)


class Tap:
    """The server. `put` hands a picture to every reader that keeps up; the picture is only made if there is one."""

    def __init__(self, folder: Path, sheet: Callable[[], bytes]) -> None:
        self._path, self._make_sheet = folder / form.TAP_FILE, sheet
        self._sheet = b""
        self._server: asyncio.Server | None = None
        self._readers: set[asyncio.StreamWriter] = set()
        self.dropped = 0

    async def start(self) -> None:
        """Listen. Without a socket the controller runs all the same; the log says why there is none."""
        try:
            self._sheet = self._make_sheet()
            self._server = await asyncio.start_unix_server(self._accept, sock=listening(self._path))
        except OSError as error:
            log.warning("no console can see this controller: %s: %s", self._path, error.strerror or error)

    async def stop(self) -> None:
        """Close the socket and every reader."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        readers, self._readers = self._readers, set()
        for writer in readers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in readers), return_exceptions=True)

    def renew(self) -> None:
        """The site's tables have changed: who reads gets them again, before the next picture."""
        if self._server is not None:
            self._sheet = self._make_sheet()
            for writer in self._readers:
                writer.write(form.message(form.SHEET, self._sheet))

    def put(self, picture: Callable[[], bytes]) -> None:
        """Send one picture to whoever reads."""
        self._readers = {w for w in self._readers if not w.transport.is_closing()}
        ready = [w for w in self._readers if w.transport.get_write_buffer_size() <= BEHIND_BYTES]
        self.dropped += len(self._readers) - len(ready)
        if ready:
            message = form.message(form.PICTURE, picture())
            for writer in ready:
                writer.write(message)

    def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._readers) >= READERS:
            writer.close()
            return
        writer.write(form.message(form.SHEET, self._sheet))
        self._readers.add(writer)
