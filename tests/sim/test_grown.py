"""Grown sites: what is a rack's own grows with it, what is shared does not, and the site still means something."""

import numpy as np
import pytest
from helpers_site import tiny_site
from hypothesis import given
from hypothesis import strategies as st

from drivers.lease.message import MAX_RACKS
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.capacity import interval
from sim.lab.grown import denser_racks, more_racks
from sim.plant.plant import Plant
from sim.scenarios import load_scenario

HALL = resolve_site("hall")


def shell(site: Site) -> tuple[object, ...]:
    return (
        [n for n in site.nodes if n.kind != "pdu"],
        site.loops,
        site.cooling,
        site.storage,
        [c for c in site.cdus if c.kind == "row"],
        site.control,
    )


@given(st.floats(1.0, 2.0))
def test_more_racks_hang_on_the_same_shell(factor: float) -> None:
    site = more_racks(HALL, factor)
    assert len(site.racks) == len(HALL.racks) + round((factor - 1.0) * len(HALL.racks))
    assert shell(site) == shell(HALL)
    nodes, cdus = {n.id: n for n in site.nodes}, {c.id for c in site.cdus}
    assert len(nodes) == len(site.nodes)
    assert len({d.id for d in site.devices}) == len(site.devices)
    assert len({r.id for r in site.racks}) == len(site.racks)
    measured = {d.measures for d in site.devices}
    for rack in site.racks:
        assert {nodes[rack.pdu_a].parent, nodes[rack.pdu_b].parent} <= {n.id for n in HALL.nodes}
        assert rack.cdu in cdus
        assert {rack.pdu_a, rack.pdu_b} <= measured
        assert rack.floor_w <= rack.safe_cap_w <= rack.max_w
    assert len({rack.pdu_a for rack in site.racks}) == len(site.racks)
    assert all(len(members) <= MAX_RACKS for members in site.lease_groups.values())
    today_w = {r.id: r.safe_cap_w for r in HALL.racks}
    part = sum(today_w.values()) / sum(today_w[r.id.removesuffix("-twin")] for r in site.racks)
    for rack in site.racks:
        was_w = today_w[rack.id.removesuffix("-twin")]
        assert rack.safe_cap_w == pytest.approx(max(rack.floor_w, part * was_w))


@given(st.floats(1.0, 2.0))
def test_denser_racks_draw_more_in_the_same_shell(factor: float) -> None:
    site = denser_racks(HALL, factor)
    assert shell(site) == shell(HALL)
    assert [r.id for r in site.racks] == [r.id for r in HALL.racks]
    assert np.allclose([r.max_w for r in site.racks], [r.max_w * factor for r in HALL.racks])
    assert all(r.floor_w <= r.safe_cap_w <= r.max_w for r in site.racks)


@pytest.mark.parametrize("grow", [more_racks, denser_racks])
def test_a_grown_plant_runs_and_balances(grow: object) -> None:
    for base in (tiny_site(), HALL):
        site = grow(base, 1.5)  # type: ignore[operator]
        plant = Plant(site, load_profiles(), load_scenario("steady"))
        plant.step(20.0)
        truth = plant.truth()
        assert truth.trips == 0
        assert len(truth.rack_w) == len(site.racks)
        assert (truth.rack_w > 0.0).all()


@pytest.mark.parametrize("factor", [0.9, 2.5])
def test_a_site_does_not_shrink_or_grow_without_end(factor: float) -> None:
    for grow in (more_racks, denser_racks):
        with pytest.raises(ValueError, match="give 1 to 2"):
            grow(HALL, factor)


def test_an_interval_holds_the_share_and_narrows_with_runs() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    assert list(interval(0, 100)) == pytest.approx([0.0, 0.037], abs=5e-4)  # the rule of three says 0.03
    assert list(interval(5, 50)) == pytest.approx([0.0435, 0.2136], abs=1e-4)  # R: binom.wilson(5, 50)
    assert interval(50, 500)[1] < interval(5, 50)[1]
