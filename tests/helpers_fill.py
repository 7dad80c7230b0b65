"""Small sites for the filling, and three judges of its answer that share no code with it.

The certificate of CONTROL.md, an oracle that searches the common level and raises one gang at a time, and an LP for
convex power(level). A site is dense and a ceiling is one more row of one rack.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.kernels.fill import Curve, FillInputs, FillResult, FillTopology, build_topology

Floats = NDArray[np.float64]
LINEAR: Curve = ((0.25, 1.0), (0.25, 1.0))
RAISE = 1e-7  # of level: the test rise of one gang


@dataclass
class Site:
    """One problem with dense rows `a` [K, R]; powers in W, curves as points."""

    gang_of: NDArray[np.int64]
    gang_class: NDArray[np.int64]
    a: Floats
    limit_w: Floats
    floor_w: Floats
    demand_w: Floats
    ceiling_w: Floats
    other_w: Floats
    gpu_w: Floats
    curve_of: NDArray[np.int64]
    curves: list[Curve] = field(default_factory=lambda: [LINEAR])

    @cached_property
    def model(self) -> "Model":
        """Power as a function of level, and rows with the ceilings among them."""
        return Model(self)


class Model:
    """power(level) by table look-up, and all rows, from the definitions of CONTROL.md."""

    def __init__(self, site: Site) -> None:
        self.gang_of, self.gang_class = site.gang_of, site.gang_class
        racks = [self._rack(site, r) for r in range(len(site.gang_of))]
        width = max(len(x) for x, *_ in racks)
        self.x = np.array([np.append(x, np.full(width - len(x), np.inf)) for x, *_ in racks])
        self.p = np.array([np.append(p, np.full(width - len(p), p[-1])) for _, p, *_ in racks])
        self.floor_w = np.array([f for *_, f, _ in racks])
        self.demand_w = np.array([d for *_, d in racks])
        with np.errstate(invalid="ignore"):
            self.slope = np.diff(self.p, axis=1) / np.diff(self.x, axis=1)
        left = np.array([self._floor_level(r) for r in range(len(racks))])
        self.lowest = np.array([left[self.gang_of == g].min(initial=1.0) for g in self.gangs])
        capped = np.flatnonzero(site.ceiling_w < self.demand_w)
        self.a = np.vstack((site.a, np.eye(len(racks))[capped]))
        self.floor_load_w = self.a @ self.floor_w
        self.given_w = np.append(site.limit_w, site.ceiling_w[capped])
        self.limit_w = np.maximum(self.given_w, self.floor_load_w)
        self.scale_w = np.maximum(np.abs(self.limit_w), self.floor_load_w) + 1e-6

    @property
    def gangs(self) -> range:
        """Their numbers."""
        return range(len(self.gang_class))

    @staticmethod
    def _rack(site: Site, r: int) -> tuple[Floats, Floats, float, float]:
        """Levels and powers at the knots, floor and demand of one rack."""
        demand_w, other_w, gpu_w = max(site.demand_w[r], site.floor_w[r]), site.other_w[r], site.gpu_w[r]
        if gpu_w == 0.0 or demand_w <= other_w:
            return np.array([0.0, 1.0]), np.array([0.0, demand_w]), site.floor_w[r], demand_w
        share, throughput = (np.array(v) for v in site.curves[site.curve_of[r]])
        if share[0] > 0.0:
            share, throughput = np.append(0.0, share), np.append(0.0, throughput)
        beyond = (throughput[-1] - throughput[-2]) / (share[-1] - share[-2])
        share, throughput = np.append(share, share[-1] + 99.0), np.append(throughput, throughput[-1] + 99.0 * beyond)
        top = np.interp((demand_w - other_w) / gpu_w, share, throughput)
        return throughput / top, other_w + gpu_w * share, max(site.floor_w[r], other_w), demand_w

    def _floor_level(self, r: int) -> float:
        """Level at which a rack leaves its floor, 1 for a constant."""
        if self.floor_w[r] >= self.demand_w[r]:
            return 1.0
        real = np.isfinite(self.x[r])
        return float(np.interp(self.floor_w[r], self.p[r, real], self.x[r, real]))

    def power_w(self, level: Floats) -> Floats:
        """Power [..., R] at the gangs' levels [..., G]."""
        x = level[..., self.gang_of]
        j = np.minimum((self.x <= x[..., None]).sum(axis=-1) - 1, self.slope.shape[1] - 1)
        r = np.arange(len(self.gang_of))
        power_w = self.p[r, j] + np.where(x > self.x[r, j], (x - self.x[r, j]) * self.slope[r, j], 0.0)
        return np.where(x >= 1.0, self.demand_w, np.clip(power_w, self.floor_w, self.demand_w))

    def load_w(self, level: Floats) -> Floats:
        """Load [..., K] at the gangs' levels."""
        return self.power_w(level) @ self.a.T

    def fits(self, level: Floats) -> NDArray[np.bool_]:
        """Whether every row holds."""
        return np.asarray((self.load_w(level) <= self.limit_w + 1e-12 * self.scale_w).all(axis=-1))

    def blocked(self, level: Floats, raised: Floats) -> NDArray[np.bool_]:
        """Whether a row would be over its limit and higher than now, at other levels [..., G]."""
        load_w = self.load_w(raised)
        over = load_w > self.limit_w + 1e-12 * self.scale_w
        return np.asarray((over & (load_w > self.load_w(level) + 1e-12 * self.scale_w)).any(axis=-1))


