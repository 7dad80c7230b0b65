"""Broker, plant and controller as real processes on real sockets: kill -9 of each, and what happens then."""

import asyncio
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_programs import need_program
from helpers_run import DECAY_S, TTL_S, Town

from controller import acts
from drivers.clock import RealClock
from sim.lab.broker import Kind

pytestmark = pytest.mark.usefixtures("warm_kernels")


def over(lines: list[dict[str, Any]], envelope_w: float) -> int:
    return sum(line["site_peak_w"] > envelope_w for line in lines)


def alive(town: Town) -> bool:
    """The controller knows every rack and nothing is silent."""
    frame = town.frame
    known: bool = frame["racks_known"] == frame["racks"] and frame["wires_down"] == 0
    return known


async def restart_within_a_lease(town: Town) -> None:
    """No bump up, none down, and nothing shed for what the new one does not know yet."""
    before_w, marked = town.truth["cap_w"], len(town.plant.lines)
    await town.controller.kill()
    await town.restart_controller()
    await town.until(lambda: len(town.controller.lines) >= 4, 30)
    caps_w = [line["cap_w"] for line in town.plant.lines[marked:]]
    assert caps_w == pytest.approx([before_w] * len(caps_w), rel=0.02)


def keeps_pace(frames: list[dict[str, Any]], seconds: int) -> None:
    """A cycle a second and in time; one that waited for a dead device would be late every time."""
    assert len(frames) >= 0.9 * seconds - 2
    assert np.median([f["jitter_ms"] for f in frames]) < 100.0
    assert frames[-1]["late_cycles"] - frames[0]["late_cycles"] <= 0.1 * seconds


@pytest.mark.timeout(180)
async def test_death_of_the_controller_in_a_curtailment_and_its_return(tmp_path: Path) -> None:
    async with Town(tmp_path, ramp_down_w_per_s=4e5) as town:
        await town.until(lambda: alive(town), 30)
        asked_w = 4.9e6
        folder = acts.state_dir(town.site, town.state)
        acts.append(folder, town.site, RealClock(), "test", "", {"act": "envelope", "mw": asked_w / 1e6})
        await town.until(lambda: town.frame["envelope_w"] == asked_w, 60)
        await town.wait(3)
        await restart_within_a_lease(town)
        await town.until(lambda: alive(town) and town.frame["envelope_w"] == asked_w, 20)
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
        await town.wait(3.0)
        taken_w = [line["cap_w"] for line in town.plant.lines[marked:]]
        assert taken_w == pytest.approx([caps_w[-1]] * len(taken_w), rel=0.02)
        assert town.controller.lines[0]["envelope_w"] <= town.site.control.envelope_w
        await town.until(lambda: alive(town) and town.truth["cap_w"] > caps_w[-1], 40)
        await town.until(lambda: town.frame["envelope_w"] == asked_w, 5)
        await town.wait(3)
        assert over(town.plant.lines[marked:], asked_w) == 0


@pytest.mark.timeout(180)
async def test_death_of_the_broker_stops_no_cycle_and_all_recovers(tmp_path: Path) -> None:
    """With both kinds of broker, at the same time on ports of their own: most of it is waiting."""
    async with asyncio.TaskGroup() as group:
        group.create_task(death_of_the_broker(tmp_path / "nats", "nats"))
        if shutil.which("mosquitto"):
            group.create_task(death_of_the_broker(tmp_path / "mosquitto", "mosquitto"))
    need_program("mosquitto", "mosquitto")


async def death_of_the_broker(folder: Path, kind: Kind) -> None:
    async with Town(folder, kind=kind) as town:
        await town.until(lambda: alive(town), 30)
        caps_w, marked, cycles = town.truth["cap_w"], len(town.plant.lines), len(town.controller.lines)
        town.broker.kill()
        await town.until(lambda: not alive(town), 15)
        await town.wait(TTL_S + DECAY_S)
        frames, truths = town.controller.lines[cycles:], town.plant.lines[marked:]
        keeps_pace(frames, len(truths))
        assert truths[-1]["cap_w"] <= caps_w
        assert over(truths, town.site.control.envelope_w) == 0
        safe_w = truths[-1]["cap_w"]
        town.broker.start()
        await town.until(lambda: alive(town) and town.truth["cap_w"] > safe_w, 40)


BEGIN_S, END_S = 14, 29
FAULTS = f"""
name: faults
title: Twenty PDUs silent and thirty frozen, a gateway and a meter dead, a CDU at its sentinel, all at once
events:
  - {{do: training, to: 1.0}}
  - {{do: training, depth: 0.3, period_s: 3}}
  - {{do: inference, to: 0.9}}
  - {{do: device_fault, at_s: {BEGIN_S}, for_s: {END_S - BEGIN_S}, measures: pdu, how: silent, count: 20}}
  - {{do: device_fault, at_s: {BEGIN_S}, for_s: {END_S - BEGIN_S}, measures: pdu, how: frozen, count: 30}}
  - {{do: device_fault, at_s: {BEGIN_S}, for_s: {END_S - BEGIN_S}, measures: cdu, how: sentinel}}
  - {{do: device_fault, at_s: {BEGIN_S}, for_s: {END_S - BEGIN_S}, measures: meter, how: silent}}
  - {{do: gateway_silent, at_s: {BEGIN_S}, for_s: {END_S - BEGIN_S}}}
"""


@pytest.mark.timeout(180)
async def test_dead_and_lying_devices_slow_nothing_and_all_recovers(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(FAULTS, encoding="utf-8")
    async with Town(tmp_path, scenario=str(file)) as town:
        await town.until(lambda: alive(town), BEGIN_S)
        assert town.truth["t_s"] < BEGIN_S
        await town.until(lambda: town.truth["t_s"] >= BEGIN_S, 60)
        marked = len(town.controller.lines)
        await town.until(lambda: town.truth["t_s"] >= END_S - 2, 60)
        ill = town.frame
        assert ill["points"]["stale"] >= 20 * 6
        assert ill["points"]["bad"] > 0
        assert ill["points"]["suspect"] > 0
        assert ill["racks_known"] <= ill["racks"] - 20
        assert any("silent" in alarm for alarm in ill["alarms"])
        keeps_pace(town.controller.lines[marked:], END_S - 2 - BEGIN_S)
        await town.until(lambda: town.truth["t_s"] > END_S, 30)
        await town.until(lambda: alive(town) and town.frame["points"]["stale"] == 0, 60)
        assert over(town.plant.lines, town.site.control.envelope_w) == 0


@pytest.mark.timeout(180)
async def test_a_second_copy_says_what_is_taken(tmp_path: Path) -> None:
    async with Town(tmp_path) as town:
        second = await town.start(town.new_controller())
        assert await second.end() == 1
        assert f"process {town.controller.pid}," in second.said
        plant = await town.start(town.new_plant())
        assert await plant.end() == 1
        ports = {str(g.port) for g in town.site.gateways} | {str(d.port) for d in town.site.devices if d.port}
        assert "is taken" in plant.said
        assert any(port in plant.said for port in ports)
        assert town.controller.running
        assert town.plant.running
        town.plant.stop_reading()  # readers that go away end nothing either
        town.controller.stop_reading()
        await town.wait(2.5)
        assert town.plant.running
        assert town.controller.running
