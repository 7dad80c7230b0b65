"""What a general solver needs for a part of the same answer: an LP by HiGHS, a QP by Clarabel, one thread each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.kernels.fill import Curve
from drivers.clock import RealClock
from sim.lab.bench.instances import Problem, by_rack

Floats = NDArray[np.float64]


def hull(curve: Curve) -> Curve:
    """The least concave curve from (0, 0) that is nowhere below this one: what an LP can take."""
    points = [(0.0, 0.0)]
    for x, y in zip(*curve, strict=True):
        while len(points) > 1 and _slope(points[-2], points[-1]) <= _slope(points[-1], (x, y)):
            points.pop()
        if x > 0.0:
            points.append((x, y))
    return tuple(x for x, _ in points), tuple(y for _, y in points)


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else -np.inf


def first_lp(problem: Problem) -> tuple[float, float]:
    """HiGHS on the first LP of max-min: time of its run [ms], and the highest common level of all racks.

    Over the same rows, with concave curves, without classes, ceilings and gangs, none of which moves that level
    up; the whole answer takes an LP for every level at which something freezes. RuntimeError without an optimum.
    """
    import highspy

    i, t, coef = by_rack(problem)
    racks, rows = len(t.gang_of), len(i.limit_w)
    rack, at_w, per_level_w = _lines(problem)
    lp: Any = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = racks + 1, rows + len(rack)  # powers [kW], then the common level
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.append(np.zeros(racks), 1.0)
    lp.col_lower_, lp.col_upper_ = np.append(1e-3 * i.floor_w, 0.0), np.append(1e-3 * i.demand_w, 1.0)
    lp.row_lower_ = np.append(np.full(rows, -highspy.kHighsInf), 1e-3 * at_w)
    lp.row_upper_ = np.append(1e-3 * i.limit_w, np.full(len(rack), highspy.kHighsInf))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.append(t.row_start, len(t.row_block) + 2 * np.arange(1, len(rack) + 1))
    lp.a_matrix_.index_ = np.append(t.row_block, np.column_stack((rack, np.full(len(rack), racks))).ravel())
    pairs = np.column_stack((np.ones(len(rack)), -1e-3 * per_level_w))
    lp.a_matrix_.value_ = np.append(coef, pairs.ravel())
    highs: Any = highspy.Highs
    h = highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    h.passModel(lp)
    clock = RealClock()
    begin_s = clock.now_s()
    h.run()
    took_ms = 1e3 * (clock.now_s() - begin_s)
    if h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS ended with {h.getModelStatus()}")
    return took_ms, float(h.getInfo().objective_function_value)


def _lines(problem: Problem) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Lines below power(level) of the racks that can rise: rack, power at level 0 [W], W per level; the most counts."""
    i = problem.inputs
    racks, at, per = [], [], []
    for c, curve in enumerate(problem.curves):
        share, throughput = (np.append(0.0, values) if curve[0][0] > 0.0 else np.array(values) for values in curve)
        rate = np.diff(share) / np.diff(throughput)
        r = np.flatnonzero((i.curve_of == c) & (i.demand_w > i.floor_w) & (i.demand_w > i.other_w))
        top = np.interp((i.demand_w[r] - i.other_w[r]) / i.gpu_w[r], share, throughput)
        for j in range(len(rate)):
            racks.append(r)
            at.append(i.other_w[r] + i.gpu_w[r] * (share[j] - throughput[j] * rate[j]))
            per.append(i.gpu_w[r] * rate[j] * top)
    return np.concatenate(racks), np.concatenate(at), np.concatenate(per)


def phase_one_qp(problem: Problem) -> float:
    """Clarabel on the QP that phase I of nvPAX poses: time of its run [ms].

    The least sum of squares of power below the requests, under the same rows, floors and ceilings: no levels,
    no gangs, no classes. RuntimeError without an optimum.
    """
    import clarabel
    from scipy import sparse

    i, t, coef = by_rack(problem)
    racks, rows = len(t.gang_of), len(i.limit_w)
    most_w = np.maximum(np.minimum(i.demand_w, i.ceiling_w), i.floor_w)
    a = sparse.csr_array((coef, t.row_block, t.row_start), shape=(rows, racks))
    finite = np.isfinite(i.limit_w)
    one = sparse.eye_array(racks, format="csr")
    stacked = sparse.csc_matrix(sparse.vstack((a[finite], one, -one)))
    bound = 1e-3 * np.concatenate((np.maximum(i.limit_w, a @ i.floor_w)[finite], most_w, -i.floor_w))
    settings: Any = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    cones = [clarabel.NonnegativeConeT(len(bound))]
    square = sparse.csc_matrix(sparse.eye_array(racks))
    solver: Any = clarabel.DefaultSolver(square, -1e-3 * i.demand_w, stacked, bound, cones, settings)
    clock = RealClock()
    begin_s = clock.now_s()
    solution = solver.solve()
    took_ms = 1e3 * (clock.now_s() - begin_s)
    if str(solution.status) != "Solved":
        raise RuntimeError(f"Clarabel ended with {solution.status}")
    return took_ms
