"""The guard's own trip states agree with the kernel that it does not share, and permit no more than is safe."""

import numpy as np
import pytest
from helpers_control import bench
from helpers_trip import site
from hypothesis import given
from hypothesis import strategies as st

from controller import breaker
from controller.kernels.trip import advance, compile_trip, time_to_trip
from controller.policies import overload

CURVES = ("ups_apc", "ups_huawei_2000g", "ups_staco", "ul489_standard")


@given(curve=st.sampled_from(CURVES), loads=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=20))
def test_two_integrators_agree(curve: str, loads: list[float]) -> None:
    plan = bench(site=site(curve)).plan
    table, n = compile_trip(plan.site), len(plan.parent)
    state, h, last = breaker.begin(plan), np.zeros(n), np.full(n, np.nan)
    for load in loads:
        now = np.full(n, load)
        state = breaker.follow(state, now, 1.0)
        h, last = advance(table, h, np.fmax(now, last), 1.0), now
    assert state.used == pytest.approx(h, abs=1e-9)


def test_an_unknown_load_stays_what_it_was() -> None:
    plan = bench(site=site("ups_apc")).plan
    n = len(plan.parent)
    state = breaker.follow(breaker.begin(plan), np.full(n, 1.2), 0.0)
    state = breaker.follow(state, np.full(n, np.nan), 6.0)
    ups = np.array([x.kind == "ups" for x in plan.site.nodes])
    assert state.used[ups] == pytest.approx(0.1)
    assert not state.used[~ups].any()


def test_the_continuous_rating_unless_the_site_plans_overloads() -> None:
    plan = bench(site=site("ups_apc")).plan
    assert (breaker.permitted(plan, breaker.begin(plan)) == 1.0).all()


@given(budget=st.floats(0.05, 0.9), margin_s=st.floats(0.0, 30.0), used=st.floats(0.0, 1.0))
def test_what_it_permits_leaves_the_margin_and_lets_the_plan_pass(budget: float, margin_s: float, used: float) -> None:
    plan = bench(site=site("ups_apc", planned_overload=budget, trip_margin_s=margin_s)).plan
    n = len(plan.parent)
    state = breaker.Breakers(breaker.begin(plan).groups, np.full(n, used), np.ones(n))
    most = breaker.permitted(plan, state)
    left_s = time_to_trip(compile_trip(plan.site), state.used, most)
    assert (left_s[most > 1.0] > margin_s).all()
    if used < budget:
        protections = overload.compile_protections(plan)
        planned, _ = overload.allowed_w(plan, protections, np.ones(n), state.used, np.full(n, np.inf))
        assert (planned <= most).all(), "the guard would cut what the limits planned"
