"""The rules of the filling, one by one, on sites small enough to work out by hand."""

from typing import Any

import numpy as np
import pytest

from controller.kernels import fill_solve
from controller.kernels.fill import Curve, FillError, FillInputs, FillResult, build_topology, fill, level_of
from controller.kernels.warm import known_case, self_test, warm
from drivers.clock import VirtualClock

LINE: Curve = ((0.5, 1.0), (0.5, 1.0))
KNEE: Curve = ((0.5, 1.0), (0.8, 1.0))  # half the GPU power gives 0.8 of the throughput
HUMP: Curve = ((0.4, 0.6, 1.0), (0.2, 0.8, 1.0))  # neither concave nor convex


def run(
    rows: list[list[float]],
    limit_w: list[float],
    demand_w: list[float],
    floor_w: list[float] | None = None,
    gang_of: list[int] | None = None,
    gang_class: list[int] | None = None,
    curves: tuple[Curve, ...] = (LINE,),
    **given: Any,
) -> FillResult:
    """Fill a site of dense rows; without more, racks of 100 W of GPU and nothing else, each its own gang."""
    n = len(demand_w)
    gang_of = list(range(n)) if gang_of is None else gang_of
    gang_class = [0] * (max(gang_of) + 1) if gang_class is None else gang_class
    a = np.array(rows, float).reshape(len(rows), n)
    k, r = np.nonzero(a + 1.0)
    start = np.arange(len(rows) + 1) * n
    values: dict[str, Any] = {
        "floor_w": np.zeros(n) if floor_w is None else np.array(floor_w),
        "ceiling_w": np.full(n, np.inf),
        "other_w": np.zeros(n),
        "gpu_w": np.full(n, 100.0),
        "curve_of": np.zeros(n, np.int32),
    }
    values |= {name: np.asarray(value) for name, value in given.items()}
    topology = build_topology(gang_of, gang_class, start, r, a[k, r], curves)
    return fill(topology, FillInputs(demand_w=np.array(demand_w), limit_w=np.array(limit_w), **values))


def test_an_equal_level_is_an_equal_slow_down() -> None:
    result = run([[1, 1, 1]], [150.0], [100.0, 100.0, 50.0])
    np.testing.assert_allclose(result.level, 0.6)
    np.testing.assert_allclose(result.power_w, [60.0, 60.0, 30.0])
    assert result.binding_row.tolist() == [0, 0, 0]
    assert result.tight.tolist() == [True]
    assert not result.at_floor.any()


def test_a_gang_touching_a_tight_row_only_through_flat_racks_goes_on() -> None:
    result = run([[1, 1, 0]], [140.0], [100.0, 100.0, 100.0], floor_w=[100.0, 0.0, 0.0], gang_of=[0, 1, 0])
    np.testing.assert_allclose(result.level, [1.0, 0.4])
    np.testing.assert_allclose(result.power_w, [100.0, 40.0, 100.0])
    assert result.binding_row.tolist() == [-1, 0]


def test_a_rack_leaving_its_floor_under_a_tight_row_freezes_its_gang_there() -> None:
    result = run([[1, 1, 0]], [100.0], [100.0, 100.0, 100.0], floor_w=[70.0, 0.0, 0.0], gang_of=[0, 1, 0])
    np.testing.assert_allclose(result.level, [0.7, 0.3])
    np.testing.assert_allclose(result.power_w, [70.0, 30.0, 70.0])
    assert result.binding_row.tolist() == [0, 0]


def test_a_gang_joins_at_the_level_of_its_floor() -> None:
    result = run([[1, 1]], [80.0], [100.0, 100.0], floor_w=[50.0, 0.0])
    np.testing.assert_allclose(result.level, [0.5, 0.3])
    assert result.at_floor.tolist() == [True, False]
    result = run([[1, 1]], [140.0], [100.0, 100.0], floor_w=[50.0, 0.0])
    np.testing.assert_allclose(result.level, [0.7, 0.7])


def test_classes_are_served_in_order_with_the_others_at_their_floors() -> None:
    result = run([[1, 1, 1]], [150.0], [100.0] * 3, floor_w=[20.0] * 3, gang_class=[2, 0, 1])
    np.testing.assert_allclose(result.power_w, [20.0, 100.0, 30.0])
    assert result.at_floor.tolist() == [True, False, False]


