"""Requests in the plant: the queue's own arithmetic, and what it asks of racks and gets from them."""

from typing import Any

import numpy as np
import pytest
from helpers_plant import UNCAPPED, make_plant
from hypothesis import given
from hypothesis import strategies as st

from sim.plant.base import DT_S
from sim.plant.plant import Plant
from sim.plant.requests import Queue, power_level

REQUESTS: dict[str, Any] = {"requests": {}, "inference_daily": 0.0}


def queued(come: float, able: float, seconds: float, late_s: float = 2.0, patience_s: float = 30.0) -> Queue:
    """A queue of one job to which `come` work a second comes, and that can serve `able`."""
    queue = Queue.empty(1, late_s, patience_s)
    for _ in range(round(seconds / DT_S)):
        queue.arrive(np.array([come * DT_S]))
        queue.leave(np.array([able * DT_S]))
    return queue


def test_a_queue_that_is_served_in_time_keeps_nobody_waiting() -> None:
    queue = queued(0.5, 0.6, 100.0)
    assert queue.served == pytest.approx(50.0)
    assert queue.waiting() == pytest.approx(0.0, abs=1e-9)
    assert queue.late == queue.given_up == 0.0


def test_a_queue_that_is_too_slow_answers_late_and_then_loses_what_it_cannot_do() -> None:
    """Half served: at t they are at what came at t / 2, so late after 4 s, given up after 60 s, by halves then."""
    queue = queued(1.0, 0.5, 300.0)
    assert queue.served == pytest.approx(150.0)
    assert queue.late == pytest.approx(0.5 * (300.0 - 4.0), abs=0.3)
    assert queue.given_up == pytest.approx(0.5 * (300.0 - 60.0), abs=0.5)
    assert queue.waiting() == pytest.approx(30.0, abs=0.5)


@given(
    work=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0)), min_size=1, max_size=200),
    late_s=st.floats(0.5, 10.0),
    patience_s=st.floats(0.5, 20.0),
)
def test_no_work_is_lost_or_made_and_none_waits_beyond_its_patience(
    work: list[tuple[float, float]], late_s: float, patience_s: float
) -> None:
    queue, came = Queue.empty(1, late_s, patience_s), [0.0]
    back = round(max(late_s, patience_s) / DT_S)
    for come, able in work:
        queue.arrive(np.array([come]))
        queue.leave(np.array([able]))
        came.append(came[-1] + come)
        gone = float((queue.served + queue.given_up)[0])
        assert gone + queue.waiting()[0] == pytest.approx(came[-1], rel=1e-9, abs=1e-9)
        assert 0.0 <= queue.late[0] <= queue.served[0] + 1e-9
        if len(came) > back:
            assert gone >= came[-1 - back] - 1e-9


def test_power_rises_with_the_rate_and_generating_is_nearly_flat() -> None:
    rate = np.linspace(0.0, 1.0, 101)
    for prefill in (0.0, 0.5, 1.0):
        level = power_level(rate, np.full(101, prefill))
        assert np.all(np.diff(level) > 0.0)
        assert (level[0], level[-1]) == (0.0, pytest.approx(1.0))
    assert power_level(np.array([470 / 4915]), np.zeros(1))[0] == pytest.approx(441 / 589, rel=0.08)


def serving(plant: Plant) -> int:
    return int(np.flatnonzero(~plant.network.gangs.training)[0])


def test_what_comes_is_what_is_done_and_power_follows_it() -> None:
    plant = make_plant({"do": "inference", "to": 0.6}, UNCAPPED, **REQUESTS)
    powers = []
    for _ in range(1200):
        plant.step(1.0)
        powers.append(plant.truth().rack_w[3])
    g, q = serving(plant), plant.requests.queue  # type: ignore[union-attr]
    assert plant.jobs.asked[g] == pytest.approx(q.arrived[0])
    assert plant.jobs.work[g] == pytest.approx(q.served[0])
    assert q.arrived[0] / 1200.0 == pytest.approx(0.6, rel=0.15)  # one rack is forty sources: rough for 20 minutes
    assert q.served[0] + q.given_up[0] + q.waiting()[0] == pytest.approx(q.arrived[0], rel=1e-9)
    assert np.mean(powers) == pytest.approx(20000 + q.arrived[0] / 1200.0 * 61600, rel=0.05)
    assert np.std(powers) > 2000


def test_a_cap_makes_a_queue_that_raises_demand_until_it_is_served() -> None:
    plant = make_plant({"do": "inference", "to": 0.5}, UNCAPPED, **REQUESTS, seed=3)
    plant.step(60.0)
    plant.director.faults.ignores_caps[3] = False
    plant.agents.holder.cap_w[3], plant.agents.holder.expiry_s[3] = 34000.0, 1e9
    plant.step(40.0)
    held = plant.truth()
    assert held.waiting > 4.0  # seconds of the whole rack
    assert held.plateau_w[3] == pytest.approx(81600, rel=0.02)  # it would run at full power now
    plant.director.faults.ignores_caps[3] = True
    plant.step(60.0)
    assert plant.truth().waiting < 3.0
    missed, asked = plant.requests.missed()  # type: ignore[union-attr]
    assert 0.0 < missed < asked


def test_eighty_times_the_requests_fill_the_racks_and_what_is_too_much_gives_up() -> None:
    surge = {"do": "inference", "to": 1.6, "at_s": 60.0, "over_s": 5.0}
    plant = make_plant({"do": "inference", "to": 0.02}, surge, UNCAPPED, **REQUESTS)
    plant.step(60.0)
    calm = plant.truth()
    assert calm.rack_w[3] < 30000
    plant.step(140.0)
    q = plant.requests.queue  # type: ignore[union-attr]
    assert plant.truth().rack_w[3] == pytest.approx(81600, rel=0.02)
    assert q.served[0] == pytest.approx(0.02 * 60 + 137.0, rel=0.05)
    assert q.given_up[0] > 0.2 * (q.arrived[0] - q.served[0])
    assert q.waiting()[0] <= 30.0 * 1.6 * 1.5


def test_equal_seeds_bring_equal_requests_and_others_others() -> None:
    ends = []
    for seed in (5, 5, 6):
        plant = make_plant({"do": "inference", "to": 0.7}, UNCAPPED, **REQUESTS, seed=seed)
        plant.step(60.0)
        ends.append((plant.jobs.work.tobytes(), plant.truth().site_power_w))
    assert ends[0] == ends[1] != ends[2]
