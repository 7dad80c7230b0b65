"""Trip states against a plain twin: monotone, additive in time, and what is allowed never trips."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers_site import tiny_site
from hypothesis import given
from hypothesis import strategies as st

from controller.kernels.trip import TripTable, advance, allowed, compile_curves, compile_trip, time_to_trip
from drivers.site.catalog import TRIP_CURVES, TripCurve

APC = TRIP_CURVES["ups_apc"]


@dataclass
class Twin:
    """One node, as its curve's words say it."""

    curve: TripCurve
    h: float = 0.0

    def trip_s(self, load: float) -> float:
        if load <= self.curve.continuous:
            return np.inf
        return next((seconds for most, seconds in self.curve.points if load <= most), 0.0)

    def advance(self, load: float, dt_s: float) -> float:
        if not self.curve.credit or dt_s == 0:
            return self.h
        trip_s = self.trip_s(load)
        if trip_s == 0:
            return 1.0
        return min(1.0, max(0.0, self.h + (-dt_s / self.curve.cool_s if np.isinf(trip_s) else dt_s / trip_s)))

    def allowed(self, hold_s: float, share: float) -> float:
        if not self.curve.credit:
            return 1.0
        fit = [load for load, s in self.curve.points if self.h < 1 and share > 0 and hold_s < s * (1 - self.h) * share]
        return max([self.curve.continuous, *fit])


@st.composite
def curves(draw: st.DrawFn) -> TripCurve:
    """Any staircase: rising loads, falling times, with credit or not."""
    continuous = draw(st.sampled_from([1.0, 1.05]))
    count = draw(st.integers(1, 4))
    loads = continuous + np.cumsum([draw(st.floats(0.01, 0.5)) for _ in range(count)])
    times = np.cumsum([draw(st.floats(0.1, 100.0)) for _ in range(count)])[::-1]
    points = tuple((float(a), float(b)) for a, b in zip(loads, times, strict=True))
    credit = draw(st.booleans())
    return TripCurve(points, credit, "drawn", continuous=continuous, cool_s=draw(st.floats(1.0, 1000.0)))


STATE, LOAD, TIME, SHARE = st.floats(0, 1), st.floats(0, 3), st.floats(0, 500), st.floats(0, 1)


def one(curve: TripCurve) -> TripTable:
    """Two nodes, so that a table has an other curve before it."""
    return compile_curves([APC, curve])


def pair(value: float) -> np.ndarray:
    """The second node's value."""
    return np.array([0.0, value])


@given(curve=curves(), h=STATE, load=LOAD, dt_s=TIME, share=SHARE)
def test_as_the_twin_says(curve: TripCurve, h: float, load: float, dt_s: float, share: float) -> None:
    table, twin = one(curve), Twin(curve, h if curve.credit else 0.0)
    h = twin.h
    assert advance(table, pair(h), pair(load), dt_s)[1] == twin.advance(load, dt_s)
    expected_s = np.inf if load <= (curve.continuous if curve.credit else 1.0) else (1 - h) * twin.trip_s(load)
    if not curve.credit and load > 1:
        expected_s = 0.0
    assert time_to_trip(table, pair(h), pair(load))[1] == expected_s
    got = allowed(table, np.array([1]), pair(h), np.array([dt_s]), np.array([share]))[0]
    assert got == twin.allowed(dt_s, share)


@given(curve=curves(), h=st.tuples(STATE, STATE), hold_s=st.tuples(TIME, TIME), share=st.tuples(SHARE, SHARE))
def test_allowed_is_monotone(
    curve: TripCurve, h: tuple[float, float], hold_s: tuple[float, float], share: tuple[float, float]
) -> None:
    """A cooler state, a shorter time and a larger share never allow less."""
    table, node = one(curve), np.array([1])
    easy = allowed(table, node, pair(min(h)), np.array([min(hold_s)]), np.array([max(share)]))[0]
    hard = allowed(table, node, pair(max(h)), np.array([max(hold_s)]), np.array([min(share)]))[0]
    assert easy >= hard >= table.continuous[table.curve_of[1]]


