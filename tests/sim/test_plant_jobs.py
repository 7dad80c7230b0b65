"""Demand, gangs, caps and agents."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, give_caps, make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plant.base import DT_S
from sim.plant.jobs import EDGE, wave, work_speed

TRAIN = slice(0, 3)  # racks r1..r3 of the tiny site, one gang; r4 serves


@given(phase=st.floats(0.0, 1.0), advance=st.floats(1e-3, 3.0), comm=st.floats(0.15, 0.5))
@settings(max_examples=50, deadline=None)
def test_wave_is_the_mean_of_a_trapezoid(phase: float, advance: float, comm: float) -> None:
    x = (phase + advance * (np.arange(20000) + 0.5) / 20000) % 1.0
    high = 1.0 - comm - EDGE
    points = [0.0, high, high + EDGE, 1.0 - EDGE, 1.0]
    expected = np.interp(x, points, [1.0, 1.0, 0.0, 0.0, 1.0]).mean()
    assert wave(phase, advance, comm) == pytest.approx(expected, abs=1e-3)


def test_work_law_lies_between_the_measured_sets() -> None:
    """FACTS C.4: .62-.81 of the throughput at half of the power, .86-.95 at three quarters."""
    assert 0.60 < work_speed(0.5, 0.2, 0.75) < 0.81
    assert 0.84 < work_speed(0.75, 0.2, 0.75) < 0.95
    assert work_speed(1.0, 0.2, 0.75) == 1.0
    speeds = [work_speed(x, 0.2, 0.75) for x in np.linspace(0.0, 1.2, 50)]
    assert np.all(np.diff(speeds) >= 0.0)


def test_the_plateau_is_the_peak_and_swings_go_down_from_it() -> None:
    plant = make_plant({"do": "training", "to": 0.9, "depth": 0.35, "period_s": 4.0}, UNCAPPED)
    plateau_w = 0.9 * 81600
    seen = []
    for _ in range(160):
        plant.step()
        seen.append(plant.truth().rack_w[0])
    assert max(seen) <= plateau_w * 1.0141
    assert max(seen) >= plateau_w
    assert min(seen) == pytest.approx(0.65 * max(seen), rel=0.01)
    assert plant.truth().plateau_w[0] == pytest.approx(max(seen), rel=5e-3)  # silicon is cooler by now: it leaks less


def test_a_gang_swings_together() -> None:
    plant = make_plant({"do": "training", "to": 1.0, "depth": 0.4, "period_s": 8.0}, UNCAPPED)
    powers = []
    for _ in range(200):
        plant.step()
        powers.append(plant.truth().rack_w[TRAIN])
    assert np.corrcoef(np.array(powers).T).min() > 0.9


def test_a_cap_acts_after_its_latency_and_settles_as_first_order() -> None:
    site = tiny_site()
    slow = {"inband": site.actuators["inband"].model_copy(update={"latency_s": 1.0, "settle_s": 2.0})}
    plant = make_plant(*FULL, site=tiny_site(actuators=slow))
    give_caps(plant, 81600, seq=1)
    plant.step(30.0)
    assert plant.jobs.limit_w[0] == pytest.approx(61200, rel=1e-3)  # lease over: back at the safe cap
    give_caps(plant, 70000, seq=2, ttl_s=60.0)
    plant.step(45.0)
    start_w = plant.jobs.limit_w[0]
    give_caps(plant, 50000, seq=3, ttl_s=60.0)
    plant.step(1.0)
    assert plant.jobs.limit_w[0] == pytest.approx(start_w, rel=1e-9)
    plant.step(2.0)
    expected = 50000 + (start_w - 50000) * np.exp(-2.0 / 2.0)
    assert plant.jobs.limit_w[0] == pytest.approx(expected, rel=1e-6)
    assert plant.truth().rack_w[0] <= plant.jobs.limit_w[0] * (1 + 1e-9)


def test_a_cap_cannot_go_below_what_gpus_allow() -> None:
    plant = make_plant(*FULL)
    give_caps(plant, 1000, seq=1)
    plant.step(8.0)
    least_w = 20400 + 64 * 200
    assert plant.jobs.limit_w == pytest.approx(least_w, rel=1e-6)
    assert np.all(plant.truth().rack_w >= 20000)


def test_a_rack_that_ignores_its_cap_draws_on() -> None:
    plant = make_plant(*FULL, {"do": "ignore_caps", "at_s": 5.0, "count": 1})
    give_caps(plant, 50000, seq=1)
    plant.step(4.0)
    assert plant.truth().rack_w[0] <= 50000.1
    plant.step(5.0)
    assert plant.truth().rack_w[0] > 60000
    assert plant.truth().cap_w[0] == 50000


def test_a_gang_runs_at_the_pace_of_its_slowest_rack() -> None:
    plant = make_plant(*FULL)
    holder = plant.agents.holder
    plant.step(1.0)
    holder.cap_w[:] = 81600
    holder.cap_w[0] = 50000
    holder.expiry_s[:] = 1e9
    plant.step(10.0)
    work = plant.jobs.work.copy()
    plant.step(10.0)
    gang = plant.network.racks.gang[0]
    pace = float(plant.jobs.pace[gang])
    assert pace == pytest.approx(float(plant.jobs.speed[0]))
    assert pace < 0.7
    assert plant.jobs.work[gang] - work[gang] == pytest.approx(3 * pace * 10.0, rel=1e-3)
    assert plant.truth().rack_w[1] < 80000  # waits for the slow one


def test_checkpoints_pause_work_and_power() -> None:
    plant = make_plant({"do": "training", "to": 1.0, "depth": 0.0, "checkpoint_every_s": 60.0}, UNCAPPED)
    powers = []
    for _ in range(240):
        plant.step()
        powers.append(plant.truth().rack_w[0])
    assert min(powers) == pytest.approx(0.5 * 81600, rel=1e-6)
    assert max(powers) == pytest.approx(81600, rel=1e-6)
    busy = plant.jobs.work[plant.network.racks.gang[0]] / (3 * 60.0)
    assert busy == pytest.approx(1.0 - 10.0 / 60.0, abs=0.01)


def test_inference_bursts_stay_within_nameplate() -> None:
    plant = make_plant({"do": "inference", "to": 0.9}, UNCAPPED, inference_daily=0.0)
    powers = []
    for _ in range(2400):
        plant.step()
        powers.append(plant.truth().rack_w[3])
    assert max(powers) == 81600
    assert np.mean(powers) == pytest.approx(0.91 * 81600, rel=0.05)
    assert np.std(powers) > 500


@given(
    caps=st.lists(st.integers(30_000, 90_000), min_size=1, max_size=4),
    safe_w=st.integers(40_000, 80_000),
    wait_s=st.sampled_from([1.0, 6.0, 14.0]),
)
@settings(max_examples=20, deadline=None)
def test_expiry_never_raises_a_cap(caps: list[int], safe_w: int, wait_s: float) -> None:
    plant = make_plant(*FULL)
    for seq, cap_w in enumerate(caps, start=1):
        plant.step(wait_s)
        give_caps(plant, cap_w, seq=seq, safe_w=safe_w)
        assert np.all(plant.agents.holder.in_force_w == min(cap_w, 81_600))
    last = plant.agents.holder.in_force_w.copy()
    for _ in range(80):
        plant.step()
        now = plant.truth().cap_w
        assert np.all(now <= last)
        last = now
    assert np.all(last == min(caps[-1], safe_w, 61_200))  # never above nameplate or the built-in safe cap


def test_demand_follows_the_day() -> None:
    plant = make_plant({"do": "inference", "to": 0.6}, start_hour=8.0, inference_daily=0.25)
    assert plant.director.day(0.0) == 1.0
    assert plant.director.day(12 * 3600.0) == pytest.approx((1 + 0.25) / (1 - 0.25), rel=0.01)


def test_step_is_a_multiple_of_a_quarter_second() -> None:
    plant = make_plant()
    with pytest.raises(ValueError, match="multiple"):
        plant.step(0.3)
    plant.step(3 * DT_S)
    assert plant.t_s == 0.75
