"""Rival policies in lock-step: what each does in the same plant, on the same wires."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.frames import Floats, Frames, Mode
from drivers.points import Quality, Snapshot
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.lockstep import LockStep
from sim.lab.rivals import OBJECTIVES, POLICIES, Layout, PolicyError, Seen, factory_of
from sim.lab.rivals.policy import layout_of
from sim.lab.rivals.static import provision, shares
from sim.plant.plant import Plant
from sim.scenarios import load_scenario

RIVALS = tuple(name for name in POLICIES if name not in OBJECTIVES)


class Halves:
    """A policy of somebody else: half of the nameplate for all."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self.max_w = layout.max_w

    def caps_w(self, seen: Seen) -> Floats:
        """Half."""
        return self.max_w / 2.0


class Nothing(Halves):
    """A policy that gives what is no cap."""

    def caps_w(self, seen: Seen) -> Floats:
        """Not a number."""
        return self.max_w * np.nan


@pytest.fixture(scope="module")
def hall() -> Site:
    return resolve_site("hall")


@pytest.mark.parametrize("policy", RIVALS)
def test_a_rivals_caps_are_in_force_within_a_second_and_stay(hall: Site, policy: str) -> None:
    lock = LockStep(hall, load_scenario("nameplate"), policy=policy)
    frames, _ = lock.cycle()
    assert frames is None
    for _ in range(30):
        lock.cycle()
    holder = lock.plant.agents.holder
    assert (holder.epoch == 1).all()
    assert (holder.expiry_s > lock.clock.now_s()).all()
    assert lock.plant.agents.refused == 0


@pytest.mark.parametrize("policy", ["fair", "static"])
def test_a_policy_takes_over_a_site_at_work_without_a_bump(hall: Site, policy: str) -> None:
    lock = LockStep(hall, load_scenario("steady"), policy=policy)
    safe_w = lock.plant.agents.holder.in_force_w.copy()
    provision(lock.plant, lock.plan)
    found_w = np.floor(lock.plan.max_w * shares(layout_of(lock.plan, lock.wires.inventory)))
    before_w = lock.plant.agents.holder.in_force_w.copy()
    assert (before_w == found_w).all()
    assert before_w.sum() > 1.05 * safe_w.sum()
    for _ in range(20):
        lock.cycle()
        after_w = lock.plant.agents.holder.in_force_w
        assert (np.abs(after_w - before_w) <= 0.02 * lock.plan.max_w).all()
        before_w = after_w.copy()
    assert (lock.plant.agents.holder.epoch == 1).all()
    with pytest.raises(ValueError, match="just begun"):
        provision(lock.plant, lock.plan)


@pytest.mark.parametrize("policy", RIVALS)
def test_equal_seeds_give_equal_runs_bit_for_bit(hall: Site, policy: str) -> None:
    def course() -> bytes:
        lock = LockStep(hall, load_scenario("surge"), seed=5, policy=policy)
        return b"".join(lock.cycle()[1].cap_w.tobytes() for _ in range(60))

    assert course() == course()


def test_every_step_is_seen_and_a_rival_leaves_no_frames(hall: Site) -> None:
    seen: list[Frames | None] = []

    def see(plant: Plant, frames: Frames | None) -> None:
        seen.append(frames)

    lock = LockStep(hall, load_scenario("transformer_out"), policy="static")
    assert all(lock.watched(see) is None for _ in range(70))
    assert seen == [None] * 280


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_headroom_with_an_objective_is_headroom_itself(hall: Site, objective: str) -> None:
    control = hall.control.model_copy(update={"objective": objective})
    own = LockStep(hall.model_copy(update={"control": control}), load_scenario("nameplate"))
    named = LockStep(hall, load_scenario("nameplate"), policy=objective)
    for _ in range(5):
        frames, _ = named.cycle()
        assert frames is not None
        assert (frames.orders.cap_w == own.cycle()[0].orders.cap_w).all()
    assert named.plan.site.control.objective == objective


def test_a_policy_of_somebody_else_is_found_by_module_and_class(hall: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__)
    monkeypatch.syspath_prepend(path.parent)
    lock = LockStep(hall, load_scenario("nameplate"), policy=f"{path.stem}:Halves")
    for _ in range(3):
        lock.cycle()
    expected = np.maximum(lock.plan.max_w / 2.0, lock.plan.floor_w)
    assert np.abs(lock.plant.truth().cap_w - expected).max() <= 1.0


