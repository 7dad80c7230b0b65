"""Alarms: one line a cause, whatever the number of devices; nothing wrong, nothing said."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench

from controller import alarms, cycle
from controller.frames import Floats, Frames, Mode, Reason, Requests, Shed
from drivers.points import Quality
from drivers.wires import LinkHealth

UP = LinkHealth("modbus gw1", True, 35, 0, 500.0)


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1),) * 8, envelope_w=900e3))


@pytest.fixture(scope="module")
def quiet(b: Bench) -> Frames:
    """Frames of a site in order, after its start."""
    state, table = cycle.begin(b.plan, 1, 1000.0), b.inventory.table()
    for second in range(40):
        now_s = 1000.5 + second
        value = b.values(np.full(b.racks, 60e3), np.full(b.racks, 75e3))
        table.put(np.arange(b.inventory.size), value, Quality.GOOD, now_s - 0.2)
        frames, _ = cycle.step(b.plan, table.snapshot(now_s), Requests(), state)
    heeded = np.zeros(b.racks, dtype=bool)  # these agents' reports are written here, they take no lease
    return replace(frames, orders=replace(frames.orders, unheeded=heeded))


def only(b: Bench, frames: Frames, *links: LinkHealth) -> str:
    """The one alarm there must be."""
    (said,) = alarms.standing(b.plan, frames, links or (UP,))
    return said


def test_a_site_in_order_says_nothing(b: Bench, quiet: Frames) -> None:
    assert alarms.standing(b.plan, quiet, [UP]) == []


def test_exceeded_limits_are_one_line_that_names_the_worst(b: Bench, quiet: Frames) -> None:
    load_w: Floats = quiet.limits.limit_w * 0.9
    load_w[[0, 1, 2]] = quiet.limits.limit_w[[0, 1, 2]] * [1.02, 1.3, 1.1]
    said = only(b, replace(quiet, estimate=replace(quiet.estimate, load_w=load_w)))
    assert said.startswith("3 limit(s) exceeded")
    assert b.plan.row_name[1] in said


def test_a_lost_element_is_named_and_a_pump_only_once(b: Bench, quiet: Frames) -> None:
    kinds = [case.kind for case in b.plan.losses.cases]
    at = kinds.index("ups")
    lost = (at, kinds.index("pump"))
    said = only(b, replace(quiet, estimate=replace(quiet.estimate, lost=lost)))
    assert said.startswith(f"lost: ups {b.plan.losses.cases[at].id}; ")


def test_a_limit_of_nought_is_the_worst_and_no_error(b: Bench, quiet: Frames) -> None:
    """All pumps of a loop lost: it may carry no heat."""
    limit_w = quiet.limits.limit_w.copy()
    limit_w[b.plan.loop_row] = 0.0
    with np.errstate(divide="ignore"):
        said = alarms.standing(b.plan, replace(quiet, limits=replace(quiet.limits, limit_w=limit_w)), [UP])
    assert any("loop0" in x for x in said)


def test_a_thousand_silent_devices_are_one_line(b: Bench, quiet: Frames) -> None:
    links = [LinkHealth(f"gw{i}", True, 35, i, 0.0) for i in range(30)]
    said = only(b, quiet, *links)
    assert str(sum(range(30))) in said
    assert "gw29" in said


def test_wires_that_are_down_are_one_line(b: Bench, quiet: Frames) -> None:
    links = [UP, *(LinkHealth(f"gw{i}", False, 35, 35, 0.0, "refused") for i in range(9))]
    said = only(b, quiet, *links)
    assert said.startswith("9 wires down")
    assert "refused" in said


def test_a_note_on_a_wire_is_said_with_its_name(b: Bench, quiet: Frames) -> None:
    link = LinkHealth("bms", True, 9, 0, 1.0, note="paths differ from the site file: 'u1' serves 'x'")
    assert only(b, quiet, UP, link) == "bms: paths differ from the site file: 'u1' serves 'x'"


def test_silent_agents_are_one_line(b: Bench, quiet: Frames) -> None:
    age_s = quiet.image.age_s.copy()
    age_s[b.plan.agent_slot["cap_w"][:5]] = 9.0
    said = only(b, replace(quiet, image=replace(quiet.image, age_s=age_s)))
    assert said.startswith("5 of 8 rack agents silent")


def test_disobedience_is_said(b: Bench, quiet: Frames) -> None:
    disobedient = np.arange(b.racks) < 2
    said = only(b, replace(quiet, estimate=replace(quiet.estimate, disobedient=disobedient)))
    assert said.startswith("2 racks draw more than their cap")


def test_a_second_controller_with_a_higher_epoch_is_said(b: Bench, quiet: Frames) -> None:
    (said,) = alarms.standing(b.plan, quiet, [UP], outranked=3)
    assert said.startswith("3 racks obey another controller")


@pytest.mark.parametrize(("reason", "word"), [(Reason.FLOOR, "floors"), (Reason.GUARD, "guard")])
def test_floors_and_cuts_are_said(b: Bench, quiet: Frames, reason: Reason, word: str) -> None:
    codes = np.full(b.racks, reason, dtype=np.uint8)
    said = only(b, replace(quiet, orders=replace(quiet.orders, reason=codes)))
    assert "8 racks" in said
    assert word in said


def test_shedding_is_critical_and_says_which_jobs_and_which_limit(b: Bench, quiet: Frames) -> None:
    rungs = np.zeros(b.racks, dtype=np.uint8)
    rungs[:5] = [Shed.PAUSE, Shed.PAUSE, Shed.PAUSE, Shed.DOWN, Shed.DOWN]
    proposal = replace(quiet.proposal, said=("ups u1 after loss of ups u0 carries no more",))
    said = only(b, replace(quiet, orders=replace(quiet.orders, shed=rungs), proposal=proposal))
    assert said.startswith("CRITICAL: 5 racks shed (3 paused, 2 shut down), of r0, r1, r2 and 2 more")
    assert said.endswith(": ups u1 after loss of ups u0 carries no more")
    assert alarms.shed(b.plan, quiet) is None


def test_losses_no_longer_secured_are_one_line(b: Bench, quiet: Frames) -> None:
    (said,) = alarms.standing(b.plan, quiet, [UP], lapsed=["sub1", "sub2", "u3", "u4"])
    assert said == "no longer secured against 4 losses: sub1, sub2, u3 and 1 more"


def test_invalid_points_are_counted(b: Bench, quiet: Frames) -> None:
    quality = quiet.image.quality.copy()
    quality[:7] = Quality.BAD
    assert only(b, replace(quiet, image=replace(quiet.image, quality=quality))).startswith("7 points")


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.SHADOW, Mode.HOLD])
def test_every_mode_but_live_is_said(b: Bench, quiet: Frames, mode: Mode) -> None:
    assert mode.name in only(b, replace(quiet, orders=replace(quiet.orders, mode=mode)))


def test_what_harms_first_is_said_first(b: Bench, quiet: Frames) -> None:
    load_w = quiet.limits.limit_w * 1.2
    frames = replace(
        quiet,
        estimate=replace(quiet.estimate, load_w=load_w),
        orders=replace(quiet.orders, mode=Mode.HOLD),
    )
    said = alarms.standing(b.plan, frames, [LinkHealth("gw1", False, 35, 35, 0.0)])
    assert [x.split()[1] for x in said][:2] == ["limit(s)", "wires"]
    assert said[-1] == "mode is HOLD"


def test_agents_that_hold_another_cap_than_ordered_are_said(b: Bench, quiet: Frames) -> None:
    unheeded = np.arange(b.racks) < 3
    frames = replace(quiet, orders=replace(quiet.orders, unheeded=unheeded))
    assert only(b, frames).startswith("3 racks hold a cap that was not ordered")
    (said,) = alarms.standing(b.plan, frames, [UP], outranked=3)
    assert said.startswith("3 racks obey another controller")
