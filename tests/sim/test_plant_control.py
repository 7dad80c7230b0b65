"""A running plant's control socket: what befalls it is told, started, and refused where it means nothing."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from sim.plant.plant import Plant
from sim.scenarios import load_scenario
from sim.serve.control import SOON_S, Control, happening

pytestmark = pytest.mark.usefixtures("warm_kernels")


async def ask(path: Path, line: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line + b"\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return json.loads(answer)


async def test_a_scenario_started_now_befalls_the_running_plant(tmp_path: Path) -> None:
    site, path = resolve_site("hall"), tmp_path / "plant.sock"
    plant = Plant(site, load_profiles(), load_scenario("nameplate"), 1)
    for _ in range(8):
        plant.step()
    control = Control(path, plant)
    await control.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = await ask(path, b'{"do": "list"}')
    names = {s["name"] for s in listed["scenarios"]}
    assert {"ups_out", "pump_out", "surge"} <= names
    assert "controller_death" not in names  # that befalls the controller, not the plant
    told = await ask(path, b'{"do": "start", "scenario": "ups_out"}')
    assert told["events"] == ["outage"]
    ups = [i for i, n in enumerate(site.nodes) if n.kind == "ups"]
    assert plant.elec.in_service[ups].all()
    for _ in range(round((SOON_S + 1.0) * 4)):
        plant.step()
    assert (~plant.elec.in_service[ups]).sum() == 1
    assert site.nodes[ups[int((~plant.elec.in_service[ups]).argmax())]].id in plant.director.faulted
    for bad in (b"", b"x", b"[]", b'{"do": "stop"}', b'{"do": "start"}', b'{"do": "start", "scenario": "../x"}'):
        assert "error" in await ask(path, bad)
    await control.stop()
    assert not path.exists()


def test_what_happens_is_what_comes_after_the_starting_state() -> None:
    assert [e.do for e in happening(load_scenario("feed_out"))] == ["outage"]
    assert {e.do for e in happening(load_scenario("nameplate"))} <= {"training", "inference"}
