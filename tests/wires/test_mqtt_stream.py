"""The lean subscriber against real brokers that crash, freeze or refuse, and against one that talks nonsense."""

import asyncio
import os
import random
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from helpers_mqtt import BROKERS, CLOCK, open_broker, until
from helpers_programs import need_program

import drivers.mqtt.stream
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.packets import Message, publish
from drivers.mqtt.stream import LONGEST, Stream
from drivers.supervise import Backoff
from sim.lab.broker import Broker, Kind

CONNACK, SUBACK = b"\x20\x02\0\0", b"\x90\x04\0\x01\0\0"
QUICK = Backoff(first_s=0.01, longest_s=0.05)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    kind: Kind = request.param
    with open_broker(kind) as running:
        yield running


@asynccontextmanager
async def listening(where: Endpoint, got: list[Message], up: bool = True) -> AsyncIterator[Stream]:
    """A stream on `t/#` into a list."""
    stream = Stream(
        where, CLOCK, name="t", subscriptions=["t/#"], on_messages=got.extend, probe_topic="probe/t", backoff=QUICK
    )
    stream.start()
    try:
        if up:
            await until(lambda: stream.up)
        yield stream
    finally:
        await stream.stop()


async def shout(broker: Broker, topic: str, payload: bytes, *options: str) -> None:
    """Publish with Mosquitto's own client."""
    program = need_program("mosquitto_pub", "mosquitto-clients")
    command = (program, "-p", str(broker.port), "-t", topic, "-s", *options)
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    await process.communicate(payload)
    assert process.returncode == 0


async def test_it_hears_others_and_finds_a_broker_that_crashed_again(broker: Broker) -> None:
    got: list[Message] = []
    await shout(broker, "t/kept", b"old", "-r")
    async with listening(Endpoint("127.0.0.1", broker.port), got) as stream:
        await until(lambda: got == [(b"t/kept", b"old", True)])
        await shout(broker, "t/x", b"new")
        await until(lambda: got[-1] == (b"t/x", b"new", False))
        broker.kill()
        await until(lambda: not stream.up)
        broker.start()
        await until(lambda: stream.up)
        await shout(broker, "t/y", b"again")
        await until(lambda: got[-1] == (b"t/y", b"again", False))
        assert stream.counters["reconnects"] >= 1


async def test_a_broker_that_freezes_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers.mqtt.stream, "SILENCE_S", 1.0)
    monkeypatch.setattr(drivers.mqtt.stream, "PROBE_S", 0.2)
    with open_broker("nats") as broker:
        async with listening(Endpoint("127.0.0.1", broker.port), []) as stream:
            await asyncio.wait_for(asyncio.shield(CLOCK.sleep_until(CLOCK.now_s() + 1.5)), 5)
            assert stream.counters["silences"] == 0, "its own probes keep it alive"
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                await until(lambda: stream.counters["silences"] == 1 and not stream.up)
                assert stream.detail.startswith("nothing received for 1 s; ")
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            await until(lambda: stream.up)


async def test_a_huge_message_costs_nothing_and_the_next_one_comes() -> None:
    got: list[Message] = []
    with open_broker("mosquitto") as broker:
        async with listening(Endpoint("127.0.0.1", broker.port), got) as stream:
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            program = need_program("mosquitto_pub", "mosquitto-clients")
            shell = f"head -c 40000000 /dev/zero | {program} -p {broker.port} -t t/huge -s"
            process = await asyncio.create_subprocess_shell(shell)
            await process.wait()
            await shout(broker, "t/x", b"after")
            await until(lambda: got == [(b"t/x", b"after", False)], 60)
            assert stream.counters["oversized"] == 1
            assert stream.counters["reconnects"] == 0
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 8_000


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_wrong_password_is_said(kind: Kind) -> None:
    with open_broker(kind, "plant", "s3cret") as broker:
        async with listening(Endpoint("127.0.0.1", broker.port, "plant", "s3cret"), []) as stream:
            assert stream.detail == ""
        async with listening(Endpoint("127.0.0.1", broker.port, "plant", "wrong"), [], up=False) as stream:
            await until(lambda: stream.counters["reconnects"] > 2)
            assert "refuses us" in stream.detail
            assert not stream.up


@asynccontextmanager
async def script(*answers: bytes) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that says `answers`, the first after CONNECT, the others after SUBSCRIBE; its port, and connections."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        try:
            await reader.read(100)
            writer.write(answers[0])
            await reader.read(100)
            for answer in answers[1:]:
                for i in range(0, len(answer), 1 if len(answer) < 1000 else 10_000):
                    writer.write(answer[i : i + (1 if len(answer) < 1000 else 10_000)])
                    await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


async def test_a_byte_at_a_time_is_read() -> None:
    got: list[Message] = []
    stream_bytes = SUBACK + b"".join(publish(f"t/{i}", b"x" * i) for i in range(20))
    async with script(CONNACK, stream_bytes) as (port, _), listening(Endpoint("127.0.0.1", port), got):
        await until(lambda: len(got) == 20)
    assert got == [(f"t/{i}".encode(), b"x" * i, False) for i in range(20)]


@pytest.mark.parametrize(
    "answers",
    [
        (b"",),
        (b"\x20\x02\0\x05",),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (b"\x20\x00",),
        (CONNACK, b"\x90\x04\0\x01\x80\0"),
        (CONNACK, b"\x90\x02\0\x01"),
        (CONNACK, SUBACK, b"\x32\x06\0\x01a\0\x01x"),
        (CONNACK, SUBACK, b"\x30\xff\xff\xff\xff\xff"),
        (CONNACK, SUBACK, b"\x30\x02\x00\x09"),
    ],
)
async def test_nonsense_ends_the_connection_and_never_the_link(
    answers: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drivers.mqtt.stream, "CONNECT_S", 0.2)
    got: list[Message] = []
    async with script(*answers) as (port, connections), listening(Endpoint("127.0.0.1", port), got, up=False) as stream:
        await until(lambda: len(connections) > 3)
        assert stream.detail
    assert got == []
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_ten_million_bytes_of_noise_end_in_reconnects_and_flat_memory() -> None:
    noise = random.Random(1).randbytes(10_000_000)
    got: list[Message] = []
    async with (
        script(CONNACK, SUBACK, noise) as (port, connections),
        listening(Endpoint("127.0.0.1", port), got, up=False),
    ):
        await until(lambda: bool(connections))
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await until(lambda: len(connections) > 5)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 8_000


async def test_a_declared_endless_packet_is_skipped_not_kept() -> None:
    got: list[Message] = []
    head = b"\x30" + bytes((0x80 | (n & 0x7F)) if i < 3 else n for i, n in enumerate((0, 0, 0, 2)))  # 4 MiB
    packet = head + b"\x00\x01t" + bytes((2 << 21) - 3)
    async with (
        script(CONNACK, SUBACK, packet + publish("t/x", b"after")) as (port, _),
        listening(Endpoint("127.0.0.1", port), got) as stream,
    ):
        await until(lambda: got == [(b"t/x", b"after", False)])
        assert stream.counters["oversized"] == 1
        assert len(packet) > 60 * LONGEST
