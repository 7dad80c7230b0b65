"""Caps do not chatter: closed loop with noisy sensors and swinging jobs, second by second.

The noise is that of class 0.5 meters (0.25 % is one sigma; the devices' own 0.05 % comes on top) with the points of
a device apart from each other by another 0.1 %; agents are worse.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from controller.frames import Floats
from drivers.points import Snapshot
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.bench.security import smaller_ups
from sim.lab.branch import branches
from sim.lab.drill import at_full_demand
from sim.lab.lockstep import LockStep

DEVICE, POINT, AGENT = 0.0025, 0.001, 0.005
SCALED = ("_w", "_va", "_var", "_a", "_lpm")
WATT = 1.0  # a cap that differs by less has not moved


@pytest.fixture(scope="module")
def hall() -> Site:
    return resolve_site("hall")


def noise(lock: LockStep, seed: int) -> Callable[[Snapshot], Snapshot]:
    """A lens: every power, current and flow shows with the noise of its meter."""
    rng = np.random.default_rng(seed)
    slabs = lock.wires.inventory.slabs

    def gain() -> Floats:
        parts = []
        for slab in slabs:
            shown = np.array([p.endswith(SCALED) and (slab.name != "agent" or p == "power_w") for p in slab.points])
            device = DEVICE if slab.devices else AGENT
            rows = device * rng.standard_normal((slab.rows, 1)) + POINT * rng.standard_normal((slab.rows, len(shown)))
            parts.append((rows * shown).ravel())
        return 1.0 + np.concatenate(parts)

    def lens(shot: Snapshot) -> Snapshot:
        return replace(shot, value=shot.value * gain())

    return lens


@dataclass(frozen=True)
class Course:
    """Caps of some cycles [cycles, R] and what follows from them."""

    cap_w: Floats
    site_w: Floats  # [cycles] the plant's own

    @property
    def minutes(self) -> float:
        return (len(self.cap_w) - 1) / 60.0

    @property
    def moves(self) -> Floats:
        """Changes of each rack's cap per cycle, 0 where it stands [cycles - 1, R]."""
        step = np.diff(self.cap_w, axis=0)
        return np.where(np.abs(step) > WATT, step, 0.0)

    def moves_per_minute(self) -> Floats:
        rate: Floats = (self.moves != 0.0).sum(axis=0) / self.minutes
        return rate

    def reversals_per_minute(self) -> Floats:
        """How often each cap turned, per minute [R]."""
        turns = [int((np.diff(np.sign(m[m != 0.0])) != 0.0).sum()) for m in self.moves.T]
        return np.array(turns) / self.minutes


def course(lock: LockStep, cycles: int) -> Course:
    steps = [lock.cycle() for _ in range(cycles)]
    return Course(np.stack([f.orders.cap_w for f, _ in steps]), np.array([t.site_power_w for _, t in steps]))


@pytest.fixture(scope="module")
def noisy(hall: Site) -> Course:
    """Five minutes at nameplate, the largest job swinging by a third every four seconds."""
    lock = at_full_demand(hall)
    lock.wires.lens = noise(lock, 5)
    lock.cycle()
    return course(lock, 300)


def test_at_steady_demand_a_cap_hardly_moves_and_hardly_ever_turns(noisy: Course) -> None:
    moves, turns = noisy.moves_per_minute(), noisy.reversals_per_minute()
    assert moves.mean() <= 1.5
    assert moves.max() <= 4.0  # of 60 cycles
    assert turns.mean() <= 0.2
    assert turns.max() <= 1.0


def test_noise_moves_no_cap_far_and_the_site_not_at_all(hall: Site, noisy: Course) -> None:
    assert np.abs(noisy.moves).max() <= 0.01 * max(r.max_w for r in hall.racks)
    total = noisy.cap_w.sum(axis=1)
    assert np.ptp(total) <= 0.005 * total.mean()
    assert noisy.site_w.max() <= hall.control.envelope_w


@pytest.mark.parametrize(
    "setting", [{"objective": "throughput"}, {"leaf": "gpu"}, {"security": "preventive"}, {"planned_overload": 0.3}, {}]
)
def test_no_objective_leaf_or_security_makes_caps_chatter(hall: Site, setting: dict[str, object]) -> None:
    """The last is a hall whose UPS are so small that what a loss would move holds the racks."""
    site = hall.model_copy(update={"control": hall.control.model_copy(update=setting)})
    lock = at_full_demand(site if setting else smaller_ups(hall, 0.7))
    lock.wires.lens = noise(lock, 5)
    lock.cycle()
    seen = course(lock, 120)
    total = seen.cap_w.sum(axis=1)
    assert seen.moves_per_minute().max() <= 10.0
    assert seen.reversals_per_minute().max() <= 5.0
    assert np.ptp(total) <= 0.01 * total.mean()
    assert seen.site_w.max() <= hall.control.envelope_w


def test_after_a_step_down_and_back_the_caps_come_to_rest(hall: Site) -> None:
    lock = at_full_demand(hall)
    lock.wires.lens = noise(lock, 6)
    control = hall.control
    before = course(lock, 30)
    lock.requests = replace(lock.requests, envelope_w=0.9 * control.envelope_w, envelope_by="test")
    down = course(lock, 120)
    lock.requests = replace(lock.requests, envelope_w=None)
    back = course(lock, 180)
    for step in (down, back):
        rest = Course(step.cap_w[-60:], step.site_w[-60:])
        assert np.ptp(rest.cap_w.sum(axis=1)) <= 0.005 * rest.cap_w[-1].sum()
        assert rest.reversals_per_minute().max() <= 2.0
    fell, rose = down.cap_w.sum(axis=1), back.cap_w.sum(axis=1)
    assert np.diff(fell).min() >= -1.05 * control.ramp_down_w_per_s - len(hall.racks)
    assert np.diff(rose).max() <= 2.0 * control.ramp_up_w_per_s + len(hall.racks)
    assert (rose[10:] - rose[:-10]).max() <= 10.5 * control.ramp_up_w_per_s + len(hall.racks)
    assert fell[-1] < 0.95 * before.cap_w[-1].sum() < rose[-1]
    assert down.site_w[-60:].max() <= 0.9 * control.envelope_w
    assert rose.max() <= 1.01 * before.cap_w.sum(axis=1).max()  # nothing overshoots


def test_the_swing_of_a_large_job_moves_no_cap(hall: Site) -> None:
    lock = at_full_demand(hall)
    swinging = course(lock, 60)
    swing_w = np.ptp(swinging.site_w)
    assert swing_w > 0.05 * hall.control.envelope_w
    assert np.ptp(swinging.cap_w.sum(axis=1)) < 0.01 * swing_w


def test_equal_inputs_give_equal_caps_bit_for_bit_also_in_a_copy(hall: Site) -> None:
    def caps() -> dict[str, str]:
        lock = at_full_demand(hall, 3)
        lock.wires.lens = noise(lock, 7)
        return {"caps": course(lock, 30).cap_w.tobytes().hex()}

    lock = at_full_demand(hall, 3)
    lock.wires.lens = noise(lock, 7)
    branch = next(answer for _, answer in branches([lambda: {"caps": course(lock, 30).cap_w.tobytes().hex()}], 1))
    assert caps() == caps() == branch
