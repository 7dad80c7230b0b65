"""Rules of the rivals that deal out a budget: static, uniform, proportional, PI and the linear program."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers_rivals import FLOOR_W, MAX_W, OTHER_W, reading, site_w, small, with_limit
from hypothesis import given
from hypothesis import strategies as st

from controller.frames import Floats
from drivers.site.catalog import Kind, curve
from sim.lab.bench.peers import hull
from sim.lab.rivals.loads import METER_ERROR, Demand, OtherLoad, room_w
from sim.lab.rivals.maxsum import MaxSum, Program, hulls
from sim.lab.rivals.pi import GUARD_BAND, PI
from sim.lab.rivals.proportional import Proportional, deal
from sim.lab.rivals.static import Static
from sim.lab.rivals.uniform import Uniform


def test_static_provisioning_fits_the_envelope_at_nameplate_and_never_moves() -> None:
    made, layout = small(envelope_w=300e3)
    policy = Static(layout, 1)
    caps_w = policy.caps_w(reading(made, [MAX_W] * 4))
    row = layout.envelope_row
    assert layout.rows.dot(caps_w)[row] + layout.design_other_w[row] == pytest.approx(300e3)
    assert np.ptp(caps_w) == 0.0
    assert caps_w[0] < MAX_W
    later = reading(made, [FLOOR_W] * 4, envelope_w=200e3, extra_w=50e3, now_s=2000.0)
    assert (policy.caps_w(later) == caps_w).all()


def test_static_provisioning_takes_the_least_of_the_limits_above_each_rack() -> None:
    ups = ((0, 100e3, "VA"), (0, 1e6, "VA"))
    made, layout = small(ups=ups, cords=((0, 0), (0, 0), (1, 1), (1, 1)), envelope_w=1e6)
    caps_w = Static(layout, 1).caps_w(reading(made, [MAX_W] * 4))
    assert (caps_w[:2] < MAX_W).all()
    assert (caps_w[2:] == MAX_W).all()
    node = layout.row_name.index("u0")
    assert layout.rows.dot(caps_w)[node] + layout.design_other_w[node] == pytest.approx(layout.limit_w[node])


def test_the_uniform_cap_is_one_share_that_follows_other_load_and_requests() -> None:
    made, layout = small(envelope_w=300e3)
    policy = Uniform(layout, 1)
    first_w = policy.caps_w(reading(made, [50e3] * 4))
    assert np.ptp(first_w / layout.max_w) == 0.0
    loss = site_w(made, [1.0] * 4)
    cooling = layout.rows.dot(np.ones(4))[layout.envelope_row] - loss
    other_w = -cooling * 50e3  # the plant of this test draws nothing for cooling
    assert (loss + cooling) * first_w[0] + other_w == pytest.approx(300e3 * (1.0 - METER_ERROR))
    for now_s in range(1001, 1300):
        loaded_w = policy.caps_w(reading(made, [50e3] * 4, extra_w=30e3, now_s=now_s))
    assert (loss + cooling) * (first_w[0] - loaded_w[0]) == pytest.approx(30e3, rel=1e-3)
    asked_w = policy.caps_w(reading(made, [50e3] * 4, extra_w=30e3, now_s=1300.0, envelope_w=250e3))
    assert (loss + cooling) * (loaded_w[0] - asked_w[0]) == pytest.approx(50e3 * (1.0 - METER_ERROR), rel=1e-3)


def test_a_silent_meter_leaves_the_other_load_as_it_was() -> None:
    made, layout = small()
    other = OtherLoad(layout)
    before_w = other.follow(reading(made, [50e3] * 4, extra_w=20e3))
    after_w = other.follow(reading(made, [50e3] * 4, extra_w=90e3, now_s=1001.0, silent=[("feed0", "power_w")]))
    assert after_w[layout.envelope_row] == before_w[layout.envelope_row]


def test_load_that_is_switched_counts_at_once_and_a_swing_slowly() -> None:
    made, layout = small(envelope_w=1e6)
    other = OtherLoad(layout)
    before_w = other.follow(reading(made, [50e3] * 4))[layout.envelope_row]
    swing_w = other.follow(reading(made, [50e3] * 4, extra_w=40e3, now_s=1001.0))[layout.envelope_row]
    switched_w = other.follow(reading(made, [50e3] * 4, extra_w=100e3, now_s=1002.0))[layout.envelope_row]
    assert 0.0 < swing_w - before_w < 2e3
    assert switched_w - before_w == pytest.approx(100e3)


def test_a_rack_at_its_cap_is_taken_to_ask_for_its_nameplate_and_peaks_last_a_minute() -> None:
    made, layout = small()
    demand = Demand(layout)
    assert (demand.follow(reading(made, [50e3, 59e3, 50e3, 30e3], [60e3] * 4)) == [50e3, MAX_W, 50e3, FLOOR_W]).all()
    seen_w = [float(demand.follow(reading(made, [45e3] * 4, now_s=1001.0 + s))[0]) for s in range(70)]
    assert seen_w[:45] == [50e3] * 45
    assert seen_w[-1] == 45e3


WEIGHTS = st.lists(st.sampled_from([1.0, 0.5, 0.25]), min_size=4, max_size=4)
WANTS = st.lists(st.floats(FLOOR_W, MAX_W), min_size=4, max_size=4)


@given(weight=WEIGHTS, want=WANTS, envelope_w=st.floats(170e3, 400e3), ups_w=st.floats(90e3, 400e3))
def test_what_is_dealt_fits_every_limit_that_the_floors_fit(
    weight: list[float], want: list[float], envelope_w: float, ups_w: float
) -> None:
    _, layout = small(cords=((0, 0), (0, 1), (0, 1), (1, 1)))
    layout = with_limit(layout, "u0", ups_w)
    room = room_w(layout, np.zeros(len(layout.limit_w)), envelope_w)
    got_w = deal(layout.rows, room, layout.floor_w, np.array(want), np.array(weight))
    most_w = np.maximum(room, layout.rows.dot(layout.floor_w))
    assert (layout.rows.dot(got_w) <= most_w * (1.0 + 1e-9)).all()
    assert (got_w >= layout.floor_w).all()
    assert (got_w <= np.array(want) + 1e-6).all()


@given(weight=WEIGHTS, want=WANTS, envelope_w=st.floats(170e3, 400e3))
def test_one_budget_is_dealt_out_whole_and_in_proportion(
    weight: list[float], want: list[float], envelope_w: float
) -> None:
    _, layout = small()
    room = np.full(len(layout.limit_w), np.inf)
    room[layout.envelope_row] = envelope_w
    asked_w, weights = np.array(want), np.array(weight)
    got_w = deal(layout.rows, room, layout.floor_w, asked_w, weights)
    load_w = float(layout.rows.dot(got_w)[layout.envelope_row])
    floors_w = float(layout.rows.dot(layout.floor_w)[layout.envelope_row])
    all_w = float(layout.rows.dot(asked_w)[layout.envelope_row])
    assert load_w == pytest.approx(min(all_w, max(envelope_w, floors_w)), rel=1e-6)
    lack_w = asked_w - layout.floor_w
    short = (got_w < asked_w - 1.0) & (lack_w > 1.0)
    if short.any():
        assert np.ptp(((got_w - layout.floor_w) / (weights * np.maximum(lack_w, 1.0)))[short]) < 1e-6


def test_a_class_has_twice_the_part_of_the_next_and_what_one_leaves_goes_to_the_others() -> None:
    made, layout = small(priority=(0, 1, 2, 2), envelope_w=230e3)
    above_w = Proportional(layout, 1).caps_w(reading(made, [MAX_W] * 4, [MAX_W] * 4)) - FLOOR_W
    assert above_w[0] == pytest.approx(2.0 * above_w[1], rel=1e-6)
    assert above_w[1] == pytest.approx(2.0 * above_w[2], rel=1e-6)
    assert above_w[3] == above_w[2]
    rest_w = Proportional(layout, 1).caps_w(reading(made, [FLOOR_W, MAX_W, MAX_W, MAX_W], [MAX_W] * 4)) - FLOOR_W
    assert rest_w[1] > above_w[1]
    assert rest_w[1] == pytest.approx(2.0 * rest_w[2], rel=1e-6)


def test_pi_settles_at_its_set_point_without_overshoot_in_the_mean_and_without_windup() -> None:
    made, layout = small(envelope_w=300e3)
    policy = PI(layout, 1)
    want_w, caps_w, course = 45e3, layout.max_w, []
    for second in range(200):
        want_w = 45e3 if second < 100 else 79e3
        power_w = np.minimum(caps_w, want_w)
        course.append(site_w(made, power_w))
        caps_w = policy.caps_w(reading(made, power_w, caps_w, now_s=1000.0 + second))
        if second < 100:
            assert (caps_w == MAX_W).all()  # below the envelope nobody is held, for however long
    set_point_w = 300e3 * (1.0 - GUARD_BAND)
    assert course[-1] == pytest.approx(set_point_w, rel=1e-3)
    assert max(course[115:]) < 300e3
    held_w = policy.caps_w(reading(made, power_w, caps_w, now_s=1300.0, silent=[("feed0", "power_w")]))
    assert (held_w == caps_w).all()


def greedy(gang_of: list[int], kinds: list[Kind], spare_w: float) -> Floats:
    """The most work under one budget above the floors: the steepest pieces of the hulls first, a gang's together."""
    pieces = []
    for gang in sorted(set(gang_of)):
        count = gang_of.count(gang)
        share, out = hull(curve("H100", kinds[gang]))
        for (x0, x1), (y0, y1) in zip(pairwise(share), pairwise(out), strict=True):
            pieces.append(((y1 - y0) / (x1 - x0), gang, x0, x1, count))
    gpu_w = MAX_W - OTHER_W
    power = np.full(len(set(gang_of)), FLOOR_W)
    for _, gang, x0, x1, count in sorted(pieces, key=lambda piece: (-piece[0], piece[1])):
        low, high = (max(OTHER_W + gpu_w * x, FLOOR_W) for x in (x0, x1))
        step_w = min(high - low, spare_w / count)
        power[gang] += step_w
        spare_w -= step_w * count
    return power[gang_of]


