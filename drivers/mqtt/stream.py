"""A lean MQTT 3.1.1 subscriber at QoS 0: whole reads of the socket, framed in bulk, handed over as lists.

For streams of tens of thousands of small messages a second. Brokers send each in a segment of its own, so the reader
leaves the socket alone for PAUSE_S after each read: what arrives meanwhile comes as one block.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import cast

from drivers.clock import Clock
from drivers.mqtt import packets
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.link import CONNECT_S, PROBE_S, SILENCE_S, Link, LinkError
from drivers.mqtt.packets import CONNACK, SUBACK, Message
from drivers.supervise import Backoff

log = logging.getLogger(__name__)

PAUSE_S = 0.02
BUFFER = 1 << 18  # [bytes] a read takes at most this: 13 MB/s, four times the stream of a 300 MW site
LONGEST = 1 << 16  # [bytes] longer packets are skipped: no value message is
KEEPALIVE_S = 10
CLOSE_S = 1.0  # for a farewell, then the connection is cut
OnMessages = Callable[[list[Message]], None]


class _Wire(asyncio.BufferedProtocol):
    """One connection: bytes in, messages and acknowledgements out."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._buffer = bytearray(BUFFER)
        self._filled = 0
        self._skip = 0
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.answers: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(4)
        self.gone = asyncio.Event()  # nothing of the connection is left in the loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self.ended.add_done_callback(lambda done: done.cancelled() or done.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def connection_lost(self, error: Exception | None) -> None:
        """Say so to whoever waits."""
        self.gone.set()
        self._end(LinkError(f"connection lost ({error})" if error else "the broker closed the connection"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go: behind the rest of the last read."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Take whole packets; then let the socket gather for a while."""
        assert self._transport is not None
        try:
            self._take(count)
        except packets.PacketError as error:
            self._stream.counters["protocol_errors"] += 1
            self._end(LinkError(f"not MQTT 3.1.1: {error}"))
            self._transport.abort()
            return
        self._transport.pause_reading()
        self._loop.call_later(PAUSE_S, self._resume)

    def write(self, data: bytes) -> None:
        """Send, unless the connection has ended."""
        if self._transport is not None and not self.ended.done():
            self._transport.write(data)

    async def close(self, orderly: bool) -> None:
        """Close, having taken leave where `orderly`; returns when the connection is gone."""
        if self._transport is None:
            return
        if orderly:
            self.write(packets.DISCONNECT)
        self._end(None)
        if orderly and not self.gone.is_set():
            self._transport.resume_reading()  # TLS waits for the broker's farewell
            self._transport.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), CLOSE_S)
        if not self.gone.is_set():
            self._transport.abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), CLOSE_S)

    def _take(self, count: int) -> None:
        filled = self._filled + count
        dropped = min(self._skip, filled)
        self._skip -= dropped
        data = bytes(memoryview(self._buffer)[dropped:filled])
        messages: list[Message] = []
        others: list[tuple[int, bytes]] = []
        taken = packets.scan(data, LONGEST, messages, others)
        taken += self._start_skip(data, taken)
        rest = data[taken:]
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)
        for answer in others:
            with contextlib.suppress(asyncio.QueueFull):
                self.answers.put_nowait(answer)
        self._stream.deliver(messages)

    def _start_skip(self, data: bytes, at: int) -> int:
        """Bytes of an oversized packet that are here already; the others are skipped as they come."""
        found = packets.length_at(data, at + 1) if at < len(data) else None
        if found is None or found[0] <= LONGEST:
            return 0
        self._stream.counters["oversized"] += 1
        whole = found[1] + found[0] - at
        here = min(whole, len(data) - at)
        self._skip = whole - here
        return here

    def _resume(self) -> None:
        if self._transport is not None and not self.ended.done():
            self._transport.resume_reading()

    def _end(self, error: LinkError | None) -> None:
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)


