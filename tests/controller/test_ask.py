"""Questions over a real socket: answered between cycles, and no client, however hostile, delays or ends anything."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_service import Rig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import ask as ask_module
from controller.answers import AskError
from controller.ask import CONNECTIONS, FILE, LONGEST_LINE, WAITING, Ask, ask
from drivers.clock import RealClock

ALWAYS_S = 10.0


def echo(question: Any) -> dict[str, Any]:
    """An answer that shows the question; some questions fail."""
    if question.get("ask") == "burst":
        raise RuntimeError("on fire")
    if question.get("ask") == "nan":
        return {"value": float("nan")}
    if question.get("ask") == "refuse":
        raise AskError("not that")
    return {"asked": question, "filler": "x" * int(question.get("size", 0))}


@asynccontextmanager
async def served(folder: Path, pumped: bool = True) -> AsyncIterator[Ask]:
    """A socket whose questions are answered all the time, or never."""
    server, clock = Ask(folder, echo), RealClock()
    await server.start()

    async def pump() -> None:
        while True:
            server.serve(ALWAYS_S)
            await clock.sleep_until(clock.now_s() + 0.002)

    task = asyncio.ensure_future(pump() if pumped else asyncio.Event().wait())
    try:
        yield server
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await server.stop()


async def send(folder: Path, data: bytes) -> Any:
    """What comes back for these bytes; None where the connection just ends."""
    reader, writer = await asyncio.open_unix_connection(str(folder / FILE), limit=1 << 24)
    try:
        writer.write(data)
        line = await reader.read(-1)
    finally:
        writer.close()
    return json.loads(line) if line else None


def asked(question: Any) -> bytes:
    return json.dumps(question).encode() + b"\n"


async def test_a_question_is_answered_on_its_own_connection(tmp_path: Path) -> None:
    async with served(tmp_path):
        got = await asyncio.gather(*(send(tmp_path, asked({"ask": str(i)})) for i in range(5)))
    assert [x["asked"]["ask"] for x in got] == ["0", "1", "2", "3", "4"]


async def test_the_socket_is_for_its_owner_only_and_goes_with_its_server(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert not (tmp_path / FILE).exists()
    before = os.umask(0o022)
    os.umask(before)
    assert before != 0o177  # ours is as it was


async def test_what_a_killed_controller_left_is_replaced(tmp_path: Path) -> None:
    first = Ask(tmp_path, echo)
    await first.start()
    async with served(tmp_path):
        assert await send(tmp_path, asked({"ask": "x"}))
    await first.stop()


@pytest.mark.parametrize("obstacle", ["file", "long", "absent"])
async def test_without_a_socket_it_is_said_and_nothing_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    folder = tmp_path / ("x" * 120 if obstacle == "long" else "y")
    if obstacle != "absent":
        folder.mkdir()
    if obstacle == "file":
        (folder / FILE).write_text("mine")
    async with served(folder):
        assert "questions cannot be asked" in caplog.text
    if obstacle == "file":
        assert (folder / FILE).read_text() == "mine"


HOSTILE = (
    b"\n",
    b"x" * (2 * LONGEST_LINE) + b"\n",
    b'{"ask": "' + b"y" * 70_000 + b'"}\n',
    b"\x00\xff\xfe\n",
    b"[1, 2]\n",
    b"null\n",
    b"[" * 4000 + b"\n",
    b'{"a":' * 800 + b"\n",
    b'{"ask": NaN}\n',
    b"1" * 4000 + b"\n",
    b'"\\ud800"\n',
)


@pytest.mark.parametrize("data", HOSTILE)
async def test_garbage_is_answered_with_words_or_not_at_all(tmp_path: Path, data: bytes) -> None:
    async with served(tmp_path):
        with suppress(ConnectionError):
            got = await send(tmp_path, data)
            assert got is None or "error" in got or "asked" in got
        assert await send(tmp_path, asked({"ask": "well"}))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_any_bytes_leave_the_server_as_it_was(tmp_path: Path, lines: list[bytes]) -> None:
    async def main() -> None:
        async with served(tmp_path):
            for data in lines:
                with suppress(ConnectionError):
                    await send(tmp_path, data + b"\n")
            assert await send(tmp_path, asked({"ask": "well"}))

    asyncio.run(main())


async def test_an_answer_that_fails_is_an_error_to_its_asker_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path):
        assert "RuntimeError" in (await send(tmp_path, asked({"ask": "burst"})))["error"]
        assert "error" in await send(tmp_path, asked({"ask": "nan"}))
        assert (await send(tmp_path, asked({"ask": "refuse"})))["error"] == "not that"
        assert await send(tmp_path, asked({"ask": "well"}))
    assert "on fire" in caplog.text


async def test_slow_clients_and_such_that_do_not_read_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_module, "ASK_S", 0.2)
    async with served(tmp_path) as server:
        mute = [await asyncio.open_unix_connection(str(tmp_path / FILE)) for _ in range(4)]
        mute[0][1].write(b'{"ask": ')
        mute[1][1].write(asked({"ask": "much", "size": 1 << 22}))  # never read
        assert (await send(tmp_path, asked({"ask": "well"})))["asked"] == {"ask": "well"}
        clock = RealClock()
        await clock.sleep_until(clock.now_s() + 0.6)
        assert server._clients == set()
        for _, writer in mute:
            writer.transport.abort()


async def test_more_connections_than_allowed_are_closed_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        crowd = [await asyncio.open_unix_connection(str(tmp_path / FILE)) for _ in range(CONNECTIONS + 20)]
        clock = RealClock()
        await clock.sleep_until(clock.now_s() + 0.1)
        assert len(server._clients) == CONNECTIONS
        closed = [reader.at_eof() for reader, _ in crowd]
        assert sum(closed) == 20
        for _, writer in crowd:
            writer.transport.abort()


async def test_questions_that_wait_are_bounded_and_none_fits_into_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_module, "ANSWER_S", 0.3)
    async with served(tmp_path, pumped=False) as server:
        sent = [asyncio.ensure_future(send(tmp_path, asked({"ask": str(i)}))) for i in range(WAITING + 5)]
        clock = RealClock()
        await clock.sleep_until(clock.now_s() + 0.1)
        assert not server.serve(0.0)
        got = [x["error"] for x in await asyncio.gather(*sent)]
        assert sum("too many" in x for x in got) == 5
        assert sum("too busy" in x for x in got) == WAITING
        assert not server.serve(ALWAYS_S)  # nobody waits for those any more


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    assert ask(tmp_path, {"ask": "x"}) is None
    assert ask(tmp_path / "none", {"ask": "x"}) is None
    assert ask(tmp_path / ("x" * 200), {"ask": "x"}) is None


def test_one_who_cannot_ask_is_not_told_that_nobody_is_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as first:
        sock.bind(str(tmp_path / FILE))
        sock.listen(0)
        first.connect(str(tmp_path / FILE))
        with pytest.raises(AskError, match="hangs or is stopped"):
            ask(tmp_path, {"ask": "x"})
        (tmp_path / FILE).chmod(0)
        with nobody(), pytest.raises(AskError, match="Permission denied; ask as the user"):
            ask(tmp_path, {"ask": "x"})


@contextmanager
def nobody() -> Iterator[None]:
    """Not root, to whom everything is open."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    import gc

    yield Rig(tmp_path)
    gc.unfreeze()


