"""The filling against its certificate, the oracle and the LP on thousands of random sites."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_fill import Site, arrays, check, complaints, lp_levels, oracle
from helpers_fill_sites import random_site, sites
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.kernels.fill import build_topology, fill, level_of
from controller.kernels.fill_jump import STEPS_OF_LEVEL

SITES, PARTS = 10_000, 20


def solved(seed: int, convex: bool = False) -> tuple[Site, np.ndarray, np.ndarray]:
    """A random site with the levels and powers of the kernel, certified."""
    site = random_site(np.random.default_rng(seed), convex)
    result = fill(*arrays(site))
    check(site, result)
    return site, result.level, result.power_w


@pytest.mark.parametrize("part", range(PARTS))
def test_certificate_oracle_and_lp_on_ten_thousand_sites(part: int) -> None:
    """One site in ten has convex power(level), so that the LP can judge it, too."""
    frozen = flat = violated = 0
    for seed in range(part, SITES, PARTS):
        convex = seed // PARTS % 10 == 0
        site, level, _ = solved(seed, convex)
        np.testing.assert_allclose(level, oracle(site), rtol=0.0, atol=3e-6, err_msg=f"seed {seed}")
        if convex:
            np.testing.assert_allclose(level, lp_levels(site), rtol=0.0, atol=1e-5, err_msg=f"seed {seed}")
        frozen += int((level < 1.0).sum())
        flat += int((site.floor_w >= site.demand_w).any())
        violated += int((site.model.floor_load_w > site.model.given_w * (1.0 + 1e-9)).any())
    assert frozen > 1.5 * SITES / PARTS
    assert flat > 0.7 * SITES / PARTS
    assert violated > 0.04 * SITES / PARTS


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sites())
def test_certificate_and_oracle_on_round_numbers(site: Site) -> None:
    result = fill(*arrays(site))
    check(site, result)
    np.testing.assert_allclose(result.level, oracle(site), rtol=0.0, atol=3e-6)


def test_certificate_and_bits_with_racks_in_blocks() -> None:
    """Neighbours that every row loads alike, in whatever gangs they are, are summed once: the answer is certified, the
    same as without, and does not hang on what was filled before."""
    for seed in range(800):
        rng = np.random.default_rng(seed)
        site = random_site(rng)
        racks = len(site.gang_of)
        start = np.append(np.flatnonzero(np.append(True, rng.random(racks - 1) < 0.5)), racks)
        first = np.repeat(start[:-1], np.diff(start))
        site.a = site.a[:, first]
        whole, given = arrays(site)
        alone = fill(whole, given)
        k, r = np.nonzero(site.a[:, start[:-1]])
        row_start = np.searchsorted(k, np.arange(len(site.a) + 1))
        coef = site.a[k, start[r]]
        blocks = build_topology(site.gang_of, site.gang_class, row_start, r, coef, site.curves, start)
        given = replace(given, coef=None)
        answers = set()
        for share in (0.0, 1.0, 0.5):
            blocks.work.guess[:] = rng.random(len(site.a)) < share
            blocks.work.step[:] = rng.integers(0, STEPS_OF_LEVEL + 1, len(blocks.work.step))
            result = fill(blocks, given)
            answers.add(b"".join(array.tobytes() for array in vars(result).values()))
        assert len(answers) == 1, f"seed {seed}"
        check(site, result)
        np.testing.assert_allclose(result.level, alone.level, rtol=0.0, atol=1e-9, err_msg=f"seed {seed}")


def test_the_certificate_rejects_the_wrong_rule() -> None:
    below = 0
    for seed in range(1000):
        site, level, _ = solved(seed)
        wrong = oracle(site, whole_rows=True)
        if np.allclose(wrong, level, rtol=0.0, atol=1e-5):
            continue
        below += 1
        assert complaints(site, wrong, site.model.power_w(wrong)), f"seed {seed}: accepted {wrong}, optimum {level}"
    assert below > 40


def test_the_certificate_rejects_any_gang_lowered_or_raised() -> None:
    tried = 0
    for seed in range(300):
        site, level, _ = solved(seed)
        for g in np.flatnonzero(level > site.model.lowest + 0.01):
            for step in (-0.005, 0.005):
                other = level.copy()
                other[g] = min(1.0, other[g] + step)
                if other[g] != level[g]:
                    tried += 1
                    assert complaints(site, other, site.model.power_w(other)), f"seed {seed}, gang {g}"
    assert tried > 500


@given(st.integers(0, 10_000), st.sampled_from([1024.0, 3.7]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_scaling_every_power_scales_the_answer(seed: int, factor: float) -> None:
    site, level, power_w = solved(seed)
    for name in ("limit_w", "floor_w", "demand_w", "ceiling_w", "other_w", "gpu_w"):
        setattr(site, name, getattr(site, name) * factor)
    result = fill(*arrays(site))
    exact = factor == 1024.0
    np.testing.assert_allclose(result.level, level, rtol=0.0, atol=0.0 if exact else 1e-9)
    np.testing.assert_allclose(result.power_w, power_w * factor, rtol=0.0 if exact else 1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_renumbering_renumbers_the_answer(seed: int) -> None:
    site, level, power_w = solved(seed)
    rng = np.random.default_rng(seed + 1)
    rack, gang, row = (rng.permutation(n) for n in (len(site.gang_of), len(site.gang_class), len(site.a)))
    for name in ("floor_w", "demand_w", "ceiling_w", "other_w", "gpu_w", "curve_of"):
        setattr(site, name, getattr(site, name)[rack])
    site.gang_of = np.argsort(gang)[site.gang_of[rack]]
    site.gang_class = site.gang_class[gang]
    site.a, site.limit_w = site.a[row][:, rack], site.limit_w[row]
    result = fill(*arrays(site))
    np.testing.assert_allclose(result.level, level[gang], rtol=0.0, atol=1e-9)
    np.testing.assert_allclose(result.power_w, power_w[rack], rtol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_higher_limit_never_gives_a_lower_answer(seed: int) -> None:
    site, level, _ = solved(seed)
    k = seed % len(site.a)
    site.limit_w[k] += 0.1 * abs(site.limit_w[k]) + 1e3
    after = fill(*arrays(site)).level
    order = [np.flatnonzero(site.gang_class == c) for c in np.unique(site.gang_class)]
    gain = np.concatenate([np.sort(after[c]) - np.sort(level[c]) for c in order])
    moved = gain[np.abs(gain) > 1e-8]
    assert moved.size == 0 or moved[0] > 0.0


def test_equal_inputs_give_equal_bits_and_levels_can_be_read_back() -> None:
    for seed in range(100):
        site, level, power_w = solved(seed)
        again = fill(*arrays(site))
        assert again.level.tobytes() == level.tobytes()
        assert again.power_w.tobytes() == power_w.tobytes()
        np.testing.assert_allclose(level_of(*arrays(site), power_w), level, rtol=0.0, atol=1e-8)


def test_what_was_filled_before_changes_no_bit() -> None:
    """The kernel starts from a guess of the rows that bind and of the first levels: here they are anything."""
    for seed in range(800):
        rng = np.random.default_rng(seed)
        topology, inputs = arrays(random_site(rng))
        answers = set()
        for share in (0.0, 1.0, 0.3, 0.7):
            topology.work.guess[:] = rng.random(len(topology.work.guess)) < share
            topology.work.step[:] = rng.integers(0, STEPS_OF_LEVEL + 1, len(topology.work.step))
            answers.add(b"".join(array.tobytes() for array in vars(fill(topology, inputs)).values()))
        assert len(answers) == 1, f"seed {seed}"


PLAIN = """
import hashlib, sys
import numpy as np
from controller.kernels.fill import fill
from helpers_fill import arrays
from helpers_fill_sites import random_site
digest = hashlib.sha256()
for seed in range(60):
    result = fill(*arrays(random_site(np.random.default_rng(seed))))
    digest.update(result.level.tobytes() + result.power_w.tobytes() + result.binding_row.tobytes())
print(digest.hexdigest())
"""


def test_compiled_and_plain_python_agree_to_the_bit() -> None:
    path = str(Path(__file__).parents[1])
    root = str(Path(__file__).parents[2])
    digests = [
        subprocess.run(
            [sys.executable, "-c", PLAIN],
            env=os.environ | {"NUMBA_DISABLE_JIT": plain, "PYTHONPATH": f"{path}:{root}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for plain in ("0", "1")
    ]
    assert digests[0] == digests[1]