def arrays(site: Site) -> tuple[FillTopology, FillInputs]:
    """The site as the kernel takes it, explicit zeros included."""
    k, r = np.nonzero(site.a >= 0.0)
    keep = (site.a[k, r] > 0.0) | ((k + r) % 3 == 0)
    k, r = k[keep], r[keep]
    start = np.searchsorted(k, np.arange(len(site.a) + 1))
    topology = build_topology(site.gang_of, site.gang_class, start, r, site.a[k, r], site.curves)
    powers = (site.floor_w, site.demand_w, site.ceiling_w, site.other_w, site.gpu_w)
    return topology, FillInputs(*powers, curve_of=site.curve_of.astype(np.int32), limit_w=site.limit_w)


def complaints(site: Site, level: Floats, power_w: Floats) -> list[str]:
    """The certificate: what is wrong with an answer, nothing when it is the optimum."""
    m = site.model
    load_w = m.a @ power_w
    found = [f"row {k} over" for k in np.flatnonzero(load_w > m.limit_w + 1e-9 * m.scale_w)]
    if not np.allclose(power_w, m.power_w(level), rtol=1e-9, atol=1e-6):
        found.append("power is not that of the level")
    tight = load_w >= m.limit_w - 1e-8 * m.scale_w
    load_w = m.load_w(level)
    for g in np.flatnonzero(level < 1.0 - 1e-9):
        if level[g] < m.lowest[g] - 1e-9:
            found.append(f"gang {g} below its floor")
        raised, lowered = level.copy(), level.copy()
        raised[g] = min(1.0, level[g] + RAISE)
        rises = m.load_w(raised) > load_w + 1e-12 * m.scale_w
        same = (m.gang_class == m.gang_class[g]) & (level > level[g])
        lowered[same] = np.maximum(level[g], m.lowest[same])
        lower_class = m.gang_class > m.gang_class[g]
        lowered[lower_class] = m.lowest[lower_class]
        frees = m.load_w(lowered) < load_w - 1e-8 * m.scale_w
        if not (tight & rises & ~frees).any():
            found.append(f"gang {g} could stand higher")
    return found


def oracle(site: Site, whole_rows: bool = False) -> Floats:
    """Levels by search on the common level and a one-gang raise test, class by class.

    `whole_rows` freezes every gang with a rack in a tight row instead: the wrong rule, for the test of the tests.
    """
    m = site.model
    level = m.lowest.copy()
    for c in np.unique(m.gang_class):
        free = m.gang_class == c
        x = 0.0
        for _ in range(4 * len(level) + 4):
            x = _highest(m, level, free, x)
            level[free] = np.maximum(m.lowest[free], x)
            if x >= 1.0 - 1e-9 or not free.any():
                break
            raised = np.minimum(1.0, level + RAISE * np.eye(len(level)))
            stuck = m.blocked(level, raised) | (level >= 1.0)
            if whole_rows:
                tight = m.load_w(level) >= m.limit_w - 1e-9 * m.scale_w
                member = np.array([(m.a[np.ix_(tight, m.gang_of == g)] > 0.0).any() for g in m.gangs])
                stuck |= member & (level <= x + 1e-9)
            free &= ~stuck
        else:
            raise AssertionError("the oracle found no end")
    return level


