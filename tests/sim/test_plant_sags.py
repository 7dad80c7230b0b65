"""Sags of the utility's voltage and UPS on their bypass: who rides through, who drops out, and what it costs."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site

from sim.plant.base import DT_S, PlantError
from sim.plant.plant import Plant


def sagged(to: float, for_s: float, **more: object) -> Plant:
    plant = make_plant(*FULL, UNCAPPED, {"do": "sag", "at_s": 4.0, "to": to, "for_s": for_s, **more})
    plant.step(4.0)
    return plant


def test_racks_ride_through_on_the_batteries_of_their_ups() -> None:
    plant = sagged(0.6, 1.0)
    before = plant.truth()
    plant.step(0.75)
    during = plant.truth()
    assert during.rack_w == pytest.approx(before.rack_w, rel=0.02)
    assert during.battery_w > before.it_power_w
    assert during.site_power_w < 0.1 * before.site_power_w
    plant.step(60.0)
    after = plant.truth()
    assert after.battery_w <= 0.0
    assert after.it_power_w == pytest.approx(before.it_power_w, rel=0.02)
    assert after.trips == 0


def test_a_shallow_sag_moves_no_ups() -> None:
    plant = sagged(0.9, 1.0)
    plant.step(0.75)
    assert plant.truth().battery_w == 0.0


@pytest.mark.parametrize(
    ("to", "for_s", "falls"), [(0.6, 0.5, True), (0.75, 0.5, False), (0.75, 1.0, True), (0.95, 30.0, False)]
)
def test_motors_on_the_mains_bear_what_semi_f47_asks(to: float, for_s: float, falls: bool) -> None:
    plant = sagged(to, for_s)
    running = plant.thermal.unit_w > 0.0
    plant.step(for_s + 0.5)
    assert (not plant.thermal.unit_on.all()) is falls
    assert bool((plant.thermal.unit_w[running] == 0.0).any()) is falls
    plant.step(90.0)
    assert plant.thermal.unit_on.all()
    assert np.all(plant.thermal.unit_w[running] > 0.0)


def test_motors_of_a_board_start_one_after_the_other() -> None:
    plant = sagged(0.3, 1.0)
    counts = []
    for _ in range(round(90.0 / DT_S)):
        plant.step()
        counts.append(int(plant.thermal.unit_on.sum()))
    assert counts[4] == 0
    assert counts[-1] == len(plant.site.cooling)
    assert len({c for c in counts if c > 0}) > 2
    assert sorted(counts[8:]) == counts[8:]


def test_one_feed_sags_alone() -> None:
    plant = sagged(0.6, 1.0, nth=0)
    plant.step(0.75)
    index = plant.site.node_index
    assert [bool(plant.elec.on_battery[index[u]]) for u in ("u1", "u2", "u3", "u4")] == [True, False, True, False]
    with pytest.raises(PlantError, match="no feed number 7"):
        make_plant({"do": "sag", "at_s": 1.0, "nth": 7})


def test_a_ups_on_its_bypass_loses_a_third_until_the_supply_fails() -> None:
    plain = make_plant(*FULL, UNCAPPED)
    nodes = tuple(n.model_copy(update={"eco": n.kind == "ups"}) for n in tiny_site().nodes)
    eco = make_plant(*FULL, UNCAPPED, {"do": "outage", "at_s": 6.0, "id": "t1"}, site=tiny_site(nodes=nodes))
    ups = np.array([n.kind == "ups" for n in nodes])
    for plant in (plain, eco):
        plant.step(5.0)
    assert eco.elec.loss_w[ups].sum() == pytest.approx(plain.elec.loss_w[ups].sum() / 3.0, rel=0.02)
    out_w = eco.elec.out_w[ups].sum()
    assert out_w / (out_w + eco.elec.loss_w[ups].sum()) == pytest.approx(0.988, abs=0.004)
    u1, u3 = (eco.site.node_index[x] for x in ("u1", "u3"))
    eco.step(3.0)
    assert eco.elec.on_battery[u1]
    assert eco.elec.loss_w[u1] > 2.5 * eco.elec.loss_w[u3] * eco.elec.out_w[u1] / eco.elec.out_w[u3] * 0.9
