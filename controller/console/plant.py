"""The line to a simulated plant, where one is connected: which scenarios it knows, and starting one."""

import asyncio
import json
from pathlib import Path
from typing import Any

WAIT_S = 5.0
LONGEST = 1 << 20


class PlantError(RuntimeError):
    """The plant does not do it; the message says why."""


class PlantLine:
    """A simulated plant's control socket (`headroom sim --control`); without one nothing can be started."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def there(self) -> bool:
        """Whether a plant is connected."""
        return self._path is not None and self._path.is_socket()

    async def ask(self, **question: Any) -> dict[str, Any]:
        """{"do": "list"} or {"do": "start", "scenario": name}; PlantError where it cannot be done."""
        if self._path is None:
            raise PlantError("no simulated plant is connected: this console watches a building")
        try:
            async with asyncio.timeout(WAIT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LONGEST)
                try:
                    writer.write(json.dumps(question).encode() + b"\n")
                    reply = json.loads(await reader.readline())
                finally:
                    writer.transport.abort()
        except (OSError, ValueError) as error:
            raise PlantError(f"the simulated plant does not answer: {error}") from error
        if "error" in reply:
            raise PlantError(str(reply["error"]))
        return dict(reply)
