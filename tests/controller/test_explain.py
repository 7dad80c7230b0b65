"""Why a rack has its cap: the limit that binds it, the limit behind it, and words for every reason."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from helpers_design import full

from controller import bottlenecks, explain, whatif, why
from controller.cycle import State
from controller.frames import Frames, Mode, Reason, Shed
from controller.steps import whole
from controller.words import row_text
from drivers.points import Quality

WIRING = Wiring(cords=((0, 1),) * 6, gangs=(0, 0, 1, 1, 2, 2), priority=(0, 0, 0, 0, 1, 1), envelope_w=480e3)


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(WIRING)


def bound(b: Bench, frames: Frames, state: State) -> Frames:
    """With orders and proposal as the allocation under these limits has them."""
    served = whatif.solve(b.plan, frames.estimate, frames.limits, state.allocate).served
    orders = replace(frames.orders, cap_w=served.power_w, reason=served.reason, row=served.row)
    proposal = replace(frames.proposal, cap_w=served.power_w, level=served.level, reason=served.reason, row=served.row)
    return replace(frames, orders=orders, proposal=proposal)


def test_bottlenecks_are_all_limits_that_hold_somebody_dearest_first(b: Bench) -> None:
    frames, state = full(b, p0a=25e3, envelope=440e3)
    found = whole(bottlenecks.rank_each(b.plan, frames, state))
    names = [x.name for x in found]
    assert set(names) == {"pdu p0a", "envelope"}
    prices = [x.work_per_kw for x in found]
    assert prices == sorted(prices, reverse=True)
    pdu = found[names.index("pdu p0a")]
    assert (pdu.racks, pdu.jobs) == (2, ("job0",))  # its mate stands with it
    served = whatif.solve(b.plan, frames.estimate, frames.limits, state.allocate).served
    missing = frames.estimate.demand_w - served.power_w
    assert sum(x.missing_w for x in found) == pytest.approx(missing.sum())
    assert all(json.loads(json.dumps(x.to_dict(), allow_nan=False)) for x in found)
    assert all(x.name in bottlenecks.line(x) for x in found)


def test_limits_that_gain_nothing_alone_are_one_line() -> None:
    b = bench(Wiring(gangs=(0, 0, 1, 1)))
    frames, state = full(b, p0a=25e3, p0b=25e3, p2a=26e3)
    found = whole(bottlenecks.rank_each(b.plan, frames, state))
    assert sorted(abs(x.work_per_kw) < 1e-9 for x in found) == [False, True]
    short, every = bottlenecks.lines(found, found[:1]), bottlenecks.lines(found, found)
    assert "pdu p2a" in short[1]
    assert "nothing" in short[2]
    assert "1 limit, another is full with each; pdu p0" in short[2]
    assert any("pdu p0" in x for x in every)


def test_the_next_limit_is_the_one_that_binds_when_this_one_is_gone() -> None:
    """Four equal racks: the envelope lets each have 60 kW, UPS 0 would let each have 66."""
    b = bench(Wiring(gangs=(0, 0, 0, 0)))
    rows = b.plan.rows
    sums = rows.dot(np.ones(4))
    env, ups = b.plan.envelope_row, b.plan.row_name.index("u0")
    frames, state = full(b, envelope=60e3 * sums[env], u0=66e3 * sums[ups])
    found = explain.explain(b.plan, bound(b, frames, state), state, 2)
    assert found.cap_w == pytest.approx(60e3)
    assert found.bound is not None
    assert found.then is not None
    assert (found.bound.row, found.then.row) == ("envelope", "ups u0")
    assert found.then.cap_w == pytest.approx(66e3)
    assert found.work_per_kw is not None
    assert found.work_per_kw > 0.0
    text = "\n".join(found.lines)
    for word in ("may draw 60.0 kW of the 80.0 kW", "limit is envelope", "next limit would be ups u0, at 66.0 kW"):
        assert word in text
    assert "4 racks of job job0" in text
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["lines"] == list(found.lines)


def test_a_loss_that_binds_is_named_with_its_survivor() -> None:
    b = bench(Wiring(gangs=(0, 0, 0, 0), ups=((0, 250e3, "W"), (0, 250e3, "W"))))
    frames, state = full(b, losses=True)
    found = explain.explain(b.plan, frames, state, 0)
    assert found.bound is not None
    assert found.bound.row in [x.replace("utility_", "utility ") for x in b.plan.losses.name]
    text = "\n".join(found.lines)
    assert f"The limit is {found.bound.row}: full at " in text
    assert "What would help: less load on what survives that loss" in text
    kinds = {x.kind for x in whole(bottlenecks.rank_each(b.plan, frames, state))}
    assert kinds == {"loss"}


def test_where_nothing_stands_behind_a_limit_that_is_said() -> None:
    b = bench(Wiring(gangs=(0, 0, 0, 0)))
    env = b.plan.envelope_row
    frames, state = full(b, envelope=60e3 * b.plan.rows.dot(np.ones(4))[env])
    found = explain.explain(b.plan, bound(b, frames, state), state, 0)
    assert found.then is None
    assert "nothing would hold the rack below the 80.0 kW" in "\n".join(found.lines)


def test_a_limit_with_a_twin_is_worth_nothing_and_the_twin_is_named() -> None:
    b = bench(Wiring(gangs=(0, 0, 0, 0)))
    sums = b.plan.rows.dot(np.ones(4))
    u0, u1 = (b.plan.row_name.index(x) for x in ("u0", "u1"))
    frames, state = full(b, u0=60e3 * sums[u0], u1=60e3 * sums[u1])
    found = explain.explain(b.plan, bound(b, frames, state), state, 0)
    assert found.work_per_kw == pytest.approx(0.0, abs=1e-9)
    assert found.then is not None
    assert {found.then.row, found.bound.row if found.bound else ""} == {"ups u0", "ups u1"}
    text = "\n".join(found.lines)
    assert "gains no work" in text
    assert "Right behind it stands" in text


def test_a_rack_held_by_another_rack_of_its_job_is_told_so(b: Bench) -> None:
    frames, state = full(b, p0a=25e3)
    found = explain.explain(b.plan, bound(b, frames, state), state, 1)
    assert found.bound is not None
    assert found.bound.row == "pdu p0a"
    assert "This rack does not load that limit" in "\n".join(found.lines)


def test_explaining_changes_nothing(b: Bench) -> None:
    frames, state = full(b, envelope=440e3)
    frames = bound(b, frames, state)
    before = [state.allocate.cap_w.copy(), frames.limits.room_w.copy(), frames.orders.cap_w.copy()]
    first = explain.explain(b.plan, frames, state, 3)
    second = explain.explain(b.plan, frames, state, 3)
    assert first == second
    after = [state.allocate.cap_w, frames.limits.room_w, frames.orders.cap_w]
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(before, after, strict=True))


def said(b: Bench, frames: Frames, state: State, reason: Reason, rack: int = 0) -> str:
    """The explanation's text for a rack with this reason and no row."""
    codes, row = frames.orders.reason.copy(), frames.orders.row.copy()
    codes[rack], row[rack] = reason, -1
    frames = replace(frames, orders=replace(frames.orders, reason=codes, row=row))
    by = {"r0": "by ann: new pumps", "mode": "by bob: test"}
    return " ".join(explain.explain(b.plan, frames, state, rack, by).lines)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_said_in_words(b: Bench, reason: Reason) -> None:
    text = said(b, *full(b), reason)
    assert text.startswith("Rack r0 may draw")
    if reason not in (Reason.FREE, Reason.ROW):
        assert len(text) > len(said(b, *full(b), Reason.ROW))
    assert "nan" not in text.lower().split()


