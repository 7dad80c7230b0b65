"""Both feeds lost: generators carry the site within their ratings, as the controller has foreseen, and give it back."""

from drivers.site.load import resolve_site
from sim.lab.lockstep import LockStep
from sim.plant.events import Scenario
from sim.plant.plant import Plant

FULL = [{"do": "training", "to": 1.0}, {"do": "inference", "to": 1.0}]
LOST_S, BACK_S = 120.0, 300.0


def test_generators_carry_what_they_can_and_nothing_trips() -> None:
    lost = {"do": "outage", "at_s": LOST_S, "for_s": BACK_S - LOST_S, "kind": "utility_feed"}
    gone = [lost | {"nth": n} for n in (0, 1)]
    scenario = Scenario.model_validate({"name": "t", "title": "t", "events": [*FULL, *gone]})
    site = resolve_site("hall")
    lock = LockStep(site, scenario)
    gens = [site.node_index[g.id] for g in site.generators]
    rated_w = min(site.nodes[g].rating for g in gens) * site.control.power_factor_worst
    most_w, dark, carried_s = 0.0, 0, 0.0

    def see(plant: Plant, _: object) -> None:
        nonlocal most_w, dark, carried_s
        gen_w = [float(plant.elec.out_w[g]) for g in gens]
        most_w, dark = max(most_w, *gen_w), dark + int((plant.jobs.power_w <= 0.0).sum())
        carried_s += 0.25 * (sum(gen_w) > 2e6)

    for _ in range(400):
        frames = lock.watched(see)
    truth = lock.plant.truth()
    assert 1.2e6 < most_w <= rated_w
    assert carried_s > 120.0
    assert (truth.trips, dark) == (0, 0)
    assert frames.estimate.lost == ()
    assert truth.generator_w == 0.0
    assert truth.site_power_w > 3e6
