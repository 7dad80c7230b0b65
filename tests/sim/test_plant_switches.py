"""Ties close for a bus that has lost its voltage and open when its source is back; elements of every class are lost."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.site.load import resolve_site
from drivers.site.model import Control, Site, Switch
from sim.plant.plant import Plant
from sim.plant.switches import BREAK_S, RETURN_S

TIES = (
    Switch(id="tie-sub", kind="tie", a="sub1", b="sub2", normal="open", transfer_s=10),
    Switch(id="tie-ms", kind="tie", a="msa", b="msb", normal="open", transfer_s=5),
)


def tied() -> Site:
    """Ties between the substations and between the switchboards; feeds and substations that carry all."""
    plain = tiny_site()
    big = {"rating": 900e3}
    nodes = tuple(n.model_copy(update=big if n.kind in ("utility_feed", "substation") else {}) for n in plain.nodes)
    return tiny_site(nodes=nodes, switches=TIES)


def node_w(plant: Plant, name: str) -> float:
    return float(plant.truth().node_w[plant.site.node_index[name]])


@pytest.mark.parametrize("lost", ["feed1", "sub1"])
def test_a_lost_substation_is_fed_through_the_tie_while_ups_ride(lost: str) -> None:
    plant = make_plant(*FULL, UNCAPPED, {"do": "outage", "at_s": 5.0, "id": lost}, site=tied(), ups_battery_s=60.0)
    plant.step(5.0)
    before = plant.truth()
    plant.step(9.75)
    riding = plant.truth()
    assert riding.battery_w > 100e3
    assert node_w(plant, "t1") == 0.0
    assert riding.it_power_w == pytest.approx(before.it_power_w, rel=0.01)
    plant.step(0.5)
    after = plant.truth()
    assert after.battery_w < 0.0, "the batteries recharge"
    assert after.it_power_w == pytest.approx(before.it_power_w, rel=0.01)
    assert node_w(plant, "t1") > 50e3
    assert (node_w(plant, "feed1"), node_w(plant, "sub1")) == (0.0, 0.0)
    assert after.feed_w["feed2"] == pytest.approx(after.site_power_w)
    assert after.site_power_w > before.site_power_w
    assert (after.rack_w > 0.0).all()


def test_the_tie_opens_again_when_the_source_is_back() -> None:
    back_s = 40.0
    outage = {"do": "outage", "at_s": 5.0, "for_s": back_s - 5.0, "id": "feed1"}
    plant = make_plant(*FULL, UNCAPPED, outage, site=tied(), ups_battery_s=60.0)
    racks = []
    dead_s = 0.0
    while plant.t_s < back_s + RETURN_S + 3.0:
        plant.step()
        if plant.t_s > 4.0:  # caps have settled
            racks.append(plant.truth().it_power_w)
        if plant.t_s > back_s + 1.0 and node_w(plant, "t1") == 0.0:
            dead_s += 0.25
    assert min(racks) == pytest.approx(max(racks), rel=0.02), "UPS ride through both transfers"
    assert dead_s == BREAK_S
    assert node_w(plant, "feed1") > 100e3
    assert node_w(plant, "feed2") > 100e3


def test_a_board_fed_through_the_tie_carries_both_and_its_fault_does_not() -> None:
    for lost, pump1_runs in (("sub2", True), ("msb", False)):
        plant = make_plant({"do": "outage", "at_s": 2.0, "id": lost}, site=tiny_site())
        plant.step(7.0)
        assert (plant.ties.closed == -1).all()
        plant.step(10.0)
        assert (plant.ties.closed == (1 if pump1_runs else -1)).all()
        at = [u.id for u in plant.site.cooling].index("pump1")  # on msb
        assert (plant.thermal.unit_w[at] > 0.0) == pump1_runs
        assert node_w(plant, "msb") == 0.0


def test_both_sides_dead_closes_nothing() -> None:
    events = [{"do": "outage", "at_s": 1.0, "id": f"feed{i}"} for i in (1, 2)]
    plant = make_plant(*events, site=tied(), ups_battery_s=5.0)
    plant.step(60.0)
    t = plant.truth()
    assert (t.site_power_w, t.it_power_w) == (0.0, 0.0)
    assert (plant.ties.closed == -1).all()


def test_the_other_side_dies_and_the_first_comes_back() -> None:
    """sub1 hangs on sub2; sub2's feed dies while feed1 is back: sub1 returns to its own, then feeds sub2."""
    events = (
        {"do": "outage", "at_s": 1.0, "for_s": 29.0, "id": "feed1"},
        {"do": "outage", "at_s": 40.0, "id": "feed2"},
    )
    plant = make_plant(*FULL, *events, site=tied(), ups_battery_s=60.0)
    plant.step(39.0)
    assert plant.truth().feed_w["feed1"] == 0.0
    plant.step(40.0)
    t = plant.truth()
    assert t.feed_w["feed1"] == pytest.approx(t.site_power_w)
    assert (t.rack_w > 0.0).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    out=st.lists(st.sampled_from([n.id for n in tiny_site().nodes if n.kind != "pdu"]), min_size=1, max_size=4),
    for_s=st.lists(st.integers(1, 30), min_size=4, max_size=4),
    battery_s=st.sampled_from([0.0, 2.0, 30.0]),
)
@settings(max_examples=25, deadline=None)
def test_energy_balances_through_any_losses_and_ties(
    seed: int, out: list[str], for_s: list[int], battery_s: float
) -> None:
    events = [{"do": "outage", "at_s": 2.0 + 3 * i, "for_s": for_s[i], "id": x} for i, x in enumerate(out)]
    plant = make_plant(*FULL, *events, site=tied(), seed=seed, ups_battery_s=battery_s)
    plant.write("bess1", "power_set_w", 30e3 if seed % 2 else -30e3)
    for _ in range(60):
        plant.step(1.0)  # raises PlantError beyond 1e-9
        t = plant.truth()
        given_w = t.site_power_w + t.battery_w + t.storage_w
        assert given_w == pytest.approx(t.it_power_w + t.cooling_w + t.losses_w + t.load_w, rel=1e-9, abs=1e-3)
        lit = plant.elec.live[plant.network.racks.pdu_a] | plant.elec.live[plant.network.racks.pdu_b]
        assert ((t.rack_w > 0.0) == lit).all()


