"""Scenario files: the packaged ones fit both sites, bad ones are explained; whole-plant figures and determinism."""

from pathlib import Path

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, give_caps, make_plant

from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.incidents import Incidents
from sim.plant.base import PlantError
from sim.plant.director import Director
from sim.plant.events import ACTIONS, Event, IgnoreCaps
from sim.plant.outcome import Outcome
from sim.plant.plant import Plant
from sim.scenarios import ScenarioError, load_scenario, scenario_names, untaken

CALM = ["cdu_sentinel", "curtailment", "gateway_silent", "nameplate", "pdu_freeze", "steady", "surge"]
LACKS = {"hall": {"tower_out"}, "colossus": {"dry_cooler_out"}}  # towers there, dry coolers here


@pytest.fixture(scope="module")
def colossus() -> Site:
    return resolve_site("colossus")


def test_there_are_scenarios_of_every_kind() -> None:
    names = scenario_names()
    assert len(names) >= 30
    assert set(CALM) < set(names)
    done = {event.do for name in names for event in load_scenario(name).events}
    assert done == set(ACTIONS), "an action that no scenario takes is tried by nobody"
    lost = {e.kind for name in names for e in load_scenario(name).events if e.do in ("outage", "cooling_trip")}
    nodes = {"utility_feed", "substation", "transformer", "ups", "switchboard", "busway", "pdu"}
    assert lost >= nodes | {"cdu", "pump", "chiller", "tower", "dry_cooler"}


@pytest.mark.parametrize("site", ["hall", "colossus"])
def test_scenarios_fit_a_site_or_say_what_it_lacks(site: str, colossus: Site) -> None:
    plant = Plant(colossus if site == "colossus" else resolve_site(site), load_profiles(), load_scenario("steady"))
    lacking = {}
    for name in scenario_names():
        scenario = load_scenario(name)
        try:
            states = (plant.network, plant.jobs, plant.elec, plant.thermal, plant.gensets)
            Director(plant.site, scenario, *states, np.random.default_rng())
            Incidents(plant.site, plant.inventory, scenario, plant.agents.groups, 1)
        except PlantError as error:
            lacking[name] = str(error)
    assert set(lacking) == LACKS[site]
    assert all("the site has" in words for words in lacking.values())


@pytest.mark.parametrize("name", CALM)
def test_without_a_loss_nothing_trips_by_itself(name: str) -> None:
    plant = Plant(resolve_site("hall"), load_profiles(), load_scenario(name))
    plant.step(75.0)
    assert plant.truth().trips == 0


def test_uncapped_nameplate_of_colossus_is_327_mw(colossus: Site) -> None:
    scenario = load_scenario("nameplate")
    level: list[Event] = [e.model_copy(update={"depth": 0.0}) if e.do == "training" else e for e in scenario.events]
    level.append(IgnoreCaps(do="ignore_caps", at_s=0.0, count=10_000))
    plant = Plant(colossus, load_profiles(), scenario.model_copy(update={"events": tuple(level)}))
    plant.step(60.0)
    t = plant.truth()
    assert t.site_power_w == pytest.approx(327e6, rel=0.01)
    assert t.trips == 0
    assert t.throttled == 0


def test_surge_climbs_from_255_mw_past_the_envelope(colossus: Site) -> None:
    plant = Plant(colossus, load_profiles(), load_scenario("surge"))
    plant.director.faults.ignores_caps[:] = True
    plant.step(10.0)
    t = plant.truth()
    wanted_w = t.plateau_w.sum() + t.cooling_w + t.losses_w + t.load_w
    assert wanted_w == pytest.approx(255e6, rel=0.01)
    plant.step(80.0)
    t = plant.truth()
    assert t.plateau_w.sum() == pytest.approx(297.25e6, rel=0.001)
    peak_w = 0.0
    for _ in range(40):
        plant.step()
        peak_w = max(peak_w, plant.truth().site_power_w)
    assert peak_w > 305e6
    gang = plant.network.gang_names.index("frontier-50k")
    assert plant.jobs.depth[gang] >= 0.3


def test_equal_seeds_are_equal_bit_for_bit() -> None:
    ends = []
    for seed in (7, 7, 8):
        plant = make_plant({"do": "training", "to": 0.9}, {"do": "inference", "to": 0.8}, seed=seed)
        plant.step(30.0)
        t = plant.truth()
        ends.append((plant.measure().tobytes(), t.site_power_w, t.rack_w.tobytes(), t.work))
    assert ends[0] == ends[1]
    assert ends[0] != ends[2]


