"""Water takes its time through pipes: fronts arrive after volume / flow, and nothing is lost or made on the way."""

import numpy as np
import pytest
from helpers_site import tiny_site
from helpers_water import Water
from hypothesis import given
from hypothesis import strategies as st

from drivers.site.model import Site
from sim.plant.base import DT_S
from sim.plant.pipes import push
from sim.plant.thermal import CELLS

VOLUME_L = 200.0


class Pipe:
    """One pipe of VOLUME_L, full of water at 20 C."""

    def __init__(self) -> None:
        self.cells_c, self.at, self.filled_l = np.full(CELLS + 1, 20.0), np.zeros(1, dtype=np.int64), np.zeros(1)
        self.out_c = 20.0

    def push(self, dv_l: float, in_c: float) -> float:
        self.out_c = push(self.cells_c, self.at, self.filled_l, VOLUME_L / CELLS, dv_l, in_c, self.out_c)
        return self.out_c

    def held(self) -> float:
        """Litre kelvins in it."""
        cell_l, weight = VOLUME_L / CELLS, np.full(CELLS + 1, 1.0)
        weight[self.at[0]] = self.filled_l[0] / cell_l
        weight[(self.at[0] + 1) % (CELLS + 1)] -= self.filled_l[0] / cell_l
        return float((self.cells_c * weight).sum() * cell_l)


@pytest.mark.parametrize("flow_lpm", [30.0, 300.0, 2400.0, 9000.0])
def test_a_front_arrives_after_volume_over_flow(flow_lpm: float) -> None:
    pipe, dv_l = Pipe(), flow_lpm / 60.0 * DT_S
    late_s = 60.0 * VOLUME_L / flow_lpm
    seen = [pipe.push(dv_l, 30.0) for _ in range(round(2.0 * late_s / DT_S))]
    t_s = DT_S * np.arange(len(seen))
    wide_s = late_s / CELLS + DT_S
    arrives = np.array(seen)
    assert (arrives[t_s < late_s - wide_s] == 20.0).all()
    assert arrives[t_s > late_s + wide_s] == pytest.approx(30.0, abs=1e-9)


@pytest.mark.parametrize("flow_lpm", [200.0, 1000.0])
def test_a_wave_comes_out_as_it_went_in_only_later(flow_lpm: float) -> None:
    """Closed form of plug flow: out(t) = in(t - volume / flow)."""
    pipe, late_s, period_s = Pipe(), 60.0 * VOLUME_L / flow_lpm, 40.0
    t_s = DT_S * np.arange(2000)
    wave = 20.0 + 5.0 * np.sin(2.0 * np.pi * t_s / period_s)
    out = np.array([pipe.push(flow_lpm / 60.0 * DT_S, float(c)) for c in wave])
    expected = 20.0 + 5.0 * np.sin(2.0 * np.pi * (t_s - late_s) / period_s)
    settled = t_s > 2.0 * late_s
    steepest_k_s = 5.0 * 2.0 * np.pi / period_s
    assert np.abs(out - expected)[settled].max() < steepest_k_s * (late_s / CELLS + DT_S)


def test_a_flow_that_changes_on_the_way_carries_the_front_by_volume() -> None:
    pipe, passed_l = Pipe(), 0.0
    while pipe.out_c < 25.0:
        dv_l = 4.0 if passed_l < 100.0 else 0.5
        pipe.push(dv_l, 30.0)
        passed_l += dv_l
    assert passed_l == pytest.approx(VOLUME_L, abs=VOLUME_L / CELLS + 4.0)


@given(
    st.lists(st.tuples(st.floats(0.0, 900.0), st.floats(5.0, 60.0)), min_size=1, max_size=120),
)
def test_heat_is_kept_whatever_flows(steps: list[tuple[float, float]]) -> None:
    pipe = Pipe()
    for dv_l, in_c in steps:
        before = pipe.held()
        out_c = pipe.push(dv_l, in_c)
        assert pipe.held() - before == pytest.approx(dv_l * (in_c - out_c), rel=1e-9, abs=1e-7)
        assert 5.0 - 1e-9 <= out_c <= 60.0 + 1e-9
    out_c = pipe.out_c
    assert pipe.push(0.0, 99.0) == out_c  # what stands still says nothing new


def piped(pipe_l: float) -> Site:
    """The tiny site, its loop of 600 L with so much in each pipe."""
    return tiny_site(loops=tuple(x.model_copy(update={"pipe_l": pipe_l}) for x in tiny_site().loops))


def test_without_pipes_ends_are_what_they_were_and_rest_is_the_same_with_them() -> None:
    """The plant's own balance to 1e-9 is asserted in each of these steps."""
    load_w = np.full(4, 60e3)
    plain, long = Water(piped(0.0)), Water(piped(200.0))
    for water in (plain, long):
        water.run(3600.0, load_w)
    a, b = plain.state, long.state
    assert a.arriving_c == pytest.approx(a.loop_supply_c, abs=1e-3)
    for name in ("loop_supply_c", "loop_return_c", "cdu_supply_c", "silicon_c", "loop_flow_lpm"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=2e-3), name
    assert b.arriving_c == pytest.approx(b.loop_supply_c, abs=0.02)


def test_what_happens_to_heat_rejection_reaches_the_racks_after_the_supply_pipe() -> None:
    load_w = np.full(4, 70e3)
    warm = {}
    for pipe_l in (1e-9, 200.0):
        water = Water(piped(pipe_l))
        water.run(2400.0, load_w)
        water.unit_on[water.hyd.unit_kind > 0] = False
        before, flow_lpm, late_s = float(water.state.arriving_c[0]), float(water.state.loop_flow_lpm[0]), 0.0
        while water.state.arriving_c[0] < before + 0.3:
            water.step(load_w)
            late_s += DT_S
        warm[pipe_l] = late_s, 60.0 * pipe_l / flow_lpm
    assert warm[200.0][0] - warm[1e-9][0] > 0.7 * warm[200.0][1] > 10.0
