"""Losses in the plant: a copy of a moment goes on bit for bit, and what is called secured is borne."""

from hashlib import sha256

import numpy as np
import pytest

from controller.corrective import solve_all
from controller.frames import Frames
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.bench.security import bench_security
from sim.lab.branch import Answer, BranchError, branches
from sim.lab.drill import Options, at_full_demand, run_drill
from sim.lab.lockstep import SETS_AGE_S, LockStep, SetsOnDemand
from sim.lab.losses import Element, elements, sample
from sim.plant.plant import Plant


@pytest.fixture(scope="module")
def hall() -> Site:
    return resolve_site("hall")


@pytest.fixture(scope="module")
def full(hall: Site) -> LockStep:
    """Never stepped by a test but in a branch, and by the last one."""
    return at_full_demand(hall)


def course(lock: LockStep, element: Element, seconds: int) -> Answer:
    """What plant, wires and controller do after a loss, to the last bit."""
    seen = sha256()

    def see(plant: Plant, frames: Frames | None) -> None:
        for array in (plant.elec.out_w, plant.thermal.silicon_c, plant.jobs.power_w):
            seen.update(array.tobytes())
        if frames is not None:
            for array in (frames.image.value, frames.orders.cap_w, frames.estimate.demand_w):
                seen.update(array.tobytes())

    lock.plant.director.put(element.id, in_service=False)
    for _ in range(seconds):
        lock.watched(see)
    return {"seen": seen.hexdigest(), "t_s": lock.plant.t_s}


def test_a_drill_samples_every_kind_alike_and_equal_seeds_the_same(hall: Site) -> None:
    kinds = {e.kind for e in elements(hall)}
    drawn = sample(hall, 3 * len(kinds), (), np.random.default_rng(1))
    assert {e.kind for e in drawn} == kinds
    assert len({e.id for e in drawn}) == len(drawn)
    assert drawn == sample(hall, 3 * len(kinds), (), np.random.default_rng(1))
    assert len(sample(hall, 10_000, (), np.random.default_rng(1))) == len(elements(hall))
    assert {e.kind for e in sample(hall, 3, ("ups",), np.random.default_rng(1))} == {"ups"}


def test_a_failed_branch_is_said_and_ends_the_others() -> None:
    def good() -> Answer:
        return {"x": 1.0}

    def bad() -> Answer:
        raise ValueError("no such element")

    assert [answer for _, answer in branches([good, good, good], 2)] == [{"x": 1.0}] * 3
    with pytest.raises(BranchError, match="no such element"):
        list(branches([bad, good], 2))


def test_sets_on_demand_are_those_that_the_background_work_has_ready(hall: Site) -> None:
    lock = at_full_demand(hall)
    frames = [lock.cycle()[0] for _ in range(8)]
    kit = lock.state.allocate.kit
    sets = SetsOnDemand(kit)
    assert sets.get(0) is None
    for one in frames:
        sets.look(one)
    old = next(f for f in reversed(frames) if frames[-1].image.now_s - f.image.now_s >= SETS_AGE_S)
    ready = solve_all(kit, old.estimate, old.limits, old.orders.cap_w, old.orders.shed)
    assert len(ready.of_case) > 0
    for case, set_ in ready.of_case.items():
        asked = sets[case]
        assert asked.cap_w.tobytes() == set_.cap_w.tobytes()
        assert asked.rack.tobytes() == set_.rack.tobytes()
        assert asked.shed_code.tobytes() == set_.shed_code.tobytes()


def test_every_kind_of_loss_once(hall: Site) -> None:
    said: list[str] = []
    kinds = {e.kind for e in elements(hall)}
    short = hall.model_copy(update={"control": hall.control.model_copy(update={"ups_battery_s": 20.0})})
    result = run_drill(short, Options(losses=len(kinds), disobedient=0.0, seconds=30.0), said.append)
    runs, summary = result["runs"], result["summary"]
    assert {r["kind"] for r in runs} == kinds
    assert summary["complete"]
    assert summary["broken"] == []
    assert len(said) == 1 + len(runs)


def test_what_comes_of_a_loss_is_the_same_in_a_branch(full: LockStep) -> None:
    ups = next(e for e in elements(full.plan.site) if e.kind == "ups")
    here = full.plant.t_s
    (one, other) = (a for _, a in branches([lambda: course(full, ups, 20)] * 2, 2))
    assert full.plant.t_s == here
    assert one == other == course(full, ups, 20)


def test_corrective_security_does_more_than_preventive_and_trips_nothing(hall: Site) -> None:
    result = bench_security(lambda _: None, {"hall": hall}, losses=2, kinds=("ups", "busway"))
    by = {r["policy"]: r for r in result["shells"]["hall"]}
    assert by["corrective"]["work"] > by["preventive"]["work"]
    assert by["corrective"]["work"] >= 0.99 * by["none"]["work"]
    assert by["corrective"]["trips"] == by["preventive"]["trips"] == 0
    assert len(result["table"]) == 5


def test_colossus_bears_what_it_calls_secured_and_sheds_where_floors_do_not_fit() -> None:
    kinds = ("substation", "ups", "busway", "cdu", "switchboard")
    options = Options(losses=len(kinds), kinds=kinds, disobedient=0.05, seconds=60.0, seed=2)
    result = run_drill(resolve_site("colossus"), options, lambda _: None)
    runs, summary = result["runs"], result["summary"]
    assert len(runs) == 2 * len(kinds)  # once obeying, once with one rack in twenty that does not
    assert summary["broken"] == []
    by = {r["kind"]: r for r in runs}
    assert all(by[kind]["secured"] for kind in ("ups", "busway", "cdu"))
    lost = by["substation"]  # two of 150 MW: the other cannot carry the floors
    assert not lost["secured"]
    assert lost["shed"]
    assert any("do not fit" in words for words in (lost["why"], *lost["said"]))
    assert lost["trips"] == {}


def test_after_a_loss_nobody_is_held_for_a_survivor_that_is_dead_itself(hall: Site) -> None:
    lock = at_full_demand(hall)
    before_w = lock.cycle()[0].orders.cap_w.sum()
    lock.plant.director.put("h1b1u3", in_service=False)
    for _ in range(4):
        frames = lock.watched(lambda _plant, _frames: None)
    rows, losses = len(lock.plan.row_name), lock.plan.losses
    held = frames.orders.row[frames.orders.row >= rows] - rows
    assert lock.plant.elec.live[losses.node_of[held]].all()
    dead = ~lock.plant.elec.live[lock.plan.parent[lock.plan.rack_pdu]]
    assert (frames.image.share[dead] == 0.0).all()
    assert frames.orders.cap_w.sum() > 0.95 * before_w
