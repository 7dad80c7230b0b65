"""Losses against a recomputation of the building node by node: what they move, and the rows of today's caps."""

import numpy as np
import pytest
from helpers_losses import NODE_KINDS, After, as_after, sites, timeline
from helpers_site import tiny_site
from hypothesis import given, settings

from controller.contingency import Losses, Stage, compile_losses
from drivers.site.load import resolve_site
from drivers.site.model import Site


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
