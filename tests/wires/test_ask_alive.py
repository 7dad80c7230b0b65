"""Questions to a real controller of a real site of processes, through the command and the bare socket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from helpers_run import Process, Town

from controller import ask
from controller.answers import AskError

pytestmark = pytest.mark.usefixtures("warm_kernels")


async def test_a_running_site_answers_and_misses_no_beat(tmp_path: Path) -> None:
    async with Town(tmp_path) as town:
        await town.until(lambda: len(town.controller.lines) >= 8, 60)
        rack = town.site.racks[0].id
        where = ("--state", str(town.state))
        command = await town.start(Process("explain", str(town.path), rack, *where))
        outage = await town.start(Process("outage", str(town.path), "h1b1u1", *where))
        late, began = town.frame["late_cycles"], town.frame["cycle"]
        asked = [{"ask": "explain", "rack": rack}, {"ask": "bottlenecks"}, {"ask": "explain", "rack": "nobody"}]
        replies = await asyncio.gather(*(asyncio.to_thread(_ask, town.state, q) for q in asked * 5))
        assert all(x["source"].startswith("cycle ") for x in replies[:2])
        assert f"Rack {rack} may draw " in replies[0]["lines"][0]
        assert "no rack 'nobody'" in replies[2]["error"]
        assert await command.end() == 0, command.said
        assert await outage.end() == 0, outage.said
        await town.until(lambda: town.frame["cycle"] >= began + 5, 30)
        assert town.frame["late_cycles"] == late
        assert isinstance(town.frame["bottlenecks"], list)
    assert ask.ask(town.state, {"ask": "bottlenecks"}) is None  # killed: what it left answers nobody


def _ask(folder: Path, question: dict[str, str]) -> dict[str, Any]:
    try:
        return ask.ask(folder, question) or {"error": "nobody there"}
    except AskError as error:
        return {"error": str(error)}
