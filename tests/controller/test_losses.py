"""Losses against a recomputation of the building node by node: what they move, and the rows of today's caps."""

import numpy as np
import pytest
from helpers_losses import NODE_KINDS, After, as_after, sites, timeline
from helpers_site import tiny_site
from hypothesis import given, settings

from controller.contingency import Losses, Stage, compile_losses
from drivers.site.load import resolve_site
from drivers.site.model import Site, Switch


def recharge(site: Site, losses: Losses, case: int, stage: Stage, after: After) -> dict[str, float]:
    """Load at every node of UPS that recharge: those that rode before and have input again."""
    index = [n.id for n in site.nodes]
    loss = losses.cases[case]
    rode = {index[u] for u in loss.stages[0].riding}
    if "battery ended" in stage.name:
        until = stage.name[: stage.name.index("battery ended")] + "battery ended"
        rode |= {index[n] for s in loss.stages if s.name == until for n in s.dead} - {loss.id}
    if stage is loss.stages[0] or not (stage.fed or stage.name == "source back"):
        return {}
    hung: dict[str, float] = {}
    for node in site.nodes:
        idle = node.id in after.riding() or not after.live(node.id) or (node.parent and not after.live(node.parent))
        if node.kind == "ups" and node.id in rode and not idle:
            watts = {"W": node.rating, "VA": node.rating * site.control.power_factor_worst}[node.rating_unit]
            hung[node.parent] = hung.get(node.parent, 0.0) + 0.1 * watts * node.derating
    return after.load(hung)


def check_sums(site: Site, losses: Losses, watts: np.ndarray) -> None:
    """Base and delta give the load of every survivor; where there is no cell nothing arrives."""
    ids = [n.id for n in site.nodes]
    of_rack = {r.id: float(w) for r, w in zip(site.racks, watts, strict=True)}
    before = After(site)
    base = losses.base.dot(watts)
    expected = before.load(before.hang_racks(of_rack))
    assert base == pytest.approx([expected[i] for i in ids], rel=1e-9, abs=1e-6)
    moved = losses.delta.dot(watts)
    cell = {
        key: d
        for d, key in enumerate(zip(losses.delta_case, losses.delta_stage, losses.delta_node, strict=True))
    }  # fmt: skip
    for c, loss in enumerate(losses.cases):
        for s, stage in enumerate(loss.stages):
            after = as_after(site, loss.id, loss.kind, stage)
            assert {ids[n] for n in stage.dead} == {i for i in ids if not after.live(i)}
            then = after.load(after.hang_racks(of_rack))
            for n, name in enumerate(ids):
                if (c, s, n) in cell:
                    assert base[n] + moved[cell[c, s, n]] == pytest.approx(then[name], rel=1e-9, abs=1e-6)
                else:
                    assert then[name] <= base[n] * (1.0 + 1e-9) + 1e-6


def check_moved(site: Site, losses: Losses) -> None:
    """Load that nobody caps: each consumer counts where it adds, none where it leaves."""
    ids = [n.id for n in site.nodes]
    before = After(site)
    names = [name for name, _, _ in before.consumers()]
    was = {name: before.load_of(name) for name in names}
    for c, loss in enumerate(losses.cases):
        for s, stage in enumerate(loss.stages):
            after = as_after(site, loss.id, loss.kind, stage)
            gained = recharge(site, losses, c, stage, after)
            for name in names:
                now = after.load_of(name)
                for i in ids:
                    gained[i] = gained.get(i, 0.0) + max(now[i] - was[name][i], 0.0)
            at = (losses.delta_case == c) & (losses.delta_stage == s)
            got = dict(zip(losses.delta_node[at].tolist(), losses.delta_moved_w[at].tolist(), strict=True))
            for n, name in enumerate(ids):
                assert got.get(n, 0.0) == pytest.approx(gained.get(name, 0.0), rel=1e-9, abs=1.0), (loss.id, stage)


