"""Losses, dual cords, ride-through and storage against closed forms; energy balances through any loss."""

import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plant.base import DT_S
from sim.plant.network import compile_network

NET = compile_network(tiny_site())


def test_efficiency_near_rating_is_the_sites() -> None:
    tree, nodes = NET.tree, tiny_site().nodes
    for share in (0.7, 0.85, 1.0):
        out = share * tree.rated_w
        loss = tree.c0 + tree.c1 * out + tree.c2 * out**2
        efficiency = out / (out + loss)
        for i, node in enumerate(nodes):
            if node.kind not in ("utility_feed", "pdu"):
                assert efficiency[i] == pytest.approx(node.efficiency, abs=0.005), node.id
    assert not tree.c0[[n.kind == "pdu" for n in nodes]].any()


def test_losses_add_up_from_racks_to_the_feeds() -> None:
    plant = make_plant(*FULL, UNCAPPED)
    plant.step(5.0)
    t = plant.truth()
    used = t.it_power_w + t.cooling_w + t.losses_w + t.load_w
    assert t.site_power_w == pytest.approx(used, rel=1e-12)
    assert t.it_power_w == pytest.approx(4 * 81600, rel=1e-3)
    assert 0.03 < t.losses_w / t.it_power_w < 0.07


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.0, 1.0), out=st.sampled_from(["t1", "u2", "sub1", "feed2"]))
@settings(max_examples=25, deadline=None)
def test_energy_balances_for_any_seed_load_and_outage(seed: int, share: float, out: str) -> None:
    plant = make_plant(
        {"do": "training", "to": share},
        {"do": "inference", "to": 2.0 * share},
        {"do": "outage", "at_s": 2.0, "for_s": 3.0, "id": out},
        {"do": "cooling_trip", "at_s": 1.0, "kind": "pump"},
        seed=seed,
        ups_battery_s=1.0,
    )
    plant.write("bess1", "power_set_w", 30e3 if seed % 2 else -30e3)
    plant.step(8.0)  # raises PlantError beyond 1e-9
    t = plant.truth()
    given_w = t.site_power_w + t.battery_w + t.storage_w
    assert given_w == pytest.approx(t.it_power_w + t.cooling_w + t.losses_w + t.load_w, rel=1e-9)


def test_a_dead_cord_moves_to_the_other_side() -> None:
    plant = make_plant(*FULL, UNCAPPED, {"do": "outage", "at_s": 4.0, "id": "u1"})
    index = plant.site.node_index
    plant.step(4.0)
    before = plant.truth()
    assert before.node_w[index["r1a"]] == pytest.approx(before.node_w[index["r1b"]], rel=1e-6)
    plant.step(1.0)
    after = plant.truth()
    rack = after.rack_w[plant.site.rack_index["r1"]]
    assert after.node_w[index["r1a"]] == 0.0
    assert after.node_w[index["r1b"]] > 0.999 * rack
    assert rack == pytest.approx(81600, rel=1e-3)
    assert after.node_w[index["u1"]] == 0.0


def test_both_cords_dead_is_zero() -> None:
    plant = make_plant(*FULL, {"do": "outage", "at_s": 1.0, "id": "u1"}, {"do": "outage", "at_s": 1.0, "id": "u2"})
    plant.step(3.0)
    assert plant.truth().rack_w[0] == 0.0
    assert plant.truth().rack_w[2] == pytest.approx(20e3), "its job has crashed with the first"
    assert plant.truth().rack_w[3] > 40e3


def test_ups_rides_through_on_its_battery_then_the_load_moves() -> None:
    plant = make_plant(*FULL, {"do": "outage", "at_s": 2.0, "id": "t1"}, ups_battery_s=10.0)
    index = plant.site.node_index
    plant.step(2.0)
    load_w = float(plant.truth().node_w[index["u1"]])
    plant.step(2.0)
    riding = plant.truth()
    assert riding.node_w[index["t1"]] == 0.0
    assert riding.node_w[index["u1"]] == pytest.approx(load_w, rel=0.02)
    assert riding.battery_w > load_w
    rated_w = plant.network.tree.rated_w[index["u1"]]
    expected_s = 10.0 * rated_w / riding.battery_w
    plant.step(round((expected_s - 3.0) / DT_S) * DT_S)
    assert plant.truth().node_w[index["u1"]] > 0.0
    plant.step(3.0)
    gone = plant.truth()
    assert gone.node_w[index["u1"]] == 0.0
    assert gone.battery_w == 0.0
    assert gone.it_power_w == pytest.approx(riding.it_power_w, rel=0.01)


def test_ups_recharges_after_the_return() -> None:
    plant = make_plant(*FULL, {"do": "outage", "at_s": 1.0, "for_s": 4.0, "id": "t1"}, ups_battery_s=30.0)
    plant.step(7.0)
    i = plant.site.node_index["u1"]
    assert plant.truth().battery_w == pytest.approx(-0.1 * plant.network.tree.rated_w[i], rel=1e-9)
    plant.step(120.0)
    assert plant.truth().battery_w == 0.0
    assert plant.elec.battery_j[i] == pytest.approx(plant.elec.battery_max_j[i])


def test_storage_keeps_its_limits_and_loses_a_round_trip() -> None:
    plant = make_plant()
    start_j = plant.elec.storage_j[0]
    plant.write("bess1", "power_set_w", 1e9)
    plant.step(10.0)
    assert plant.truth().storage_w == 100e3
    assert start_j - plant.elec.storage_j[0] == pytest.approx(10.0 * 100e3 / 0.9**0.5, rel=1e-9)
    plant.elec.storage_j[0] = 0.0
    plant.step(1.0)
    assert plant.truth().storage_w == 0.0
    plant.write("bess1", "power_set_w", -50e3)
    plant.step(10.0)
    assert plant.elec.storage_j[0] == pytest.approx(10.0 * 50e3 * 0.9**0.5, rel=1e-9)
