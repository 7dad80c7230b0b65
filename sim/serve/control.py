"""A running plant's control socket: what can be made to happen to it, and doing it now. One JSON line in, one out.

It is local, mode 0600, and nobody but the plant's owner may open it.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sim.plant.base import PlantError
from sim.plant.events import PlantEvent, Scenario
from sim.plant.plant import Plant
from sim.scenarios import ScenarioError, load_scenario, scenario_names

LONGEST_LINE = 4096
WAIT_S = 5.0
SOON_S = 3.0  # from being asked to the first event

log = logging.getLogger(__name__)


class Control:
    """Lists scenarios and starts one in a running plant."""

    def __init__(self, path: Path, plant: Plant) -> None:
        self._path, self._plant = path, plant
        self._server: asyncio.Server | None = None
        self._started: list[dict[str, Any]] = []

    async def start(self) -> None:
        """Listen; OSError where the path does not do."""
        if self._path.is_socket():
            self._path.unlink()
        before = os.umask(0o177)
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.bind(str(self._path))
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=LONGEST_LINE)

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                async with asyncio.timeout(WAIT_S):
                    question = json.loads(await reader.readuntil(b"\n"))
                    reply = self._answer(question)
            except (ValueError, asyncio.LimitOverrunError, PlantError, ScenarioError) as error:
                reply = {"error": str(error)}
            writer.write(json.dumps(reply, separators=(",", ":")).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        answers: dict[object, Callable[[], dict[str, Any]]] = {
            "list": lambda: {"t_s": self._plant.t_s, "scenarios": _listed(), "started": self._started[-20:]},
            "start": lambda: self._start(str(question.get("scenario"))),
        }
        if not isinstance(question, dict) or question.get("do") not in answers:
            raise ValueError('give {"do": "list"} or {"do": "start", "scenario": name}')
        return answers[question["do"]]()

    def _start(self, name: str) -> dict[str, Any]:
        """Let what befalls the plant in a scenario befall it now, its first event at once."""
        if name not in scenario_names():
            raise ScenarioError(f"there is no scenario {name!r}")
        events = happening(load_scenario(name))
        if not events:
            raise ScenarioError(f"scenario {name} is of what a plant on real sockets cannot do")
        begin_s = self._plant.t_s + SOON_S - events[0].at_s
        moved = [e.model_copy(update={"at_s": e.at_s + begin_s}) for e in events]
        self._plant.director.add(moved)
        lasts_s = moved[-1].at_s - moved[0].at_s
        self._started.append({"scenario": name, "at_s": self._plant.t_s})
        log.warning("scenario %s starts: %s", name, ", ".join(e.do for e in moved))
        return {"scenario": name, "events": [e.do for e in moved], "first_in_s": SOON_S, "last_after_s": lasts_s}


def happening(scenario: Scenario) -> list[PlantEvent]:
    """The events of a scenario after its starting state, in order; of one that is only a state, that state."""
    ours = sorted((e for e in scenario.events if isinstance(e, PlantEvent)), key=lambda e: e.at_s)
    return [e for e in ours if e.at_s > 0.0] or ours


@cache
def _listed() -> list[dict[str, str]]:
    """Packaged scenarios in which something befalls the plant itself, not what controls it."""
    found = (load_scenario(name) for name in scenario_names())
    return [{"name": s.name, "title": s.title} for s in found if happening(s) and not s.needs_lab]
