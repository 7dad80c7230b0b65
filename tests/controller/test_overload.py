"""Trip states from readings; planned overloads: within their budget, far from a trip, paid back, without chatter."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_control import Bench, bench
from helpers_trip import site
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.kernels.trip import advance, time_to_trip
from controller.policies import overload, rating
from drivers.site.catalog import TRIP_CURVES

STEPS = 1200


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(site=site())


def followed(
    b: Bench, watts: list[float], bad: list[tuple[str, str]] | None = None, cap_w: float = 80e3, **shown: float
) -> dict[str, float]:
    """State of each node after readings one second apart, the last without the points in `bad`."""
    plan, protections = b.plan, overload.compile_protections(b.plan)
    state = overload.begin(plan)
    for i, each in enumerate(watts):
        value = b.values(np.full(b.racks, each), np.full(b.racks, cap_w), **shown)  # type: ignore[arg-type]
        seen = b.image(value, bad=bad if bad and i == len(watts) - 1 else ())
        nominal_w = rating.nominal_w(plan)
        load_w = plan.rows.dot(np.full(b.racks, each))
        state = overload.follow(plan, protections, seen, load_w, 0.0 * load_w, nominal_w, state, 1.0 if i else 0.0)
    return {n.id: float(h) for n, h in zip(b.site.nodes, state.trip_used, strict=True)}


def test_state_counts_in_the_ratings_own_unit(b: Bench) -> None:
    """Racks of 70 kW put 70 kW on u2 (W), 108 kVA on u1 (VA) and 156 A on u0 (A)."""
    got = followed(b, [70e3, 70e3])
    assert got["u2"] == pytest.approx(1 / 60)
    assert got["u1"] == pytest.approx(1 / 60)
    assert got["u0"] == 0.0
    assert followed(b, [70e3, 70e3], unbalance=1.5)["u0"] > 0.0, "the worst phase counts"


def test_swings_within_a_second_count_as_far_as_caps_leave_room(b: Bench) -> None:
    """A mean of 3 % over the rating of u2 is quiet (105 %), its peaks are not, unless no rack may draw them."""
    nominal_w = rating.nominal_w(b.plan)[b.plan.row_name.index("u2")]
    mean_w = 1.03 * 70e3 * nominal_w / _load_w(b, 70e3)
    assert followed(b, [mean_w, mean_w], cap_w=1.1 * mean_w)["u2"] == pytest.approx(1 / 60)
    assert followed(b, [mean_w, mean_w], cap_w=mean_w)["u2"] == 0.0
    assert followed(b, [0.9 * mean_w, 0.9 * mean_w], cap_w=1.1 * mean_w)["u2"] == 0.0


def _load_w(b: Bench, rack_w: float) -> float:
    """Load of u2 with that power on each rack [W]."""
    return float(b.plan.rows.dot(np.full(b.racks, rack_w))[b.plan.row_name.index("u2")])


def test_between_samples_the_larger_counts(b: Bench) -> None:
    assert followed(b, [70e3, 40e3])["u2"] == pytest.approx(1 / 60)
    assert followed(b, [40e3, 70e3])["u2"] == pytest.approx(1 / 60)
    assert followed(b, [70e3, 40e3, 40e3])["u2"] == pytest.approx(1 / 60 - 1 / 600)


def test_time_left_is_that_of_the_load_last_seen(b: Bench) -> None:
    plan, protections = b.plan, overload.compile_protections(b.plan)
    n, u2 = len(plan.parent), plan.row_name.index("u2")
    state = overload.TripState(np.full(n, 0.5), np.where(np.arange(n) == u2, 1.2, 1.0))
    left_s = overload.left_s(protections, state)
    assert left_s[u2] == 30.0
    assert np.isinf(np.delete(left_s, u2)).all()


def test_a_blind_node_counts_what_its_racks_may_draw(b: Bench) -> None:
    bad = [("u2", "power_w"), ("u1", "power_w"), ("u1", "apparent_va"), ("u1", "current_l1_a"), ("u1", "volt_l1_v")]
    bad += [("u1", "volt_l12_v"), ("u1", "current_a")]
    bad = [x for x in bad if x in b.slots]
    got = followed(b, [40e3, 40e3], bad)  # charged their caps of 80 kW
    assert got["u2"] == pytest.approx(1 / 60)
    assert got["u1"] == pytest.approx(1 / 30)
    assert got["u0"] == 0.0


def test_a_start_assumes_that_the_plan_was_used_up() -> None:
    planned = bench(site=site(planned_overload=0.4))
    assert (overload.begin(planned.plan).trip_used == 0.4).all()


def test_no_overload_is_planned_unless_the_site_says_so(b: Bench) -> None:
    plan, n = b.plan, len(b.site.nodes)
    rated = rating.nominal_w(plan)
    limit_w, most = overload.allowed_w(plan, overload.compile_protections(plan), rated, np.zeros(n), np.full(n, np.inf))
    assert (limit_w == rated).all()
    assert np.isinf(most).all()


def test_only_nodes_with_credit_may_be_overloaded() -> None:
    for curve, credit in (("ups_apc", True), ("ul489_standard", False), ("transformer_c57_91", False)):
        plan = bench(site=site(curve, planned_overload=0.5)).plan
        n = len(plan.parent)
        limit_w, _ = overload.allowed_w(
            plan, overload.compile_protections(plan), np.ones(n), np.zeros(n), np.full(n, np.inf)
        )
        ups = np.array([x.kind == "ups" for x in plan.site.nodes])
        assert (limit_w[ups] > 1.0).all() == credit
        assert (limit_w[~ups] == 1.0).all()


@given(
    curve=st.sampled_from([name for name, c in TRIP_CURVES.items() if c.credit]),
    budget=st.floats(0.05, 0.9),
    margin_s=st.floats(0.0, 30.0),
    noise=st.floats(0.0, 0.2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_an_overload_keeps_its_budget_and_margin_and_is_paid_back(
    curve: str, budget: float, margin_s: float, noise: float, seed: int
) -> None:
    """Demand is endless and swings; the load follows each limit after a cycle and the actuator's reaction."""
    plan = bench(site=site(curve, planned_overload=budget, trip_margin_s=margin_s)).plan
    protections, rng = overload.compile_protections(plan), np.random.default_rng(seed)
    n, at = len(plan.parent), plan.row_name.index("u1")
    state = replace(overload.begin(plan), trip_used=np.zeros(n), multiple=np.ones(n))
    most, limits = np.full(n, np.inf), [1.0] * 3
    late = int(np.ceil(plan.reaction_s.max())) + 1
    moves, falls = 0, 0
    for _ in range(STEPS):
        load = limits[-late] * (1.0 - noise * rng.random())
        # as `follow` does, from the larger of two samples
        now = np.full(n, load)
        used = advance(protections.table, state.trip_used, np.maximum(now, state.multiple), 1.0)
        assert used[at] <= budget + 1e-9
        left_s = time_to_trip(protections.table, used, now)[at]
        assert left_s >= margin_s - 1e-9
        state = overload.TripState(used, now)
        limit_w, most = overload.allowed_w(plan, protections, np.ones(n), used, most)
        moves += limit_w[at] > limits[-1]
        falls += limit_w[at] < limits[-1]
        limits.append(float(limit_w[at]))
    cool_s = TRIP_CURVES[curve].cool_s
    least = 0.5 * budget * (1 - overload.PAID_BACK)  # what an overload uses at least
    episodes = 2 + STEPS / (cool_s * least)
    assert moves <= episodes, "chatter"
    assert falls <= episodes * len(TRIP_CURVES[curve].points)


