"""Journal, history, alarms and report of a real site over real wires, through a kill in the middle of it."""

import asyncio
import json
import signal
from pathlib import Path

from helpers_run import Process, Town

from controller import acts, history_query
from controller.journal import open_read, verify
from drivers.clock import RealClock


async def said(*args: str) -> tuple[int, str]:
    """Exit status of one of our commands and what it complained of."""
    process = Process(*args)
    await process.start()
    return await process.end(60.0), process.said


async def test_what_happened_is_there_after_a_kill_and_the_report_tells_it(tmp_path: Path) -> None:
    clock = RealClock()
    began_ms = clock.wall_ms()
    async with Town(tmp_path) as town:
        rack = town.site.racks[0].id

        def act(**what: object) -> None:
            acts.append(town.state, town.site, clock, "ann", "drill", what)

        act(act="hold", rack=rack)
        act(act="mode", mode="hold")
        await town.until(lambda: any(a["id"] == "mode/site" for a in town.frame["alarm_list"]), 20)
        act(act="ack", alarm="mode/site")
        act(act="shelve", alarm="points_bad/site", for_s=600)
        await town.until(lambda: "acknowledged" in [a["state"] for a in town.frame["alarm_list"]], 20)
        await town.until(lambda: town.frame["alarms_aside"], 20)
        await town.until((town.state / "alarms.json").exists, 20)
        await town.wait(1.5)
        await town.controller.kill(signal.SIGKILL)
        assert verify(town.state).problems == ()
        await town.restart_controller()
        await town.until(lambda: town.controller.lines, 60)
        mine = {a["id"]: a for a in town.frame["alarm_list"]}
        assert mine["mode/site"]["state"] == "acknowledged"
        assert mine["mode/site"]["acked_by"] == "ann"
        assert [a["id"] for a in town.frame["alarms_aside"]] == ["points_bad/site"]
        await town.wait(3.0)
        assert await town.controller.kill(signal.SIGTERM) == 0
    entries = list(open_read(town.state).entries())
    kinds = [e.kind for e in entries]
    assert kinds.count("start") == 2
    assert kinds[-1] == "stop"
    assert sorted(json.loads(e.body)["act"] for e in entries if e.kind == "act") == ["ack", "hold", "mode", "shelve"]
    assert kinds.count("orders") > 8
    assert verify(town.state).problems == ()
    feed = next(d for d in town.site.devices if d.measures == town.site.nodes[0].id)
    found = history_query.query(town.state, f"{feed.id}.power_w", began_ms, clock.wall_ms() + 1000)
    assert len(found.t_ms) > 8
    assert found.mean[-1] > 1e5
    place = ("--state", str(town.state))
    out = tmp_path / "report.html"
    status, complaint = await said("report", str(town.path), "--from", "-10m", "--out", str(out), *place)
    assert (status, complaint) == (0, "")
    page = await asyncio.to_thread(out.read_text)
    for word in (
        "The journal is whole",
        "Within the envelope",
        "mode/site",
        "ann",
        "drill",
        f"rack={rack}",
        "Feeds, MW",
    ):
        assert word in page
    assert "<script" not in page
    assert "http" not in page
    assert (await said("journal", "verify", str(town.path), *place))[0] == 0
