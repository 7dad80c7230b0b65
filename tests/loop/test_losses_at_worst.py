"""Losses at the worst moment: over a restart, a takeover, and with instruments that lie."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from controller.frames import Frames, Mode
from drivers.points import Floats, Qualities, Snapshot
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.drill import at_full_demand
from sim.lab.lockstep import LockStep
from sim.plant.truth import Truth


@pytest.fixture(scope="module")
def site() -> Site:
    """The hall where one feed does not carry the floors."""
    hall = resolve_site("hall")
    small = {"utility_feed": 3.2e6, "substation": 3.2e6}
    nodes = tuple(n.model_copy(update={"rating": small.get(n.kind, n.rating)}) for n in hall.nodes)
    return hall.model_copy(update={"nodes": nodes})


@pytest.fixture
def lean(site: Site) -> LockStep:
    return at_full_demand(site)


def seconds(lock: LockStep, n: int) -> list[tuple[Frames, Truth]]:
    return [(lock.watched(lambda *_: None), lock.plant.truth()) for _ in range(n)]


def lose(lock: LockStep, name: str, *, back: bool = False) -> None:
    lock.plant.director.put(name, in_service=back)


def falsify(lock: LockStep, lie: Callable[[Floats, Qualities], None]) -> None:
    """Every reading passes `lie`, which changes values and qualities in place."""

    def lens(shot: Snapshot) -> Snapshot:
        value, quality = shot.value.copy(), shot.quality.copy()
        lie(value, quality)
        return replace(shot, value=value, quality=quality)

    lock.wires.lens = lens


def restart(lock: LockStep) -> None:
    """A new process: it knows no reading yet."""
    lock.wires.forget()
    lock.start_controller()


def asleep(frames: Frames) -> int:
    return 0 if frames.orders.shed is None else int((frames.orders.shed > 0).sum())


def load_of(lock: LockStep, name: str, frames: Frames, truth: Truth) -> float:
    node = lock.plan.site.node_index[name]
    return float(truth.node_w[node] / frames.estimate.rating_w[node])


def test_shed_racks_whose_agents_are_heard_late_stay_shed_after_a_restart(lean: LockStep) -> None:
    lose(lean, "sub1")
    shed = asleep(seconds(lean, 30)[-1][0])
    assert shed > 0
    lean.wires.reports = False  # the broker comes back last
    restart(lean)
    seconds(lean, 8)
    lean.wires.reports = True
    seen = seconds(lean, 30)
    assert all(asleep(frames) == shed for frames, _ in seen)
    assert max(load_of(lean, "sub2", *x) for x in seen[1:]) <= 1.0


def test_a_takeover_from_shadow_finds_what_is_shed(lean: LockStep) -> None:
    live, lean.requests = lean.requests, replace(lean.requests, mode=Mode.SHADOW)
    restart(lean)
    seconds(lean, 10)
    holder = lean.plant.agents.holder
    racks = np.flatnonzero(holder.max_w > 0)[:8]
    holder.shed[racks], holder.cap_w[racks] = 1, 3000  # by the controller whose shadow this is
    seconds(lean, 10)
    lean.requests = live
    for frames, _ in seconds(lean, 5):
        assert frames.orders.shed is not None
        assert (frames.orders.shed[racks] > 0).all()


def test_a_standing_loss_is_known_after_a_restart(lean: LockStep) -> None:
    lose(lean, "sub1")
    seconds(lean, 60)
    restart(lean)
    frames, _ = seconds(lean, 10)[-1]
    lost = {lean.plan.losses.cases[case].id for case in frames.estimate.lost}
    assert lost & {"sub1", "feed1"}
    lose(lean, "sub1", back=True)
    frames, _ = seconds(lean, 60)[-1]
    assert frames.estimate.lost == ()


@pytest.mark.parametrize("element", ["feed1", "sub1", "h1b1t1", "h1b1u1"])
def test_one_meter_that_shows_nothing_loses_nothing(lean: LockStep, element: str) -> None:
    """Its voltage fuse has blown: no volts, and so no watts."""
    slot, node = lean.plan.node_slot, lean.plan.site.node_index[element]
    slots = np.array([slot.power[node], slot.volt[node], slot.apparent[node], *slot.current[node]])

    def lie(value: Floats, quality: Qualities) -> None:
        value[slots[slots >= 0]] = 0.0

    falsify(lean, lie)
    for frames, _ in seconds(lean, 20):
        assert frames.estimate.lost == ()
        assert asleep(frames) == 0


def test_a_voltmeter_that_stays_at_nothing_does_not_keep_a_loss_for_ever(lean: LockStep) -> None:
    lose(lean, "sub1")
    seconds(lean, 30)
    lose(lean, "sub1", back=True)
    volt = lean.plan.node_slot.volt[lean.plan.site.node_index["sub1"]]

    def lie(value: Floats, quality: Qualities) -> None:
        value[volt] = 0.0

    falsify(lean, lie)
    assert seconds(lean, 60)[-1][0].estimate.lost == ()


def test_one_current_transformer_that_lies_stops_no_job(lean: LockStep) -> None:
    """Ten times the current at the true power: by it the rating in W is half; caps may go to the floors, no further."""
    slot, node = lean.plan.node_slot, lean.plan.site.node_index["sub1"]
    slots = np.array([slot.apparent[node], *slot.current[node]])

    def lie(value: Floats, quality: Qualities) -> None:
        value[slots[slots >= 0]] *= 10.0

    falsify(lean, lie)
    assert all(asleep(frames) == 0 for frames, _ in seconds(lean, 30))


def test_a_lost_ups_is_one_loss_however_its_meters_fall(lean: LockStep) -> None:
    lose(lean, "h1b1u1")
    seen = seconds(lean, 5)[1:]
    lose(lean, "h1b1u2")  # and the gateways with it
    for frames, _ in seen + seconds(lean, 10):
        assert [lean.plan.losses.cases[case].id for case in frames.estimate.lost] == ["h1b1u1"]


def test_cycles_that_events_call_for_do_not_hasten_the_ramp(lean: LockStep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voltmeter that comes and goes with every look calls for cycle after cycle while the site is left."""
    volt = lean.plan.node_slot.volt[lean.plan.site.node_index["h1b1r1a"]]
    looks = itertools.count()

    def lie(value: Floats, quality: Qualities) -> None:
        value[volt] *= next(looks) % 2

    falsify(lean, lie)
    monkeypatch.setattr(lean, "_status", lambda: str(next(looks)).encode())
    lean.requests = replace(lean.requests, mode=Mode.OFF)
    caps = [frames.orders.cap_w.sum() for frames, _ in seconds(lean, 6)]
    down_w = lean.plan.site.control.ramp_down_w_per_s
    assert max(a - b for a, b in itertools.pairwise(caps)) <= down_w * 1.01


def test_the_word_of_cooling_units_alone_stops_no_job(site: Site) -> None:
    lock = at_full_demand(site)
    slots = lock.plan.unit_slot[lock.plan.unit_slot >= 0]

    def all_gone(shot: Snapshot) -> Snapshot:
        value = shot.value.copy()
        value[slots] = 0.0
        return replace(shot, value=value)

    lock.wires.lens = all_gone
    assert all(lock.watched(lambda *_: None).orders.shed is None for _ in range(40))


def test_a_meter_that_shows_too_little_does_not_hold_the_site_for_ever(site: Site) -> None:
    lock = at_full_demand(site)
    slot = lock.plan.node_slot.power[lock.plan.site.node_index["h1b1t1"]]

    def less(shot: Snapshot) -> Snapshot:
        value = shot.value.copy()
        value[slot] *= 0.4
        return replace(shot, value=value)

    lock.wires.lens = less
    rides = [lock.watched(lambda *_: None).image.riding.any() for _ in range(960)]
    assert rides[10]
    assert not rides[-1]
