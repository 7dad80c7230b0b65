"""Protections open at the time of their own curve, inside the catalog's band, and take what hangs on them along."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.site.catalog import TRIP_CURVES
from drivers.site.model import Site
from sim.plant.base import DT_S
from sim.plant.network import compile_network
from sim.plant.protection import ASSUMED, Protections, compile_protections, protect, times_to_trip

RATED_W = compile_network(tiny_site()).tree.rated_w


def site(curve: str, kind: str = "ups") -> Site:
    """Every node of a kind has this curve."""
    nodes = (n.model_copy(update={"trip_curve": curve} if n.kind == kind else {}) for n in tiny_site().nodes)
    return tiny_site(nodes=tuple(nodes))


def compiled(of: Site, seed: int = 1) -> Protections:
    return compile_protections(of, RATED_W, np.ones(len(RATED_W)), np.random.default_rng(seed))


def opened_after_s(p: Protections, at: int, out_w: float, most_s: float) -> float:
    """When node `at` opens at a constant load; infinite when it has not by then."""
    n = len(p.base_w)
    in_service, heat, tripped = np.ones(n, dtype=bool), np.zeros(n), np.zeros(n, dtype=bool)
    load = np.zeros(n)
    load[at] = out_w
    for step in range(1, round(most_s / DT_S) + 1):
        if protect(p, load, in_service, heat, tripped):
            assert not in_service[at]
            assert tripped[at]
            assert tripped.sum() == 1
            return step * DT_S
    return np.inf


@given(seed=st.integers(0, 1000), load=st.floats(1.06, 1.5))
@settings(max_examples=30, deadline=None)
def test_a_unit_opens_inside_the_makers_band(seed: int, load: float) -> None:
    p, curve, at = compiled(site("ups_apc"), seed), TRIP_CURVES["ups_apc"], tiny_site().node_index["u1"]
    least_s = next(s for m, s in curve.points if load <= m)
    most_s = next(s for m, s in curve.longest if load <= m)
    out_w = load * RATED_W[at]
    assert least_s <= opened_after_s(p, at, out_w, 700.0) <= most_s + DT_S


def test_it_opens_when_its_own_curve_says() -> None:
    p, at = compiled(site("ups_apc")), tiny_site().node_index["u2"]
    for load, point in ((1.06, 0), (1.25, 0), (1.3, 1), (1.5, 1)):
        expected_s = p.seconds[at, point]
        n = len(p.base_w)
        assert times_to_trip(p, load * p.base_w, np.zeros(n))[at] == expected_s
        assert opened_after_s(p, at, load * p.base_w[at], 700.0) == pytest.approx(expected_s, abs=DT_S)
    assert opened_after_s(p, at, 1.6 * p.base_w[at], 1.0) == DT_S


def test_nothing_opens_at_a_continuous_load() -> None:
    p = compiled(site("ups_apc"))
    at = tiny_site().node_index["u1"]
    assert opened_after_s(p, at, 1.05 * RATED_W[at], 4000.0) == np.inf
    n = len(p.base_w)
    assert np.isinf(times_to_trip(p, 0.98 * p.base_w, np.zeros(n))).all()


def test_a_state_cools_and_counts_again() -> None:
    p, at = compiled(site("ups_apc")), tiny_site().node_index["u1"]
    n = len(p.base_w)
    in_service, heat, tripped = np.ones(n, dtype=bool), np.zeros(n), np.zeros(n, dtype=bool)
    for _ in range(40):
        protect(p, 1.2 * p.base_w, in_service, heat, tripped)
    used = 10.0 / p.seconds[at, 0]
    assert heat[at] == pytest.approx(used)
    for _ in range(40):
        protect(p, 0.9 * p.base_w, in_service, heat, tripped)
    assert heat[at] == pytest.approx(used - 10.0 / p.cool_s[at])
    assert times_to_trip(p, 1.2 * p.base_w, heat)[at] == pytest.approx((1 - heat[at]) * p.seconds[at, 0])


def test_units_differ_by_seed_and_only_by_seed() -> None:
    first, again, other = (compiled(site("ups_apc"), s).seconds for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    ups = [i for i, n in enumerate(tiny_site().nodes) if n.kind == "ups"]
    assert len(set(first[ups, 0])) == len(ups)


def test_every_curve_of_the_catalog_has_times_and_they_fall() -> None:
    for name, curve in TRIP_CURVES.items():
        assert curve.points or name in ASSUMED
        p = compiled(site(name), 3)
        assert (np.diff(p.seconds, axis=1) <= 0.0).all()


def test_a_breaker_counts_from_its_full_rating_and_its_worst_phase() -> None:
    at = tiny_site().node_index["w1a"]  # 400 A, used to 80 %
    p = compile_protections(tiny_site(), RATED_W, np.full(len(RATED_W), 1.1), np.random.default_rng(1))
    assert p.base_w[at] == RATED_W[at]
    assert opened_after_s(p, at, 0.88 * RATED_W[at], 8000.0) == np.inf
    assert 120.0 <= opened_after_s(p, at, 0.92 * RATED_W[at], 8000.0) <= 7201.0


def overloaded() -> Site:
    """The PDU of rack 1's A cord is too small for its half of the rack."""
    small = (n.model_copy(update={"rating": 28.0}) if n.id == "r1a" else n for n in tiny_site().nodes)
    return tiny_site(nodes=tuple(small))


def test_an_overloaded_pdu_opens_and_the_rack_moves_to_the_other() -> None:
    plant = make_plant(*FULL, UNCAPPED, site=overloaded())
    at = plant.site.node_index["r1a"]
    plant.step(5.0)
    t = plant.truth()
    assert (t.trips, t.tripped, t.worst_node, t.worst_trip_node) == (0, (), "r1a", "r1a")
    assert 0.0 < t.trip_state_max < 1.0
    assert 0.0 < t.least_trip_s < 60.0
    plant.step(np.ceil(t.least_trip_s) + 1.0)
    t = plant.truth()
    assert (t.trips, t.tripped) == (1, ("r1a",))
    assert t.node_w[at] == 0.0
    assert t.rack_w[0] == pytest.approx(81600, rel=1e-3)
    assert np.isinf(t.least_trip_s)


def test_an_open_busway_takes_its_racks_along_to_their_other_cord() -> None:
    small = (n.model_copy(update={"rating": 28.0}) if n.id == "w1a" else n for n in tiny_site().nodes)
    plant = make_plant(*FULL, UNCAPPED, site=tiny_site(nodes=tuple(small)))
    plant.step(60.0)
    t, index = plant.truth(), plant.site.node_index
    assert t.tripped == ("w1a",)
    assert t.node_w[index["r1a"]] == 0.0
    assert t.node_w[index["r1b"]] == pytest.approx(81600, rel=2e-2)


def test_what_the_scenario_takes_out_did_not_trip() -> None:
    plant = make_plant({"do": "outage", "at_s": 1.0, "id": "u1"})
    plant.step(3.0)
    assert plant.truth().tripped == ()
    assert plant.truth().trips == 0