def test_stale_names_the_meters(b: Bench) -> None:
    frames, state = full(b)
    quality = np.zeros_like(frames.image.quality)
    slot = b.slots["u1", "power_w"]
    quality[slot] = Quality.STALE
    age_s = np.full(len(quality), 0.3)
    age_s[slot] = 35.0
    frames = replace(frames, image=replace(frames.image, quality=quality, age_s=age_s))
    assert why.stale(b.plan, frames, 0) == ("the meter of ups u1 (silent, last 35 s ago)",)
    assert "not fresh and good: the meter of ups u1 (silent, last 35 s ago)." in said(b, frames, state, Reason.STALE)
    quality[slot] = Quality.GOOD
    assert "own meters have not been read" in said(b, frames, state, Reason.STALE)


def test_pace_says_how_long(b: Bench) -> None:
    frames, state = full(b)
    ramp_w = b.site.control.ramp_up_w_per_s
    low = replace(frames.orders, cap_w=frames.proposal.cap_w - 50.0 * ramp_w / b.racks)
    assert "takes about 50 s" in said(b, replace(frames, orders=low), state, Reason.PACE)


def test_hold_says_who_and_why(b: Bench) -> None:
    frames, state = full(b)
    held = replace(frames, limits=replace(frames.limits, held=np.arange(b.racks) == 0))
    text = said(b, held, state, Reason.HOLD)
    assert "(by ann: new pumps)" in text
    assert "headroom release small r0" in text
    mode = replace(frames, orders=replace(frames.orders, mode=Mode.HOLD))
    assert "The mode is HOLD, nothing rises (by bob: test)." in said(b, mode, state, Reason.HOLD)


