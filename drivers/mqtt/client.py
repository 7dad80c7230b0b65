"""One MQTT 3.1.1 session that lives for ever: bounded both ways, subscribed in one place, suspicious of silence."""

import asyncio
import logging
import math
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import aiomqtt

from drivers.clock import Clock
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.link import CONNECT_S, PROBE_S, SILENCE_S, Link
from drivers.supervise import Backoff

log = logging.getLogger(__name__)
_library_log = logging.getLogger("drivers.mqtt.library")
_library_log.setLevel(logging.CRITICAL)  # what the library warns of (pending calls, queues) is counted here

MAX_QUEUE = 4096
MAX_PACKET = 1 << 21  # [bytes] the longest that any handler reads is half of it; paho would take 256 MB
NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages in pairs would wait 40 ms for an ACK
BREATH = 50  # messages sent before other tasks get a turn

OnMessage = Callable[[str, bytes, bool], None]


def last_will(said: tuple[str, bytes], *, retain: bool) -> aiomqtt.Will:
    """A will at QoS 1 of (topic, payload)."""
    return aiomqtt.Will(*said, qos=1, retain=retain)


def _inbox(deliver: Callable[[aiomqtt.Message], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A queue type that hands each message over at once: nothing piles up, the socket is the bound."""

    class Inbox(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            deliver(item)

    return Inbox


class _Client(aiomqtt.Client):
    """Waits for a socket to become writable only while it is open.

    aiomqtt 2.5.1 asks one loop turn late by number; a publish that meets a dead connection would then watch a
    number that is closed, or already someone else's. How a connection ended is looked at once, so that no future
    complains at its end that nobody did. A packet that is too long ends the connection before it fills the memory.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for future in (self._connected, self._disconnected):
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        read: Callable[[int], bytes] = self._client._sock_recv

        def bounded(size: int) -> bytes:
            if size > MAX_PACKET:  # paho asks for a whole packet at once, and takes an OSError for a lost link
                raise OSError(f"a packet of {size} bytes")
            return read(size)

        self._client._sock_recv = bounded  # type: ignore[method-assign, assignment]

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)


class Session(Link):
    """Connects, subscribes, reconnects with back-off and jitter until stopped.

    `on_message(topic, payload, retained)` runs in the event loop as messages arrive and must be quick; what it
    raises is counted. `on_connect()` runs after every successful subscription. `probe_topic` is a topic of our own
    on which we hear ourselves: end-to-end proof of the broker, even when nobody else talks.
    `will()` gives the last will of each connection.
    """

    def __init__(
        self,
        where: Endpoint,
        clock: Clock,
        *,
        name: str,
        subscriptions: Sequence[str],
        on_message: OnMessage,
        on_connect: Callable[[], None] | None = None,
        probe_topic: str = "",
        max_queue: int = MAX_QUEUE,
        backoff: Backoff | None = None,
        will: Callable[[], aiomqtt.Will] | None = None,
    ) -> None:
        super().__init__(name, clock, (aiomqtt.MqttError,), backoff)
        self._where = where
        self._subscriptions = [*subscriptions, *([probe_topic] if probe_topic else [])]
        self._on_message = on_message
        self._on_connect = on_connect
        self._probe_topic = probe_topic
        self._will = will
        self._queue: deque[tuple[str, bytes, bool, int]] = deque()
        self._max_queue = max_queue
        self._filled = asyncio.Event()
        self._heard_s = -math.inf

    @property
    def queued(self) -> int:
        """Messages waiting to be sent."""
        return len(self._queue)

    async def stop(self) -> None:
        """Send what is queued, disconnect, and return when the session has ended."""
        self._stop.set()
        self._filled.set()
        await super().stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 0) -> bool:
        """Queue a message, never wait; False while the link is down. A full queue drops its oldest.

        QoS 1 is for rare messages: those behind it wait for its acknowledgement.
        """
        if not self.up:
            self.counters["refused_down"] += 1
            return False
        if len(self._queue) >= self._max_queue:
            self._queue.popleft()
            self.counters["dropped_oldest"] += 1
        self._queue.append((topic, payload, retain, qos))
        self._filled.set()
        return True

    def _went_down(self) -> None:
        self.counters["dropped_down"] += len(self._queue)
        self._queue.clear()

    def _client(self) -> aiomqtt.Client:
        return _Client(
            self._where.host,
            self._where.port,
            username=self._where.username,
            password=self._where.password,
            tls_context=self._where.tls_context(),
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=10,
            timeout=CONNECT_S,
            logger=_library_log,
            socket_options=[NO_DELAY],
            queue_type=_inbox(self._deliver),
            will=self._will() if self._will is not None else None,
        )

    async def _connected_life(self) -> None:
        """From connection to loss, or to `stop`."""
        async with self._client() as client:
            self._heard_s = self._clock.now_s()
            if self._subscriptions:
                await client.subscribe([(topic, 0) for topic in self._subscriptions])
            self.up, self.detail = True, ""
            log.info("%s: connected to %s:%d", self.name, self._where.host, self._where.port)
            if self._on_connect is not None:
                self._on_connect()
            jobs = [asyncio.create_task(job) for job in (self._lost(client), self._send(client), self._watch())]
            try:
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                for job in done:
                    job.result()
            finally:
                for job in jobs:
                    job.cancel()
                await asyncio.gather(*jobs, return_exceptions=True)

    async def _lost(self, client: aiomqtt.Client) -> None:
        """Raise when the connection ends; messages themselves go through the inbox."""
        async for _ in client.messages:
            self.counters["unexpected"] += 1

    async def _send(self, client: aiomqtt.Client) -> None:
        """Empty the queue; a blocked socket holds only this task. Returns when stopped and empty."""
        sent = 0
        while True:
            while self._queue:
                topic, payload, retain, qos = self._queue.popleft()
                await client.publish(topic, payload, qos=qos, retain=retain, timeout=SILENCE_S)
                self.counters["sent"] += 1
                sent += 1
                if sent % BREATH == 0:
                    await self._clock.sleep_until(self._clock.now_s())
            if self._stop.is_set():
                return
            self._filled.clear()
            await self._filled.wait()

    async def _watch(self) -> None:
        """Probe, and raise when nothing has come back for too long."""
        if not self._probe_topic:
            await self._stop.wait()
            return
        while True:
            now_s = self._clock.now_s()
            if now_s - self._heard_s > SILENCE_S:
                self._silent(SILENCE_S, self._probe_topic)
            self.publish(self._probe_topic, b"1")
            await self._clock.sleep_until(now_s + PROBE_S)

    def _deliver(self, message: aiomqtt.Message) -> None:
        self._heard_s = self._clock.now_s()
        topic = message.topic.value
        if topic == self._probe_topic:
            return
        self.counters["received"] += 1
        try:
            self._on_message(topic, message.payload, message.retain)
        except Exception:
            self.counters["handler_errors"] += 1
            log.exception("%s: message on %s", self.name, topic)
