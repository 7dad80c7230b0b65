"""The corrective set after a loss: it holds, it only lowers, only where it must, lower classes first."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_control import Bench, bench
from helpers_losses import After, as_after, sites
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import corrective as co
from controller import shed
from controller.aftermath import may_come
from controller.design import design
from controller.frames import Estimate, Floats, Limits, Shed
from controller.policies.grid import METER_ERROR
from drivers.site.load import resolve_site
from drivers.site.model import Site

SEEDS = st.integers(0, 2**32 - 1)


def full(b: Bench) -> tuple[Estimate, Limits]:
    """Every rack asks for its nameplate; the site's own other load."""
    frames, _ = design(b.plan, b.inventory)
    return frames.estimate, frames.limits


def rack_load_w(after: After, cap_w: Floats) -> dict[str, float]:
    """Load of racks at every node, by the oracle."""
    watts = {r.id: float(w) for r, w in zip(after.site.racks, cap_w, strict=True)}
    return after.load(after.hang_racks(watts))


@pytest.fixture(scope="module")
def hall() -> Bench:
    return bench(site=resolve_site("hall"))


def squeezed(site: Site, rng: np.random.Generator) -> Site:
    """The same site with random priorities and ratings near what its nodes carry."""
    racks = [r.model_copy(update={"priority": int(rng.integers(0, 3)), "id": r.id}) for r in site.racks]
    base = After(site)
    load = base.load(base.hang_racks({r.id: r.max_w for r in site.racks}))
    nodes = [n.model_copy(update={"rating": max(float(load[n.id] * rng.uniform(0.7, 2.5)), 1e3)}) for n in site.nodes]
    return site.model_copy(update={"racks": tuple(racks), "nodes": tuple(nodes)})


def check(b: Bench, estimate: Estimate, limits: Limits, cap_w: Floats) -> int:
    """Every correction against the oracle; how many there were."""
    kit, site = co.compile_kit(b.plan), b.site
    losses, ids = b.plan.losses, [n.id for n in b.site.nodes]
    prepared = co.solve_all(kit, estimate, limits, cap_w)
    for case, set_ in prepared.of_case.items():
        loss = losses.cases[case]
        caps_w, codes = set_.caps(cap_w), set_.codes(np.zeros(len(cap_w), dtype=np.uint8))
        assert (caps_w <= cap_w).all()
        power_w = np.fmin(caps_w, shed.shed_w(b.plan, codes))
        under = np.zeros(len(cap_w), dtype=np.bool_)
        due = may_come(kit, case, 0.0, None)  # what needs a tie to stay open waits until that is seen
        for s, stage in enumerate(loss.stages):
            after = as_after(site, loss.id, loss.kind, stage)
            then, now = rack_load_w(after, power_w), rack_load_w(after, cap_w)
            of = (losses.delta_case == case) & (losses.delta_stage == s)
            for n, moved_w in zip(losses.delta_node[of], losses.delta_moved_w[of], strict=True):
                other_w = max(float(estimate.other_w[n]), 0.0) + moved_w
                limit_w = float(estimate.rating_w[n]) * (1.0 - METER_ERROR)
                if set_.fits and due[s]:
                    assert then[ids[n]] + other_w <= limit_w * (1.0 + 1e-6) + 2.0 or limit_w < other_w
                if now[ids[n]] + other_w > limit_w * (1.0 + 1e-9):
                    row = losses.after(np.flatnonzero(of & (losses.delta_node == n)))
                    under[row.racks] = True
        for h in np.flatnonzero(kit.heat_case == case):
            under |= b.plan.loop_of == kit.heat_of[h].loop
        lowered = np.flatnonzero((caps_w < cap_w) | (codes > 0))
        gangs = np.isin(b.plan.gang_of, b.plan.gang_of[under])
        assert under[np.flatnonzero(caps_w < cap_w)].all() or set_.said
        assert gangs[lowered].all()
    return len(prepared.of_case)


