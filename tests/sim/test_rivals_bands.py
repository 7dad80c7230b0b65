"""Rules of the rivals that act on thresholds: Dynamo's bands, groups and buckets, Thunderbolt's throttling."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers_control import Bench
from helpers_rivals import FLOOR_W, IDLE_W, MAX_W, reading, site_w, small, with_limit
from hypothesis import given
from hypothesis import strategies as st

from controller.frames import Floats
from sim.lab.rivals import Policy
from sim.lab.rivals.dynamo import (
    CAP_AT,
    CAP_TO,
    Dynamo,
    by_priority,
    compile_tree,
    cords_w,
    evenly,
    high_bucket_first,
    punish_offenders,
    to_cut,
)
from sim.lab.rivals.thunderbolt import HIGH, JAILED, LOW, SOFT, Thunderbolt

POWERS = st.lists(st.floats(10e3, 100e3), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("load_w", "contract_w", "cut_w"),
    [
        (98.9, np.inf, 0.0),
        (99.1, np.inf, 4.1),
        (93.0, np.inf, 0.0),
        (93.0, 92.0, 1.0),
        (99.1, 90.0, 9.1),
        (99.1, 99.0, 4.1),
    ],
)
def test_three_bands_cut_to_the_target_above_the_threshold_and_to_a_contract_above_that(
    load_w: float, contract_w: float, cut_w: float
) -> None:
    assert to_cut(load_w, 100.0, contract_w) == pytest.approx(cut_w)


def test_the_highest_bucket_pays_first_and_evenly() -> None:
    power_w, floor_w = np.array([100.0, 98.0, 75.0, 30.0]), np.full(4, 10.0)
    assert high_bucket_first(power_w, floor_w, 8.0, 20.0) == pytest.approx([4.0, 4.0, 0.0, 0.0])
    assert high_bucket_first(power_w, floor_w, 38.0, 20.0) == pytest.approx([20.0, 18.0, 0.0, 0.0])
    assert high_bucket_first(power_w, floor_w, 44.0, 20.0) == pytest.approx([22.0, 20.0, 2.0, 0.0])


@given(power=POWERS, share=st.floats(0.0, 1.2), bucket_w=st.floats(2e3, 20e3))
def test_buckets_cut_what_is_asked_or_all_there_is_and_the_lower_never_before_the_higher(
    power: list[float], share: float, bucket_w: float
) -> None:
    power_w = np.array(power)
    least_w = np.minimum(40e3, power_w)
    able_w = float((power_w - least_w).sum())
    cuts = high_bucket_first(power_w, least_w, share * able_w, bucket_w)
    assert cuts.sum() == pytest.approx(min(share, 1.0) * able_w, abs=1.0)
    assert (cuts >= 0.0).all()
    assert (power_w - cuts >= least_w - 1e-6).all()
    after = np.floor((power_w - cuts) / bucket_w + 1e-9)
    for rack in np.flatnonzero(cuts > 1e-3):
        higher = np.floor(power_w / bucket_w) > np.floor(power_w[rack] / bucket_w)
        spared = higher & (after > np.floor(power_w[rack] / bucket_w) + 1.0) & (power_w - cuts > least_w + 1.0)
        assert not spared.any()


@given(most=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=10), share=st.floats(0.0, 1.5))
def test_evenly_is_the_same_for_all_who_can_bear_it(most: list[float], share: float) -> None:
    most_w = np.array(most)
    got = evenly(most_w, share * float(most_w.sum()))
    assert got.sum() == pytest.approx(min(share, 1.0) * most_w.sum(), abs=1e-6)
    assert (got <= most_w).all()
    short = got < most_w
    if short.any():
        assert np.ptp(got[short]) == 0.0
        assert (got <= got[short][0] + 1e-12).all()


def test_the_lowest_group_pays_down_to_its_floor_before_the_next_gives_a_watt() -> None:
    power_w, floor_w, group = np.array([90.0, 50.0, 60.0]), np.full(3, 40.0), np.array([0, 2, 2])
    assert by_priority(power_w, floor_w, group, 15.0, 8.0)[0] == 0.0
    assert by_priority(power_w, floor_w, group, 30.0, 8.0) == pytest.approx([0.0, 10.0, 20.0])
    assert by_priority(power_w, floor_w, group, 42.0, 8.0) == pytest.approx([12.0, 10.0, 20.0])


def test_offenders_are_punished_down_to_their_quota_first() -> None:
    """The example of section III-D: 190 and 130 kW, quotas of 150 kW, 20 kW too much: the first gives all."""
    assert punish_offenders(np.array([190e3, 130e3]), np.full(2, 150e3), 20e3) == pytest.approx([20e3, 0.0])
    beyond = punish_offenders(np.array([190e3, 130e3]), np.full(2, 150e3), 68e3)
    assert beyond == pytest.approx([40e3 + 28e3 * 150 / 280, 28e3 * 130 / 280])


def test_leaves_are_the_last_nodes_that_racks_share_and_the_root_is_the_site() -> None:
    _, layout = small(share_a=(1.0, 1.0, 0.5, 0.0))
    tree = compile_tree(layout)
    assert [layout.row_name[n] for n in tree.leaves] == ["u0", "u1"]
    assert [r.tolist() for r in tree.racks] == [[0, 1, 2], [2, 3]]
    assert [s.tolist() for s in tree.share] == [[1.0, 1.0, 0.5], [0.5, 1.0]]
    assert tree.uppers[0] == len(layout.parent)
    assert [layout.row_name[n] for n in tree.uppers[1:]] == ["feed0"]


def course(policy: Policy, made: Bench, envelope_w: float, want: Floats, seconds: int) -> list[tuple[float, Floats]]:
    """(site power, caps) of each second when racks draw what they want under the last caps."""
    caps_w, out = made.plan.max_w, list[tuple[float, Floats]]()
    for second in range(seconds):
        power_w = np.minimum(want, caps_w)
        out.append((site_w(made, power_w), caps_w))
        caps_w = policy.caps_w(reading(made, power_w, caps_w, now_s=1000.0 + second, envelope_w=envelope_w))
    return out


def test_dynamo_cuts_below_its_target_within_an_upper_and_a_leaf_period_and_the_high_consumers_pay() -> None:
    made, layout = small(envelope_w=265e3)
    want_w = np.array([MAX_W, MAX_W, 50e3, 50e3])
    seen = course(Dynamo(layout, 1), made, 265e3, want_w, 60)
    assert seen[0][0] > CAP_AT * 265e3
    assert all(power_w <= CAP_TO * 265e3 * 1.001 for power_w, _ in seen[13:])
    caps_w = seen[-1][1]
    assert (caps_w[:2] < want_w[:2]).all()
    assert (caps_w[2:] == MAX_W).all()


def test_dynamo_holds_between_its_bands_and_uncaps_below_the_last() -> None:
    made, layout = small(envelope_w=300e3)
    policy = Dynamo(layout, 1)
    course(policy, made, 300e3, np.full(4, MAX_W), 30)
    per_w = site_w(made, [1.0] * 4) / 4.0

    def then(site_share: float, at_s: float) -> Floats:
        power_w = np.full(4, site_share * 300e3 / per_w / 4.0)
        for second in range(20):
            caps_w = policy.caps_w(reading(made, power_w, now_s=at_s + second))
        return caps_w

    assert (then(0.93, 1100.0) < MAX_W).all()
    assert (then(0.88, 1200.0) == MAX_W).all()


def test_dynamo_decides_nothing_on_a_leaf_with_more_than_a_fifth_of_its_readings_missing() -> None:
    made, layout = small(5, envelope_w=300e3)

    def after(missing: int) -> Floats:
        policy = Dynamo(layout, 1)
        silent = [(f"r{i}", "power_w") for i in range(missing)]
        silent += [(f"p{i}{cord}", "power_w") for i in range(missing) for cord in "ab"]
        for second in range(15):
            caps_w = policy.caps_w(reading(made, [MAX_W] * 5, now_s=1000.0 + second, silent=silent))
        return caps_w

    assert (after(1) < MAX_W).all()
    assert (after(2) == MAX_W).all()


def test_dynamos_leaves_go_by_what_the_cords_carry_not_by_what_they_should() -> None:
    made, layout = small(share_a=(0.0,) * 4, envelope_w=1e6)  # all load has moved to cord B
    layout = with_limit(replace(layout, share=np.full((4, 2), 0.5)), "u1", 300e3)
    policy = Dynamo(layout, 1)
    for second in range(6):
        caps_w = policy.caps_w(reading(made, [MAX_W] * 4, now_s=1000.0 + second))
    assert caps_w.sum() == pytest.approx(CAP_TO * 300e3)


def test_a_silent_pdu_has_what_the_other_cord_leaves_of_the_agents_reading() -> None:
    made, layout = small(share_a=(0.0, 0.5, 0.5, 0.5), envelope_w=1e6)
    silent = [("p0a", "power_w"), ("p1a", "power_w"), ("p2a", "power_w"), ("p2b", "power_w")]
    got_w = cords_w(layout, reading(made, [MAX_W] * 4, silent=silent))
    assert got_w.tolist() == [[0.0, MAX_W]] + [[MAX_W / 2.0, MAX_W / 2.0]] * 3


def test_thunderbolt_spares_those_who_serve_and_takes_the_others_to_their_floor_in_a_second() -> None:
    made, layout = small(envelope_w=300e3)
    policy = Thunderbolt(replace(layout, training=np.array([True, True, False, False])), 1)
    per_w = site_w(made, [1.0] * 4) / 4.0
    below_w = np.full(4, (HIGH - 0.01) * 300e3 / per_w / 4.0)
    assert (policy.caps_w(reading(made, below_w)) == MAX_W).all()  # the low threshold is not armed yet
    above_w = np.full(4, (HIGH + 0.01) * 300e3 / per_w / 4.0)
    caps_w = policy.caps_w(reading(made, above_w, now_s=1001.0))
    assert caps_w.tolist() == [FLOOR_W, FLOOR_W, MAX_W, MAX_W]


def test_thunderbolt_softly_between_its_thresholds_once_the_high_one_has_fired() -> None:
    made, layout = small(envelope_w=300e3)
    policy = Thunderbolt(layout, 1)
    per_w = site_w(made, [1.0] * 4) / 4.0
    policy.caps_w(reading(made, np.full(4, MAX_W)))
    between_w = np.full(4, (HIGH + LOW) / 2.0 * 300e3 / per_w / 4.0)
    for second in range(1, 30):  # until all have recovered, with nothing above the low threshold
        policy.caps_w(reading(made, np.full(4, 50e3), now_s=1000.0 + second))
    caps_w = policy.caps_w(reading(made, between_w, now_s=1030.0))
    assert caps_w == pytest.approx(IDLE_W + SOFT * (between_w - IDLE_W))
    late = Thunderbolt(layout, 1)
    late.caps_w(reading(made, np.full(4, MAX_W)))
    assert (late.caps_w(reading(made, between_w, now_s=1061.0)) == MAX_W).all()


def test_thunderbolts_racks_recover_each_at_its_own_time_within_ten_seconds_and_seeds_repeat() -> None:
    made, layout = small(24, envelope_w=1.5e6)

    def back(seed: int) -> list[float]:
        policy = Thunderbolt(layout, seed)
        policy.caps_w(reading(made, np.full(24, MAX_W), now_s=999.0))
        counts = []
        for second in range(12):
            caps_w = policy.caps_w(reading(made, np.full(24, 45e3), now_s=1000.0 + second))
            counts.append(float((caps_w == MAX_W).sum()))
        return counts

    counts = back(3)
    assert counts[0] <= 3.0
    assert counts[-1] == 24.0
    assert max(b - a for a, b in pairwise(counts)) < 12.0
    assert counts == back(3)
    assert counts != back(4)


def test_thunderbolt_jails_a_part_of_all_when_the_meter_is_lost_at_high_load_only() -> None:
    made, layout = small(envelope_w=300e3)
    per_w = site_w(made, [1.0] * 4) / 4.0

    def blind(share: float) -> Floats:
        policy = Thunderbolt(layout, 1)
        power_w = np.full(4, share * 300e3 / per_w / 4.0)
        policy.caps_w(reading(made, power_w))
        for second in range(1, 8):
            now = reading(made, power_w, now_s=1000.0 + second, silent=[("feed0", "power_w")])
            caps_w = policy.caps_w(now)
            assert second > 5 or (caps_w == MAX_W).all()
        return caps_w

    assert blind(0.97) == pytest.approx(np.full(4, IDLE_W + (1.0 - JAILED) * (MAX_W - IDLE_W)))
    assert (blind(0.8) == MAX_W).all()
