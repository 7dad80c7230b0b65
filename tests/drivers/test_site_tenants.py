"""Tenants in a site's files: guarantees that do not fit are named with their limit; those that fit can be drawn."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.check import check_path, check_site
from drivers.profile import load_profiles
from drivers.site.load import load_site
from drivers.site.model import Job, Site, Tenant
from drivers.site.reference import SITES
from drivers.site.sums import node_loads
from drivers.site.tenants import guaranteed_w, racks_of
from drivers.site.write import table_text, write_site

profiles = cache(load_profiles)


def said(site: Site) -> list[str]:
    """What the check says of a site."""
    return [p.what for p in check_site(site, profiles())]


@dataclass(frozen=True)
class Tight:
    """A change of the tiny site that leaves the floors and safe caps room, and the guarantees none."""

    table: str
    row: str
    change: dict[str, float]
    says: str


TIGHT = (
    Tight("nodes", "u3", {"rating": 80e3}, "load ups 'u3' with 81.85 kW"),
    Tight("cdus", "c1", {"capacity_w": 60e3}, "load CDU 'c1' with 61.20 kW, it may carry 60.00 kW: 1.20 kW too much"),
    Tight("loops", "loop1", {"flow_lpm": 280}, "load loop 'loop1' with"),
)


@pytest.mark.parametrize("tight", TIGHT)
def test_guarantees_that_do_not_fit_name_the_limit_and_by_how_much(tight: Tight) -> None:
    site = tiny_site(tenants=(Tenant(id="a", guarantee_w=244.8e3), Tenant(id="b", guarantee_w=81.6e3)))
    control = site.control.model_copy(update={"envelope_w": 400e3})
    site = site.model_copy(update={"control": control})
    assert not said(site)
    rows = [x.model_copy(update=tight.change if x.id == tight.row else {}) for x in getattr(site, tight.table)]
    found = said(site.model_copy(update={tight.table: tuple(rows)}))
    assert any(tight.says in x for x in found), found


def test_guarantees_above_the_envelope_are_named() -> None:
    site = tiny_site(tenants=(Tenant(id="a", guarantee_w=244e3), Tenant(id="b", guarantee_w=81e3)))
    (found,) = said(site)
    assert found.startswith("the guarantees of all tenants load the envelope with 359.94 kW, it may")


def test_a_table_that_went_missing_is_said() -> None:
    """With it the guarantees would go without a word."""
    site = tiny_site()
    assert any(j.tenant for j in site.jobs)
    found = said(site.model_copy(update={"tenants": ()}))
    assert found
    assert all("tenant" in x for x in found), found
    nobodys = tuple(j.model_copy(update={"tenant": ""}) for j in site.jobs)
    assert not said(site.model_copy(update={"tenants": (), "jobs": nobodys}))


def test_an_empty_cell_is_no_maximum(tmp_path: Path) -> None:
    site = tiny_site()
    assert table_text(Tenant, site.tenants) == "id,guarantee_w,max_w\na,150000,\nb,0,81000\n"
    write_site(site, tmp_path)
    assert load_site(tmp_path).tenants == site.tenants
    assert check_path(tmp_path, profiles()) == []


@given(share=st.floats(0.0, 1.0), first=st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_the_proof_draws_each_guarantee_class_by_class(share: float, first: int) -> None:
    """Racks of one tenant in two classes: the sum is the guarantee, and the second class waits for the first."""
    site = tiny_site()
    racks = tuple(r.model_copy(update={"job": f"j{i}", "priority": int(i == first)}) for i, r in enumerate(site.racks))
    least_w, most_w = sum(r.floor_w for r in racks), sum(r.max_w for r in racks)
    tenant = Tenant(id="t", guarantee_w=least_w + share * (most_w - least_w))
    jobs = tuple(Job(id=f"j{i}", kind="training", tenant="t") for i in range(len(racks)))
    site = site.model_copy(update={"racks": racks, "jobs": jobs, "tenants": (tenant,)})
    power_w = guaranteed_w(site)
    assert sum(power_w.values()) == pytest.approx(tenant.guarantee_w)
    behind = site.racks[first]
    if power_w[behind.id] > behind.floor_w * (1 + 1e-9):
        assert all(power_w[r.id] == pytest.approx(r.max_w) for r in racks if r is not behind)


@pytest.mark.parametrize("name", sorted(SITES))
def test_reference_sites_keep_their_promises(name: str) -> None:
    site = SITES[name]()
    racks = racks_of(site)
    assert {t.id for t in site.tenants} == {j.tenant for j in site.jobs}
    assert any(t.guarantee_w for t in site.tenants)
    assert any(t.max_w is not None for t in site.tenants)
    power_w = guaranteed_w(site)
    for t in site.tenants:
        mine_w = sum(power_w[r.id] for r in racks[t.id])
        assert mine_w >= t.guarantee_w * (1 - 1e-9)
        assert t.max_w is None or mine_w <= t.max_w
    loads = node_loads(site, lambda r: power_w[r.id])
    meters_w = sum(loads[n.id] for n in site.nodes if n.kind == "utility_feed")
    assert meters_w <= site.control.envelope_w