def test_silent_and_disobedient_racks_are_told_apart(b: Bench) -> None:
    frames, state = full(b)
    known = replace(
        frames.estimate,
        constant_w=np.full(b.racks, 71e3),
        rack_power_w=np.full(b.racks, 71e3),
        cap_found_w=np.full(b.racks, 60e3),
    )
    silent = said(b, replace(frames, estimate=known), state, Reason.FAULTY)
    assert "agent is silent (never heard)" in silent
    assert "counted at 71.0 kW" in silent
    image = replace(frames.image, age_s=np.zeros(len(frames.image.age_s)))
    known = replace(known, disobedient=np.arange(b.racks) == 0)
    text = said(b, replace(frames, estimate=known, image=image), state, Reason.FAULTY)
    assert "draws 71.0 kW under a cap of 60.0 kW" in text


def test_riding_names_the_node_and_the_guard_the_fullest_limit(b: Bench) -> None:
    frames, state = full(b)
    riding = np.arange(len(b.site.nodes)) == b.site.node_index["u1"]
    image = replace(frames.image, riding=riding)
    assert "what hangs on ups u1 runs on stored energy" in said(b, replace(frames, image=image), state, Reason.RIDING)
    load_w = frames.estimate.load_w.copy()
    load_w[b.plan.row_name.index("p0b")] = 1e9
    known = replace(frames.estimate, load_w=load_w)
    assert "fullest limit above the rack is pdu p0b" in said(b, replace(frames, estimate=known), state, Reason.GUARD)


def test_a_shed_rack_is_told_its_rung(b: Bench) -> None:
    frames, state = full(b)
    rungs = np.where(np.arange(b.racks) == 0, np.uint8(Shed.DOWN), np.uint8(Shed.NONE))
    proposal = replace(frames.proposal, said=("ups u0 carries no more than 90 kW",))
    frames = replace(frames, orders=replace(frames.orders, shed=rungs), proposal=proposal)
    text = said(b, frames, state, Reason.SHED)
    assert "It is shed (shut down): ups u0 carries no more than 90 kW." in text
    assert "comes back by itself" in text


def test_a_loss_that_stands_is_named(b: Bench) -> None:
    frames, state = full(b)
    case = [x.id for x in b.plan.losses.cases].index("u1")
    known = replace(frames.estimate, lost=(case,))
    assert "Lost: u1." in said(b, replace(frames, estimate=known), state, Reason.LOST)


def test_every_row_has_a_name_and_help(b: Bench) -> None:
    named = len(b.plan.row_name)
    assert b.plan.losses.name
    for row in range(named + len(b.plan.losses.name)):
        if row < named:
            assert b.plan.row_name[row] in row_text(b.plan, row)
        else:
            assert row_text(b.plan, row) == b.plan.losses.name[row - named].replace("utility_", "utility ")
        assert why.helps(b.plan, row, "").startswith("What would help: ")
    assert "end of the curtailment" in why.helps(b.plan, b.plan.envelope_row, "curtailment to 4.0 MW by utility")
