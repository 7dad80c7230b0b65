"""Scores against what the plant's truth says when it is added up again, step by step."""

from typing import Any

import numpy as np
import pytest
from helpers_site import tiny_site

from controller.frames import Frames
from drivers.site.load import resolve_site
from sim.lab.lockstep import LockStep
from sim.lab.scores import SERVED, Scores, disturbances
from sim.plant.base import DT_S
from sim.plant.events import Scenario
from sim.plant.plant import Plant
from sim.plant.truth import Truth
from sim.scenarios import load_scenario

FULL: list[dict[str, Any]] = [{"do": "training", "to": 1.0, "depth": 0.0}, {"do": "inference", "to": 1.0}]
Seen = list[tuple[Truth, np.ndarray, np.ndarray]]


def scored(*events: dict[str, Any], seconds: int, policy: str = "fair", **more: Any) -> tuple[dict[str, Any], Seen]:
    """Scores of a run of the tiny site, and each step's truth, speeds and throttled racks."""
    scenario = Scenario.model_validate({"name": "t", "title": "t", "events": [*FULL, *events], **more})
    lock: LockStep[Frames | None] = LockStep(tiny_site(), scenario, policy=policy)
    scores = Scores(lock, scenario)
    seen: Seen = []

    def see(plant: Plant, frames: Frames | None) -> None:
        scores.take(plant, frames)
        seen.append((plant.truth(), plant.jobs.speed.copy(), plant.jobs.throttled.copy()))

    for _ in range(seconds):
        lock.watched(see)
    return scores.result(), seen


def test_energy_envelope_and_moves_are_what_the_truth_adds_up_to() -> None:
    loose = {"do": "ignore_caps", "at_s": 20.0, "for_s": 15.0, "count": 4}
    asked = {"do": "envelope", "at_s": 40.0, "for_s": 30.0, "to": 0.7, "within_s": 10.0}
    got, seen = scored(loose, asked, seconds=90)
    site_w = np.array([t.site_power_w for t, _, _ in seen])
    t_s = np.arange(len(seen)) * DT_S
    top_w = tiny_site().control.envelope_w
    due_w = np.where((t_s >= 50.0) & (t_s < 70.0), 0.7 * top_w, top_w)
    assert got["duration_s"] == 90.0
    assert got["energy_mwh"] == pytest.approx(site_w.sum() * DT_S / 3.6e9)
    assert got["pue_like"] == pytest.approx(site_w.sum() / sum(t.it_power_w for t, _, _ in seen))
    assert got["envelope_over_s"] == (site_w > due_w).sum() * DT_S
    assert got["envelope_over_mw_max"] == pytest.approx(max(0.0, (site_w - due_w).max()) / 1e6)
    assert got["envelope_used"] == pytest.approx(site_w.sum() / due_w.sum())
    caps_w = np.stack([t.cap_w for t, _, _ in seen[3::4]])
    moved = np.abs(np.diff(caps_w, axis=0)) > 0.001 * np.array([r.max_w for r in tiny_site().racks])
    assert 0 < moved.sum() <= got["cap_moves"] <= moved.sum() + caps_w.shape[1]
    asked_at = (t_s >= 40.0) & (t_s < 70.0)
    late = np.flatnonzero(asked_at & (site_w > 0.7 * top_w))
    assert got["envelope_reached_s"] == pytest.approx(t_s[late[-1]] + DT_S - 40.0)


def test_slo_throttling_and_racks_that_are_dark_are_counted_by_the_step() -> None:
    out = {"do": "outage", "at_s": 30.0, "kind": "pdu", "nth": 0}
    both = {"do": "outage", "at_s": 30.0, "kind": "pdu", "nth": 1}
    got, seen = scored(out, both, seconds=60)
    plant_site = tiny_site()
    serving = [i for i, r in enumerate(plant_site.racks) if not r.job or r.job == "serve"]
    jobs: dict[str, list[int]] = {}
    for i in serving:
        jobs.setdefault(plant_site.racks[i].job or plant_site.racks[i].id, []).append(i)
    missed = asked = 0
    for truth, speed, _ in seen[3::4]:
        for racks in jobs.values():
            served = np.where(truth.rack_w[racks] > 0.0, speed[racks], 0.0).mean()
            missed += len(racks) * (served < SERVED)
            asked += len(racks)
    assert got["slo_miss"] == pytest.approx(missed / asked)
    assert got["racks_dark"] == (np.stack([t.rack_w for t, _, _ in seen]) <= 0.0).any(axis=0).sum()
    assert got["racks_dark"] == 1
    assert got["gpu_throttle_rack_s"] == sum(th.sum() for _, _, th in seen) * DT_S


