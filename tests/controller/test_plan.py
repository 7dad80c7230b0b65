"""The compiled plan against the site itself, walked rack by rack without matrices."""

from collections import defaultdict

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from helpers_site import tiny_site

from controller.plan import above
from controller.site_rows import marginal_cooling
from drivers.site.load import resolve_site


@pytest.fixture(scope="module", params=["tiny", "hall", "deep"])
def b(request: pytest.FixtureRequest) -> Bench:
    if request.param == "deep":
        shares = (0.0, 0.3, 1.0, 0.5)
        return bench(Wiring(behind_busway=frozenset({0, 2}), share_a=shares, ups=((0, 1e6, "VA"), (1, 1e6, "A"))))
    return bench(site=tiny_site() if request.param == "tiny" else resolve_site("hall"))


def walked(b: Bench, share: dict[str, float] | None = None) -> dict[tuple[str, int], float]:
    """What one watt in a rack adds to each row: (row name, rack) -> W."""
    site, add = b.site, defaultdict[tuple[str, int], float](float)
    nodes = {n.id: n for n in site.nodes}
    cdus = {c.id: c for c in site.cdus}
    whose = {j.id: j.tenant for j in site.jobs}
    named = [t.id for t in site.tenants if t.guarantee_w or t.max_w]
    heat = sum(u.power_w for u in site.cooling if u.kind != "pump" and not u.standby) / sum(r.max_w for r in site.racks)
    for i, rack in enumerate(site.racks):
        a = rack.share_a
        for pdu, watts in ((rack.pdu_a, a), (rack.pdu_b, 1.0 - a)):
            node = nodes[pdu]
            add[node.id, i] += watts
            while node.parent:
                watts /= node.efficiency
                node = nodes[node.parent]
                add[node.id, i] += watts
            add["envelope", i] += watts
        add["envelope", i] += heat
        add[rack.cdu, i] += rack.liquid_share
        add[cdus[rack.cdu].loop, i] += 1.0
        if whose.get(rack.job) in named:
            add[whose[rack.job], i] += 1.0
    return {key: watts for key, watts in add.items() if watts > 0.0}


def test_every_coefficient_is_what_a_walk_up_the_tree_gives(b: Bench) -> None:
    rows = b.plan.rows
    compiled = {
        (b.plan.row_name[k], int(r)): float(c)
        for k, r, c in zip(rows.of_entry, rows.racks, rows.coeff, strict=True)
        if c > 0.0
    }
    expected = walked(b)
    assert compiled.keys() == expected.keys()
    assert all(compiled[key] == pytest.approx(watts, rel=1e-12) for key, watts in expected.items())


def test_a_sum_over_rows_is_the_load_of_each_node(b: Bench) -> None:
    watts = np.random.default_rng(2).uniform(10e3, 80e3, b.racks)
    got = b.plan.rows.dot(watts)
    node_w = b.node_w(watts)
    assert got[b.plan.node_row] == pytest.approx([node_w[n.id] for n in b.site.nodes])
    feeds_w = sum(node_w[n.id] for n in b.site.nodes if not n.parent)
    assert got[b.plan.envelope_row] == pytest.approx(feeds_w + marginal_cooling(b.site) * watts.sum())


def test_other_shares_move_load_and_never_count_a_watt_twice(b: Bench) -> None:
    """All on cord B; then each cord counted with all of it, as when the shares are unknown."""
    racks = b.racks
    moved = b.plan.rows.at_shares(np.tile([0.0, 1.0], (racks, 1)))
    both = b.plan.rows.at_shares(np.ones((racks, 2)))
    watts = np.full(racks, 50e3)
    a_side = [b.site.node_index[r.pdu_a] for r in b.site.racks]
    b_side = [b.site.node_index[r.pdu_b] for r in b.site.racks]
    assert moved.dot(watts)[a_side] == pytest.approx(0.0)
    assert moved.dot(watts)[b_side] == pytest.approx(50e3)
    assert both.dot(watts)[a_side] == pytest.approx(50e3)
    assert both.dot(watts)[b_side] == pytest.approx(50e3)
    env = b.plan.envelope_row
    assert both.dot(watts)[env] <= 1.03 * b.plan.rows.dot(watts)[env]
    assert (both.dot(watts) >= b.plan.rows.dot(watts) - 1e-6).all()


