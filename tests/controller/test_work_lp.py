"""The most work against HiGHS on the same hulls, on hundreds of random sites, and what must hold of every answer."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_fill import Floats, Site, arrays
from helpers_fill_sites import random_curve, random_site
from helpers_work import Problem, level_power, lp_work, problem

from controller.kernels.work import WorkResult, throughput

SITES = 300
LP_NOISE = 1e-4  # HiGHS holds rows to 1e-7 kW, which on a row without room is worth this much


def weights(seed: int, site: Site) -> Floats:
    """Weights of gangs, some of them of no worth."""
    return np.random.default_rng(seed + 7).choice([0.0, 0.5, 1.0, 2.0, 4.0], len(site.gang_class))


def check(site: Site, p: Problem, result: WorkResult, seed: int) -> None:
    """Rows and floors hold, racks of a gang run at one level, prices are prices."""
    load_w = site.a @ result.power_w
    assert (load_w <= p.limit_w * (1 + 1e-12) + 1e-9).all(), f"seed {seed}: a row is over"
    assert (result.power_w >= p.floor_w * (1 - 1e-12)).all(), f"seed {seed}: a rack is below its floor"
    assert (result.power_w <= p.top_w * (1 + 1e-12)).all(), f"seed {seed}: a rack is above its demand or ceiling"
    np.testing.assert_allclose(result.power_w, level_power(site, result.level), rtol=1e-8, atol=1e-4)
    assert (result.price >= 0.0).all()
    assert ((result.level >= 0.0) & (result.level <= 1.0)).all()
    slack_w = np.where(result.price > 0.0, p.limit_w - load_w, 0.0)
    assert result.price @ slack_w <= result.bound - result.work + 1e-6, f"seed {seed}: a slack row has a price"


def test_work_is_that_of_the_linear_program_on_random_sites() -> None:
    gaps, over, held = [], [], 0
    for seed in range(SITES):
        site = random_site(np.random.default_rng(seed))
        weight = weights(seed, site)
        result = throughput(*arrays(site), weight)
        check(site, problem(site), result, seed)
        best = lp_work(site, weight, result)
        if best > 1e-3:
            gaps.append((best - result.work) / best)
            over.append((result.bound - best) / best)
        held += not result.at_knee
    assert len(gaps) > 0.8 * SITES
    assert held > 50
    assert np.median(gaps) <= 1e-5
    assert -LP_NOISE <= min(gaps) <= max(gaps) <= 2e-3
    assert -LP_NOISE <= min(over) <= max(over) <= 2e-2


def crowded(seed: int) -> Site:
    """Few gangs of many racks of every kind: more corners than the kernel has steps."""
    rng = np.random.default_rng(seed)
    n, gangs = 60, 3
    curves = [random_curve(rng, True) for _ in range(4)]
    gpu_w, other_w = rng.uniform(3e4, 9e4, n), rng.uniform(1e4, 3e4, n)
    cords = rng.integers(0, 4, (2, n))
    a = np.vstack(([rng.uniform(1.1, 1.3, n)], [(cords == u).sum(axis=0) * 0.5 for u in range(4)]))
    site = Site(
        gang_of=rng.integers(0, gangs, n),
        gang_class=np.zeros(gangs, dtype=np.int64),
        a=a,
        limit_w=np.zeros(len(a)),
        floor_w=other_w + 0.1 * gpu_w,
        demand_w=other_w + rng.uniform(0.6, 1.0, n) * gpu_w,
        ceiling_w=np.full(n, np.inf),
        other_w=other_w,
        gpu_w=gpu_w,
        curve_of=rng.integers(0, 4, n),
        curves=curves,
    )
    low_w, high_w = a @ site.floor_w, a @ site.demand_w
    return replace(site, limit_w=low_w + rng.uniform(0.6, 1.0, len(a)) * (high_w - low_w))


@pytest.mark.parametrize("seed", range(12))
def test_gangs_of_many_kinds_of_racks_lose_little_to_their_steps(seed: int) -> None:
    site = crowded(seed)
    weight = np.array([1.0, 2.0, 1.5])
    result = throughput(*arrays(site), weight)
    check(site, problem(site), result, seed)
    best = lp_work(site, weight, result)
    assert best * (1 - 2e-3) <= result.work <= best * (1 + 1e-6)
    assert best * (1 - 1e-6) <= result.bound <= best * (1 + 4e-3)


def test_equal_inputs_give_equal_bits_and_an_old_price_a_good_answer() -> None:
    for seed in range(60):
        site = random_site(np.random.default_rng(seed))
        weight = weights(seed, site)
        first = throughput(*arrays(site), weight)
        again = throughput(*arrays(site), weight)
        for name in ("power_w", "level", "price"):
            assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
        assert (first.work, first.bound, first.rounds) == (again.work, again.bound, again.rounds)
        warm = throughput(*arrays(site), weight, first.price)
        check(site, problem(site), warm, seed)
        assert warm.work >= first.work - 2e-3 * first.bound
