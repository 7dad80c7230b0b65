"""What the controller does about a loss that has happened, and about floors that do not fit: plant and controller."""

from dataclasses import replace

import numpy as np
import pytest

from controller import prepare
from controller.aftermath import compile_kit, overloads
from controller.frames import Frames, Reason, Shed
from controller.steps import whole
from drivers.points import Snapshot
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.drill import at_full_demand
from sim.lab.lockstep import LockStep
from sim.plant.truth import Truth


@pytest.fixture(scope="module")
def site() -> Site:
    return resolve_site("hall")


@pytest.fixture
def lock(site: Site) -> LockStep:
    return at_full_demand(site)


@pytest.fixture
def lean(site: Site) -> LockStep:
    """The same hall where one feed does not carry the floors."""
    small = {"utility_feed": 3.2e6, "substation": 3.2e6}
    nodes = tuple(n.model_copy(update={"rating": small.get(n.kind, n.rating)}) for n in site.nodes)
    return at_full_demand(site.model_copy(update={"nodes": nodes}))


def seconds(lock: LockStep, n: int) -> list[tuple[Frames, Truth]]:
    return [(lock.watched(lambda *_: None), lock.plant.truth()) for _ in range(n)]


def lose(lock: LockStep, name: str) -> None:
    lock.plant.director.put(name, in_service=False)


def test_half_a_site_lost_sheds_whole_jobs_before_the_tie_closes_and_says_so(lean: LockStep) -> None:
    lose(lean, "sub1")
    seen = seconds(lean, 9)  # the tie closes after 10 s
    frames = seen[0][0]
    assert [lean.plan.losses.cases[case].id for case in frames.estimate.lost] == ["sub1"]
    shed = frames.orders.shed
    assert shed is not None
    jobs = {r.job for i, r in enumerate(lean.plan.site.racks) if shed[i] > Shed.NONE and r.job}
    whole = [i for i, r in enumerate(lean.plan.site.racks) if r.job in jobs]
    assert (shed[whole] > Shed.NONE).all()
    assert any("floors do not fit" in text for text in frames.proposal.said)
    assert (frames.orders.reason[shed > Shed.NONE] == Reason.SHED).all()
    after = seconds(lean, 40)
    assert all(t.trips == 0 for _, t in after)
    sub2 = lean.plan.site.node_index["sub2"]
    assert max(t.node_w[sub2] / f.estimate.rating_w[sub2] for f, t in after) <= 1.0


def test_the_set_kept_ready_is_what_goes_out_and_nothing_rises_by_it(lock: LockStep) -> None:
    ((frames, _),) = seconds(lock, 1)
    moment = prepare.Moment(frames, lock.state)
    ready = whole(prepare.sets_each(compile_kit(lock.plan), moment)).of_loss
    case = next(i for i, c in enumerate(lock.plan.losses.cases) if c.id == "sub1")
    before_w = frames.orders.cap_w
    lose(lock, "sub1")
    ((frames, _),) = seconds(lock, 1)
    fix = ready.of_case[case]
    assert (frames.orders.cap_w <= before_w + 1.0).all()
    kept = np.setdiff1d(fix.rack, fix.shed_rack)
    assert (frames.orders.cap_w[kept] <= fix.caps(before_w)[kept] * 1.02).all()


def test_shed_jobs_come_back_by_themselves_when_the_element_is_back(lean: LockStep) -> None:
    lose(lean, "sub1")
    assert seconds(lean, 30)[-1][0].orders.shed is not None
    lean.plant.director.put("sub1", in_service=True)
    seen = seconds(lean, 260)
    assert seen[-1][0].orders.shed is None
    caps = np.array([f.orders.cap_w.sum() for f, _ in seen])
    rack_w = lean.plan.floor_w.max()  # a rack wakes whole: for that the ramp is saved up, no further
    assert (caps[30:] - caps[:-30]).max() <= 30 * lean.plan.site.control.ramp_up_w_per_s + rack_w
    assert seen[-1][1].trips == 0


def test_what_a_predecessor_shed_stays_shed(lean: LockStep) -> None:
    lose(lean, "sub1")
    ((frames, _),) = seconds(lean, 3)[-1:]
    shed = frames.orders.shed
    assert shed is not None
    lean.start_controller()
    for f, truth in seconds(lean, 20):
        assert f.orders.shed is not None
        assert (f.orders.shed[shed > Shed.NONE] > Shed.NONE).all()
        assert truth.trips == 0


def test_an_envelope_below_the_floors_pauses_jobs_and_names_the_envelope(lock: LockStep, site: Site) -> None:
    lock.requests = replace(lock.requests, envelope_w=0.5 * site.control.envelope_w, envelope_by="utility")
    seen = seconds(lock, 260)
    frames, truth = seen[-1]
    assert truth.site_power_w <= 0.5 * site.control.envelope_w * 1.001
    assert frames.orders.shed is not None
    assert any("envelope" in text for text in frames.proposal.said)
    lock.requests = replace(lock.requests, envelope_w=None)
    assert seconds(lock, 400)[-1][0].orders.shed is None


def test_one_meter_that_lies_stops_no_job(lock: LockStep) -> None:
    """A substation's meter shows twice its load: caps may go to the floors, no further."""
    slot = lock.plan.node_slot.power[lock.plan.site.node_index["sub1"]]

    def doubled(shot: Snapshot) -> Snapshot:
        value = shot.value.copy()
        value[slot] *= 2.0
        return replace(shot, value=value)

    lock.wires.lens = doubled
    assert all(f.orders.shed is None for f, _ in seconds(lock, 90))


def test_after_a_loss_verdicts_count_on_nothing_that_is_dead_and_its_racks_still_rise(lock: LockStep) -> None:
    lose(lock, "h1b1u3")
    seen = seconds(lock, 60)
    frames = seen[-1][0]
    generator = np.array([n.kind == "generator" for n in lock.plan.site.nodes])  # stands, and can carry after a loss
    dead = ~lock.plant.elec.live & ~generator
    after = overloads(lock.state.allocate.kit, frames.estimate, frames.limits, frames.orders.cap_w)
    assert (after.load_w[dead[lock.plan.losses.delta_node]] == 0.0).all()
    row = lock.plan.parent[lock.plan.rack_pdu]
    lone = dead[row].sum(axis=1) == 1
    assert lone.any()
    assert np.isfinite(frames.image.metered_w[lone]).all()
    assert (frames.orders.reason[lone] != Reason.STALE).all()
