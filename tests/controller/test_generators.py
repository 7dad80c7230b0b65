"""A generator in the list of losses: when it carries which bus, and that its rating bounds what it is given."""

from functools import cache

import numpy as np
import pytest
from helpers_site import tiny_site

from controller.contingency import Losses, Stage, compile_losses
from controller.plan import compile_plan
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Generator, Node, Site, Switch


@cache
def hall() -> tuple[Site, Losses]:
    site = resolve_site("hall")
    return site, compile_losses(site)


def bare(site: Site) -> Site:
    """The same without generators."""
    nodes = tuple(n for n in site.nodes if n.kind != "generator")
    devices = tuple(d for d in site.devices if not d.measures.startswith("gen"))
    switches = tuple(s for s in site.switches if not s.a.startswith("gen"))
    return site.model_copy(update={"nodes": nodes, "devices": devices, "switches": switches, "generators": ()})


def stage_of(losses: Losses, lost: str, name: str) -> tuple[int, tuple[int, Stage]]:
    case = next(i for i, c in enumerate(losses.cases) if c.id == lost)
    return case, next(x for x in enumerate(losses.cases[case].stages) if x[1].name == name)


def test_a_generator_is_no_loss_and_no_feed() -> None:
    site, losses = hall()
    assert not any(c.kind == "generator" for c in losses.cases)
    plan = compile_plan(site, compile_inventory(site, load_profiles()))
    assert {site.nodes[i].kind for i in plan.feeds} == {"utility_feed"}
    assert not plan.unmanaged[site.node_index["gen1"]]


@pytest.mark.parametrize("lost", ["feed1", "sub1"])
def test_it_takes_its_bus_over_when_it_has_started_if_the_tie_has_not(lost: str) -> None:
    site, losses = hall()
    case, (number, stage) = stage_of(losses, lost, "gts1 closed")
    index = site.node_index
    assert stage.at_s == 40.0
    assert (index["sub1"], index["gen1"]) in stage.fed
    assert not stage.riding
    at = (losses.delta_case == case) & (losses.delta_stage == number) & (losses.delta_node == index["gen1"])
    (cell,) = np.flatnonzero(at)
    racks_w = np.array([r.max_w for r in site.racks])
    half_w = losses.base.dot(racks_w)[index["sub1"]]
    assert losses.delta.dot(racks_w)[cell] == pytest.approx(half_w, rel=1e-9)  # a winding's bus, past its loss
    assert losses.delta_moved_w[cell] < 0.3e6, "no UPS recharges on it"


def test_the_stages_that_were_are_the_same_with_it() -> None:
    site, losses = hall()
    before = compile_losses(bare(site))
    assert [c.id for c in losses.cases] == [c.id for c in before.cases]
    for with_it, without in zip(losses.cases, before.cases, strict=True):
        kept = [s for s in with_it.stages if "gts" not in s.name]
        assert [(s.name, s.at_s, s.fed) for s in kept] == [(s.name, s.at_s, s.fed) for s in without.stages]
        more = {s.name for s in with_it.stages} - {s.name for s in without.stages}
        assert bool(more) == (with_it.id in ("feed1", "feed2", "sub1", "sub2"))


def test_it_carries_the_second_half_when_the_first_is_out() -> None:
    """One substation out by plan, the other lost: nothing but the generators is left."""
    site, _ = hall()
    losses = compile_losses(site, frozenset(["feed2"]), frozenset(["feed1"]))
    carried = {s.name for s in losses.cases[0].stages if any(site.nodes[g].kind == "generator" for _, g in s.fed)}
    assert carried


def test_a_site_with_no_other_source_names_the_generator_alone() -> None:
    node = {"id": "gen1", "kind": "generator", "rating": 250e3, "rating_unit": "VA", "volt_v": 13800}
    site = tiny_site(
        nodes=(*tiny_site().nodes, Node.model_validate(node)),
        generators=(Generator(id="gen1", start_s=12, ramp_w_per_s=1e4),),
        switches=(Switch(id="gts1", kind="transfer", a="gen1", b="sub1", normal="open", transfer_s=2),),
    )
    losses = compile_losses(site, only=frozenset(["feed1"]))
    names = [s.name for s in losses.cases[0].stages]
    assert names[0] == "instant"
    assert "gts1 closed" in names