@pytest.mark.parametrize("spare_w", [1e3, 20e3, 55e3, 90e3, 139e3, 200e3])
def test_the_program_finds_the_most_work_that_greed_finds_where_one_limit_binds(spare_w: float) -> None:
    gang_of = [0, 0, 1, 2, 3]
    _, layout = small(5, gangs=gang_of)
    layout = replace(layout, training=np.array([True, True, True, False, False]))
    curves = hulls(layout)
    room = np.full(len(layout.limit_w), np.inf)
    per_w = layout.rows.dot(np.ones(5))[layout.envelope_row] / 5.0
    room[layout.envelope_row] = per_w * (5 * FLOOR_W + spare_w)
    got_w = Program(layout, curves).solve(np.full(5, MAX_W), room)
    expected_w = greedy(gang_of, ["training", "training", "inference", "inference"], spare_w)

    def work(power_w: Floats) -> float:
        share = (power_w - OTHER_W) / (MAX_W - OTHER_W)
        each = [np.interp(s, *c) for s, c in zip(share, curves, strict=True)]
        return float(2.0 * min(each[:2]) + sum(each[2:]))

    assert got_w.sum() <= 5 * FLOOR_W + spare_w + 1.0
    assert work(got_w) == pytest.approx(work(expected_w), rel=1e-6)
    assert got_w[0] == pytest.approx(got_w[1], abs=1.0)


def test_the_program_goes_on_from_its_last_answer_to_the_same_one() -> None:
    made, layout = small(priority=(0, 1, 2, 2), envelope_w=280e3)
    policy = MaxSum(layout, 1)
    for now_s, envelope_w in ((1000.0, 280e3), (1001.0, 250e3), (1002.0, 310e3), (1003.0, 280e3)):
        caps_w = policy.caps_w(reading(made, [MAX_W] * 4, [MAX_W] * 4, now_s=now_s, envelope_w=envelope_w))
    again_w = MaxSum(layout, 1).caps_w(reading(made, [MAX_W] * 4, [MAX_W] * 4))
    assert caps_w.sum() == pytest.approx(again_w.sum(), rel=1e-6)


def test_floors_that_do_not_fit_are_handed_out_as_they_are() -> None:
    made, layout = small(envelope_w=280e3)
    caps_w = MaxSum(layout, 1).caps_w(reading(made, [MAX_W] * 4, envelope_w=100e3))
    assert (caps_w == FLOOR_W).all()
