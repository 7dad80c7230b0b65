"""Background work in slices: the same answer as at once, within its time, and its failures end nothing."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from helpers_service import Rig

from controller import prepare
from controller.corrective import compile_kit
from controller.cycle import State
from controller.design import design
from controller.frames import Frames
from controller.prepare import SLICE_S, TABLES_S, Moment, Prepare, Task, sets_each, tables_each
from controller.steps import whole
from drivers.clock import VirtualClock


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1),) * 6, envelope_w=400e3))


@pytest.fixture
def at(b: Bench) -> Moment:
    """A moment in which every rack's A cord is a limit of its own."""
    frames, state = design(b.plan, b.inventory)
    room_w = frames.limits.room_w.copy()
    for i in range(b.racks):
        room_w[b.plan.row_name.index(f"p{i}a")] = 25e3 + 1e3 * i
    return Moment(replace(frames, limits=replace(frames.limits, room_w=room_w)), state)


def later(at: Moment, cycles: int) -> tuple[Frames, State]:
    image = replace(at.frames.image, cycle=at.cycle + cycles, now_s=at.at_s + cycles)
    return replace(at.frames, image=image), at.state


class Steps:
    """A clock that each reading moves on, as if every step took this long."""

    def __init__(self, step_s: float) -> None:
        self.clock, self.step_s = VirtualClock(0.0), step_s

    def __call__(self) -> float:
        return self.clock.advance(self.step_s)


@pytest.mark.parametrize("step_s", [0.0001, 0.001, 0.004, 0.02])
def test_slicing_gives_what_comes_at_once(b: Bench, at: Moment, step_s: float) -> None:
    work = Prepare(b.plan, Steps(step_s))
    assert not work.advance(1.0)  # no cycle yet
    work.look(at.frames, at.state)
    slices = 0
    while work.advance(1.0):
        slices += 1
    kit = compile_kit(b.plan)
    expected = whole(tables_each(b.plan, kit, at))
    assert repr(work.latest.tables) == repr(expected)  # a verdict may hold NaN
    assert len(expected.verdicts) == len(b.plan.losses.cases)
    assert len(expected.bottlenecks) == b.racks
    assert slices >= (b.racks if step_s >= SLICE_S else 1)
    sets = whole(sets_each(kit, at))
    assert work.latest.sets is not None
    assert repr(work.latest.sets) == repr(sets)
    assert sets.of_loss.of_case


def test_what_is_under_way_stays_with_its_own_cycle(b: Bench, at: Moment) -> None:
    work = Prepare(b.plan, Steps(0.01))
    work.look(at.frames, at.state)
    for cycle in range(1, 50):
        if not work.advance(1.0):
            break
        assert work.latest.tables is None or work.latest.tables.cycle == at.cycle
        work.look(*later(at, 0 if cycle % 2 else 1))
    assert work.latest.tables is not None
    assert work.latest.tables.cycle == at.cycle


def test_each_round_begins_when_it_is_due(b: Bench, at: Moment) -> None:
    work = Prepare(b.plan, Steps(0.0001))
    seen = []
    for cycle in range(40):
        work.look(*later(at, cycle))
        while work.advance(1.0):
            pass
        assert work.latest.tables is not None
        seen.append(work.latest.tables.cycle - at.cycle)
    assert sorted(set(seen)) == [0, 10, 20, 30]
    assert TABLES_S == 10.0


def test_a_loss_that_was_secured_once_and_is_not_now_has_lapsed(b: Bench, at: Moment) -> None:
    kit = compile_kit(b.plan)
    frames = at.frames
    calm = replace(frames, orders=replace(frames.orders, cap_w=b.plan.floor_w.copy()))
    first = whole(tables_each(b.plan, kit, Moment(calm, at.state)))
    assert "u1" in first.secured
    assert first.lapsed == ()
    rating_w = frames.estimate.rating_w * np.where(np.arange(len(b.site.nodes)) == b.site.node_index["u0"], 0.3, 1.0)
    weak = replace(calm, estimate=replace(calm.estimate, rating_w=rating_w))
    second = whole(tables_each(b.plan, kit, Moment(weak, at.state), first.secured))
    assert "u1" in second.lapsed
    assert set(second.lapsed) <= {v.id for v in second.not_secured}
    never = whole(tables_each(b.plan, kit, Moment(weak, at.state)))
    assert "u1" not in never.lapsed
    third = whole(tables_each(b.plan, kit, Moment(calm, at.state), second.secured))
    assert third.lapsed == ()
    blind = replace(calm, estimate=replace(calm.estimate, covered=False))
    assert whole(tables_each(b.plan, kit, Moment(blind, at.state))).secured == frozenset()


