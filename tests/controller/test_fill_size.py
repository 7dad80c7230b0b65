"""The filling at the size of a 300 MW site and of its GPUs: rows hold, and the lowest level is the LP's."""

from dataclasses import replace

import numpy as np
import pytest

from controller.kernels.fill import fill
from controller.kernels.fill_solve import TURNS
from sim.lab.bench.allocate import NOTES, bench_allocate, lowest_level
from sim.lab.bench.instances import (
    LINE,
    SEGMENTS,
    Colossus,
    Problem,
    bent,
    coefficients,
    colossus,
    leaves,
    nonzeros,
    pressed,
    single_gangs,
    sized,
    unshared,
    with_curves,
)
from sim.lab.bench.peers import first_lp, hull


@pytest.fixture(scope="module")
def site() -> Colossus:
    return colossus()


@pytest.fixture(scope="module")
def problem(site: Colossus) -> Problem:
    return pressed(site.problem, np.random.default_rng(2))


def test_the_lowest_level_is_that_of_the_lp(problem: Problem) -> None:
    concave = with_curves(problem, tuple(hull(curve) for curve in problem.curves))
    _, level = first_lp(concave)
    assert 0.0 < level < 1.0
    np.testing.assert_allclose(lowest_level(concave), level, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mixed", "single", "leaves"])
def test_every_row_holds_in_any_order_of_summation(problem: Problem, kind: str) -> None:
    some = {"mixed": lambda: problem, "single": lambda: single_gangs(problem)}.get(
        kind, lambda: leaves(sized(problem, 0.1), 20_000, 64, np.random.default_rng(1))
    )()
    result = fill(some.topology, some.inputs)
    whole = unshared(some)
    topology, inputs = whole.topology, whole.inputs
    term_w = coefficients(whole) * result.power_w[topology.row_block]
    assert not result.violated.any()
    assert result.tight.sum() > 20
    for order in (slice(None), slice(None, None, -1)):
        row = np.repeat(np.arange(len(inputs.limit_w)), np.diff(topology.row_start))
        load_w = np.bincount(row[order], term_w[order], len(inputs.limit_w))
        assert (load_w <= inputs.limit_w).all()


def test_a_twin_gives_the_same_to_the_bit_and_keeps_its_own_guess(problem: Problem) -> None:
    twin = problem.topology.twin()
    loose = replace(problem.inputs, limit_w=1.5 * problem.inputs.limit_w)
    answers = [fill(problem.topology, problem.inputs), fill(twin, loose)]
    for _ in range(2):
        answers += [fill(problem.topology, problem.inputs), fill(twin, loose)]
        assert [x.work.tally[TURNS] for x in (problem.topology, twin)] == [0, 0]
    for one, other in zip(answers, answers[2:], strict=False):
        assert (one.power_w == other.power_w).all()
    assert (fill(problem.topology, loose).power_w == answers[1].power_w).all()


def test_sums_taken_once_a_rack_change_nothing_for_its_gpus(problem: Problem) -> None:
    gpus = leaves(sized(problem, 0.1), 20_000, 64, np.random.default_rng(3))
    whole = unshared(gpus)
    assert nonzeros(gpus) == len(coefficients(whole)) == nonzeros(whole) > 20 * len(coefficients(gpus))
    once, each = (fill(p.topology, p.inputs) for p in (gpus, whole))
    np.testing.assert_allclose(once.level, each.level, rtol=0.0, atol=1e-9)
    np.testing.assert_allclose(once.power_w, each.power_w, rtol=1e-9)
    np.testing.assert_array_equal(once.tight, each.tight)


def test_copies_of_a_site_are_filled_alike(problem: Problem) -> None:
    once, twice = (fill(p.topology, p.inputs) for p in (problem, sized(problem, 2.0)))
    np.testing.assert_allclose(twice.power_w, np.tile(once.power_w, 2), rtol=1e-9)


def test_curves_of_the_bench_have_their_segments_and_a_hull() -> None:
    x, y = bent(((0.25, 0.5, 1.0), (0.2, 0.6, 1.0)))
    assert len(x) == SEGMENTS + 1
    assert (np.diff(x) > 0.0).all()
    assert (np.diff(y) > 0.0).all()
    assert hull(((0.25, 0.5, 1.0), (0.2, 0.6, 1.0))) == ((0.0, 0.5, 1.0), (0.0, 0.6, 1.0))


def test_the_benchmark_says_what_it_measured() -> None:
    said: list[str] = []
    figures = bench_allocate(said.append, runs=3)
    assert said
    assert set(NOTES) <= {*figures, "rows", "limits", "curves", "cycles", "gpu"}
    assert figures["curve_segments"] >= SEGMENTS
    assert figures["gpu_leaves"] == 220_000
    assert figures["gpu_nonzeros"] > 3_000_000
    assert figures["tight_rows"] > 20
    assert figures["ratio_highs"] > 20.0
    assert len(figures["scaling"]) > 4
    np.testing.assert_allclose(figures["highs_level_by_filling"], figures["highs_level"], rtol=1e-6)


def test_what_counts_rack_by_rack_refuses_racks_in_blocks(problem: Problem) -> None:
    blocks = leaves(sized(problem, 0.02), 2_000, 64, np.random.default_rng(1))
    for misread in (
        lambda: pressed(blocks, np.random.default_rng(1)),
        lambda: sized(blocks, 2.0),
        lambda: first_lp(blocks),
    ):
        with pytest.raises(ValueError, match="in blocks"):
            misread()
    assert 0.0 < first_lp(with_curves(unshared(blocks), (LINE,)))[1] <= 1.0
