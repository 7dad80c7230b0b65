"""What every MQTT link of ours shares: it lives for ever, reconnects with back-off, and knows when it is up."""

import asyncio
import contextlib
import logging
from collections import Counter
from typing import NoReturn

from drivers.clock import Clock
from drivers.supervise import Backoff

log = logging.getLogger(__name__)

CONNECT_S = 5.0
PROBE_S = 2.0  # between our messages to ourselves
SILENCE_S = 7.0  # without any message, ours included: the link is dead, whatever TCP says


class LinkError(OSError):
    """A link that ended, or that the broker refused; the message says why."""


class Link:
    """Runs `_connected_life` again and again, with back-off and jitter, until stopped.

    A subclass connects, subscribes and sets `up` in its `_connected_life`, which returns or raises when that ends.
    """

    def __init__(self, name: str, clock: Clock, errors: tuple[type[Exception], ...], backoff: Backoff | None) -> None:
        self.name = name
        self.counters: Counter[str] = Counter()
        self.up = False
        self.detail = "not started"
        self._clock = clock
        self._errors: tuple[type[Exception], ...] = (OSError, ValueError, *errors)  # SSLError, LinkError: OSErrors
        self._backoff = backoff or Backoff(first_s=0.3, longest_s=5.0)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        if self._task is None:
            self._stop.clear()
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Disconnect, and return when the link has ended."""
        if self._task is None:
            return
        self._stop.set()
        await self._task
        self._task = None

    async def _connected_life(self) -> None:
        """From connection to loss, or to `stop`."""
        raise NotImplementedError

    def _went_down(self) -> None:
        """Called whenever the link is no longer up."""

    async def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            since_s = self._clock.now_s()
            try:
                await self._connected_life()
            except self._errors as error:
                self.detail = str(error) or type(error).__name__
                log.log(logging.WARNING if failures == 0 else logging.DEBUG, "%s: %s", self.name, self.detail)
            finally:
                self.up = False
                self._went_down()
            if self._stop.is_set():
                break
            failures = 1 if self._clock.now_s() - since_s > SILENCE_S else failures + 1
            self.counters["reconnects"] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._backoff.wait_s(failures))
        self.detail = "stopped"

    def _silent(self, limit_s: float, probe_topic: str) -> NoReturn:
        """Give the link up for its silence."""
        self.counters["silences"] += 1
        raise LinkError(f"nothing received for {limit_s:g} s; if the broker runs, may we read and write {probe_topic}?")
