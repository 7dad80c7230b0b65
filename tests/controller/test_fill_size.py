"""The filling at the size of a 300 MW site: rows hold, and the lowest level is the LP's."""

from dataclasses import replace

import numpy as np
import pytest

from controller.kernels.fill import fill
from sim.lab.bench.fill import LINE, SIX_SEGMENTS, Instance, bench_fill, colossus_like, lp_step


@pytest.mark.parametrize("mixed", [True, False])
def test_the_lowest_level_is_that_of_the_lp(mixed: bool) -> None:
    instance = colossus_like(3, mixed, (LINE,), losses=1)
    no_ceiling = np.full_like(instance.inputs.ceiling_w, np.inf)
    one_class = np.zeros(len(instance.topology.gang_class), np.int32)
    inputs = replace(instance.inputs, ceiling_w=no_ceiling, gang_class=one_class)
    result = fill(instance.topology, inputs)
    _, level = lp_step(Instance(instance.topology, inputs))
    assert 0.0 < level < 1.0
    np.testing.assert_allclose(result.level.min(), level, rtol=1e-6)


@pytest.mark.parametrize("mixed", [True, False])
def test_every_row_holds_in_any_order_of_summation(mixed: bool) -> None:
    instance = colossus_like(2, mixed, SIX_SEGMENTS, losses=2)
    topology, inputs = instance.topology, instance.inputs
    result = fill(topology, inputs)
    term_w = topology.coef * result.power_w[topology.row_rack]
    assert not result.violated.any()
    assert result.tight.sum() > 50
    for order in (slice(None), slice(None, None, -1)):
        load_w = np.bincount(
            np.repeat(np.arange(len(inputs.limit_w)), np.diff(topology.row_start))[order], term_w[order]
        )
        assert (load_w <= inputs.limit_w).all()


def test_the_benchmark_compares_with_highs_in_the_same_run() -> None:
    figures = bench_fill(runs=3)
    assert figures["rows"] > 3000
    assert figures["nonzeros"] > 140_000
    assert figures["highs_over_fill"] > 2.0
