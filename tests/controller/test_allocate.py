"""Limits to a proposal: calm under noise, safe caps that fit, constants and holds respected, a start without a bump."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import allocate, cycle
from controller.frames import Estimate, Floats, Limits, Mode, Proposal, Reason

PAST_START_S = allocate.TAKEOVER_S + 1.0
NO_CAP = float("inf")


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1),) * 6, gangs=(0, 0, 1, 1, 2, 2), envelope_w=400e3))


@dataclass
class Desk:
    """An allocation followed cycle by cycle, past its start unless told otherwise."""

    bench: Bench
    since_s: float = PAST_START_S

    def __post_init__(self) -> None:
        self.now_s = 1000.0
        self.state = allocate.begin(self.bench.plan, self.now_s - self.since_s)

    def propose(self, known: Estimate, bounds: Limits) -> Proposal:
        """The next cycle."""
        proposal, self.state = allocate.allocate(self.bench.plan, self.now_s, known, bounds, cycle.NOTHING, self.state)
        self.now_s += 1.0
        return proposal


def known(b: Bench, demand_w: Floats | float, found_w: Floats | float = 60e3, **more: object) -> Estimate:
    racks, rows = np.ones(b.racks), np.zeros(len(b.plan.row_name))
    estimate = Estimate(
        rack_power_w=0.9 * found_w * racks,
        rack_known=racks > 0,
        demand_w=demand_w * racks,
        cap_found_w=found_w * racks,
        constant_w=np.nan * racks,
        disobedient=racks < 0,
        rows=b.plan.joint,
        load_w=rows,
        other_w=rows,
        rating_w=rows[b.plan.node_row] + 1e9,
        trip_used=rows[b.plan.node_row],
        lost=(),
        alive=rows[b.plan.node_row] >= 0.0,
        share=b.plan.share,
        shed_found=np.zeros(b.racks, dtype=np.uint8),
        covered=True,
    )
    return replace(estimate, **more)  # type: ignore[arg-type]


def bounds(
    b: Bench, limit_w: dict[str, float] | None = None, held: tuple[int, ...] = (), mode: Mode = Mode.LIVE
) -> Limits:
    """Every limit at its rating (envelope as the site's), save those named."""
    limits = np.full(len(b.plan.joint.indptr) - 1, 1e9)
    limits[b.plan.envelope_row] = b.site.control.envelope_w
    for name, watts in (limit_w or {}).items():
        limits[b.plan.row_name.index(name)] = watts
    marked = np.zeros(b.racks, dtype=bool)
    marked[list(held)] = True
    nobody = np.zeros(b.racks, dtype=bool)
    top_w = limits[b.plan.envelope_row]
    return Limits(limits, np.maximum(limits, 0.0), ("",) * len(limits), marked, nobody, top_w, mode)


def test_equal_gangs_get_equal_caps_that_fill_the_envelope(b: Bench) -> None:
    proposal = Desk(b).propose(known(b, 80e3), bounds(b))
    row = b.plan.envelope_row
    assert np.ptp(proposal.cap_w) <= b.plan.resolution_w[0]
    assert b.plan.rows.dot(proposal.cap_w)[row] == pytest.approx(400e3, rel=1e-3)
    assert b.plan.rows.dot(proposal.cap_w)[row] <= 400e3 + 1e-6
    assert (proposal.reason == Reason.ROW).all()
    assert (proposal.row == row).all()


def test_what_nobody_asks_for_is_handed_out_as_head_room(b: Bench) -> None:
    """Demand is far below the envelope: caps are open, so that a burst is not cut."""
    proposal = Desk(b).propose(known(b, 45e3), bounds(b, {"envelope": 600e3}))
    assert proposal.cap_w == pytest.approx(b.plan.max_w)
    assert (proposal.reason == Reason.FREE).all()


def test_noise_moves_no_cap(b: Bench) -> None:
    rng, desk = np.random.default_rng(1), Desk(b)
    first = desk.propose(known(b, 78e3), bounds(b)).cap_w
    for _ in range(50):
        demand = 78e3 * (1.0 + rng.normal(0.0, 0.001, b.racks))
        room = bounds(b, {"envelope": 400e3 * (1.0 + abs(rng.normal(0.0, 0.0005)))})
        assert (desk.propose(known(b, demand), room).cap_w == first).all()


def test_a_limit_that_needs_it_moves_even_a_near_cap(b: Bench) -> None:
    desk = Desk(b)
    desk.propose(known(b, 78e3), bounds(b))
    cap_w = desk.propose(known(b, 78e3), bounds(b, {"envelope": 399.5e3})).cap_w
    assert b.plan.rows.dot(cap_w)[b.plan.envelope_row] <= 399.5e3


rooms = st.lists(st.floats(0.0, 500e3), min_size=4, max_size=12)


@given(rooms, st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_safe_caps_fit_every_row_of_the_present_state_together(seen: list[float], cdu: float) -> None:
    """However the rooms move from cycle to cycle; where not even the floors fit, they are the floors."""
    b = bench(Wiring(cords=((0, 1), (1, 2), (2, 0), (0, 1)), ups=((0, 1e6, "W"),) * 3, envelope_w=1e6))
    desk = Desk(b)
    for envelope_w, ups_w in zip(seen, reversed(seen), strict=True):
        room = bounds(b, {"envelope": envelope_w, "u0": ups_w, "u1": 200e3 - 0.2 * ups_w, "c2": cdu * 80e3 + 1e3})
        safe_w = desk.propose(known(b, 80e3), room).safe_cap_w
        most = np.maximum(room.room_w, b.plan.joint.dot(b.plan.floor_w))
        assert (b.plan.joint.dot(safe_w) <= most * (1.0 + 1e-6)).all()
        assert (safe_w >= b.plan.floor_w).all()
        assert (safe_w <= b.plan.safe_cap_w).all()


def test_safe_caps_come_back_when_the_limit_does(b: Bench) -> None:
    desk = Desk(b)
    low = desk.propose(known(b, 80e3), bounds(b, {"envelope": 300e3})).safe_cap_w
    assert (low < b.plan.safe_cap_w).all()
    assert desk.propose(known(b, 80e3), bounds(b)).safe_cap_w == pytest.approx(b.plan.safe_cap_w)


def test_safe_caps_leave_room_for_a_rack_that_does_not_obey(b: Bench) -> None:
    """If the controller dies now, that rack still draws what it draws."""
    disobedient = np.arange(b.racks) == 0
    constant = np.where(disobedient, 80e3, np.nan)
    estimate = known(b, 80e3, disobedient=disobedient, constant_w=constant)
    safe_w = Desk(b).propose(estimate, bounds(b, {"envelope": 380e3})).safe_cap_w
    assert b.plan.rows.dot(np.where(disobedient, 80e3, safe_w))[b.plan.envelope_row] <= 380e3


@pytest.mark.parametrize("counted_w", [45e3, 75e3, 80e3])
@pytest.mark.parametrize("disobeys", [True, False])
def test_a_constant_takes_its_share_from_the_others_and_its_cap_never_rises(
    b: Bench, counted_w: float, disobeys: bool
) -> None:
    """A cap raised to what a disobedient rack draws would make it look obedient, again and again."""
    desk, rack = Desk(b), np.arange(b.racks) == 3
    before = desk.propose(known(b, 80e3), bounds(b)).cap_w
    constant = np.where(rack, counted_w, np.nan)
    estimate = known(b, 80e3, constant_w=constant, disobedient=rack & disobeys)
    for _ in range(3):
        proposal = desk.propose(estimate, bounds(b))
        counted = np.where(rack, counted_w, proposal.cap_w)
        assert b.plan.rows.dot(counted)[b.plan.envelope_row] <= 400e3 + 1e-6
        assert proposal.cap_w[3] <= before[3]
        assert proposal.reason[3] == Reason.FAULTY
    assert b.plan.rows.dot(counted)[b.plan.envelope_row] == pytest.approx(400e3, rel=5e-3)


def test_a_held_rack_does_not_rise_and_may_fall(b: Bench) -> None:
    desk = Desk(b)
    low = desk.propose(known(b, 80e3), bounds(b, {"envelope": 330e3})).cap_w
    held = desk.propose(known(b, 80e3), bounds(b, held=(1,)))
    assert held.cap_w[1] <= low[1]
    assert held.reason[1] == Reason.HOLD
    assert (held.cap_w[2:] > low[2:]).all()
    assert desk.propose(known(b, 80e3), bounds(b, {"envelope": 300e3}, held=(1,))).cap_w[1] < low[1]


def test_a_single_racks_own_row_is_named(b: Bench) -> None:
    proposal = Desk(b).propose(known(b, 80e3), bounds(b, {"p2a": 25e3, "envelope": 900e3}))
    assert proposal.cap_w[2] == pytest.approx(50e3)
    assert b.plan.row_name[proposal.row[2]] == "p2a"
    assert proposal.reason[3] == Reason.ROW  # its gang is at rack 2's pace
    assert proposal.level[2] == proposal.level[3] < 1.0


def test_floors_that_do_not_fit_are_said(b: Bench) -> None:
    proposal = Desk(b).propose(known(b, 80e3), bounds(b, {"envelope": 200e3}))
    assert proposal.cap_w == pytest.approx(b.plan.floor_w)
    assert (proposal.reason == Reason.FLOOR).all()


def test_a_start_moves_gently_and_only_a_measured_overload_forces_more(b: Bench) -> None:
    found = np.array([45e3, 50e3, 55e3, 60e3, 65e3, 70e3])
    desk = Desk(b, since_s=0.0)
    first = desk.propose(known(b, 80e3, found), bounds(b, {"envelope": 330e3}))
    assert (first.cap_w == found).all()
    desk.now_s += allocate.FOUND_S
    moved = desk.propose(known(b, 80e3, found), bounds(b, {"envelope": 330e3})).cap_w
    assert (np.abs(moved / found - 1.0) <= allocate.TAKEOVER_SHARE + 1e-9).all()
    over = np.zeros(len(b.plan.row_name))
    over[b.plan.envelope_row] = 340e3
    forced = desk.propose(known(b, 80e3, found, load_w=over), bounds(b, {"envelope": 330e3})).cap_w
    assert b.plan.rows.dot(forced)[b.plan.envelope_row] <= 330e3


def test_a_rack_heard_late_starts_from_the_cap_it_has(b: Bench) -> None:
    """Until its agent speaks nothing is known of its cap; then that cap counts, not the safe cap assumed before."""
    desk = Desk(b, since_s=0.0)
    nobody = known(b, 80e3, np.nan)
    for _ in range(3):
        desk.propose(nobody, bounds(b))
    assert desk.propose(known(b, 80e3, 72e3), bounds(b, {"envelope": 600e3})).cap_w == pytest.approx(np.full(6, 72e3))


def test_off_goes_to_the_safe_caps_within_the_ramp() -> None:
    slow = bench(Wiring(ramp_w_per_s=7e3, envelope_w=400e3))
    desk = Desk(slow)
    desk.propose(known(slow, 80e3), bounds(slow))
    sums = [desk.propose(known(slow, 80e3), bounds(slow, mode=Mode.OFF)) for _ in range(30)]
    total = np.array([p.cap_w.sum() for p in sums])
    assert (np.diff(total) >= -7e3 - 1.0).all()
    assert (sums[-1].cap_w <= sums[-1].safe_cap_w + 1e-6).all()


def test_classes_are_served_in_order() -> None:
    ranked = bench(Wiring(cords=((0, 1),) * 4, priority=(0, 1, 0, 1), envelope_w=280e3))
    proposal = Desk(ranked).propose(known(ranked, 80e3), bounds(ranked))
    first, second = proposal.cap_w[[0, 2]], proposal.cap_w[[1, 3]]
    assert first == pytest.approx(np.full(2, 80e3))
    assert (second < 60e3).all()
