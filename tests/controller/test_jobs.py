"""Jobs that schedulers tell of: other gangs and classes between two cycles, and nothing else that moves."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_console import Cycles, hall
from helpers_service import Rig

from controller import alarms, answers, form, jobs, told
from controller.frames import JobTold
from controller.plan import Plan

pytestmark = pytest.mark.usefixtures("warm_kernels")
ENTRY = {"racks": ["r1", "r2"], "priority": 2, "gang": True, "tenant": "", "flexible": False}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield Rig(tmp_path)
    gc.unfreeze()


@pytest.fixture(scope="module")
def cycles() -> Cycles:
    return hall()


def test_the_racks_of_a_told_gang_are_one_and_of_its_priority(cycles: Cycles) -> None:
    racks = tuple(r.id for r in cycles.site.racks[10:14])
    plan = jobs.with_jobs(cycles.plan, (JobTold("llm", racks, priority=0),), {})
    gangs = plan.gang_of[10:14]
    assert len(set(gangs)) == 1
    assert plan.gang_class[gangs[0]] == 0
    assert (np.bincount(plan.gang_of)[gangs[0]]) == 4
    single = jobs.with_jobs(cycles.plan, (JobTold("serve", racks, gang=False),), {})
    assert len(set(single.gang_of[10:14])) == 4
    back = jobs.with_jobs(cycles.plan, (), {})
    assert np.array_equal(back.gang_of, cycles.plan.gang_of)
    assert np.array_equal(back.gang_class, cycles.plan.gang_class)


def test_a_flexible_job_stands_right_behind_the_others_of_its_priority(cycles: Cycles) -> None:
    names = [r.id for r in cycles.site.racks]
    stiff, soft, late = (
        JobTold("a", tuple(names[:2]), priority=1), JobTold("b", tuple(names[2:4]), priority=1, flexible=True),
        JobTold("c", tuple(names[4:6]), priority=2),
    )  # fmt: skip
    plan = jobs.with_jobs(cycles.plan, (stiff, soft, late), {})
    first, second, third = (plan.gang_class[plan.gang_of[i]] for i in (0, 2, 4))
    assert first < second < third


def test_a_file_that_makes_no_sense_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    site = rig.bench.site
    reader = told.Told(tmp_path, site)
    assert reader.poll() == ()
    told.write(tmp_path, {"j": {"id": "j", **ENTRY}, "gone": {"id": "gone", **ENTRY, "racks": ["nowhere"]}})
    good = (JobTold("j", ("r1", "r2"), priority=2),)
    assert reader.poll() == good
    no_number, endless = (json.dumps({"j": {"id": "j", **ENTRY, "priority": p}}) for p in ("x", float("inf")))
    for text in ("", "[]", "{}x", '{"j": 3}', '{"j": {"id": "j"}}', no_number, endless, "[" * 100_000):
        (tmp_path / told.FILE).write_text(text)
        assert reader.poll() == good
    told.write(tmp_path, {})
    assert reader.poll() == ()


async def test_a_running_controller_takes_jobs_and_priorities_up_without_a_bump(rig: Rig) -> None:
    """A job comes, then another priority for it: cycles go on, no cap jumps, and the frame names the job."""
    rig.at(20, lambda: told.write(rig.folder, {"llm": {"id": "llm", **ENTRY}}))
    rig.at(30, lambda: told.write(rig.folder, {"llm": {"id": "llm", **ENTRY, "priority": 5, "flexible": True}}))
    await rig.run(45)
    assert rig.frames[-1]["failed_cycles"] == 0
    assert len(rig.frames) >= 44
    caps_w = np.array([f["caps_w"] for f in rig.frames[10:44]])
    assert np.abs(np.diff(caps_w)).max() < 0.05 * caps_w.max()
    names = [{j["id"] for j in f["jobs"]} for f in rig.frames]
    assert not any("llm" in n for n in names[:19])
    assert all("llm" in n for n in names[22:44])


async def test_alarms_and_predictions_speak_of_the_told_jobs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    worlds: list[answers.World] = []
    found = alarms.findings

    def seen(plan: Plan, *rest: Any) -> Any:
        plans.append(plan)
        return found(plan, *rest)

    monkeypatch.setattr(alarms, "findings", seen)
    monkeypatch.setattr(answers, "answer", lambda world, _: worlds.append(world))
    told.write(rig.folder, {"llm": {"id": "llm", **ENTRY, "flexible": True}})
    rig.at(20, lambda: rig.service._answer({}))
    await rig.run(25)
    assert "llm" in {r.job for r in plans[-1].site.racks}
    assert [job.id for job in worlds[0].asked.jobs] == ["llm"]


async def test_who_reads_the_tap_gets_the_new_tables(rig: Rig) -> None:
    sent: list[bytes] = []
    rig.service._tap._make_sheet = lambda: sent.append(b"") or b"new"  # type: ignore[func-returns-value]
    rig.at(5, lambda: told.write(rig.folder, {"llm": {"id": "llm", **ENTRY}}))
    await rig.run(8)
    assert len(sent) == 2  # at the start, and when the jobs changed
    assert form.message(form.SHEET, b"new")[-3:] == b"new"
