"""Prices of limits against brute force: a search for the fair levels, HiGHS for the most work."""

import numpy as np
import pytest
from helpers_control import Wiring, bench
from helpers_design import full
from helpers_fill import Site as Dense
from helpers_fill import arrays, oracle
from helpers_work import lp_work
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import bottlenecks, whatif
from controller.frames import Floats, Frames
from controller.kernels.fill import Curve
from controller.kernels.work import throughput
from controller.plan import Plan
from controller.steps import whole
from drivers.site import catalog

KW = 1000.0
WIRING = Wiring(cords=((0, 1),) * 6, gangs=(0, 0, 1, 1, 2, 2), priority=(0, 0, 0, 0, 1, 1), envelope_w=480e3)


def dense(plan: Plan, frames: Frames, room_w: Floats) -> Dense:
    """The question as another solver takes it: every row dense, racks at full demand."""
    rows, racks = frames.estimate.rows, plan.site.racks
    a = np.zeros((len(room_w), len(racks)))
    a[rows.of_entry, rows.racks] = rows.coeff
    kinds = {j.id: j.kind for j in plan.site.jobs}
    curves: list[Curve] = [catalog.curve(r.gpu_model, kinds.get(r.job, "inference")) for r in racks]
    real = np.isfinite(room_w)
    return Dense(
        gang_of=plan.gang_of,
        gang_class=plan.gang_class,
        a=a[real],
        limit_w=room_w[real],
        floor_w=plan.floor_w,
        demand_w=frames.estimate.demand_w,
        ceiling_w=np.full(len(racks), np.inf),
        other_w=plan.other_w,
        gpu_w=plan.gpu_w,
        curve_of=np.arange(len(racks)),
        curves=curves,
    )


def work_by_oracle(plan: Plan, frames: Frames, room_w: Floats) -> float:
    """Racks' worth of work that the fair levels come to, by search."""
    worth = plan.gpu_w / plan.gpu_w.mean()  # a rack of twice the GPU power does twice the work
    return float(oracle(dense(plan, frames, room_w))[plan.gang_of] @ worth)


def most_work_by_lp(plan: Plan, frames: Frames, room_w: Floats) -> float:
    """Racks' worth of the most work, by HiGHS."""
    site = dense(plan, frames, room_w)
    weight = np.bincount(plan.gang_of, plan.gpu_w / plan.gpu_w.mean()) / np.bincount(plan.gang_of)
    return lp_work(site, weight, throughput(*arrays(site), weight))


@pytest.mark.parametrize(
    "room_w",
    [{"envelope": 440e3}, {"p0a": 35e3, "envelope": 460e3}, {"u0": 205e3}, {"p1b": 36e3, "p4a": 35e3, "u1": 215e3}],
)
def test_under_throughput_a_price_is_the_dual_of_the_linear_program(room_w: dict[str, float]) -> None:
    site = WIRING.site()
    site = site.model_copy(update={"control": site.control.model_copy(update={"objective": "throughput"})})
    b = bench(site=site)
    frames, state = full(b, False, **room_w)
    base = whatif.solve(b.plan, frames.estimate, frames.limits, state.allocate)
    room = frames.limits.room_w
    before = most_work_by_lp(b.plan, frames, room)
    assert base.work == pytest.approx(before, rel=0.02)
    duals = whatif.duals(b.plan, frames, state.allocate, base)
    rows = [b.plan.row_name.index(name) for name in room_w]
    for row in rows:
        expected = most_work_by_lp(b.plan, frames, room + KW * (np.arange(len(room)) == row)) - before
        assert duals[row] == pytest.approx(expected, rel=0.05, abs=1e-5)
        assert whatif.price(b.plan, frames, state.allocate, base, row) == duals[row]
    assert (np.delete(duals, rows) <= 1e-9).all()
    assert whole(bottlenecks.rank_each(b.plan, frames, state))


shares = st.floats(0.4, 1.1)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(shares, shares, shares, shares, st.integers(0, 2), st.booleans())
def test_a_price_is_what_one_more_kw_gains_by_another_solver(
    env: float, u0: float, u1: float, one: float, kind: int, losses: bool
) -> None:
    gangs = ((0, 0, 1, 1, 2, 2), (0, 1, 2, 3, 4, 5), (0, 0, 0, 1, 1, 1))[kind]
    cords = ((0, 1), (1, 2), (2, 0)) * 2
    b = bench(Wiring(ups=((0, 400e3, "VA"),) * 3, cords=cords, gangs=gangs, priority=(0, 0, 0, 0, 1, 1)[:6]))
    names = {"envelope": 560e3 * env, "u0": 170e3 * u0, "u1": 170e3 * u1, "p3a": 40e3 * max(one, 0.55)}
    frames, state = full(b, losses, **names)
    base = whatif.solve(b.plan, frames.estimate, frames.limits, state.allocate)
    room_w = frames.limits.room_w
    assert base.work == pytest.approx(work_by_oracle(b.plan, frames, room_w), abs=1e-6)
    for row in np.flatnonzero(base.served.tight):
        more = room_w + KW * (np.arange(len(room_w)) == row)
        expected = work_by_oracle(b.plan, frames, more) - work_by_oracle(b.plan, frames, room_w)
        got = whatif.price(b.plan, frames, state.allocate, base, int(row))
        assert got == pytest.approx(expected, abs=2e-6)


def test_what_lifts_the_lowest_level_may_cost_work_and_is_shown_so() -> None:
    """A kW on the cord of rack 3 goes to a gang of the higher class; the lower class pays and would do more with it."""
    b = bench(Wiring(ups=((0, 400e3, "VA"),) * 3, cords=((0, 1), (1, 2), (2, 0)) * 2, gangs=WIRING.gangs,
                     priority=WIRING.priority))  # fmt: skip
    frames, state = full(b, False, u0=92_714.0, u1=166_585.0, p3a=22_000.0)
    base = whatif.solve(b.plan, frames.estimate, frames.limits, state.allocate)
    room_w, row = frames.limits.room_w, b.plan.row_name.index("p3a")
    more = room_w + KW * (np.arange(len(room_w)) == row)
    expected = work_by_oracle(b.plan, frames, more) - work_by_oracle(b.plan, frames, room_w)
    got = whatif.price(b.plan, frames, state.allocate, base, row)
    assert got == pytest.approx(expected, abs=2e-6)
    assert got < -1e-3