def test_a_rack_of_more_gpu_power_does_more_work() -> None:
    site, scenario = resolve_site("hall"), load_scenario("surge")
    lock = LockStep(site, scenario, policy="uniform")
    scores = Scores(lock, scenario)
    for _ in range(40):
        lock.watched(scores.take)
    worth: dict[str, float] = {}
    ran: dict[str, float] = {}
    for rack, gang in zip(site.racks, lock.plant.network.racks.gang, strict=True):
        name = rack.job or rack.id
        worth[name] = worth.get(name, 0.0) + rack.max_w - rack.other_w
        ran[name] = float(lock.plant.jobs.work[gang]) / (40.0 * lock.plant.network.gangs.racks[gang])
    total = sum(worth.values())
    expected = sum(worth[name] * ran[name] for name in worth) / total
    assert len({r.max_w for r in site.racks}) > 1
    assert scores.result()["work_done"] == pytest.approx(expected)
    assert scores.result()["work_done"] != pytest.approx(np.mean([ran[r.job or r.id] for r in site.racks]), rel=1e-5)


def test_a_steady_ramp_is_measured_in_watts_a_minute_and_a_swing_is_none() -> None:
    calm, _ = scored({"do": "training", "at_s": 1.0, "depth": 0.35, "period_s": 4}, seconds=150)
    climb, _ = scored({"do": "training", "at_s": 60.0, "to": 0.1}, seconds=150)
    assert climb["ramp_max_mw_per_min"] > 2.0 * calm["ramp_max_mw_per_min"] > 0.0


def test_recovery_counts_from_the_last_thing_that_befell_the_site() -> None:
    never, _ = scored(seconds=40)
    back, _ = scored(
        {"do": "training", "at_s": 100.0, "to": 0.3}, {"do": "training", "at_s": 130.0, "to": 1.0}, seconds=200
    )
    assert never["recovery_s"] is None
    assert 0.0 <= back["recovery_s"] < 60.0


def test_disturbances_are_beginnings_ends_of_ramps_and_ends() -> None:
    events = [*FULL, {"do": "weather", "at_s": 5.0, "rise_k": 3, "over_s": 7.0}]
    events += [{"do": "broker_down", "at_s": 20.0, "for_s": 4.0}, {"do": "cooling_trip", "at_s": 9.0}]
    scenario = Scenario.model_validate({"name": "t", "title": "t", "events": events})
    assert disturbances(scenario) == (5.0, 9.0, 12.0, 20.0, 24.0)


def test_rivals_are_scored_alike() -> None:
    got, _ = scored({"do": "outage", "at_s": 20.0, "kind": "ups"}, seconds=60, policy="uniform")
    assert set(got) == set(scored(seconds=5)[0])
    assert 0.0 < got["work_done"] <= 1.0
    assert 0.0 < got["worst_gang_level"] <= max(got["work_done_by_class"].values()) + 1e-9


def test_requests_miss_when_they_are_answered_late_or_given_up_and_work_is_what_was_answered() -> None:
    rush = {"do": "inference", "to": 1.5, "at_s": 20.0}
    got, seen = scored(rush, seconds=90, requests={"late_s": 2.0, "patience_s": 20.0}, inference_daily=0.0)
    calm, _ = scored({"do": "inference", "to": 0.3}, seconds=90, requests={}, inference_daily=0.0)
    assert calm["slo_miss"] < 0.2 < got["slo_miss"] <= 1.0
    assert 0.0 < got["work_done_by_class"]["0"] < 0.9
    assert calm["work_done_by_class"]["0"] > 0.95
    assert seen[-1][0].waiting > 5.0


def test_work_that_a_crash_has_undone_is_not_done() -> None:
    crash = {"do": "crash", "at_s": 60.0, "jobs": "all", "restart_s": 10.0}
    got, seen = scored(crash, seconds=90)
    whole, _ = scored(seconds=90)
    assert seen[-1][0].undone > 0.0
    assert got["work_done"] < whole["work_done"] - 0.3
    assert got["worst_gang_level"] <= 20.0 / 90.0 + 0.02