class Stream(Link):
    """Subscribes at QoS 0 and hands over what comes, in the order in which it came, until stopped.

    `on_messages(messages)` runs in the event loop, a few times in PAUSE_S at most; what it raises is counted.
    `probe_topic` is a topic of our own on which we hear ourselves: the end-to-end proof that messages still flow.
    """

    def __init__(
        self,
        where: Endpoint,
        clock: Clock,
        *,
        name: str,
        subscriptions: Sequence[str],
        on_messages: OnMessages,
        probe_topic: str,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(name, clock, (), backoff)
        self._where = where
        self._subscriptions = [*subscriptions, probe_topic]
        self._on_messages = on_messages
        self._probe, self._probe_packet = probe_topic.encode(), packets.publish(probe_topic, b"1")
        self._heard_s = -math.inf

    async def _connected_life(self) -> None:
        """From connection to loss, or to `stop`."""
        loop = asyncio.get_running_loop()
        wire = _Wire(self)
        try:
            async with asyncio.timeout(CONNECT_S):
                transport, _ = await loop.create_connection(
                    lambda: wire, self._where.host, self._where.port, ssl=self._where.tls_context()
                )
                sock = transport.get_extra_info("socket")
                if sock is not None:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._sign_on(wire)
            self._heard_s = self._clock.now_s()
            self.up, self.detail = True, ""
            log.info("%s: connected to %s:%d", self.name, self._where.host, self._where.port)
            await self._watch(wire)
            await wire.close(orderly=True)
        except TimeoutError:
            raise LinkError(f"no answer from {self._where.host}:{self._where.port} in {CONNECT_S:g} s") from None
        finally:
            await wire.close(orderly=False)

    async def _sign_on(self, wire: _Wire) -> None:
        """CONNECT and SUBSCRIBE; LinkError when the broker refuses, ends or answers something else."""
        where = self._where
        wire.write(packets.connect(f"hr{secrets.token_hex(8)}", KEEPALIVE_S, where.username, where.password))
        code = (await self._answer(wire, CONNACK, 2))[1]
        if code:
            raise LinkError(f"the broker refuses us: {packets.REFUSALS.get(code, f'code {code}')}")
        wire.write(packets.subscribe(1, self._subscriptions))
        codes = (await self._answer(wire, SUBACK, 2 + len(self._subscriptions)))[2:]
        refused = [topic for topic, code in zip(self._subscriptions, codes, strict=True) if code]
        if refused:
            raise LinkError(f"the broker refuses the subscription to {', '.join(refused)}: check its access list")

    async def _answer(self, wire: _Wire, kind: int, size: int) -> bytes:
        """The body of the next acknowledgement."""
        waiting = asyncio.ensure_future(wire.answers.get())
        try:
            await asyncio.wait((waiting, wire.ended), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                wire.ended.result()
                raise LinkError("the connection ended")
            got, body = waiting.result()
        finally:
            waiting.cancel()
        if got != kind or len(body) != size:
            raise LinkError(f"the broker answers {got:#04x} with {len(body)} bytes, not {kind:#04x} with {size}")
        return body

    async def _watch(self, wire: _Wire) -> None:
        """Probe; raise when nothing comes back for too long, return when stopped."""
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                if self._clock.now_s() - self._heard_s > SILENCE_S:
                    self._silent(SILENCE_S, self._probe.decode())
                wire.write(self._probe_packet)
                done, _ = await asyncio.wait(
                    (stopped, wire.ended), timeout=PROBE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if wire.ended in done:
                    wire.ended.result()
        finally:
            stopped.cancel()

    def deliver(self, messages: list[Message]) -> None:
        """Hand over what came; our own probes are left out."""
        if not messages:
            return
        self._heard_s = self._clock.now_s()
        if any(message[0] == self._probe for message in messages):
            messages = [message for message in messages if message[0] != self._probe]
        self.counters["received"] += len(messages)
        try:
            self._on_messages(messages)
        except Exception:
            self.counters["handler_errors"] += 1
            log.exception("%s: %d messages", self.name, len(messages))