def test_the_policy_of_the_readme_runs_and_holds_the_envelope(hall: Site) -> None:
    lines = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
    begin = lines.index("    # mine.py")
    end = next(i for i in range(begin, len(lines)) if lines[i] and not lines[i].startswith("    "))
    made: dict[str, Any] = {}
    exec("\n".join(line[4:] for line in lines[begin:end]), made)
    lock = LockStep(hall, load_scenario("surge"), policy=made["Mine"])
    powers_w = [lock.cycle()[1].site_power_w for _ in range(120)]
    assert 0.85 * hall.control.envelope_w < max(powers_w) <= hall.control.envelope_w


def test_what_is_no_cap_is_refused_by_name(hall: Site) -> None:
    lock = LockStep(hall, load_scenario("nameplate"), policy=Nothing)
    with pytest.raises(PolicyError, match="Nothing gave no cap for each of 64 racks"):
        lock.cycle()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("statik", "Did you mean 'static'"),
        ("no.such:Thing", "cannot be imported"),
        ("sim.lab.rivals:Nobody", "Nobody"),
        ("sim.lab.rivals:POLICIES", "is no class"),
    ],
)
def test_an_unknown_policy_is_named_with_what_to_do(name: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        factory_of(name)


@pytest.mark.parametrize("policy", RIVALS)
def test_whatever_the_instruments_show_a_rival_gives_caps_that_its_racks_take(hall: Site, policy: str) -> None:
    lock = LockStep(hall, load_scenario("surge"), policy=policy)
    rng = np.random.default_rng(3)
    agents = np.concatenate([lock.plan.agent_slot[name] for name in ("beat", "epoch", "seq")])

    def lens(shot: Snapshot) -> Snapshot:
        """A third of all points silent or false, everything silent at times; only the leases' own counters are true."""
        value, quality = shot.value.copy(), shot.quality.copy()
        worst = rng.random() < 0.2
        hit = np.ones(len(value), dtype=bool) if worst else rng.random(len(value)) < 0.3
        hit[agents] = False
        value[hit] = rng.choice([0.0, -1.0, 1e9, np.nan], hit.sum())
        quality[hit] = rng.choice([Quality.GOOD, Quality.STALE, Quality.BAD, Quality.NEVER], hit.sum())
        quality[hit & np.isnan(value)] = Quality.BAD
        quality[hit] = Quality.NEVER if worst else quality[hit]
        return replace(shot, value=value, quality=quality)

    lock.wires.lens = lens
    for _ in range(60):
        lock.cycle()
    caps_w = lock.plant.truth().cap_w
    assert (caps_w >= np.ceil(lock.plan.floor_w)).all()
    assert (caps_w <= lock.plan.max_w).all()


@pytest.mark.parametrize("policy", RIVALS)
def test_a_rival_hears_the_utilitys_request_unless_it_is_static(hall: Site, policy: str) -> None:
    lock = LockStep(hall, load_scenario("nameplate"), policy=policy)
    asked_w = 0.8 * hall.control.envelope_w
    for _ in range(30):
        lock.cycle()
    lock.requests = replace(lock.requests, envelope_w=asked_w)
    drawn_w = [lock.cycle()[1].site_power_w for _ in range(90)][30:]
    assert (np.mean(drawn_w) < asked_w) == (policy != "static")


def test_a_policy_runs_live_or_in_shadow_and_in_shadow_nothing_is_sent(hall: Site) -> None:
    shadow = LockStep(hall, load_scenario("nameplate"), mode=Mode.SHADOW, policy="pi")
    for _ in range(5):
        shadow.cycle()
    assert (shadow.plant.agents.holder.epoch == 0).all()
    held = LockStep(hall, load_scenario("nameplate"), mode=Mode.HOLD, policy="pi")
    with pytest.raises(PolicyError, match="live or in shadow"):
        held.cycle()


def test_what_a_policy_is_given_cannot_be_changed_by_it(hall: Site) -> None:
    given: list[Layout] = []

    def factory(layout: Layout, seed: int) -> Halves:
        given.append(layout)
        return Halves(layout, seed)

    lock = LockStep(hall, load_scenario("nameplate"), policy=factory)
    for array in (given[0].max_w, given[0].rows.coeff, given[0].limit_w, given[0].rack_pdu):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert lock.plan.max_w.flags.writeable  # headroom's own stay as they were


def test_a_rival_that_is_started_again_takes_over(hall: Site) -> None:
    lock = LockStep(hall, load_scenario("nameplate"), policy="uniform")
    for _ in range(5):
        lock.cycle()
    lock.start_controller()
    for _ in range(3):
        lock.cycle()
    assert (lock.plant.agents.holder.epoch == 2).all()
