"""What befalls the controller, its wires and its envelope in lock-step: each acts, ends, and does what it says."""

from typing import Any

import numpy as np
import pytest

from controller.frames import Frames
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.lockstep import LockStep
from sim.plant.base import PlantError
from sim.plant.events import Scenario

FULL: list[dict[str, Any]] = [{"do": "training", "to": 1.0, "depth": 0.0}, {"do": "inference", "to": 1.0}]


@pytest.fixture(scope="module")
def hall() -> Site:
    return resolve_site("hall")


def loop(site: Site, *events: dict[str, Any], policy: str = "fair") -> LockStep[Frames | None]:
    scenario = Scenario.model_validate({"name": "t", "title": "t", "events": [*FULL, *events]})
    return LockStep(site, scenario, policy=policy)


def seconds(lock: LockStep[Frames | None], n: int) -> list[Frames | None]:
    return [lock.watched(lambda *_: None) for _ in range(n)]


def test_a_controller_that_is_down_orders_nothing_and_another_takes_over(hall: Site) -> None:
    lock = loop(hall, {"do": "controller_down", "at_s": 5.0, "for_s": 12.0})
    epoch = lock.state.ledger.epoch
    seen = [f is not None for f in seconds(lock, 20)]
    assert seen == [True] * 5 + [False] * 12 + [True] * 3
    assert lock.state.ledger.epoch > epoch
    assert (lock.plant.agents.holder.epoch == lock.state.ledger.epoch).all()


def test_a_controller_that_stalls_goes_on_with_what_it_knew(hall: Site) -> None:
    lock = loop(hall, {"do": "controller_stall", "at_s": 5.0, "for_s": 3.0})
    ledger = lock.state.ledger
    assert [f is not None for f in seconds(lock, 10)] == [True] * 5 + [False] * 3 + [True] * 2
    assert lock.state.ledger is ledger


def test_without_the_broker_no_lease_arrives_and_no_report(hall: Site) -> None:
    lock = loop(hall, {"do": "broker_down", "at_s": 5.0, "for_s": 10.0})
    seconds(lock, 5)
    seq = lock.plant.agents.holder.seq.copy()
    seconds(lock, 10)
    assert (lock.plant.agents.holder.seq == seq).all()
    seconds(lock, 5)
    assert (lock.plant.agents.holder.seq > seq).all()


def test_a_request_is_asked_at_once_and_due_in_time(hall: Site) -> None:
    lock = loop(hall, {"do": "envelope", "at_s": 3.0, "for_s": 20.0, "to": 0.8, "within_s": 10.0})
    top_w = hall.control.envelope_w
    asked, due = [], []
    for _ in range(26):
        seconds(lock, 1)
        asked.append(lock.requests.envelope_w)
        due.append(lock.incidents.due_w())
    assert asked == [None] * 3 + [0.8 * top_w] * 20 + [None] * 3
    assert due == [top_w] * 13 + [0.8 * top_w] * 10 + [top_w] * 3


def test_a_jump_of_monotonic_time_is_worth_no_ramp(hall: Site) -> None:
    lock = loop(hall, {"do": "clock_jump", "at_s": 20.0, "by_s": 45.0, "of": "monotonic"})
    calm = loop(hall)
    seconds(lock, 20)
    seconds(calm, 20)
    wall_ms = lock.clock.wall_ms()
    for _ in range(30):
        seconds(lock, 1)
        seconds(calm, 1)
        ramp_w = lock.plant.truth().cap_w.sum() - calm.plant.truth().cap_w.sum()
        assert ramp_w <= 2.0 * hall.control.ramp_up_w_per_s
    assert lock.now_s == pytest.approx(calm.now_s + 45.0)
    assert lock.clock.wall_ms() - wall_ms == 30_000
    assert lock.plant.truth().cap_w.sum() >= 0.97 * calm.plant.truth().cap_w.sum()


