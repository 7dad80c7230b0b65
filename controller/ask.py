"""A local socket for questions: one JSON line in, one JSON line out, each on a connection of its own.

It lies in the site's state directory, mode 0600. Whoever asks may be slow, many or hostile: lines, questions that wait
and connections are bounded, and an answer is computed only in time that the cycle does not need.
"""

import asyncio
import json
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from controller.answers import AskError
from drivers.clock import perf_s

FILE = "ask.sock"
LONGEST_LINE = 4096
CONNECTIONS = 32
WAITING = 8
ASK_S = 5.0  # a client has this long to send its line, and to take each part of its answer
ANSWER_S = 10.0  # a question unanswered by then is given up
FIRST_S, MOST_S = 0.1, 0.5  # what an answer is thought to take: at first, and at most, or it would never be tried again

log = logging.getLogger(__name__)

Reply = dict[str, Any]


class Ask:
    """The server. `serve` answers one waiting question; the service calls it between cycles."""

    def __init__(self, folder: Path, answer: Callable[[Mapping[str, Any]], Reply]) -> None:
        self._path, self._answer = folder / FILE, answer
        self._waiting: deque[tuple[Mapping[str, Any], asyncio.Future[bytes]]] = deque()
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._longest_s = FIRST_S

    async def start(self) -> None:
        """Listen. Without a socket the controller runs all the same; the log says why there is none."""
        try:
            sock = listening(self._path)
            self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=LONGEST_LINE)
        except OSError as error:
            log.warning("questions cannot be asked: %s: %s", self._path, error.strerror or error)

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def serve(self, left_s: float) -> bool:
        """Answer one waiting question if that fits into `left_s` [s]; whether one was."""
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()  # given up
        if not self._waiting or left_s < self._longest_s:
            return False
        question, reply = self._waiting.popleft()
        began_s = perf_s()
        reply.set_result(self._reply(question))
        self._longest_s = min(max(0.9 * self._longest_s, perf_s() - began_s), MOST_S)
        return True

    def _reply(self, question: Mapping[str, Any]) -> bytes:
        try:
            return _encoded(self._answer(question))
        except AskError as error:
            return _encoded({"error": str(error)})
        except Exception as error:
            log.exception("a question could not be answered")
            return _encoded({"error": f"it could not be answered: {type(error).__name__}, see the controller's log"})

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CONNECTIONS:
            writer.close()
            return
        client = asyncio.ensure_future(self._client(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question, one answer; whatever a client does costs its own connection only."""
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits for the last byte
        try:
            writer.write(await self._one(reader))
            async with asyncio.timeout(ASK_S):
                await writer.drain()
            writer.close()
        except (OSError, asyncio.CancelledError):  # a timeout is an OSError
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(ASK_S):
                question = _decoded(await reader.readuntil(b"\n"))
        except asyncio.IncompleteReadError:
            return b""  # it left
        except (asyncio.LimitOverrunError, ValueError, RecursionError) as error:
            return _encoded({"error": f"no question: {error}; send one JSON object on a line of {LONGEST_LINE} bytes"})
        if len(self._waiting) >= WAITING:
            return _encoded({"error": "too many questions are waiting: ask again"})
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, reply))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await reply
        except TimeoutError:
            return _encoded({"error": "the controller is too busy to answer now"})


def ask(folder: Path, question: Mapping[str, Any]) -> Reply | None:
    """Ask the controller that runs on this state directory; None when none does. AskError when it gives no answer."""
    path = folder / FILE
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_S + ASK_S)
        try:
            sock.connect(str(path))
        except PermissionError as error:  # one may well run: that must not read as none
            raise AskError(f"{path}: {error.strerror}; ask as the user the controller runs as, or as root") from error
        except BlockingIOError as error:
            raise AskError("the controller takes no questions: it hangs or is stopped") from error
        except OSError:
            return None
        try:
            sock.sendall(json.dumps(question).encode() + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline()
            reply = json.loads(line)
        except (OSError, ValueError) as error:
            raise AskError("the controller gave no answer: it is busy or stopping") from error
    if not isinstance(reply, dict) or "error" in reply:
        raise AskError(reply["error"] if isinstance(reply, dict) else "the controller's answer makes no sense")
    return reply


def listens(folder: Path) -> bool:
    """Whether a controller takes questions on this state directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ASK_S)
        try:
            sock.connect(str(folder / FILE))
        except OSError as error:
            return isinstance(error, PermissionError | BlockingIOError)
    return True


def listening(path: Path) -> socket.socket:
    """A bound socket that only its owner may open, from its first moment; what a dead controller left goes."""
    if path.is_socket():
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _decoded(line: bytes) -> Mapping[str, Any]:
    question = json.loads(line)
    if not isinstance(question, dict):
        raise ValueError("not an object")
    return question


def _encoded(reply: Reply) -> bytes:
    return json.dumps(reply, separators=(",", ":"), allow_nan=False).encode() + b"\n"
