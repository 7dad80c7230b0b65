"""Questions to the running controller from the console's event loop (the socket of controller/ask.py)."""

import asyncio
import json
from pathlib import Path
from typing import Any

FILE = "ask.sock"  # controller.ask.FILE, whose imports a console does not need
WAIT_S = 16.0
LONGEST = 64 << 20
AT_ONCE = 4  # a controller takes few questions at a time, and other askers have a right too


class NoAnswerError(RuntimeError):
    """No controller answers; the message says why."""


class RefusedError(ValueError):
    """The controller has an answer, and it is no."""


class Asker:
    """Asks the controller of one state directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def ask(self, **question: Any) -> dict[str, Any]:
        """The answer; NoAnswerError where none comes, RefusedError where the controller says no."""
        try:
            async with self._turn, asyncio.timeout(WAIT_S):
                reply = await self._exchange(question)
        except TimeoutError:
            raise NoAnswerError("the controller is busy: ask again in some seconds") from None
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"the controller does not answer: {error}") from error
        if "error" in reply:
            raise RefusedError(str(reply["error"]))
        return reply

    async def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LONGEST)
        try:
            writer.write(json.dumps(question).encode() + b"\n")
            reply = json.loads(await reader.readline())
        finally:
            writer.transport.abort()
        if not isinstance(reply, dict):
            raise ValueError("its answer makes no sense")
        return reply
