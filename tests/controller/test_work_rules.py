"""The rules of the most work: hulls and knees, what happens where knees do not fit, weights, wrong inputs."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_fill import LINEAR
from helpers_work import corners
from hypothesis import given
from hypothesis import strategies as st

from controller.kernels.fill import Curve, FillError, FillInputs, FillTopology, build_topology, fill
from controller.kernels.warm import warm, work_test
from controller.kernels.work import hull_above_knee, throughput
from drivers.site import catalog

BENT: Curve = ((0.25, 0.5, 1.0), (0.2, 0.6, 1.0))  # 0.8, 1.2 and 1 per watt: its knee is at a half


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """Rising curves of a few points, ties in their slopes included."""
    steps = st.lists(st.integers(1, 6), min_size=2, max_size=7)
    x = np.cumsum(draw(steps))
    y = np.cumsum(draw(st.lists(st.integers(1, 6), min_size=len(x), max_size=len(x))))
    from_zero = draw(st.booleans())
    x, y = (np.append(0, v) if from_zero else v for v in (x, y))
    return tuple((x / x[-1]).tolist()), tuple((y / y[-1]).tolist())


@given(curves())
def test_the_hull_is_concave_nowhere_below_the_curve_and_begins_at_the_knee(curve: Curve) -> None:
    x, y = (np.array(v) for v in hull_above_knee(curve))
    slope = np.diff(np.append(0.0, y) if x[0] > 0 else y) / np.diff(np.append(0.0, x) if x[0] > 0 else x)
    assert (np.diff(slope) < 1e-9).all()
    on, of = (np.array(v) for v in curve)
    above = on >= x[0]
    assert (np.interp(on[above], x, y) >= of[above] - 1e-12).all()
    assert x[-1] == pytest.approx(1.0)
    assert y[-1] == pytest.approx(1.0)
    hull, knee = corners(curve)
    assert x[0] == pytest.approx(max(knee, on[0]))
    assert all(np.interp(a, x, y) == pytest.approx(b) for a, b in hull if a >= x[0])


def test_knees_of_the_curves_in_use() -> None:
    assert hull_above_knee(BENT) == ((0.5, 1.0), (0.6, 1.0))
    assert hull_above_knee(LINEAR) == LINEAR
    assert hull_above_knee(catalog.curve("H100", "training"))[0] == (0.625, 0.75, 1.0)
    assert hull_above_knee(catalog.curve("GB200", "inference"))[0] == (0.5, 0.7142857142857143, 1.0)
    with pytest.raises(ValueError, match="rise strictly"):
        hull_above_knee(((0.5, 0.5), (0.1, 0.2)))


def two_racks(limit_w: float, curve: Curve = BENT) -> tuple[FillTopology, FillInputs]:
    """Two gangs of one rack each, 20 to 120 W with 20 W of other power, under one row."""
    topology = build_topology([0, 1], [0, 1], [0, 2], [0, 1], [1.0, 1.0], [curve])
    full = {"demand_w": np.full(2, 120.0), "ceiling_w": np.full(2, np.inf), "curve_of": np.zeros(2, np.int32)}
    gpu = {"other_w": np.full(2, 20.0), "gpu_w": np.full(2, 100.0)}
    return topology, FillInputs(floor_w=np.full(2, 45.0), limit_w=np.array([limit_w]), **full, **gpu)


def test_what_is_above_the_knees_goes_where_it_is_worth_most() -> None:
    topology, inputs = two_racks(180.0)
    result = throughput(topology, inputs, np.array([1.0, 2.0]))
    assert result.power_w == pytest.approx([70.0, 110.0])
    assert result.level == pytest.approx([0.6, 0.92])
    assert result.work == pytest.approx(0.6 + 2 * 0.92)
    assert result.bound == pytest.approx(result.work, rel=1e-3)
    assert result.price == pytest.approx([2 * 0.4 / 50.0], rel=1e-3)
    assert result.at_knee
    plenty = throughput(topology, replace(inputs, limit_w=np.array([1000.0])), np.array([1.0, 2.0]))
    assert plenty.level.tolist() == [1.0, 1.0]
    assert plenty.price.tolist() == [0.0]
    assert plenty.bound == plenty.work == 3.0


def test_where_knees_do_not_fit_the_filling_goes_as_far_as_it_does_and_class_by_class() -> None:
    topology, inputs = two_racks(130.0)
    result = throughput(topology, inputs, np.array([1.0, 9.0]))
    assert not result.at_knee
    assert result.power_w == pytest.approx([70.0, 60.0])  # class 0 gets to its knee, class 1 what is left
    assert result.level == pytest.approx([0.6, 0.44])
    assert result.work == pytest.approx(result.bound)
    below = fill(topology, replace(inputs, demand_w=np.full(2, 70.0)))
    assert result.power_w == pytest.approx(below.power_w)


def test_a_row_that_floors_exceed_holds_its_gangs_and_no_others() -> None:
    topology = build_topology([0, 1], [0, 0], [0, 1, 3], [0, 0, 1], [1.0, 1.0, 1.0], [LINEAR])
    _, inputs = two_racks(0.0)
    result = throughput(topology, replace(inputs, limit_w=np.array([30.0, 150.0])), np.ones(2))
    assert result.power_w == pytest.approx([45.0, 105.0])
    assert result.price[1] == pytest.approx(0.01, rel=1e-2)
    nothing = build_topology([0, 1], [0, 0], [0], [], [], [LINEAR])
    assert throughput(nothing, replace(inputs, limit_w=np.zeros(0)), np.ones(2)).level.tolist() == [1.0, 1.0]


def test_ceilings_and_weights_of_nothing() -> None:
    topology, inputs = two_racks(200.0)
    inputs = replace(inputs, ceiling_w=np.array([95.0, np.inf]))
    result = throughput(topology, inputs, np.array([5.0, 0.0]))
    assert result.power_w == pytest.approx([95.0, 105.0])  # what is left over is nobody's loss
    assert result.level == pytest.approx([0.8, 0.88])
    low = throughput(topology, replace(inputs, ceiling_w=np.array([50.0, 10.0])), np.ones(2))
    assert low.power_w == pytest.approx([50.0, 45.0])


def test_wrong_inputs_are_refused() -> None:
    topology, inputs = two_racks(180.0)
    wrong = (
        (inputs, np.ones(3)),
        (inputs, np.array([1.0, -1.0])),
        (replace(inputs, floor_w=np.full(3, 1.0)), np.ones(2)),
        (replace(inputs, demand_w=np.array([np.nan, 1.0])), np.ones(2)),
        (replace(inputs, limit_w=np.array([np.nan])), np.ones(2)),
        (replace(inputs, coef=np.array([1.0, -1.0])), np.ones(2)),
    )
    for what, weight in wrong:
        with pytest.raises(FillError):
            throughput(topology, what, weight)


def test_the_start_proves_the_kernel_on_a_known_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert work_test() == ""
    assert warm(budget_ms=1e3, objective="throughput").ok
    wrong = np.array([9.0, 9.0, 0.1])
    monkeypatch.setattr(
        "controller.kernels.warm.throughput", lambda topology, inputs, _: throughput(topology, inputs, wrong)
    )
    assert "most work of the known case" in warm(objective="throughput").problem
    assert warm(budget_ms=1e3).ok
