"""The environment `headroom-v0`: gymnasium's own checker, repetition, and that an action is a cap like any other."""

from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim.lab.env as lab
from drivers.site.load import resolve_site
from sim.lab.lockstep import LockStep
from sim.plant.events import Scenario
from sim.scenarios import load_scenario


def made(**options: Any) -> lab.HeadroomEnv:
    """The environment as somebody else makes it."""
    env = gymnasium.make(lab.ID, **options).unwrapped
    assert isinstance(env, lab.HeadroomEnv)
    return env


@pytest.mark.parametrize("leaf", ["gang", "rack"])
def test_gymnasiums_own_checker_accepts_it_without_a_warning(leaf: Literal["gang", "rack"]) -> None:
    check_env(made(leaf=leaf, seconds=5), skip_render_check=True)


def test_it_is_found_by_the_name_of_its_module() -> None:
    env = gymnasium.make("sim.lab.env:headroom-v0", scenario="steady", seconds=3)
    env.reset(seed=1)
    ends = [env.step(env.action_space.sample())[3] for _ in range(3)]
    assert ends == [False, False, True]


@pytest.mark.parametrize("scenario", ["surge", "gateway_silent"])
def test_equal_seeds_and_actions_give_equal_episodes_bit_for_bit(scenario: str) -> None:
    def episode(seed: int) -> list[bytes]:
        env, rng = made(scenario=scenario), np.random.default_rng(7)
        first, _ = env.reset(seed=seed)
        out = [first.tobytes()]
        for _ in range(90):
            seen, gain, *_ = env.step(rng.random(env.action_space.shape or (), dtype=np.float32))
            assert env.observation_space.contains(seen)
            out.append(seen.tobytes() + np.float64(gain).tobytes())
        return out

    assert episode(3) == episode(3)
    assert episode(3) != episode(4)


def test_a_second_episode_starts_afresh() -> None:
    env = made()
    first, _ = env.reset(seed=5)
    assert env.action_space.shape is not None
    for _ in range(20):
        env.step(np.ones(env.action_space.shape, dtype=np.float32))
    again, _ = env.reset(seed=5)
    assert (first == again).all()


def test_an_action_goes_out_on_what_was_observed_and_holds_in_the_second_after() -> None:
    env, site = made(scenario="nameplate", leaf="rack"), resolve_site("hall")
    env.reset(seed=1)
    floor_w, max_w = (np.array([getattr(r, key) for r in site.racks]) for key in ("floor_w", "max_w"))
    share = np.linspace(0.0, 1.0, len(site.racks)).astype(np.float32)
    seen, *_ = env.step(share)
    racks = len(site.racks)
    cap = seen[2 + 2 * racks : 2 + 3 * racks]
    assert cap == pytest.approx((floor_w + share * (max_w - floor_w)) / max_w, abs=1e-4)


def test_an_action_is_a_rivals_cap() -> None:
    """The same caps from a policy and from actions: the same plant, to the bit."""
    env = made(scenario="nameplate", leaf="rack", seconds=60)
    env.reset(seed=9)
    seed = int(np.random.default_rng(9).integers(2**31))
    lock = LockStep(resolve_site("hall"), load_scenario("nameplate"), seed, policy="static")
    for _ in range(60):
        lock.cycle()
    (expected,) = lock.alone(1.0)
    plan = lock.plan
    share = ((expected.cap_w + 0.5 - plan.floor_w) / (plan.max_w - plan.floor_w)).astype(np.float32)
    for _ in range(60):
        env.step(share)
    truth = env._lock.plant.truth()
    assert (truth.cap_w == expected.cap_w).all()
    assert (truth.rack_w == expected.rack_w).all()
    assert truth.work == expected.work


def test_gangs_of_an_action_are_the_jobs_and_the_racks_that_have_none() -> None:
    env, site = made(), resolve_site("hall")
    training = {j.id for j in site.jobs if j.kind == "training"}
    jobs = {r.job for r in site.racks if r.job in training}
    alone = sum(r.job not in training for r in site.racks)
    assert env.action_space.shape == (len(jobs) + alone,)


def test_what_is_over_the_envelope_costs_more_than_its_work_is_worth() -> None:
    def second(share: float) -> tuple[float, float]:
        """Mean reward and mean overload of half a minute at one share for all."""
        env = made(scenario="nameplate")
        env.reset(seed=2)
        assert env.action_space.shape is not None
        gains, overs = [], []
        for _ in range(30):
            _, gain, trip, _, parts = env.step(np.full(env.action_space.shape, share, dtype=np.float32))
            assert gain == pytest.approx(parts["work"] - 10.0 * parts["over"])
            assert not trip
            gains.append(gain)
            overs.append(parts["over"])
        return float(np.mean(gains)), float(np.mean(overs))

    full, held = second(1.0), second(0.8)
    assert full[1] > 0.01
    assert held[1] == 0.0
    assert held[0] > full[0]


def test_what_the_instruments_do_not_say_is_minus_one() -> None:
    env = made()
    env.reset(seed=1)
    assert env.action_space.shape is not None
    act = np.full(env.action_space.shape, 0.5, dtype=np.float32)
    known, *_ = env.step(act)
    assert known.min() >= 0.0
    env._lock.wires.reports = False
    for _ in range(300):
        blind, *_ = env.step(act)
    parts = env.action_space.shape[0]
    assert (blind[2 + 2 * parts : 2 + 3 * parts] == lab.UNKNOWN).all()  # no agent reports its cap


def test_actions_reach_a_controller_that_was_started_again() -> None:
    env = made(scenario="nameplate")
    env.reset(seed=1)
    assert env.action_space.shape is not None
    env._lock.start_controller()
    env.step(np.ones(env.action_space.shape, dtype=np.float32))
    assert (env._lock.plant.truth().cap_w >= env._lock.plan.max_w - 1.0).all()


def test_a_trip_ends_the_episode_and_costs_ten() -> None:
    site = resolve_site("hall")
    nodes = tuple(n.model_copy(update={"rating": n.rating * 0.4}) if n.kind == "ups" else n for n in site.nodes)
    env = made(site=site.model_copy(update={"nodes": nodes}), scenario="nameplate")
    env.reset(seed=1)
    assert env.action_space.shape is not None
    for _ in range(600):
        _, gain, trip, _, parts = env.step(np.ones(env.action_space.shape, dtype=np.float32))
        if trip:
            break
    assert trip
    assert gain <= 1.0 - 10.0 * parts["trips"]


def test_reset_may_change_the_scenario() -> None:
    env = made(scenario="steady")
    quiet, _ = env.reset(seed=1)
    loud, _ = env.reset(seed=1, options={"scenario": "nameplate"})
    assert loud[0] != quiet[0]


def test_while_the_scenario_has_taken_the_controller_away_nothing_goes_out_and_afterwards_actions_count() -> None:
    down = {"do": "controller_down", "at_s": 3, "for_s": 4}
    env = made(scenario=Scenario.model_validate({"name": "down", "title": "The controller dies", "events": [down]}))
    env.reset(seed=1)
    assert env.action_space.shape is not None
    heard = []
    for _ in range(12):
        env.step(np.ones(env.action_space.shape, dtype=np.float32))
        heard.append(int(env._lock.plant.agents.holder.epoch.max() * 1000 + env._lock.plant.agents.holder.seq.max()))
    assert heard[3:6] == [heard[3]] * 3
    assert heard[-1] > 2000
    assert (env._lock.plant.truth().cap_w >= env._lock.plan.max_w - 1.0).all()