def test_floors_over_a_limit_are_reported_and_stay() -> None:
    result = run([[1, 1, 0], [0, 1, 1]], [50.0, 150.0], [100.0] * 3, floor_w=[30.0, 30.0, 0.0])
    assert result.violated.tolist() == [True, False]
    assert result.tight.tolist() == [True, False]
    np.testing.assert_allclose(result.power_w, [30.0, 30.0, 100.0])
    assert result.binding_row.tolist() == [0, 0, -1]


def test_floors_that_fill_a_limit_exactly_are_no_violation() -> None:
    result = run([[1, 1]], [60.0], [100.0, 100.0], floor_w=[30.0, 30.0])
    assert not result.violated.any()
    assert result.tight.all()
    assert result.power_w.tolist() == [30.0, 30.0]


def test_demands_that_fill_a_limit_exactly_are_met() -> None:
    result = run([[1, 1]], [60.0], [30.0, 30.0])
    assert result.level.tolist() == [1.0, 1.0]
    assert result.binding_row.tolist() == [-1, -1]
    np.testing.assert_allclose(result.power_w, 30.0, rtol=1e-11)


def test_a_ceiling_freezes_the_gang_and_yields_to_a_floor() -> None:
    result = run([[1, 1, 1]], [500.0], [100.0] * 3, gang_of=[0, 0, 1], ceiling_w=[np.inf, 60.0, np.inf])
    np.testing.assert_allclose(result.power_w, [60.0, 60.0, 100.0])
    assert result.binding_row.tolist() == [-3, -1]
    result = run([[1, 1]], [500.0], [100.0] * 2, floor_w=[40.0, 0.0], ceiling_w=[30.0, np.inf])
    np.testing.assert_allclose(result.power_w, [40.0, 100.0])
    assert result.over_ceiling.tolist() == [True, False]
    assert result.binding_row.tolist() == [-2, -1]


@pytest.mark.parametrize(("curve", "power_w"), [(LINE, 60.0), (KNEE, 37.5), (HUMP, 40.0 + 20.0 * 2 / 3)])
def test_power_follows_the_curve(curve: Curve, power_w: float) -> None:
    result = run([[1, 0]], [power_w], [100.0, 100.0], gang_of=[0, 0], curves=(curve,))
    np.testing.assert_allclose(result.level, 0.6)
    np.testing.assert_allclose(result.power_w, power_w)


def test_other_power_is_not_shaped() -> None:
    result = run([[1, 1]], [140.0], [120.0, 120.0], other_w=[40.0, 40.0], gpu_w=[80.0, 80.0])
    np.testing.assert_allclose(result.power_w, 70.0)
    np.testing.assert_allclose(result.level, 3 / 8)


def test_demand_below_the_floor_is_charged_at_the_floor() -> None:
    result = run([[1, 1]], [100.0], [10.0, 100.0], floor_w=[30.0, 0.0])
    np.testing.assert_allclose(result.power_w, [30.0, 70.0])
    assert result.level[0] == 1.0


def test_a_rack_without_gpu_power_falls_in_proportion() -> None:
    result = run([[1, 1]], [90.0], [100.0, 80.0], gpu_w=[100.0, 0.0], other_w=[0.0, 80.0])
    np.testing.assert_allclose(result.power_w, [50.0, 40.0])


def test_rows_without_racks_without_limit_and_no_rows() -> None:
    result = run([[0, 0], [1, 1]], [-1.0, np.inf], [100.0, 0.0])
    assert result.power_w.tolist() == [100.0, 0.0]
    assert result.violated.tolist() == [True, False]
    assert not result.tight[1]
    assert run([], [], [100.0]).power_w.tolist() == [100.0]


