"""Broker, plant and controller as real processes on real sockets: kill -9 of each, and what happens then."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers_programs import need_program
from helpers_run import DECAY_S, TTL_S, Town

from controller import acts
from drivers.clock import RealClock


def over(lines: list[dict[str, Any]], envelope_w: float) -> int:
    return sum(line["site_peak_w"] > envelope_w for line in lines)


def alive(town: Town) -> bool:
    """The controller knows every rack and nothing is silent."""
    frame = town.frame
    known: bool = frame["racks_known"] == frame["racks"] and all(link["up"] for link in frame["links"])
    return known


@pytest.mark.timeout(180)
async def test_death_of_the_controller_in_a_curtailment_and_its_return(tmp_path: Path) -> None:
    async with Town(tmp_path) as town:
        await town.until(lambda: alive(town), 30)
        asked_w = 4.5e6
        folder = acts.state_dir(town.site, town.state)
        acts.append(folder, town.site, RealClock(), "test", "", {"act": "envelope", "mw": asked_w / 1e6})
        await town.until(lambda: town.frame["envelope_w"] == asked_w, 60)
        await town.wait(3)
        await town.controller.kill()
        await town.wait(1.2)  # what it sent before its death arrives, and the truth of that second
        before_w, marked = town.truth["cap_w"], len(town.plant.lines)
        await town.wait(TTL_S + DECAY_S + 3.0)
        gone = town.plant.lines[marked:]
        caps_w = [line["cap_w"] for line in gone]
        assert caps_w[0] <= before_w + 1.0
        assert all(b <= a + 1.0 for a, b in pairwise(caps_w))
        assert over(gone, asked_w) == 0
        marked = len(town.plant.lines)
        await town.restart_controller()
        await town.until(lambda: bool(town.controller.lines), 30)
        first = town.controller.lines[0]
        assert abs(first["caps_w"] - caps_w[-1]) <= 0.02 * caps_w[-1]
        assert first["envelope_w"] <= town.site.control.envelope_w
        await town.until(lambda: alive(town) and town.truth["cap_w"] > caps_w[-1], 40)
        await town.until(lambda: town.frame["envelope_w"] == asked_w, 5)
        await town.wait(5)
        assert over(town.plant.lines[marked:], asked_w) == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
async def test_death_of_the_broker_stops_no_cycle_and_all_recovers(tmp_path: Path, kind: Any) -> None:
    if kind == "mosquitto":
        need_program("mosquitto", "mosquitto")
    async with Town(tmp_path, kind=kind) as town:
        await town.until(lambda: alive(town), 30)
        caps_w, marked, cycles = town.truth["cap_w"], len(town.plant.lines), len(town.controller.lines)
        town.broker.kill()
        await town.until(lambda: not alive(town), 15)
        await town.wait(TTL_S + DECAY_S)
        frames, truths = town.controller.lines[cycles:], town.plant.lines[marked:]
        assert len(frames) >= len(truths) - 2
        assert frames[-1]["late_cycles"] == frames[0]["late_cycles"]
        assert truths[-1]["cap_w"] <= caps_w
        assert over(truths, town.site.control.envelope_w) == 0
        safe_w = truths[-1]["cap_w"]
        town.broker.start()
        await town.until(lambda: alive(town) and town.truth["cap_w"] > safe_w, 40)


FAULTS = """
name: faults
title: Twenty PDUs silent and ten frozen, a gateway and a meter dead, a CDU at its sentinel, all at once
events:
  - {do: training, to: 1.0}
  - {do: training, depth: 0.3, period_s: 3}
  - {do: inference, to: 0.9}
  - {do: device_fault, at_s: 12, for_s: 14, measures: pdu, how: silent, count: 20}
  - {do: device_fault, at_s: 12, for_s: 14, measures: cdu, how: sentinel}
  - {do: device_fault, at_s: 12, for_s: 14, measures: meter, how: silent}
  - {do: gateway_silent, at_s: 12, for_s: 14}
"""


@pytest.mark.timeout(180)
async def test_dead_and_lying_devices_slow_nothing_and_all_recovers(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(FAULTS, encoding="utf-8")
    async with Town(tmp_path, scenario=str(file)) as town:
        await town.until(lambda: alive(town), 14)
        await town.until(lambda: town.truth["t_s"] > 22, 60)
        ill = town.frame
        assert ill["points"]["stale"] >= 20 * 6
        assert ill["points"]["bad"] > 0
        assert ill["racks_known"] <= ill["racks"] - 20
        assert ill["late_cycles"] == town.controller.lines[0]["late_cycles"]
        assert ill["jitter_ms_p99"] < 100.0
        assert any("silent" in alarm for alarm in ill["alarms"])
        await town.until(lambda: town.truth["t_s"] > 27, 30)
        await town.until(lambda: alive(town) and town.frame["points"]["stale"] == 0, 60)
        assert over(town.plant.lines, town.site.control.envelope_w) == 0


@pytest.mark.timeout(180)
async def test_a_second_copy_says_what_is_taken(tmp_path: Path) -> None:
    async with Town(tmp_path) as town:
        second = town.new_controller()
        await second.start()
        assert await second._process.wait() == 1
        plant = type(town.plant)("sim", str(town.path), "--json")
        await plant.start()
        assert await plant._process.wait() == 1
        assert town.controller._process.returncode is None