def check_rows(site: Site, losses: Losses, watts: np.ndarray) -> None:
    """Rows and fast parts together are the survivor's load; who is in which follows from the actuators."""
    ids = [n.id for n in site.nodes]
    of_rack = {r.id: float(w) for r, w in zip(site.racks, watts, strict=True)}
    got = losses.rows.dot(watts) + losses.fast.dot(watts)
    act_s = [2.0 + site.actuators[r.actuator].latency_s + 3 * site.actuators[r.actuator].settle_s for r in site.racks]
    for j, name in enumerate(losses.name):
        loss = losses.cases[losses.case_of[j]]
        stage = loss.stages[losses.stage_of[j]]
        after = as_after(site, loss.id, loss.kind, stage)
        then = after.load(after.hang_racks(of_rack))
        assert got[j] == pytest.approx(then[ids[losses.node_of[j]]], rel=1e-9, abs=1e-6), name
        slow = losses.rows.racks[losses.rows.of_entry == j]
        fast = losses.fast.racks[losses.fast.of_entry == j]
        if np.isinf(losses.hold_s[j]):
            assert not len(fast)
            continue
        begin_s, hold_s = losses.begin_s[j] + stage.at_s, losses.hold_s[j] + stage.at_s
        assert all(act_s[r] >= hold_s - 1e-6 for r in slow)
        assert all(act_s[r] <= begin_s + 1e-6 for r in fast)


@pytest.mark.parametrize("name", ["tiny", "hall"])
def test_sums_and_rows_are_those_of_a_walk_through_the_building(name: str) -> None:
    site = tiny_site() if name == "tiny" else resolve_site("hall")
    losses = compile_losses(site)
    watts = np.random.default_rng(1).uniform(20e3, 90e3, len(site.racks))
    check_sums(site, losses, watts)
    check_rows(site, losses, watts)
    if name == "tiny":
        check_moved(site, losses)


@settings(max_examples=60, deadline=None)
@given(sites())
def test_so_they_are_on_random_sites(site: Site) -> None:
    losses = compile_losses(site)
    watts = np.random.default_rng(3).uniform(20e3, 90e3, len(site.racks))
    check_sums(site, losses, watts)
    check_moved(site, losses)
    check_rows(site, losses, watts)


@settings(max_examples=60, deadline=None)
@given(sites())
def test_stages_are_those_that_the_rules_give(site: Site) -> None:
    ids = [n.id for n in site.nodes]
    for loss in compile_losses(site).cases:
        if loss.kind not in NODE_KINDS:
            continue
        got = {
            (s.at_s, tuple(sorted(ids[n] for n in s.dead)), tuple(sorted((ids[a], ids[b]) for a, b in s.fed)))
            for s in loss.stages
            if s.name != "source back"
        }
        expected = {
            (at_s, tuple(sorted(i for i in ids if not a.live(i))), tuple(sorted(a.fed.items())))
            for at_s, a in timeline(site, loss.id)
        }
        assert {x[1:] for x in got} == {x[1:] for x in expected}
        assert got <= expected


def secured_by(site: Site, security: str) -> Losses:
    """The losses under another rule of security."""
    control = site.control.model_copy(update={"security": security})
    return compile_losses(site.model_copy(update={"control": control}))


def test_preventive_counts_on_nobody_and_none_on_nothing() -> None:
    site = resolve_site("hall")
    preventive, none = secured_by(site, "preventive"), secured_by(site, "none")
    assert not none.name
    assert not none.reserve_w.any()
    assert len(preventive.name) > len(secured_by(site, "corrective").name)
    assert np.isinf(preventive.hold_s).all()
    assert (preventive.weight == 1.0).all()
    assert (preventive.fast_w == 0.0).all()
    watts = np.random.default_rng(4).uniform(20e3, 90e3, len(site.racks))
    check_rows(site, preventive, watts)


