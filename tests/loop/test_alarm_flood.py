"""One feeder loss at `colossus` is a handful of alarms, the cause first, whatever number of devices it takes."""

from pathlib import Path
from typing import Any

import pytest

from controller.records import Records
from drivers.site.load import resolve_site
from sim.lab.lockstep import LockStep
from sim.plant.events import Scenario
from sim.scenarios import load_scenario

MOST = 10


def loss_at(at_s: float, kind: str) -> Scenario:
    """Full demand, and the loss of an element of a kind for a minute."""
    given = load_scenario("feed_out").model_dump(mode="json")
    for event in given["events"]:
        if event["do"] == "outage":
            event |= {"at_s": at_s, "for_s": 60.0, "kind": kind}
    return Scenario.model_validate(given)


@pytest.mark.parametrize("kind", ["utility_feed", "substation"])
def test_a_feeder_loss_at_colossus_raises_at_most_ten_alarms_the_cause_first(tmp_path: Path, kind: str) -> None:
    lock = LockStep(resolve_site("colossus"), loss_at(30.0, kind))
    records = Records(lock.plan, lock.wires.inventory, tmp_path, lock.clock, disk=False)
    listed: list[list[str]] = []
    shown: dict[str, Any] = {}
    for _ in range(120):
        frames, _ = lock.cycle()
        shown = records.told(frames, lock.wires.health(), 0, ()) or {}
        listed.append([x["id"] for x in shown["alarm_list"]])
    assert 1 <= shown["alarm_metrics"]["total"] <= MOST
    assert max(len(x) for x in listed) <= MOST
    assert all(x[0].startswith("element_lost/") for x in listed if x)
    assert [x["first_out"] for x in shown["alarm_list"]].index(True) == 0
    assert sum(x["first_out"] for x in shown["alarm_list"]) == 1
