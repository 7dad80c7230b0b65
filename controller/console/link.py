"""The console's end of the controller's tap: the newest picture, whoever waits for it, and the past hour.

The controller may come, go and come back; what is shown meanwhile is the last picture, with its age.
"""

import asyncio
import json
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

from controller import form
from controller.console.past import Past
from drivers.clock import Clock
from drivers.points import Floats

LONGEST = 64 << 20  # bytes of a message
RETRY_S = 1.0
SILENT_S = 5.0  # a controller that says nothing for so long is taken for gone

log = logging.getLogger(__name__)


class Link:
    """What is known of the controller. `wait` returns with each new picture, deflated once for everybody."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path, self._clock = folder / form.TAP_FILE, clock
        self.connected = False
        self.sheet: dict[str, Any] = {}
        self.sheet_bytes = b""  # deflated JSON
        self.sheet_number = 0
        self.head: dict[str, Any] = {}
        self.arrays: dict[str, Floats] = {}
        self.picture = b""  # deflated
        self.number = 0
        self.at_s = float("-inf")  # when the newest came
        self.past = Past()
        self._news = asyncio.Event()

    @property
    def age_s(self) -> float:
        """Age of the newest picture [s]; infinite before the first."""
        return self._clock.now_s() - self.at_s

    async def wait(self) -> None:
        """Until there is news: a picture, or the controller came or went."""
        await self._news.wait()

    async def run(self) -> None:
        """Read for ever; a controller that is not there is tried again every second."""
        while True:
            try:
                await self._read()
            except (OSError, ValueError, asyncio.IncompleteReadError, zlib.error, struct.error, KeyError) as error:
                if self.connected:
                    log.warning("the controller is gone: %s", error or type(error).__name__)
            if self.connected:
                self.connected = False
                self._tell()
            await self._clock.sleep_until(self._clock.now_s() + RETRY_S)

    async def _read(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=1 << 20)
        try:
            while True:
                async with asyncio.timeout(SILENT_S):
                    size, kind = form.PREFIX.unpack(await reader.readexactly(form.PREFIX.size))
                    if size > LONGEST:
                        raise ValueError(f"a message of {size} bytes")
                    body = await reader.readexactly(size)
                if kind == form.SHEET:
                    self._take_sheet(body)
                elif kind == form.PICTURE:
                    self._take_picture(body)
        finally:
            writer.transport.abort()

    def _take_sheet(self, body: bytes) -> None:
        if body != self.sheet_bytes:
            self.sheet, self.sheet_bytes = json.loads(zlib.decompress(body)), body
            self.sheet_number += 1
            self.past.begin(self.sheet)
        self.connected = True

    def _take_picture(self, body: bytes) -> None:
        self.head, self.arrays = form.split(body)
        self.picture = zlib.compress(body, 3)
        self.number += 1
        self.at_s = self._clock.now_s()
        self.past.add(self.head, self.arrays)
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
