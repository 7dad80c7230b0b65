"""The objective of the site: its duals against another solver, what binds a gang, guarantees before both."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_fill import LINEAR, Floats, Site, arrays
from helpers_fill_sites import random_site
from helpers_work import lp_work, problem

from controller.kernels.fill import FillInputs, build_topology
from controller.kernels.work import throughput
from controller.objective import Guarantees, served
from controller.whatif import SHARP, SHARP_ROUNDS, STEP_W


def site_of(seed: int) -> tuple[Site, Floats]:
    """A random site and weights of its gangs."""
    rng = np.random.default_rng(seed)
    site = random_site(rng)
    return site, rng.choice([0.5, 1.0, 2.0], len(site.gang_class))


def test_a_price_of_throughput_lies_between_the_programs_gain_and_loss() -> None:
    """The gain of one more watt and the loss of one less differ at a corner; any dual price is between them."""
    step_w, priced = 20.0, 0
    for seed in range(60):
        site, weight = site_of(seed)
        topology, inputs = arrays(site)
        result = throughput(topology, inputs, weight)
        if not result.at_knee:
            continue
        price = STEP_W * throughput(topology, inputs, weight, near=SHARP, most_rounds=SHARP_ROUNDS).price
        p, base = problem(site), lp_work(site, weight, result)
        for row in np.flatnonzero(site.limit_w > site.a @ p.floor_w + 100.0):
            limit_w = np.tile(site.limit_w, (2, 1))
            limit_w[:, row] += (step_w, -step_w)
            more, less = (lp_work(replace(site, limit_w=x), weight, result) for x in limit_w)
            gain, loss = (STEP_W * d / step_w for d in (more - base, base - less))
            slack = 1e-2 * loss + 1e-5
            assert gain - slack <= price[row] <= loss + slack, f"seed {seed}, row {row}"
            priced += bool(gain > 1e-4)
    assert priced > 20


def test_what_binds_a_gang_under_throughput_is_full() -> None:
    bound = 0
    for seed in range(200):
        site, weight = site_of(seed)
        topology, inputs = arrays(site)
        result = served("throughput", topology, inputs, weight)
        assert result.row_load_w == pytest.approx(site.a @ result.power_w)
        for g in np.flatnonzero(result.binding_row >= 0):
            assert site.a[result.binding_row[g], site.gang_of == g].sum() > 0.0
            if weight[g] > 0.5:
                bound += bool(result.tight[result.binding_row[g]])
        for g in np.flatnonzero(result.binding_row < -1):
            rack = -2 - result.binding_row[g]
            assert site.gang_of[rack] == g
            assert (
                result.power_w[rack] >= site.ceiling_w[rack] * (1 - 1e-6) or site.floor_w[rack] >= site.ceiling_w[rack]
            )
        assert (result.level[result.binding_row == -1] >= 1.0 - 1e-9).all()
        over = result.row_load_w > np.maximum(inputs.limit_w, site.a @ site.model.floor_w) * (1 + 1e-12) + 1e-9
        assert not over.any()
    assert bound > 150


def test_the_objective_says_who_solves_and_guarantees_come_first() -> None:
    topology = build_topology([0, 1], [0, 0], [0, 2], [0, 1], [1.0, 1.0], [LINEAR])
    inputs = FillInputs(
        np.full(2, 30e3), np.full(2, 100e3), np.full(2, np.inf), np.zeros(2), np.full(2, 100e3),
        np.zeros(2, np.int32), np.array([150e3]),
    )  # fmt: skip
    weight = np.array([2.0, 1.0])
    fair = served("fair", topology, inputs, weight)
    assert fair.power_w == pytest.approx([75e3, 75e3])
    most = served("throughput", topology, inputs, weight)
    assert most.power_w == pytest.approx([100e3, 50e3])
    assert most.binding_row.tolist() == [-1, 0]
    assert most.level @ weight == pytest.approx(2.5)
    promised = Guarantees(np.array([-1, 0]), np.array([60e3]), np.array([-1]))
    kept = served("throughput", topology, inputs, weight, promised)
    assert kept.power_w == pytest.approx([90e3, 60e3])
