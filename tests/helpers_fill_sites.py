"""Random small sites for the filling, seeded or drawn by hypothesis."""

from typing import Any

import numpy as np
from helpers_fill import LINEAR, Floats, Site
from hypothesis import strategies as st

from controller.kernels.fill import Curve


def random_curve(rng: np.random.Generator, convex: bool) -> Curve:
    """A strictly rising curve; `convex` makes power a convex function of throughput."""
    n = int(rng.integers(2, 7))
    share = np.concatenate(([rng.uniform(0.1, 0.4)], rng.uniform(0.03, 0.2, n))).cumsum()
    gain = rng.uniform(0.1, 3.0, n + 1)
    if convex:
        gain = np.sort(gain)[::-1]
    throughput = (gain * np.diff(share, prepend=0.0)).cumsum()
    return (tuple(share / share[-1]), tuple(throughput / throughput[-1]))


def random_rows(rng: np.random.Generator, n: int) -> Floats:
    """Envelope, two cords on a few UPS, stages of losses, loops, tenants, single racks, copies, an empty row."""
    ups = int(rng.integers(2, 5))
    share = rng.uniform(0.3, 0.7, n)
    cord_a = rng.integers(0, ups, n)
    cord_b = (cord_a + rng.integers(1, ups, n)) % ups if ups > 1 else cord_a
    on = np.array([share * (cord_a == u) + (1.0 - share) * (cord_b == u) for u in range(ups)])
    lost, left = int(rng.integers(0, ups)), int(rng.integers(0, ups))
    moved = np.where(on[left] > 0.0, on[lost], 0.0)  # what the survivor carries besides, of racks on both
    slow = rng.random(n) < rng.uniform(0.2, 1.0)  # racks that have not acted yet
    loop = rng.integers(0, 3, n)
    cdu = rng.integers(0, 4, n)
    tenant = rng.integers(0, 3, n)
    rows = [rng.uniform(1.1, 1.3, n), *on, on[: ups // 2].sum(axis=0), on[left] + moved]
    rows += [(on[left] + 1.03 * moved) * slow, 1.0 * (tenant == 0), 1.0 * (tenant == 1)]
    rows += [1.0 * (loop == i) for i in range(3)] + [1.0 * (cdu == i) for i in range(2)]
    rows += [rows[int(rng.integers(0, len(rows)))] * rng.choice([1.0, 2.0]), np.zeros(n)]
    a = np.array(rows)
    return a[rng.random(len(a)) < 0.75] if rng.random() < 0.8 else a


def random_site(rng: np.random.Generator, convex: bool = False) -> Site:
    """A small site with every awkward case of the rules now and then."""
    n = int(rng.integers(2, 13))
    gangs = int(rng.integers(1, min(n, 7) + 1))
    gang_of = rng.permutation(np.append(np.arange(gangs), rng.integers(0, gangs, n - gangs)))
    gpu_w = np.where(rng.random(n) < 0.08, 0.0, rng.uniform(2e4, 9e4, n))
    other_w = rng.uniform(0.0, 3e4, n)
    floor_w = other_w + rng.uniform(-0.1, 0.6, n) * gpu_w
    demand_w = floor_w + rng.uniform(-0.1, 1.0, n) * gpu_w
    demand_w = np.where(rng.random(n) < 0.2, floor_w, demand_w)
    if rng.random() < 0.4:
        floor_w, demand_w, other_w, gpu_w = (np.round(v, -4) for v in (floor_w, demand_w, other_w, gpu_w))
    floor_w, demand_w = np.maximum(floor_w, 0.0), np.maximum(demand_w, 0.0)
    ceiling_w = np.where(rng.random(n) < 0.15, floor_w + rng.uniform(-0.1, 1.1, n) * (demand_w - floor_w), np.inf)
    a = random_rows(rng, n)
    curves = [LINEAR, random_curve(rng, True), random_curve(rng, convex)]
    site = Site(
        gang_of=gang_of,
        gang_class=rng.integers(0, rng.integers(1, 4), gangs),
        a=a,
        limit_w=np.full(len(a), np.inf),
        floor_w=floor_w,
        demand_w=demand_w,
        ceiling_w=np.maximum(ceiling_w, 0.0),
        other_w=other_w,
        gpu_w=gpu_w,
        curve_of=rng.integers(0, len(curves), n),
        curves=curves,
    )
    low_w = a @ np.maximum(floor_w, np.minimum(other_w, demand_w))
    room_w = a @ np.maximum(demand_w, floor_w) - low_w
    part = rng.choice([0.0, -0.05, 0.3, 1.0], len(a), p=[0.03, 0.01, 0.06, 0.9]) * rng.uniform(0.2, 1.6, len(a))
    site.limit_w = low_w + part * room_w - np.where(part < 0.0, 10.0, 0.0)
    return site


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Small sites of round numbers, so that ties, exact floors and flat racks are the rule."""
    n, gangs = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    kw = st.integers(0, 12)

    def many(values: st.SearchStrategy[Any], size: int = n) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    floor, rise, other = (1e4 * np.array(many(kw)) for _ in range(3))
    steps = st.lists(st.integers(1, 5), min_size=2, max_size=5)
    curves = [LINEAR]
    for _ in range(2):
        xs = np.cumsum(draw(steps)) * 1.0
        ys = np.cumsum(many(st.integers(1, 5), len(xs))) * 1.0
        curves.append((tuple(xs / xs[-1]), tuple(ys / ys[-1])))
    a = np.array([many(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0])) for _ in range(draw(st.integers(1, 6)))])
    low_w, full_w = a @ floor, a @ (floor + rise)
    part = np.array(many(st.integers(-1, 9), len(a))) / 8.0
    return Site(
        gang_of=np.array(many(st.integers(0, gangs - 1))),
        gang_class=np.array(many(st.integers(0, 2), gangs)),
        a=a,
        limit_w=low_w + part * (full_w - low_w),
        floor_w=floor,
        demand_w=floor + rise,
        ceiling_w=np.array(many(st.sampled_from([np.inf, np.inf, np.inf, 5e4, 9e4, 15e4]))),
        other_w=other,
        gpu_w=1e4 * np.array(many(kw)),
        curve_of=np.array(many(st.integers(0, 2))),
        curves=curves,
    )