async def test_a_running_controller_answers_and_keeps_its_beat(rig: Rig) -> None:
    """Floods of questions and garbage, asked from threads, while it cycles."""
    found: list[Any] = []
    loop = asyncio.get_running_loop()

    def client(question: Any) -> None:
        for _ in range(10):
            try:
                found.append(ask(rig.folder, question))
            except AskError as error:
                found.append(str(error))

    questions = [{"ask": "explain", "rack": "r1"}, {"ask": "explain", "rack": "r9"}, {"ask": 3}, {"ask": "bottlenecks"}]
    rig.at(20, lambda: [loop.run_in_executor(None, client, q) for q in questions])

    async def flood() -> None:
        for data in HOSTILE * 3:
            with suppress(OSError):
                await send(rig.folder, data)

    task = asyncio.ensure_future(flood())
    await rig.run(400)
    await task
    assert np.diff(rig.building.read_at_s[:400]) == pytest.approx(np.ones(399))
    assert rig.frames[-1]["late_cycles"] == rig.frames[-1]["failed_cycles"] == 0
    explained = [x for x in found if isinstance(x, dict) and x["ask"] == "explain"]
    assert explained
    assert explained[0]["rack"] == "r1"
    assert explained[0]["source"].startswith("cycle ")
    assert any("no rack 'r9'" in x for x in found if isinstance(x, str))
    assert any("give one of" in x for x in found if isinstance(x, str))
    assert any(isinstance(x, dict) and x["ask"] == "bottlenecks" for x in found)
    assert not (rig.folder / FILE).exists()