def test_coefficients_and_classes_can_change_from_call_to_call() -> None:
    topology = build_topology([0, 1], [0, 0], [0, 2], [0, 1], [1.0, 1.0], [LINE])
    w = np.array([0.0, 0.0])
    common = (w, w + 100.0, w + np.inf, w, w + 100.0, np.zeros(2, np.int32), np.array([120.0]))
    np.testing.assert_allclose(fill(topology, FillInputs(*common)).power_w, [60.0, 60.0])
    np.testing.assert_allclose(fill(topology, FillInputs(*common, coef=np.array([2.0, 1.0]))).power_w, [40.0, 40.0])
    np.testing.assert_allclose(fill(topology, FillInputs(*common, gang_class=np.array([1, 0]))).power_w, [20.0, 100.0])
    np.testing.assert_allclose(fill(topology, FillInputs(*common)).power_w, [60.0, 60.0])


def test_caps_give_the_level_of_the_slowest_rack() -> None:
    topology, inputs = known_case()
    np.testing.assert_allclose(level_of(topology, inputs, [60.0, 50.0, 110.0, 10.0]), [0.5, 1.0, 0.5])


@pytest.mark.parametrize(
    "wrong",
    [
        {"floor_w": [np.nan]},
        {"demand_w": [-1.0]},
        {"ceiling_w": [np.nan]},
        {"limit_w": [np.nan]},
        {"limit_w": [-np.inf]},
        {"curve_of": [1]},
        {"coef": np.array([-1.0])},
        {"gang_class": np.array([0, 0])},
        {"limit_w": [1.0, 1.0]},
    ],
)
def test_unknown_values_and_wrong_shapes_are_refused(wrong: dict[str, Any]) -> None:
    topology = build_topology([0], [0], [0, 1], [0], [1.0], [LINE])
    one = np.array([1.0])
    values: dict[str, Any] = dict.fromkeys(("floor_w", "demand_w", "ceiling_w", "other_w", "gpu_w", "limit_w"), one)
    values |= {"curve_of": np.zeros(1, np.int32)} | {name: np.array(value) for name, value in wrong.items()}
    with pytest.raises(FillError):
        fill(topology, FillInputs(**values))


@pytest.mark.parametrize(
    "change",
    [
        {"gang_of": [1]},
        {"row_start": [0, 2]},
        {"row_block": [3]},
        {"block_start": [0]},
        {"block_start": [0, 2]},
        {"block_start": [0, 0, 1]},
        {"coef": [-1.0]},
        {"coef": [np.inf]},
        {"curves": [((0.2, 0.1), (0.1, 0.2))]},
        {"curves": [((0.0, 1.0), (0.3, 1.0))]},
        {"curves": [((0.2, 1.0), (0.0, 1.0))]},
    ],
)
def test_a_topology_that_does_not_fit_together_is_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"gang_of": [0], "gang_class": [0], "row_start": [0, 1], "row_block": [0], "coef": [1.0]}
    build_topology(**good, curves=[LINE])
    with pytest.raises(FillError):
        build_topology(**{**good, "curves": [LINE], **change})


def test_without_gangs_there_is_nothing_to_fill() -> None:
    none = np.zeros(0)
    given = FillInputs(none, none, none, none, none, np.zeros(0, np.int32), none)
    result = fill(build_topology([], [], [0], [], [], [LINE]), given)
    assert result.power_w.size == result.level.size == result.row_load_w.size == 0


def test_a_filling_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.kernels.fill.solve", lambda *_: fill_solve.TOO_LONG)
    with pytest.raises(FillError, match="steps"):
        fill(*known_case())


def test_nothing_is_compiled_again_for_frozen_or_strided_arrays() -> None:
    topology, inputs = known_case()
    fill(topology, inputs)
    compiled = getattr(fill_solve.solve, "signatures", [()])
    frozen = np.repeat(inputs.floor_w, 2)[::2]
    frozen.flags.writeable = False
    assert fill(topology, FillInputs(**{**vars(inputs), "floor_w": frozen})).level.shape == (3,)
    assert len(getattr(fill_solve.solve, "signatures", [()])) == len(compiled) == 1


def test_the_kernels_prove_themselves_before_use() -> None:
    report = warm(VirtualClock())
    assert report.ok
    assert report.problem == ""
    assert self_test() == ""


def test_a_wrong_or_slow_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    late = warm(budget_ms=0.0)
    assert not late.ok
    assert "ms" in late.problem
    monkeypatch.setattr("controller.kernels.warm.level_of", lambda *_: np.zeros(3))
    wrong = warm(VirtualClock())
    assert not wrong.ok
    assert "level_of" in wrong.problem
