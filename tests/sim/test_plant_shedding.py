"""The rungs of the shed ladder: what a rack draws on each, how long it takes, and what its gang does meanwhile."""

import numpy as np
import pytest
from helpers_plant import FULL, make_plant
from helpers_site import tiny_site

from drivers.lease import Lease, Shed
from sim.plant.base import DT_S
from sim.plant.plant import Plant
from sim.plant.shedding import SHUTDOWN_S, START_S

IDLE_W = 20_000.0
WAITING_W = 0.55 * 81_600


def open_site() -> Plant:
    """A full plant whose site allows every rung."""
    site = tiny_site()
    control = site.control.model_copy(update={"shed": "off"})
    return make_plant(*FULL, site=tiny_site(control=control))


def order(plant: Plant, seq: int, rungs: dict[int, Shed], cap_w: int = 81_600) -> None:
    """A long lease for all racks: `rungs` for those named, `cap_w` for the others."""
    holder = plant.agents.holder
    for group in plant.agents.groups.values():
        n = len(group.racks)
        shed = np.array([rungs.get(int(r), Shed.NONE) for r in group.racks], dtype=np.int64)
        caps = np.where(shed > 0, 0, cap_w)
        safe, echo = np.full(n, 61_200, dtype=np.int64), holder.beat[group.racks]
        plant.accept_lease(Lease(group.name, group.roster, 1, seq, 60.0, 5.0, echo, caps, safe, shed))


def powers(plant: Plant, seconds: float, rack: int = 3) -> list[float]:
    """Power of a rack after each step [W]."""
    seen = []
    for _ in range(round(seconds / DT_S)):
        plant.step()
        seen.append(float(plant.truth().rack_w[rack]))
    return seen


@pytest.mark.parametrize(("rung", "share"), [(Shed.PAUSE, 1.0), (Shed.SLOW, 0.9)])
def test_a_paused_rack_draws_its_idle_power_and_works_no_more(rung: Shed, share: float) -> None:
    plant = open_site()
    order(plant, 1, {})
    plant.step(5.0)
    order(plant, 2, {3: rung})
    plant.step(1.0)
    work = plant.jobs.work.copy()
    assert powers(plant, 5.0) == [share * IDLE_W] * 20
    gang = plant.network.racks.gang
    assert plant.jobs.work[gang[3]] == work[gang[3]]
    assert plant.jobs.work[gang[0]] > work[gang[0]]
    assert plant.truth().shed == 1
    order(plant, 3, {})
    back = powers(plant, 5.0)
    assert back[-1] > 60_000
    assert plant.truth().shed == 0


def test_a_shutdown_takes_its_time_and_so_does_the_start_after_it() -> None:
    plant = open_site()
    order(plant, 1, {})
    plant.step(5.0)
    order(plant, 2, {3: Shed.DOWN})
    seen = np.array(powers(plant, SHUTDOWN_S + 5.0))
    steps = plant.network.racks.delay_steps[3]
    assert (seen[steps : steps + 79] == IDLE_W).all()
    assert (seen[steps + 80 :] == 0.05 * IDLE_W).all()
    order(plant, 3, {})
    seen = np.array(powers(plant, START_S + 10.0))
    assert (seen[2 : round(START_S / DT_S)] == IDLE_W).all()
    assert seen[-1] > 60_000


def test_an_ordered_shutdown_is_gone_through_with() -> None:
    plant = open_site()
    order(plant, 1, {3: Shed.DOWN})
    plant.step(5.0)
    order(plant, 2, {})
    assert max(powers(plant, START_S - 1.0)) <= IDLE_W
    assert powers(plant, 10.0)[-1] > 60_000


def test_an_open_outlet_acts_at_once_also_on_a_rack_that_ignores_its_caps() -> None:
    site = tiny_site()
    control = site.control.model_copy(update={"shed": "off"})
    deaf = make_plant(*FULL, {"do": "ignore_caps", "at_s": 0, "count": 4}, site=tiny_site(control=control))
    deaf.step(5.0)
    order(deaf, 1, {3: Shed.DOWN})
    assert min(powers(deaf, 25.0)) > 60_000
    order(deaf, 2, {3: Shed.OFF})
    assert powers(deaf, 5.0) == [0.0] * 20


def test_the_rest_of_a_training_gang_waits_for_a_shed_rack() -> None:
    plant = open_site()
    order(plant, 1, {})
    plant.step(5.0)
    order(plant, 2, {0: Shed.PAUSE})
    plant.step(2.0)
    work = plant.jobs.work.copy()
    plant.step(5.0)
    truth = plant.truth()
    gang = plant.network.racks.gang
    assert plant.jobs.work[gang[0]] == work[gang[0]]
    assert truth.rack_w[0] == IDLE_W
    assert truth.rack_w[1:3] == pytest.approx(WAITING_W, rel=0.02)


def test_a_shed_rack_stays_down_without_its_controller() -> None:
    plant = open_site()
    order(plant, 1, {3: Shed.OFF})
    assert powers(plant, 120.0) == [0.0] * 480
    plant.agents.holder.restart(np.arange(4), plant.start_s + plant.t_s, 2)
    assert powers(plant, 5.0) == [0.0] * 20


def test_the_agents_go_no_further_down_the_ladder_than_the_site_allows() -> None:
    plant = make_plant(*FULL)
    assert plant.site.control.shed == "down"
    order(plant, 1, {3: Shed.OFF})
    assert powers(plant, 30.0)[-1] == 0.05 * IDLE_W