def test_rows_stand_in_the_order_of_their_slices(b: Bench) -> None:
    plan, site = b.plan, b.site
    assert plan.row_name[plan.node_row] == tuple(n.id for n in site.nodes)
    assert plan.row_name[plan.cdu_row] == tuple(c.id for c in site.cdus)
    assert plan.row_name[plan.loop_row] == tuple(x.id for x in site.loops)
    assert plan.row_name[plan.tenant_row] == tuple(t.id for t in site.tenants)
    assert plan.row_name[plan.envelope_row] == "envelope"
    assert len(plan.row_name) == len(plan.row_kind) == plan.envelope_row + 1 == len(plan.rows.indptr) - 1


def test_a_row_of_one_rack_is_single(b: Bench) -> None:
    touched = defaultdict[str, set[int]](set)
    for rack in range(b.racks):
        for pdu in (b.site.racks[rack].pdu_a, b.site.racks[rack].pdu_b):
            for node in b.site.ancestors(pdu):
                touched[node].add(rack)
        touched[b.site.racks[rack].cdu].add(rack)
    for i, name in enumerate(b.plan.row_name[: b.plan.cdu_row.stop]):
        assert bool(b.plan.single[i]) == (len(touched[name]) == 1), name
    assert not b.plan.single[b.plan.envelope_row]


def test_a_training_job_is_one_gang_and_every_other_rack_its_own(b: Bench) -> None:
    training = {j.id for j in b.site.jobs if j.kind == "training"}
    for i, one in enumerate(b.site.racks):
        assert b.plan.gang_class[b.plan.gang_of[i]] == one.priority
        for j, other in enumerate(b.site.racks):
            together = i == j or (one.job == other.job and one.job in training)
            assert (b.plan.gang_of[i] == b.plan.gang_of[j]) == together


def test_slots_point_at_the_meters_of_the_things_they_name(b: Bench) -> None:
    plan = b.plan
    meter = {d.measures: d.id for d in b.site.devices}
    for i, node in enumerate(b.site.nodes):
        name = meter.get(node.id)
        assert plan.node_slot.power[i] == b.slots.get((name or "", "power_w"), -1)
    for i, rack in enumerate(b.site.racks):
        assert plan.pdu_slot[i].tolist() == [b.slots[meter[x], "power_w"] for x in (rack.pdu_a, rack.pdu_b)]
        for point, slots in plan.agent_slot.items():
            assert slots[i] == b.slots[rack.id, point]
        cdu = next(c for c in b.site.cdus if c.id == rack.cdu)
        own = set(cdu.fed_from) & {rack.pdu_a, rack.pdu_b}
        assert plan.own_cdu_slot[i] == (b.slots[meter[cdu.id], "power_w"] if own else -1)
    assert all(
        slot == b.slots[meter[c.id], "flow_lpm"] for c, slot in zip(b.site.cdus, plan.cdu_flow_slot, strict=True)
    )


def test_nodes_come_deepest_first_and_all_of_them(b: Bench) -> None:
    order = np.concatenate(b.plan.bottom_up)
    assert sorted(order) == list(range(len(b.site.nodes)))
    place = {int(node): i for i, level in enumerate(b.plan.bottom_up) for node in level}
    assert all(place[i] < place[int(p)] for i, p in enumerate(b.plan.parent) if p >= 0)
    assert {b.site.nodes[i].id for i in b.plan.feeds} == {n.id for n in b.site.nodes if n.kind == "utility_feed"}


def test_what_stands_above_a_node_is_its_ancestors(b: Bench) -> None:
    for at in np.linspace(0, len(b.site.nodes) - 1, 7).astype(int):
        marked = np.arange(len(b.site.nodes)) == at
        got = {b.site.nodes[i].id for i in np.flatnonzero(above(b.plan, marked))}
        assert got == set(b.site.ancestors(b.site.nodes[at].id))


def test_native_ratings_keep_their_derating(b: Bench) -> None:
    for i, node in enumerate(b.site.nodes):
        assert b.plan.rating[i] == pytest.approx(node.rating * node.derating)
        assert b.plan.rating_unit[i] == node.rating_unit
        assert b.plan.phase[i] == pytest.approx(3**0.5 if node.phases == 3 else 1.0)
