"""The controller's trip states against the plant's real protections: never behind them, whatever the meters hide."""

import numpy as np
import pytest

from controller.frames import Mode
from drivers.points import Floats, Quality, Snapshot
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.lockstep import LockStep
from sim.plant.events import Scenario


@pytest.fixture(scope="module")
def site() -> Site:
    """The hall with UPS that carry everything, and too little once one of them is lost."""
    hall = resolve_site("hall")
    nodes = (n.model_copy(update={"rating": 1.2e6} if n.kind == "ups" else {}) for n in hall.nodes)
    return hall.model_copy(update={"nodes": tuple(nodes)})


def overloaded(site: Site, seed: int = 1) -> LockStep:
    """Racks that ignore their caps, and a UPS that is lost after 20 s; the controller only looks on."""
    events = (
        {"do": "training", "to": 0.85},
        {"do": "inference", "to": 0.9},
        {"do": "ignore_caps", "at_s": 0.0, "share": 1.0},
        {"do": "outage", "at_s": 20.0, "for_s": 25.0, "id": "h1b1u1"},
    )
    scenario = Scenario.model_validate({"name": "test", "title": "test", "events": events})
    return LockStep(site, scenario, seed, Mode.SHADOW)


def both(lock: LockStep, seconds: int) -> tuple[Floats, Floats]:
    """States by the controller and by the plant, second by second [s, N], until something opens."""
    ours, real = [], []
    for _ in range(seconds):
        frames, truth = lock.cycle()
        if truth.trips:
            break
        ours.append(frames.estimate.trip_used)
        real.append(lock.plant.elec.heat.copy())
    return np.array(ours), np.array(real)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_the_state_is_never_behind_the_plants(site: Site, seed: int) -> None:
    lock = overloaded(site, seed)
    ours, real = both(lock, 60)
    ups = np.array([n.kind == "ups" for n in site.nodes])
    assert real[:, ups].max() > 0.05, "some UPS is overloaded"
    late = 1.0 / 30.0  # a second at 150 %: the loss is seen in the next second's readings
    assert (ours[:, ups] >= real[:, ups] - late).all()
    assert (ours[2:, ups] >= real[:-2, ups]).all()


def test_a_blind_ups_counts_on(site: Site) -> None:
    """Its meter and its busways' go blind as it is overloaded: the state goes on with what was seen."""
    lock = overloaded(site)
    both(lock, 25)
    dark = np.array([n.kind in ("ups", "busway") for n in site.nodes])
    meters = lock.plan.node_slot
    slots = np.concatenate([meters.power[dark], meters.apparent[dark], meters.current[dark].ravel()])

    def hidden(shot: Snapshot) -> Snapshot:
        quality = shot.quality.copy()
        quality[slots[slots >= 0]] = Quality.STALE
        return Snapshot(shot.now_s, shot.value, quality, shot.time_s)

    lock.wires.lens = hidden
    ours, real = both(lock, 15)
    ups = np.array([n.kind == "ups" for n in site.nodes])
    assert (ours[2:, ups] >= real[:-2, ups]).all()


def test_a_planned_overload_in_the_loop_keeps_its_budget_and_margin_and_is_paid_back() -> None:
    """UPS of the hall too small for its racks: the racks run on their credit for some seconds, then at the rating."""
    hall = resolve_site("hall")
    nodes = tuple(n.model_copy(update={"rating": 1.15e6} if n.kind == "ups" else {}) for n in hall.nodes)
    wanted = {"planned_overload": 0.4, "security": "none", "envelope_w": 6.5e6, "ramp_up_w_per_s": 2e5}
    control = hall.control.model_copy(update=wanted)
    events = ({"do": "training", "to": 1.0, "depth": 0.0}, {"do": "inference", "to": 1.2})
    scenario = Scenario.model_validate({"name": "test", "title": "test", "events": events})
    lock = LockStep(hall.model_copy(update={"nodes": nodes, "control": control}), scenario)
    ups = np.array([n.kind == "ups" for n in nodes])
    rating_w = lock.plant.network.tree.trip_w[ups]
    loads, limits = [], []
    for _ in range(260):
        frames, truth = lock.cycle()
        assert truth.least_trip_s >= control.trip_margin_s
        assert truth.trip_state_max <= 0.4
        loads.append(truth.node_w[ups] / rating_w)
        limits.append(frames.limits.limit_w[lock.plan.node_row][ups] / rating_w)
    assert truth.trips == 0
    load, limit = np.array(loads), np.array(limits)
    over = load.max(axis=1) > 1.1
    first, last = np.flatnonzero(over)[[0, -1]]
    assert 5 <= over.sum() <= 25, "some seconds"
    assert over[first : last + 1].all(), "in one piece"
    assert (load[: first - 5] <= 1.0).all(), "at first the predecessor's overload is paid back"
    assert (load[last + 5 :] <= 1.0).all()
    assert ((np.diff(limit, axis=0) > 0.1).sum(axis=0) == 1).all(), "no chatter"