def _highest(m: Model, level: Floats, free: NDArray[np.bool_], low: float) -> float:
    """Highest common level of the free gangs at which every row holds, by search in 32 parts."""
    high = 1.0
    if m.fits(np.where(free, 1.0, level)):
        return 1.0
    while high - low > 1e-13:
        x = np.linspace(low, high, 33)
        fits = m.fits(np.where(free, np.maximum(m.lowest, x[:, None]), level))
        first_bad = int(np.argmin(fits)) if not fits.all() else 32
        if first_bad == 0:
            return low
        low, high = x[first_bad - 1], x[first_bad]
    return low


def lp_levels(site: Site) -> Floats:
    """Lexicographic max-min levels by an LP a step (HiGHS); right only where power(level) is convex."""
    import highspy

    m = site.model
    unit_w = 1e4
    highs: Any = highspy.Highs
    h = highs()
    h.setOptionValue("output_flag", False)
    level = [h.addVariable(lb=m.lowest[g], ub=m.lowest[g]) for g in m.gangs]
    power = [h.addVariable(lb=f / unit_w, ub=d / unit_w) for f, d in zip(m.floor_w, m.demand_w, strict=True)]
    least = h.addVariable(lb=0.0, ub=1.0)
    for r, g in enumerate(m.gang_of):
        for j in np.flatnonzero(np.isfinite(m.x[r, 1:])):
            at = m.p[r, j] - m.slope[r, j] * m.x[r, j]
            if m.floor_w[r] < m.demand_w[r]:
                h.addConstr(power[r] - m.slope[r, j] / unit_w * level[g] >= at / unit_w)
    for k in range(len(m.a)):
        if m.a[k].any():
            h.addConstr(sum(m.a[k, r] * power[r] for r in np.flatnonzero(m.a[k])) <= m.limit_w[k] / unit_w)
    above = [h.addConstr(level[g] - least >= -1.0) for g in m.gangs]
    out = m.lowest.copy()
    for c in np.unique(m.gang_class):
        free = {int(g) for g in np.flatnonzero(m.gang_class == c)}
        for g in free:
            h.changeColBounds(level[g].index, m.lowest[g], 1.0)
            h.changeRowBounds(above[g].index, 0.0, highspy.kHighsInf)
        while free:
            h.maximize(least)
            assert h.getModelStatus() == highspy.HighsModelStatus.kOptimal
            x = h.val(least)
            dual = h.getSolution().row_dual
            held = {g for g in free if abs(dual[above[g].index]) > 1e-9}
            held = free if x >= 1.0 - 1e-9 else held
            assert held, "no gang holds the common level"
            for g in held:
                out[g] = x
                h.changeColBounds(level[g].index, max(m.lowest[g], x - 1e-9), 1.0)
                h.changeRowBounds(above[g].index, -1.0, highspy.kHighsInf)
            free -= held
        for g in np.flatnonzero(m.gang_class == c):
            h.changeColBounds(level[g].index, max(m.lowest[g], out[g] - 1e-9), max(m.lowest[g], out[g]))
    return out


def check(site: Site, result: FillResult) -> None:
    """AssertionError unless the answer has its certificate and says truly what binds."""
    m = site.model
    assert complaints(site, result.level, result.power_w) == []
    rows = len(site.a)
    load_w = site.a @ result.power_w
    scale_w = m.scale_w[:rows]
    assert np.allclose(result.row_load_w, load_w, rtol=1e-12, atol=1e-6)
    assert (result.violated == (m.floor_load_w[:rows] > site.limit_w + 1e-9 * scale_w)).all()
    strict = m.floor_load_w[:rows] < site.limit_w * (1.0 - 2e-12)
    assert (load_w[strict] <= site.limit_w[strict]).all()
    for g, binding in enumerate(result.binding_row):
        if binding == -1:
            assert result.level[g] == 1.0
        elif binding >= 0:
            assert result.tight[binding]
            assert (site.a[binding, m.gang_of == g] > 0.0).any()
        else:
            assert m.gang_of[-2 - binding] == g
            assert site.ceiling_w[-2 - binding] <= result.power_w[-2 - binding] * (1.0 + 1e-9)