@settings(max_examples=40, deadline=None)
@given(sites())
def test_weights_sum_to_one_and_fast_racks_are_at_their_floors_with_a_margin(site: Site) -> None:
    losses = compile_losses(site)
    floor_w, spread_w = np.full(len(site.racks), 45e3), np.full(len(site.racks), 35e3)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for j, key in enumerate(zip(losses.case_of, losses.stage_of, losses.node_of, strict=True)):
        groups.setdefault(key, []).append(j)
        each = losses.fast.coeff[losses.fast.of_entry == j]
        margin_w = max(0.05 * (each * spread_w[0]).sum(), (each * spread_w[0]).max(initial=0.0))
        assert losses.fast_w[j] == pytest.approx((each * floor_w[0]).sum() + margin_w, abs=1e-6)
    for rows in groups.values():
        if losses.begin_s[rows[0]] == 0.0 and len(rows) == 2:
            assert losses.weight[rows].sum() == pytest.approx(1.0)
            assert losses.begin_s[rows[1]] == losses.hold_s[rows[0]]


@settings(max_examples=40, deadline=None)
@given(sites())
def test_losses_on_top_of_an_outage(site: Site) -> None:
    """Base and delta with one element out already, for every second loss, at the instant."""
    out = "n0"
    losses = compile_losses(site, frozenset([out]))
    ids = [n.id for n in site.nodes]
    first = next(x for x in compile_losses(site).cases if x.id == out)
    steady = [s for s in first.stages if s.name != "source back"]
    state = next((s for s in reversed(steady) if s.fed), steady[-1])
    fed = {ids[a]: ids[z] for a, z in state.fed}
    dead = {ids[n] for n in state.dead} | {out}
    watts = np.random.default_rng(5).uniform(20e3, 90e3, len(site.racks))
    of_rack = {r.id: float(w) for r, w in zip(site.racks, watts, strict=True)}
    before = After(site, frozenset(dead), fed)
    was = before.load(before.hang_racks(of_rack))
    assert losses.base.dot(watts) == pytest.approx([was[i] for i in ids], rel=1e-9, abs=1e-6)
    moved = losses.delta.dot(watts)
    for d, c in enumerate(losses.delta_case.tolist()):
        loss = losses.cases[c]
        if losses.delta_stage[d] or loss.kind not in NODE_KINDS or loss.id in fed:
            continue
        after = After(site, frozenset(dead | {loss.id}), fed)
        n = int(losses.delta_node[d])
        then = after.load(after.hang_racks(of_rack))[ids[n]]
        assert losses.base.dot(watts)[n] + moved[d] == pytest.approx(then, rel=1e-9, abs=1e-6)


def test_at_other_shares_a_rack_that_moves_whole_still_moves_whole() -> None:
    site = tiny_site()
    losses = compile_losses(site)
    share = np.array([[0.7, 0.3]] * len(site.racks))
    moved = losses.at_shares(share)
    racks = tuple(r.model_copy(update={"share_a": 0.7}) for r in site.racks)
    built = compile_losses(site.model_copy(update={"racks": racks}))
    assert moved.base.coeff == pytest.approx(built.base.coeff)
    assert moved.rows.coeff == pytest.approx(built.rows.coeff)
    watts = np.full(len(site.racks), 50e3)
    cells = zip(built.delta_case, built.delta_stage, built.delta_node, strict=True)
    key = dict(zip(cells, built.delta.dot(watts), strict=True))
    for d, k in enumerate(zip(moved.delta_case, moved.delta_stage, moved.delta_node, strict=True)):
        assert moved.delta.dot(watts)[d] == pytest.approx(key.get(k, 0.0))


def test_no_tie_closes_onto_what_its_source_hangs_on() -> None:
    """A UPS on battery could feed its own input through two ties: one alone closes."""
    ties = tuple(
        Switch(id=f"tie-{a}-{b}", kind="tie", a=a, b=b, normal="open", transfer_s=1.0)
        for a, b in (("msa", "u1"), ("sub1", "msa"))
    )
    site = tiny_site(switches=ties)
    losses, at = compile_losses(site), site.node_index
    stages = next(c for c in losses.cases if c.id == "feed1").stages
    fed = {pair for s in stages for pair in s.fed}
    assert fed == {(at["msa"], at["u1"])}
    assert {pair for _, after in timeline(site, "feed1") for pair in after.fed.items()} == {("msa", "u1")}
    check_sums(site, losses, np.full(len(site.racks), 60e3))