def test_a_planned_overload_happens_and_ends() -> None:
    plan = bench(site=site(planned_overload=0.5, trip_margin_s=5.0)).plan
    protections, n, at = overload.compile_protections(plan), len(plan.parent), plan.row_name.index("u1")
    h, most, seen = np.zeros(n), np.full(n, np.inf), []
    for _ in range(700):
        limit_w, most = overload.allowed_w(plan, protections, np.ones(n), h, most)
        h = advance(protections.table, h, limit_w, 1.0)
        seen.append(float(limit_w[at]))
    first_rest = seen.index(1.0)
    assert set(seen[:first_rest]) == {1.5, 1.25}
    assert 10 <= first_rest <= 30  # half of 30 s at 150 %, and a little at 125 %
    again = next(i for i in range(first_rest, 700) if seen[i] > 1.0)
    assert again - first_rest == pytest.approx(600 * 0.5 * 0.75, rel=0.25), "three quarters of the budget are paid back"


def test_a_loss_uses_what_is_left_and_keeps_the_margin() -> None:
    plan = bench(site=site(trip_margin_s=10.0)).plan
    protections, n = overload.compile_protections(plan), len(plan.parent)
    u1, feed = plan.row_name.index("u1"), plan.row_name.index("feed0")
    node = np.array([u1, u1, u1, feed])
    hold_s, weight = np.array([3.0, 19.9, 25.0, 3.0]), np.array([1.0, 1.0, 1.0, 1.0])
    cold = overload.loss_multiple(plan, protections, np.zeros(n), node, hold_s, weight)
    assert cold.tolist() == [1.5, 1.5, 1.25, 1.0]
    warm = overload.loss_multiple(plan, protections, np.full(n, 0.6), node, hold_s, weight)
    assert warm.tolist() == [1.25, 1.05, 1.05, 1.0]
