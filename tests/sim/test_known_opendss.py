"""The electrical tree against OpenDSS (EPRI): losses within 2 %, voltages within 0.2 % (FACTS P.5)."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from helpers_opendss import Solved, solve

from drivers.points import Floats
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.plant import electrical, switches, voltage
from sim.plant.base import DT_S
from sim.plant.gensets import compile_gensets
from sim.plant.network import Network, compile_network


@dataclass
class Flowing:
    """A site's tree at rest under given powers, by the plant's kernels, and the same loads node by node."""

    site: Site
    net: Network
    state: electrical.ElecState
    direct_w: dict[str, float]


def at_rest(site: Site, share: float, seed: int, out: tuple[str, ...] = ()) -> Flowing:
    """Racks at random powers around `share` of nameplate, pumps and cooling at their ratings times `share`.

    Elements that are `out` have been so for a minute: ties have closed, batteries are empty.
    """
    net, rng = compile_network(site), np.random.default_rng(seed)
    tree, racks, hyd = net.tree, net.racks, net.hydraulics
    s, paths = electrical.start_electrical(tree, 120.0), electrical.start_paths(tree, racks, hyd)
    s.battery_j[:] = 0.0
    s.battery_max_j[:] = 0.0
    for name in out:
        s.in_service[site.node_index[name]] = False
    rack_w: Floats = racks.max_w * share * rng.uniform(0.8, 1.0, len(site.racks))
    cdu_w, unit_w = share * hyd.cdu_pump_w, share * hyd.unit_power_w
    ties, gensets = switches.compile_ties(site), compile_gensets(site, rng)
    for _ in range(round(60.0 / DT_S)):
        switches.supply(tree, ties, gensets, s)
    electrical.route(racks, hyd, s.live, paths)
    for _ in range(12):
        electrical.flow(tree, hyd, racks, s, paths, rack_w, cdu_w, unit_w)
        voltage.sag(tree, s)
    dark = {n.id for n, live in zip(site.nodes, s.live, strict=True) if not live}
    return Flowing(site, net, s, _direct_w(site, dark, rack_w, cdu_w, unit_w))


def _direct_w(site: Site, dark: set[str], rack_w: Floats, cdu_w: Floats, unit_w: Floats) -> dict[str, float]:
    """What hangs on each node, worked out from the tables."""
    alive = {n.id: n.id not in dark for n in site.nodes}
    direct: dict[str, float] = defaultdict(float)
    for rack, w in zip(site.racks, rack_w, strict=True):
        sides = {rack.pdu_a: rack.share_a, rack.pdu_b: 1.0 - rack.share_a}
        live = {k: v for k, v in sides.items() if alive[k]}
        for node, part in live.items():
            direct[node] += float(w) * (part if len(live) == 2 else 1.0)
    for fed, w in [(c.fed_from, w) for c, w in zip(site.cdus, cdu_w, strict=True)] + [
        (u.fed_from, w) for u, w in zip(site.cooling, unit_w, strict=True)
    ]:
        live_fed = [n for n in fed if alive[n]]
        for node in live_fed:
            direct[node] += float(w) / len(live_fed)
    for load in site.loads:
        direct[load.node] += load.power_w if alive[load.node] else 0.0
    return direct


def compare(f: Flowing, theirs: Solved) -> tuple[float, float]:
    """Relative error of all losses in impedances together, and the greatest error of a voltage; asserts each kind's."""
    index, s = f.site.node_index, f.state
    kinds = {n.id: n.kind for n in f.site.nodes}
    for kind in {kinds[n] for n in theirs.branch_loss_w}:
        own = sum(float(s.loss_w[index[n]]) for n in theirs.branch_loss_w if kinds[n] == kind)
        other = sum(w for n, w in theirs.branch_loss_w.items() if kinds[n] == kind)
        assert own == pytest.approx(other, rel=0.02, abs=1.0), kind
    ours = sum(float(s.loss_w[index[n]]) for n in theirs.branch_loss_w)
    worst_v = max(abs(float(s.volt2[index[n]]) ** 0.5 - v) for n, v in theirs.volt_pu.items())
    return ours / sum(theirs.branch_loss_w.values()) - 1.0, worst_v


@pytest.mark.parametrize("share", [0.3, 0.75, 1.0])
def test_hall(share: float) -> None:
    site = resolve_site("hall")
    f = at_rest(site, share, seed=3)
    theirs = solve(site, f.direct_w)
    loss, volt = compare(f, theirs)
    assert abs(loss) < 0.02
    assert volt < 0.002
    for feed, watts in theirs.source_w.items():
        i = site.node_index[feed]
        assert f.state.out_w[i] == pytest.approx(watts, rel=1e-3)
        assert f.state.out_var[i] == pytest.approx(theirs.source_var[feed], rel=0.01)


def test_hall_with_a_ups_out() -> None:
    """Dual-corded racks on one cord each: the others carry up to twice their current, four times their loss."""
    site = resolve_site("hall")
    f = at_rest(site, 0.75, seed=4, out=("h1b1u1",))
    dark = {n.id for n in site.nodes if "h1b1u1" in site.ancestors(n.id)}
    loss, volt = compare(f, solve(site, f.direct_w, {n.id for n in site.nodes} - dark))
    assert abs(loss) < 0.02
    assert volt < 0.002


def test_hall_with_a_mechanical_transformer_out_and_its_tie_closed() -> None:
    """The other transformer feeds both switchboards; the tie itself has no impedance and no meter."""
    site = resolve_site("hall")
    f = at_rest(site, 0.6, seed=6, out=("h1mtb",))
    assert f.state.live.sum() == len(site.nodes) - len(site.generators) - 1
    tied = [n.model_copy(update={"parent": "h1msa", "efficiency": 1.0}) if n.id == "h1msb" else n for n in site.nodes]
    behind = site.model_copy(update={"nodes": tuple(tied)})
    loss, volt = compare(f, solve(behind, f.direct_w, {n.id for n in site.nodes} - {"h1mtb"}))
    assert abs(loss) < 0.02
    assert volt < 0.002
    normal = at_rest(site, 0.6, seed=6)
    board = site.node_index["h1msb"]
    assert f.state.volt2[board] < normal.state.volt2[board]


def test_colossus() -> None:
    """All of it: 7,600 nodes, 160 UPS."""
    site = resolve_site("colossus")
    f = at_rest(site, 0.75, seed=5)
    theirs = solve(site, f.direct_w)
    loss, volt = compare(f, theirs)
    assert len(theirs.volt_pu) == len(site.nodes) - len(site.generators)
    assert abs(loss) < 0.02
    assert volt < 0.002
