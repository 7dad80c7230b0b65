"""Verdicts on losses and outages: what is called secured survives by the oracle; known cases of the reference sites."""

import json

import numpy as np
import pytest
from helpers_control import Bench, bench
from helpers_losses import After, as_after, sites
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import corrective as co
from controller import outage as out
from controller import verdict
from controller.design import design
from controller.frames import Estimate, Floats, Limits
from drivers.site.load import resolve_site
from drivers.site.model import Site

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def hall() -> Bench:
    return bench(site=resolve_site("hall"))


def full(b: Bench) -> tuple[co.Kit, Estimate, Limits, Floats]:
    """Kit and frames at full demand by the site file."""
    frames, _ = design(b.plan, b.inventory)
    return co.compile_kit(b.plan), frames.estimate, frames.limits, frames.proposal.cap_w


def squeezed(site: Site, rng: np.random.Generator) -> Site:
    """The same site with ratings near what its nodes carry."""
    base = After(site)
    load = base.load(base.hang_racks({r.id: r.max_w for r in site.racks}))
    nodes = [n.model_copy(update={"rating": max(float(load[n.id] * rng.uniform(0.9, 3.0)), 2e3)}) for n in site.nodes]
    return site.model_copy(update={"nodes": tuple(nodes)})


@settings(max_examples=30, deadline=None)
@given(sites(), SEEDS)
def test_what_is_called_secured_never_carries_more_than_its_rating(site: Site, seed: int) -> None:
    """Curves without credit: from the moment its load arrives, with racks acting at their own times."""
    b = bench(site=squeezed(site, np.random.default_rng(seed)))
    kit, estimate, limits, cap_w = full(b)
    losses, ids = b.plan.losses, [n.id for n in b.site.nodes]
    number = {x.id: c for c, x in enumerate(losses.cases)}
    for v in verdict.contingencies(kit, estimate, limits, cap_w):
        case = number[v.id]
        loss = losses.cases[case]
        fix = co.corrective(kit, case, estimate, limits, cap_w)
        assert not (v.secured and len(fix.shed_rack))
        for s, stage in enumerate(loss.stages):
            after = as_after(b.site, loss.id, loss.kind, stage)
            for begin_s in [0.0, *np.unique(losses.act_s).tolist()]:
                if begin_s and begin_s <= stage.at_s:
                    continue
                acted = losses.act_s <= max(begin_s, stage.at_s)
                now_w = np.where(acted, fix.caps(cap_w), cap_w)
                then = after.load(after.hang_racks({r.id: w for r, w in zip(b.site.racks, now_w, strict=True)}))
                for d in np.flatnonzero((losses.delta_case == case) & (losses.delta_stage == s)):
                    n = losses.delta_node[d]
                    load_w = then[ids[n]] + max(float(estimate.other_w[n]), 0.0) + losses.delta_moved_w[d]
                    assert not v.secured or load_w <= estimate.rating_w[n] * (1.0 + 1e-6) + 1.0, (v, ids[n])


def test_every_loss_of_the_hall_has_its_verdict(hall: Bench) -> None:
    kit, estimate, limits, cap_w = full(hall)
    verdicts = verdict.contingencies(kit, estimate, limits, cap_w)
    assert sorted(v.id for v in verdicts) == sorted(x.id for x in hall.plan.losses.cases)
    assert [v.secured for v in verdicts] == sorted(v.secured for v in verdicts)
    json.dumps([v.to_dict() for v in verdicts], allow_nan=False)
    text = verdict.lines(verdicts)
    assert len(text) == 1 + len(verdicts) + sum(not v.secured for v in verdicts)
    by_id = {v.id: v for v in verdicts}
    assert by_id["h1b1u1"].secured
    assert by_id["h1b1p2-cdu1"].reason.endswith("6 racks without cooling: their own protection stops them")
    assert by_id["h1loop1-pump1"].secured


def test_more_power_than_floors_leave_is_not_secured_and_says_what_would_help(hall: Bench) -> None:
    """UPS at 60 %: half the racks' floors do not fit after a loss."""
    nodes = [n.model_copy(update={"rating": 0.45 * n.rating}) if n.kind == "ups" else n for n in hall.site.nodes]
    b = bench(site=hall.site.model_copy(update={"nodes": tuple(nodes)}))
    kit, estimate, limits, cap_w = full(b)
    by_id = {v.id: v for v in verdict.contingencies(kit, estimate, limits, cap_w)}
    v = by_id["h1b1u1"]
    assert not v.secured
    assert v.limit_s < 200.0
    assert all(x in v.reason for x in ("too much", "the shed ladder acts"))
    assert all(x in v.would_help for x in ("less on ups h1b1u", "pausing"))


def test_the_reference_site_says_what_is_known_of_it() -> None:
    """200 % on the other substation is not secured; storage on the surviving bus would help; a UPS is secured."""
    b = bench(site=resolve_site("colossus"))
    kit, estimate, limits, cap_w = full(b)
    by_id = {v.id: v for v in verdict.contingencies(kit, estimate, limits, cap_w)}
    for lost, left in (("sub1", "2"), ("sub2", "1")):
        v = by_id[lost]
        assert not v.secured
        assert v.margin < -0.9
        assert f"storage bess{left} there has 75.00 MW" in v.would_help
        assert f"bess{lost[-1]}" not in v.would_help
    assert all(v.secured for v in by_id.values() if v.kind not in ("substation", "utility_feed"))
    assert len(by_id) > 4000


def test_an_outage_is_judged_before_anyone_switches(hall: Bench) -> None:
    kit, estimate, limits, cap_w = full(hall)
    o = out.outage(kit, estimate, limits, cap_w, "h1b1u1")
    assert o.possible
    assert (o.dark, o.too_full) == ((), ())
    assert o.takes["busway"] == ("h1b1r1a", "h1b1r3a", "h1b1r5a")
    after = After(hall.site, frozenset(["h1b1u1"]), drained=True)
    load = after.load(after.hang_racks({r.id: w for r, w in zip(hall.site.racks, o.cap_w, strict=True)}))
    for n, node in enumerate(hall.site.nodes):
        assert load[node.id] + max(float(estimate.other_w[n]), 0.0) <= estimate.rating_w[n]
    assert "h1b1u2" in o.strands  # racks on both lose their second cord
    json.dumps(o.to_dict(), allow_nan=False)
    with pytest.raises(KeyError):
        out.outage(kit, estimate, limits, cap_w, "nothing")


def test_an_outage_without_cooling_or_with_too_little_says_so(hall: Bench) -> None:
    kit, estimate, limits, cap_w = full(hall)
    o = out.outage(kit, estimate, limits, cap_w, "h1b1p2-cdu1")
    assert (len(o.dark), o.possible) == (6, False)
    assert "6 racks of moe, reasoning-serving lose power or cooling" in o.words
    weak = out.outage(kit, estimate, limits, cap_w, "h1loop1-drycooler1")
    assert {v.id for v in weak.no_longer} == {"h1loop1-drycooler2", "h1loop1-drycooler3"}
    loop = hall.site.loops[0].id
    heat = sum(w for r, w in zip(hall.site.racks, weak.cap_w, strict=True) if r.cdu in _cdus(hall.site, loop))
    assert heat <= 2 * 950e3 + 2 * 200e3  # two coolers and two chillers are left


def _cdus(site: Site, loop: str) -> set[str]:
    return {c.id for c in site.cdus if c.loop == loop}