def test_batteries_last_as_the_site_says_unless_the_scenario_does() -> None:
    control = tiny_site().control.model_copy(update={"ups_battery_s": 7.0})
    assert isinstance(control, Control)
    plain, own = make_plant(site=tiny_site(control=control)), make_plant(ups_battery_s=3.0)
    at = plain.site.node_index["u1"]
    rated_w = plain.network.tree.rated_w[at]
    assert plain.elec.battery_j[at] == pytest.approx(7.0 * rated_w)
    assert own.elec.battery_j[at] == pytest.approx(3.0 * rated_w)


def test_a_busway_takes_its_racks_to_the_other_cord() -> None:
    plant = make_plant(*FULL, UNCAPPED, {"do": "outage", "at_s": 2.0, "id": "w1a"})
    plant.step(4.0)
    assert (node_w(plant, "r1a"), node_w(plant, "w1a")) == (0.0, 0.0)
    assert node_w(plant, "w1b") == pytest.approx(81600, rel=0.02)


def test_a_cdu_that_is_lost_moves_no_coolant() -> None:
    plant = make_plant(*FULL, {"do": "cooling_trip", "at_s": 2.0, "for_s": 30.0, "id": "c2"})
    plant.step(12.0)
    nominal = plant.network.hydraulics.cdu_flow_lpm
    assert plant.thermal.cdu_flow_lpm[1] < 0.01 * nominal[1]
    assert plant.thermal.cdu_flow_lpm[0] > 0.9 * nominal[0]
    plant.step(60.0)
    assert plant.thermal.cdu_flow_lpm[1] > 0.9 * nominal[1]


@pytest.mark.parametrize("unit", ["pump2", "dry1", "chiller1"])
def test_a_cooling_unit_is_lost_by_its_id(unit: str) -> None:
    plant = make_plant({"do": "cooling_trip", "at_s": 2.0, "id": unit})
    plant.step(10.0)
    at = [u.id for u in plant.site.cooling].index(unit)
    assert not plant.thermal.unit_ok[at]
    assert plant.thermal.unit_w[at] == 0.0


def test_storage_that_is_lost_gives_nothing_and_keeps_its_charge() -> None:
    plant = make_plant({"do": "storage_trip", "at_s": 2.0, "for_s": 5.0})
    plant.write("bess1", "power_set_w", 50e3)
    plant.step(2.0)
    assert plant.truth().storage_w == 50e3
    held_j = plant.elec.storage_j[0]
    plant.step(5.0)
    assert plant.truth().storage_w == 0.0
    assert plant.elec.storage_j[0] == held_j
    plant.step(1.0)
    assert plant.truth().storage_w == 50e3


def test_every_element_of_the_list_can_be_put_out_and_back() -> None:
    site = resolve_site("hall")
    plant = make_plant(site=site)
    kinds = [n.id for n in site.nodes if n.kind != "pdu"][:12]
    for name in (*kinds, site.cdus[0].id, site.cooling[0].id, site.storage[0].id):
        plant.director.put(name, in_service=False)
        plant.step(1.0)
        plant.director.put(name, in_service=True)
        plant.step(1.0)
    with pytest.raises(KeyError):
        plant.director.put("nothing", in_service=False)


def test_a_share_of_racks_ignores_caps_drawn_by_seed() -> None:
    def deaf(seed: int) -> np.ndarray:
        event = {"do": "ignore_caps", "at_s": 0.0, "share": 0.1}
        plant = make_plant(event, site=resolve_site("hall"), seed=seed)
        plant.step()
        return plant.director.faults.ignores_caps.copy()

    assert deaf(1).sum() == 6
    assert np.array_equal(deaf(1), deaf(1))
    assert not np.array_equal(deaf(1), deaf(2))
