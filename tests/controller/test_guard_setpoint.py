"""Set-points: who may ask, what the guard lets through, and that nothing is written but in LIVE."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_service import Rig
from helpers_site import tiny_site
from hypothesis import given
from hypothesis import strategies as st

from controller import act_kinds, acts
from controller.acts import Acts
from controller.frames import Mode, Requests
from controller.guard_setpoint import check, refusal
from controller.plan import Plan, compile_plan
from drivers.clock import VirtualClock
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles
from drivers.wires import SetpointCommand
from sim.lab.lockstep import LockStep
from sim.plant.events import Scenario

SITE = tiny_site()
PLAN: Plan = compile_plan(SITE, compile_inventory(SITE, load_profiles()))
COLD = SetpointCommand("c1", "supply_target_c", 38.0)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (replace(COLD, device="nobody"), "no device nobody"),
        (replace(COLD, device="loop1"), "no device loop1 on Modbus"),
        (replace(COLD, point="flow_lpm"), "no writable point flow_lpm"),
        (replace(COLD, value=-300.0), "is outside"),
        (replace(COLD, value=float("nan")), "is outside"),
        (replace(COLD, value=46.0), "warmer than the 45 C that the racks accept"),
        (replace(COLD, revert=(38.0, 60.0)), "cannot fall back"),
        (SetpointCommand("bess1", "power_set_w", 1e3), "say what it falls back to"),
        (SetpointCommand("bess1", "power_set_w", 1e3, (0.0, 0.0)), "after how many seconds"),
        (SetpointCommand("bess1", "power_set_w", 1e3, (1e12, 60.0)), "falls back to 1e"),
    ],
)
def test_what_may_not_be_written_is_refused_in_words(asked: SetpointCommand, says: str) -> None:
    assert says in refusal(PLAN, asked, Mode.LIVE)


def test_what_may_be_is_passed_and_only_in_live() -> None:
    good = (COLD, SetpointCommand("bess1", "power_set_w", 1e3, (0.0, 60.0)))
    assert check(PLAN, good, Mode.LIVE) == (good, ())
    for mode in (Mode.OFF, Mode.SHADOW, Mode.HOLD):
        passed, refused = check(PLAN, good, mode)
        assert passed == ()
        assert all(f"mode is {mode.name}" in why for _, why in refused)


def told(**more: object) -> dict[str, object]:
    return {"act": "setpoint", "device": "c1", "point": "supply_target_c", "value": 38.0} | more


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (told(device="c9"), "not in devices.csv"),
        (told(value="38"), "give numbers"),
        (told(value=float("inf")), "give numbers"),
        (told(value=True), "give numbers"),
        (told(revert=[1.0]), "give numbers"),
        (told(point=""), "give a device and a point"),
        (told(device=["c1"]), "give a device and a point"),
    ],
)
def test_an_act_that_is_none_is_refused(act: dict[str, object], says: str) -> None:
    with pytest.raises(acts.ActError, match=says):
        act_kinds.check(SITE, act)


@given(
    st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x, max_size=3)), st.sampled_from(list(told()))
)
def test_whatever_stands_in_an_act_is_an_act_or_an_act_error(value: object, key: str) -> None:
    act = told(revert=[1.0, 60.0]) | {key: value}
    raised = False
    try:
        act_kinds.check(SITE, act)
    except acts.ActError:
        raised = True
    assert raised or act[key] == value


def test_a_setpoint_is_taken_up_once_and_never_from_the_past(tmp_path: Path) -> None:
    clock = VirtualClock()
    seen = Acts(tmp_path, SITE, clock=clock)
    acts.append(tmp_path, SITE, clock, "me", "cold aisle", told(id="a1"))
    assert seen.poll().setpoints == (replace(COLD, by="me", why="cold aisle", act="a1"),)
    assert seen.poll().setpoints == ()
    clock.advance(0.5)
    restarted = Acts(tmp_path, SITE, clock=clock)
    assert restarted.poll() == Requests()  # it was asked of the one before
    assert restarted.refusals == 0  # which is no news
    acts.append(tmp_path, SITE, clock, "me", "", told(id="a2"))
    clock.advance(11.0)  # a controller that stood still
    assert restarted.poll() == Requests()
    assert "11 s old: ask again" in restarted.refused[-1]
    ahead = VirtualClock(wall_start_ms=clock.wall_ms() + 3_600_000)
    acts.append(tmp_path, SITE, ahead, "me", "", told(id="a3"))  # asked by a clock that is an hour ahead
    assert restarted.poll().setpoints == ()
    assert "setpoints" not in json.dumps(acts.requests_body(Requests(setpoints=(COLD,))))


async def test_the_service_passes_it_on_in_live_and_audits_its_refusal_in_hold(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    site = rig.bench.site
    name = next(d for d, p in rig.service._plan.profile_of.items() if p.name == "delta_rpu_orv3")

    def ask(value: float, mode: str = "") -> None:
        if mode:
            acts.append(tmp_path, site, rig.clock, "me", "", {"act": "mode", "mode": mode})
        acts.append(tmp_path, site, rig.clock, "me", "", told(device=name, value=value))

    rig.at(3, lambda: ask(30.0))
    rig.at(6, lambda: ask(31.0, "hold"))
    await rig.run(10)
    assert [(c.device, c.value) for c in rig.building.setpoints] == [(name, 30.0)]
    assert [(c.value, "mode is HOLD" in why) for c, why in rig.building.refused] == [(31.0, True)]
    assert rig.building.forbidden[2] == ""
    assert "mode is HOLD" in rig.building.forbidden


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.HOLD, Mode.OFF])
async def test_in_no_other_mode_anything_is_sent(tmp_path: Path, mode: Mode) -> None:
    rig = Rig(tmp_path, mode)
    name = next(d for d, p in rig.service._plan.profile_of.items() if p.name == "delta_rpu_orv3")
    for reading in (2, 4, 6):
        rig.at(reading, lambda: acts.append(tmp_path, rig.bench.site, rig.clock, "me", "", told(device=name)))
    await rig.run(9)
    assert rig.building.setpoints == []
    assert len(rig.building.refused) == 3
    assert all(why.startswith("mode is ") for why in rig.building.forbidden)


def test_in_lock_step_a_set_point_reaches_the_plant() -> None:
    lock = LockStep(SITE, Scenario.model_validate({"name": "calm", "title": "Nothing happens"}))
    lock.cycle()
    before_c = lock.plant.thermal.cdu_target_c[0]
    lock.requests = replace(lock.requests, setpoints=(COLD, replace(COLD, device="c2", value=46.0)))
    frames, _ = lock.cycle()
    assert before_c == 40.0
    assert lock.plant.thermal.cdu_target_c[:2].tolist() == [38.0, 40.0]
    assert [why for _, why in frames.orders.refused] == [
        "value 46 C is warmer than the 45 C that the racks accept (control.supply_max_c)"
    ]
