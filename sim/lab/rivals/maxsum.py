"""The most work by a linear program each second: max-sum over jobs under every limit of the present state."""

from typing import Any

import numpy as np

from controller.frames import Floats, Ints
from controller.kernels.fill import Curve
from drivers.site.catalog import curve
from sim.lab.bench.peers import hull
from sim.lab.rivals.loads import Demand, OtherLoad, room_w
from sim.lab.rivals.policy import Layout, Seen
from sim.lab.rivals.proportional import deal

KILO = 1e-3
THRIFT = 1e-6  # worth of a kW that brings no work: without it the program may hand out any


class MaxSum:
    """Power where it does the most work, whoever it is: the highest sum over racks of worth x level, by HiGHS.

    In the form of nvPAX (NVIDIA, arXiv 2605.01837, phase I: an optimum over all devices under hierarchy and tenants,
    solved anew each period), with the plain sum as objective. Choices, in its favour where there was one: a training
    job is one variable, as its racks wait for each other; a rack's worth is the power of its GPUs and its throughput
    the concave hull of the measured curves, both as headroom's `throughput` has them; what is left when all is asked
    goes out as head room. Limits are those of the present state at nominal ratings; nothing is reserved for losses.
    Where the floors do not fit they are handed out as they are.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self._layout, self._other, self._demand = layout, OtherLoad(layout), Demand(layout)
        self._program = Program(layout, hulls(layout))
        self._even = np.ones(len(layout.max_w))

    def caps_w(self, seen: Seen) -> Floats:
        """Caps of the program's answer, and head room [R, W]."""
        layout = self._layout
        room = room_w(layout, self._other.follow(seen), seen.envelope_w)
        asked_w = self._program.solve(self._demand.follow(seen), room)
        return deal(layout.rows, room, asked_w, layout.max_w, self._even)


def hulls(layout: Layout) -> list[Curve]:
    """The curve of each rack's GPUs and work, made concave [R]."""
    kinds = ("training" if t else "inference" for t in layout.training)
    return [hull(curve(rack.gpu_model, kind)) for rack, kind in zip(layout.site.racks, kinds, strict=True)]


class Program:
    """The program of a site: columns are the racks' powers [kW], then the gangs' throughputs against nameplate.

    Its matrix stays, only bounds and costs move, so that HiGHS goes on from the last basis. `curves` [R] are concave,
    from (0, 0) to (1, 1).
    """

    def __init__(self, layout: Layout, curves: list[Curve]) -> None:
        import highspy

        self._layout, self._curves = layout, curves
        self._racks, self._gangs = len(layout.max_w), int(layout.gang_of.max()) + 1
        gpu_w = layout.max_w - layout.other_w
        self._worth = np.bincount(layout.gang_of, gpu_w / gpu_w.mean())
        self._inf = highspy.kHighsInf
        self._optimal = highspy.HighsModelStatus.kOptimal
        rack, at_kw, per_kw = lines(layout, curves)
        columns, rows, first = self._racks + self._gangs, layout.rows, len(layout.limit_w)
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, first + len(rack)
        lp.sense_ = highspy.ObjSense.kMaximize
        lp.col_cost_ = np.append(np.full(self._racks, -THRIFT), self._worth)
        lp.col_lower_ = np.append(KILO * layout.floor_w, np.zeros(self._gangs))
        lp.col_upper_ = np.append(KILO * layout.max_w, np.ones(self._gangs))
        lp.row_lower_ = np.append(np.full(first, -self._inf), at_kw)
        lp.row_upper_ = np.full(first + len(rack), self._inf)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.append(rows.indptr, len(rows.racks) + 2 * np.arange(1, len(rack) + 1))
        pairs = np.column_stack((rack, self._racks + layout.gang_of[rack])).ravel()
        lp.a_matrix_.index_ = np.append(rows.racks, pairs)
        lp.a_matrix_.value_ = np.append(rows.coeff, np.column_stack((np.ones(len(rack)), -per_kw)).ravel())
        untyped: Any = highspy.Highs
        self._highs = untyped()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._highs.passModel(lp)

    def solve(self, demand_w: Floats, room: Floats) -> Floats:
        """Power of each rack [R, W] between floor and demand for the most work within `room` [K, W]; floors if none."""
        layout, h = self._layout, self._highs
        racks, gangs = np.arange(self._racks, dtype=np.int32), np.arange(self._gangs, dtype=np.int32)
        top = np.full(self._gangs, 1.0)
        np.minimum.at(top, layout.gang_of, throughput(layout, self._curves, demand_w))
        top = np.maximum(top, 1e-6)
        h.changeColsBounds(self._racks, racks, KILO * layout.floor_w, KILO * np.maximum(demand_w, layout.floor_w))
        columns = gangs + np.int32(self._racks)
        h.changeColsBounds(self._gangs, columns, np.zeros(self._gangs), top)
        h.changeColsCost(self._gangs, columns, self._worth / top)
        upper = np.where(np.isfinite(room), KILO * room, self._inf)
        h.changeRowsBounds(len(room), np.arange(len(room), dtype=np.int32), np.full(len(room), -self._inf), upper)
        h.run()
        if h.getModelStatus() != self._optimal:
            return layout.floor_w
        power_w = np.array(h.getSolution().col_value[: self._racks]) / KILO
        return np.clip(power_w, layout.floor_w, layout.max_w)


def throughput(layout: Layout, curves: list[Curve], power_w: Floats) -> Floats:
    """Throughput of each rack against nameplate at a power [R]."""
    share = (power_w - layout.other_w) / (layout.max_w - layout.other_w)
    return np.array([np.interp(s, *c) for s, c in zip(share, curves, strict=True)])


def lines(layout: Layout, curves: list[Curve]) -> tuple[Ints, Floats, Floats]:
    """Lines that a rack's power [kW] stays above: rack, power at no throughput, power for each unit of throughput."""
    rack: list[int] = []
    at_kw: list[float] = []
    per_kw: list[float] = []
    for r, (share, out) in enumerate(curves):
        gpu_kw = KILO * float(layout.max_w[r] - layout.other_w[r])
        for x0, y0, x1, y1 in zip(share, out, share[1:], out[1:], strict=False):
            rate = (x1 - x0) / (y1 - y0)
            rack.append(r)
            at_kw.append(KILO * float(layout.other_w[r]) + gpu_kw * (x0 - y0 * rate))
            per_kw.append(gpu_kw * rate)
    return np.array(rack, dtype=np.int64), np.array(at_kw), np.array(per_kw)