def test_events_end_and_ramps_move() -> None:
    plant = make_plant(
        {"do": "training", "at_s": 10.0, "to": 1.0, "over_s": 20.0, "depth": 0.0},
        {"do": "weather", "at_s": 10.0, "rise_k": 6.0, "over_s": 10.0},
        {"do": "outage", "at_s": 5.0, "for_s": 5.0, "kind": "transformer", "feeding": "ups", "nth": 1},
        weather={"dry_bulb_c": 30.0, "swing_k": 0.0},
    )
    node = plant.site.node_index["t2"]
    plant.step(6.0)
    assert not plant.elec.in_service[node]
    plant.step(14.25)
    assert plant.elec.in_service[node]
    gang = plant.network.gang_names.index("train")
    assert plant.jobs.share[gang] == pytest.approx(0.75 + 0.25 * 0.5)
    assert plant.truth().dry_bulb_c == pytest.approx(36.0)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"do": "training", "jobs": "nobody", "to": 1.0}, "nobody"),
        ({"do": "outage", "at_s": 1.0, "kind": "transformer", "feeding": "ups", "nth": 9}, "number 9"),
        ({"do": "cooling_trip", "at_s": 1.0, "kind": "tower"}, "tower"),
        ({"do": "gateway_silent", "at_s": 1.0, "nth": 5}, "2 gateways"),
        ({"do": "outage", "at_s": 1.0, "id": "t77"}, "t77"),
    ],
)
def test_events_that_the_site_cannot_have(event: dict[str, object], words: str) -> None:
    with pytest.raises(PlantError, match=words):
        make_plant(event)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: bad\ntitle: t\nevents: [{do: outtage, at_s: 3}]", "no action 'outtage'. Did you mean 'outage'"),
        (
            "name: bad\ntitle: t\nevents: [{do: training, to: 1.4}]",
            r"events.0 \(training\) to: .*less than or equal to 1",
        ),
        ("name: bad\ntitle: t\nevents: [{do: weather, raise_k: 3}]", "Did you mean 'rise_k'"),
        ("name: bad\ntitle: t\nstart_hours: 3", "Did you mean 'start_hour'"),
        ("name: bad\ntitle: t\noutcome: {trip: 0}", "Did you mean 'trips'"),
        ("name: bad\ntitle: t\nevents: [{do: clock_jump, at_s: 3, by_s: -2, of: monotonic}]", "only goes forward"),
        ("name: other\ntitle: t", "name it bad"),
        ("name: [", "not YAML"),
        ("- 1", "mapping"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=words):
        load_scenario(path)


def test_an_unknown_scenario_is_explained() -> None:
    with pytest.raises(ScenarioError, match=r"no scenario 'surg'. Did you mean 'surge'\? Known: .*steady"):
        load_scenario("surg")


def test_slow_actuators_follow_slowly_and_are_quick_again_after() -> None:
    slow = {"do": "slow_actuators", "at_s": 5.0, "for_s": 30.0, "settle_s": 10.0, "count": 2}
    plant = make_plant(*FULL, slow)
    plant.step(10.0)
    give_caps(plant, 50e3, seq=1, ttl_s=60.0)
    plant.step(2.0)
    late = plant.jobs.limit_w > 51e3
    assert late.sum() == 2
    plant.step(24.0)
    give_caps(plant, 60e3, seq=2, ttl_s=60.0)
    plant.step(3.0)
    assert plant.jobs.limit_w == pytest.approx(np.full(4, 60e3), rel=1e-3)


def test_a_plant_on_sockets_says_what_will_not_happen_to_it() -> None:
    assert "broker_down will not happen here" in untaken(load_scenario("broker_out"))
    assert untaken(load_scenario("surge")) == ""


def test_an_outcome_is_held_against_scores_by_name() -> None:
    outcome = Outcome.model_validate({"recovery_s": 60, "work_done": 0.8, "breaker_margin_min_s": 5, "trips": 1})
    good = dict.fromkeys(Outcome.model_fields, 0.0) | {"recovery_s": 60.0, "work_done": 0.8, "trips": 1}
    assert outcome.missed(good | {"breaker_margin_min_s": None}) == []
    words = outcome.missed(good | {"breaker_margin_min_s": 4.0, "work_done": 0.79, "recovery_s": None, "trips": 2})
    assert [w.split()[0] for w in words] == ["trips", "recovery_s", "work_done", "breaker_margin_min_s"]
    assert "work_done 0.79, at least 0.8 was to be shown" in words
    assert "recovery_s was not seen, at most 60 was to be shown" in words


def test_truth_adds_up() -> None:
    plant = make_plant(*FULL, UNCAPPED)
    plant.step(10.0)
    t = plant.truth()
    assert sum(t.feed_w.values()) == pytest.approx(t.site_power_w, rel=1e-12)
    assert t.handed_out_w == pytest.approx(
        np.minimum(t.cap_w, t.plateau_w).sum() + t.cooling_w + t.losses_w + t.load_w, rel=1e-12
    )