def test_a_jump_of_wall_time_changes_nothing(hall: Site) -> None:
    lock, calm = loop(hall, {"do": "clock_jump", "at_s": 5.0, "by_s": -3600.0}), loop(hall)
    seconds(lock, 20)
    seconds(calm, 20)
    assert lock.clock.wall_ms() == calm.clock.wall_ms() - 3_600_000
    assert lock.plant.truth().cap_w.tobytes() == calm.plant.truth().cap_w.tobytes()


def test_spoofed_values_arrive_changed_and_true_ones_after(hall: Site) -> None:
    spoof = {"do": "spoof", "at_s": 3.0, "for_s": 4.0, "measures": "agent", "scale": 0.5, "share": 0.5}
    lock = loop(hall, spoof)
    told = []
    for _ in range(10):
        frames = lock.watched(lambda *_: None)
        assert frames is not None
        told.append(frames.image.value[lock.plan.agent_slot["power_w"]] / lock.plant.readings.rack_mean_w())
    false = [(np.abs(t - 0.5) < 0.01).sum() for t in told]
    assert false == [0] * 3 + [32] * 4 + [0] * 3


def test_replayed_leases_are_refused(hall: Site) -> None:
    lock = loop(hall, {"do": "forged_leases", "at_s": 20.0, "for_s": 10.0, "how": "replay", "count": 2})
    calm = loop(hall)
    seconds(lock, 40)
    seconds(calm, 40)
    assert lock.plant.agents.refused > 0
    assert lock.plant.truth().cap_w.tobytes() == calm.plant.truth().cap_w.tobytes()


def test_a_forger_with_a_higher_epoch_gets_its_group_and_no_more(hall: Site) -> None:
    forge = {"do": "forged_leases", "at_s": 20.0, "for_s": 10.0, "how": "outrank", "to": 1.0, "count": 1}
    lock = loop(hall, forge)
    seconds(lock, 28)
    taken = np.zeros(len(hall.racks), dtype=bool)
    taken[next(iter(lock.plant.agents.groups.values())).racks] = True
    truth = lock.plant.truth()
    assert (truth.cap_w[taken] >= lock.plan.max_w[taken] - 1.0).all()
    assert (lock.state.ledger.outranked == taken).all()
    assert truth.site_power_w <= hall.control.envelope_w


def test_a_spoof_of_what_the_site_does_not_show_is_refused(hall: Site) -> None:
    with pytest.raises(PlantError, match="no meter that shows taste"):
        loop(hall, {"do": "spoof", "at_s": 1.0, "measures": "meter", "point": "taste"})


def test_a_rival_is_taken_away_and_started_again_as_well(hall: Site) -> None:
    lock = loop(hall, {"do": "controller_down", "at_s": 5.0, "for_s": 12.0}, policy="uniform")
    seconds(lock, 10)
    seq = lock.plant.agents.holder.seq.copy()
    seconds(lock, 5)
    assert (lock.plant.agents.holder.seq == seq).all()
    seconds(lock, 5)
    assert (lock.plant.agents.holder.epoch == 2).all()


def test_in_a_heat_wave_the_racks_get_water_that_they_accept(hall: Site) -> None:
    """At 44 C the hall's dry coolers do not hold its supply: caps come down until they do, and no job is paused."""
    scenario = Scenario.model_validate(
        {"name": "t", "title": "t", "weather": {"dry_bulb_c": 44, "swing_k": 0}, "events": FULL}
    )
    lock = LockStep(hall, scenario)
    warmest_c = []
    for _ in range(700):
        lock.watched(lambda *_: None)
        warmest_c.append(float(lock.plant.thermal.cdu_supply_c.max()))
    assert max(warmest_c[400:]) <= hall.control.supply_max_c + 0.5
    truth = lock.plant.truth()
    assert truth.shed == 0
    assert truth.throttled <= 0.05 * len(hall.racks)  # the hottest GPUs of some, where GPUs differ
    assert truth.site_power_w > 0.6 * hall.control.envelope_w