@given(curve=curves(), h=STATE, hold_s=TIME, share=SHARE)
def test_what_is_allowed_never_trips_and_keeps_to_its_share(
    curve: TripCurve, h: float, hold_s: float, share: float
) -> None:
    table = one(curve)
    load = allowed(table, np.array([1]), pair(h), np.array([hold_s]), np.array([share]))
    after = advance(table, pair(h), pair(load[0]), hold_s)[1]
    assert after <= h + (1 - h) * share + 1e-12
    if h < 1 and hold_s > 0:
        assert time_to_trip(table, pair(h), pair(load[0]))[1] > hold_s


@given(curve=curves(), h=STATE, load=LOAD, cuts=st.lists(st.floats(0, 50), min_size=1, max_size=6))
def test_time_may_be_cut_anywhere(curve: TripCurve, h: float, load: float, cuts: list[float]) -> None:
    table = one(curve)
    whole = advance(table, pair(h), pair(load), sum(cuts))
    state = pair(h)
    for dt_s in cuts:
        state = advance(table, state, pair(load), dt_s)
    assert state == pytest.approx(whole, abs=1e-9)


@given(curve=curves(), h=st.tuples(STATE, STATE), load=st.tuples(LOAD, LOAD), dt_s=TIME)
def test_state_is_monotone_in_state_and_load(
    curve: TripCurve, h: tuple[float, float], load: tuple[float, float], dt_s: float
) -> None:
    table = one(curve)
    low = advance(table, pair(min(h)), pair(min(load)), dt_s)[1]
    assert low <= advance(table, pair(max(h)), pair(max(load)), dt_s)[1] + 1e-12


def test_a_ups_by_its_makers_figures() -> None:
    table, node = compile_curves([APC]), np.array([0])
    cold, warm = np.zeros(1), np.full(1, 0.5)

    def most(h: np.ndarray, hold_s: float, share: float) -> float:
        return float(allowed(table, node, h, np.array([hold_s]), np.array([share]))[0])

    assert most(cold, 10.0, 1.0) == 1.50
    assert most(cold, 29.9, 1.0) == 1.50
    assert most(cold, 30.0, 1.0) == 1.25  # at 30 s it may trip
    assert most(cold, 60.0, 1.0) == 1.05
    assert most(warm, 29.9, 1.0) == 1.25
    assert most(warm, 10.0, 0.25) == 1.05
    assert most(np.ones(1), 0.0, 1.0) == 1.05
    assert time_to_trip(table, warm, np.array([1.2]))[0] == 30.0
    assert time_to_trip(table, cold, np.array([1.6]))[0] == 0.0
    assert advance(table, warm, np.array([1.0]), 60.0)[0] == pytest.approx(0.4)
    assert advance(table, cold, np.array([np.nan]), 1.0)[0] == 1.0, "an unknown load is no load below the rating"


def test_a_site_without_curves_has_no_credit() -> None:
    site = tiny_site()
    table = compile_trip(site)
    n = len(site.nodes)
    over = np.full(n, 1.01)
    assert not table.curve_of.any()
    assert not advance(table, np.zeros(n), over, 100.0).any()
    assert not time_to_trip(table, np.zeros(n), over).any()
    assert (allowed(table, np.arange(n), np.zeros(n), np.zeros(n), np.ones(n)) == 1.0).all()


def test_each_node_has_its_own_curve() -> None:
    named = {"u1": "ups_apc", "u2": "ups_staco", "w1a": "ul489_standard"}
    site = tiny_site()
    nodes = tuple(n.model_copy(update={"trip_curve": named.get(n.id, "")}) for n in site.nodes)
    table = compile_trip(tiny_site(nodes=nodes))
    i = site.node_index
    h = advance(table, np.zeros(len(nodes)), np.full(len(nodes), 1.1), 12.0)
    assert (h[i["u1"]], h[i["u2"]], h[i["w1a"]], h[i["u3"]]) == pytest.approx((0.2, 0.1, 0.0, 0.0))
