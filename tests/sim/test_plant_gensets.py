"""Generators start for a dead bus, take load as they can, give it back, fail, and stall when it comes too fast."""

from typing import Any

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.site.model import Generator, Node, Site, Switch
from sim.plant.gensets import compile_gensets
from sim.plant.plant import Plant
from sim.plant.switches import RETURN_S

START_S, RAMP_W_S = 12.0, 10_000.0
LOST = {"do": "outage", "at_s": 5.0, "id": "feed1"}


def with_generator(rating: float = 400e3, **more: float) -> Site:
    """A generator on the bus of the first substation, which has no tie."""
    node = {"id": "gen1", "kind": "generator", "rating": rating, "rating_unit": "VA", "volt_v": 13800}
    row = Generator(id="gen1", start_s=START_S, ramp_w_per_s=RAMP_W_S, **more)
    switch = Switch(id="gts1", kind="transfer", a="gen1", b="sub1", normal="open", transfer_s=2)
    return tiny_site(
        nodes=(*tiny_site().nodes, Node.model_validate(node)), generators=(row,), switches=(switch,), devices=()
    )


def plant_of(*events: dict[str, Any], site: Site | None = None, **more: Any) -> Plant:
    found = site or with_generator()
    devices = tiny_site().devices
    return make_plant(*FULL, UNCAPPED, *events, site=found.model_copy(update={"devices": devices}), **more)


def gen_w(plant: Plant) -> float:
    return plant.truth().generator_w


def test_it_carries_what_its_bus_did_after_its_start_and_no_watt_of_it_is_the_utilitys() -> None:
    plant = plant_of(LOST, ups_battery_s=120.0)
    plant.step(5.0)
    before = plant.truth()
    plant.step(START_S - 0.5)
    assert gen_w(plant) == 0.0
    assert plant.truth().battery_w > 100e3
    plant.step(60.0)
    after = plant.truth()
    assert after.battery_w == pytest.approx(0.0, abs=1.0), "walked in, and UPS do not recharge on it"
    assert after.it_power_w == pytest.approx(before.it_power_w, rel=0.01)
    assert after.generator_w == pytest.approx(before.feed_w["feed1"], rel=0.03)
    assert after.feed_w["feed1"] == 0.0
    assert after.site_power_w == pytest.approx(after.feed_w["feed2"])
    assert (after.rack_w > 0.0).all()
    assert after.trips == 0


def test_ups_walk_in_at_its_ramp() -> None:
    plant = plant_of(LOST, ups_battery_s=120.0)
    plant.step(5.0)
    seen = []
    for _ in range(160):
        plant.step()
        seen.append(gen_w(plant))
    rise = np.diff(np.array(seen))
    first = int(np.argmax(np.array(seen) > 0.0))
    assert first == pytest.approx(START_S * 4, abs=2)
    assert seen[first] < 0.3 * 400e3
    assert rise[first:].max() <= RAMP_W_S * 0.25 * 1.1 + 2500.0  # motors of the cooling come back meanwhile
    assert seen[first + 20] - seen[first] == pytest.approx(RAMP_W_S * 5.0, rel=0.2)


def test_the_bus_goes_back_to_its_source_and_the_set_runs_on_for_its_least_time() -> None:
    plant = plant_of(LOST | {"for_s": 40.0}, site=with_generator(min_run_s=120.0), ups_battery_s=120.0)
    plant.step(45.0 + RETURN_S + 3.0)
    back = plant.truth()
    assert back.generator_w == 0.0
    assert back.feed_w["feed1"] > 100e3
    assert back.battery_w < 0.0, "batteries recharge on the utility"
    assert plant.elec.running[plant.site.node_index["gen1"]]
    plant.step(120.0)
    assert not plant.elec.running[plant.site.node_index["gen1"]]
    assert (plant.elec.taken == 1.0).all()


def test_a_blink_starts_it_and_moves_no_load() -> None:
    plant = plant_of(LOST | {"for_s": 3.0}, ups_battery_s=120.0)
    for _ in range(200):
        plant.step()
        assert gen_w(plant) == 0.0
    assert plant.gensets.crank_s[0] == 0.0


def test_one_that_fails_to_start_tries_again_and_is_locked_out_after_three() -> None:
    fails = {"do": "generator_fails", "at_s": 0.0, "for_s": 5.0 + 1.5 * START_S}
    late = plant_of(fails, LOST, ups_battery_s=120.0)
    late.step(5.0 + START_S + 3.0)
    assert (gen_w(late), late.gensets.tries[0]) == (0.0, 1)
    late.step(START_S)
    assert gen_w(late) > 0.0
    never = plant_of({"do": "generator_fails", "at_s": 0.0}, LOST, ups_battery_s=20.0)
    never.step(120.0)
    assert never.gensets.tries[0] == 3
    assert gen_w(never) == 0.0
    assert not never.elec.live[never.site.node_index["u1"]]


def test_how_often_it_fails_is_the_sites_figure() -> None:
    site, failed = with_generator(start_failure=0.3), 0
    for seed in range(400):
        g = compile_gensets(site, np.random.default_rng(seed))
        failed += int((g.luck[0] < g.failure[0]).sum())
    assert failed / 1200 == pytest.approx(0.3, abs=0.04)
    plant = plant_of(LOST, site=with_generator(start_failure=1.0), ups_battery_s=20.0)
    plant.step(60.0)
    assert plant.gensets.tries[0] == 3


def test_a_step_that_is_too_large_stalls_it() -> None:
    """Batteries are empty before it comes: all of the UPS at once."""
    plant = plant_of(LOST, site=with_generator(block_share=0.05), ups_battery_s=5.0)
    plant.step(40.0)
    assert "gen1" in plant.truth().tripped
    assert gen_w(plant) == 0.0
    assert plant.truth().trips >= 1


def test_overload_trips_it_and_a_fault_stops_it() -> None:
    small = plant_of(LOST, site=with_generator(rating=100e3, block_share=1.0), ups_battery_s=120.0)
    small.step(90.0)
    assert "gen1" in small.truth().tripped
    out = plant_of(LOST, {"do": "outage", "at_s": 60.0, "id": "gen1"}, ups_battery_s=120.0)
    out.step(59.0)
    assert gen_w(out) > 0.0
    out.step(3.0)
    assert gen_w(out) == 0.0
    assert out.truth().battery_w > 100e3


@given(at_s=st.floats(1.0, 8.0), for_s=st.floats(1.0, 40.0), battery_s=st.floats(1.0, 60.0), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_power_balances_whatever_comes_and_goes(at_s: float, for_s: float, battery_s: float, seed: int) -> None:
    """The plant stops beyond 1e-9 by itself; here once more, with energy out of the batteries."""
    both = [{"do": "outage", "at_s": at_s, "for_s": for_s, "id": f"feed{i}"} for i in (1, 2)]
    plant = plant_of(*both, site=with_generator(min_run_s=10.0), ups_battery_s=battery_s, seed=seed)
    for _ in range(320):
        stored_j = plant.elec.battery_j.copy()
        plant.step()
        t = plant.truth()
        used_w = t.it_power_w + t.cooling_w + t.losses_w + t.load_w
        assert t.site_power_w + t.generator_w + t.battery_w + t.storage_w == pytest.approx(used_w, rel=1e-9, abs=1e-3)
        given_j = stored_j - plant.elec.battery_j
        if (plant.elec.battery_j[stored_j > 0.0] > 0.0).all():  # none ran out within the step
            assert given_j.sum() == pytest.approx(0.25 * t.battery_w, rel=1e-9, abs=1e-3)
        assert np.all(plant.elec.battery_j >= 0.0)