@settings(max_examples=25, deadline=None)
@given(sites(), SEEDS)
def test_after_it_every_survivor_holds_and_only_racks_under_one_were_lowered(site: Site, seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = bench(site=squeezed(site, rng))
    cap_w = rng.uniform(45e3, 80e3, b.racks)
    frames, _ = design(b.plan, b.inventory)
    check(b, frames.estimate, frames.limits, cap_w)


def test_in_the_hall(hall: Bench) -> None:
    estimate, limits = full(hall)
    assert check(hall, estimate, limits, hall.plan.max_w.copy()) > 10


def test_lower_classes_give_first(hall: Bench) -> None:
    """A rack is below its cap only under a full survivor in which every rack of a lower class is at its floor."""
    control = hall.site.control.model_copy(update={"disobedient_share": 0.0})
    b = bench(site=hall.site.model_copy(update={"control": control}))
    estimate, limits = full(b)
    cap_w, kit, losses = b.plan.max_w.copy(), co.compile_kit(b.plan), b.plan.losses
    after = co.overloads(kit, estimate, limits, cap_w)
    lowered = 0
    for case in [c for c, x in enumerate(losses.cases) if x.kind == "ups"]:
        caps_w = co.corrective(kit, case, estimate, limits, cap_w).caps(cap_w)
        cells = np.flatnonzero((losses.delta_case == case) & after.over)
        rows, then = losses.after(cells), co.overloads(kit, estimate, limits, caps_w)
        full_up = then.load_w[cells] >= after.limit_w[cells] * 0.999
        for rack in np.flatnonzero(caps_w < cap_w):
            mine = np.unique(rows.of_entry[(rows.racks == rack) & full_up[rows.of_entry]])
            members = [rows.racks[rows.of_entry == k] for k in mine]
            worse = [m[kit.priority[m] > kit.priority[rack]] for m in members]
            assert any((caps_w[w] <= b.plan.floor_w[w] + 10.0).all() for w in worse)
            lowered += 1
    assert lowered > 50


def test_nothing_overloaded_nothing_done(hall: Bench) -> None:
    estimate, limits = full(hall)
    low_w = hall.plan.floor_w.copy()
    kit = co.compile_kit(hall.plan)
    after = co.overloads(kit, estimate, limits, low_w)
    for case in range(len(hall.plan.losses.cases)):
        if not (after.over & (hall.plan.losses.delta_case == case)).any() and case not in kit.heat_case:
            assert not len(co.corrective(kit, case, estimate, limits, low_w).rack)


def test_equal_frames_give_equal_sets_in_slices_and_at_once(hall: Bench) -> None:
    estimate, limits = full(hall)
    cap_w, kit = hall.plan.max_w.copy(), co.compile_kit(hall.plan)
    one, two = (co.solve_all(kit, estimate, limits, cap_w).of_case for _ in range(2))
    assert one.keys() == two.keys()
    for case, set_ in one.items():
        alone = co.corrective(kit, case, estimate, limits, cap_w, since_s=0.0)
        for other in (two[case], alone):
            assert np.array_equal(set_.rack, other.rack)
            assert np.array_equal(set_.cap_w, other.cap_w)
            assert np.array_equal(set_.shed_code, other.shed_code)


def test_recheck_keeps_a_set_that_still_fits_and_goes_on_where_it_does_not(hall: Bench) -> None:
    estimate, limits = full(hall)
    kit = co.compile_kit(hall.plan)
    cap_w = hall.plan.max_w.copy()
    case = next(c for c, x in enumerate(hall.plan.losses.cases) if x.kind == "ups")
    set_ = co.corrective(kit, case, estimate, limits, cap_w)
    again = co.recheck(kit, set_, estimate, limits, cap_w)
    assert np.array_equal(again.caps(cap_w), set_.caps(cap_w))
    warm = replace(estimate, rating_w=estimate.rating_w * 0.95)
    more = co.recheck(kit, set_, warm, limits, cap_w)
    assert (more.caps(cap_w) <= set_.caps(cap_w)).all()
    assert more.caps(cap_w).sum() < set_.caps(cap_w).sum()


def test_fast_racks_stand_in_for_slow_ones_until_those_have_acted() -> None:
    """Without credit the survivor must hold with the slow rack as it is; with time on its curve it need not."""
    site = tiny_site()
    slow = [r.model_copy(update={"actuator": "slow" if r.id == "r1" else "inband"}) for r in site.racks]
    actuators = site.actuators | {"slow": site.actuators["inband"].model_copy(update={"latency_s": 20.0})}
    nodes = [n.model_copy(update={"rating": 110e3}) if n.kind == "ups" else n for n in site.nodes]
    for curve, stands_in in (("", True), ("ups_apc", False)):
        curved = tuple(n.model_copy(update={"trip_curve": curve}) if n.kind == "ups" else n for n in nodes)
        control = site.control.model_copy(update={"disobedient_share": 0.0})
        changed = {"racks": tuple(slow), "actuators": actuators, "nodes": curved, "control": control}
        b = bench(site=site.model_copy(update=changed))
        estimate, limits = full(b)
        kit = co.compile_kit(b.plan)
        case = next(c for c, x in enumerate(b.plan.losses.cases) if x.id == "u2")
        set_ = co.corrective(kit, case, estimate, limits, np.full(4, 80e3))
        caps_w = set_.caps(np.full(4, 80e3))
        between_w = np.where([r.id == "r1" for r in site.racks], 80e3, caps_w)
        u1 = b.site.node_index["u1"]
        load_w = rack_load_w(After(b.site, frozenset(["u2"])), between_w)["u1"] + estimate.other_w[u1]
        assert (load_w <= estimate.rating_w[u1]) == stands_in, (load_w, estimate.rating_w[u1])
        assert set_.codes(np.zeros(4, dtype=np.uint8)).max() == Shed.NONE


def test_what_needs_a_tie_to_stay_open_waits_until_that_is_seen(hall: Bench) -> None:
    """A lost feed leaves a loop without coolers if its ties stay open; a closed tie takes that off the list."""
    estimate, limits = full(hall)
    kit, cap_w = co.compile_kit(hall.plan), hall.plan.max_w.copy()
    case = next(c for c, x in enumerate(hall.plan.losses.cases) if x.id == "feed1")
    ties = {bus for s in hall.plan.losses.cases[case].stages for bus, _ in s.fed}
    alive = np.zeros(len(hall.site.nodes), dtype=np.bool_)

    def said(since_s: float) -> str:
        return " ".join(co.corrective(kit, case, estimate, limits, cap_w, since_s=since_s, alive=alive).said)

    assert "no tie closed" not in said(0.0)
    assert "no tie closed" in said(110.0)
    alive[list(ties)] = True
    assert "no tie closed" not in said(110.0)