class Clocked:
    """Work of known length on a virtual clock."""

    def __init__(self, lengths_s: list[float]) -> None:
        self.clock, self.lengths_s, self.begun = VirtualClock(0.0), lengths_s, 0

    def steps(self, at: Moment) -> Generator[None, None, int]:
        self.begun += 1
        for length_s in self.lengths_s:
            self.clock.advance(length_s)
            yield
        return at.cycle

    def prepare(self, b: Bench, at: Moment) -> Prepare:
        """One round done, the next is due."""
        work = Prepare(b.plan, self.clock.now_s)
        work._turn.clear()
        work._turn.append(Task(self.steps, 1.0))
        work.look(at.frames, at.state)
        while work.advance(1.0):
            pass
        work.look(*later(at, 1))
        return work


def test_a_slice_holds_what_fits_and_never_less_than_a_step(b: Bench, at: Moment) -> None:
    job = Clocked([0.001] * 40)
    work = job.prepare(b, at)
    took = []
    while True:
        began_s = job.clock.now_s()
        if not work.advance(1.0):
            break
        took.append(job.clock.now_s() - began_s)
    assert max(took) <= SLICE_S + 1e-9
    assert len(took) <= 41.0 / 4.0
    assert sum(took) == pytest.approx(0.04)


def test_what_a_step_takes_is_not_known_in_the_first_round(b: Bench, at: Moment) -> None:
    job = Clocked([0.001] * 4)
    work = Prepare(b.plan, job.clock.now_s)
    work._turn.clear()
    work._turn.append(Task(job.steps, 1.0))
    work.look(at.frames, at.state)
    assert not work.advance(prepare.FIRST_S / 2.0)
    assert work.advance(1.0)
    assert job.clock.now_s() == 0.001


def test_no_step_is_begun_that_would_delay_the_tick(b: Bench, at: Moment) -> None:
    job = Clocked([0.03, *[0.001] * 20])
    work = job.prepare(b, at)
    before_s = job.clock.now_s()
    assert not work.advance(0.02)  # one of the last round took longer than that
    assert job.clock.now_s() == before_s
    assert work.advance(0.04)
    assert job.clock.now_s() == pytest.approx(before_s + 0.03)


def test_while_a_long_step_waits_for_its_time_others_go_on(b: Bench, at: Moment) -> None:
    long, short = Clocked([0.3]), Clocked([0.001])
    short.clock = long.clock
    work = long.prepare(b, at)
    work._turn.append(Task(short.steps, 1.0, longest_s=0.001))
    assert work.advance(0.1)
    assert (long.begun, short.begun) == (1, 1)


def test_one_monstrous_step_does_not_end_all_work(b: Bench, at: Moment) -> None:
    job = Clocked([30.0, 0.001])
    work = job.prepare(b, at)
    assert work.advance(0.9)
    assert work.advance(0.9)


def test_work_that_fails_is_said_and_begins_afresh(b: Bench, at: Moment, caplog: pytest.LogCaptureFixture) -> None:
    job = Clocked([0.001])

    def failing(at: Moment) -> Generator[None, None, int]:
        job.begun += 1
        yield
        raise ArithmeticError("the figures are on fire")

    work = Prepare(b.plan, job.clock.now_s)
    work._turn.clear()
    work._turn.append(Task(failing, 5.0))
    for cycle in range(10):
        work.look(*later(at, cycle))
        while work.advance(1.0):
            pass
    assert job.begun == 2
    assert caplog.text.count("background work failed") == 2
    assert work.latest.tables is None


async def test_a_running_controller_prepares_and_keeps_its_beat(tmp_path: Path) -> None:
    import gc

    rig = Rig(tmp_path)
    await rig.run(80)
    gc.unfreeze()
    tables = rig.service._prepare.latest.tables
    assert tables is not None
    assert tables.cycle >= 60
    assert tables.bottlenecks == ()  # everybody has what they want
    assert rig.frames[-1]["late_cycles"] == 0
    assert prepare.SLICE_S <= 0.005
