"""The compiled rating of a node against the same in plain NumPy, whatever its instruments show."""

from dataclasses import replace

import numpy as np
from helpers_control import bench

from controller.frames import Bools, Floats
from controller.kernels.rating import (
    DENIED,
    LIGHT_SHARE,
    SLOW_PER_CYCLE,
    UNBALANCE_WORST,
    VOLT_WORST,
    at_measured,
)
from controller.kernels.warm import warm
from controller.policies import rating
from drivers.clock import VirtualClock

WORST_PF = 0.9


def plain(
    volt: Floats, amps: Floats, power: Floats, apparent_va: Floats, below_w: Floats, phase: Floats, volt_v: Floats,
    rating: Floats, in_amps: Bools, in_va: Bools, base_w: Floats, last_w: Floats,
) -> Floats:  # fmt: skip
    """Column by column."""
    mean, worst = amps.mean(axis=1), amps.max(axis=1)
    apparent = np.fmax(apparent_va, phase * volt * mean)
    denied = below_w > power * DENIED
    loaded = (power > LIGHT_SHARE * base_w) & ~denied
    with np.errstate(divide="ignore", invalid="ignore"):
        pf = np.where(loaded & (apparent > 0), power / apparent, np.nan)
        unbalance = np.where(loaded & (mean > 0), worst / mean, np.nan)
    pf = np.where(np.isfinite(pf), np.clip(pf, 0.5, 1.0), WORST_PF)
    unbalance = np.where(np.isfinite(unbalance), np.clip(unbalance, 1.0, 3.0), UNBALANCE_WORST)
    ratio = np.where(np.isfinite(volt), np.clip(volt / volt_v, 0.5, 1.05), VOLT_WORST)
    amps_w = phase * volt_v * ratio * rating * pf / unbalance
    now = np.where(in_amps, amps_w, np.where(in_va, rating * pf, rating))
    before = np.where(np.isfinite(last_w), last_w, now)
    slowly = before + (now - before) * SLOW_PER_CYCLE
    return np.where(np.isfinite(power) & np.isfinite(volt) & (now <= before), now, slowly)


def test_what_was_compiled_at_the_start_is_all_that_a_cycle_needs() -> None:
    assert warm(VirtualClock()).ok
    b = bench()
    seen = b.image(b.values(np.full(b.racks, 60e3), np.full(b.racks, 80e3)))
    assert not seen.value.flags.writeable
    frozen = np.zeros(len(b.site.nodes))
    frozen.flags.writeable = False
    seen = replace(seen, below_w=frozen)
    base_w = rating.nominal_w(b.plan)
    rating.rating_w(b.plan, seen, base_w, rating.rating_w(b.plan, seen, base_w, base_w))
    assert len(at_measured.signatures) == 1


def test_a_compiled_rating_is_that_of_plain_numpy_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    n = 20_000

    def shown(most: float, shape: tuple[int, ...] = (n,)) -> Floats:
        """Readings with gaps, zeros and what no meter should show."""
        value = rng.uniform(0.0, most, shape)
        odd = rng.random(shape)
        return np.where(odd < 0.1, np.nan, np.where(odd < 0.15, 0.0, np.where(odd < 0.16, np.inf, value)))

    unit = rng.integers(0, 3, n)
    amps, power = shown(900.0, (n, 3)), shown(4e5)
    site = (np.where(rng.random(n) < 0.5, 1.0, 3.0**0.5), np.full(n, 415.0), rng.uniform(100.0, 900.0, n))
    base_w = rng.uniform(1e4, 3e5, n)
    last_w = np.where(rng.random(n) < 0.1, np.inf, rng.uniform(1e4, 5e5, n))
    volt, apparent_va, below_w = shown(450.0), shown(4e5), rng.uniform(0.0, 4e5, n)
    with np.errstate(invalid="ignore"):
        expected = plain(volt, amps, power, apparent_va, below_w, *site, unit == 0, unit == 1, base_w, last_w)
    a, b, c = amps.T.copy()
    phase, volt_v, rated = site
    got = at_measured(
        volt, a, b, c, power, apparent_va, below_w, phase, volt_v, rated, unit == 0, unit == 1, base_w, last_w,
        WORST_PF,
    )  # fmt: skip
    assert np.array_equal(got, expected, equal_nan=True)
    assert np.isfinite(expected).mean() > 0.9
