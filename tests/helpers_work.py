"""The most work, as a linear program for HiGHS: an oracle that shares nothing with the kernel but the site."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import highspy
import numpy as np
from helpers_fill import Floats, Site, arrays

from controller.kernels.fill import Curve, fill
from controller.kernels.work import WorkResult

MW = 1e-3  # rows in kW keep the program well scaled


def corners(curve: Curve) -> tuple[list[tuple[float, float]], float]:
    """Corners of the concave hull with (0, 0), by trying every chord; and the power share of the knee."""
    points = sorted({(0.0, 0.0), *zip(*curve, strict=True)})
    kept = []
    for x, y in points:
        chords = [a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]) for a in points for b in points if a[0] < x < b[0]]
        if y > max(chords, default=-1.0) + 1e-12:
            kept.append((x, y))
    best = max(y / x for x, y in points[1:])
    knee = min(x for x, y in points[1:] if y / x >= best * (1 - 1e-12))
    return kept, 0.0 if knee == points[1][0] else knee


@dataclass(frozen=True)
class Problem:
    """Lines under the power of each rack (p >= a + b x level), floors from the knee on, and what is fixed."""

    lines: list[list[tuple[float, float]]]
    floor_w: Floats
    top_w: Floats
    held: np.ndarray  # [G] gangs that cannot reach their knees
    held_level: Floats  # [G]
    limit_w: Floats


def _rack(site: Site, r: int) -> tuple[list[tuple[float, float]], float, float, float]:
    """Lines, floor, knee or floor, demand of one rack."""
    demand_w, other_w, gpu_w = max(site.demand_w[r], site.floor_w[r]), site.other_w[r], site.gpu_w[r]
    if gpu_w == 0.0 or demand_w <= other_w:
        return [(0.0, demand_w)], site.floor_w[r], site.floor_w[r], demand_w
    floor_w = max(site.floor_w[r], other_w)
    hull, knee = corners(site.curves[site.curve_of[r]])
    steps = [((y1 - y0) / (x1 - x0), x0, y0) for (x0, y0), (x1, y1) in pairwise(hull)]
    share = (demand_w - other_w) / gpu_w
    top = min(y + k * (share - x) for k, x, y in steps)
    lines = [(other_w + gpu_w * (x - y / k), gpu_w * top / k) for k, x, y in steps]
    ceiling_w = max(site.ceiling_w[r], floor_w)
    return lines, floor_w, max(floor_w, min(other_w + gpu_w * knee, demand_w, ceiling_w)), demand_w


def problem(site: Site) -> Problem:
    """The linear program's data: knees as floors where all of them fit, else where the filling reaches them."""
    racks = [_rack(site, r) for r in range(len(site.gang_of))]
    lines = [x for x, *_ in racks]
    least_w, knee_w, demand_w = (np.array([x[i] for x in racks]) for i in (1, 2, 3))
    limit_w = np.maximum(site.limit_w, site.a @ least_w)
    held, level = np.zeros(len(site.gang_class), dtype=bool), np.ones(len(site.gang_class))
    if (site.a @ knee_w > limit_w * (1 + 1e-12)).any():
        topology, inputs = arrays(site)
        filled_w = fill(topology, replace(inputs, floor_w=least_w, demand_w=knee_w)).power_w
        held[site.gang_of[filled_w < knee_w * (1 - 1e-9)]] = True
        knee_w = np.where(held[site.gang_of], filled_w, knee_w)
        lines = [[(w, 0.0)] if held[g] else x for x, w, g in zip(lines, knee_w, site.gang_of, strict=True)]
    top_w = np.minimum(demand_w, np.maximum(site.ceiling_w, knee_w))
    return Problem(lines, knee_w, np.maximum(top_w, knee_w), held, level, np.maximum(limit_w, site.a @ knee_w))


def lp_work(site: Site, weight: Floats, result: WorkResult) -> float:
    """Most weighted work by HiGHS; the levels of held gangs are taken from the result."""
    p, full = problem(site), np.bincount(site.gang_of, minlength=len(weight)) * weight
    gangs, racks = len(weight), len(site.gang_of)
    highs: Any = highspy.Highs
    lp = highs()
    lp.setOptionValue("output_flag", False)
    for g in range(gangs):
        low, high = (result.level[g], result.level[g]) if p.held[g] else (0.0, 1.0)
        lp.addCol(-float(full[g]), low, high, 0, np.array([], np.int32), np.array([]))
    for r in range(racks):
        lp.addCol(0.0, p.floor_w[r] * MW, p.top_w[r] * MW, 0, np.array([], np.int32), np.array([]))
    for r in range(racks):
        for at_w, per_w in p.lines[r]:
            index, value = np.array([site.gang_of[r], gangs + r], np.int32), np.array([-per_w * MW, 1.0])
            lp.addRow(at_w * MW, highspy.kHighsInf, 2, index, value)
    for row, limit_w in zip(site.a, p.limit_w, strict=True):
        index = np.flatnonzero(row).astype(np.int32)
        upper = limit_w * MW if np.isfinite(limit_w) else highspy.kHighsInf
        lp.addRow(-highspy.kHighsInf, upper, len(index), gangs + index, row[index])
    lp.run()
    assert lp.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return -float(lp.getObjectiveValue())


def level_power(site: Site, level: Floats) -> Floats:
    """Power of each rack at its gang's level, by the program's lines."""
    p = problem(site)
    lines = [max(a + b * level[g] for a, b in x) for x, g in zip(p.lines, site.gang_of, strict=True)]
    return np.asarray(np.clip(lines, p.floor_w, p.top_w))
